"""Does the classifier know the mass? Tests in the sidebands, before anyone believes a bump in the SR.

Two questions. Does the score depend on the mass at all (Spearman's rank correlation, distance correlation), more than
in events whose masses are permuted? And is the fraction of events that pass a cut a smooth function of the mass, as
smooth as the polynomial that will be fitted to the spectrum? Smooth variation the background fit absorbs; what goes
beyond it can make a bump or hide one. A variation inside the SR alone cannot be seen in sideband data: for that,
`compare_in_sr` takes sampled background events through the same cuts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.polynomial import legendre
from numpy.typing import ArrayLike, NDArray

from dimuon.arrays import BoolArray, FloatArray, IntArray
from dimuon.errors import AnalysisError
from dimuon.records import Record
from dimuon.regions import MassBins
from dimuon.statistics.intervals import clopper_pearson
from dimuon.statistics.working_points import CutVariable

N_PERMUTATIONS = 500
N_TOYS = 1000
P_FLAG = 0.01  # a working point below is flagged; of 25 clean ones, 0.25 are expected to be
N_QUANTILES = 100  # cells per variable in which the distance correlation is computed
ROUNDING = 1e-6  # chi2 values closer than this are equal


@dataclass(frozen=True)
class Dependence(Record):
    """A measure of dependence with its distribution over permutations, where there is none.

    p_value: fraction of permutations at least as far from zero, the data themselves counted in.
    """

    value: float
    p_value: float
    null_mean: float
    null_std: float
    n_permutations: int

    @property
    def at_floor(self) -> bool:
        """Whether no permutation is as far from zero: the p-value is the smallest that so many can give."""
        return self.p_value <= 1 / (self.n_permutations + 1) * (1 + 1e-9)


def spearman(
    mass: FloatArray, score: FloatArray, rng: np.random.Generator, n_permutations: int = N_PERMUTATIONS
) -> Dependence:
    """Spearman's rank correlation of score and mass. mass [GeV], score: (n_events,)."""
    x, y = (_standardised(_ranks(values)) for values in (mass, score))
    null = np.array([rng.permutation(x) @ y for _ in range(n_permutations)]) / len(x)
    return _against(float(x @ y / len(x)), null)


def distance_correlation(
    mass: FloatArray,
    score: FloatArray,
    rng: np.random.Generator,
    n_permutations: int = N_PERMUTATIONS,
    n_cells: int = N_QUANTILES,
) -> Dependence:
    """Distance correlation (Szekely et al. 2007, arXiv:0803.4101) of score and mass, 0 to 1.

    Zero only for independence. mass [GeV], score: (n_events,); both are first rounded to the means of `n_cells`
    quantile cells, which makes it exact and fast where there are no more distinct values than cells. The permutation
    test holds for any rounding.
    """
    (x, distance_x), (y, distance_y) = (_cells(values, n_cells) for values in (mass, score))
    centred_x, centred_y = (_centred(*pair) for pair in ((x, distance_x), (y, distance_y)))
    norm = np.sqrt(_covariance(x, x, centred_x, centred_x) * _covariance(y, y, centred_y, centred_y))
    null = [_covariance(rng.permutation(x), y, centred_x, centred_y) for _ in range(n_permutations)]
    value = _covariance(x, y, centred_x, centred_y)
    return _against(*(np.sqrt(np.maximum(squared, 0) / norm) for squared in (value, np.array(null))))


@dataclass(frozen=True)
class EfficiencyFits:
    """Fraction of events kept by n cuts against the mass, with a polynomial fitted in the sideband bins.

    n_before: (n_bins,), n_after: (n, n_bins), events before and after each cut, SR bins included. expected: (n,
    n_bins), the fitted efficiency, in the SR interpolated; expected_err: its standard error. chi2: (n,), of the
    sideband bins. p_value: (n,), fraction of toys that fluctuate at least as far from their own fit. sculpted: (n,)
    bool, p_value below the threshold.
    """

    n_before: FloatArray
    n_after: FloatArray
    expected: FloatArray
    expected_err: FloatArray
    chi2: FloatArray
    ndf: int
    p_value: FloatArray
    sculpted: BoolArray

    @property
    def interval(self) -> tuple[FloatArray, FloatArray]:
        """(low, high): (n, n_bins) each, the 68 % Clopper-Pearson interval of the efficiency; 0 to 1 where empty."""
        return clopper_pearson(self.n_after, self.n_before)


