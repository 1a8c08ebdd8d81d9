"""What distinguishes an excess: in which columns of a table its events differ from the background, and how.

The signal's spectrum of a column is that of the SR less that of the background, which the sidebands give. Selecting on
a classifier shapes every column that the classifier knows, for background as for signal: what passes looks like a
signal whether or not it is one. Signal and background are therefore compared after the same cut. A column that varies
with the mass differs between SR and sidebands without any signal; the two sidebands are so weighted that their mean
mass is that of the background in the SR, which takes out any dependence that is linear in the mass. Whether it is
linear is tested on slices of the sidebands. A column for which it is not (a muon's pT, which is half the mass where the
pair is at rest) cannot be judged from the sidebands; such columns come last.

The test asks whether SR and sidebands have the same spectrum, whatever the number of signal events: where signal and
background are alike they have, and its p-value is uniform. The background that a model sampled in the SR, where there
is one, is compared with the sidebands in the same way: columns where these two differ tell of the model, not of the
excess.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, gammaln, ndtri_exp

from dimuon.arrays import BoolArray, FloatArray, IntArray
from dimuon.errors import AnalysisError
from dimuon.records import Record
from dimuon.regions import MassWindow
from dimuon.statistics.significance import SidebandFit

N_BINS = 12  # equally filled by the events that pass, before those with too few are merged
OUTER = (0.01, 0.99)  # quantiles of all events at the outer ends of the first bin and the last
MOST_VALUES = 20  # a column of no more distinct values is discrete: a bin to each
GLANCE = 1000  # values that mostly tell a discrete column from another
N_SLICES = 2  # of equally many events in each sideband, by which a linear dependence on the mass is tested
NOT_LINEAR = 0.01  # p-value, times the columns, below which it is not
MIN_EXPECTED = 5.0  # effective events of either sample, in every bin that is tested


@dataclass(frozen=True, eq=False)
class Excess:
    """The events that pass a cut: those of the SR, and the sidebands as a sample of its background.

    in_sr: (n_events,) True where an event passes and lies there. slices: (n_events,) number of the slice of the
    sidebands, `N_SLICES` to each, -1 elsewhere; slice_mass: the mean mass of each. sideband: (n_events,) weight of an
    event of the sidebands, zero elsewhere; they sum to n_bkg. n_bkg, n_bkg_err: background expected in the SR.
    """

    in_sr: BoolArray
    slices: IntArray
    slice_mass: FloatArray
    sideband: FloatArray
    n_bkg: float
    n_bkg_err: float

    @classmethod
    def of(cls, mass: ArrayLike, kept: BoolArray, window: MassWindow, fit: SidebandFit) -> "Excess":
        """mass: (n_events,). kept: (n_events,) True where an event passes. fit: to the sideband events that do.

        Raises `AnalysisError` where none does, or where the fit expects no background in the SR.
        """
        mass = np.asarray(mass, dtype=float)
        low, high = kept & window.in_sbl(mass), kept & window.in_sbh(mass)
        edges = np.linspace(window.sr_low, window.sr_high, 65)
        each = fit.expected(edges)
        n_bkg, n_bkg_err = float(each.sum()), float(fit.expected_err(edges[[0, -1]])[0])
        if not (low.any() or high.any()) or not n_bkg > 0:
            raise AnalysisError(f"{(low | high).sum()} events in the sidebands, {n_bkg:.3g} expected in the SR")
        share = 1.0 if not high.any() else 0.0
        if low.any() and high.any():
            centre = float(each @ (edges[:-1] + edges[1:]) / 2 / n_bkg)
            share = (mass[high].mean() - centre) / (mass[high].mean() - mass[low].mean())
        sideband = low * share * n_bkg / max(low.sum(), 1) + high * (1 - share) * n_bkg / max(high.sum(), 1)
        slices = np.full(len(mass), -1)
        for side, first in ((low, 0), (high, N_SLICES)):
            if side.any():
                inner = np.quantile(mass[side], np.arange(1, N_SLICES) / N_SLICES)
                slices[side] = first + np.searchsorted(inner, mass[side], side="right")
        numbers = np.unique(slices[slices >= 0])
        slices[slices >= 0] = np.searchsorted(numbers, slices[slices >= 0])
        slice_mass = np.array([mass[slices == i].mean() for i in range(len(numbers))])
        return cls(kept & window.in_sr(mass), slices, slice_mass, sideband, n_bkg, n_bkg_err)

    @property
    def n_sig(self) -> float:
        """Events in the SR beyond the background expected; negative where there are fewer."""
        return float(self.in_sr.sum() - self.n_bkg)


@dataclass(frozen=True, eq=False)
class Sampled:
    """Background that a model sampled in the SR. columns: {name: (n_sampled,)}. weight: (n_sampled,), zero where an
    event does not pass the cut."""

    columns: Mapping[str, FloatArray]
    weight: FloatArray


@dataclass(frozen=True)
class ColumnDifference(Record):
    """How signal and background differ in one column.

    trained: the classifier knows it. discrete: a bin to each value. n_bins: compared. chi2, ndf, p_chi2: of the test
    that SR and sidebands have one spectrum; p_any: p_chi2 times the columns tested, at most 1. z: the significance that
    p_chi2 stands for, by which columns are ranked. auc, auc_err: probability that a signal event has a larger value
    than one of background (1/2 where they are alike; it is an estimate and may leave 0 to 1). mean_signal,
    mean_background and errors: in the column's unit, NaN for text. p_sampled: of the test that sampled background and
    sidebands have one spectrum. p_linear: of the test that the spectrum varies linearly with the mass in the sidebands;
    doubtful: it does not (below `NOT_LINEAR`, with the columns counted). n_missing: values of events that pass which
    are no number. Numbers that are not defined, as for a column of one value, are NaN.
    """

    column: str
    trained: bool
    discrete: bool
    n_bins: int
    n_missing: int
    chi2: float = nan
    ndf: int = 0
    p_chi2: float = nan
    p_any: float = nan
    z: float = nan
    auc: float = nan
    auc_err: float = nan
    mean_signal: float = nan
    mean_signal_err: float = nan
    mean_background: float = nan
    mean_background_err: float = nan
    p_sampled: float = nan
    p_linear: float = nan
    doubtful: bool = False


@dataclass(frozen=True, eq=False)
class ColumnSpectrum:
    """The spectra of one column, (n_bins,) each, in events.

    low, high: of the bins, what lies beyond the first and last in these; of a discrete column the smallest and largest
    value in each. labels: of the values of a column of text, else none. n_obs: in the SR. background, background_err:
    of the sidebands, summing to n_bkg. signal, signal_err: n_obs - background. sampled, sampled_err: background sampled
    by a model, scaled to n_bkg; NaN where there is none. before_obs, before_background: the same as n_obs and
    background, before the cut.
    """

    column: str
    low: FloatArray
    high: FloatArray
    labels: tuple[str, ...]
    n_obs: FloatArray
    background: FloatArray
    background_err: FloatArray
    signal: FloatArray
    signal_err: FloatArray
    sampled: FloatArray
    sampled_err: FloatArray
    before_obs: FloatArray
    before_background: FloatArray


def characterise(
    columns: Mapping[str, ArrayLike],
    after: Excess,
    before: Excess,
    *,
    trained: Collection[str] = (),
    sampled: Sampled | None = None,
) -> list[tuple[ColumnDifference, ColumnSpectrum]]:
    """What distinguishes the excess, column by column, the most different first and the doubtful last.

    columns: {name: (n_events,)}, numbers, flags or text. after, before: the events after and before the cut. trained:
    columns that the classifier knows.
    """
    pairs = [_compare(name, values, after, before, name in trained, sampled) for name, values in columns.items()]
    tested = sum(difference.ndf > 0 for difference, _ in pairs)
    counted = [(_with_trials(difference, tested), spectrum) for difference, spectrum in pairs]
    return sorted(counted, key=lambda pair: (np.isnan(pair[0].z), pair[0].doubtful, -np.nan_to_num(pair[0].z)))


def _with_trials(difference: ColumnDifference, n_columns: int) -> ColumnDifference:
    p_any = min(difference.p_chi2 * n_columns, 1.0) if difference.ndf else nan
    return replace(difference, p_any=p_any, doubtful=difference.p_linear * n_columns < NOT_LINEAR)


def _compare(
    name: str, values: ArrayLike, after: Excess, before: Excess, trained: bool, sampled: Sampled | None
) -> tuple[ColumnDifference, ColumnSpectrum]:
    numbers, labels = _numbers(values)
    measured = np.isfinite(numbers)
    passing = after.in_sr | (after.sideband != 0)
    n_missing = int((passing & ~measured).sum())
    bins = _Bins.of(numbers[passing & measured], numbers[measured])
    here, index = measured & passing, bins.index(numbers)
    n_obs = bins.counts(index, here & after.in_sr)
    background, squares = (bins.counts(index, here & (after.sideband != 0), after.sideband**p) for p in (1, 2))
    merged = _merged(n_obs, background, squares)
    spectrum = _Histograms(bins, merged, labels)
    drawn = None if sampled is None or name not in sampled.columns else sampled.columns[name]
    model = [np.full(len(merged), np.nan)] * 2
    if drawn is not None and sampled is not None and sampled.weight.any():
        place, inside = bins.index(drawn), np.isfinite(drawn)
        model = [spectrum.summed(bins.counts(place, inside, sampled.weight**p)) for p in (1, 2)]
    n_obs, background, squares = (spectrum.summed(part) for part in (n_obs, background, squares))
    each = [spectrum.summed(bins.counts(index, here & (after.slices == i))) for i in range(len(after.slice_mass))]
    chi2, ndf = homogeneity(n_obs, n_obs, background, squares)
    at = {"sr": numbers[here & after.in_sr], "sb": numbers[here & (after.sideband != 0)]}
    weight = after.sideband[here & (after.sideband != 0)]
    difference = ColumnDifference(
        column=name,
        trained=trained,
        discrete=bins.discrete,
        n_bins=len(merged),
        n_missing=n_missing,
        **_tested(chi2, ndf),
        **_separation(at["sr"], at["sb"], weight, after),
        **({} if labels else _means(at["sr"], at["sb"], weight, after)),
        p_linear=_p_value(*_linearity(each, after.slice_mass)),
        p_sampled=_p_value(*homogeneity(model[0], model[1], background, squares))
        if np.isfinite(model[0]).all()
        else nan,
    )
    earlier = measured & before.in_sr, measured & (before.sideband != 0)
    scale = after.n_bkg / model[0].sum() if np.isfinite(model[0]).all() else nan
    background_err = _background_err(background, squares, after)
    return difference, ColumnSpectrum(
        column=name,
        low=spectrum.low,
        high=spectrum.high,
        labels=spectrum.labels,
        n_obs=n_obs,
        background=background,
        background_err=background_err,
        signal=n_obs - background,
        signal_err=np.sqrt(n_obs + background_err**2),
        sampled=model[0] * scale,
        sampled_err=np.sqrt(model[1]) * scale,
        before_obs=spectrum.summed(bins.counts(index, earlier[0])),
        before_background=spectrum.summed(bins.counts(index, earlier[1], before.sideband)),
    )


def homogeneity(
    first: FloatArray, first_squares: FloatArray, second: FloatArray, second_squares: FloatArray
) -> tuple[float, int]:
    """(chi2, degrees of freedom) of the hypothesis that two weighted histograms have one spectrum; NaN, 0 for none.

    first, second: (n_bins,) sums of weights; *_squares: of squared weights, of events the counts themselves. Of two
    histograms of events it is Pearson's chi2. The variance of a bin is that of the common spectrum, times the mean
    weight of the events in it, so that a bin with few events by chance is not trusted more for it.
    """
    sums, squares = np.array([first, second]), np.array([first_squares, second_squares])
    totals, whole = sums.sum(axis=1, keepdims=True), squares.sum(axis=1, keepdims=True)
    filled = sums.sum(axis=0) > 0
    if filled.sum() < 2 or not (totals > 0).all():
        return nan, 0
    sums, squares = sums[:, filled], squares[:, filled]
    common = (totals**2 / whole * (sums / totals)).sum(axis=0) / (totals**2 / whole).sum()
    weight = np.where(sums > 0, squares / np.where(sums > 0, sums, 1.0), whole / totals)
    covariance = np.zeros((len(common), len(common)))
    for total, variance in zip(totals[:, 0], weight * totals * common, strict=True):
        mixed = np.outer(common, variance)
        covariance += (np.diag(variance) - mixed - mixed.T + np.outer(common, common) * variance.sum()) / total**2
    apart = (sums / totals)[0] - (sums / totals)[1]
    free = slice(0, -1)  # the last bin follows from the others
    return float(apart[free] @ np.linalg.solve(covariance[free, free], apart[free])), len(common) - 1


def _linearity(counts: Sequence[FloatArray], mass: FloatArray) -> tuple[float, int]:
    """(chi2, degrees of freedom) of the hypothesis that the share of each bin is linear in the mass; NaN, 0 for none.

    counts: (n_bins,) of each slice of the sidebands, mass: of each.
    """
    n = np.array(counts)
    n = n[:, n.sum(axis=0) > 0]
    size = n.sum(axis=1)
    if len(n) < 3 or n.shape[1] < 2 or not size.all():
        return nan, 0
    design = np.stack([np.ones_like(mass), mass - mass.mean()], axis=1)
    root = np.sqrt(size)[:, None]
    share = design @ np.linalg.lstsq(design * root, n / size[:, None] * root, rcond=None)[0]
    expected = np.maximum(share * size[:, None], 0.5)
    return float(np.sum((n - share * size[:, None]) ** 2 / expected)), (len(n) - 2) * (n.shape[1] - 1)


@dataclass(frozen=True, eq=False)
class _Bins:
    """inner: edges between the bins. low, high: their ends (a value, where discrete); what lies beyond the first and
    the last is in these."""

    inner: FloatArray
    low: FloatArray
    high: FloatArray
    discrete: bool

    @classmethod
    def of(cls, passing: FloatArray, every: FloatArray) -> "_Bins":
        """For the values of all events, filled equally by those that pass. Both finite."""
        if len(np.unique(every[:GLANCE])) <= MOST_VALUES and len(values := np.unique(every)) <= MOST_VALUES:
            values = values if len(values) else np.zeros(1)
            return cls((values[1:] + values[:-1]) / 2, values, values, True)
        edges = np.unique(np.quantile(passing if len(passing) else every, np.linspace(0, 1, N_BINS + 1)))
        inner = edges[1:-1]
        first, last = np.quantile(every, OUTER)
        if not len(inner) or not first < inner[0]:
            first = every.min()
        if not len(inner) or not last > inner[-1]:
            last = every.max()
        ends = np.concatenate([[first], inner, [last]])
        return cls(inner, ends[:-1], ends[1:], False)

    def index(self, values: FloatArray) -> IntArray:
        """The bin of each value; an edge belongs to the bin above it."""
        place: IntArray = np.searchsorted(self.inner, values, side="right")
        return place

    def counts(self, index: IntArray, chosen: BoolArray, weight: FloatArray | None = None) -> FloatArray:
        """(n_bins,) events, or sums of weights, of those chosen."""
        weights = None if weight is None else weight[chosen]
        return np.bincount(index[chosen], weights=weights, minlength=len(self.low)).astype(float)


@dataclass(frozen=True, eq=False)
class _Histograms:
    """Bins merged: first, the first of each that belongs to one."""

    bins: _Bins
    first: IntArray
    names: tuple[str, ...]

    def summed(self, counts: FloatArray) -> FloatArray:
        """Of the bins, those of the merged ones."""
        total: FloatArray = np.add.reduceat(counts, self.first)
        return total

    @property
    def low(self) -> FloatArray:
        low: FloatArray = self.bins.low[self.first]
        return low

    @property
    def high(self) -> FloatArray:
        high: FloatArray = self.bins.high[np.append(self.first[1:], len(self.bins.low)) - 1]
        return high

    @property
    def labels(self) -> tuple[str, ...]:
        ends = np.append(self.first[1:], len(self.bins.low))
        return tuple(", ".join(self.names[i:j]) for i, j in zip(self.first, ends, strict=True)) if self.names else ()


def _merged(n_obs: FloatArray, background: FloatArray, squares: FloatArray) -> IntArray:
    """The first of neighbouring bins that together hold enough effective events of either sample."""
    sizes = n_obs.sum(), background.sum() ** 2 / max(squares.sum(), 1e-300)
    if min(sizes) <= 0:
        return np.zeros(1, dtype=int)
    common = (n_obs + sizes[1] * background / background.sum()) / sum(sizes)
    first, room = [0], 0.0
    for i, share in enumerate(common):
        if room >= MIN_EXPECTED:
            first.append(i)
            room = 0.0
        room += float(share) * min(sizes)
    if room < MIN_EXPECTED and len(first) > 1:
        first.pop()
    return np.array(first)


def _numbers(values: ArrayLike) -> tuple[FloatArray, tuple[str, ...]]:
    """A column as numbers; text as its place among the labels, which are given, too."""
    array: NDArray[np.generic] = np.asarray(values)
    if array.dtype.kind in "biuf":
        return array.astype(float), ()
    labels, place = np.unique(array.astype(str), return_inverse=True)
    return place.astype(float), tuple(str(label) for label in labels)


def _p_value(chi2: float, ndf: int) -> float:
    return float(chdtrc(ndf, chi2)) if ndf else nan


def _tested(chi2: float, ndf: int) -> dict[str, Any]:
    """chi2, ndf, p_chi2 and z, which is defined where the p-value is too small for a number."""
    if not ndf:
        return {}
    p, half, x = _p_value(chi2, ndf), ndf / 2, chi2 / 2
    log_p = np.log(p) if p > 1e-290 else (half - 1) * np.log(x) - x - gammaln(half) + np.log1p((half - 1) / x)
    return {"chi2": chi2, "ndf": ndf, "p_chi2": p, "z": float(-ndtri_exp(log_p))}


def _separation(sr: FloatArray, sideband: FloatArray, weight: FloatArray, excess: Excess) -> dict[str, Any]:
    """auc, auc_err. sr, sideband: values of the events that pass; weight: of the latter."""
    if not len(sr) or not len(sideband):
        return {}
    order = np.argsort(sideband)
    below = np.concatenate([[0.0], np.cumsum(weight[order])]) / weight.sum()
    left, right = (np.searchsorted(sideband[order], sr, side=side) for side in ("left", "right"))
    rank = (below[left] + below[right]) / 2  # of an SR event among the sidebands
    ordered = np.sort(sr)
    left, right = (np.searchsorted(ordered, sideband, side=side) for side in ("left", "right"))
    above = 1 - (left + right) / 2 / len(sr)  # share of SR events above a sideband event
    auc, auc_err = _subtracted(rank, above * len(sr) / weight.sum(), 0.5, weight, excess)
    return {"auc": auc, "auc_err": auc_err}


def _means(sr: FloatArray, sideband: FloatArray, weight: FloatArray, excess: Excess) -> dict[str, Any]:
    """mean_signal, mean_background and their errors. Arguments as for `_separation`."""
    if not len(sr) or not len(sideband):
        return {}
    mean = float(np.average(sideband, weights=weight))
    signal, signal_err = _subtracted(sr, sideband, mean, weight, excess)
    error = float(np.sqrt(np.sum((weight * (sideband - mean)) ** 2)) / weight.sum())
    return {
        "mean_signal": signal,
        "mean_signal_err": signal_err,
        "mean_background": mean,
        "mean_background_err": error,
    }


def _subtracted(
    sr: FloatArray, sideband: FloatArray, mean: float, weight: FloatArray, excess: Excess
) -> tuple[float, float]:
    """The mean of the signal and its error; NaN where there is no more than the background.

    sr: values of SR events. mean: of the background. sideband: (n,) contributions to the error of the mean of the
    background, on the sideband events (for a mean, their values), weight: theirs.
    """
    n_bkg = weight.sum()
    n_sig = len(sr) - n_bkg
    if not n_sig > 0:
        return nan, nan
    signal = (sr.sum() - n_bkg * mean) / n_sig
    spread = sideband - np.average(sideband, weights=weight)
    n_err = excess.n_bkg_err * n_bkg / excess.n_bkg
    variance = np.sum((sr - signal) ** 2) + np.sum((weight * spread) ** 2) + ((signal - mean) * n_err) ** 2
    return float(signal), float(np.sqrt(variance) / n_sig)


def _background_err(background: FloatArray, squares: FloatArray, excess: Excess) -> FloatArray:
    """(n_bins,): of the shares, multinomial, and of the number of events."""
    total = background.sum()
    share = background / total if total > 0 else background
    of_shape = squares * (1 - 2 * share) + share**2 * squares.sum()
    error: FloatArray = np.sqrt(of_shape + (share * excess.n_bkg_err) ** 2)
    return error
