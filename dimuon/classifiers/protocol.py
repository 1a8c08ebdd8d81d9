"""What a classifier is: one interface, and the events that it is trained on.

A classifier is the part of the ensemble that shares its training events: `fit` trains one member per seed, `score`
gives every member's estimate of z(x) = p_data / (p_data + p_background) for balanced classes (the paper's step 3). The
mass is never among the features. `to_bytes` and `from_bytes` store the members without pickles.

A new classifier is one file in `dimuon.classifiers.kinds`: its section of settings with its `kind`, and its class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.registry import Registry
from dimuon.settings import Section


class ClassifierSettings(Section):
    """What every classifier's section has: the name of its kind."""

    kind: str


@dataclass(frozen=True, eq=False)
class Labelled:
    """Data and background together.

    x: (n_events, n_features), physical units. label: (n_events,), 1 data, 0 background. weight: (n_events,).
    """

    x: FloatArray
    label: FloatArray
    weight: FloatArray


class Split(NamedTuple):
    """Events of one class, those to train on and those to stop early on."""

    train: Events
    validation: Events


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The labelled events that all members of a classifier share: to train on, and to stop early on."""

    train: Labelled
    validation: Labelled

    @classmethod
    def of(cls, data: Split, background: Split) -> Self:
        """Both classes together, `balanced` in either part."""
        return cls(balanced(data.train, background.train), balanced(data.validation, background.validation))


def balanced(data: Events, background: Events) -> Labelled:
    """Events in which both classes weigh the same in all: background as it is, data as much as the background.

    Raises ValueError where either class is empty, and for weights that are negative, not finite or zero in all.
    """
    if not len(data) or not len(background):
        raise ValueError(f"two classes are needed, found {len(data)} data and {len(background)} background events")
    of_data, of_background = (_sum_of_weights(*part) for part in (("data", data), ("background", background)))
    return Labelled(
        x=np.concatenate([data.features, background.features]),
        label=np.repeat([1.0, 0.0], [len(data), len(background)]),
        weight=np.concatenate([data.weight * (of_background / of_data), background.weight]),
    )


def _sum_of_weights(name: str, events: Events) -> float:
    total = float(events.weight.sum())
    if not (np.isfinite(total) and (events.weight >= 0).all() and total > 0):
        raise AnalysisError(
            f"{name} events: their weights must not be negative and some must be positive, found a sum of {total:g}, "
            f"the lowest {events.weight.min():g}"
        )
    return total


class Classifier(Protocol):
    """Members that were trained on the same events and differ by their seeds."""

    Settings: ClassVar[type[ClassifierSettings]]
    suffix: ClassVar[str]  # of the file of one member
    libraries: ClassVar[tuple[str, ...]]  # modules that a worker needs, slow to import

    def __init__(self, settings: Any = None) -> None:
        """settings: a `Settings` of this very class, which no common type can say. None: its defaults."""

    def fit(self, training: TrainingSet, seeds: Sequence[int]) -> Self:
        """Train one member per seed; returns itself."""

    def score(self, x: FloatArray) -> FloatArray:
        """Score of each member: (n_events, n_members), 0 to 1. x: (n_events, n_features), physical units."""

    def to_bytes(self) -> list[bytes]:
        """One model per member."""

    @classmethod
    def from_bytes(cls, models: Sequence[bytes]) -> Self:
        """The classifier with the members that `to_bytes` gave."""


CLASSIFIERS: Registry[type[Classifier]] = Registry("dimuon.classifiers.kinds")


def make(settings: ClassifierSettings) -> Classifier:
    """An untrained classifier of the kind that the settings are for."""
    return CLASSIFIERS[settings.kind](settings)
