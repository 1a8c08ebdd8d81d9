"""Binomial intervals against scipy's, and that they cover."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from dimuon.statistics.intervals import ONE_SIGMA, clopper_pearson


@pytest.mark.parametrize("level", [ONE_SIGMA, 0.95])
def test_clopper_pearson_is_scipys(level):
    n = np.array([1, 1, 10, 10, 10, 1000, 1000])
    k = np.array([0, 1, 0, 3, 10, 14, 999])
    low, high = clopper_pearson(k, n, level)
    for i in range(len(n)):
        other = binomtest(int(k[i]), int(n[i])).proportion_ci(level, "exact")
        assert (low[i], high[i]) == pytest.approx((other.low, other.high), abs=1e-10)  # scipy's root finder: 1e-12


def test_nothing_seen_of_nothing():
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("p", [0.003, 0.1, 0.5, 0.93])
def test_the_true_probability_is_covered_at_least_as_often_as_stated(p):
    n = 40
    k = np.arange(n + 1)
    low, high = clopper_pearson(k, n)
    assert binom.pmf(k[(low <= p) & (p <= high)], n, p).sum() >= ONE_SIGMA
