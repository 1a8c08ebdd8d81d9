"""Methods on two Gaussians, where the exact likelihood ratio is known; what a method must not do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm, spearmanr
from threadpoolctl import threadpool_limits

from dimuon import Stream
from dimuon.background import training
from dimuon.background.estimators.flows import FlowMatching, Maf, SplineCoupling
from dimuon.background.estimators.mixture import Mixture
from dimuon.background.estimators.reweighting import Reweighting
from dimuon.errors import AnalysisError
from dimuon.methods.kinds.autoencoder import Vae
from dimuon.methods.kinds.cathode import derived
from dimuon.methods.kinds.combined import MeanRank
from dimuon.methods.kinds.rad_ot import partners
from dimuon.methods.kinds.residual_anode import fit_excess
from dimuon.methods.kinds.tag_n_train import objects
from dimuon.methods.nplm import Nplm
from dimuon.methods.protocol import METHODS, cross_fitted, learned_by, scores_by
from dimuon.methods.quantiles import Quantiles
from dimuon.methods.shared import Shared
from dimuon.statistics.improvement import argos, improvement
from tests.gaussians import FLOW, Gaussians, MixtureSettings, given, scored, share_of_ideal

CORRELATION, SHARE = 0.95, 0.9  # asked of every method


def slow(name):
    """A method whose test a quick check can do without."""
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in a worker: the libraries' threads get in each other's way with so few events."""
    with threadpool_limits(1), training.one_thread():
        yield


@pytest.fixture(scope="module")
def known():
    """(what is given, which further events are signal, exact p_signal / p_background of these)."""
    truth = Gaussians()
    events, is_signal = given(truth)
    return events, is_signal, truth.ratio(events.further)


def exact(events, ratio):
    """p_data / (p_data + p_background) in the SR, which is what a weakly supervised classifier is to learn."""
    fraction = events.window.in_sr(events.truth.signal.mass).mean() * 500 / events.in_sr.sum()
    of_data = 1 - fraction + fraction * ratio
    return of_data / (1 + of_data)


def require_the_exact_probability(name, events, is_signal, ratio):
    """Pearson's correlation of the score with the exact probability, on labelled events (a sixth of them signal)."""
    scores = scored(name, events)
    assert scores.probability
    assert np.corrcoef(scores.further, exact(events, ratio))[0, 1] > CORRELATION
    assert share_of_ideal(scores.further, ratio, is_signal) > SHARE
    return scores


@pytest.mark.slow
@pytest.mark.parametrize("name", ["idealised", "cwola", "cwola_unweighted", slow("salad"), "rad_ot"])
def test_a_probability_of_being_data_is_the_exact_one(known, name):
    require_the_exact_probability(name, *known)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cathode", "lacathode", "curtains"])
def test_so_is_that_of_methods_with_a_flow(known, name):
    require_the_exact_probability(name, *known)


@pytest.mark.parametrize("name", ["anode", slow("residual_anode")])
def test_so_is_that_of_methods_that_compare_densities(known, name):
    """With a density that takes no time and can be exact, so that what is asked is the method's own part."""
    events, *labels = known
    require_the_exact_probability(
        name, replace(events, chain=replace(events.chain, estimator=MixtureSettings())), *labels
    )


@pytest.mark.slow
def test_so_is_that_of_the_kernel_method_for_a_signal_as_wide_as_the_background():
    truth = Gaussians(mean=2.0, std=1.0)
    events, is_signal = given(truth, estimator=MixtureSettings())
    scores = require_the_exact_probability("kernel", events, is_signal, truth.ratio(events.further))
    assert scores.own_z > 5  # 500 signal events among 2,300


