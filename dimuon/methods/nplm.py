"""The New Physics Learning Machine's own test: does a sample come from a reference? (arXiv:2204.02317, 2501.01778)

f, the log of the ratio of data to reference, is fitted to the very sample that is tested, by a logistic regression on
Gaussian kernels; the statistic is that of the extended likelihood ratio (arXiv:2204.02317, Eq. 10),

    t = 2 [ sum over data of f  -  w * sum over reference of (exp(f) - 1) ],    w = n_data / n_reference.

What it is without a signal is counted on samples of the reference's own kind. As in the papers their t are described by
a distribution in closed form, since there are too few of them for its tail: a gamma distribution of their mean and
variance, of which the papers' chi-square is a special case.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import expit, ndtri_exp
from scipy.stats import gamma

from dimuon.arrays import FloatArray

PENALTY = 1.0  # half the square of the weights counts so much
MAX_STEPS, GAIN = 50, 1e-8  # of Newton's method; relative


@dataclass(frozen=True, eq=False)
class Nplm:
    """A reference and the statistics of samples without a signal.

    width: of the kernels, in units of the features. centre: (n_centres, n_features). whitening: (n_centres, n_centres),
    of the Nystroem features. features: (n_reference, n_centres + 1) of the reference. null: (n_toys,) values of t.
    """

    width: float
    centre: FloatArray
    whitening: FloatArray
    features: FloatArray
    null: FloatArray

    @classmethod
    def of(cls, reference: FloatArray, toys: Sequence[FloatArray], width: float, rng: np.random.Generator) -> "Nplm":
        """reference, each of toys: (n_events, n_features). The centres are as many as the root of the events."""
        n_centres = round(np.sqrt(len(reference) + len(toys[0])))
        centre = reference[rng.choice(len(reference), min(n_centres, len(reference)), replace=False)]
        values, vectors = np.linalg.eigh(_kernel(centre, centre, width))
        whitening = vectors / np.sqrt(np.maximum(values, 1e-10 * values.max()))
        empty = cls(width, centre, whitening, np.empty((0, 0)), np.empty(0))
        own = cls(width, centre, whitening, empty.of_kernels(reference), np.empty(0))
        return cls(width, centre, whitening, own.features, np.array([own.statistic(toy) for toy in toys]))

    def of_kernels(self, x: FloatArray) -> FloatArray:
        """(n_events, n_centres + 1): the features of the regression, the last one is constant."""
        return np.column_stack([_kernel(x, self.centre, self.width) @ self.whitening, np.ones(len(x))])

    def statistic(self, x: FloatArray) -> float:
        """t of a sample: (n_events, n_features)."""
        data, weight = self.of_kernels(x), len(x) / len(self.features)
        theta = _fitted(data, self.features, weight)
        of_data, of_reference = data @ theta, self.features @ theta
        return float(2 * (of_data.sum() - weight * np.expm1(of_reference).sum()))

    def significance(self, x: FloatArray) -> float:
        """How unusual t is without a signal [sigma], not below 0."""
        mean, variance = self.null.mean(), self.null.var(ddof=1)
        log_p = gamma.logsf(self.statistic(x), mean**2 / variance, scale=variance / mean)
        return float(max(0.0, -ndtri_exp(log_p)))


def _kernel(x: FloatArray, centre: FloatArray, width: float) -> FloatArray:
    return np.asarray(np.exp(-cdist(x, centre, "sqeuclidean") / (2 * width**2)))


def _fitted(data: FloatArray, reference: FloatArray, weight: float) -> FloatArray:
    """The weights of the smallest penalised logistic loss, by Newton's method; the constant is not penalised."""
    penalty = np.full(data.shape[1], PENALTY)
    penalty[-1] = 0.0

    def loss(theta: FloatArray) -> float:
        both = np.logaddexp(0, -data @ theta).sum() + weight * np.logaddexp(0, reference @ theta).sum()
        return float(both + (penalty * theta**2).sum() / 2)

    theta = np.zeros(data.shape[1])
    now = loss(theta)
    for _ in range(MAX_STEPS):
        p_data, p_reference = expit(data @ theta), expit(reference @ theta)
        gradient = -(1 - p_data) @ data + weight * (p_reference @ reference) + penalty * theta
        curvature = (data.T * (p_data * (1 - p_data))) @ data
        curvature += weight * (reference.T * (p_reference * (1 - p_reference))) @ reference + np.diag(penalty)
        step, size = np.linalg.solve(curvature, gradient), 1.0
        while (after := loss(theta - size * step)) > now and size > 1e-6:
            size /= 2
        if now - after < GAIN * abs(now):
            break
        theta, now = theta - size * step, after
    return theta
