"""Background functions against closed forms and each other, and the choices among them."""

from typing import get_args

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import xlogy

from dimuon.errors import AnalysisError
from dimuon.statistics import families, model_choice
from dimuon.statistics.families import FAMILIES, make
from dimuon.statistics.settings import Significance
from dimuon.statistics.significance import discoveries, sideband_fits
from dimuon.statistics.spectra import Spectra
from tests.test_significance import BINS, DECAY, expected_shape, toys

LOW, HIGH = Spectra.of([7.0], BINS).low, Spectra.of([7.0], BINS).high
EVERY = [(name, 4) for name in FAMILIES]


def fitted(name, degree, n_events=12000, seed=1):
    family, spectra = make(name, BINS, degree), toys(n_events, 1, seed)
    return family, family.fit(LOW[:-1], HIGH[:-1], spectra.counts[:, :-1]), spectra


@pytest.mark.parametrize(("name", "degree"), EVERY)
def test_expected_is_the_integral_of_the_density(name, degree):
    family, fit, _ = fitted(name, degree)
    for low, high in ((5.0, 6.1), (9.0, 10.6), (12.0, 12.2)):
        integral = quad(lambda mass: family.density(fit.coefficients, np.array([mass]))[0, 0], low, high)[0]
        assert family.expected(fit.coefficients, np.array([low]), np.array([high]))[0, 0] == pytest.approx(
            integral, rel=1e-7
        )


@pytest.mark.parametrize(("name", "degree"), EVERY)
def test_jacobian_is_the_derivative_of_expected(name, degree):
    family, fit, _ = fitted(name, degree)
    slope = family.jacobian(fit.coefficients, LOW, HIGH)[0]
    for j in range(family.n_coefficients):
        step = np.zeros((1, family.n_coefficients))
        step[0, j] = 1e-5 * max(abs(fit.coefficients[0, j]), 1.0)
        up, down = (family.expected(fit.coefficients + sign * step, LOW, HIGH)[0] for sign in (1, -1))
        np.testing.assert_allclose(
            slope[:, j], (up - down) / (2 * step[0, j]), rtol=1e-5, atol=1e-5 * abs(slope[:, j]).max()
        )


@pytest.mark.parametrize("name", ["exponential", "dijet3", "dijet4", "ua2"])
def test_log_linear_fits_are_at_their_minimum(name):
    family, fit, spectra = fitted(name, 3, n_events=2000)
    counts = spectra.counts[0, :-1]

    def height(coefficients):
        expected = family.expected(coefficients[None], LOW[:-1], HIGH[:-1])[0]
        return 2 * np.sum(expected - counts + xlogy(counts, counts / expected))

    start = fit.coefficients[0] + 0.05 * np.random.default_rng(1).normal(size=family.n_coefficients)
    other = minimize(height, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9, "maxiter": 20000})
    assert fit.deviance[0] <= other.fun + 1e-7
    assert fit.deviance[0] == pytest.approx(height(fit.coefficients[0]), abs=1e-9)
    assert (fit.gap < 1e-9).all()


def test_an_exponential_finds_the_exponential_it_was_given():
    exact = 12000 * expected_shape()[None]
    family = make("exponential", BINS, 1)
    fit = family.fit(LOW[:-1], HIGH[:-1], exact[:, :-1])
    assert fit.deviance[0] == pytest.approx(0, abs=1e-6)
    assert family.expected(fit.coefficients, LOW, HIGH)[0, -1] == pytest.approx(exact[0, -1], rel=1e-6)
    density = family.density(fit.coefficients, np.array([6.0, 6.0 + DECAY]))[0]
    assert density[0] / density[1] == pytest.approx(np.e, rel=1e-5)


def test_bernstein_and_legendre_are_the_same_polynomials():
    spectra = toys(12000, 20, seed=3)
    one, other = (discoveries(spectra, make(name, BINS, 3)) for name in ("polynomial", "bernstein"))
    inside = sideband_fits(spectra, make("bernstein", BINS, 3))
    free = np.array([fit.at_boundary == 0 for fit in inside])
    assert free.any()
    np.testing.assert_allclose(one.z_signed[free], other.z_signed[free], atol=2e-4)


def test_bernstein_is_nowhere_negative():
    family = make("bernstein", BINS, 6)
    fit = family.fit(LOW[:-1], HIGH[:-1], toys(12, 50, seed=1).counts[:, :-1])
    functions = fit.coefficients @ families._bernstein(np.linspace(-1, 1, 501), 6).T
    assert (functions >= -1e-9).all()


