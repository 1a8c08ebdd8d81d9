"""Models trained on all masses and interpolated across the signal region: the signal in it stays out of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import dimuon
from dimuon import Events, MassWindow, Stream
from dimuon.background import saved
from dimuon.background.closure import classifier_auc
from dimuon.background.estimators.flows import Maf, SplineCoupling
from dimuon.background.estimators.interpolated import Interpolated, InterpolatedBackground
from dimuon.background.estimators.sigma import Sigma
from dimuon.background.fine_tuning import fine_tuned
from dimuon.background.flow_ensemble import FlowEnsemble
from dimuon.background.flow_matching import InterpolatedFlowMatching
from dimuon.background.held_out import HeldOut
from dimuon.background.protocol import Rewindowed, trained
from dimuon.background.scaler import Preparation
from dimuon.errors import AnalysisError
from dimuon.workflow.executor import AtOnce

WINDOW, ELSEWHERE = MassWindow(5.0, 9.0, 10.6, 16.0), MassWindow(5.0, 12.0, 13.0, 16.0)
NAMES, SIGNAL = ["a", "b"], (12.5, 8.0)
SHORT = {"members": 1, "blocks": 2, "hidden": 32, "epochs": 60, "learning_rate": 4e-3}
TINY = SHORT | {"members": 2, "epochs": 2, "hidden": 8}
KINDS = {"sigma": Sigma(**TINY), "interpolated": Interpolated(of=Maf(**TINY), margin=0.5)}


def background(mass, rng):
    """(n_events, 2): a mean and a width that drift with the mass."""
    drift = (mass - 10.5) / 5.5
    return np.column_stack([rng.normal(10 + drift, 1.0), rng.normal(10.0, 1.0 + 0.2 * drift)])


def near_signal(features):
    """The share of events where the signal's are."""
    return np.mean((np.abs(features - SIGNAL) < 1).all(axis=1))


@pytest.fixture(scope="module")
def toy():
    """Background of all masses and, in the SR, as many events again of a signal elsewhere; a scaler."""
    rng = np.random.default_rng(4)
    mass, n_signal = rng.uniform(5, 16, 4000), 500
    at = np.concatenate([mass, rng.normal(9.8, 0.25, n_signal).clip(9.01, 10.59)])
    features = np.concatenate([background(mass, rng), rng.normal(SIGNAL, 0.3, (n_signal, 2))])
    events = Events.of(at, features, NAMES)
    return events, Preparation().scaler(events, ~WINDOW.in_sr(events.mass))


@pytest.fixture(scope="module", params=list(KINDS))
def model(request, toy):
    """A hardly trained model of each kind."""
    events, scaler = toy
    return trained(KINDS[request.param].estimator(scaler), events, WINDOW, Stream(3))


@pytest.mark.slow
def test_sigma_keeps_the_signal_out_of_its_own_background(toy):
    """As many signal events as background in the SR: what it learned of them is not in what it says across the SR."""
    events, scaler = toy
    model = trained(Sigma(**SHORT).estimator(scaler), events, WINDOW, Stream(3))
    rng = np.random.default_rng(7)
    mass = rng.uniform(9, 10.6, 2000)
    truth = Events.of(mass, background(mass, rng), NAMES)
    across, learned = (each.sample(mass, Stream(5)) for each in (model, model.across(ELSEWHERE)))
    there = {name: near_signal(each.features) for name, each in (("truth", truth), ("as learned", learned))}
    assert there["as learned"] > 0.25  # 0.5 of the data, 0.01 of the background
    assert near_signal(across.features) - there["truth"] < 0.1 * (there["as learned"] - there["truth"])
    assert classifier_auc(truth, learned, Stream(6))[0] > 0.7
    assert classifier_auc(truth, across, Stream(6))[0] < 0.6  # 0.5 but for the short training


@pytest.mark.slow
def test_fine_tuning_beside_a_signal_and_interpolating_keep_it_out(toy):
    """Of the signal that flows learned in the SR a tenth is left by interpolating, half by fine-tuning alone."""
    events, scaler = toy
    sidebands, rng = events[~WINDOW.in_sr(events.mass)], np.random.default_rng(7)
    learned = Maf(**SHORT).estimator(scaler).fit(events, Stream(3))
    tuned = fine_tuned(learned, sidebands, 20, Stream(9))
    across = InterpolatedBackground(Interpolated(of=Maf(**SHORT)), tuned).across(WINDOW)
    mass = rng.uniform(9, 10.6, 2000)
    truth = near_signal(background(mass, rng))
    left = {
        name: near_signal(each.sample(mass, Stream(5)).features) - truth
        for name, each in (("learned", learned), ("tuned", tuned), ("across", across))
    }
    assert left["learned"] > 0.2
    assert left["tuned"] > 0.15 * left["learned"]  # why it is interpolated
    assert left["across"] < 0.06 * left["learned"]  # 0.03; 0.1 of what was not tuned


