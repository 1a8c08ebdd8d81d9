"""Peaks in the signal region: against scipy's shapes, MINUIT's minimum, known signals, and the three Upsilons."""

import numpy as np
import pandas as pd
import pytest
import vector
from iminuit import Minuit
from numpy.polynomial import legendre
from scipy.integrate import quad
from scipy.special import ndtr, xlogy
from scipy.stats import cauchy, chi2, crystalball, norm

from dimuon.errors import AnalysisError
from dimuon.regions import MassWindow
from dimuon.statistics import peak_shapes
from dimuon.statistics.families import make
from dimuon.statistics.mass_scale import mass_scale, matched
from dimuon.statistics.peak_model import PeakModel, PeakSpectrum
from dimuon.statistics.peak_shapes import CRYSTAL_BALL, GAUSSIAN, PSEUDO_VOIGT, SHAPES
from dimuon.statistics.peaks import TOLERANCE, PeakFit, find_peaks, p_values

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
UPSILONS = {"Y(1S)": 9.4604, "Y(2S)": 10.0234, "Y(3S)": 10.3551}  # GeV, Review of Particle Physics 2024


OTHER = {  # cumulative distributions, and events drawn, by scipy
    "gaussian": norm.cdf,
    "crystal_ball": lambda z, alpha: crystalball.cdf(z, alpha, peak_shapes.TAIL_POWER),
    "pseudo_voigt": lambda z, share: share * cauchy.cdf(z, scale=np.sqrt(2 * np.log(2))) + (1 - share) * norm.cdf(z),
}
TRUE = {
    "gaussian": lambda rng, n: norm.rvs(size=n, random_state=rng),
    "crystal_ball": lambda rng, n: crystalball.rvs(1.3, peak_shapes.TAIL_POWER, size=n, random_state=rng),
    "pseudo_voigt": lambda rng, n: np.where(
        rng.uniform(size=n) < 0.5, 1.1774 * rng.standard_cauchy(n).clip(-40, 40), rng.normal(size=n)
    ),
}


def background(n, rng, window=WINDOW, decay=5.0):
    """Exponential masses inside the window."""
    low, high = np.exp(-window.sb_low / decay), np.exp(-window.sb_high / decay)
    return -decay * np.log(rng.uniform(high, low, n))


def polynomial(degree=3, window=WINDOW, n_bins_sr=11):
    return make("polynomial", window.binning(n_bins_sr), degree)


def sample(rng, n=6000, signal=((9.5, 0.09, 400), (10.2, 0.09, 250))):
    """Background and Gaussian peaks (mass, width, events) with Poisson numbers of events."""
    drawn = [rng.normal(mass, width, rng.poisson(events)) for mass, width, events in signal]
    return np.concatenate([background(rng.poisson(n), rng), *drawn])