def flags(
    mass: FloatArray,
    kept: BoolArray,
    bins: MassBins,
    degree: int,
    rng: np.random.Generator,
    *,
    n_toys: int = N_TOYS,
    p_flag: float = P_FLAG,
) -> EfficiencyFits:
    """Is the efficiency of each cut as smooth in the mass as a polynomial of this degree?

    mass: (n_events,), GeV. kept: (n, n_events) True where an event passes a cut. bins: of the background fit; degree:
    of its polynomial. rng: of the toys, binomial draws of the fitted efficiency, each
    fitted again: the p-value holds for few events as well.
    """
    kept = np.atleast_2d(kept)
    n_before = bins.counts(mass)
    n_after = np.array([bins.counts(mass[row]) for row in kept])
    centre = (bins.edges[:-1] + bins.edges[1:]) / 2
    low, high = bins.edges[0], bins.edges[-1]
    design = legendre.legvander((2 * centre - low - high) / (high - low), degree)
    used = ~bins.is_sr & (n_before > 0)
    if used.sum() <= degree + 1:
        raise AnalysisError(
            f"{used.sum()} sideband bins with events cannot test a polynomial of degree {degree}; lower the degree or "
            "the number of bins",
            setting="degree",
        )
    rows, n = design[used], n_before[used]
    coefficients, covariance, chi2 = _fit(rows, n, n_after[:, used])
    p_value = np.empty(len(kept))
    for index, row in enumerate(coefficients):
        toys = rng.binomial(n.astype(int), np.clip(rows @ row, 0, 1), (n_toys, len(n)))
        p_value[index] = (1 + np.sum(_fit(rows, n, toys)[2] >= chi2[index] - ROUNDING)) / (1 + n_toys)
    variance = np.einsum("bi,nij,bj->nb", design, covariance, design)
    return EfficiencyFits(
        n_before=n_before,
        n_after=n_after,
        expected=coefficients @ design.T,
        expected_err=np.sqrt(variance),
        chi2=chi2,
        ndf=int(used.sum()) - degree - 1,
        p_value=p_value,
        sculpted=p_value < p_flag,
    )


def compare_in_sr(
    fits: EfficiencyFits,
    bins: MassBins,
    background_mass: FloatArray,
    background_kept: BoolArray,
    background_weight: FloatArray | None = None,
) -> dict[str, FloatArray]:
    """Efficiency of sampled background in the SR against the sideband data's, interpolated.

    fits: of the data. background_mass: (n_events,), GeV, SR events sampled from the background estimate, and
    background_weight: (n_events,), None for 1; background_kept: (n, n_events), after the same cuts. Returns
    {"efficiency", "efficiency_err", "interpolated", "interpolated_err", "pull"}, each (n,): a large pull says that the
    cut shapes a bump or a dip out of background, or that the background estimate is off. The binomial error is that of
    sum(w)^2 / sum(w^2) events.
    """
    weight = np.ones(len(background_mass)) if background_weight is None else background_weight
    share = bins.counts(background_mass, weight)[bins.is_sr]
    share = share / share.sum()
    n_effective = weight.sum() ** 2 / np.sum(weight**2)
    efficiency = background_kept @ weight / weight.sum()
    interpolated = fits.expected[:, bins.is_sr] @ share
    error = np.sqrt(np.clip(efficiency * (1 - efficiency), 1 / n_effective, None) / n_effective)
    # the bins of the interpolation move together: their errors add up linearly
    interpolated_err = fits.expected_err[:, bins.is_sr] @ share
    total = np.hypot(error, interpolated_err)
    return {
        "efficiency": efficiency,
        "efficiency_err": error,
        "interpolated": interpolated,
        "interpolated_err": interpolated_err,
        "pull": (efficiency - interpolated) / total,
    }