def test_fine_tuning_begins_where_the_training_ended(toy):
    """With hardly a step the density is what it was; with many, what the new events say, prepared as the old ones."""
    (events, scaler), rng = toy, np.random.default_rng(8)
    events = events[:1000]
    others = Events.of(events.mass, background(events.mass, rng) + 1.0, NAMES)
    still = SplineCoupling(**TINY | {"learning_rate": 1e-9, "blocks": 1})
    learned = still.estimator(scaler).fit(events, Stream(3))
    same = fine_tuned(learned, others, 1, Stream(4))
    np.testing.assert_allclose(same.log_prob(events), learned.log_prob(events), atol=1e-3)
    moving = fine_tuned(learned_faster(learned), others, 5, Stream(4))
    assert moving.log_prob(others).mean() > learned.log_prob(others).mean() + 0.1
    assert (moving.mass_mean, moving.mass_std, moving.scaler) == (learned.mass_mean, learned.mass_std, scaler)
    assert moving.ensemble.best_epoch.max() <= 5
    with pytest.raises(AnalysisError, match="400 sideband events to train flows on, at least 500"):
        fine_tuned(learned, others[np.arange(400)], 1, Stream(4))


def learned_faster(model):
    """The model with settings that let it move."""
    ensemble = FlowEnsemble(model.ensemble.settings.model_copy(update={"learning_rate": 1e-2}))
    ensemble.model, ensemble.best_epoch = model.ensemble.model, model.ensemble.best_epoch
    return replace(model, ensemble=ensemble)


def test_the_velocity_is_a_straight_line_across_the_signal_region():
    settings = Sigma(**TINY, frequencies=3)
    network = InterpolatedFlowMatching.build(2, settings, [1, 2])
    x, t = torch.randn(2, 2, 5), torch.full((2, 1, 5), 0.3)
    at = {mass: network.velocity(x, t, torch.full((2, 1, 5), mass)) for mass in (-0.4, 0.1, 0.3, 0.6, 0.9)}
    network.across = (-0.4, 0.6)
    for mass, share in ((0.1, 0.5), (0.3, 0.7)):
        between = torch.lerp(at[-0.4], at[0.6], share)
        torch.testing.assert_close(network.velocity(x, t, torch.full((2, 1, 5), mass)), between)
        assert (between != at[mass]).all()
    for mass in (-0.4, 0.6, 0.9):
        torch.testing.assert_close(network.velocity(x, t, torch.full((2, 1, 5), mass)), at[mass])
    both = torch.tensor([0.9, 0.1, 0.9, 0.1, 0.9]).expand(2, 1, 5)
    torch.testing.assert_close(network.velocity(x, t, both)[..., 1::2], torch.lerp(at[-0.4], at[0.6], 0.5)[..., 1::2])
    torch.testing.assert_close(network.velocity(x, t, both)[..., ::2], at[0.9][..., ::2])


def test_a_trained_velocity_is_that_of_the_weights_averaged_over_the_epochs():
    """The first epoch alone, then a third of it and two thirds of the second; what is trained are the weights."""
    network = InterpolatedFlowMatching.build(2, Sigma(**TINY, frequencies=1), [1, 2])
    first, second, seen = [], [], (torch.zeros(2, 2, 3), torch.zeros(2, 1, 3))
    for weights in (first, second):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
                weights.append(parameter.clone())
        network.finish_epoch(*seen)
    x, t, mass = torch.randn(2, 2, 3), torch.full((2, 1, 3), 0.3), torch.full((2, 1, 3), 0.1)
    trained, averaged = network.train().velocity(x, t, mass), network.eval().velocity(x, t, mass)
    with torch.no_grad():
        for parameter, one, two in zip(network.parameters(), first, second, strict=True):
            parameter.copy_(one / 3 + two * 2 / 3)
    torch.testing.assert_close(averaged, network.train().velocity(x, t, mass))
    assert (averaged - trained).abs().max() > 0.01


def test_the_network_tells_masses_apart_by_sines_and_cosines_of_octaves():
    network = InterpolatedFlowMatching.build(1, Sigma(**TINY, frequencies=2), [1])
    t, mass = torch.full((1, 1, 3), 0.5), torch.tensor([[[0.0, 0.5, 1.0]]])
    rows = torch.cat(network.conditions(t, mass), dim=1)[0]
    sines = np.sin(np.pi / 2 * np.outer([1, 2], [0.0, 0.5, 1.0]))
    cosines = np.cos(np.pi / 2 * np.outer([1, 2], [0.0, 0.5, 1.0]))
    np.testing.assert_allclose(rows, np.concatenate([[[0.5] * 3, [0.0, 0.5, 1.0]], sines, cosines]), atol=1e-6)


class Known:
    """A model whose feature is its mass."""

    def sample(self, mass, stream):
        return Events.of(mass, mass[:, None], ["mass"], weight=mass)


