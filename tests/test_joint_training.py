"""Ensembles of several samples trained in one stack: each gets what it gets alone."""

import numpy as np
import pytest
import torch

from dimuon import Events, Stream
from dimuon.background.conditional import ConditionalFlows, fit_jointly
from dimuon.background.estimators.flows import FlowMatching, Maf
from dimuon.background.flow_ensemble import MODELS
from dimuon.background.joint_training import Sample, _Adam, train_jointly
from dimuon.background.scaler import Preparation
from dimuon.background.training import train_stack

SHORT = {"members": 2, "blocks": 2, "hidden": 8, "epochs": 3, "batch_size": 64}
SIZES = (300, 900, 161, 641)  # 3 (of them 1 not whole), 12, 2, and 8 and one event, which joins the batch before it


def samples(sizes=SIZES):
    rng = np.random.default_rng(3)
    made = []
    for number, n in enumerate(sizes):
        mass = rng.normal(size=n)
        made.append(Sample.of(rng.normal(size=(n, 2)) + mass[:, None], mass, Stream(number)))
    return made


@pytest.mark.parametrize("settings", [Maf(**SHORT), FlowMatching(**SHORT)], ids=lambda settings: settings.kind)
def test_each_sample_gets_what_it_gets_alone(settings):
    """The losses of three epochs, to single precision; the states where Adam does not divide noise by noise."""
    joint = train_jointly(MODELS[settings.kind], settings, samples())
    for sample, trained in zip(samples(), joint, strict=True):
        model, events = MODELS[settings.kind], (sample.features, sample.mass, sample.stream)
        alone = train_stack(model, settings, *events, [0, 1])
        np.testing.assert_allclose(trained.losses, alone.losses, rtol=2e-5)
        np.testing.assert_array_equal(trained.best_epoch, alone.best_epoch)
        for name, value in alone.state.items():
            np.testing.assert_allclose(trained.state[name], value, atol=1e-6 if settings.kind != "maf" else 5e-3)


def test_a_neighbour_changes_nothing():
    settings, (first, second, *_) = FlowMatching(**SHORT), samples()
    other = samples((300, 500))[1]
    one, two = (train_jointly(MODELS["flow_matching"], settings, [first, each])[0] for each in (second, other))
    np.testing.assert_allclose(one.losses, two.losses, rtol=1e-6)


def test_steps_are_those_of_adam():
    """As torch's, for members that make different numbers of steps."""
    torch.manual_seed(1)
    start, gradients = torch.randn(2, 3), torch.randn(5, 2, 3)
    mine = {"w": start.clone()}
    adam = _Adam(mine, 0.01, 0.1)
    for gradient in gradients[:2]:
        adam.step(slice(0, 2), {"w": gradient})
    for gradient in gradients[2:]:
        adam.step(slice(0, 1), {"w": gradient[:1]})
    for member, n_steps in ((0, 5), (1, 2)):
        weight = torch.nn.Parameter(start[member].clone())
        known = torch.optim.Adam([weight], lr=0.01, weight_decay=0.1)
        for gradient in gradients[:n_steps]:
            weight.grad = gradient[member].clone()
            known.step()
        torch.testing.assert_close(mine["w"][member], weight.detach())


def test_models_in_physical_units_sample_alike():
    rng, settings = np.random.default_rng(5), Maf(**SHORT)
    flows, events = [], []
    for n in (700, 560):
        mass = rng.uniform(5, 16, n)
        events.append(Events.of(mass, rng.normal(0, 1, (n, 2)) + mass[:, None], ["a", "b"]))
        flows.append(ConditionalFlows(settings, Preparation().scaler(events[-1], np.ones(n, dtype=bool))))
    at = np.linspace(6, 15, 40)
    for one, own, stream, joint in zip(
        flows, events, map(Stream, (1, 2)), fit_jointly(flows, events, [Stream(1), Stream(2)]), strict=True
    ):
        alone = one.fit(own, stream)
        sampled = [model.sample(at, Stream(3)).features for model in (alone, joint)]
        np.testing.assert_allclose(*sampled, atol=0.02)  # of a spread of 3
        assert joint.losses.shape == alone.losses.shape


def test_members_that_stop_early_are_refused():
    with pytest.raises(ValueError, match="stop early"):
        train_jointly(MODELS["maf"], Maf(**SHORT, patience=3), samples())
