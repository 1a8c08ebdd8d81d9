"""Toy p-values against the asymptotic form where it holds, and the correlation of nested cuts."""

import numpy as np
import pytest
from scipy.special import ndtr

from dimuon.statistics import calibration, toys
from dimuon.statistics.families import Polynomial
from dimuon.statistics.significance import discoveries
from dimuon.statistics.spectra import Spectra
from tests.test_significance import BINS, expected_shape, masses

FAMILY = Polynomial(BINS, 5)


def spectrum(n_events, excess, scale=1.0):
    """One spectrum without fluctuations, and so many events too many in the SR."""
    counts = n_events * expected_shape()[None]
    counts[:, -1] += excess
    return Spectra(BINS, scale * counts, np.full(counts.shape, scale))


def test_local_toys_agree_with_the_asymptotic_form_at_high_counts():
    spectra = Spectra.joined([spectrum(12000, 60), spectrum(12000, 100, scale=2.5)])
    values = toys.local(spectra, FAMILY, 1500, np.random.default_rng(1))
    for value, p0 in zip(values, discoveries(spectra, FAMILY).p0, strict=True):
        assert abs(value.p0 - p0) < 3 * value.p0_err
        assert value.p0_err == pytest.approx(np.sqrt(value.p0 * (1 - value.p0) / 1500))
        assert not value.bound


def test_no_claim_beyond_the_reach_of_the_toys():
    value = toys.local(spectrum(12000, 500), FAMILY, 50, np.random.default_rng(1))[0]
    assert value.n_extreme == 0
    assert value.bound
    assert value.p0 == calibration.p_value(8.0, np.zeros(50)).p_high
    assert value.z0 < 2.1  # the data have 8


def test_no_excess_is_as_extreme_as_anything():
    value = toys.local(spectrum(500, -40), FAMILY, 50, np.random.default_rng(1))[0]
    assert (value.p0, value.z0) == (1.0, 0.0)


def test_the_same_cut_scanned_again_costs_nothing():
    # identical cuts are one test; disjoint ones would be many
    one = spectrum(3000, 60)
    same = toys.best_of_scan(Spectra.joined([one] * 5), FAMILY, 400, np.random.default_rng(1))
    single = toys.local(one, FAMILY, 400, np.random.default_rng(2))[0]
    assert abs(same.p - single.p0) < 4 * np.sqrt(2) * single.p0_err


def test_scanning_many_cuts_costs_significance():
    kept = 3000 / 2.0 ** np.arange(7)
    nested = Spectra.joined([spectrum(n, 1.8 * np.sqrt(n * 0.15)) for n in kept])
    local = discoveries(nested, FAMILY)
    value = toys.best_of_scan(nested, FAMILY, 400, np.random.default_rng(1))
    error = np.sqrt(value.p / 400)
    assert 1.5 * local.p0.min() < value.p < 7 * local.p0.min() + 3 * error  # Bonferroni is the upper end


def test_scanning_one_variable_three_times_costs_as_much_as_three():
    kept = 3000 / 2.0 ** np.arange(5)
    nested = Spectra.joined([spectrum(n, 2.2 * np.sqrt(n * 0.15)) for n in kept])
    one, three = (toys.best_of_scans([nested] * n, FAMILY, 400, np.random.default_rng(n)) for n in (1, 3))
    assert three.local == one.local
    assert three.p == pytest.approx(1 - (1 - one.p) ** 3, rel=0.4)


def test_toys_of_a_scan_are_nested_like_the_cuts():
    between = np.array([[30.0, 5.0], [20.0, 0.0], [10.0, 2.0]])
    counts = toys.nested_counts(between, 20000, np.random.default_rng(1))
    assert (np.diff(counts, axis=1) <= 0).all()
    np.testing.assert_allclose(counts.mean(axis=0), [[60, 7], [30, 2], [10, 2]], rtol=0.02)
    # a tighter cut's events are among a looser one's: their covariance is the tighter one's variance
    assert np.cov(counts[:, 0, 0], counts[:, 2, 0])[0, 1] == pytest.approx(10, rel=0.1)


def test_cuts_that_are_not_nested_are_an_error():
    with pytest.raises(ValueError, match="not nested"):
        toys.best_of_scan(Spectra.joined([spectrum(100, 0), spectrum(200, 0)]), FAMILY, 10, np.random.default_rng(1))


def test_equal_weights_are_calibrated():
    mass = masses(5000)
    behaviour, value = toys.weighted_calibration(mass, np.full(5000, 3.0), FAMILY, 1000, np.random.default_rng(1))
    assert behaviour.mean == pytest.approx(0, abs=4 / np.sqrt(1000))
    assert behaviour.std == pytest.approx(1, abs=4 / np.sqrt(2000))
    assert abs(behaviour.fraction[0] - ndtr(-1)) < 3 * behaviour.error[0]
    assert value.n_toys == 1000


def test_weights_of_many_sizes_bias_the_scaled_poisson():
    # a bin that happens to hold a heavy event gets a large scale and so a small say in the fit: the sidebands are
    # underestimated. The calibration must find that, or it would find nothing.
    rng = np.random.default_rng(1)
    behaviour, _ = toys.weighted_calibration(masses(5000), rng.exponential(size=5000) ** 2, FAMILY, 500, rng)
    assert behaviour.mean > 0.2
    weights = rng.exponential(size=5000) ** 2
    common, _ = toys.weighted_calibration(masses(5000), weights, FAMILY, 500, rng, pooled=True)
    assert common.mean == pytest.approx(0, abs=4 / np.sqrt(500))  # one scale for all the sidebands does not


def test_toys_are_repeatable():
    values = [toys.local(spectrum(50, 5), FAMILY, 30, np.random.default_rng(9))[0] for _ in range(2)]
    assert values[0] == values[1]