def test_the_density_is_a_straight_line_across_the_signal_region():
    model = InterpolatedBackground(KINDS["interpolated"], Known()).across(WINDOW)
    mass = np.repeat([8.5, 9.0, 9.8, 11.0, 12.0], 20_000)
    sampled = model.sample(mass, Stream(1))
    np.testing.assert_array_equal(sampled.mass, mass)
    values = sampled.features[:, 0].reshape(5, -1)
    low, high = WINDOW.around_sr(0.5)
    assert (low, high) == pytest.approx((8.2, 11.4))
    assert {*np.unique(values[:4])} == {low, high}  # nothing of the masses in between
    assert {*np.unique(values[4])} == {12.0}
    expected = (mass.reshape(5, -1)[:4, 0] - low) / (high - low)
    np.testing.assert_allclose((values[:4] == high).mean(axis=1), expected, atol=0.02)  # 6 standard deviations
    np.testing.assert_array_equal(sampled.weight, sampled.features[:, 0])  # goes with the features


def test_put_elsewhere_and_back_it_is_the_same(model):
    elsewhere, mass = model.across(ELSEWHERE), np.linspace(6, 15, 60)
    assert isinstance(elsewhere, Rewindowed)
    one, other = (each.sample(mass, Stream(5)).features for each in (model, elsewhere))
    assert (one != other).any()
    np.testing.assert_array_equal(one, elsewhere.across(WINDOW).sample(mass, Stream(5)).features)
    outside = ~((mass > 8) & (mass < 14))
    np.testing.assert_array_equal(one[outside], other[outside])


def test_a_window_costs_no_training(toy):
    """The training of all windows is one: that for a window is the one for none, put across it."""
    events, scaler = toy
    estimator, mass = KINDS["sigma"].estimator(scaler), np.linspace(6, 15, 60)
    for_window, for_none = trained(estimator, events, ELSEWHERE, Stream(3)), estimator.fit(events, Stream(3))
    np.testing.assert_array_equal(
        for_window.sample(mass, Stream(5)).features, for_none.across(ELSEWHERE).sample(mass, Stream(5)).features
    )


def test_a_saved_model_samples_the_same(model):
    restored, mass = saved.from_bytes(saved.to_bytes(model)), np.linspace(6, 15, 60)
    assert (restored.kind, restored.members, restored.ends) == (model.kind, 2, model.ends)
    one, other = (each.sample(mass, Stream(4)) for each in (model, restored))
    np.testing.assert_array_equal(one.features, other.features)
    some = (each.with_members([1]).sample(mass, Stream(4)).features for each in (model, restored))
    np.testing.assert_array_equal(*some)


def test_the_interpolated_density_integrates_to_one(toy):
    """That of a feature, by its flow at a mass of the SR, on a grid."""
    events, _ = toy
    one = Events.of(events.mass, events.features[:, :1], NAMES[:1])
    scaler = Preparation().scaler(one, ~WINDOW.in_sr(one.mass))
    model = trained(Sigma(**TINY).estimator(scaler), one, WINDOW, Stream(3))
    grid = np.linspace(one.features.min(), one.features.max() + 2, 400)
    density = np.exp(model.log_prob(Events.of(np.full(400, 9.8), grid[:, None], NAMES[:1])))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.03)  # what lies beyond the grid


class Recording:
    """An estimator that remembers the masses that it is handed."""

    def fit(self, events, stream, *, pool=None, checkpoint=None):
        self.masses = events.mass
        return Known()


class RecordingAll(Recording):
    """One that sees the SR, too."""

    def fit_across(self, events, window, stream, *, pool=None, checkpoint=None):
        self.window = window
        return self.fit(events, stream)


def test_the_sr_is_handed_to_those_alone_who_take_it_out(toy):
    events, _ = toy
    usual, other = Recording(), RecordingAll()
    for estimator in (usual, other):
        trained(estimator, events, WINDOW, Stream(1))
    np.testing.assert_array_equal(usual.masses, events.mass[~WINDOW.in_sr(events.mass)])
    np.testing.assert_array_equal(other.masses, events.mass)


@pytest.mark.parametrize("low", [5.0, 6.0])
def test_a_hidden_window_is_taken_out_like_the_sr(toy, low):
    events, made = toy[0], []
    sidebands = events[WINDOW.in_sidebands(events.mass)]

    def make(scaler):
        made.append(RecordingAll())
        return made[-1]

    one = Events.of(sidebands.mass, sidebands.mass[:, None], ["mass"])
    checks = HeldOut(make, Preparation(), one, WINDOW, copies=1, pool=AtOnce())
    record = checks.shifted_window(low, 7.0, Stream(2))
    assert record.n_train == len(sidebands) == len(made[0].masses)
    assert (made[0].window.sr_low, made[0].window.sr_high) == (low, 7.0)
    assert record.n_real == ((one.mass >= low) & (one.mass <= 7.0)).sum()


@pytest.mark.parametrize("kind", list(KINDS))
def test_steps_3_to_6_by_settings_alone(toy, kind):
    estimator = KINDS[kind].model_dump(mode="json")
    settings = {
        "features": {"set": NAMES, "define": {name: {} for name in NAMES}},
        "background": {"oversampling": 2.0},
        "bdt": {"members": 2, "folds": 3, "classifier": {"n_trees": 20}},
    }
    result = dimuon.search(toy[0], WINDOW, estimator=estimator, **settings)
    assert result.found.no_cut.n_obs == WINDOW.in_sr(toy[0].mass).sum()
    assert np.isfinite(result.score).all()