def test_dijet_functions_are_what_the_paper_writes():
    mass, x = np.array([6.0, 12.0]), np.array([6.0, 12.0]) / 13000
    for name, formula in {
        "dijet3": lambda c: np.exp(c[0]) * (1 - x) ** c[1] * x ** c[2],
        "dijet4": lambda c: np.exp(c[0]) * (1 - x) ** c[1] * x ** (c[2] + c[3] * np.log(x)),
        "ua2": lambda c: np.exp(c[0]) * x ** c[1] * np.exp(c[2] * x + c[3] * x**2),
    }.items():
        family, fit, _ = fitted(name, 4)
        natural = family._rotation @ fit.coefficients[0]
        density = family.density(fit.coefficients, mass)[0]
        np.testing.assert_allclose(density[0] / density[1], formula(natural)[0] / formula(natural)[1], rtol=1e-6)


def test_the_ladder_takes_the_first_rung_that_fits():
    spectra = Spectra.joined([toys(12000, 1, seed=1), _bent_spectrum()])
    rungs = tuple(make("exponential", BINS, degree) for degree in (1, 2, 3))
    ladder = model_choice.Ladder(rungs)
    chosen = ladder.chosen(spectra)
    assert [family.degree for family in chosen] == [1, 2]
    found = ladder.discoveries(spectra)
    for i, family in enumerate(chosen):
        alone = discoveries(spectra[i], family).one(0)
        assert (found.one(i).z_signed, found.one(i).chi2) == pytest.approx((alone.z_signed, alone.chi2), abs=1e-6)
        assert found.one(i).ndf == alone.ndf
    assert discoveries(spectra[1], rungs[0]).p_chi2[0] < 0.05 < found.p_chi2[1]


def test_the_f_test_stops_where_another_coefficient_does_not_help():
    model = model_choice.make_choice("f_test", BINS, "exponential", 6, 1.0)
    degrees = [family.degree for family in model.chosen(toys(12000, 200, seed=4))]
    assert np.mean(np.array(degrees) == 1) == pytest.approx(0.95, abs=0.05)  # a false step in p_max = 5 % of cases
    assert model.chosen(_bent_spectrum())[0].degree >= 2
    with pytest.raises(AnalysisError, match="F-test") as error:
        model_choice.make_choice("f_test", BINS, "ua2", 5, 1.0)
    assert error.value.setting == "choice"


def test_the_envelope_of_one_is_that_one():
    spectra = toys(3000, 10, seed=5)
    family = make("polynomial", BINS, 4)
    found = model_choice.Envelope((family,)).discoveries(spectra)
    np.testing.assert_allclose(found.q0, discoveries(spectra, family).q0, atol=1e-9)


def test_the_envelope_profiles_the_choice():
    spectra, penalty = toys(12000, 40, seed=6), 1.0
    candidates = tuple(make("polynomial", BINS, degree) for degree in (1, 3, 5))
    found = model_choice.Envelope(candidates, penalty).discoveries(spectra)
    outcomes = [discoveries(spectra, family) for family in candidates]
    pay = [penalty * family.n_coefficients for family in candidates]
    null = np.min(
        [outcome.deviance + outcome.z_signed**2 + p for outcome, p in zip(outcomes, pay, strict=True)], axis=0
    )
    free = np.min(
        [
            outcome.deviance + np.where(outcome.z_signed > 0, 0, outcome.z_signed**2) + p
            for outcome, p in zip(outcomes, pay, strict=True)
        ],
        axis=0,
    )
    np.testing.assert_allclose(found.q0, null - free, atol=1e-9)
    assert (found.q0 >= 0).all()


def test_unknown_names_are_errors():
    with pytest.raises(AnalysisError, match="unknown background family 'spline'; known: polynomial") as error:
        make("spline", BINS, 5)
    assert error.value.setting == "family"


def _bent_spectrum():
    middle = (LOW + HIGH) / 2
    counts = np.round(12000 * expected_shape() * np.exp(-0.02 * (middle - 10) ** 2))[None]
    return Spectra(BINS, counts, np.ones_like(counts))


@pytest.mark.parametrize("choice", ["fixed", "ladder", "f_test", "envelope"])
def test_every_choice_is_a_model_of_the_spectrum(choice):
    """One family and each choice among several answer alike: the same call, a family for each spectrum."""
    settings = Significance(choice=choice, degree=3)
    model, spectra = model_choice.model_of(settings, BINS.window), toys(3000, 2, seed=8)
    outcomes = discoveries(spectra, model)
    assert outcomes.z0.shape == (2,)
    assert [family.bins for family in model.chosen(spectra)] == [model.bins] * 2
    assert model.degree >= 2
    assert model_choice.describe(settings)


def test_every_family_of_the_settings_is_known():
    names = get_args(Significance.model_fields["family"].annotation)
    assert set(names) == set(FAMILIES)
