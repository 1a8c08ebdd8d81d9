"""Flows on a GPU: the same densities as on the CPU, resumed to the same result. Skipped where there is none."""

import numpy as np
import pytest
import torch

from dimuon.background.estimators import flows
from dimuon.background.flow_ensemble import FlowEnsemble
from dimuon.random import Stream

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
SIZE = {"members": 3, "blocks": 3, "hidden": 16, "epochs": 6, "batch_size": 128}
KINDS = {kind.model_fields["kind"].default: kind for kind in (flows.Maf, flows.SplineAutoregressive,
                                                              flows.SplineCoupling, flows.FlowMatching)}  # fmt: skip


def events(n=2000):
    """(prepared features, scaled mass): correlated, and moving with the mass."""
    rng = np.random.default_rng(1)
    mass = rng.normal(0, 1, n)
    x = rng.normal(0, 1, (n, 3)) + 0.5 * mass[:, None]
    x[:, 1] += 0.5 * x[:, 0] ** 2
    return x, mass


def trained(kind, device, checkpoint=None, **changed):
    x, mass = events()
    settings = KINDS[kind](**SIZE | {"device": device} | changed)
    return FlowEnsemble(settings).fit(x, mass, Stream(5), checkpoint=checkpoint)


@pytest.mark.parametrize("kind", KINDS)
def test_training_on_a_gpu_goes_as_on_the_cpu(kind):
    """Not bit by bit: sums are taken in another order. The same batches and starting weights all the same."""
    x, mass = events(500)
    gpu, cpu = trained(kind, "cuda"), trained(kind, "cpu")
    np.testing.assert_allclose(gpu.losses, cpu.losses, atol=2e-3)
    assert np.abs(gpu.log_prob(x, mass) - cpu.log_prob(x, mass)).mean() < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_means_the_same_on_both(kind):
    x, mass = events(500)
    gpu = trained(kind, "cuda")
    moved = FlowEnsemble.from_state(gpu.state(), gpu.settings.model_copy(update={"device": "cpu"}))
    np.testing.assert_allclose(moved.log_prob(x, mass), gpu.log_prob(x, mass), atol=1e-3)
    np.testing.assert_allclose(moved.sample(mass, Stream(6)), gpu.sample(mass, Stream(6)), atol=1e-2)


class Interrupted(Exception):
    """Stands for the end of a session."""


class Memory:
    """A checkpoint in memory; the training is cut off when it saves for the `last` time."""

    name = "flows"

    def __init__(self, last=None):
        self.content, self.saved, self.last = None, 0, last

    def load(self):
        return self.content

    def save(self, content):
        self.content = content
        self.saved += 1
        if self.saved == self.last:
            raise Interrupted

    def clear(self):
        self.content = None

    def part(self, number):
        return self


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_training_goes_on_to_the_same_result(kind):
    memory = Memory(last=3)
    with pytest.raises(Interrupted):
        trained(kind, "cuda", memory)
    assert memory.content is not None
    memory.last = None
    resumed, whole = trained(kind, "cuda", memory), trained(kind, "cuda")
    np.testing.assert_allclose(resumed.losses, whole.losses, atol=1e-5)
