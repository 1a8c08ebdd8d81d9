"""The test as a pyhf workspace: pyhf, by a minimiser of its own, finds the same q0."""

import numpy as np
import pandas as pd
import pytest

from dimuon import MassWindow, Stream
from dimuon.errors import AnalysisError
from dimuon.statistics.families import Bernstein, Exponential, Polynomial, make
from dimuon.statistics.significance import discoveries
from dimuon.statistics.spectra import Spectra
from dimuon.statistics.working_points import CutVariable

pyhf = pytest.importorskip("pyhf")
from dimuon.exports.workspace import SpectrumTest  # noqa: E402

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
BINS = WINDOW.binning(11)
POINTS = [(fpr, degree) for fpr in (1.0, 0.25, 0.1) for degree in (3, 5, 7)] + [(0.05, 3)]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def _minuit():
    """The package checks itself with pyhf's default, SLSQP; here MINUIT looks for the minimum."""
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-4))
    yield
    pyhf.set_backend("numpy", "scipy")


def fitted(content):
    """(q0, best-fit mu) by pyhf alone, from the workspace as it is written."""
    workspace = pyhf.Workspace(content)
    model = workspace.model(measurement_name="discovery")
    data = workspace.data(model)
    where = model.config.suggested_init(), model.config.suggested_bounds(), model.config.suggested_fixed()
    q0 = pyhf.infer.test_statistics.q0(0.0, data, model, *where)
    return float(q0), float(pyhf.infer.mle.fit(data, model)[model.config.poi_index])


def sample(n_events=12_000, n_peak=200):
    """Masses that fall over the window with a peak in the SR, and scores by which the peak stands out."""
    rng = Stream(5).child("workspace").generator()
    mass = np.r_[5 + 11 * rng.beta(1.0, 1.6, n_events), rng.normal(9.46, 0.1, n_peak)]
    score = np.r_[rng.beta(2, 3, n_events), rng.beta(4, 2, n_peak)]
    return mass, score


def cut(fpr):
    """The spectrum of the toy after a cut on the score."""
    mass, score = sample()
    return CutVariable("cathode", score).spectra(mass, BINS, [fpr])[0]


@pytest.mark.slow
@pytest.mark.parametrize(("fpr", "degree"), POINTS)
def test_q0_of_a_working_point(fpr, degree):
    spectrum, family = cut(fpr), Polynomial(BINS, degree)
    ours, test = discoveries(spectrum, family).one(0), SpectrumTest(spectrum, family)
    assert test.agreement().held_at_zero == 0  # else the models differ
    q0, mu = fitted(test.workspace())
    assert ours.q0 > 1
    assert q0 == pytest.approx(ours.q0, rel=0.01)
    assert mu * test.signal_unit == pytest.approx(ours.n_sig, rel=0.01)
    assert test.agreement().agrees


@pytest.mark.parametrize("pooled", [False, True])
def test_q0_of_weighted_events(pooled):
    mass, score = sample()
    weights = np.maximum((score - 0.4) / (1 - score), 0)
    spectrum = Spectra.of(mass, BINS, weights, pooled=pooled)
    ours = discoveries(spectrum, Polynomial(BINS, 5)).one(0)
    test = SpectrumTest(spectrum, Polynomial(BINS, 5))
    q0, mu = fitted(test.workspace())
    assert ours.q0 > 1
    assert q0 == pytest.approx(ours.q0, rel=0.01)
    assert mu * test.signal_unit == pytest.approx(ours.n_sig, rel=0.01)
    unweighted = discoveries(Spectra(BINS, spectrum.counts, np.ones_like(spectrum.counts)), Polynomial(BINS, 5)).one(0)
    assert abs(q0 - unweighted.q0) > 0.1 * q0  # the scales matter


@pytest.mark.slow
@pytest.mark.parametrize("degree", [3, 5])
@pytest.mark.parametrize("fpr", [1.0, 0.25, 0.1])
def test_q0_of_the_cms_data(reference, fpr, degree):
    """Opposite-sign dimuons after a cut on their pT, and on no feature at FPR 1."""
    table = pd.read_parquet(reference / "real" / "upsilon_os.parquet")
    mass, pt = (table[name].to_numpy(dtype=float) for name in ("dimu_mass", "dimu_pt"))
    spectrum, family = CutVariable("dimu_pt", pt).spectra(mass, BINS, [fpr])[0], Polynomial(BINS, degree)
    ours, test = discoveries(spectrum, family).one(0), SpectrumTest(spectrum, family)
    assert test.agreement().held_at_zero == 0
    q0, _ = fitted(test.workspace())
    assert q0 == pytest.approx(ours.q0, rel=0.01, abs=1e-3)


