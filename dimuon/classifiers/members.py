"""Classifiers that tell SR data from sampled background: one interface, one class each.

A classifier is the part of the ensemble that shares its training events: `fit(data, background, seeds)` trains one
member per seed, `score(x)` gives every member's estimate of z(x) = p_data / (p_data + p_background) for balanced
classes (the paper's step 3). `to_bytes` and `from_bytes` store the members without pickles. The mass is never among
the features.
"""

import io
from typing import NamedTuple

import numpy as np
import xgboost
from scipy.special import expit, ndtri

from dimuon.errors import UserError


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


class HistGradientBoosting:
    """scikit-learn's histogram-based trees with the settings of `XGBoost`.

    It has no random choice of its own: each member trains on a random fraction `subsample` of the training events.
    scikit-learn stops after `early_stopping` trees without a better validation loss and keeps those trees too.
    """

    suffix = "npy"

    def __init__(self, *, max_depth=3, learning_rate=0.1, subsample=0.7, n_trees=300, early_stopping=10):
        self.subsample = subsample
        self.parameters = {
            "max_depth": max_depth,
            "learning_rate": learning_rate,
            "max_iter": n_trees,
            "early_stopping": True,
            "n_iter_no_change": early_stopping,
            "tol": 0.0,
        }
        self.members = []

    def fit(self, data, background, seeds):
        """Train one member per seed; returns itself. data, background: `Split`."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        train, validation = (balanced(*pair) for pair in zip(data, background, strict=True))
        held_out = {"X_val": validation.x, "y_val": validation.label, "sample_weight_val": validation.weight}
        n_used = max(1, round(self.subsample * len(train.x)))
        for seed in seeds:
            used = np.random.default_rng(seed).permutation(len(train.x))[:n_used]
            model = HistGradientBoostingClassifier(**self.parameters, random_state=seed)
            model.fit(train.x[used], train.label[used], train.weight[used], **held_out)
            self.members.append(_nodes(model))
        return self

    def score(self, x):
        """Score of each member: (n_events, n_members), 0 to 1. x: (n_events, n_features), physical units."""
        return np.column_stack([expit(_sum_of_leaves(nodes, x)) for nodes in self.members])

    def to_bytes(self):
        """One table of nodes per member, as .npy."""
        return [_npy(nodes) for nodes in self.members]

    def from_bytes(self, models):
        """Take the members that `to_bytes` gave; returns itself."""
        self.members = [np.load(io.BytesIO(model), allow_pickle=False) for model in models]
        return self


class DenseNetwork:
    """The network of the weakly supervised ATLAS dijet search (its appendix A): 64, 64, 64, 1, ReLU, dropout 5 %, Adam.

    Each feature is first mapped to a normal distribution by the quantiles of the training events, since impact
    parameters span four orders of magnitude. The state of the lowest validation loss is kept.
    """

    suffix = "npy"

    def __init__(
        self, *, hidden=(64, 64, 64), dropout=0.05, learning_rate=1e-3, batch_size=512, epochs=100, patience=10
    ):
        self.hidden, self.dropout, self.learning_rate = tuple(hidden), dropout, learning_rate
        self.batch_size, self.epochs, self.patience = batch_size, epochs, patience
        self.members = []

    def fit(self, data, background, seeds):
        """Train one member per seed; returns itself. data, background: `Split`."""
        import torch

        torch.set_num_threads(1)
        train, validation = (balanced(*pair) for pair in zip(data, background, strict=True))
        quantiles = np.quantile(train.x, np.linspace(0, 1, 201), axis=0)
        samples = [
            tuple(torch.as_tensor(column, dtype=torch.float32) for column in (_normal(x, quantiles), label, weight))
            for x, label, weight in (train, validation)
        ]
        for seed in seeds:
            state = self._train(*samples, torch.Generator().manual_seed(seed), seed)
            self.members.append({"quantiles": quantiles, **state})
        return self

    def _train(self, train, validation, generator, seed):
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sizes = (train[0].shape[1], *self.hidden)
            layers = [
                layer
                for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True)
                for layer in (torch.nn.Linear(n_in, n_out), torch.nn.ReLU(), torch.nn.Dropout(self.dropout))
            ]
            network = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], 1))
            optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)

            def loss(x, label, weight):
                logit = network(x)[:, 0]
                return torch.nn.functional.binary_cross_entropy_with_logits(logit, label, weight)

            best, best_epoch, state = np.inf, 0, None
            for epoch in range(self.epochs):
                network.train()
                for batch in torch.randperm(len(train[0]), generator=generator).split(self.batch_size):
                    optimizer.zero_grad()
                    loss(*(column[batch] for column in train)).backward()
                    optimizer.step()
                network.eval()
                with torch.no_grad():
                    held_out = loss(*validation).item()
                if not np.isfinite(held_out):
                    raise UserError(
                        f"dense network, seed {seed}: validation loss is {held_out} in epoch {epoch + 1}; lower "
                        f"bdt.dense.learning_rate ({self.learning_rate:g})"
                    )
                if held_out < best:
                    best, best_epoch = held_out, epoch
                    state = {name: value.numpy().copy() for name, value in network.state_dict().items()}
                elif epoch - best_epoch >= self.patience:
                    break
            return state

    def score(self, x):
        """Score of each member: (n_events, n_members), 0 to 1. x: (n_events, n_features), physical units."""
        return np.column_stack([_forward(member, x) for member in self.members])

    def to_bytes(self):
        """One file of weights per member, as .npy arrays one after the other, in the order of the layers."""
        return [_npy(*member.values()) for member in self.members]

    def from_bytes(self, models):
        """Take the members that `to_bytes` gave; returns itself."""
        self.members = []
        for model in models:
            stream = io.BytesIO(model)
            arrays = []
            while stream.tell() < len(model):
                arrays.append(np.load(stream, allow_pickle=False))
            self.members.append(dict(enumerate(arrays)))
        return self


CLASSIFIERS = {"xgboost": XGBoost, "hist_gradient_boosting": HistGradientBoosting, "dense": DenseNetwork}


def _npy(*arrays):
    """Arrays as .npy, one after the other: unlike .npz, the same bytes every time."""
    stream = io.BytesIO()
    for array in arrays:
        np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _nodes(model):
    """The trees of a fitted HistGradientBoostingClassifier as one (n_trees, n_nodes) table.

    scikit-learn itself stores models by pickle alone. The first tree is a single leaf, the baseline.
    """
    fields = ["feature_idx", "num_threshold", "left", "right", "is_leaf", "value"]
    trees = [predictors[0].nodes[fields] for predictors in model._predictors]
    table = np.zeros((len(trees) + 1, max(map(len, trees))), dtype=[(name, trees[0].dtype[name]) for name in fields])
    table["is_leaf"] = 1
    table["value"][0, 0] = model._baseline_prediction.item()
    for row, tree in zip(table[1:], trees, strict=True):
        for name in fields:
            row[name][: len(tree)] = tree[name]
    return table


def _sum_of_leaves(table, x):
    """(n_events,) sum over the trees of the values of the leaves that x: (n_events, n_features) falls in."""
    total, every = np.zeros(len(x)), np.arange(len(x))
    for tree in table:
        place = np.zeros(len(x), dtype=int)
        while not tree["is_leaf"][place].all():
            left = x[every, tree["feature_idx"][place]] <= tree["num_threshold"][place]
            down = np.where(left, tree["left"][place], tree["right"][place])
            place = np.where(tree["is_leaf"][place], place, down)
        total += tree["value"][place]
    return total


def _normal(x, quantiles):
    """Each feature through the quantiles (n_quantiles, n_features) to a normal distribution, within 3 sigma."""
    levels = np.linspace(0, 1, len(quantiles))
    ranks = [np.interp(column, grid, levels) for column, grid in zip(x.T, quantiles.T, strict=True)]
    return np.clip(ndtri(np.column_stack(ranks)), -3, 3)


def _forward(member, x):
    """Score of a dense network without torch: member holds the quantiles, then weight and bias of each layer."""
    quantiles, *layers = member.values()
    values = _normal(x, quantiles).astype(np.float32)
    for index, (weight, bias) in enumerate(zip(layers[::2], layers[1::2], strict=True)):
        values = values @ weight.T + bias
        if index < len(layers) // 2 - 1:
            values = np.maximum(values, 0)
    return expit(values[:, 0])
