"""CURTAINs, flows for flows: sideband events carried to the masses of the SR by a trained map (arXiv:2305.04646).

A flow of the sidebands, the configured one, is the base. On it stands a second flow that carries an event from its mass
to another one: it is trained on pairs of masses of the sidebands, in either direction, so that what arrives has the
density of the base there. It departs from the paper in the second flow (affine couplings that are the identity where
both masses are the same, by construction, in place of splines), in that it is trained for a fixed time, and in that
what was made of an event is never in the template of what scores it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dimuon.arrays import FloatArray, IntArray
from dimuon.background.conditional import ConditionalBackground
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.methods.protocol import METHODS, Given, Needs, Scores, against, background_model
from dimuon.random import Stream

BLOCKS, HIDDEN, EPOCHS, BATCH, LEARNING_RATE = 4, 24, 10, 512, 3e-3

LogDensity = Callable[[Any, Any], Any]


@dataclass(frozen=True, eq=False)
class Transport:
    """A trained map. networks: of each block, from the features that it keeps and both masses to scale and shift."""

    networks: list[Any]
    mass_mean: float
    mass_std: float

    @classmethod
    def trained(cls, x: FloatArray, mass: FloatArray, base: ConditionalBackground, stream: Stream) -> "Transport":
        """On sideband events: prepared features (n_events, n_features), masses [GeV]. Raises `AnalysisError` for a kind
        of flow whose density has no gradient."""
        import torch

        from dimuon.background.training import one_thread

        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream.child("initial").integer())
            d = x.shape[1]
            made = cls([_network(len(_kept(d, i)), d - len(_kept(d, i))) for i in range(BLOCKS)], base.mass_mean,
                       base.mass_std)  # fmt: skip
            weights = [weight for network in made.networks for weight in network.parameters()]
            optimizer = torch.optim.Adam(weights, lr=LEARNING_RATE)
            rng, density = stream.child("order").generator(), _density(base)
            events, masses = torch.tensor(x, dtype=torch.float32), torch.tensor(made._scaled(mass), dtype=torch.float32)
            for _ in range(EPOCHS):
                order, target = rng.permutation(len(x)), rng.permutation(len(x))
                for start in range(0, len(x), BATCH):
                    chosen, there = (torch.as_tensor(each[start : start + BATCH]) for each in (order, target))
                    arrived, log_volume = made._carried(events[chosen], masses[chosen], masses[there])
                    optimizer.zero_grad()
                    (-(density(arrived, masses[there]) + log_volume).mean()).backward()
                    optimizer.step()
        return made

    def carry(self, x: FloatArray, mass: FloatArray, target: FloatArray) -> FloatArray:
        """Prepared features at other masses [GeV]: (n_events, n_features)."""
        import torch

        from dimuon.background.training import one_thread

        with one_thread(), torch.no_grad():
            tensors = [torch.tensor(each, dtype=torch.float32) for each in (x, *map(self._scaled, (mass, target)))]
            return np.asarray(self._carried(*tensors)[0].numpy(), dtype=float)

    def _scaled(self, mass: FloatArray) -> FloatArray:
        return np.asarray((mass - self.mass_mean) / self.mass_std)

    def _carried(self, x: Any, mass: Any, target: Any) -> tuple[Any, Any]:
        """(features at the target masses, log of the volume that they take up): tensors of float32."""
        import torch

        away, log_volume = (target - mass)[:, None], torch.zeros(len(x))
        for number, network in enumerate(self.networks):
            kept = _kept(x.shape[1], number)
            moved = [place for place in range(x.shape[1]) if place not in kept]
            given = torch.cat([x[:, kept], mass[:, None], target[:, None]], dim=1)
            log_scale, shift = (network(given) * away).chunk(2, dim=1)
            log_scale = torch.tanh(log_scale)
            x = x.clone()
            x[:, moved] = x[:, moved] * log_scale.exp() + shift
            log_volume = log_volume + log_scale.sum(dim=1)
        return x, log_volume


def _kept(d: int, block: int) -> list[int]:
    """The features that a block leaves as they are: every other one, in turn; none of a single one."""
    return [place for place in range(d) if place % 2 == block % 2] if d > 1 else []


def _network(n_kept: int, n_moved: int) -> Any:
    """That gives nothing before it is trained: the map begins as the identity."""
    from torch import nn

    last = nn.Linear(HIDDEN, 2 * n_moved)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(n_kept + 2, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), last)


def _density(base: ConditionalBackground) -> LogDensity:
    """log of the members' mean density, with its gradient: tensors (n_events, n_features) and (n_events,)."""
    import torch

    model, members = base.ensemble.model, base.members

    def density(x: Any, mass: Any) -> Any:
        each = model.log_prob(x.T.expand(members, -1, -1), mass[None].expand(members, -1, -1))
        if not each.requires_grad:
            raise AnalysisError(f"the density of a flow of kind {base.kind} has no gradient; take another", "kind")
        return torch.logsumexp(each, dim=0) - np.log(members)

    return density


@dataclass(frozen=True)
class Curtains:
    """A flow on a flow."""

    title: str = "CURTAINs"
    needs: Needs = Needs.EVENTS
    paper: str = "arXiv:2305.04646"

    def learn(self, given: Given) -> Transport:
        """Both flows. Raises `AnalysisError` for an estimator that is no flow."""
        base = background_model(given)
        if not isinstance(base, ConditionalBackground):
            raise AnalysisError(f"an estimator of kind {base.kind} is no flow; take one", setting="kind")
        sidebands = given.sidebands
        return Transport.trained(given.prepared(sidebands), sidebands.mass, base, given.stream.child("transport"))

    def score(self, given: Given, learned: Transport) -> Scores:
        """SR events against sideband events carried there, in the number that other methods sample."""
        sidebands, own = given.sidebands, given.stream.child("carry")
        rng = own.generator()
        turns = -(-given.n_sampled // len(sidebands))
        source: IntArray = np.concatenate([rng.permutation(len(sidebands)) for _ in range(turns)])[: given.n_sampled]
        template = self._carried(given, learned, source, given.sr_masses(given.n_sampled, own.child("mass")))
        closure = self._carried(given, learned, rng.permutation(len(sidebands)), sidebands.mass)
        scores = against(given, template, given.folds[~given.in_sr][source])
        return Scores(scores.events, scores.further, True, template, closure, scores.members)

    def _carried(self, given: Given, learned: Transport, source: IntArray, mass: FloatArray) -> Events:
        """Sideband events, by their numbers, at other masses."""
        events = given.sidebands[source]
        there = learned.carry(given.prepared(events), events.mass, mass)
        return Events.of(mass, given.scaler.inverse(there), events.names)


METHODS.register("curtains", Curtains())
