"""What a background estimator is: it learns the features given the mass in the sidebands, its model samples them.

A model that is to be put under many windows is `Rewindowed`.

A new estimator is one file in `dimuon.background.estimators`: a section of settings entered in `kinds.ESTIMATORS`,
which makes the estimator and restores a saved model.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol, runtime_checkable

from dimuon.arrays import FloatArray, IntArray
from dimuon.background.scaler import LogitScaler
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.regions import MassWindow


class Checkpoint(Protocol):
    """Where an interrupted training finds what it had reached. It must be picklable: workers write their own parts."""

    @property
    def name(self) -> str:
        """A word for progress bars and messages."""
        ...

    def load(self) -> bytes | None:
        """What was last saved, None where nothing is."""
        ...

    def save(self, content: bytes) -> None:
        """Keep this in place of what was saved before, whole or not at all."""
        ...

    def clear(self) -> None:
        """Forget what was saved."""
        ...

    def part(self, number: int) -> "Checkpoint":
        """The checkpoint of a part of this training."""
        ...


class BackgroundModel(Protocol):
    """p(features | mass) of the background, in physical units, learned in the sidebands."""

    @property
    def kind(self) -> str:
        """Its name in `kinds.ESTIMATORS`."""
        ...

    @property
    def scaler(self) -> LogitScaler:
        """The transform that its features were prepared by."""
        ...

    @property
    def members(self) -> int:
        """How many models it consists of; 1 where it is no ensemble."""
        ...

    @property
    def n_parameters(self) -> int:
        """Numbers that the training of a member determines; 0 where nothing is trained."""
        ...

    @property
    def losses(self) -> FloatArray:
        """(members, epochs, 2): train and validation loss, NaN after a member has stopped."""
        ...

    def member_of(self, n_events: int) -> IntArray:
        """(n_events,): the member that `sample` takes for each of so many events."""
        ...

    def with_members(self, members: Sequence[int]) -> "BackgroundModel":
        """The model of some of its members alone, by their numbers."""
        ...

    def sample(self, mass: FloatArray, stream: Stream) -> Events:
        """Events at given masses [GeV]: (n_events,). Their weights are 1 on the mean over the sidebands."""
        ...

    def state(self) -> dict[str, Any]:
        """The model as tensors, numbers, texts, lists and dicts of them, for `restored` of its settings."""
        ...


@runtime_checkable
class Selective(Protocol):
    """A pool that can hand tasks to some of its workers alone, as one of many machines can."""

    def where(self, able: Callable[[str], bool], what: str) -> Executor | None:
        """The workers at which `able(what)` holds; None where there is none."""
        ...


@runtime_checkable
class HasDensity(Protocol):
    """A model that also knows its density."""

    def log_prob(self, events: Events) -> FloatArray:
        """log p(features | mass): (n_events,), in inverse physical units."""
        ...


class BackgroundEstimator(Protocol):
    """Learns a `BackgroundModel` from sideband events."""

    def fit(
        self, events: Events, stream: Stream, *, pool: Executor | None = None, checkpoint: Checkpoint | None = None
    ) -> BackgroundModel:
        """The model of sideband events. pool: for parts that may be trained side by side; it decides no result.

        checkpoint: an interrupted training goes on from it, to the same result. Raises `AnalysisError` for events
        or settings that it cannot learn with.
        """
        ...


@runtime_checkable
class Rewindowed(Protocol):
    """A model of all masses that gives the background under any signal region without being trained again."""

    def across(self, window: MassWindow) -> BackgroundModel:
        """The background model of a window."""
        ...


@runtime_checkable
class WholeWindowEstimator(Protocol):
    """An estimator that is handed the events of the signal region, too, and takes them out of its model itself."""

    def fit_across(
        self,
        events: Events,
        window: MassWindow,
        stream: Stream,
        *,
        pool: Executor | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> BackgroundModel:
        """The background model of a window. events: of all its masses. Else as `BackgroundEstimator.fit`."""
        ...


def trained(
    estimator: BackgroundEstimator,
    events: Events,
    window: MassWindow,
    stream: Stream,
    *,
    pool: Executor | None = None,
    checkpoint: Checkpoint | None = None,
) -> BackgroundModel:
    """The background model of a window: the one place that decides which events an estimator may see.

    events: of all masses; those of the SR stay out, unless the estimator says that it deals with them
    (`WholeWindowEstimator`).
    """
    if isinstance(estimator, WholeWindowEstimator):
        return estimator.fit_across(events, window, stream, pool=pool, checkpoint=checkpoint)
    return estimator.fit(events[~window.in_sr(events.mass)], stream, pool=pool, checkpoint=checkpoint)


State = Mapping[str, Any]
