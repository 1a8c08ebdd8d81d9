"""The likelihood value's distribution without a signal, against events drawn and weighted one by one."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from dimuon.statistics import reweighted_null
from dimuon.statistics.significance import likelihood_weights

N = 900  # background events, known exactly: both significances are then those of one count


def toys(width, n_toys=30_000):
    """(n_toys,) significance of the weighted count in background alone, 0 where there is no excess without weights."""
    rng = np.random.default_rng(int(1000 * width))
    pool = expit(rng.normal(0, width, 20_000))
    z = np.zeros(n_toys)
    for toy, n in enumerate(rng.poisson(N, n_toys)):
        if n > N:
            weights = likelihood_weights(rng.choice(pool, n), n - N, N)
            mean, square = (np.mean(likelihood_weights(pool, n - N, N) ** power) for power in (1, 2))
            z[toy] = (weights.sum() - N * mean) / np.sqrt(N * square)
    return pool, z


def test_the_tail_is_that_of_weighted_counts():
    # the count alone: a constant correlation of 1; the weights of narrow scores: more than nominal
    pool, z = toys(0.1, n_toys=6000)
    for u in (1.0, 2.0):
        counted, expected = np.mean(z > u), norm.sf(reweighted_null.calibrated(u, pool, N, 0.0))
        assert abs(counted - expected) < 3.5 * np.sqrt(expected / len(z))
    assert norm.sf(reweighted_null.calibrated(3.0, pool, N, 0.0)) > 1.1 * norm.sf(3.0)


def test_equal_weights_are_the_test_without_a_cut():
    assert reweighted_null.calibrated(4.0, np.full(100, 0.5), N, 0.0) == pytest.approx(4.0, abs=0.02)


def test_weights_of_few_events_are_half_of_the_nominal_tail():
    score = np.r_[np.full(9999, 0.01), 0.999]  # one event has a weight: no correlation
    assert norm.sf(reweighted_null.calibrated(3.0, score, N, 0.0)) == pytest.approx(norm.sf(3.0) / 2, rel=0.1)


def test_far_out_there_is_still_a_number():
    pool = expit(np.random.default_rng(1).normal(0, 0.2, 1000))
    assert 45 < reweighted_null.calibrated(50.0, pool, N, 10.0) <= 50.01
