"""Boosted decision trees by XGBoost: the paper's classifier."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.classifiers.protocol import CLASSIFIERS, ClassifierSettings, TrainingSet
from dimuon.classifiers.trees import TreeSettings


class XGBoostSettings(TreeSettings):
    """Boosted decision trees (slides, "BDT architecture")."""

    kind: Literal["xgboost"] = "xgboost"


@CLASSIFIERS.named("xgboost")
class XGBoost:
    """Boosted decision trees (slides, "BDT architecture"): depth 3, learning rate 0.1, subsample 0.7.

    Stops when the weighted validation log-loss has not improved for `early_stopping` trees and keeps the trees up to
    the best one, that one included (the published code's half-open range leaves it out).
    """

    Settings: ClassVar[type[ClassifierSettings]] = XGBoostSettings
    suffix: ClassVar[str] = "ubj"
    libraries: ClassVar[tuple[str, ...]] = ("xgboost",)

    def __init__(self, settings: XGBoostSettings | None = None) -> None:
        self.settings = settings or XGBoostSettings()
        self.members: list[Any] = []  # xgboost has no types: `xgboost.Booster`

    def fit(self, training: TrainingSet, seeds: Sequence[int]) -> Self:
        """Train one member per seed, all on the same quantised events; returns itself."""
        import xgboost

        train, validation = training.train, training.validation
        matrix = xgboost.QuantileDMatrix(train.x, train.label, weight=train.weight, nthread=1)
        held_out = xgboost.QuantileDMatrix(
            validation.x, validation.label, weight=validation.weight, ref=matrix, nthread=1
        )
        parameters = {
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "max_depth": self.settings.max_depth,
            "learning_rate": self.settings.learning_rate,
            "subsample": self.settings.subsample,
            "nthread": 1,
        }
        for seed in seeds:
            booster = xgboost.train(
                {**parameters, "seed": seed},
                matrix,
                num_boost_round=self.settings.n_trees,
                evals=[(held_out, "validation")],
                early_stopping_rounds=self.settings.early_stopping,
                verbose_eval=False,
            )
            self.members.append(booster[: booster.best_iteration + 1])
        return self

    def score(self, x: FloatArray) -> FloatArray:
        """Score of each member: (n_events, n_members), 0 to 1. x: (n_events, n_features), physical units."""
        return np.column_stack([member.inplace_predict(x) for member in self.members])

    def to_bytes(self) -> list[bytes]:
        """One model per member, as UBJSON."""
        return [bytes(member.save_raw("ubj")) for member in self.members]

    @classmethod
    def from_bytes(cls, models: Sequence[bytes]) -> Self:
        """The classifier with the members that `to_bytes` gave."""
        import xgboost

        restored = cls()
        restored.members = [xgboost.Booster({"nthread": 1}, model_file=bytearray(model)) for model in models]
        return restored
