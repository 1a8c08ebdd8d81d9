"""The working points by conformal p-values, against all arrangements of a few events and against toys."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import betabinom, binomtest, kstest, norm

from dimuon.regions import MassWindow
from dimuon.statistics import conformal
from dimuon.statistics.conformal import BETWEEN, HIGH, LOW

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)


@pytest.mark.parametrize("k", [0, 1, 4])
def test_the_tail_is_that_of_all_arrangements(k):
    """n calibration and m SR events in every order alike: how many of the m lie above the (k + 1)st of the n."""
    n, m = 5, 4
    numbers = []
    for places in combinations(range(n + m), m):  # of the SR events, from the top
        calibration = [place for place in range(n + m) if place not in places]
        numbers.append(sum(place < calibration[k] for place in places))
    for n_obs in range(m + 1):
        counted = np.mean(np.array(numbers) >= n_obs)
        assert np.exp(conformal.log_tail(n_obs, m, k + 1, n - k)) == pytest.approx(counted, abs=1e-12)


def test_the_tail_is_that_of_another_library_and_goes_further():
    for n_obs, n, a, b in ((30, 400, 21.0, 380.0), (45, 400, 21.5, 380.5)):
        expected = betabinom.sf(n_obs - 1, n, a, b)
        assert np.exp(conformal.log_tail(n_obs, n, a, b)) == pytest.approx(expected, rel=1e-6)
    assert conformal.log_tail(2000, 2000, 11.0, 9990.0) < -1000  # where probabilities underflow
    assert conformal.log_tail(3, 3, 6.0, 0.0) == 0.0  # nothing is cut


def toy(rng, n=3000, drift=0.0, n_sig=0):
    """Masses, and scores whose logit has a mean that moves with the mass; the signal is scored higher."""
    mass = np.r_[5 + 11 * rng.beta(1.0, 1.6, n), rng.normal(9.6, 0.1, n_sig)]
    score = rng.normal(size=len(mass)) + drift * (mass - 9.8) + np.r_[np.zeros(n), np.full(n_sig, 2.0)]
    return mass, score


def by_name(mass, score, fprs):
    cuts = np.quantile(score[WINDOW.in_sidebands(mass)], 1 - np.asarray(fprs), method="higher")
    return {each.calibration: each for each in conformal.tests(mass, score >= cuts[:, None], WINDOW)}


def test_without_a_signal_small_p_values_are_no_more_frequent_than_they_say():
    rng = np.random.default_rng(3)
    p = {LOW: [], HIGH: [], BETWEEN: []}
    for _ in range(400):
        for name, tests in by_name(*toy(rng), [0.2]).items():
            p[name].append(tests.p_value[0])
    for name, values in p.items():
        assert kstest(values, "uniform", alternative="greater").pvalue > 1e-3, name  # no more small ones
        assert 0.4 < np.mean(values) < 0.6, name  # and not vacuous


def test_a_score_that_drifts_with_the_mass_deceives_each_sideband_but_not_both():
    rng = np.random.default_rng(4)
    z = {LOW: [], HIGH: [], BETWEEN: []}
    for _ in range(60):
        for name, tests in by_name(*toy(rng, drift=0.05), [0.2]).items():
            z[name].append(tests.z[0])
    low, high, between = (np.mean(z[name]) for name in (LOW, HIGH, BETWEEN))
    assert low > 1.0
    assert high < -0.8
    assert abs(between) < 4 / np.sqrt(60) + 0.2


def test_a_signal_is_found_as_by_a_binomial_test_less_what_few_calibration_events_cost():
    mass, score = toy(np.random.default_rng(5), n=12_000, n_sig=80)
    for tests in by_name(mass, score, [0.1, 0.02]).values():
        for n_obs, rate, p_value, z in zip(tests.n_obs, tests.rate, tests.p_value, tests.z, strict=True):
            known = norm.isf(binomtest(int(n_obs), tests.n_sr, rate, alternative="greater").pvalue)
            assert 2 < z < known < z + 1.0
            assert p_value == pytest.approx(norm.sf(z))


def test_a_cut_that_no_event_of_the_sr_passes_has_a_p_value_of_one():
    mass = np.r_[np.linspace(5, 8.9, 99), 9.5, 9.7, np.linspace(10.7, 16, 49)]
    score = np.r_[np.linspace(0, 1, 99), 0.0, 0.0, np.linspace(0, 1, 49)]
    for tests in by_name(mass, score, [0.1]).values():
        assert tests.p_value[0] == 1.0
        assert np.isnan(tests.z[0])


def test_the_smallest_p_value_of_one_event_is_that_of_its_calibration():
    mass = np.r_[np.linspace(5, 8.9, 99), 9.5, 9.7, np.linspace(10.7, 16, 49)]
    tests = by_name(mass, np.r_[np.zeros(99), 1.0, 0.5, np.zeros(49)], [0.5])
    assert tests[LOW].smallest == 1 / 100
    assert tests[HIGH].smallest == 1 / 50
    assert tests[LOW].smallest < tests[BETWEEN].smallest < tests[HIGH].smallest
