"""Boosted decision trees by scikit-learn's HistGradientBoostingClassifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from dimuon.arrays import FloatArray
from dimuon.classifiers.arrays import from_npy, to_npy
from dimuon.classifiers.protocol import CLASSIFIERS, ClassifierSettings, TrainingSet
from dimuon.classifiers.trees import TreeSettings

MAX_BINS = 255  # scikit-learn's
NODE_FIELDS = ("feature_idx", "num_threshold", "left", "right", "is_leaf", "value")
NodeTable = NDArray[np.void]  # (n_trees, n_nodes) with NODE_FIELDS


class HistGradientBoostingSettings(TreeSettings):
    """scikit-learn's histogram-based trees with the settings of XGBoost."""

    kind: Literal["hist_gradient_boosting"] = "hist_gradient_boosting"


@CLASSIFIERS.named("hist_gradient_boosting")
class HistGradientBoosting:
    """scikit-learn's histogram-based trees with the settings of XGBoost.

    It has no random choice of its own: each member trains on a random fraction `subsample` of the training events.
    scikit-learn stops after `early_stopping` trees without a better validation loss and keeps those trees too. All
    members share one quantised table (`Bins`): its own bins of weighted events, for each member, take longer than the
    trees.
    """

    Settings: ClassVar[type[ClassifierSettings]] = HistGradientBoostingSettings
    suffix: ClassVar[str] = "npy"
    libraries: ClassVar[tuple[str, ...]] = ("sklearn.ensemble",)

    def __init__(self, settings: HistGradientBoostingSettings | None = None) -> None:
        self.settings = settings or HistGradientBoostingSettings()
        self.members: list[NodeTable] = []

    def fit(self, training: TrainingSet, seeds: Sequence[int]) -> Self:
        """Train one member per seed; returns itself."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        train, validation, settings = training.train, training.validation, self.settings
        bins = Bins.of(train.x)
        x, held_out_x = bins.index(train.x), bins.index(validation.x)
        held_out = {"X_val": held_out_x, "y_val": validation.label, "sample_weight_val": validation.weight}
        n_used = max(1, round(settings.subsample * len(train.x)))
        for seed in seeds:
            used = np.random.default_rng(seed).permutation(len(train.x))[:n_used]
            model = HistGradientBoostingClassifier(
                max_depth=settings.max_depth,
                learning_rate=settings.learning_rate,
                max_iter=settings.n_trees,
                early_stopping=True,
                n_iter_no_change=settings.early_stopping,
                tol=0.0,
                random_state=seed,
            )
            model.fit(x[used], train.label[used], train.weight[used], **held_out)
            self.members.append(bins.in_units(node_table(model)))
        return self

    def score(self, x: FloatArray) -> FloatArray:
        """Score of each member: (n_events, n_members), 0 to 1. x: (n_events, n_features), physical units."""
        return np.column_stack([expit(sum_of_leaves(nodes, x)) for nodes in self.members])

    def to_bytes(self) -> list[bytes]:
        """One table of nodes per member, as .npy."""
        return [to_npy(nodes) for nodes in self.members]

    @classmethod
    def from_bytes(cls, models: Sequence[bytes]) -> Self:
        """The classifier with the members that `to_bytes` gave."""
        restored = cls()
        restored.members = [from_npy(model)[0] for model in models]
        return restored


@dataclass(frozen=True, eq=False)
class Bins:
    """Quantiles of the training events. edges: of each feature (n_edges,), increasing, in its units."""

    edges: list[FloatArray]

    @classmethod
    def of(cls, x: FloatArray) -> "Bins":
        """x: (n_events, n_features). As many bins as scikit-learn has, of equal numbers of events, whatever they weigh.

        An edge is the value of an event: those of the same value are in the same bin.
        """
        levels = np.arange(1, MAX_BINS) / MAX_BINS
        return cls([np.unique(np.quantile(column, levels, method="lower")) for column in x.T])

    def index(self, x: FloatArray) -> FloatArray:
        """(n_events, n_features): how many edges lie below each value."""
        return np.column_stack([np.searchsorted(*pair) for pair in zip(self.edges, x.T, strict=True)]).astype(float)

    def in_units(self, table: NodeTable) -> NodeTable:
        """The trees that were grown on `index`, for the features themselves."""
        table = table.copy()
        for feature, edges in enumerate(self.edges):
            own = (table["is_leaf"] == 0) & (table["feature_idx"] == feature)
            table["num_threshold"][own] = edges[table["num_threshold"][own].astype(int)]
        return table


def node_table(model: Any) -> NodeTable:
    """The trees of a fitted HistGradientBoostingClassifier (which has no types) as one table.

    scikit-learn itself stores models by pickle alone. The first tree is a single leaf, the baseline.
    """
    trees = [predictors[0].nodes[list(NODE_FIELDS)] for predictors in model._predictors]
    types = [(name, trees[0].dtype[name]) for name in NODE_FIELDS]
    table = np.zeros((len(trees) + 1, max(map(len, trees))), dtype=types)
    table["is_leaf"] = 1
    table["value"][0, 0] = model._baseline_prediction.item()
    for row, tree in zip(table[1:], trees, strict=True):
        for name in NODE_FIELDS:
            row[name][: len(tree)] = tree[name]
    return table


def sum_of_leaves(table: NodeTable, x: FloatArray) -> FloatArray:
    """(n_events,) sum over the trees of the values of the leaves that x: (n_events, n_features) falls in."""
    total, columns = np.zeros(len(x)), np.ascontiguousarray(x.T)
    for tree in table:
        total += leaf_values(tree, columns)
    return total


def leaf_values(tree: NodeTable, columns: FloatArray, place: int = 0) -> FloatArray | float:
    """(n_events,), or of a leaf a number: what a tree says below a node. columns: (n_features, n_events)."""
    feature, threshold, left, right, is_leaf, value = tree[place].item()
    if is_leaf:
        return float(value)
    below, above = (leaf_values(tree, columns, int(child)) for child in (left, right))
    return np.where(columns[feature] <= threshold, below, above)