@pytest.mark.parametrize(("shape", "tail"), [(GAUSSIAN, ()), (CRYSTAL_BALL, (1.3,)), (PSEUDO_VOIGT, (0.4,))])
def test_shapes_are_scipys(shape, tail):
    z = np.linspace(-20, 6, 301)
    np.testing.assert_allclose(shape.cdf(z, *tail), OTHER[shape.name](z, *tail), rtol=1e-9, atol=1e-15)
    slope = [quad(lambda x: float(shape.pdf(np.array(x), *tail)), z[i], z[i + 1])[0] for i in range(0, 300, 25)]
    np.testing.assert_allclose(slope, np.diff(shape.cdf(z, *tail))[::25], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", ["polynomial", "exponential"])
def test_derivatives_of_the_model_are_its_differences(name):
    family = make(name, WINDOW.binning(50), 3)
    counts = family.bins.counts(sample(np.random.default_rng(1)))
    spectrum = PeakSpectrum(family, counts)
    model = PeakModel(spectrum, CRYSTAL_BALL, 2)
    theta = np.concatenate([spectrum.sidebands, [400.0, 250.0, 9.5, 10.2, 0.0095, 1.4]])
    slope = model.parts(theta)[2]
    for i in range(len(theta)):
        step = np.zeros(len(theta))
        step[i] = 1e-6 * max(abs(theta[i]), 0.01)
        up, down = (sum(part.sum(axis=0) for part in _parts(model, theta + sign * step)) for sign in (1, -1))
        np.testing.assert_allclose(
            slope[:, i], (up - down) / (2 * step[i]), rtol=1e-4, atol=1e-5 * abs(slope[:, i]).max()
        )


def _parts(model, theta):
    bare, each, _ = model.parts(theta)
    return bare[None], each


@pytest.mark.parametrize("name", list(SHAPES))
def test_the_minimum_and_its_errors_are_minuits(name):
    rng = np.random.default_rng(3)
    drawn = [mass * (1 + 0.0095 * TRUE[name](rng, 600)) for mass in (9.5, 10.2)]
    fitted = find_peaks(np.concatenate([background(6000, rng), *drawn]), polynomial(), shapes=[name])
    fit, edges, counts = fitted.fit, fitted.edges, fitted.counts
    assert len(fit.peaks) == 2
    assert fit.at_bound == ()
    x = (2 * edges - edges[0] - edges[-1]) / (edges[-1] - edges[0])
    primitives = np.stack([legendre.legval(x, legendre.legint(row)) for row in np.eye(4)], axis=1)

    def height(theta):
        expected = np.diff(primitives, axis=0) @ theta[:4] * len(counts)
        for mass, events in ((theta[4], theta[6]), (theta[5], theta[7])):
            z = (edges - mass) / (theta[8] * mass)
            below = OTHER[name](z, *theta[9:])
            expected = expected + events * np.diff(below) / (below[-1] - below[0])
        expected = np.maximum(expected, 1e-9)
        return 2 * np.sum(expected - counts + xlogy(counts, np.maximum(counts, 1) / expected))

    start = [counts.mean(), -0.8 * counts.mean(), 0, 0, 9.48, 10.22, 500, 500, 0.011]
    minuit = Minuit(height, [*start, *SHAPES[name].start])
    minuit.errordef, minuit.strategy, minuit.tol = 1, 2, 1e-3
    minuit.limits[8] = (1e-3, 0.1)
    for place, mass in ((4, 9.5), (5, 10.2)):
        minuit.limits[place] = (mass - 0.3, mass + 0.3)
    for place, ends in enumerate(zip(SHAPES[name].low, SHAPES[name].high, strict=True), 9):
        minuit.limits[place] = ends
    minuit.migrad(iterate=20)
    minuit.hesse()
    assert fit.deviance == pytest.approx(minuit.fval, abs=1e-3)
    ours = [peak.mass for peak in fit.peaks] + [peak.n_events for peak in fit.peaks] + [fit.resolution]
    errors = [peak.mass_err for peak in fit.peaks] + [peak.n_events_err for peak in fit.peaks] + [fit.resolution_err]
    assert (np.abs(np.array(ours) - minuit.values[4:9]) < 0.02 * np.array(errors)).all()
    np.testing.assert_allclose(errors, minuit.errors[4:9], rtol=0.03)  # HESSE's steps are finite, too
    np.testing.assert_allclose(fit.mass_covariance, np.array(minuit.covariance)[4:6, 4:6], rtol=0.05, atol=1e-6)


@pytest.mark.slow
def test_known_peaks_are_found_within_their_errors():
    truth = ((9.5, 0.0095 * 9.5, 400), (10.2, 0.0095 * 10.2, 250))
    pulls, numbers = [], []
    for seed in range(40):
        fit = find_peaks(sample(np.random.default_rng(seed), signal=truth), polynomial(), shapes=["gaussian"]).fit
        numbers.append(len(fit.peaks))
        if len(fit.peaks) == 2:
            for peak, (mass, width, events) in zip(fit.peaks, truth, strict=True):
                pulls.append((peak.mass - mass) / peak.mass_err)
                pulls.append((peak.width - width) / peak.width_err)
                pulls.append((peak.n_events - events) / peak.n_events_err)
    assert numbers.count(2) >= 38
    pulls = np.array(pulls)
    assert abs(pulls.mean()) < 0.25  # 240 pulls, of which the two widths are one: 3 errors of a mean
    assert 0.85 < pulls.std() < 1.15


@pytest.mark.slow
@pytest.mark.parametrize(("n_events", "degree"), [(12000, 5), (300, 3)])
def test_without_a_signal_the_p_value_is_not_too_small(n_events, degree):
    rng, p = np.random.default_rng(5), []
    for _ in range(150):
        fit = find_peaks(background(n_events, rng), polynomial(degree), most=1, shapes=["gaussian"], threshold=0.0).fit
        p.append(fit.tried[0].p_global)
    for level in (0.5, 0.2, 0.05):
        assert np.mean(np.array(p) < level) < level + 3 * np.sqrt(level * (1 - level) / len(p))
    assert np.mean(np.array(p) < 0.5) > 0.1  # nor is it empty caution


@pytest.mark.parametrize("n_peaks", [1, 2])
def test_the_look_elsewhere_effect_is_that_of_a_matched_filter(n_peaks):
    """White noise, searched with Gaussian templates at all masses (and, for the first peak, widths) of the SR."""
    rng, u = np.random.default_rng(8), 2.5
    low, high = 9.0, 10.6
    widths, resolution = (0.006, 0.03), 0.012
    mass = np.linspace(7.5, 12.5, 2001)
    noise = rng.normal(size=(3000, len(mass)))
    largest = np.full(len(noise), -np.inf)
    for r in np.geomspace(*widths, 12) if n_peaks == 1 else [resolution]:
        places = np.exp(np.arange(np.log(low), np.log(high), r / 4))
        template = np.exp(-(((mass - places[:, None]) / (r * places[:, None])) ** 2) / 2)
        template /= np.linalg.norm(template, axis=1, keepdims=True)
        largest = np.maximum(largest, (noise @ template.T).max(axis=1))
    seen = np.mean(largest > u)
    expected = p_values(u**2, n_peaks, MassWindow(5, low, high, 16), resolution, widths)
    assert expected[0] == pytest.approx(ndtr(-u))
    assert seen == pytest.approx(expected[1], rel=0.15)


def test_no_peak_is_an_answer():
    fitted = find_peaks(background(3000, np.random.default_rng(2)), polynomial())
    assert fitted.fit.peaks == ()
    assert fitted.fit.mass_covariance == ()
    assert np.isnan(fitted.fit.resolution)
    assert not any(one.accepted for one in fitted.fit.tried)
    assert fitted.peaks.shape == (0, len(fitted.counts))
    assert fitted.expected.sum() == pytest.approx(fitted.counts.sum(), rel=1e-3)


def test_a_fit_is_saved_and_read_back():
    for mass in (sample(np.random.default_rng(3)), background(500, np.random.default_rng(2))):
        fit = find_peaks(mass, polynomial()).fit
        again = PeakFit.from_json(fit.to_json())
        assert again.to_json() == fit.to_json()
        assert (again.peaks, again.tried) == (fit.peaks, fit.tried)


@pytest.mark.parametrize("n_events", [15, 60])
def test_few_events_and_a_steep_background(n_events):
    rng = np.random.default_rng(4)
    for _ in range(3):
        fit = find_peaks(background(n_events, rng, decay=1.5), polynomial(5), most=2).fit
        assert fit.gap < TOLERANCE
        assert fit.n_bkg >= 0


def test_an_empty_sr_and_a_narrow_one():
    rng = np.random.default_rng(6)
    mass = background(4000, rng)
    assert find_peaks(mass[~WINDOW.in_sr(mass)], polynomial()).fit.peaks == ()
    narrow = MassWindow(8.8, 9.3, 9.7, 10.2)
    inside = np.concatenate([background(1000, rng, narrow), rng.normal(9.46, 0.03, 200)])
    fit = find_peaks(inside, polynomial(2, narrow, 4)).fit
    assert [peak.mass for peak in fit.peaks] == [pytest.approx(9.46, abs=4 * fit.peaks[0].mass_err)]


def test_without_sidebands_there_is_nothing_to_fit_to():
    for mass in (np.array([]), np.array([9.8, 10.0])):
        with pytest.raises(AnalysisError, match="no event in the sidebands"):
            find_peaks(mass, polynomial())


def test_the_mass_scale_is_the_least_squares_one():
    rng = np.random.default_rng(9)
    true = np.array([9.46, 10.02, 10.36])
    root = rng.normal(size=(3, 3)) * 0.01
    covariance = root @ root.T + 1e-5 * np.eye(3)
    drawn = rng.multivariate_normal(0.9985 * true, covariance, size=4000)
    scales = [mass_scale(masses, covariance, dict(zip("abc", true, strict=True))) for masses in drawn]
    pulls = np.array([(one.scale - 0.9985) / one.scale_err for one in scales])
    assert pulls.mean() == pytest.approx(0, abs=4 / np.sqrt(len(pulls)))
    assert pulls.std() == pytest.approx(1, abs=0.05)
    p = np.array([one.p_chi2 for one in scales])
    assert np.mean(p < 0.1) == pytest.approx(0.1, abs=0.02)
    assert scales[0].p_chi2 == pytest.approx(chi2.sf(scales[0].chi2, 2))
    one = mass_scale([9.4], [[0.04]], {"a": 9.5})
    assert (one.scale, one.scale_err) == (pytest.approx(9.4 / 9.5), pytest.approx(0.2 / 9.5))
    assert one.ndf == 0
    assert np.isnan([one.chi2, one.p_chi2]).all()


def test_a_mass_scale_of_nothing_is_refused():
    for masses, covariance, known in (
        ([], [], {}),
        ([9.4], [[0.04]], {"a": 9.5, "b": 10}),
        ([9.4], [[-1.0]], {"a": 9}),
    ):
        with pytest.raises(ValueError, match=r"masses for|not positive"):
            mass_scale(masses, covariance, known)


def test_peaks_are_matched_to_the_nearest_reference_once():
    fit = find_peaks(sample(np.random.default_rng(3)), polynomial(), shapes=["gaussian"]).fit
    assert matched(fit, {"one": 9.46, "two": 10.25}) == {0: "one", 1: "two"}
    assert matched(fit, {"two": 10.25}) == {1: "two"}
    assert matched(fit, {"close": 9.5, "closer": 9.52, "far": 12.0}) in ({0: "close"}, {0: "closer"})
    assert matched(fit, {"far": 12.0}) == matched(fit, {}) == {}


def test_the_upsilons_of_2016_before_isolation_agree_with_one_scale_too(reference):
    mass = pd.read_parquet(reference / "real" / "masses_os_before_isolation.parquet")["dimu_mass"]
    fit = find_peaks(mass.to_numpy(dtype=float), polynomial(5)).fit
    assert list(matched(fit, UPSILONS).values()) == list(UPSILONS)
    scale = mass_scale([peak.mass for peak in fit.peaks], fit.mass_covariance, UPSILONS)
    assert scale.p_chi2 > 0.01
    assert scale.scale == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("degree", [3, 5])
def test_the_upsilons_of_2011_have_the_masses_of_the_world_up_to_one_scale(reference, degree):
    table = pd.read_csv(reference / "real" / "portal_csv" / "Ymumu.csv")
    muons = [vector.array({name: table[f"{name}{i}"] for name in ("px", "py", "pz", "E")}) for i in (1, 2)]
    window = MassWindow(8.0, 9.0, 10.6, 12.0)
    fit = find_peaks((muons[0] + muons[1]).mass, polynomial(degree, window)).fit
    assert len(fit.peaks) == 3
    assert list(matched(fit, UPSILONS).values()) == list(UPSILONS)
    assert fit.p_chi2 > 0.01
    scale = mass_scale([peak.mass for peak in fit.peaks], fit.mass_covariance, UPSILONS)
    assert scale.p_chi2 > 0.01
    assert scale.scale == pytest.approx(1, abs=0.005)
    for peak, true in zip(fit.peaks, UPSILONS.values(), strict=True):
        assert abs(peak.mass / scale.scale - true) < 2 * peak.mass_err


def test_the_z_is_one_peak_with_a_width_of_its_own(reference):
    """Its natural width is wider than the resolution: Gaussians need several peaks for it."""
    table = pd.read_csv(reference / "real" / "portal_csv" / "Zmumu.csv", skipinitialspace=True)
    mass = np.sqrt(
        2
        * table["pt1"]
        * table["pt2"]
        * (np.cosh(table["eta1"] - table["eta2"]) - np.cos(table["phi1"] - table["phi2"]))
    )
    fit = find_peaks(mass, polynomial(3, MassWindow(60, 81, 101, 120), 10)).fit
    assert fit.shape == "pseudo_voigt"
    assert len(fit.peaks) == 1
    assert fit.p_chi2 > 0.01
    assert fit.peaks[0].mass == pytest.approx(91.19, rel=0.005)
