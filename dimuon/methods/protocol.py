"""What a method is: events of a window in, a score for each of them out, by models that never saw the event.

The score is high where an event is unlike the background of the signal region (SR). A method learns what it can
without the events of the SR, once (`learn`); with that it scores one set of events (`score`), or further sets of the
same background. The mass is never among what it scores by.

A new method is one file in `dimuon.methods.kinds` that enters an instance of its class in `METHODS`.
"""

from concurrent.futures import Executor
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

import numpy as np

from dimuon.arrays import BoolArray, FloatArray, IntArray
from dimuon.background.kinds import EstimatorSettings
from dimuon.background.mass_model import sample_masses
from dimuon.background.protocol import BackgroundModel, trained
from dimuon.background.scaler import LogitScaler
from dimuon.classifiers import cross_validation
from dimuon.classifiers.protocol import ClassifierSettings
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.regions import MassWindow
from dimuon.registry import Registry
from dimuon.statistics.significance import SidebandFit


class Needs(StrEnum):
    """What a method takes beside the events."""

    EVENTS = "events"  # no more than those
    SIMULATION = "simulation"  # a simulation of the background
    TRUTH = "truth"  # events of known origin: it is a bound, no method of a search


@dataclass(frozen=True)
class Chain:
    """The settings that methods share: those of the analysis.

    estimator: of the density of the features given the mass. members, folds: of classifiers. oversampling: sampled SR
    events per expected background event.
    """

    estimator: EstimatorSettings
    classifier: ClassifierSettings
    members: int
    folds: int
    oversampling: float


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of a simulated sample alone: further events of the SR of known origin. SIMULATED."""

    signal: Events
    background: Events


@dataclass(frozen=True, eq=False)
class Given:
    """What a method is given.

    events: of the whole window, SR and sidebands. further: scored too, by all models; none of them was trained on it.
    masses: the fit to the sideband masses. scaler: how the features are prepared for densities. truth, simulation:
    None where there is none; the simulation is of the background in the whole window.
    """

    events: Events
    further: Events
    window: MassWindow
    masses: SidebandFit
    scaler: LogitScaler
    chain: Chain
    stream: Stream
    pool: Executor
    truth: Truth | None = None
    simulation: Events | None = None

    @property
    def in_sr(self) -> BoolArray:
        """(n_events,) True in the SR."""
        return self.window.in_sr(self.events.mass)

    @property
    def sidebands(self) -> Events:
        """The events outside the SR."""
        return self.events[~self.in_sr]

    @property
    def folds(self) -> IntArray:
        """(n_events,) the fold of each event, for every model of this method."""
        return cross_validation.event_folds(self.in_sr, self.chain.folds, self.stream.child("bdt"))

    def within(self, events: Events) -> Events:
        """Events for a density: a feature beyond the range that the scaler was fitted to is taken at its end."""
        return replace(events, features=self.scaler.within(events.features))

    def prepared(self, events: Events) -> FloatArray:
        """(n_events, n_features): the features as a density or a network sees them, of mean 0 and variance 1."""
        return self.scaler.transform(self.scaler.within(events.features))

    def sr_masses(self, n_events: int, stream: Stream) -> FloatArray:
        """(n_events,) masses of background in the SR, by the sideband fit."""
        return sample_masses(self.masses, self.window.sr_low, self.window.sr_high, n_events, stream.generator())

    @property
    def n_sampled(self) -> int:
        """How many background events to sample in the SR."""
        expected = self.masses.expected([self.window.sr_low, self.window.sr_high]).sum()
        return max(1, round(self.chain.oversampling * float(expected)))


@dataclass(frozen=True, eq=False)
class Scores:
    """What a method says.

    events, further: (n_events,) each, of the two sets of `Given`. probability: the score is p_data / (p_data +
    p_background) in the SR, of which a likelihood can be made. template: the background events of the SR that it was
    compared with, closure: what the same model gives at the masses of the sidebands, an event each; None where there is
    none.
    """

    events: FloatArray
    further: FloatArray
    probability: bool = False
    template: Events | None = None
    closure: Events | None = None


class Method(Protocol):
    """A method of the bench."""

    @property
    def title(self) -> str:
        """What it is called."""
        ...

    @property
    def paper(self) -> str:
        """What to cite: an arXiv number where there is one."""
        ...

    @property
    def needs(self) -> Needs:
        """What it takes beside the events."""
        ...

    def learn(self, given: Given) -> Any:
        """What it learns without the events of the SR. Raises `AnalysisError` for events that it cannot learn from."""
        ...

    def score(self, given: Given, learned: Any) -> Scores:
        """The scores of events. learned: of `learn`, of these events or of others with the same background."""
        ...


METHODS: Registry[Method] = Registry("dimuon.methods.kinds")


def against(given: Given, template: Events, background_fold: IntArray | None = None) -> Scores:
    """The scores of classifiers that tell the SR events from a template of their background, in cross-validation.

    background_fold: (n_template,) where the template was made from the events, see `Given.folds`.
    """
    chain = given.chain
    ensemble = cross_validation.train(
        given.events,
        given.in_sr,
        template,
        settings=chain.classifier,
        n_members=chain.members,
        n_folds=chain.folds,
        stream=given.stream.child("bdt"),
        pool=given.pool,
        others={"further": given.further},
        folds=None if background_fold is None else (given.folds, background_fold),
    )
    return Scores(ensemble.data.mean, ensemble.others["further"].mean, probability=True, template=template)


def background_model(given: Given, settings: EstimatorSettings | None = None) -> BackgroundModel:
    """The background model, of the events that `background.protocol.trained` lets its estimator see.

    settings: of the estimator; None: the configured ones.
    """
    estimator = (settings or given.chain.estimator).estimator(given.scaler)
    return trained(estimator, given.events, given.window, given.stream.child("background").rooted(), pool=given.pool)


def against_model(given: Given, model: BackgroundModel) -> Scores:
    """`against` what a model samples in the SR."""
    own = given.stream.child("sample")
    sampled = model.sample(given.sr_masses(given.n_sampled, own.child("mass")), own.rooted())
    closure = model.sample(given.sidebands.mass, own.child("closure").rooted())
    return replace(against(given, sampled), closure=closure)


class Scorer(Protocol):
    """Scores events by what was learned from others."""

    def __call__(self, events: Events) -> FloatArray:
        """(n_events,)."""
        ...


class Trainer(Protocol):
    """Learns a `Scorer` from some of the events."""

    def __call__(self, events: Events, stream: Stream) -> Scorer:
        """events: of the whole window, without those of one fold."""
        ...


def cross_fitted(given: Given, train: Trainer) -> tuple[FloatArray, FloatArray]:
    """(score of the events, of the further events): each by what was learned without its fold, the further by all."""
    fold, score, further = given.folds, np.empty(len(given.events)), []
    for test in range(given.chain.folds):
        scorer = train(given.events[fold != test], given.stream.child("fold", test).rooted())
        score[fold == test] = scorer(given.events[fold == test])
        further.append(scorer(given.further))
    return score, np.asarray(np.mean(further, axis=0))