@pytest.mark.slow
def test_tag_n_train_orders_events_as_the_ratios_of_two_mixtures_do():
    """Of each object it learns (1 - f) + f r, r its own ratio and f the purity of what the other one tags: the product
    of both is what it can know, not the exact ratio."""
    truth = Gaussians()
    events, is_signal = given(truth, members=2, folds=2)
    scores, edge = scored("tag_n_train", events), norm.isf(0.1)  # 20 % of the background lie beyond, on either side
    tagged = norm.sf(edge, truth.mean, truth.std) + norm.cdf(-edge, truth.mean, truth.std)
    n_signal = events.window.in_sr(events.truth.signal.mass).mean() * 500
    n_tagged = tagged * n_signal, 0.2 * (events.in_sr.sum() - n_signal)
    x, purity = events.further.features, n_tagged[0] / sum(n_tagged)
    ratios = norm.pdf(x, truth.mean, truth.std) / norm.pdf(x)
    assert not scores.probability
    assert np.corrcoef(scores.further, np.log1p(purity * (ratios - 1)).sum(axis=1))[0, 1] > CORRELATION
    assert share_of_ideal(scores.further, truth.ratio(events.further), is_signal) > SHARE


@pytest.mark.slow
def test_quak_has_the_order_of_the_ratio_for_signals_that_are_the_right_ones():
    """With others it has the order of theirs."""
    truth = Gaussians()
    events, is_signal = given(truth, folds=2)
    events = replace(events, prior=truth.signal(3000, np.random.default_rng(3)))
    scores, ratio = scored("quak", events), truth.ratio(events.further)
    assert not scores.probability
    assert spearmanr(scores.further, ratio).statistic > CORRELATION
    assert share_of_ideal(scores.further, ratio, is_signal) > SHARE


@pytest.mark.slow
def test_the_mean_rank_is_that_of_its_parts(known):
    """Of two methods with the exact ratio's order nearly, it has it, too; no scale counts for more."""
    events, is_signal, ratio = known
    method = MeanRank(parts=("cwola", "supervised"))
    learned = method.learn(events)
    scores = method.score(events, learned)
    parts = [scores_by(events, name, learned[name]) for name in method.parts]
    by_hand = [(part.events[~events.in_sr] < part.further[0]).mean() for part in parts]
    assert scores.further[0] == pytest.approx(np.mean(by_hand), abs=0.01)  # but for ties
    assert share_of_ideal(scores.further, ratio, is_signal) > SHARE


@pytest.mark.slow
def test_an_autoencoder_orders_events_as_the_ratio_for_a_signal_wider_than_the_background():
    """The exact ratio then rises with the distance; Spearman's correlation, since the score is none of probability."""
    truth = Gaussians(mean=0.0, std=3.0)
    events, is_signal = given(truth)
    scores, ratio = scored("vae_qr", events), truth.ratio(events.further)
    assert not scores.probability
    assert spearmanr(scores.further, ratio).statistic > CORRELATION
    assert share_of_ideal(scores.further, ratio, is_signal) > SHARE


def test_the_supervised_score_is_the_probability_of_being_signal(known):
    events, is_signal, ratio = known
    scores = scored("supervised", events)
    assert not scores.probability
    assert np.corrcoef(scores.further, ratio / (1 + ratio))[0, 1] > CORRELATION
    assert share_of_ideal(scores.further, ratio, is_signal) > SHARE


def test_cwola_fails_where_features_know_the_mass_and_the_idealised_method_does_not():
    """It tells the SR from what is next to it by the mass: background of the SR scores higher than its template."""
    truth = Gaussians(slope=1.0)
    events, is_signal = given(truth, members=2)
    ideal, cwola = (share_of_ideal(scored(name, events).further, truth.ratio(events.further), is_signal)
                    for name in ("idealised", "cwola"))  # fmt: skip
    assert ideal > SHARE
    assert cwola < ideal


def test_no_event_is_scored_by_what_saw_it():
    """Labels that are noise: a model that saw its events would score them higher than others."""
    events, _ = given(n_signal=0, members=2)

    def memory(seen, stream):
        values = set(seen.features[:, 0])
        return lambda asked: np.array([value in values for value in asked.features[:, 0]], dtype=float)

    own, further = cross_fitted(events, memory)
    assert not own.any()
    assert not further.any()
    near = scored("cwola", events)  # its template is data, scored by the models of other folds
    template = np.isin(events.events.row, near.template.row)
    elsewhere = events.window.in_sidebands(events.events.mass) & ~template
    assert abs(near.events[template].mean() - near.events[elsewhere].mean()) < 0.004  # 5 standard errors


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_says_what_it_is(name):
    method = METHODS[name]
    assert method.title
    assert method.paper.startswith("arXiv:") or name in {"mean_rank", "handed_in"}
    assert type(method).__module__.startswith("dimuon.methods.kinds.")