def report(
    mass: FloatArray,
    score: FloatArray,
    fprs: ArrayLike,
    bins: MassBins,
    degree: int,
    rng: np.random.Generator,
    background: tuple[FloatArray, FloatArray] | None = None,
    background_weight: FloatArray | None = None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """All of the above for one scored sample: the record for JSON, and the efficiencies.

    mass: (n_events,), GeV. score: (n_events,). fprs: (n,), of the working points. background: (mass, score) of sampled
    SR events, and background_weight theirs (None: 1). The table has one row per working point and mass bin.
    """
    sideband = bins.window.in_sidebands(mass)
    scan = CutVariable("cathode", score).scan(sideband, fprs)
    fits = flags(mass, scan.kept, bins, degree, rng)
    points = {"fpr": scan.fpr, "cut": scan.cut, "chi2": fits.chi2, "p_value": fits.p_value, "sculpted": fits.sculpted}
    record = {
        "n_sidebands": int(sideband.sum()),
        "degree": degree,
        "n_bins_sr": bins.n_bins_sr,
        "ndf": fits.ndf,
        "p_flag": P_FLAG,
        "spearman": spearman(mass[sideband], score[sideband], rng).to_json(),
        "distance_correlation": distance_correlation(mass[sideband], score[sideband], rng).to_json(),
        "working_points": _records(points),
    }
    if background is not None:
        sampled_mass, sampled_score = background
        passes = np.asarray(sampled_score) >= scan.cut[:, None]
        compared = compare_in_sr(fits, bins, sampled_mass, passes, background_weight)
        record["sampled_background_in_sr"] = _records({"fpr": scan.fpr, **compared})
    return record, _efficiencies(scan.fpr, scan.cut, bins, fits)


def _records(columns: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Arrays of equal length as a list of dicts of Python's own types."""
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _efficiencies(fpr: FloatArray, cut: FloatArray, bins: MassBins, fits: EfficiencyFits) -> pd.DataFrame:
    n_cuts, n_bins = fits.n_after.shape
    low, high = fits.interval
    centre = (bins.edges[:-1] + bins.edges[1:]) / 2
    by_bin = {
        "bin_low": bins.edges[:-1],
        "bin_high": bins.edges[1:],
        "region": bins.window.region(centre),
        "n_before": fits.n_before,
    }
    by_both = {
        "n_after": fits.n_after,
        "efficiency": fits.n_after / np.where(fits.n_before > 0, fits.n_before, np.nan),
        "efficiency_low": low,
        "efficiency_high": high,
        "efficiency_fit": fits.expected,
        "efficiency_fit_err": fits.expected_err,
    }
    by_cut = {"fpr": fpr, "cut": cut, "sculpted": fits.sculpted}
    return pd.DataFrame(
        {name: np.repeat(values, n_bins) for name, values in by_cut.items()}
        | {name: np.tile(values, n_cuts) for name, values in by_bin.items()}
        | {name: values.ravel() for name, values in by_both.items()}
    )


def _fit(rows: FloatArray, n: FloatArray, k: FloatArray | IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weighted least squares of k / n on the columns of `rows`: coefficients (t, p), covariance (t, p, p), chi2 (t,).

    rows: (b, p). n: (b,). k: (t, b). The binomial variance is that of the common efficiency, then of the first fit.
    """
    observed = k / n
    mean = np.clip(k.sum(axis=1) / n.sum(), 0.5 / n.sum(), 1 - 0.5 / n.sum())[:, None]
    efficiency = np.broadcast_to(mean, observed.shape)
    for _ in range(2):
        weight = n / (efficiency * (1 - efficiency))
        information = np.einsum("bi,tb,bj->tij", rows, weight, rows, optimize=True)
        covariance = np.linalg.inv(information)
        coefficients = np.einsum("tij,tj->ti", covariance, (weight * observed) @ rows)
        fitted = coefficients @ rows.T
        # away from 0 and 1, where a bin would weigh without bound
        efficiency = np.clip(fitted, 0.1 * mean, 1 - 0.1 * (1 - mean))
    return coefficients, covariance, np.sum(weight * (observed - fitted) ** 2, axis=1)


def _ranks(values: FloatArray, method: Literal["average", "max"] = "average") -> FloatArray:
    # scipy.stats has it too, but takes a second to load
    return pd.Series(values).rank(method=method).to_numpy(dtype=float)


def _standardised(values: FloatArray) -> FloatArray:
    standard: FloatArray = (values - values.mean()) / values.std()
    return standard


def _against(value: float, null: FloatArray) -> Dependence:
    extreme = np.sum(np.abs(null) >= np.abs(value) * (1 - 1e-12))
    return Dependence(
        value=float(value),
        p_value=float((1 + extreme) / (1 + len(null))),
        null_mean=float(null.mean()),
        null_std=float(null.std()),
        n_permutations=len(null),
    )


def _cells(values: FloatArray, n_cells: int) -> tuple[IntArray, FloatArray]:
    """(cell of each event, distances between the cells' means) for quantile cells; ties share a cell."""
    distinct, inverse = np.unique(values, return_inverse=True)
    if len(distinct) > n_cells:
        rank = _ranks(values, method="max")
        inverse = np.unique(np.ceil(rank * n_cells / len(values)), return_inverse=True)[1]
    means = np.bincount(inverse, weights=values) / np.bincount(inverse)
    return inverse, np.abs(means[:, None] - means)


def _centred(cell: IntArray, distance: FloatArray) -> FloatArray:
    """The cells' distances, doubly centred over the events."""
    share = np.bincount(cell) / len(cell)
    row = distance @ share
    centred: FloatArray = distance - row[:, None] - row + share @ row
    return centred


def _covariance(x: IntArray, y: IntArray, centred_x: FloatArray, centred_y: FloatArray) -> float:
    """Squared distance covariance of events in the cells x and y."""
    shape = (len(centred_x), len(centred_y))
    joint = np.bincount(x * shape[1] + y, minlength=shape[0] * shape[1]).reshape(shape) / len(x)
    return np.sum((centred_x @ joint) * (joint @ centred_y))
