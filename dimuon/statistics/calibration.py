"""From the distribution of a statistic in null experiments to p-values, and how far they reach."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import binomtest, ks_1samp, ks_2samp, norm, uniform

LEVEL = 0.6827  # of the binomial intervals (Clopper-Pearson)


@dataclass(frozen=True)
class Calibrated:
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

    def asdict(self):
        """{field: value}."""
        return asdict(self)


def p_value(observed, nulls, n_failed=0):
    """The `Calibrated` p-value of an observed statistic. nulls: (n,), larger is more signal-like.

    n_failed: null experiments without a value; they count as at or above, which can only weaken a claim.
    """
    nulls = np.asarray(nulls, dtype=float)
    n, n_above = len(nulls) + n_failed, int(np.sum(nulls >= observed)) + n_failed
    if n == 0:
        raise ValueError("no null experiment to calibrate with")
    low, high = interval(n_above, n)
    return Calibrated(
        observed=float(observed),
        n=n,
        n_above=n_above,
        p=n_above / n if n_above else None,
        p_low=low,
        p_high=high,
        z0=float(norm.isf(n_above / n)) if 0 < n_above < n else None,
        z0_low=float(norm.isf(min(high, 1 - 1 / (2 * n)))),
        z0_high=float(norm.isf(low)) if low > 0 else None,
        reach=float(norm.isf(1 / n)),
    )


def interval(k, n):
    """(low, high): the 68 % Clopper-Pearson interval of a probability seen k times in n."""
    found = binomtest(k, n).proportion_ci(LEVEL, "exact")
    return float(found.low), float(found.high)


def coverage(nulls, n_failed=0, thresholds=(1.0, 2.0, 3.0)):
    """Fraction of null experiments above each asymptotic Z0, beside what it should be: a list of dicts.

    Each has z0, expected (1 - Phi(z0)), n, n_above, fraction and its 68 % interval low, high. A fraction above the
    expected one: the asymptotic Z0 claims too much. nulls: (n,); failed ones count as above.
    """
    nulls = np.asarray(nulls, dtype=float)
    rows = []
    for threshold in thresholds:
        n, n_above = len(nulls) + n_failed, int(np.sum(nulls > threshold)) + n_failed
        low, high = interval(n_above, n)
        rows.append({"z0": threshold, "expected": float(norm.sf(threshold)), "n": n, "n_above": n_above,
                     "fraction": n_above / n, "low": low, "high": high})  # fmt: skip
    return rows


def calibrated_p(values, nulls, rng):
    """p-value of each of some values by the nulls, uniform under the null: (n_values,).

    Ties, such as the many nulls with Z0 = 0, are broken at random (`rng`), without which no p-value of a statistic
    with an atom is uniform.
    """
    values, nulls = np.asarray(values, dtype=float), np.sort(np.asarray(nulls, dtype=float))
    above = len(nulls) - np.searchsorted(nulls, values, side="right")
    tied = np.searchsorted(nulls, values, side="right") - np.searchsorted(nulls, values, side="left")
    return (above + rng.uniform(size=len(values)) * (tied + 1)) / (len(nulls) + 1)


def uniformity(values, nulls, rng):
    """Kolmogorov-Smirnov test that the calibrated p-values of held-out nulls are uniform.

    values: (n,), held out; nulls: (m,), that calibrate. {"n", "m", "distance", "p", "p_one_sample"}: p takes into
    account that the calibrating sample is finite too (two-sample test of the ranks); p_one_sample does not, and so
    comes out small too often unless m is much larger than n.
    """
    found = calibrated_p(values, nulls, rng)
    one, two = ks_1samp(found, uniform.cdf), ks_2samp(found, (np.arange(len(nulls)) + 0.5) / len(nulls))
    return {"n": len(values), "m": len(nulls), "distance": float(one.statistic), "p": float(two.pvalue),
            "p_one_sample": float(one.pvalue)}  # fmt: skip