def test_what_is_not_there_is_said(known):
    without = replace(known[0], truth=None, simulation=None)
    for name in ("idealised", "supervised", "salad", "quak", "handed_in"):
        with pytest.raises(AnalysisError, match="no (event of known origin|simulation|scores were handed in)"):
            scored(name, without)
    far = known[0].events[np.abs(known[0].events.mass - 9.8) > 2]
    with pytest.raises(AnalysisError, match="0 events below the SR within 0.8"):
        scored("cwola", replace(known[0], events=far))


def test_scores_that_are_handed_in_are_those_of_their_rows(known):
    table = known[0].events
    own, chosen = np.random.default_rng(1).uniform(size=len(table)), np.array([70, 3, 15_000])
    table = replace(table, row=np.random.default_rng(2).permutation(len(table)) + 5)
    there = replace(known[0], events=table, handed_in=own, further=table[chosen])
    scores = scored("handed_in", there)
    np.testing.assert_array_equal(scores.further, own[chosen])
    np.testing.assert_array_equal(scores.events, own)


def test_what_is_shared_is_learned_once_and_charged_to_each():
    shared, calls = Shared(Stream(1)), []

    def base():
        calls.append("base")
        sum(range(2_000_000))
        return 1

    first = shared.once("first", lambda: 1 + shared.once("base", base))
    second = shared.once("second", lambda: 2 + shared.once("base", base))
    assert (first, second, calls) == (2, 3, ["base"])
    for clock in (0, 1):
        assert shared.seconds("first")[clock] >= shared.seconds("base")[clock] > 0
        assert shared.seconds("second")[clock] >= shared.seconds("base")[clock]
        assert shared.seconds("first")[clock] < 2 * shared.seconds("base")[clock]  # and not twice


def test_a_stack_of_autoencoders_is_each_of_them_alone():
    rng = np.random.default_rng(4)
    samples, new = [rng.normal(scale=scale, size=(700, 2)) for scale in (1.0, 1.0, 0.5)], rng.normal(size=(50, 2))
    streams = [Stream(seed) for seed in (1, 2, 3)]
    together = [vae.loss(new, Stream(0)) for vae in Vae.trained(samples, streams)]
    for x, stream, loss in zip(samples, streams, together, strict=True):
        (alone,) = Vae.trained([x], [stream])
        np.testing.assert_allclose(loss, alone.loss(new, Stream(0)), rtol=1e-3, atol=1e-3)
    assert np.abs(together[0] - together[1]).max() > 0.05
    # what is half as wide finds these events unusual: by up to 1.6
    assert together[2].mean() > together[0].mean() + 0.5


def test_models_are_made_of_those_that_are_methods_of_their_own():
    flow = Maf(members=1, hidden=4, blocks=1, epochs=1)
    events, _ = given(estimator=flow, members=1)
    models = {name: learned_by(events, name) for name in ("cathode", "spline_coupling", "mixture", "reweighting")}
    assert [part.kind for part in models["mixture"].parts] == ["maf", "spline_coupling"]
    for part, alone in zip(models["mixture"].parts, (models["cathode"], models["spline_coupling"]), strict=True):
        assert part is alone
    assert models["reweighting"].prior is models["cathode"]


def test_other_classifiers_see_the_very_same_template():
    events, _ = given(estimator=MixtureSettings(), members=1)
    names = ("cathode", "cathode_hist_gradient_boosting")
    one, other = (scores_by(events, name, learned_by(events, name)) for name in names)
    assert one.template is other.template
    assert np.corrcoef(one.further, other.further)[0, 1] > 0.8
    assert (one.further != other.further).mean() > 0.9
    assert one.members.shape == (len(events.events), 1)


