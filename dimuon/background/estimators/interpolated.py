"""Any estimator trained once on all masses, its density interpolated across the signal region.

p(x | m) in the SR is the straight line, in the mass, between the densities that the model has at two masses outside of
it: an event is sampled at one of the two, with a chance that is its mass's nearness. The events of the SR are among
those trained on, but only what they change at the two masses gets into their own background; no training is needed for
another SR. Where SIGMA (`background.sigma`) interpolates a velocity, here it is the density of an estimator of any
kind. What drifts by d standard deviations from one mass to the other gets wider in the middle by a factor of
sqrt(1 + d^2 / 4): little in a narrow window, and looked at by the closure in a hidden one (`background.held_out`).
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from dimuon.arrays import FloatArray, IntArray
from dimuon.background.estimators.flows import Maf
from dimuon.background.kinds import ESTIMATORS, AnyEstimator, EstimatorSettings
from dimuon.background.protocol import BackgroundEstimator, BackgroundModel, Checkpoint
from dimuon.background.scaler import LogitScaler
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.regions import MassWindow


class Interpolated(EstimatorSettings):
    """An estimator of all masses, its density interpolated across the signal region. No value is a paper's."""

    kind: Literal["interpolated"] = "interpolated"
    of: AnyEstimator = Maf()
    margin: Annotated[float, Field(ge=0)] = 0.25  # where the interpolation starts, in widths of the SR outside of it

    @property
    def on_cpu(self) -> bool:
        """Whether it is trained on the CPU."""
        return self.of.on_cpu

    @property
    def sentence(self) -> str:
        """What a report says of it."""
        return (
            f"{self.of.sentence} It is trained on all events, those of the signal region included, and its density is "
            "interpolated across it."
        )

    @property
    def worker_modules(self) -> list[str]:
        """Those of the estimator."""
        return self.of.worker_modules

    def estimator(self, scaler: LogitScaler) -> BackgroundEstimator:
        """An untrained estimator."""
        return UntrainedInterpolation(self, self.of.estimator(scaler))

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> BackgroundModel:
        """The model as it was saved, across the window that it was for."""
        learned, ends = ESTIMATORS[state["learned"]["kind"]].restored(state["learned"]), state["ends"]
        return InterpolatedBackground(cls.model_validate(state["settings"]), learned, ends and (ends[0], ends[1]))


ESTIMATORS.register("interpolated", Interpolated)


@dataclass(frozen=True, eq=False)
class UntrainedInterpolation:
    """An untrained estimator for all events of a range; a `protocol.WholeWindowEstimator`."""

    settings: Interpolated
    of: BackgroundEstimator

    def fit(
        self, events: Events, stream: Stream, *, pool: Executor | None = None, checkpoint: Checkpoint | None = None
    ) -> "InterpolatedBackground":
        """The model of events of all masses, which interpolates nowhere yet. Errors: those of the estimator."""
        return InterpolatedBackground(self.settings, self.of.fit(events, stream, pool=pool, checkpoint=checkpoint))

    def fit_across(
        self,
        events: Events,
        window: MassWindow,
        stream: Stream,
        *,
        pool: Executor | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> "InterpolatedBackground":
        """The model of all events, those of the SR included, interpolated across the window's SR."""
        return self.fit(events, stream, pool=pool, checkpoint=checkpoint).across(window)


@dataclass(frozen=True, eq=False)
class InterpolatedBackground:
    """A trained model of all masses; a `BackgroundModel` that can be put across any window (`protocol.Rewindowed`).

    learned: the model. ends: masses [GeV] between which its density is interpolated; None: nowhere.
    """

    settings: Interpolated
    learned: BackgroundModel
    ends: tuple[float, float] | None = None

    def across(self, window: MassWindow) -> "InterpolatedBackground":
        """The same model, interpolated across the SR of a window. Nothing is trained or copied."""
        return replace(self, ends=window.around_sr(self.settings.margin))

    @property
    def kind(self) -> str:
        """Its name in the registry."""
        return self.settings.kind

    @property
    def scaler(self) -> LogitScaler:
        """That of the model."""
        return self.learned.scaler

    @property
    def members(self) -> int:
        """Those of the model."""
        return self.learned.members

    @property
    def n_parameters(self) -> int:
        """Of a member of the model."""
        return self.learned.n_parameters

    @property
    def losses(self) -> FloatArray:
        """Of the model: (members, epochs, 2)."""
        return self.learned.losses

    def member_of(self, n_events: int) -> IntArray:
        """(n_events,): the member of each event."""
        return self.learned.member_of(n_events)

    def with_members(self, members: Sequence[int]) -> "InterpolatedBackground":
        """The model of some members alone."""
        return replace(self, learned=self.learned.with_members(members))

    def sample(self, mass: FloatArray, stream: Stream) -> Events:
        """Events at given masses [GeV], weighted where the model weights its own."""
        mass = np.asarray(mass, dtype=float)
        if self.ends is None:
            return self.learned.sample(mass, stream)
        low, high = self.ends
        share = (mass - low) / (high - low)
        nearer = np.where(stream.child("end").generator().uniform(size=len(mass)) < share, high, low)
        learned = self.learned.sample(np.where((share > 0) & (share < 1), nearer, mass), stream)
        return replace(learned, mass=mass)

    def state(self) -> dict[str, Any]:
        """Tensors, numbers and texts for `Interpolated.restored`."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "learned": {"kind": self.learned.kind, **self.learned.state()},
            "ends": None if self.ends is None else list(self.ends),
        }
