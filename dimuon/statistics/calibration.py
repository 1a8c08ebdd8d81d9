"""From the distribution of a statistic without a signal, in null experiments or toys, to p-values, and how far they
reach.

A value that no toy exceeds is claimed no further than the toys reach: a bound, never a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from dimuon.arrays import FloatArray
from dimuon.records import Record
from dimuon.statistics.intervals import clopper_pearson

MIN_EXTREME = 5  # toys at least as extreme as the data, for a p-value rather than a bound
ROUNDING = 1e-9  # toys closer than this to the data are as extreme


def n_at_least(sample: ArrayLike, observed: float) -> int:
    """How many of a sample are at or above an observed value. sample: (n,)."""
    return int(np.sum(np.asarray(sample) >= observed))


@dataclass(frozen=True)
class Calibrated(Record):
    """A p-value counted in null experiments.

    n: null experiments. n_above: those at or above the observed value, the failed ones among them. p: n_above / n,
    None where n_above is 0. p_low, p_high: its 68 % Clopper-Pearson interval. z0: of p, one-sided. z0_low, z0_high: of
    the interval (z0_high None: unbounded). reach: the Z0 of p = 1 / n; of anything beyond the sample says nothing.
    """

    observed: float
    n: int
    n_above: int
    p: float | None
    p_low: float
    p_high: float
    z0: float | None
    z0_low: float
    z0_high: float | None
    reach: float

    @classmethod
    def of_counts(cls, observed: float, n: int, n_above: int) -> "Calibrated":
        """From how many of n null experiments are at or above the observed value. ValueError for none to count."""
        if n == 0:
            raise ValueError("no null experiment to calibrate with")
        low, high = _interval(n_above, n)
        return cls(
            observed=float(observed),
            n=n,
            n_above=n_above,
            p=n_above / n if n_above else None,
            p_low=low,
            p_high=high,
            z0=significance_of(n_above / n) if 0 < n_above < n else None,
            z0_low=significance_of(min(high, 1 - 1 / (2 * n))),
            z0_high=significance_of(low) if low > 0 else None,
            reach=significance_of(1 / n),
        )


def p_value(observed: float, nulls: ArrayLike, n_failed: int = 0) -> Calibrated:
    """The calibrated p-value of an observed statistic. nulls: (n,), larger is more signal-like.

    n_failed: null experiments without a value; they count as at or above, which can only weaken a claim.
    """
    nulls = np.asarray(nulls, dtype=float)
    return Calibrated.of_counts(observed, len(nulls) + n_failed, n_at_least(nulls, observed) + n_failed)


@dataclass(frozen=True)
class ToyValue(Record):
    """A p-value from n_toys pseudo-data, n_extreme of them at least as extreme as the data.

    p0 = (n_extreme + 1) / (n_toys + 1) and its binomial error p0_err; z0 the significance it stands for (zero where p0
    is above one half). bound: fewer than `MIN_EXTREME` extreme toys; p0 is then the upper end of the interval of
    `Calibrated` and z0 the lower, which are bounds.
    """

    p0: float
    p0_err: float
    z0: float
    n_toys: int
    n_extreme: int
    bound: bool = False

    @classmethod
    def of(cls, statistic: FloatArray, observed: float) -> "ToyValue":
        """From the statistic of every toy, (n_toys,), and that of the data."""
        n, k = len(statistic), n_at_least(statistic, observed - ROUNDING)
        bound = k < MIN_EXTREME
        p0 = _interval(k, n)[1] if bound else (k + 1) / (n + 1)
        return cls(p0, float(np.sqrt(p0 * (1 - p0) / n)), max(significance_of(p0), 0.0), n, k, bound)


@dataclass(frozen=True)
class Calibration(Record):
    """How a significance behaves without a signal: does a Z0 of 3 mean 3?

    n_toys: pseudo-data. mean, std: of the signed significance, 0 and 1 where it is what it says. z, fraction,
    error, nominal: how often Z0 exceeds each z, its binomial error, and what it should be.
    """

    n_toys: int
    mean: float
    std: float
    z: tuple[float, ...]
    fraction: tuple[float, ...]
    error: tuple[float, ...]
    nominal: tuple[float, ...]

    @classmethod
    def of(cls, z_signed: FloatArray, z: Sequence[float] = (1.0, 2.0, 3.0)) -> "Calibration":
        """From the signed significance of every toy: (n_toys,)."""
        nominal = [float(ndtr(-level)) for level in z]
        return cls(
            n_toys=len(z_signed),
            mean=float(z_signed.mean()),
            std=float(z_signed.std()),
            z=tuple(z),
            fraction=tuple(float(np.mean(z_signed > level)) for level in z),
            error=tuple(float(np.sqrt(p * (1 - p) / len(z_signed))) for p in nominal),
            nominal=tuple(nominal),
        )


@dataclass(frozen=True)
class Coverage(Record):
    """How often null experiments exceed an asymptotic Z0, beside what it should be.

    z0: the threshold; expected: 1 - Phi(z0). n: null experiments, n_above of them above; fraction and its 68 %
    interval low, high. A fraction above the expected one: the asymptotic Z0 claims too much.
    """

    z0: float
    expected: float
    n: int
    n_above: int
    fraction: float
    low: float
    high: float


def coverage(nulls: ArrayLike, n_failed: int = 0, thresholds: Sequence[float] = (1.0, 2.0, 3.0)) -> list[Coverage]:
    """The coverage of each threshold. nulls: (n,), asymptotic Z0; failed ones count as above."""
    nulls = np.asarray(nulls, dtype=float)
    n, rows = len(nulls) + n_failed, []
    for threshold in thresholds:
        n_above = int(np.sum(nulls > threshold)) + n_failed
        low, high = _interval(n_above, n)
        rows.append(Coverage(threshold, float(ndtr(-threshold)), n, n_above, n_above / n, low, high))
    return rows


def calibrated_p(values: ArrayLike, nulls: ArrayLike, rng: np.random.Generator) -> FloatArray:
    """p-value of each of some values by the nulls, uniform under the null: (n_values,).

    Ties, such as the many nulls with Z0 = 0, are broken at random (`rng`), without which no p-value of a statistic
    with an atom is uniform.
    """
    values, nulls = np.asarray(values, dtype=float), np.sort(np.asarray(nulls, dtype=float))
    above = len(nulls) - np.searchsorted(nulls, values, side="right")
    tied = np.searchsorted(nulls, values, side="right") - np.searchsorted(nulls, values, side="left")
    p: FloatArray = (above + rng.uniform(size=len(values)) * (tied + 1)) / (len(nulls) + 1)
    return p


@dataclass(frozen=True)
class Uniformity(Record):
    """Kolmogorov-Smirnov test that the calibrated p-values of n held-out nulls are uniform; m nulls calibrate.

    p takes into account that the calibrating sample is finite too (two-sample test of the ranks); p_one_sample does
    not, and so comes out small too often unless m is much larger than n.
    """

    n: int
    m: int
    distance: float
    p: float
    p_one_sample: float


def uniformity(values: ArrayLike, nulls: ArrayLike, rng: np.random.Generator) -> Uniformity:
    """Whether held-out nulls have uniform p-values. values: (n,), held out; nulls: (m,), that calibrate."""
    from scipy.stats import ks_1samp, ks_2samp, uniform  # it takes a second to load, which step 6 has no use for

    p, m = calibrated_p(values, nulls, rng), len(np.asarray(nulls))
    one, two = ks_1samp(p, uniform.cdf), ks_2samp(p, (np.arange(m) + 0.5) / m)
    return Uniformity(len(p), m, float(one.statistic), float(two.pvalue), float(one.pvalue))


def significance_of(p: float) -> float:
    """Z0 of a one-sided p-value, negative above one half."""
    return float(-ndtri(p))


def _interval(k: int, n: int) -> tuple[float, float]:
    low, high = clopper_pearson(k, n)
    return float(low), float(high)