def test_objects_are_the_muons_and_what_is_of_both_goes_to_the_smaller_one():
    names = ["dimu_pt", "mu0_ip3d", "mu1_ip3d", "mu1_iso04", "noise_0"]
    first, second = objects(names)
    assert [names[place] for place in first] == ["dimu_pt", "mu0_ip3d", "noise_0"]
    assert [names[place] for place in second] == ["mu1_ip3d", "mu1_iso04"]
    with pytest.raises(AnalysisError, match="two objects need at least two features, found dimu_pt"):
        objects(["dimu_pt"])


def test_the_own_test_of_nplm_is_calibrated_and_its_statistic_the_best_of_all():
    """Without a signal its p-values are as often small as they say; t is that of the function that it fits."""
    rng = np.random.default_rng(9)
    test = Nplm.of(rng.normal(size=(2000, 2)), rng.normal(size=(40, 400, 2)), 2.0, rng)
    found = np.array([test.significance(rng.normal(size=(400, 2))) for _ in range(60)])
    assert 0.25 < (found > 0).mean() < 0.75  # half of them, +- 4 standard errors
    assert (found > 1.0).mean() < 0.16 + 4 * np.sqrt(0.16 * 0.84 / 60)
    shifted = rng.normal(size=(400, 2)) + 0.5
    exact = 0.5 * (shifted - 0.25).sum(axis=1)  # log of the ratio
    assert test.significance(shifted) > 4
    assert test.statistic(shifted) > 0.9 * 2 * exact.sum()  # the term of the reference vanishes on the mean


@pytest.mark.slow
def test_what_is_carried_follows_features_that_drift_with_the_mass():
    """CURTAINs' map on flows that know the drift; where a mass is carried to itself nothing moves."""
    events, _ = given(Gaussians(slope=0.3), n_signal=0, members=1)
    learned = METHODS["curtains"].learn(events)
    template = METHODS["curtains"].score(events, learned).template
    assert events.window.in_sr(template.mass).all()
    drift = 0.3 * (template.mass[:, None] - 9.8)
    np.testing.assert_allclose((template.features - drift).mean(axis=0), 0, atol=0.15)
    np.testing.assert_allclose((template.features - drift).std(axis=0), 1, atol=0.15)
    x = events.prepared(events.sidebands[:100])
    mass = events.sidebands.mass[:100]
    np.testing.assert_allclose(learned.carry(x, mass, mass), x, atol=1e-5)


def test_what_is_made_of_flows_takes_the_settings_of_the_configured_one():
    flow = Maf(members=1, hidden=7, epochs=3)
    reweighting = derived("reweighting", flow)
    assert reweighting == Reweighting(prior=flow)  # the learning rate of its trees is not that of the flow
    mixture = derived("mixture", flow)
    assert isinstance(mixture, Mixture)
    assert {(part.hidden, part.epochs) for part in mixture.parts} == {(7, 3)}
    assert derived("maf", reweighting) == flow


def test_the_improvement_of_two_normal_distributions():
    """A cut at t keeps Phi(2 - t) of a signal of mean 2 and Phi(-t) of the background; the tightest keeps 25 events."""
    rng = np.random.default_rng(1)
    curve = improvement(rng.normal(2, 1, 40_000), rng.normal(0, 1, 40_000))
    cut = -norm.ppf(curve.eps_background)
    expected = norm.sf(cut - 2) / np.sqrt(curve.eps_background)
    inside = (curve.low <= expected) & (expected <= curve.high)
    assert inside.mean() > 0.4  # 0.68 of independent points
    np.testing.assert_allclose(curve.improvement, expected, rtol=0.25)
    assert curve.eps_background.min() * 40_000 >= 25
    assert curve.at(0.1) == pytest.approx(norm.sf(-norm.ppf(0.1) - 2) / np.sqrt(0.1), rel=0.1)


def test_argos_is_zero_without_an_excess_and_the_gain_with_one():
    """Of a cut that keeps all of a signal fraction f of the SR: f / sqrt(eps_B), less f sqrt(eps_B)."""
    rng = np.random.default_rng(2)
    in_sr = np.repeat([True, False], [20_000, 80_000])
    rates = np.geomspace(1, 1e-2, 20)
    assert abs(argos(rng.uniform(size=100_000), in_sr, rates).value) < 0.03
    score = rng.uniform(size=100_000)
    score[:1000] = 2.0  # 5 % of the SR
    found = argos(score, in_sr, rates)
    assert found.value == pytest.approx(0.05 * (found.eps_background**-0.5 - found.eps_background**0.5), rel=0.1)


