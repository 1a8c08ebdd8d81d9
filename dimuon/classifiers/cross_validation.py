"""The classifier ensemble: cross-validation folds, training in parallel, application (the paper's step 3).

Every event of the training charge has a fold. The models of fold k never see an event of fold k: they train on the
other folds but one and stop early on that one; of two folds, on three quarters of the other and a quarter. An event is
scored by the models of its own fold, an event of the other charge by the models of all folds. Members differ by their
seed alone, so the result does not depend on the workers.
"""

from collections.abc import Mapping
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, replace

import numpy as np

from dimuon.arrays import BoolArray, FloatArray, IntArray
from dimuon.classifiers.protocol import CLASSIFIERS, ClassifierSettings, Split, TrainingSet, make
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.progress import Progress
from dimuon.random import Stream

MEMBERS_PER_TASK = 20  # members that share one quantised matrix; small enough to keep every worker busy to the end
STOPPING = 0.25  # of what two folds leave to train on, to stop early on: one in four, as five folds have it
DATA, BACKGROUND = "data", "background"  # the training charge's own events, each scored by its own fold's models


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one table of events.

    fold: (n_events,), whose models scored the event, -1 for all folds. members: (n_events, n_members), the score of
    each member (of its mean over the folds where fold is -1). spread: (n_events,), standard deviation over the models.
    """

    fold: IntArray
    members: FloatArray
    spread: FloatArray

    @property
    def mean(self) -> FloatArray:
        """(n_events,) score of the ensemble, 0 to 1."""
        return np.asarray(self.members.mean(axis=1, dtype=float))


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A trained ensemble and what it says.

    kind: of `CLASSIFIERS`. models: {fold: [bytes of each member]}. data: `Scores` of the training charge's events.
    background: those of the sampled events, each by models that did not see it. others: {name: `Scores`} of the tables
    it was applied to.
    """

    kind: str
    models: dict[int, list[bytes]]
    data: Scores
    background: Scores
    others: dict[str, Scores]


@dataclass(frozen=True, eq=False)
class _Task:
    """Members of one fold that one worker trains together. score: {name: (n_events, n_features)} of its tables."""

    fold: int
    members: range
    settings: ClassifierSettings
    training: TrainingSet
    seeds: list[int]
    score: dict[str, FloatArray]
    keep_models: bool


@dataclass(frozen=True, eq=False)
class _Result:
    """What came of a task: models: one per member; scores: {name: (n_events, n_members)}."""

    models: list[bytes]
    scores: dict[str, FloatArray]


def assign_folds(n_events: int, n_folds: int, rng: np.random.Generator) -> IntArray:
    """Fold of each event, 0 to n_folds - 1, at random and of equal size within one: (n_events,)."""
    return rng.permutation(n_events) % n_folds


def event_folds(in_sr: BoolArray, n_folds: int, stream: Stream) -> IntArray:
    """(n_events,) fold of each event, those of the SR and of the sidebands each at random. stream: of the ensemble."""
    fold = np.empty(len(in_sr), dtype=int)
    for name, mask in (("sr", in_sr), ("sidebands", ~in_sr)):
        fold[mask] = assign_folds(int(mask.sum()), n_folds, stream.child("folds", name).generator())
    return fold


