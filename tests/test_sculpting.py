"""The sculpting tests: exact where that can be computed, silent on clean scores, loud on mass-dependent ones."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import kstest, spearmanr

from dimuon.bumphunt import cut_and_count
from dimuon.regions import MassWindow
from dimuon.statistics import sculpting
from dimuon.statistics.families import Polynomial
from dimuon.statistics.working_points import CutVariable

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
BINS = WINDOW.binning(11)


def masses(n=12000, seed=0):
    return 5 + 11 * np.random.default_rng(seed).beta(1.0, 1.6, n)


def exact_distance_correlation(x, y):
    """The definition, from all pairs."""
    a, b = (squareform(pdist(values[:, None])) for values in (x, y))
    a, b = (d - d.mean(axis=0) - d.mean(axis=1)[:, None] + d.mean() for d in (a, b))
    return np.sqrt((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean()))


def test_distance_correlation_is_exact_without_rounding():
    rng = np.random.default_rng(1)
    x = rng.normal(size=300)
    y = x**2 + 0.5 * rng.normal(size=300)
    exact = exact_distance_correlation(x, y)
    assert sculpting.distance_correlation(x, y, rng, 5, n_cells=300).value == pytest.approx(exact, rel=1e-10)
    assert sculpting.distance_correlation(x, y, rng, 5, n_cells=100).value == pytest.approx(exact, rel=5e-3)


def test_distance_correlation_of_a_line_is_one():
    x = np.linspace(5, 16, 500)
    assert sculpting.distance_correlation(x, 3 - 0.1 * x, np.random.default_rng(0), 5).value == pytest.approx(1)


def test_spearman_is_scipys():
    rng = np.random.default_rng(2)
    x = rng.normal(size=400)
    y = np.round(x + rng.normal(size=400), 1)  # with ties
    found = sculpting.spearman(x, y, rng, 200)
    assert found.value == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    assert found.p_value == pytest.approx(1 / 201)
    assert found.null_std == pytest.approx(1 / np.sqrt(400), rel=0.2)  # sqrt(1 / (n - 1)); 200 permutations: 5 %


@pytest.mark.slow
@pytest.mark.parametrize("measure", [sculpting.spearman, sculpting.distance_correlation])
def test_p_values_of_independent_scores_are_uniform(measure):
    rng = np.random.default_rng(3)
    p = [measure(masses(300, seed), rng.uniform(size=300), rng, 99).p_value for seed in range(150)]
    assert kstest(p, "uniform").pvalue > 0.01


def test_distance_correlation_sees_what_spearman_does_not():
    mass = masses(3000)
    score = np.abs(mass - np.median(mass)) + np.random.default_rng(4).normal(size=len(mass))
    assert sculpting.distance_correlation(mass, score, np.random.default_rng(0), 200).p_value < 0.01


def scan(mass, score, fprs=(1.0, 0.25, 0.1, 0.03, 0.01)):
    return CutVariable("cathode", score).scan(WINDOW.in_sidebands(mass), np.array(fprs)).kept


def test_clean_scores_are_not_flagged():
    """Under independence p is uniform, down to about 30 events after the cut."""
    rng = np.random.default_rng(5)
    p = []
    for seed in range(60):
        mass = masses(4000, seed)
        kept = scan(mass, rng.uniform(size=len(mass)), (0.1, 0.01))
        p.append(sculpting.flags(mass, kept, BINS, 5, rng, n_toys=200).p_value)
    for fpr in range(2):
        assert kstest(np.array(p)[:, fpr], "uniform").pvalue > 0.01


def test_smooth_dependence_is_absorbed_and_local_dependence_flagged():
    rng = np.random.default_rng(6)
    mass = masses()
    noise = rng.uniform(size=len(mass))
    smooth = noise + 0.1 * (mass - 10) ** 2 / 36
    fits = sculpting.flags(mass, scan(mass, smooth), BINS, 5, rng)
    assert not fits.sculpted.any()
    # the same smooth dependence is more than a constant efficiency
    assert sculpting.flags(mass, scan(mass, smooth), BINS, 0, rng).sculpted[1:].any()
    local = noise + 0.4 * (np.abs(mass - 7.0) < 0.15)
    fits = sculpting.flags(mass, scan(mass, local), BINS, 5, rng)
    assert fits.sculpted[1:4].all()
    assert not fits.sculpted[0]  # everything passes: nothing to sculpt


def test_a_signal_in_the_sr_is_not_sculpting():
    """The SR takes no part in the fit: what the classifier finds there neither flags the cut nor moves the curve."""
    rng = np.random.default_rng(10)
    mass = masses()
    noise = rng.uniform(size=len(mass))
    signal = noise + 0.5 * (np.abs(mass - 9.46) < 0.15)
    with_signal, without = (sculpting.flags(mass, scan(mass, score), BINS, 5, rng) for score in (signal, noise))
    assert not with_signal.sculpted.any()
    np.testing.assert_allclose(with_signal.expected, without.expected)
    assert (with_signal.n_after[:, BINS.is_sr].sum(axis=1) > without.n_after[:, BINS.is_sr].sum(axis=1))[1:].all()


def test_efficiency_fit_finds_the_efficiency():
    rng = np.random.default_rng(7)
    mass = masses(40000)
    truth = 0.2 + 0.01 * (mass - 10) + 0.002 * (mass - 10) ** 2
    fits = sculpting.flags(mass, rng.uniform(size=len(mass)) < truth, BINS, 3, rng, n_toys=50)
    centre = (BINS.edges[:-1] + BINS.edges[1:]) / 2
    pull = (fits.expected[0] - 0.2 - 0.01 * (centre - 10) - 0.002 * (centre - 10) ** 2) / fits.expected_err[0]
    assert np.abs(pull).max() < 4
    assert np.sqrt(np.mean(pull**2)) < 2
    low, high = fits.interval
    assert ((low[0] <= fits.n_after[0] / fits.n_before) & (fits.n_after[0] / fits.n_before <= high[0])).all()


def test_sampled_background_shows_a_bump_cut_into_the_sr():
    """A score that prefers the SR alone is invisible in the sidebands, not in sampled background."""
    rng = np.random.default_rng(8)
    mass = masses()
    score = rng.uniform(size=len(mass))
    sampled_mass = rng.uniform(9, 10.6, 8000)
    fits = sculpting.flags(mass, scan(mass, score), BINS, 5, rng)
    cuts = np.quantile(score[WINDOW.in_sidebands(mass)], [0, 0.75, 0.9, 0.97, 0.99])[:, None]
    clean = sculpting.compare_in_sr(fits, BINS, sampled_mass, rng.uniform(size=8000) >= cuts)
    bump = sculpting.compare_in_sr(fits, BINS, sampled_mass, rng.uniform(0.1, 1.1, size=8000) >= cuts)
    assert np.abs(clean["pull"]).max() < 3.5
    assert bump["pull"][1:4].min() > 5


def test_too_few_bins_for_the_degree():
    mass = np.full(100, 7.0)
    with pytest.raises(ValueError, match="1 sideband bins with events cannot test a polynomial of degree 5"):
        sculpting.flags(mass, np.ones((1, 100), dtype=bool), BINS, 5, np.random.default_rng(0))


def test_step_6_flags_the_working_points():
    rng = np.random.default_rng(9)
    mass = masses()
    clean, sculpted = rng.uniform(size=len(mass)), rng.uniform(size=len(mass)) + 0.4 * (np.abs(mass - 7) < 0.15)
    variables = [CutVariable("cathode", sculpted), CutVariable("random", clean)]
    fprs, model = np.array([1.0, 0.1]), Polynomial(BINS, 5)
    curves, _ = cut_and_count.cut_and_count(mass, variables, fprs, model)
    flagged = cut_and_count.add_sculpting(curves, mass, variables, fprs, BINS, 5, rng)
    assert flagged["sculpted"].tolist() == [False, True, False, False]


def test_weights_of_one_leave_every_bit_as_it_is():
    rng = np.random.default_rng(11)
    mass = masses()
    fits = sculpting.flags(mass, scan(mass, rng.uniform(size=len(mass))), BINS, 5, rng, n_toys=50)
    sampled_mass, kept = rng.uniform(9, 10.6, 7001), rng.uniform(size=(5, 7001)) < 0.3
    without = sculpting.compare_in_sr(fits, BINS, sampled_mass, kept)
    ones = sculpting.compare_in_sr(fits, BINS, sampled_mass, kept, np.ones(7001))
    for name, values in without.items():
        np.testing.assert_array_equal(values, ones[name])
    # as the mean of unweighted events has it
    np.testing.assert_array_equal(without["efficiency"], kept.mean(axis=1))


def test_weights_of_the_background_count():
    """Half of the events at weight 3 with another efficiency: the weighted mean, and fewer effective events."""
    rng = np.random.default_rng(12)
    mass = masses()
    fits = sculpting.flags(mass, scan(mass, rng.uniform(size=len(mass))), BINS, 5, rng, n_toys=50)
    sampled_mass, heavy = rng.uniform(9, 10.6, 8000), np.arange(8000) % 2 == 0
    kept, weight = heavy[None] & np.ones((5, 1), dtype=bool), np.where(heavy, 3.0, 1.0)
    found = sculpting.compare_in_sr(fits, BINS, sampled_mass, kept, weight)
    np.testing.assert_allclose(found["efficiency"], 0.75)
    n_effective = (4000 * 4) ** 2 / (4000 * 10)
    np.testing.assert_allclose(found["efficiency_err"], np.sqrt(0.75 * 0.25 / n_effective))
    scaled = sculpting.compare_in_sr(fits, BINS, sampled_mass, kept, 7 * weight)
    np.testing.assert_allclose(scaled["pull"], found["pull"])


def test_the_report_takes_weights():
    rng = np.random.default_rng(13)
    mass = masses(4000)
    score, sampled = rng.uniform(size=4000), (rng.uniform(9, 10.6, 500), rng.uniform(size=500))
    fprs, weight = np.array([1.0, 0.3]), rng.exponential(size=500)
    record, table = sculpting.report(mass, score, fprs, BINS, 3, np.random.default_rng(1), sampled, weight)
    cut = table["cut"].unique()[1]
    assert record["sampled_background_in_sr"][1]["efficiency"] == pytest.approx(
        weight[sampled[1] >= cut].sum() / weight.sum()
    )
    plain, _ = sculpting.report(mass, score, fprs, BINS, 3, np.random.default_rng(1), sampled)
    ones, _ = sculpting.report(mass, score, fprs, BINS, 3, np.random.default_rng(1), sampled, np.ones(500))
    assert plain == ones