def test_the_same_seed_gives_the_same_scores(known):
    once, again = (scored("cwola", known[0]) for _ in range(2))
    np.testing.assert_array_equal(once.events, again.events)
    other = scored("cwola", replace(known[0], stream=Stream(2)))
    assert (once.events != other.events).any()


@pytest.mark.slow
def test_the_fitted_excess_is_the_one_that_was_put_there():
    """R-ANODE's likelihood: 8 % of a narrow Gaussian on a known background."""
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(size=(4600, 2)), rng.normal([1.5, -1.0], 0.3, (400, 2))])
    best = fit_excess(x, multivariate_normal([0, 0]).logpdf(x), Stream(1))[0]
    assert best.fraction * best.share.max() == pytest.approx(0.08, abs=0.015)  # of the Gaussian; its error is 0.005
    np.testing.assert_allclose(best.mean[best.share.argmax()], [1.5, -1.0], atol=0.15)


def test_partners_are_those_of_the_cheapest_transport():
    """In one dimension the optimal transport keeps the order, whatever the distributions."""
    rng = np.random.default_rng(6)
    low, high = rng.normal(size=(200, 1)), rng.exponential(size=(200, 1)) + 3
    moved = partners(low, high)
    np.testing.assert_array_equal(np.argsort(high[moved, 0]), np.argsort(low[:, 0]))


def test_what_is_moved_follows_features_that_drift_with_the_mass():
    """Between the sidebands the mean drifts in a line; RAD-OT's template has it as it is in the SR."""
    events, _ = given(Gaussians(slope=0.5), n_signal=0, members=1)
    template = scored("rad_ot", events).template
    assert events.window.in_sr(template.mass).all()
    drift = 0.5 * (template.mass[:, None] - 9.8)
    np.testing.assert_allclose((template.features - drift).mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose((template.features - drift).std(axis=0), 1, atol=0.1)


def test_rarity_is_flat_in_the_mass():
    """A loss that grows with the mass: 10 % lie above -log 0.1 at every mass; the tail is exponential."""
    rng = np.random.default_rng(7)
    mass = rng.uniform(5, 16, 40_000)
    loss = (1 + 0.1 * (mass - 5) ** 2) * rng.exponential(size=len(mass))
    rarity = Quantiles.of(mass, loss).rarity(mass, loss)
    for low, high in ((5, 8), (8, 12), (12, 16)):
        inside = (mass >= low) & (mass < high)
        assert (rarity[inside] > -np.log(0.1)).mean() == pytest.approx(0.1, abs=0.012)
    assert (rarity > -np.log(0.001)).mean() == pytest.approx(0.001, abs=0.0005)


def test_latent_numbers_are_the_noise_of_the_samples():
    """What a flow makes of noise it takes for that noise again."""
    events, _ = given(n_signal=0)
    flow = FLOW.model_copy(update={"members": 2, "epochs": 1})
    for settings in (flow, SplineCoupling(members=2, blocks=2, hidden=8, epochs=1, batch_size=512, bins=4)):
        model = settings.estimator(events.scaler).fit(events.sidebands[:2000], Stream(1))
        noise = np.random.default_rng(8).normal(size=(2, 50, 2)).astype(np.float32)
        ensemble, mass = model.ensemble, np.zeros(50, dtype=np.float32)
        made = ensemble.model.from_noise(
            torch.tensor(noise.transpose(0, 2, 1)), torch.zeros(2, 1, 50)
        ).numpy().transpose(0, 2, 1)  # fmt: skip
        for member in (0, 1):
            np.testing.assert_allclose(ensemble.to_noise(made[member], mass)[member], noise[member], atol=2e-3)
    matching = FlowMatching(members=1, hidden=8, blocks=1, epochs=1).estimator(events.scaler)
    with pytest.raises(AnalysisError, match="flow_matching does not say what noise an event is"):
        matching.fit(events.sidebands[:1000], Stream(1)).to_noise(events.sidebands[:10])
