"""Boosted decision trees by XGBoost: the paper's classifier."""

from collections.abc import Sequence
from functools import cache
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
        self.members: list[tuple[Any, int]] = []  # `xgboost.Booster`, of no type, and how many of its trees count

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
            booster = _booster()({**parameters, "seed": seed}, [matrix, held_out])
            self.members.append((booster, self._grow(booster, matrix, held_out)))
        return self

    def _grow(self, booster: Any, matrix: Any, held_out: Any) -> int:
        """Add trees until the loss of the held-out events stops falling; returns how many have the lowest.

        What `xgboost.train` does, to the last bit, without the callbacks, which take a third of the time of such small
        trees.
        """
        best, n_best = np.inf, 1
        for n in range(1, self.settings.n_trees + 1):
            booster.update(matrix, n - 1)
            loss = float(booster.eval_set([(held_out, "validation")], n - 1).rpartition(":")[2])
            if loss < best:
                best, n_best = loss, n
            elif n - n_best >= self.settings.early_stopping:
                break
        return n_best

    def score(self, x: FloatArray) -> FloatArray:
        """Score of each member: (n_events, n_members), 0 to 1. x: (n_events, n_features), physical units."""
        return np.column_stack([trees.inplace_predict(x, iteration_range=(0, n)) for trees, n in self.members])

    def to_bytes(self) -> list[bytes]:
        """One model per member, as UBJSON."""
        return [bytes(trees[:n].save_raw("ubj")) for trees, n in self.members]

    @classmethod
    def from_bytes(cls, models: Sequence[bytes]) -> Self:
        """The classifier with the members that `to_bytes` gave."""
        import xgboost

        restored = cls()
        boosters = [xgboost.Booster({"nthread": 1}, model_file=bytearray(model)) for model in models]
        restored.members = [(booster, booster.num_boosted_rounds()) for booster in boosters]
        return restored


@cache
def _booster() -> Any:
    """`xgboost.Booster` that does not ask the tables again before every tree whether they have the same columns."""
    import xgboost

    class Booster(xgboost.Booster):
        def _assign_dmatrix_features(self, data: Any) -> None:
            """The tables of one training are made of the same columns."""

    return Booster
