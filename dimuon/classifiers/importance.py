"""Permutation importance (Breiman 2001): what each feature is worth to a trained ensemble."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dimuon.arrays import BoolArray, FloatArray
from dimuon.classifiers.cross_validation import Ensemble
from dimuon.classifiers.protocol import CLASSIFIERS
from dimuon.events import Events
from dimuon.random import Stream


@dataclass(frozen=True)
class FeatureImportance:
    """What the shuffling of one feature does.

    auc_loss: what it takes from the area under the ROC curve, mean over the folds, and its standard error.
    score_change: root mean square change of the score, in units of the score's standard deviation.
    """

    auc_loss: float
    auc_loss_err: float
    score_change: float


@dataclass(frozen=True)
class Importance:
    """Area under the ROC curve of data against background, mean over the folds, its standard error; each feature."""

    auc: float
    auc_err: float
    features: dict[str, FeatureImportance]

    def to_json(self) -> dict[str, Any]:
        """As it stands in importance_<charge>.json."""
        return asdict(self)


def importance(
    ensemble: Ensemble, events: Events, in_sr: BoolArray, background: Events, *, stream: Stream, pool: Executor
) -> Importance:
    """Importance of each feature, each event scored by models that never saw it.

    In each fold's test events (SR dimuons and sampled background, with their weights) one feature is shuffled.
    Arguments as for `cross_validation.train`.
    """
    from sklearn.metrics import roc_auc_score

    tested = []
    for test, models in sorted(ensemble.models.items()):
        parts = events[in_sr & (ensemble.data.fold == test)], background[ensemble.background.fold == test]
        label, both = np.repeat([1, 0], [len(part) for part in parts]), parts[0] + parts[1]
        shuffled = [
            _shuffled(both.features, column, stream.child("shuffle", test, column).generator())
            for column in range(len(both.names))
        ]
        future = pool.submit(_score_again, ensemble.kind, models, [both.features, *shuffled])
        tested.append((label, both.weight, future))
    aucs, changes = [], []
    for label, weight, future in tested:
        plain, *others = future.result()
        aucs.append([roc_auc_score(label, score, sample_weight=weight) for score in (plain, *others)])
        variance = _mean((plain - _mean(plain, weight)) ** 2, weight)
        changes.append([_mean((score - plain) ** 2, weight) / variance for score in others])
    return _over_the_folds(events.names, np.array(aucs), np.array(changes))


def _over_the_folds(names: Sequence[str], aucs: FloatArray, changes: FloatArray) -> Importance:
    """aucs: (n_folds, 1 + n_features), of the events as they are first. changes: (n_folds, n_features), squared."""
    losses, change = aucs[:, :1] - aucs[:, 1:], np.sqrt(np.mean(changes, axis=0))
    of_features = {
        name: FeatureImportance(
            auc_loss=float(losses[:, column].mean()),
            auc_loss_err=_standard_error(losses[:, column]),
            score_change=float(change[column]),
        )
        for column, name in enumerate(names)
    }
    return Importance(float(aucs[:, 0].mean()), _standard_error(aucs[:, 0]), of_features)


def _shuffled(x: FloatArray, column: int, rng: np.random.Generator) -> FloatArray:
    changed = x.copy()
    changed[:, column] = rng.permutation(x[:, column])
    return changed


def _score_again(kind: str, models: Sequence[bytes], tables: Sequence[FloatArray]) -> list[FloatArray]:
    """(n_events,) mean score of each table, in a worker."""
    classifier = CLASSIFIERS[kind].from_bytes(models)
    return [classifier.score(table).mean(axis=1, dtype=float) for table in tables]


def _mean(values: FloatArray, weight: FloatArray) -> float:
    return float(np.average(values, weights=weight))


def _standard_error(values: FloatArray) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))
