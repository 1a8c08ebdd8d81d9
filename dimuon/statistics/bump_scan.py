"""The classical mass scan: the bump hunt's test in many windows, and what the largest of their Z0 is worth.

Every window is tested on its own sidebands, with the certified fits of the search. Background-only spectra thrown from
one function over the whole range go through all windows at once, so that windows that share events are as correlated
as those of the data. The spectra live in cells between all bin edges of all windows: whatever the windows' widths, the
counts of a window are sums of cells, and none is histogrammed twice.
"""

import contextlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from dimuon.arrays import FloatArray, IntArray
from dimuon.records import Record
from dimuon.statistics.calibration import ROUNDING, p_value
from dimuon.statistics.likelihood_ratio import Discovery, pearson
from dimuon.statistics.model_choice import FTest
from dimuon.statistics.poisson_fits import FitError
from dimuon.statistics.significance import SpectrumModel, discoveries, require_sidebands
from dimuon.statistics.spectra import Spectra
from dimuon.statistics.trials import MIN_ABOVE, GlobalSignificance, Tail, upcrossing_tail

TOYS = "toys of the scan"
LOWEST = 1.75  # local Z0 from which on counting and upcrossings are compared
NONE = 0.05  # a correlation as small as none
COMPARED = tuple(np.arange(LOWEST, 5.01, 0.25).tolist())


@dataclass(frozen=True)
class WindowTest:
    """The test in one window with one binning. family, degree: of the function that the sidebands chose."""

    n_bins_sr: int
    family: str
    degree: int
    outcome: Discovery


@dataclass(frozen=True)
class BumpScan:
    """The windows of a scan. models: for each window the background function, or the choice, in each binning."""

    models: tuple[tuple[SpectrumModel, ...], ...]

    @cached_property
    def edges(self) -> FloatArray:
        """(n_cells + 1,) all bin edges of all windows, rising."""
        return np.unique(np.concatenate([model.bins.edges for window in self.models for model in window]))

    @cached_property
    def _places(self) -> list[list[IntArray]]:
        """The bin edges of each window and binning as positions in `edges`."""
        return [[np.searchsorted(self.edges, model.bins.edges) for model in window] for window in self.models]

    def tests(self, mass: ArrayLike) -> list[list[WindowTest]]:
        """The test of one sample in each window, in each binning. mass: (n_events,)."""
        return [[_test(mass, model) for model in window] for window in self.models]

    def z_signed(self, counts: ArrayLike) -> FloatArray:
        """(n, n_windows) the largest signed Z0 over the binnings. counts: (n, n_cells), events of n spectra.

        NaN where a fit does not reach its minimum.
        """
        cells = np.asarray(counts, dtype=float)
        below = np.concatenate([np.zeros((len(cells), 1)), cells.cumsum(axis=1)], axis=1)
        z = np.empty((len(cells), len(self.models)))
        for i, (window, places) in enumerate(zip(self.models, self._places, strict=True)):
            of_binnings = []
            for model, at in zip(window, places, strict=True):
                in_bins = model.bins.sr_as_one(np.diff(below[:, at], axis=1))
                of_binnings.append(_z_signed(Spectra(model.bins, in_bins, np.ones_like(in_bins)), model))
            z[:, i] = np.max(of_binnings, axis=0)
        return z


