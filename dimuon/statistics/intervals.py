"""Confidence intervals of counts."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from dimuon.arrays import FloatArray

ONE_SIGMA = 0.6827  # the level of every interval that is shown


def clopper_pearson(k: ArrayLike, n: ArrayLike, level: float = ONE_SIGMA) -> tuple[FloatArray, FloatArray]:
    """(low, high) of a probability seen k times in n (Clopper & Pearson 1934, Biometrika 26, 404); 0 to 1 for n = 0.

    k, n: whole numbers, of any shapes that go together.

    >>> low, high = clopper_pearson(3, 10)
    >>> f"{low:.3f} {high:.3f}"
    '0.142 0.508'
    """
    k, n = np.asarray(k), np.asarray(n)
    tail = (1 - level) / 2
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail), 1.0)
    return low, high
