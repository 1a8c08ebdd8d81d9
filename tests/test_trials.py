"""Upcrossings and Euler characteristics against closed forms, and what is said where nothing can be."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import log_ndtr, ndtr
from scipy.stats import multivariate_normal as bivariate
from scipy.stats import norm

from dimuon.statistics import trials
from dimuon.statistics.trials import GlobalSignificance, Tail, euler_characteristic, upcrossings

ARC = 2.0  # below pi the arc of the process below is crossed at most once


def arcs(n, seed=1):
    """(n, 60) of Z(t) = a cos t + b sin t for t from 0 to `ARC`, a and b normal: a Gaussian process, its largest known.

    With (a, b) in polar coordinates, P(max Z > u) = P(Z(0) > u) + ARC / (2 pi) exp(-u^2 / 2), exactly.
    """
    t = np.linspace(0, ARC, 60)
    a, b = np.random.default_rng(seed).normal(size=(2, n, 1))
    return a * np.cos(t) + b * np.sin(t)


def test_upcrossings_follow_the_formula_of_rice():
    # sum of waves of frequencies k: lambda_2 = mean k^2, rate sqrt(lambda_2) / (2 pi) exp(-u^2 / 2)
    rng, k = np.random.default_rng(2), np.array([1.0, 2.0, 3.0, 5.0])
    t = np.linspace(0, 2 * np.pi, 400)
    a, b = rng.normal(size=(2, 3000, len(k))) / np.sqrt(len(k))
    z = a @ np.cos(np.outer(k, t)) + b @ np.sin(np.outer(k, t))
    for level in (0.5, 1.0, 2.0):
        counted = upcrossings(z, level)
        expected = np.sqrt(np.mean(k**2)) * np.exp(-(level**2) / 2)
        assert abs(counted.mean() - expected) < 4 * counted.std() / np.sqrt(len(z))


def test_the_tail_is_that_of_the_closed_form():
    z = arcs(20_000)
    for observed in (3.0, 5.0, 22.0):
        tail = trials.upcrossing_tail([z], observed)
        exact = np.logaddexp(log_ndtr(-observed), np.log(ARC / (2 * np.pi)) - observed**2 / 2)
        value, low, high = tail.log_p(observed)
        assert low < value < high
        assert abs(value - exact) < 3 * (high - low) / 2
        assert tail.levels[0] < observed


def walks(n, kept, seed=4):
    """(n, n_points) of Z after nested cuts, if counts were normal: sums over what is kept, at unit variance."""
    steps = np.sqrt(np.append(-np.diff(kept), kept[-1]))
    drawn = np.random.default_rng(seed).normal(size=(n, len(kept))) * steps
    return drawn[:, ::-1].cumsum(axis=1)[:, ::-1] / np.sqrt(kept)


def test_of_nested_cuts_the_crossings_are_those_of_normal_pairs():
    r = trials.correlations(np.geomspace(1, 0.01, 9))
    for u in (0.5, 1.0, 3.0):
        ratio = np.exp((4 - u * u) / 2) * trials._steepness(u, r) / trials._steepness(2.0, r)
        pairs = [sum(norm.cdf(z) - bivariate.cdf([z, z], cov=[[1, each], [each, 1]]) for each in r) for z in (u, 2.0)]
        assert ratio == pytest.approx(pairs[0] / pairs[1], rel=2e-3)


def test_of_fine_steps_the_fall_is_the_exponential():
    r = trials.correlations(np.geomspace(1, 0.5, 20_000))
    assert trials._steepness(4.0, r) == pytest.approx(trials._steepness(2.0, r), rel=0.05)
    coarse = trials.correlations(np.geomspace(1, 0.001, 25))
    assert trials._steepness(4.0, coarse) < 0.9 * trials._steepness(2.0, coarse)  # fewer of high levels


def test_the_best_of_nested_cuts_from_few_null_experiments():
    kept = np.geomspace(1, 0.001, 25)
    z = walks(200_000, kept)
    tails = [trials.upcrossing_tail([part], 3.5, kept) for part in z[:20_000].reshape(20, 1000, -1)]
    predicted = np.mean([np.exp(tail.log_p(3.5)[0]) for tail in tails])
    counted = np.mean(z.max(axis=1) > 3.5)
    assert predicted == pytest.approx(counted, rel=0.15)
    # not so with the exponential of a smooth process, from a level as low as few null experiments allow
    few = [trials.upcrossing_tail([part], 4.5, kept) for part in z[:20_000].reshape(200, 100, -1)]
    smooth = [replace(tail, correlations=()) for tail in few]
    rough, exponential = (np.mean([np.exp(tail.log_p(4.5)[0]) for tail in tails]) for tails in (few, smooth))
    assert rough < 0.9 * exponential


def test_of_equal_chains_the_trials_add_up():
    z = arcs(5000)
    one, three = (trials.upcrossing_tail([z] * n, 4.0) for n in (1, 3))
    # the level is chosen by all crossings, so it may differ: the number of trials may not
    assert three.coefficients[0] == pytest.approx(3 * one.coefficients[0], rel=0.3)


def test_an_extrapolation_says_that_it_is_one():
    z = arcs(1000)
    value = GlobalSignificance.of(22.0, z.max(axis=1), "toys", trials.upcrossing_tail([z], 22.0))
    assert (value.n_above, value.bound) == (0, None)
    exact = np.logaddexp(log_ndtr(-22.0), np.log(ARC / (2 * np.pi)) - 22.0**2 / 2)
    assert value.z0 == pytest.approx(trials.significance_of_log(exact), abs=0.02)
    assert value.z0_low < value.z0 < value.z0_high < 22.0
    assert f"global Z0 = {value.z0:.2f} ± {value.error:.2f}, extrapolated from level {value.tail.levels[0]:g}" in str(
        value
    )
    assert GlobalSignificance.from_json(json.loads(json.dumps(value.to_json()))) == value


def test_beyond_the_smallest_float_there_is_still_a_number():
    tail = Tail(trials.UPCROSSINGS, (1.0,), 100, 50, (0.8, 0.0), ((0.01, 0.0), (0.0, 0.0)))
    value = GlobalSignificance.of(60.0, np.zeros(100), "toys", tail)
    assert value.p == 0.0  # of a float
    assert 59.5 < value.z0 < 60.0


def test_what_is_counted_is_not_extrapolated():
    z = arcs(20_000)
    value = GlobalSignificance.of(2.0, z.max(axis=1), "toys", trials.upcrossing_tail([z], 2.0))
    assert value.tail is None
    exact = norm.sf(2.0) + ARC / (2 * np.pi) * np.exp(-2.0)
    assert value.p == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000))
    assert value.z0_low < norm.isf(exact) < value.z0_high or abs(value.z0 - norm.isf(exact)) < 4 * value.error
    assert "above" in str(value)


def test_a_bound_never_looks_like_a_value():
    beyond = GlobalSignificance.of(5.0, np.zeros(20), "null datasets")
    assert (beyond.z0, beyond.p, beyond.error) == (None, None, None)
    assert beyond.text == f"> {beyond.bound:.1f}"
    # no null experiment at or above p at 84 %: (1 - p)^20 = 0.1587
    assert ndtr(-beyond.bound) == pytest.approx(1 - 0.158655 ** (1 / 20), rel=1e-3)
    assert "too few to extrapolate from" in str(beyond)
    assert trials.upcrossing_tail([arcs(20)], 5.0) is None  # 20 null experiments cross no level 25 times


def test_failed_null_experiments_count_as_above():
    value = GlobalSignificance.of(5.0, np.zeros(90), "null datasets", n_failed=10)
    assert (value.n, value.n_above, value.p) == (100, 10, 0.1)


def test_the_level_is_the_highest_that_is_crossed_often_and_below_the_data():
    totals = {0.5: 400, 1.0: 200, 1.5: 30, 2.0: 24}
    assert trials.level_of(totals, 4.0) == 1.5
    assert trials.level_of(totals, 1.2) is None
    assert trials.level_of({1.5: 24}, 4.0) is None


def fields(n, width=3.0, size=16, seed=3):
    """(n, size, size) of smooth Gaussian fields of unit variance."""
    noise = np.random.default_rng(seed).normal(size=(n, size + 24, size + 24))
    smooth = ndimage.gaussian_filter(noise, (0, width, width))[:, 12:-12, 12:-12]
    return smooth / smooth.std()


def test_euler_characteristics_are_parts_less_holes():
    z = fields(200, width=1.0)
    for level in (-0.5, 0.5, 1.5):
        for field, counted in zip(z, euler_characteristic(z, level), strict=True):
            above = field > level
            parts = ndimage.label(above)[1]
            outside = np.pad(~above, 1, constant_values=True)
            holes = ndimage.label(outside, np.ones((3, 3)))[1] - 1
            assert counted == parts - holes


@pytest.mark.slow
def test_the_tail_of_a_field_from_its_euler_characteristic():
    z = fields(12_000)
    largest = z.max(axis=(1, 2))
    for u in (3.0, 3.5):
        few = z[:2000]
        tail = trials.euler_tail({level: euler_characteristic(few, level) for level in trials.LEVELS}, u)
        counted = np.mean(largest > u)
        predicted = np.exp(tail.log_p(u)[0])
        assert predicted == pytest.approx(counted, rel=0.25)
        assert predicted > 5 * norm.sf(u)  # of one point alone


def test_a_point_without_a_value_is_below_every_level():
    z = np.full((1, 3, 3), 2.0)
    z[0, 1, 1] = np.nan
    assert euler_characteristic(z, 1.0).tolist() == [0]  # one part with a hole