def roles(fold: IntArray, test: int, stream: Stream) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Masks (train, validation, test) of the events where fold `test` is held out for testing.

    fold: (n_events,). The fold before it (cyclically) is for early stopping, all others are for training. Of two folds
    none is left: `STOPPING` of the one that is not tested is for early stopping, at random. stream: of this choice.
    """
    n_folds = fold.max() + 1
    is_test, is_validation = fold == test, fold == (test - 1) % n_folds
    if n_folds == 2:
        others = stream.child("stopping", test).generator().permutation(np.flatnonzero(~is_test))
        is_validation = np.zeros(len(fold), dtype=bool)
        is_validation[others[: max(1, round(STOPPING * len(others)))]] = True
    return ~(is_test | is_validation), is_validation, is_test


def least_events(n_folds: int) -> int:
    """The smallest number of events of a class with which every role of every fold has one."""
    return n_folds if n_folds > 2 else 4


def worker_modules(settings: ClassifierSettings) -> list[str]:
    """Modules for the workers to import once, before they start."""
    return [__name__, *CLASSIFIERS[settings.kind].libraries]


def train(
    events: Events,
    in_sr: BoolArray,
    background: Events,
    *,
    settings: ClassifierSettings,
    n_members: int,
    n_folds: int,
    stream: Stream,
    pool: Executor,
    others: Mapping[str, Events] | None = None,
    folds: tuple[IntArray, IntArray] | None = None,
    whole: bool = True,
) -> Ensemble:
    """Train an ensemble on the SR events against sampled background and score everything.

    events: all dimuons of one charge. in_sr: (n_events,) of them. background: sampled SR events; a factor common to
    all their weights changes nothing. settings: of the classifier's kind. others: further tables by name, scored by
    every model. folds: of the events and of the background, (n_events,) and (n_background,), where the background was
    made from the events: what was made from one has its fold. None: at random. whole: False where only the scores of
    the events are asked for; the ensemble has no models then, and no scores of the background.

    SR and sideband events are split over the folds separately, so every fold has its share of both.
    Raises `AnalysisError` with too few SR or background events (`least_events`), for values that are not finite, and
    for weights that are negative.
    """
    others = others or {}
    in_sr = np.asarray(in_sr, dtype=bool)
    classes = {"SR events": events[in_sr], "sampled background events": background}
    for name, table in {**classes, "events": events, **others}.items():
        _check(name, table)
    for name, table in classes.items():
        if len(table) < least_events(n_folds):
            raise AnalysisError(
                f"{len(table)} {name} for {n_folds} folds: at least {least_events(n_folds)} are needed", setting="folds"
            )
    background = _of_mean_weight_one(background)
    if folds is None:
        at_random = assign_folds(len(background), n_folds, stream.child("folds", "background").generator())
        folds = event_folds(in_sr, n_folds, stream), at_random
    fold, background_fold = folds
    sr, sr_fold = classes["SR events"], fold[in_sr]

    tasks = []
    for test in range(n_folds):
        sr_train, sr_validation, _ = roles(sr_fold, test, stream.child("folds", "sr"))
        background_train, background_validation, background_test = roles(
            background_fold, test, stream.child("folds", "background")
        )
        training = TrainingSet.of(
            Split(sr[sr_train], sr[sr_validation]),
            Split(background[background_train], background[background_validation]),
        )
        to_score = {DATA: events.features[fold == test]}
        if whole:
            to_score[BACKGROUND] = background.features[background_test]
        to_score |= {name: table.features for name, table in others.items()}
        for first in range(0, n_members, MEMBERS_PER_TASK):
            members = range(first, min(first + MEMBERS_PER_TASK, n_members))
            seeds = [stream.child(test, member).integer() for member in members]
            tasks.append(_Task(test, members, settings, training, seeds, to_score, whole))
    results = _run(tasks, pool)

    of_folds = {DATA: fold, BACKGROUND: background_fold if whole else background_fold[:0]}
    scores, models = _scores_by_fold(tasks, results, of_folds), _models(tasks, results)
    of_others = _scores_by_all(tasks, results, {name: len(table) for name, table in others.items()})
    return Ensemble(settings.kind, models, scores[DATA], scores[BACKGROUND], of_others)


def _check(name: str, events: Events) -> None:
    if not np.isfinite(events.features).all():
        row, column = np.argwhere(~np.isfinite(events.features))[0]
        value = events.features[row, column]
        raise AnalysisError(f"{name}: feature {column} of event {row} is {value}; mend the table")
    bad = ~(np.isfinite(events.weight) & (events.weight >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise AnalysisError(f"{name}: the weight of event {row} is {events.weight[row]}; it must not be negative")


def _of_mean_weight_one(events: Events) -> Events:
    """The same events, weighing as much as their number: the regularisation of the trees asks for that scale."""
    if not events.weight.any():
        raise AnalysisError("the sampled background events have weight 0, all of them")
    return replace(events, weight=events.weight * (len(events) / events.weight.sum()))


def _train_members(task: _Task) -> _Result:
    """The work of one task, in a worker."""
    try:
        classifier = make(task.settings).fit(task.training, task.seeds)
    except AnalysisError as error:  # the classifier's settings are a section of the ensemble's
        setting = None if error.setting is None else f"classifier.{error.setting}"
        raise AnalysisError(error.message, setting) from error
    models = classifier.to_bytes() if task.keep_models else []
    return _Result(models, {name: classifier.score(table) for name, table in task.score.items()})


def _run(tasks: list[_Task], pool: Executor) -> list[_Result]:
    """The results in the order of the tasks."""
    futures = {pool.submit(_train_members, task): task for task in tasks}
    with Progress("classifiers", sum(len(task.members) for task in tasks), "members") as progress:
        try:
            for future in as_completed(futures):
                future.result()  # an error of a worker is raised when it happens, not after all others have finished
                progress.step(len(futures[future].members))
        finally:
            for future in futures:
                future.cancel()
    return [future.result() for future in futures]


def _models(tasks: list[_Task], results: list[_Result]) -> dict[int, list[bytes]]:
    models: dict[int, list[bytes]] = {task.fold: [] for task in tasks}
    for task, result in zip(tasks, results, strict=True):
        models[task.fold].extend(result.models)
    return models


def _scores_by_fold(tasks: list[_Task], results: list[_Result], folds: Mapping[str, IntArray]) -> dict[str, Scores]:
    """Scores of events by the models of their own fold. folds: {name: (n_events,)}."""
    n_members = _n_members(tasks)
    members = {name: np.empty((len(fold), n_members), dtype=np.float32) for name, fold in folds.items()}
    for task, result in zip(tasks, results, strict=True):
        for name, fold in folds.items():
            if len(fold):
                members[name][fold == task.fold, _columns(task)] = result.scores[name]
    return {name: Scores(fold, members[name], members[name].std(axis=1, dtype=float)) for name, fold in folds.items()}


def _scores_by_all(tasks: list[_Task], results: list[_Result], sizes: Mapping[str, int]) -> dict[str, Scores]:
    """Scores of events by the models of all folds. sizes: {name: n_events}."""
    n_folds, n_members = max(task.fold for task in tasks) + 1, _n_members(tasks)
    members = {name: np.empty((n_folds, size, n_members), dtype=np.float32) for name, size in sizes.items()}
    for task, result in zip(tasks, results, strict=True):
        for name in sizes:
            members[name][task.fold, :, _columns(task)] = result.scores[name]
    return {
        name: Scores(np.full(sizes[name], -1), table.mean(axis=0), table.std(axis=(0, 2), dtype=float))
        for name, table in members.items()
    }


def _n_members(tasks: list[_Task]) -> int:
    return max(task.members.stop for task in tasks)


def _columns(task: _Task) -> slice:
    return slice(task.members.start, task.members.stop)
