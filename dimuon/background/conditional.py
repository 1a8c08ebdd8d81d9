"""The flows' background in physical units: features given the mass, learned in the sidebands (paper, step 2).

p(x, m) = p(x | m) p(m): the flows give the first factor, interpolated over the SR; the polynomial fitted to the
sideband masses gives the second (`mass_model`). No event of the SR takes part in either fit.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from dimuon.arrays import FloatArray, IntArray
from dimuon.background.flow_ensemble import FlowEnsemble
from dimuon.background.joint_training import Sample
from dimuon.background.protocol import Checkpoint, State
from dimuon.background.scaler import LogitScaler
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.random import Stream

log = logging.getLogger("dimuon")

MIN_SIDEBAND_EVENTS = 500  # fewer do not determine a conditional density


def resolvable(scaler: LogitScaler, events: Events, seen: str = "sideband events") -> Events:
    """The events of which a scaler makes finite numbers; those left out are reported. seen: what they are, in words.

    Raises `AnalysisError` with fewer than 500 events.
    """
    outside = scaler.outside(events.features)
    if outside.any():
        log.warning(
            "%d of %d %s lie outside the range of the feature scaler: left out of the flow training",
            outside.sum(),
            len(outside),
            seen,
        )
    inside = events[~outside]
    if len(inside) < MIN_SIDEBAND_EVENTS:
        raise AnalysisError(
            f"{len(inside)} {seen} to train flows on, at least {MIN_SIDEBAND_EVENTS} are needed; "
            "widen the window or loosen the selection"
        )
    return inside


@dataclass(frozen=True, eq=False)
class ConditionalFlows:
    """Untrained flows of features that a scaler prepares; a `BackgroundEstimator`. settings: of `estimators.flows`."""

    settings: Any
    scaler: LogitScaler
    seen: ClassVar[str] = "sideband events"

    def fit(
        self, events: Events, stream: Stream, *, pool: Executor | None = None, checkpoint: Checkpoint | None = None
    ) -> "ConditionalBackground":
        """The model of sideband events (`protocol.BackgroundEstimator.fit`).

        An event beyond the scaler's range (0 < v < 1, see `LogitScaler`) has no finite image; it is left out of the
        training, counted and reported. It can only occur where the scaler was fitted on other events.
        Raises `AnalysisError` with fewer than 500 events.
        """
        prepared, sample = self.prepared(events, stream)
        prepared.ensemble.fit(sample.features, sample.mass, stream, pool, checkpoint)
        return prepared

    def prepared(self, events: Events, stream: Stream) -> tuple["ConditionalBackground", Sample]:
        """The model with its ensemble untrained, and what that is to be trained on. Events and errors: as for `fit`."""
        inside = resolvable(self.scaler, events, self.seen)
        mean, std = float(inside.mass.mean()), float(inside.mass.std())
        n_outside = len(events) - len(inside)
        model = ConditionalBackground(self.scaler, mean, std, FlowEnsemble(self.settings), events.names, n_outside)
        return model, model.training_sample(inside, stream)


def fit_jointly(
    flows: Sequence[ConditionalFlows], events: Sequence[Events], streams: Sequence[Stream]
) -> list["ConditionalBackground"]:
    """What `fit` gives each of several flows of the same settings, trained in one stack (`joint_training`).

    events, streams: of each. Raises as `fit` does, and ValueError where members may stop early.
    """
    each = [one.prepared(own, stream) for one, own, stream in zip(flows, events, streams, strict=True)]
    ensembles = FlowEnsemble.fit_jointly(flows[0].settings, [sample for _, sample in each])
    return [replace(model, ensemble=ensemble) for (model, _), ensemble in zip(each, ensembles, strict=True)]


@dataclass(frozen=True, eq=False)
class ConditionalBackground:
    """Trained flows in physical units; a `BackgroundModel`.

    mass_mean, mass_std: of the sidebands, GeV. ensemble: trained. names: of the features. n_outside: sideband events
    left out of the training because the scaler has no finite image for them.
    """

    scaler: LogitScaler
    mass_mean: float
    mass_std: float
    ensemble: FlowEnsemble
    names: tuple[str, ...]
    n_outside: int = 0

    @property
    def kind(self) -> str:
        """Of the flows."""
        return str(self.ensemble.settings.kind)

    @property
    def members(self) -> int:
        """Flows in the ensemble."""
        return int(self.ensemble.settings.members)

    @property
    def n_parameters(self) -> int:
        """Weights of the networks of a flow."""
        return self.ensemble.n_parameters

    @property
    def losses(self) -> FloatArray:
        """(members, epochs, 2), train and validation; after training alone."""
        return self.ensemble.losses

    @property
    def sampler(self) -> FlowEnsemble:
        """The ensemble as samples and densities are taken from it."""
        return self.ensemble

    def member_of(self, n_events: int) -> IntArray:
        """(n_events,): the flow of each event, in turn."""
        return self.ensemble.member_of(n_events)

    def with_members(self, members: Sequence[int]) -> Self:
        """The model of some flows alone."""
        return replace(self, ensemble=self.ensemble.with_members(members))

    def sample(self, mass: FloatArray, stream: Stream) -> Events:
        """Events at given masses [GeV], of weight 1. Raises `AnalysisError` for a sample that is not finite."""
        features = self.scaler.inverse(self.sampler.sample(self._scaled(mass), stream))
        return Events.of(mass, features, self.names)

    def log_prob(self, events: Events) -> FloatArray:
        """log p(features | mass): (n_events,), in inverse physical units; ValueError outside the scaler's range."""
        prepared = self.scaler.transform(events.features)
        density: FloatArray = self.sampler.log_prob(prepared, self._scaled(events.mass))
        return density + self.scaler.log_jacobian(events.features)

    def to_noise(self, events: Events) -> FloatArray:
        """(members, n_events, n_features): see `FlowEnsemble.to_noise`; ValueError outside the scaler's range."""
        return self.ensemble.to_noise(self.scaler.transform(events.features), self._scaled(events.mass))

    def training_sample(self, events: Events, stream: Stream) -> Sample:
        """Events as its flows are trained on them. events: `resolvable`."""
        features = self.scaler.spread(events.features, stream.child("discrete").generator())
        return Sample.of(self.scaler.transform(features), self._scaled(events.mass), stream)

    def state(self) -> dict[str, Any]:
        """Tensors, numbers and texts for `from_state`."""
        return {
            "scaler": self.scaler.state(),
            "mass_mean": self.mass_mean,
            "mass_std": self.mass_std,
            "n_outside": self.n_outside,
            "names": list(self.names),
            "estimator": self.ensemble.state(),
        }

    @classmethod
    def from_state(cls, state: State, settings: Any) -> Self:
        """The model that `state()` described. settings: the flows' own."""
        return cls(
            LogitScaler.from_state(state["scaler"]),
            state["mass_mean"],
            state["mass_std"],
            FlowEnsemble.from_state(state["estimator"], settings),
            tuple(state["names"]),
            state["n_outside"],
        )

    def _scaled(self, mass: FloatArray) -> FloatArray:
        scaled: FloatArray = (np.asarray(mass, dtype=float) - self.mass_mean) / self.mass_std
        return scaled
