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
from dimuon.methods.kinds.cathode import derived
from dimuon.methods.kinds.combined import MeanRank
from dimuon.methods.kinds.rad_ot import partners
from dimuon.methods.kinds.residual_anode import fit_excess
from dimuon.methods.protocol import METHODS, cross_fitted
from dimuon.methods.quantiles import Quantiles
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


@pytest.mark.parametrize("name", ["idealised", "cwola", "cwola_unweighted", slow("salad"), "rad_ot"])
def test_a_probability_of_being_data_is_the_exact_one(known, name):
    require_the_exact_probability(name, *known)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cathode", "lacathode"])
def test_so_is_that_of_methods_with_a_flow(known, name):
    require_the_exact_probability(name, *known)


@pytest.mark.parametrize("name", ["anode", slow("residual_anode")])
def test_so_is_that_of_methods_that_compare_densities(known, name):
    """With a density that takes no time and can be exact, so that what is asked is the method's own part."""
    events, *labels = known
    require_the_exact_probability(
        name, replace(events, chain=replace(events.chain, estimator=MixtureSettings())), *labels
    )


def test_so_is_that_of_the_kernel_method_for_a_signal_as_wide_as_the_background():
    truth = Gaussians(mean=2.0, std=1.0)
    events, is_signal = given(truth, estimator=MixtureSettings())
    require_the_exact_probability("kernel", events, is_signal, truth.ratio(events.further))


@pytest.mark.slow
def test_the_mean_rank_is_that_of_its_parts(known):
    """Of two methods with the exact ratio's order nearly, it has it, too; no scale counts for more."""
    events, is_signal, ratio = known
    method = MeanRank(parts=("cwola", "supervised"))
    learned = method.learn(events)
    scores = method.score(events, learned)
    parts = [METHODS[name].score(events, learned[name]) for name in method.parts]
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
    assert method.paper.startswith("arXiv:") or name == "mean_rank"
    assert type(method).__module__.startswith("dimuon.methods.kinds.")


def test_what_is_not_there_is_said(known):
    without = replace(known[0], truth=None, simulation=None)
    for name in ("idealised", "supervised", "salad"):
        with pytest.raises(AnalysisError, match="no (event of known origin|simulation)"):
            scored(name, without)
    far = known[0].events[np.abs(known[0].events.mass - 9.8) > 2]
    with pytest.raises(AnalysisError, match="0 events below the SR within 0.8"):
        scored("cwola", replace(known[0], events=far))


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