def test_no_excess_is_q0_zero():
    mass, _ = sample(n_peak=0)
    kept = mass[~(WINDOW.in_sr(mass) & (np.arange(len(mass)) % 5 == 0))]  # a fifth of the SR is missing
    test = SpectrumTest(Spectra.of(kept, BINS), Polynomial(BINS, 5))
    q0, mu = fitted(test.workspace())
    assert q0 == pytest.approx(0, abs=1e-6)
    assert mu == pytest.approx(0, abs=1e-6)
    assert test.agreement().agrees


def test_coefficients_that_may_not_be_negative():
    """Few events, at which the Bernstein coefficients lie on their limit: the workspace has the same."""
    mass, _ = sample()
    spectrum, family = Spectra.of(mass[::100], BINS), Bernstein(BINS, 5)
    ours = discoveries(spectrum, family).one(0)
    assert ours.at_boundary > 0
    content = SpectrumTest.of(spectrum, family).workspace()
    bounds = [each["bounds"][0] for each in content["measurements"][0]["config"]["parameters"]]
    assert all(low == 0 for low, _ in bounds)
    assert fitted(content)[0] == pytest.approx(ours.q0, rel=0.01, abs=1e-3)


@pytest.mark.slow
def test_where_the_models_differ_it_is_said():
    """After a hard cut this package holds the background at zero in some bins, which templates do not know."""
    mass, _ = sample()
    spectra = [Spectra.of(mass[start::400], BINS) for start in range(8)]
    tests = [SpectrumTest.of(spectrum, Polynomial(BINS, 7)) for spectrum in spectra]
    differing = [(test, agreement) for test in tests if not (agreement := test.agreement()).agrees]
    assert differing
    for test, agreement in differing:
        assert agreement.held_at_zero > 0
        assert "the background is held at zero in" in agreement.reason
        # what the workspace does hold is a polynomial without negative Bernstein coefficients, to which pyhf agrees
        assert test.non_negative
        held = discoveries(test.spectrum, Bernstein(BINS, 7)).one(0)
        assert agreement.q0_pyhf == pytest.approx(held.q0, rel=0.01, abs=1e-3)
    assert all(test.agreement().agrees and not test.non_negative for test in tests if not test.agreement().held_at_zero)


def test_the_templates_are_the_polynomial():
    """The samples at the parameters where the fits begin add up to this package's own fit to the sidebands."""
    spectrum, family = cut(0.1), Polynomial(BINS, 5)
    content = SpectrumTest(spectrum, family).workspace()
    start = {each["name"]: each["inits"][0] for each in content["measurements"][0]["config"]["parameters"]}
    expected = [
        sum(start[part["name"]] * np.array(part["data"]) for part in channel["samples"] if part["name"] != "signal")
        for channel in content["channels"]
    ]
    fit = family.fit(spectrum.low[:-1], spectrum.high[:-1], spectrum.counts[:, :-1], spectrum.scales[:, :-1])
    own = family.expected(fit.coefficients, spectrum.low, spectrum.high)[0]
    np.testing.assert_allclose(np.concatenate(expected), own, rtol=1e-6)
    outcome = discoveries(spectrum, family).one(0)
    assert content["observations"][1] == {"name": "signal_region", "data": [outcome.n_obs]}
    assert sum(content["observations"][0]["data"]) == outcome.n_sidebands


@pytest.mark.parametrize("name", ["exponential", "dijet3", "ua2"])
def test_a_function_that_is_not_linear_is_refused(name):
    with pytest.raises(AnalysisError, match=f"the background function {name} is not linear in its coefficients"):
        SpectrumTest(cut(1.0), make(name, BINS, 3))
    assert isinstance(make("exponential", BINS, 3), Exponential)


def test_one_spectrum_at_a_time():
    with pytest.raises(ValueError, match="one spectrum is asked for, found 2"):
        SpectrumTest(Spectra.joined([cut(1.0), cut(0.1)]), Polynomial(BINS, 5))
