"""What the largest of many local significances is worth: the global one, by counting or by upcrossings.

Where enough null experiments reach the observed value, they are counted. Beyond, the tail is extrapolated: of nested
cuts, Z0 along the cuts is a process, and with N(u0) the mean number of its upcrossings of a level u0 in null
experiments

    P(max Z0 > u) ~ P(Z0 > u at the first cut) + N(u0) exp(-(u^2 - u0^2) / 2)

(Gross & Vitells 2010, arXiv:1005.1891, Eq. 3, for one degree of freedom and a parameter of interest that is not
negative). The exponential holds for a smooth process; counts after nested cuts are a random walk, looked at in steps,
of which the share r = n_(i+1) / n_i of the events that passed the cut before gives the correlation sqrt(r). So

    N(u) / N(u0) = G(u) / G(u0),  G(u) = sum_i P(Z_i <= u < Z_(i+1))

with normal Z of these correlations is used in its place, which becomes the exponential where the steps are fine. Of
several chains of nested cuts that begin with the same spectrum, N is the sum. In two dimensions the mean Euler
characteristic of the region above a level takes the place of the upcrossings,

    P(max Z0 > u) ~ E[phi(A_u)] = P(Z0 > u) + exp(-u^2 / 2) (N1 + N2 u)

(Vitells & Gross 2011, arXiv:1105.4355, Eqs. 12 and 15). How far both hold on a scan as coarse as that of the working
points, with few events at its end: tests/benchmarks/trials.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, exp
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtr, ndtri_exp

from dimuon.arrays import FloatArray, IntArray
from dimuon.records import Record
from dimuon.statistics.calibration import Calibrated, p_value

LEVELS = tuple(np.arange(0.5, 3.01, 0.25).tolist())  # at which null experiments are looked at
MIN_LEVEL = 1.5  # below it nothing is extrapolated from: the tail is not yet one
MIN_CROSSINGS = 25  # upcrossings of the chosen level, in all null experiments: their number is known to 20 %
MIN_ABOVE = 10  # null experiments at or above the observed value, for counting them to be the better estimate

UPCROSSINGS, EULER = "upcrossings", "Euler characteristic"


def upcrossings(z: FloatArray, level: float) -> IntArray:
    """How often each process crosses a level upwards: (n,). z: (n, n_points), Z0 along the process.

    >>> upcrossings(np.array([[0.0, 2.0, 0.5, 3.0], [2.0, 2.5, 1.0, 0.0]]), 1.5).tolist()
    [2, 0]
    """
    crossed: IntArray = ((z[:, :-1] <= level) & (z[:, 1:] > level)).sum(axis=1)
    return crossed


def euler_characteristic(z: FloatArray, level: float) -> IntArray:
    """Connected parts less holes of the region above a level: (n,). z: (n, n_rows, n_columns), NaN where there is none.

    The points above are the vertices, neighbours along a row or a column share an edge, four of a square a face.

    >>> euler_characteristic(np.array([[[3.0, 0.0, 3.0], [3.0, 0.0, 3.0], [3.0, 3.0, 3.0]]]), 1.0).tolist()
    [1]
    """
    above = z > level
    edges = (above[:, 1:] & above[:, :-1]).sum(axis=(1, 2)) + (above[:, :, 1:] & above[:, :, :-1]).sum(axis=(1, 2))
    faces = (above[:, 1:, 1:] & above[:, 1:, :-1] & above[:, :-1, 1:] & above[:, :-1, :-1]).sum(axis=(1, 2))
    characteristic: IntArray = above.sum(axis=(1, 2)) - edges + faces
    return characteristic


@dataclass(frozen=True)
class Tail(Record):
    """How the probability that the largest Z0 of null experiments exceeds u falls with u.

    levels: (one, or two of them), where the null experiments were looked at. n: null experiments. total: upcrossings of
    the level in all of them (Euler characteristic: of the higher level). coefficients: N1, N2 of P(max > u) = P(Z0 > u)
    + exp(-u^2 / 2) (N1 + N2 u); N2 = 0 for upcrossings. covariance: (2, 2) of these, from the spread of the null
    experiments. correlations: of neighbouring cuts or windows, by which the exponential is replaced; none: it is not.
    method: `UPCROSSINGS` or `EULER`.
    """

    method: str
    levels: tuple[float, ...]
    n: int
    total: int
    coefficients: tuple[float, float]
    covariance: tuple[tuple[float, float], tuple[float, float]]
    correlations: tuple[float, ...] = ()

    def log_p(self, u: float) -> tuple[float, float, float]:
        """ln P(max Z0 > u) and the ends of its 68 % interval. u: above the level."""
        slope = np.array([1.0, u])
        value = float(slope @ np.array(self.coefficients))
        error = float(np.sqrt(slope @ np.array(self.covariance) @ slope))
        first, log_fall = log_ndtr(-u), -u * u / 2
        if self.correlations:
            log_fall += np.log(_steepness(u, self.correlations) / _steepness(self.levels[0], self.correlations))
        ends = [
            first if m <= 0 else np.logaddexp(first, np.log(m) + log_fall)
            for m in (value, value - error, value + error)
        ]
        no_excess = np.log1p(-1 / (2 * self.n))  # a probability is below one
        middle, low, high = (float(min(end, no_excess)) for end in ends)
        return middle, low, high


def level_of(totals: Mapping[float, int], observed: float) -> float | None:
    """The level that the tail is extrapolated from: the highest, of at least `MIN_LEVEL` and below the observed value,
    that null experiments cross often enough, `MIN_CROSSINGS` times in all. None where no level is.

    totals: {level: upcrossings in all of them}.
    """
    often = [level for level, total in totals.items() if total >= MIN_CROSSINGS and MIN_LEVEL <= level < observed]
    return max(often, default=None)


def upcrossing_tail(
    chains: Sequence[FloatArray],
    observed: float,
    kept: ArrayLike | None = None,
    neighbours: Sequence[float] = (),
) -> Tail | None:
    """The tail from null experiments, None where they cross no level often enough.

    chains: (n, n_points) each, Z0 along the cuts of each chain; all chains begin with the same spectrum. kept:
    (n_points,) events, or shares of them, that pass each of the nested cuts; neighbours: where they are not nested, the
    correlation of each point of the chains with the next. Neither: of a smooth process.
    """
    crossed = {level: sum(upcrossings(z, level) for z in chains) for level in LEVELS}
    level = level_of({level: int(np.sum(each)) for level, each in crossed.items()}, observed)
    if level is None:
        return None
    of_each = np.asarray(crossed[level], dtype=float)
    n, scale = len(of_each), exp(level**2 / 2)
    variance = max(of_each.var(), of_each.mean()) / n  # at least that of a Poisson number
    return Tail(
        UPCROSSINGS,
        (level,),
        n,
        int(of_each.sum()),
        (of_each.mean() * scale, 0.0),
        ((variance * scale**2, 0.0), (0.0, 0.0)),
        tuple(neighbours) if kept is None else correlations(kept),
    )


def correlations(kept: ArrayLike) -> tuple[float, ...]:
    """Correlation of each of nested cuts with the next. kept: (n_points,) as for `upcrossing_tail`, falling.

    >>> correlations([100.0, 25.0, 25.0])
    (0.5,)
    """
    shares = np.asarray(kept, dtype=float)
    ratios = np.sqrt(shares[1:] / shares[:-1])
    return tuple(ratios[ratios < 1].tolist())  # of cuts that keep the same events none is crossed


def _steepness(u: float, correlations: Sequence[float]) -> float:
    """exp(u^2 / 2) sum P(X <= u < Y) over pairs of normal variables of these correlations, but for a constant. u > 0.

    With y = u + v / u the probability is exp(-u^2 / 2) times the integral of exp(-v) exp(-v^2 / 2 u^2) Phi(...) / u.
    """
    point, weight = np.polynomial.legendre.leggauss(64)
    r = np.array(correlations)[:, None]
    s = np.sqrt(1 - r**2)
    reach = np.minimum(u / r * (u * (1 - r) + 8 * s), 40.0)  # beyond it nothing is left of the integrand
    v = reach * (point + 1) / 2
    below = ndtr((u * (1 - r) - r * v / u) / s)
    return float(np.sum(reach * weight * np.exp(-v - v**2 / (2 * u**2)) * below) / u)


def euler_tail(characteristics: Mapping[float, FloatArray], observed: float) -> Tail | None:
    """The tail from null experiments in two dimensions, None where their regions are too few at every level.

    characteristics: {level: (n,) Euler characteristic of the region above it in each null experiment}. The higher level
    is chosen as by `level_of`; the lower is the one nearest to a unit below.
    """
    totals = {level: int(np.sum(each)) for level, each in characteristics.items()}
    high = level_of(totals, observed)
    if high is None:
        return None
    low = min((level for level in totals if level < high), key=lambda level: (abs(high - 1.0 - level), level))
    pair, levels = np.array([characteristics[low], characteristics[high]], dtype=float), np.array([low, high])
    scale = np.exp(levels**2 / 2)
    solve = np.linalg.inv(np.column_stack([np.ones(2), levels])) * scale  # from E - P(Z0 > u) at both levels to N1, N2
    excess = pair.mean(axis=1) - np.exp(log_ndtr(-levels))
    covariance = solve @ (np.cov(pair, bias=True) / pair.shape[1]) @ solve.T
    n1, n2 = (solve @ excess).tolist()
    (a, b), (c, d) = covariance.tolist()
    return Tail(EULER, (low, high), pair.shape[1], totals[high], (n1, n2), ((a, b), (c, d)))


@dataclass(frozen=True)
class GlobalSignificance(Record):
    """What the largest of many local significances is worth: one definition for every statistic and every scan.

    local: the largest. source: which null experiments. n: of them, n_above of them at or above it, n_failed of them
    without a value (counted as above). z0, z0_low, z0_high: the global significance and its 68 % interval (z0_high
    None: unbounded), p the p-value it stands for; all None where the null experiments are too few to say. bound: then,
    and only then, what they do say: z0 is above it at 84 % confidence. tail: by which the value is extrapolated, where
    fewer than `MIN_ABOVE` null experiments are at or above it; None where it is counted.
    """

    local: float
    source: str
    n: int
    n_above: int
    n_failed: int = 0
    p: float | None = None
    z0: float | None = None
    z0_low: float | None = None
    z0_high: float | None = None
    bound: float | None = None
    tail: Tail | None = None

    @classmethod
    def of(cls, local: float, largest: ArrayLike, source: str, tail: Tail | None = None, n_failed: int = 0) -> Self:
        """From the largest Z0 of each null experiment, (n,), and the tail beyond them, where there is one."""
        return cls.of_counts(p_value(local, largest, n_failed), source, tail, n_failed)

    @classmethod
    def of_counts(cls, counted: Calibrated, source: str, tail: Tail | None = None, n_failed: int = 0) -> Self:
        """From what was counted in null experiments, the failed ones as above, and the tail beyond them."""
        known = cls(counted.observed, source, counted.n, counted.n_above, n_failed)
        if counted.n_above < MIN_ABOVE and tail is not None:
            middle, low, high = tail.log_p(counted.observed)
            z0, z0_high, z0_low = (significance_of_log(log_p) for log_p in (middle, low, high))
            return replace(known, p=exp(middle), z0=z0, z0_low=z0_low, z0_high=z0_high, tail=tail)
        if counted.p is None:
            return replace(known, bound=counted.z0_low)
        z0 = counted.z0_low if counted.z0 is None else counted.z0  # where all of them are above, p = 1
        return replace(known, p=counted.p, z0=z0, z0_low=counted.z0_low, z0_high=counted.z0_high)

    def lowered(self, shift: float) -> "GlobalSignificance | None":
        """Of a local significance less `shift`, where it is extrapolated and still lies above the level; else None."""
        local = self.local - max(shift, 0.0)
        if self.tail is None or local <= max(self.tail.levels):
            return None
        return GlobalSignificance.of_counts(Calibrated.of_counts(local, self.n, 0), self.source, self.tail)

    @property
    def error(self) -> float | None:
        """Half of the 68 % interval of z0; None where one of its ends is not known."""
        if self.z0_low is None or self.z0_high is None:
            return None
        return (self.z0_high - self.z0_low) / 2

    @property
    def text(self) -> str:
        """The significance in words that no bound shares with a value: "4.37 ± 0.05", "> 2.1"."""
        if self.z0 is None:
            return f"> {max(self.bound or 0.0, 0.0):.1f}"
        return f"{max(self.z0, 0) + 0.0:.2f}" + ("" if self.error is None else f" ± {self.error:.2f}")

    @property
    def how(self) -> str:
        """Where the number comes from, in words, with the remedy where there is none."""
        nulls = f"{self.n:,} {self.source}"
        if self.tail is not None:
            levels = " and ".join(f"{level:g}" for level in self.tail.levels)
            what = f"{self.tail.total} upcrossings" if self.tail.method == UPCROSSINGS else self.tail.method
            return f"extrapolated from level {levels} ({what} in {nulls})"
        if self.z0 is None:
            return f"a bound: none of {nulls} is above, and they are too few to extrapolate from"
        return f"{self.n_above:,} of {nulls} above"

    def __str__(self) -> str:
        return f"global Z0 {'' if self.z0 is None else '= '}{self.text}, {self.how}"


def n_needed(z0: float) -> int:
    """Null experiments of which `MIN_ABOVE` are above a significance, where none is extrapolated."""
    return ceil(MIN_ABOVE / exp(log_ndtr(-z0)))


def significance_of_log(log_p: float) -> float:
    """Z0 of a one-sided p-value given by its logarithm, so that no p-value is too small for a number.

    >>> f"{significance_of_log(-1000.0):.2f} {significance_of_log(float(log_ndtr(-5.0))):.2f}"
    '44.62 5.00'
    """
    return float(-ndtri_exp(log_p))
