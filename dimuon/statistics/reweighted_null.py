"""The distribution of the likelihood value without a signal, in closed form.

The weights depend on the signal fraction, which the fit without a cut takes from the same events: the larger the excess
without a cut, the more alike the weights are, and the more the reweighted spectrum repeats that excess. With z the
significance without a cut, and r(z) its correlation with the reweighted one, for the weights that go with z,

    P(Z > u) = integral over z > 0 of phi(z) [1 - Phi((u - r z) / sqrt(1 - r^2))],  r(z) = sum w / sqrt(n sum w^2)

where z < 0 adds nothing, for the weights are not defined there. r = 0 gives half the nominal probability, a constant r
less than the nominal one, an r that grows with z more. Compared with toys in tests/benchmarks/likelihood.py.
"""

import numpy as np
from scipy.special import log_ndtr, logsumexp

from dimuon.arrays import FloatArray
from dimuon.statistics.significance import likelihood_weights
from dimuon.statistics.trials import significance_of_log

STEP = 0.01  # of the integral, in sigma
N_WEIGHTS = 60  # values of z at which the weights are computed


def calibrated(z0: float, score: FloatArray, n_bkg: float, n_bkg_err: float) -> float:
    """The significance that a likelihood value stands for.

    score: (n_events,) of sideband events, that stand for the background. n_bkg, n_bkg_err: of the fit without a cut,
    whose excess of one sigma is sqrt(n_bkg + n_bkg_err^2) events.
    """
    z = np.arange(STEP / 2, z0 + 10, STEP)
    at = np.geomspace(0.05, z[-1], N_WEIGHTS)
    r = np.interp(
        z, at, [correlation(likelihood_weights(score, s, n_bkg)) for s in at * np.hypot(n_bkg**0.5, n_bkg_err)]
    )
    tails = log_ndtr((r * z - z0) / np.sqrt(1 - r**2)) - z**2 / 2
    return significance_of_log(float(logsumexp(tails) + np.log(STEP) - np.log(2 * np.pi) / 2))


def correlation(weights: FloatArray) -> float:
    """Of a sum of weights with the number of the same events, both Poisson. weights: (n_events,).

    >>> correlation(np.array([1.0, 1.0])), correlation(np.array([1.0, 0.0, 0.0, 0.0]))
    (0.999999999999, 0.5)
    """
    return float(min(weights.sum() / np.sqrt(len(weights) * np.square(weights).sum()), 1 - 1e-12))
