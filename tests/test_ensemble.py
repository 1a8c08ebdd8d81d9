"""Members one by one: the median of their histograms, and how the ensemble converges."""

import numpy as np
import pytest

from dimuon.errors import AnalysisError
from dimuon.regions import MassWindow
from dimuon.statistics.convergence import convergence, standard_sizes
from dimuon.statistics.families import Polynomial
from dimuon.statistics.member_median import median_spectra
from dimuon.statistics.significance import discoveries, likelihood_weights
from dimuon.statistics.spectra import Spectra
from dimuon.statistics.working_points import CutVariable

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
FAMILY = Polynomial(WINDOW.binning(11), 3)
FPRS = np.array([1.0, 0.3, 0.1])


def toy(n_members, n_signal=60, noise=0.3, seed=0):
    """(mass, members): a signal in the SR that every member tells apart, each with noise of its own."""
    rng = np.random.default_rng(seed)
    mass = np.r_[rng.normal(9.8, 0.2, n_signal), rng.uniform(5, 16, 4000)]
    common = np.r_[rng.normal(1, 1, n_signal), rng.normal(0, 1, 4000)]
    logits = common[:, None] + noise * rng.normal(size=(len(mass), n_members))
    return mass, 1 / (1 + np.exp(-logits))


def plain_z0(mass, score):
    """Z0 of one score at every working point, and with likelihood weights."""
    kept = CutVariable("cathode", score).scan(WINDOW.in_sidebands(mass), FPRS).kept
    cut = discoveries(Spectra.of(mass, FAMILY.bins, selections=kept), FAMILY)
    weights = likelihood_weights(score, cut.n_sig[0], cut.n_bkg[0])
    return cut.z0, discoveries(Spectra.of(mass, FAMILY.bins, weights), FAMILY).z0


def test_equal_members_are_one_cut():
    mass, members = toy(1)
    spectra, cuts = median_spectra(mass, np.repeat(members, 7, axis=1), FPRS, FAMILY.bins)
    assert (spectra.scales == 1).all()
    np.testing.assert_allclose(discoveries(spectra, FAMILY).z0, plain_z0(mass, members[:, 0])[0], rtol=1e-9)
    np.testing.assert_allclose(cuts, CutVariable("", members[:, 0]).scan(WINDOW.in_sidebands(mass), FPRS).cut)


def test_median_and_its_error():
    mass, members = toy(9)
    spectra, _ = median_spectra(mass, members, FPRS, FAMILY.bins)
    sideband = WINDOW.in_sidebands(mass)
    counts = []
    for score in members.T:
        cut = np.sort(score[sideband])[::-1][round(0.1 * sideband.sum()) - 1]
        counts.append(np.histogram(mass[score >= cut], np.linspace(9, 10.6, 12))[0])
    n, error = np.median(counts, axis=0), 1.2533 * np.std(counts, axis=0, ddof=1) / 3
    assert spectra.counts[2, -1] == n.sum()
    assert spectra.scales[2, -1] * n.sum() == pytest.approx(n.sum() + np.sum(error**2), rel=1e-4)
    assert (spectra.scales[0] == 1).all()  # without a cut the members agree


def test_median_of_too_few_events():
    mass, members = toy(9, noise=5.0)
    with pytest.raises(
        AnalysisError, match="at FPR 0.0005 the median of the members' sideband histograms is empty"
    ) as error:
        median_spectra(mass, members, np.array([0.5, 0.0005]), FAMILY.bins)
    assert error.value.setting == "fpr_min"


def test_extra_variance_lowers_the_significance():
    mass, members = toy(15, noise=1.0)
    spectra, _ = median_spectra(mass, members, FPRS, FAMILY.bins)
    with_error = discoveries(spectra, FAMILY).z0
    without = discoveries(Spectra(spectra.bins, spectra.counts, np.ones_like(spectra.counts)), FAMILY)
    assert (with_error[1:] < without.z0[1:]).all()


def test_more_members_spread_less():
    mass, members = toy(64, noise=2.0)
    table = convergence(mass, members, FPRS, FAMILY, np.random.default_rng(1), sizes=[1, 4, 64], n_draws=40)
    spread = table.groupby("n_members")["z0_max"].std()
    assert spread[64] < 0.6 * spread[1]
    assert table.groupby("n_members").size().tolist() == [40, 40, 40]


def test_the_whole_ensemble_drawn_once_each_is_the_mean_score():
    mass, members = toy(1)
    table = convergence(mass, members, FPRS, FAMILY, np.random.default_rng(1), n_draws=2)
    largest, likelihood = plain_z0(mass, members[:, 0])
    np.testing.assert_allclose(table["z0_max"], largest.max())
    np.testing.assert_allclose(table["z0_likelihood"], likelihood[0])


@pytest.mark.parametrize(
    ("n", "sizes"), [(1, [1]), (10, [1, 2, 5, 10]), (100, [1, 2, 5, 10, 20, 50, 100]), (3, [1, 2, 3])]
)
def test_standard_sizes(n, sizes):
    assert standard_sizes(n) == sizes
