"""Does the SR keep more than its share? The working points once more, by conformal p-values, without a fit to the mass.

Where a score does not know the mass, an SR event is like one of n sideband events, and its conformal p-value, (1 + how
many of them have its score or a larger one) / (n + 1), is uniform (Bates et al. 2023, Ann. Statist. 51, 149,
arXiv:2104.08279). Of m SR events, those that pass a cut which k of n sideband events pass are then at most as many as
a beta-binomial number with parameters m, k + 1 and n - k. The sidebands are compared one by one (Mondrian conformal
prediction: for an answer that holds in each), and both together with weights that put their mean mass at that of the
SR (Tibshirani et al. 2019, arXiv:1904.06019): a score whose distribution changes linearly with the mass then counts as
one that does not know it.

Beside the fit these significances leave out the mass spectrum and use what it does not, how many events the SR holds
before the cut: they may be larger or smaller. A signal is among those m events, which makes them smaller.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, gammaln, logsumexp

from dimuon.arrays import BoolArray, FloatArray, IntArray
from dimuon.regions import MassWindow
from dimuon.statistics.trials import significance_of_log

LOW, HIGH, BETWEEN = "low sideband", "high sideband", "between them"


@dataclass(frozen=True)
class ConformalTests:
    """n cuts against the same calibration events.

    calibration: which they are. n_obs: (n,) SR events that pass, of n_sr. rate: (n,), the fraction that would without a
    signal. p_value, z: (n,), of so many or more; z has the sign of the excess, NaN where p is one (no event passes).
    smallest: the smallest p-value that one event can have against these calibration events.
    """

    calibration: str
    n_obs: IntArray
    n_sr: int
    rate: FloatArray
    p_value: FloatArray
    z: FloatArray
    smallest: float


def tests(mass: FloatArray, kept: BoolArray, window: MassWindow) -> list[ConformalTests]:
    """The cuts against the low sideband, the high one, and both weighted to the mean mass of the SR.

    mass: (n_events,), GeV. kept: (n, n_events) True where an event passes a cut. No region may be empty.
    """
    in_sr, sides = window.in_sr(mass), (window.in_sbl(mass), window.in_sbh(mass))
    n_obs, n_sr = kept[:, in_sr].sum(axis=1), int(in_sr.sum())
    low, high = (_Beta.of(kept[:, side].sum(axis=1), int(side.sum())) for side in sides)
    means = [float(mass[side].mean()) for side in sides]
    share = float((means[1] - mass[in_sr].mean()) / (means[1] - means[0]))
    rates = {LOW: low, HIGH: high, BETWEEN: low.mixed(high, share)}
    smallest = [1 / (int(side.sum()) + 1) for side in sides]
    floors = {LOW: smallest[0], HIGH: smallest[1], BETWEEN: share * smallest[0] + (1 - share) * smallest[1]}
    return [_tested(name, n_obs, n_sr, rate, floors[name]) for name, rate in rates.items()]


def _tested(calibration: str, n_obs: IntArray, n_sr: int, rate: "_Beta", smallest: float) -> ConformalTests:
    pairs = zip(n_obs.tolist(), rate.a.tolist(), rate.b.tolist(), strict=True)
    log_p = np.array([log_tail(n, n_sr, a, b) for n, a, b in pairs])
    z = np.array([significance_of_log(value) if value < 0 else np.nan for value in log_p.tolist()])
    return ConformalTests(calibration, n_obs, n_sr, rate.mean, np.exp(log_p), z, smallest)


def log_tail(n_obs: int, n: int, a: float, b: float) -> float:
    """ln of the probability of n_obs or more of n, beta-binomial with parameters a, b > 0; b = 0: all of n.

    >>> f"{np.exp(log_tail(1, 1, 3.0, 7.0)):.3f}"
    '0.300'
    """
    if n_obs <= 0 or b <= 0:
        return 0.0
    x = np.arange(n_obs, n + 1)
    choices = gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1)
    return min(float(logsumexp(choices + betaln(x + a, n - x + b) - betaln(a, b))), 0.0)


@dataclass(frozen=True)
class _Beta:
    """What is known of the fractions that n cuts keep: beta distributions with parameters a, b: (n,)."""

    a: FloatArray
    b: FloatArray

    @classmethod
    def of(cls, n_kept: IntArray, n: int) -> "_Beta":
        """From calibration events: n_kept: (n_cuts,) of n."""
        return cls(n_kept + 1.0, (n - n_kept).astype(float))

    @property
    def mean(self) -> FloatArray:
        return self.a / (self.a + self.b)

    @property
    def variance(self) -> FloatArray:
        return self.mean * (1 - self.mean) / (self.a + self.b + 1)

    def mixed(self, other: "_Beta", share: float) -> "_Beta":
        """`share` of these fractions and the rest of the others: the beta distribution with its mean and variance."""
        mean = share * self.mean + (1 - share) * other.mean
        variance = share**2 * self.variance + (1 - share) ** 2 * other.variance
        size = np.divide(mean * (1 - mean), variance, out=np.full_like(mean, 2.0), where=variance > 0) - 1
        return _Beta(mean * size, (1 - mean) * size)
