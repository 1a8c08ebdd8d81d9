"""Classifiers that tell SR data from sampled background: one interface, one class each.

A classifier is the part of the ensemble that shares its training events: `fit(data, background, seeds)` trains one
member per seed, `score(x)` gives every member's estimate of z(x) = p_data / (p_data + p_background) for balanced
classes (the paper's step 3). `to_bytes` and `from_bytes` store the members without pickles. The mass is never among
the features.
"""

from typing import NamedTuple

import numpy as np
import xgboost


class Split(NamedTuple):
    """Events of one kind. train, validation: (n_events, n_features), physical units."""

    train: np.ndarray
    validation: np.ndarray


class Labelled(NamedTuple):
    """Data (label 1) and background (label 0) together. x: (n_events, n_features); label, weight: (n_events,)."""

    x: np.ndarray
    label: np.ndarray
    weight: np.ndarray


def balanced(data, background):
    """`Labelled` events in which both classes weigh the same: background 1, data n_background / n_data.

    data, background: (n_events, n_features). Raises ValueError where either is empty.
    """
    if not len(data) or not len(background):
        raise ValueError(f"two classes are needed, found {len(data)} data and {len(background)} background events")
    label = np.repeat([1.0, 0.0], [len(data), len(background)])
    weight = np.where(label == 1, len(background) / len(data), 1.0)
    return Labelled(np.concatenate([data, background]), label, weight)


class XGBoost:
    """Boosted decision trees (slides, "BDT architecture"): depth 3, learning rate 0.1, subsample 0.7.

    Stops when the weighted validation log-loss has not improved for `early_stopping` trees and keeps the trees up to
    the best one, that one included (the published code's half-open range leaves it out).
    """

    suffix = "ubj"

    def __init__(self, *, max_depth=3, learning_rate=0.1, subsample=0.7, n_trees=300, early_stopping=10):
        self.n_trees, self.early_stopping = n_trees, early_stopping
        self.parameters = {
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "max_depth": max_depth,
            "learning_rate": learning_rate,
            "subsample": subsample,
            "nthread": 1,
        }
        self.members = []

    def fit(self, data, background, seeds):
        """Train one member per seed, all on the same quantised events; returns itself. data, background: `Split`."""
        train, validation = (balanced(*pair) for pair in zip(data, background, strict=True))
        matrix = xgboost.QuantileDMatrix(train.x, train.label, weight=train.weight, nthread=1)
        held_out = xgboost.QuantileDMatrix(
            validation.x, validation.label, weight=validation.weight, ref=matrix, nthread=1
        )
        for seed in seeds:
            booster = xgboost.train(
                {**self.parameters, "seed": seed},
                matrix,
                num_boost_round=self.n_trees,
                evals=[(held_out, "validation")],
                early_stopping_rounds=self.early_stopping,
                verbose_eval=False,
            )
            self.members.append(booster[: booster.best_iteration + 1])
        return self

    def score(self, x):
        """Score of each member: (n_events, n_members), 0 to 1. x: (n_events, n_features), physical units."""
        return np.column_stack([member.inplace_predict(x) for member in self.members])

    def to_bytes(self):
        """One model per member, as UBJSON."""
        return [bytes(member.save_raw("ubj")) for member in self.members]

    def from_bytes(self, models):
        """Take the members that `to_bytes` gave; returns itself."""
        self.members = [xgboost.Booster({"nthread": 1}, model_file=bytearray(model)) for model in models]
        return self


CLASSIFIERS = {"xgboost": XGBoost}
