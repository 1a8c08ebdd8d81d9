"""An ensemble over kinds: several estimators trained on the same events, each of equal weight.

Where each kind is wrong in a way of its own, the mean of their densities is closer than any of them. Samples come
from the members of all of them in equal shares, as from an ensemble of one kind.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from dimuon.arrays import FloatArray, IntArray
from dimuon.background.estimators.flows import Maf, SplineCoupling
from dimuon.background.kinds import ESTIMATORS, AnyEstimator, EstimatorSettings
from dimuon.background.protocol import BackgroundEstimator, BackgroundModel, Checkpoint
from dimuon.background.scaler import LogitScaler
from dimuon.events import Events
from dimuon.random import Stream


class Mixture(EstimatorSettings):
    """Estimators side by side. No value is a paper's."""

    kind: Literal["mixture"] = "mixture"
    parts: Annotated[list[AnyEstimator], Field(min_length=2)] = [Maf(), SplineCoupling()]

    @property
    def on_cpu(self) -> bool:
        """Whether all of them are trained on the CPU."""
        return all(part.on_cpu for part in self.parts)

    @property
    def sentence(self) -> str:
        """What a report says of them."""
        return "A mixture of estimators. " + " ".join(part.sentence for part in self.parts)

    @property
    def worker_modules(self) -> list[str]:
        """Those of all of them."""
        return list(dict.fromkeys(module for part in self.parts for module in part.worker_modules))

    @property
    def made_of(self) -> list[EstimatorSettings]:
        """Its parts."""
        return self.parts

    def composed(self, models: Sequence[BackgroundModel], sidebands: Events, stream: Stream) -> "MixedBackground":
        """The trained parts side by side."""
        return MixedBackground(self, tuple(models))

    def estimator(self, scaler: LogitScaler) -> BackgroundEstimator:
        """Untrained estimators."""
        return UntrainedMixture(self, tuple(part.estimator(scaler) for part in self.parts))

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> BackgroundModel:
        """The model as it was saved."""
        parts = tuple(ESTIMATORS[part["kind"]].restored(part) for part in state["parts"])
        return MixedBackground(cls.model_validate(state["settings"]), parts)


ESTIMATORS.register("mixture", Mixture)


@dataclass(frozen=True, eq=False)
class UntrainedMixture:
    """Untrained parts; a `BackgroundEstimator`."""

    settings: Mixture
    parts: tuple[BackgroundEstimator, ...]

    def fit(
        self, events: Events, stream: Stream, *, pool: Executor | None = None, checkpoint: Checkpoint | None = None
    ) -> "MixedBackground":
        """Every part trained on the events, from a stream of its own. Errors: those of the parts."""
        first, models = 0, []
        for number, part in enumerate(self.parts):
            place = None if checkpoint is None else checkpoint.part(first)
            models.append(part.fit(events, stream.child("part", number).rooted(), pool=pool, checkpoint=place))
            first += models[-1].members
        return self.settings.composed(models, events, stream)


@dataclass(frozen=True, eq=False)
class MixedBackground:
    """Trained parts; a `BackgroundModel`. Its members are those of the parts, one part after the other."""

    settings: Mixture
    parts: tuple[BackgroundModel, ...]

    @property
    def kind(self) -> str:
        """Its name in the registry."""
        return self.settings.kind

    @property
    def scaler(self) -> LogitScaler:
        """The one that all parts were given."""
        return self.parts[0].scaler

    @property
    def members(self) -> int:
        """Those of all parts."""
        return sum(part.members for part in self.parts)

    @property
    def n_parameters(self) -> int:
        """Of the largest part."""
        return max(part.n_parameters for part in self.parts)

    @property
    def losses(self) -> FloatArray:
        """(members, epochs, 2); NaN after a member has stopped, as where its part was trained for fewer epochs."""
        parts = [part.losses for part in self.parts]
        n_epochs = max(losses.shape[1] for losses in parts)
        missing = [((0, 0), (0, n_epochs - losses.shape[1]), (0, 0)) for losses in parts]
        return np.concatenate(
            [np.pad(losses, pad, constant_values=np.nan) for losses, pad in zip(parts, missing, strict=True)]
        )

    def member_of(self, n_events: int) -> IntArray:
        """(n_events,): the member of each event, in turn."""
        member: IntArray = np.arange(n_events) % self.members
        return member

    def with_members(self, members: Sequence[int]) -> BackgroundModel:
        """The model of some members alone, by their numbers; in the order of the parts."""
        parts, first = [], 0
        for part in self.parts:
            own = [number - first for number in members if first <= number < first + part.members]
            first += part.members
            if own:
                parts.append(part.with_members(own))
        return parts[0] if len(parts) == 1 else MixedBackground(self.settings, tuple(parts))

    def sample(self, mass: FloatArray, stream: Stream) -> Events:
        """Events at given masses [GeV]; weighted where a part weights its own."""
        member, first = self.member_of(len(mass)), 0
        drawn, places = [], []
        for number, part in enumerate(self.parts):
            chosen = np.flatnonzero((member >= first) & (member < first + part.members))
            first += part.members
            drawn.append(part.sample(np.asarray(mass)[chosen], stream.child("part", number).rooted()))
            places.append(chosen)
        in_turn = reduce(add, drawn)[np.argsort(np.concatenate(places))]
        return replace(in_turn, row=np.arange(len(mass)))

    def state(self) -> dict[str, Any]:
        """Tensors, numbers and texts for `Mixture.restored`."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "parts": [{"kind": part.kind, **part.state()} for part in self.parts],
        }
