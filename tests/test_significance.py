"""The test statistic against closed form, against MINUIT, against published masses, and on bad input."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr
from scipy.stats import chi2 as chi2_distribution

from dimuon.regions import MassWindow
from dimuon.statistics import poisson_fits
from dimuon.statistics.families import Polynomial
from dimuon.statistics.likelihood_ratio import MIN_BACKGROUND
from dimuon.statistics.poisson_fits import FitError, deviance
from dimuon.statistics.significance import discoveries, discovery, fit_sidebands, likelihood_weights
from dimuon.statistics.spectra import Spectra
from tests import minuit

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
BINS = WINDOW.binning(11)
DECAY = 6.75  # GeV: a spectrum that falls like the published one


def expected_shape(bins=BINS):
    """Shares of the sideband bins and, last, the SR in a spectrum exp(-m / DECAY)."""
    spectra = Spectra.of([7.0], bins)
    share = np.exp(-spectra.low / DECAY) - np.exp(-spectra.high / DECAY)
    return share / share.sum()


def toys(n_events, n_toys, seed, bins=BINS):
    counts = np.random.default_rng(seed).poisson(n_events * expected_shape(bins), (n_toys, len(expected_shape(bins))))
    return Spectra(bins, counts.astype(float), np.ones(counts.shape))


def masses(n_events, seed=0):
    """Masses between 5 and 16 GeV from exp(-m / DECAY)."""
    u = np.random.default_rng(seed).uniform(size=n_events)
    ends = np.exp(-5.0 / DECAY), np.exp(-16.0 / DECAY)
    return -DECAY * np.log(ends[0] - u * (ends[0] - ends[1]))


@pytest.mark.slow
@pytest.mark.parametrize("sample", ["os", "ss", "os_before_isolation"])
def test_published_masses_give_the_certified_minimum(reference, sample):
    values = json.loads((reference / "reference" / "published.json").read_text())["exact_fit_on_real_masses"]["values"]
    file = "masses_os_before_isolation" if sample == "os_before_isolation" else f"upsilon_{sample}"
    mass = pd.read_parquet(reference / "real" / f"{file}.parquet")["dimu_mass"].to_numpy()
    chosen = {key: value for key, value in values.items() if key.startswith(f"{sample}/")}
    assert len(chosen) == 9
    for key, value in chosen.items():
        degree, n_bins = (int(number) for number in re.findall(r"/degree(\d+)/bins(\d+)", key)[0])
        found = discovery(mass, WINDOW, n_bins_sr=n_bins, degree=degree)
        assert found.z0 == pytest.approx(value["z0"], abs=2e-4), key  # published to four decimals
        assert found.n_bkg == pytest.approx(value["n_bkg"], abs=0.02), key
        assert found.n_sig == pytest.approx(value["n_sig"], abs=0.02), key
        bins = WINDOW.binning(n_bins)
        assert found.z0 == pytest.approx(minuit.z0(Spectra.of(mass, bins).counts[0], bins, degree), abs=1e-4), key


@pytest.mark.slow
def test_minuit_finds_the_same_z0():
    # six sizes down to 10 events, with and without an excess; 500 of them in the slow test
    _compare_with_minuit(n_each=3)


@pytest.mark.slow
def test_minuit_finds_the_same_z0_in_500_histograms():
    _compare_with_minuit(n_each=84)


def _compare_with_minuit(n_each):
    rng = np.random.default_rng(3)
    for n_events in (12000, 1000, 300, 100, 30, 10):
        counts = toys(n_events, n_each, seed=n_events).counts
        counts[:, -1] += rng.poisson(2 * np.sqrt(n_events * expected_shape()[-1]), n_each)
        found = discoveries(Spectra(BINS, counts, np.ones(counts.shape)), Polynomial(BINS, 5))
        other = [minuit.z0(row, BINS, 5) for row in counts]
        np.testing.assert_allclose(found.z0, other, atol=1e-4)  # MINUIT's own distance from the minimum


def test_flat_background_is_the_on_off_problem():
    # Li & Ma 1983, Eq. 17; Cowan et al. 2008: a flat background measured in a sideband tau times as wide
    n_on, spectra = 60.0, toys(400, 1, seed=1)
    counts = spectra.counts.copy()
    counts[:, -1] = n_on
    n_off, tau = counts[0, :-1].sum(), np.sum((spectra.high - spectra.low)[:-1]) / 1.6
    found = discoveries(Spectra(BINS, counts, np.ones(counts.shape)), Polynomial(BINS, 0)).one(0)
    total = n_on + n_off
    q0 = 2 * (n_on * np.log(n_on * (1 + tau) / total) + n_off * np.log(n_off * (1 + tau) / (tau * total)))
    assert found.q0 == pytest.approx(q0, rel=1e-9)
    assert found.n_bkg == pytest.approx(n_off / tau, rel=1e-9)
    assert found.n_bkg_err == pytest.approx(np.sqrt(n_off) / tau, rel=1e-6)
    assert found.p0 == pytest.approx(ndtr(-np.sqrt(q0)), rel=1e-9)


def test_no_point_inside_the_constraints_is_likelier():
    rng = np.random.default_rng(5)
    family, low, high = Polynomial(BINS, 5), Spectra.of([7.0], BINS).low[:-1], Spectra.of([7.0], BINS).high[:-1]
    for n_events in (30, 300, 3000):
        counts = toys(n_events, 1, seed=n_events).counts[:, :-1]
        fit = family.fit(low, high, counts)
        for size in (1e-3, 1e-1):
            nearby = fit.coefficients + size * n_events / 60 * rng.normal(size=(2000, 6))
            allowed = (family.expected(nearby, BINS.edges[:-1], BINS.edges[1:]) >= 0).all(axis=1)
            expected = family.expected(nearby[allowed], low, high)
            assert (deviance(counts, np.maximum(expected, 1e-300)) > fit.deviance - 1e-8).all()


@pytest.mark.parametrize("n_events", [12000, 300, 10])
def test_fit_certificate_and_sums(n_events):
    spectra = toys(n_events, 200, seed=2)
    fit = Polynomial(BINS, 5).fit(spectra.low[:-1], spectra.high[:-1], spectra.counts[:, :-1])
    assert (fit.gap < poisson_fits.TOLERANCE).all()
    assert (fit.min_eigenvalue > 0).all()
    assert (fit.gradient_norm < 1e-6).all()
    assert (fit.expected >= 0).all()
    # scaling the polynomial is allowed by every constraint, so at the minimum the totals agree
    np.testing.assert_allclose(fit.expected.sum(axis=1), spectra.counts[:, :-1].sum(axis=1), rtol=1e-7, atol=1e-7)
    assert (fit.at_boundary > 0).any() == (n_events < 1000)


def test_a_fit_that_is_not_at_its_minimum_raises(monkeypatch):
    monkeypatch.setattr(poisson_fits, "MAX_STEPS", 4)
    with pytest.raises(FitError, match="1 of 1 fits are not at their minimum; the first, to .* events, stays"):
        discovery(masses(300), WINDOW)


@pytest.mark.parametrize("displacement", [1e-3, 1e-2])
def test_distance_from_the_minimum_is_what_is_left(displacement):
    # five bins of 60 events, one coefficient: its minimum is at u = 1 and ln L is known everywhere
    rows, a, b, empty = np.ones((5, 1)), np.full((1, 5), 60.0), np.full((1, 5), 60.0), np.zeros((1, 5))
    u = np.full((1, 5), 1 + displacement)
    left = 300 * (displacement - np.log1p(displacement))
    hessian = poisson_fits._hessian(poisson_fits._outer(rows), b / u**2, 1)
    distance = poisson_fits._distance(rows, a, b, empty, u, b / u, hessian)[0]
    assert left < distance < 2.1 * left  # the Newton decrement is twice what is left


def test_no_bin_of_the_sr_is_negative_either():
    # nothing near the SR: the likelihood alone would let the polynomial dip below zero there
    mass = np.r_[np.linspace(5.1, 6.5, 30), np.linspace(13.5, 15.8, 30)]
    fit = fit_sidebands(mass, WINDOW)
    assert (fit.expected(BINS.edges) >= 0).all()
    assert fit.at_boundary > 0


def test_certificate_refuses_a_displaced_solution(monkeypatch):
    honest = poisson_fits._interior_point

    def displaced(*arguments, **keywords):
        point = honest(*arguments, **keywords)
        point.gap[:] = 1e-3
        return point

    monkeypatch.setattr(poisson_fits, "_interior_point", displaced)
    with pytest.raises(FitError):
        discovery(masses(500), WINDOW)


def test_one_at_a_time_or_all_at_once_is_the_same(monkeypatch):
    monkeypatch.setattr(poisson_fits, "CHUNK", 7)
    spectra, family = toys(200, 20, seed=6), Polynomial(BINS, 5)
    together = discoveries(spectra, family)
    alone = [discoveries(spectra[i], family).one(0).q0 for i in range(20)]
    np.testing.assert_allclose(together.q0, alone, atol=1e-8)


def test_background_only_toys_follow_the_asymptotic_form():
    z0 = discoveries(toys(12000, 20000, seed=7), Polynomial(BINS, 5)).z0
    for z in (1, 2, 3):
        p = ndtr(-z)
        assert abs(np.mean(z0 > z) - p) < 3 * np.sqrt(p * (1 - p) / len(z0))  # three binomial standard deviations


def test_background_error_is_the_spread_of_the_estimate():
    found = discoveries(toys(3000, 2000, seed=8), Polynomial(BINS, 5))
    assert np.std(found.n_bkg) == pytest.approx(np.mean(found.n_bkg_err), rel=0.06)  # 1.6 % from 2000 toys, thrice
    assert np.mean(found.n_bkg) == pytest.approx(3000 * expected_shape()[-1], rel=0.02)


def test_goodness_of_fit_is_uniform_for_a_good_model_and_small_for_a_bad_one():
    spectra = toys(12000, 2000, seed=9)
    good, bad = (discoveries(spectra, Polynomial(BINS, degree)) for degree in (5, 1))
    assert np.mean(good.p_chi2 < 0.1) == pytest.approx(0.1, abs=0.03)
    assert np.mean(good.p_saturated < 0.1) == pytest.approx(0.1, abs=0.03)
    assert good.ndf[0] == len(spectra.low) - 1 - 6
    assert np.median(bad.p_chi2) < 1e-3
    assert bad.p_chi2[0] == pytest.approx(chi2_distribution.sf(bad.chi2[0], bad.ndf[0]), rel=1e-9)


@pytest.mark.parametrize("factor", [1e-6, 0.5, 3.3, 1e6])
def test_rescaled_weights_leave_z0_as_it_is(factor):
    mass, rng = masses(3000), np.random.default_rng(1)
    weights = rng.exponential(size=3000)
    plain, scaled = (discovery(mass, WINDOW, weights=w) for w in (weights, factor * weights))
    assert scaled.z0 == pytest.approx(plain.z0, abs=1e-6)
    assert scaled.n_bkg == pytest.approx(factor * plain.n_bkg, rel=1e-6)
    assert scaled.n_bkg_err == pytest.approx(factor * plain.n_bkg_err, rel=1e-6)
    assert discovery(mass, WINDOW, weights=np.full(3000, factor)).z0 == pytest.approx(
        discovery(mass, WINDOW).z0, abs=1e-6
    )


def test_zero_weights_count_as_absent():
    mass = masses(1000)
    weights = (np.arange(1000) % 2).astype(float)
    weighted, fewer = discovery(mass, WINDOW, weights=weights), discovery(mass[1::2], WINDOW)
    assert weighted.to_json() == pytest.approx(fewer.to_json(), rel=1e-9, abs=1e-9)


def test_scaled_poisson_scales():
    spectra = Spectra.of([6.0, 6.01, 9.5, 12.0], BINS, weights=np.array([1.0, 3.0, 2.0, 5.0]))
    filled = spectra.counts[0] > 0
    np.testing.assert_allclose(sorted(spectra.scales[0][filled]), [2.0, 10 / 4, 5.0])
    np.testing.assert_allclose(
        spectra.scales[0][~filled], (1 + 9 + 4 + 25) / 11
    )  # an empty bin takes the whole sample's


def test_sideband_fit_density_and_integrals_agree():
    fit = fit_sidebands(masses(3000), WINDOW)
    edges = np.array([5.0, 5.3, 9.0, 9.7, 10.6, 16.0])
    for low, high, integral in zip(edges[:-1], edges[1:], fit.expected(edges), strict=True):
        nodes, weight = np.polynomial.legendre.leggauss(20)
        mass = (low + high) / 2 + (high - low) / 2 * nodes
        assert (high - low) / 2 * fit.density(mass) @ weight == pytest.approx(integral, rel=1e-9)
    assert fit.expected([9.0, 10.6])[0] == pytest.approx(discovery(masses(3000), WINDOW).n_bkg, rel=1e-12)
    assert fit.expected_err([9.0, 10.6])[0] == pytest.approx(discovery(masses(3000), WINDOW).n_bkg_err, rel=1e-12)
    np.linalg.cholesky(fit.covariance)


def test_density_is_never_negative():
    mass = np.linspace(5.0, 16.0, 2001)
    for seed in range(20):
        fit = fit_sidebands(masses(15, seed), WINDOW)
        assert (fit.density(mass) >= 0).all()
        assert (fit.expected(BINS.edges) >= 0).all()


def test_too_few_events_are_marked():
    assert discovery(masses(12000), WINDOW).valid
    few = discovery(masses(100), WINDOW)
    assert few.n_bkg < MIN_BACKGROUND
    assert not few.valid


def test_likelihood_weights():
    # z = p_data / (p_data + p_bkg) with p_data = mu p_sig + (1 - mu) p_bkg gives back p_sig / p_bkg (paper, Eq. 1)
    ratio, mu = np.array([0.0, 0.3, 1.0, 7.0]), 0.2
    p_data = mu * ratio + (1 - mu)
    score = p_data / (p_data + 1)
    np.testing.assert_allclose(likelihood_weights(score, 20.0, 80.0), ratio, atol=1e-12)
    assert likelihood_weights([0.1], 20.0, 80.0) == 0  # negative: the most background-like
    with pytest.raises(ValueError, match="no excess"):
        likelihood_weights(score, 0.0, 80.0)
    with pytest.raises(ValueError, match=r"score 1 of event 1 is not in \[0, 1\)"):
        likelihood_weights([0.5, 1.0], 20.0, 80.0)


# bad input: each gets an error or a defined answer


def test_no_event_in_the_sr_is_no_excess():
    mass = masses(2000)
    found = discovery(mass[WINDOW.in_sidebands(mass)], WINDOW)
    assert (found.n_obs, found.q0, found.z0, found.n_sig) == (0, 0, 0, 0)
    assert found.p0 == 0.5


def test_no_event_in_one_sideband_is_fitted_from_the_other():
    mass = masses(2000)
    for empty in (WINDOW.in_sbl(mass), WINDOW.in_sbh(mass)):
        found = discovery(mass[~empty], WINDOW)
        assert np.isfinite([found.z0, found.n_bkg]).all()
        assert found.n_bkg >= 0
        assert found.at_boundary > 0  # the empty side holds the fit at zero, and that is said


@pytest.mark.parametrize("mass", [[], [9.5, 10.0], [3.0, 20.0]])
def test_no_event_in_the_sidebands_is_an_error(mass):
    for test in (discovery, fit_sidebands):
        with pytest.raises(ValueError, match="no event in the sidebands"):
            test(mass, WINDOW)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_errors(bad):
    with pytest.raises(ValueError, match="mass of event 1 is"):
        discovery([6.0, bad, 12.0], WINDOW)
    with pytest.raises(ValueError, match="weight of event 0 is"):
        discovery([6.0, 12.0], WINDOW, weights=[bad, 1.0])
    with pytest.raises(ValueError, match="score of event 1 is"):
        likelihood_weights([0.5, bad], 20.0, 80.0)


def test_negative_and_vanishing_weights_are_errors():
    with pytest.raises(ValueError, match="weight -1 of event 1 is negative"):
        discovery([6.0, 12.0], WINDOW, weights=[1.0, -1.0])
    with pytest.raises(ValueError, match="every weight is zero"):
        discovery([6.0, 12.0], WINDOW, weights=[0.0, 0.0])


def test_a_weight_for_every_mass():
    with pytest.raises(ValueError, match="1 weights for 2 masses"):
        discovery([6.0, 12.0], WINDOW, weights=[1.0])


def test_masses_on_an_edge_belong_to_the_region_that_the_window_says():
    for mass, sr in ((9.0, 1), (10.6, 1), (np.nextafter(9.0, 0), 0), (np.nextafter(10.6, 11), 0)):
        assert Spectra.of([mass], BINS).counts[0, -1] == sr
    assert Spectra.of(BINS.edges, BINS).counts.sum() == len(BINS.edges)


def test_a_degree_beyond_the_bins_is_an_error():
    coarse = MassWindow(5.0, 9.0, 10.6, 16.0)  # one SR bin: two sideband bins below and three above
    assert discovery(masses(2000), coarse, n_bins_sr=1, degree=4).ndf == 0
    with pytest.raises(ValueError, match="6 coefficients cannot be determined from 5 bins"):
        discovery(masses(2000), coarse, n_bins_sr=1, degree=5)


def test_more_coefficients_than_filled_bins_still_has_one_answer():
    found = discovery([5.5, 7.0, 9.5, 12.0], WINDOW, degree=9)
    assert found.z0 == pytest.approx(minuit.z0(Spectra.of([5.5, 7.0, 9.5, 12.0], BINS).counts[0], BINS, 9), abs=2e-3)
    assert not found.valid