def toys(scan: BumpScan, expected: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """(n, n_windows) signed Z0 of background-only spectra through the whole scan. expected: (n_cells,) events."""
    return scan.z_signed(rng.poisson(expected, (n, len(expected))))


def neighbours(z: FloatArray) -> tuple[float, ...]:
    """Correlation of each window's signed Z0 with the next, in spectra without a signal. z: (n, n_windows).

    What is not positive is taken as none: such windows share no events.
    """
    away, spread = z - z.mean(axis=0), z.std(axis=0)
    together, apart = np.mean(away[:, 1:] * away[:, :-1], axis=0), spread[1:] * spread[:-1]
    r = np.divide(together, apart, out=np.zeros(len(apart)), where=apart > 0)
    return tuple(np.clip(r, NONE, 0.999).tolist())


def largest(z: FloatArray) -> FloatArray:
    """(n,) the largest Z0 over all windows of each spectrum; infinite where a window has none. z: (n, n_windows)."""
    with_failed = np.where(np.isnan(z), np.inf, np.maximum(z, 0.0))
    highest: FloatArray = with_failed.max(axis=1)
    return highest


def tail_of(z: FloatArray, observed: float) -> Tail | None:
    """The tail of the largest Z0 by upcrossings from window to window, with their correlations as they are.

    z: (n, n_windows), signed Z0 of spectra without a signal, the windows in rising mass.
    """
    whole = z[~np.isnan(z).any(axis=1)]
    if len(whole) < 2 or whole.shape[1] < 2:
        return None
    return upcrossing_tail([np.maximum(whole, 0.0)], observed, neighbours=neighbours(whole))


def global_significance(observed: float, z: FloatArray, source: str = TOYS) -> GlobalSignificance:
    """What the largest Z0 of a scan is worth. observed: it. z: (n, n_windows), as for `tail_of`."""
    n_failed = int(np.isnan(z).any(axis=1).sum())
    whole = largest(z[~np.isnan(z).any(axis=1)]) + ROUNDING
    return GlobalSignificance.of(observed, whole, source, tail_of(z, observed), n_failed)


@dataclass(frozen=True)
class Trials(Record):
    """What one local significance is worth, counted and by upcrossings.

    local: Z0. n_above of n spectra without a signal have a larger one somewhere. counted, with its 68 % interval
    counted_low, counted_high: the global p-value by counting (counted None where none is above). upcrossings,
    upcrossings_low, upcrossings_high: by upcrossings of the highest level below that is crossed often enough; None
    where none is. factor: the trials factor, the global over the local p-value, by counting where 10 are above, else by
    upcrossings.
    """

    local: float
    n: int
    n_above: int
    counted: float | None
    counted_low: float
    counted_high: float
    upcrossings: float | None
    upcrossings_low: float | None
    upcrossings_high: float | None
    factor: float | None


def worth(z: FloatArray, global_z0: float) -> float | None:
    """The local Z0 whose global significance is `global_z0`; None where the spectra are too few to say.

    z: (n, n_windows), as for `tail_of`.
    """
    highest, p = np.sort(largest(z)), float(ndtr(-global_z0))
    if p * len(highest) >= MIN_ABOVE:
        return float(np.quantile(highest, 1 - p))
    if (tail := tail_of(z, LOWEST)) is None:
        return None
    low, high = max(tail.levels), 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail.log_p(middle)[0] > np.log(p) else (low, middle)
    return high


def trials(z: FloatArray) -> list[Trials]:
    """Both ways to a global p-value, side by side at rising local Z0. z: (n, n_windows), as for `tail_of`."""
    highest, rows = largest(z), []
    for u in COMPARED:
        counted, tail = p_value(u, highest), tail_of(z, u)
        by_tail = None if tail is None else tuple(float(np.exp(value)) for value in tail.log_p(u))
        p = counted.p if counted.n_above >= MIN_ABOVE else by_tail[0] if by_tail else None
        rows.append(
            Trials(
                local=u,
                n=counted.n,
                n_above=counted.n_above,
                counted=counted.p,
                counted_low=counted.p_low,
                counted_high=counted.p_high,
                upcrossings=by_tail[0] if by_tail else None,
                upcrossings_low=by_tail[1] if by_tail else None,
                upcrossings_high=by_tail[2] if by_tail else None,
                factor=None if p is None else p / float(ndtr(-u)),
            )
        )
    return rows


def _test(mass: ArrayLike, model: SpectrumModel) -> WindowTest:
    spectra = Spectra.of(mass, model.bins)
    require_sidebands(spectra)
    [family] = model.chosen(spectra)
    return WindowTest(model.bins.n_bins_sr, family.name, family.degree, discoveries(spectra, model).one(0))


def _z_signed(spectra: Spectra, model: SpectrumModel) -> FloatArray:
    """(n,) signed Z0, NaN where a fit does not reach its minimum or the sidebands are empty."""
    z = np.full(len(spectra), np.nan)
    filled = np.flatnonzero(spectra.counts[:, :-1].sum(axis=1) > 0)
    try:
        z[filled] = _tested(spectra[filled], model)
    except FitError:  # of one of them: each on its own tells which
        for i in filled:
            with contextlib.suppress(FitError):
                z[i] = _tested(spectra[int(i)], model)[0]
    return z


def _tested(spectra: Spectra, model: SpectrumModel) -> FloatArray:
    return _climbing(spectra, model) if isinstance(model, FTest) else discoveries(spectra, model).z_signed


def _climbing(spectra: Spectra, model: FTest) -> FloatArray:
    """(n,) signed Z0 as `FTest.discoveries` has it, with no more fits than that takes.

    The next candidate is fitted to the spectra that climbed so far alone, and the fit without a signal is made of the
    candidate that was chosen. Where there is no excess, Z0 is that of a Gaussian count.
    """
    low, high, counts = spectra.low, spectra.high, spectra.counts
    n, n_obs = len(counts), counts[:, -1]
    chi2, height, n_bkg, variance, z = (np.empty(n) for _ in range(5))
    chosen, climbing = np.zeros(n, dtype=int), np.arange(n)
    for index, family in enumerate(model.candidates):
        if not climbing.size:
            break
        fits = family.fit(low[:-1], high[:-1], counts[climbing, :-1])
        now, ndf = pearson(counts[climbing, :-1], fits.expected), max(counts.shape[1] - 1 - family.n_coefficients, 0)
        if index:
            more = family.n_coefficients - model.candidates[index - 1].n_coefficients
            better = model.improves(chi2[climbing], now, more, ndf)
        else:
            better = np.ones(n, dtype=bool)
        climbing = climbing[better]
        chosen[climbing], chi2[climbing], height[climbing] = index, now[better], fits.deviance[better]
        values, slope = (
            of(fits.coefficients[better], low[-1:], high[-1:])[:, 0] for of in (family.expected, family.jacobian)
        )
        n_bkg[climbing] = values
        variance[climbing] = np.einsum("ni,nij,nj->n", slope, fits.covariance[better], slope)
    excess = n_obs > n_bkg
    z[~excess] = ((n_obs - n_bkg) / np.sqrt(np.maximum(n_bkg + variance, 1e-9)))[~excess]
    for index, family in enumerate(model.candidates):
        rows = np.flatnonzero(excess & (chosen == index))
        if rows.size:
            null = family.fit(low, high, counts[rows])
            z[rows] = np.sqrt(np.maximum(null.deviance - height[rows], 0.0))
    return z
