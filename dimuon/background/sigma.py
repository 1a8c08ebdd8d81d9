"""SIGMA: one flow of all events of a range, interpolated across a signal region (arXiv:2410.20537).

The paper trains one conditional flow matching on all data, the signal region included, with a network that resolves
narrow masses, and makes the background of an SR of what the network says on its two sides: every layer that sees the
mass gives, in the SR, the line between what it gives at the two masses, and the rest of the network follows from that.
No training is needed for another SR. The published code (github.com/rd804/SIGMA) takes the two masses a quarter of the
SR's width outside of it (3.2 and 3.8 TeV for an SR from 3.3 to 3.7 TeV) and compares with interpolating the velocity
itself.

Here it is the velocity (`flow_matching.InterpolatedFlowMatching`), which needs no layer of a special form. Also
different: the network is the one of `flow_matching`, plain and without batch norm or dropout, with fewer frequencies;
members are an ensemble of trainings, each in the state of its lowest validation loss, where the paper takes ten states
of one training; masses in the SR come from the fit to the sidebands, not from the SR data.

An event of the SR has a say in the model of its own background only as far as the network cannot tell its mass from
those of the two ends; how far that goes is a matter of `frequencies` and `margin`, and tested on toys with a signal.
"""

from concurrent.futures import Executor
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self

from dimuon.background.conditional import ConditionalBackground, ConditionalFlows
from dimuon.background.flow_ensemble import FlowEnsemble
from dimuon.background.protocol import Checkpoint, State
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.regions import MassWindow


@dataclass(frozen=True, eq=False)
class UntrainedSigma(ConditionalFlows):
    """Untrained flows for all events of a range; a `protocol.WholeWindowEstimator`."""

    seen: ClassVar[str] = "events"

    def fit(
        self, events: Events, stream: Stream, *, pool: Executor | None = None, checkpoint: Checkpoint | None = None
    ) -> "SigmaBackground":
        """The model of events of all masses, which interpolates nowhere yet. Errors: as those of other flows."""
        trained = super().fit(events, stream, pool=pool, checkpoint=checkpoint)
        return SigmaBackground(**{field.name: getattr(trained, field.name) for field in fields(trained)})

    def fit_across(
        self,
        events: Events,
        window: MassWindow,
        stream: Stream,
        *,
        pool: Executor | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> "SigmaBackground":
        """The model of all events, those of the SR included, interpolated across the window's SR."""
        return self.fit(events, stream, pool=pool, checkpoint=checkpoint).across(window)


@dataclass(frozen=True, eq=False)
class SigmaBackground(ConditionalBackground):
    """Trained flows of all masses; a `BackgroundModel` that can be put across any window (`protocol.Rewindowed`).

    ends: masses [GeV] between which the velocity is interpolated; None: nowhere, at every mass as it was learned.
    """

    ends: tuple[float, float] | None = None

    @property
    def margin(self) -> float:
        """Where the interpolation starts, in widths of the SR outside of it."""
        settings: Any = self.ensemble.settings  # of the kind sigma
        return float(settings.margin)

    def across(self, window: MassWindow) -> Self:
        """The same flows, interpolated across the SR of a window. Nothing is trained or copied."""
        return replace(self, ends=window.around_sr(self.margin))

    @cached_property
    def sampler(self) -> FlowEnsemble:
        """The ensemble, interpolating."""
        if self.ends is None:
            return self.ensemble
        low, high = ((end - self.mass_mean) / self.mass_std for end in self.ends)
        return self.ensemble.across(low, high)

    def state(self) -> dict[str, Any]:
        """Tensors, numbers and texts for `from_state`."""
        return {**super().state(), "ends": None if self.ends is None else list(self.ends)}

    @classmethod
    def from_state(cls, state: State, settings: Any) -> Self:
        """The model that `state()` described. settings: the flows' own."""
        ends = state["ends"]
        return replace(super().from_state(state, settings), ends=None if ends is None else (ends[0], ends[1]))
