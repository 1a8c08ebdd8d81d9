"""What a method is: events of a window in, a score for each of them out, by models that never saw the event.

The score is high where an event is unlike the background of the signal region (SR). A method learns what it can
without the events of the SR, once (`learn`); with that it scores one set of events (`score`), or further sets of the
same background. The mass is never among what it scores by.

A new method is one file in `dimuon.methods.kinds` that enters an instance of its class in `METHODS`.
"""

from collections.abc import Sequence
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
from dimuon.methods.shared import Shared
from dimuon.random import Stream
from dimuon.regions import MassWindow
from dimuon.registry import Registry
from dimuon.statistics.significance import SidebandFit


class Needs(StrEnum):
    """What a method takes beside the events."""

    EVENTS = "events"  # no more than those
    SIMULATION = "simulation"  # a simulation of the background, or of signals that there may be
    SCORES = "scores"  # a score of each event that the user brings along
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
    masses: the fit to the sideband masses. scaler: how the features are prepared for densities. stream: of the method.
    shared: what the methods of this very sample share, its folds among it. truth, simulation, prior, handed_in: None
    where there is none. simulation: of the background in the whole window. prior: of a signal that there may be, not
    the one that there is. handed_in: (n_events,) a score that the user brings along.
    """

    events: Events
    further: Events
    window: MassWindow
    masses: SidebandFit
    scaler: LogitScaler
    chain: Chain
    stream: Stream
    shared: Shared
    pool: Executor
    truth: Truth | None = None
    simulation: Events | None = None
    prior: Events | None = None
    handed_in: FloatArray | None = None

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
        """(n_events,) the fold of each event, for every model of every method."""
        return cross_validation.event_folds(self.in_sr, self.chain.folds, self.shared.stream)

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
    compared with, closure: what the same model gives at the masses of the sidebands, an event each. members:
    (n_events, n_members) the scores of an ensemble's members, of which `events` is the mean. own_z: the significance by
    the method's own test of the whole SR. None where there is none.
    """

    events: FloatArray
    further: FloatArray
    probability: bool = False
    template: Events | None = None
    closure: Events | None = None
    members: FloatArray | None = None
    own_z: float | None = None


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


def learned_by(given: Given, name: str) -> Any:
    """What a method learns, as its cell of the bench has it; shared by methods."""
    return given.shared.once(("learned", name), lambda: METHODS[name].learn(_of_method(given, name)))


def scores_by(given: Given, name: str, learned: Any) -> Scores:
    """The scores of a method, as its cell of the bench has them; shared by methods. learned: of `learned_by`."""
    return given.shared.once(("scores", name), lambda: METHODS[name].score(_of_method(given, name), learned))


def _of_method(given: Given, name: str) -> Given:
    return replace(given, stream=given.shared.stream.child("method", name))


def against(
    given: Given,
    template: Events,
    background_fold: IntArray | None = None,
    classifier: ClassifierSettings | None = None,
) -> Scores:
    """The scores of classifiers that tell the SR events from a template of their background, in cross-validation.

    background_fold: (n_template,) where the template was made from the events, see `Given.folds`. classifier: settings;
    None: the configured ones.
    """
    chain, stream = given.chain, given.stream.child("bdt")
    if background_fold is None:
        at_random = stream.child("folds", "background").generator()
        background_fold = cross_validation.assign_folds(len(template), chain.folds, at_random)
    ensemble = cross_validation.train(
        given.events,
        given.in_sr,
        template,
        settings=classifier or chain.classifier,
        n_members=chain.members,
        n_folds=chain.folds,
        stream=stream,
        pool=given.pool,
        others={"further": given.further},
        folds=(given.folds, background_fold),
    )
    own = ensemble.data
    further = ensemble.others["further"].mean
    return Scores(own.mean, further, probability=True, template=template, members=own.members)


def background_model(given: Given, settings: EstimatorSettings | None = None) -> BackgroundModel:
    """The background model, of the events that `background.protocol.trained` lets its estimator see; shared by methods.

    settings: of the estimator; None: the configured ones. The models that it is made of are shared, too.
    """
    chosen = settings or given.chain.estimator
    stream = given.shared.stream.child("background", chosen.kind).rooted()

    def make() -> BackgroundModel:
        if chosen.made_of:
            return chosen.composed([background_model(given, each) for each in chosen.made_of], given.sidebands, stream)
        return trained(chosen.estimator(given.scaler), given.events, given.window, stream, pool=given.pool)

    return given.shared.once(("background", chosen.model_dump_json()), make)


@dataclass(frozen=True, eq=False)
class Sampled:
    """What a model gives: background of the SR, and at the masses of the sidebands, an event each."""

    sr: Events
    sidebands: Events


def sampled(given: Given, model: BackgroundModel) -> Sampled:
    """Samples of a model, shared by methods."""
    own = given.shared.stream.child("sample", model.kind)

    def make() -> Sampled:
        in_sr = model.sample(given.sr_masses(given.n_sampled, own.child("mass")), own.rooted())
        return Sampled(in_sr, model.sample(given.sidebands.mass, own.child("closure").rooted()))

    return given.shared.once(("sampled", model), make)


def against_model(given: Given, model: BackgroundModel, classifier: ClassifierSettings | None = None) -> Scores:
    """`against` what a model samples in the SR."""
    samples = sampled(given, model)
    return replace(against(given, samples.sr, classifier=classifier), closure=samples.sidebands)


class Scorer(Protocol):
    """Scores events by what was learned from others."""

    def __call__(self, events: Events, /) -> FloatArray:
        """(n_events,)."""
        ...


class Trainer(Protocol):
    """Learns a `Scorer` from some of the events."""

    def __call__(self, events: Events, stream: Stream, /) -> Scorer:
        """events: of the whole window, without those of one fold."""
        ...


class JointTrainer(Protocol):
    """A `Trainer` of several parts of the events at once, which have nothing in common but the time that they take."""

    def __call__(self, parts: Sequence[Events], streams: Sequence[Stream], /) -> Sequence[Scorer]:
        """The scorer of each part, with its stream."""
        ...


def cross_fitted(given: Given, train: Trainer) -> tuple[FloatArray, FloatArray]:
    """(score of the events, of the further events): each by what was learned without its fold, the further by all."""
    return jointly_cross_fitted(given, lambda *each: list(map(train, *each)))


def jointly_cross_fitted(given: Given, train: JointTrainer) -> tuple[FloatArray, FloatArray]:
    """The same, where it takes less time to train for all folds at once."""
    fold, tests = given.folds, range(given.chain.folds)
    streams = [given.stream.child("fold", test).rooted() for test in tests]
    scorers = train([given.events[fold != test] for test in tests], streams)
    score, further = np.empty(len(given.events)), []
    for test, scorer in zip(tests, scorers, strict=True):
        score[fold == test] = scorer(given.events[fold == test])
        further.append(scorer(given.further))
    return score, np.asarray(np.mean(further, axis=0))
