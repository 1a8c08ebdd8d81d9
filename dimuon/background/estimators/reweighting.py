"""A classifier that reweights: samples of a prior, made to look like the data in the sidebands, given the mass.

A classifier learns to tell sideband data from samples of the prior at the same masses, from the features and the mass
together. Its odds w(x, m) = p / (1 - p) estimate the ratio of the two densities; the prior's samples in the SR carry
them as weights, the mass interpolating what was learned on both sides. With a simulation as the prior this is SALAD
(Andreassen, Nachman, Shih 2020, arXiv:2001.05001; ATLAS 2025, arXiv:2502.09770, section V B).
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from dimuon.arrays import BoolArray, FloatArray, IntArray
from dimuon.background.estimators.flows import Maf
from dimuon.background.kinds import ESTIMATORS, AnyEstimator, EstimatorSettings
from dimuon.background.protocol import BackgroundEstimator, BackgroundModel, Checkpoint
from dimuon.background.scaler import LogitScaler
from dimuon.background.simulated_table import SimulatedTable
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.settings import Fraction, Positive

MIN_EVENTS = 500  # fewer data do not determine a ratio of densities


class Reweighting(EstimatorSettings):
    """Boosted trees that reweight the samples of a prior. No value is a paper's; the trees are those of the search."""

    kind: Literal["reweighting"] = "reweighting"
    prior: AnyEstimator = Maf()
    copies: Positive = 5  # samples of each member of the prior, per sideband event, that a classifier learns from
    classifiers: Positive = 4  # for each member of the prior, on splits of their own; their log odds are averaged
    validation_fraction: Fraction = 0.2  # of the sideband events and their copies, to stop early on
    max_depth: Positive = 3
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    n_trees: Positive = 300
    early_stopping: Positive = 10
    max_weight: Annotated[float, Field(gt=1)] = 10.0  # and its inverse: bounds of a weight

    @property
    def on_cpu(self) -> bool:
        """Whether the prior is trained on the CPU."""
        return self.prior.on_cpu

    @property
    def sentence(self) -> str:
        """What a report says of the estimator."""
        return (
            f"{self.prior.sentence} The samples of each member are reweighted to the sideband data, given the mass, by "
            f"{self.classifiers} classifiers of boosted trees."
        )

    @property
    def made_of(self) -> list[EstimatorSettings]:
        """The prior."""
        return [self.prior]

    def composed(self, models: Sequence[BackgroundModel], sidebands: Events, stream: Stream) -> "Reweighted":
        """A trained prior, reweighted to the sidebands. Errors: those of `reweight`."""
        (prior,) = models
        return reweight(prior, sidebands, self, stream)

    def estimator(self, scaler: LogitScaler) -> BackgroundEstimator:
        """An untrained prior, and what reweights it."""
        return ReweightedPrior(self, self.prior.estimator(scaler))

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> BackgroundModel:
        """The model as it was saved."""
        kind, saved = state["prior"]["kind"], state["prior"]
        known = kind == SimulatedTable.kind
        prior = SimulatedTable.from_state(saved) if known else ESTIMATORS[kind].restored(saved)
        weights = tuple(
            MemberWeights(tuple(bytes(tree.numpy()) for tree in trees), normalisation)
            for trees, normalisation in zip(state["trees"], state["normalisations"], strict=True)
        )
        return Reweighted(cls.model_validate(state["settings"]), prior, weights)


ESTIMATORS.register("reweighting", Reweighting)


@dataclass(frozen=True, eq=False)
class ReweightedPrior:
    """An untrained prior whose samples will be reweighted; a `BackgroundEstimator`."""

    settings: Reweighting
    prior: BackgroundEstimator

    def fit(
        self, events: Events, stream: Stream, *, pool: Executor | None = None, checkpoint: Checkpoint | None = None
    ) -> "Reweighted":
        """The prior trained on sideband events, then the weights. Errors: those of the prior, and of `reweight`."""
        prior = self.prior.fit(events, stream.child("prior").rooted(), pool=pool, checkpoint=checkpoint)
        return self.settings.composed([prior], events, stream)


def reweight(prior: BackgroundModel, events: Events, settings: Reweighting, stream: Stream) -> "Reweighted":
    """Any trained model or simulation, each of its members reweighted to sideband events by classifiers of its own.

    Raises `AnalysisError` with fewer than 500 events.
    """
    if len(events) < MIN_EVENTS:
        raise AnalysisError(f"{len(events)} sideband events to reweight to, at least {MIN_EVENTS} are needed")
    members = [prior.with_members([number]) for number in range(prior.members)]
    weights = [
        _weights(member, events, settings, stream.child("member", number)) for number, member in enumerate(members)
    ]
    return Reweighted(settings, prior, tuple(weights))


@dataclass(frozen=True)
class MemberWeights:
    """What reweights one member of the prior.

    trees: classifiers, as UBJSON. normalisation: so that the weights are 1 on the mean over the sidebands.
    """

    trees: tuple[bytes, ...]
    normalisation: float = 1.0

    def of(self, events: Events, max_weight: float) -> FloatArray:
        """(n_events,) weights: the odds that an event is data, within their bounds, normalised."""
        import xgboost

        if not len(events):
            return np.ones(0)
        matrix = xgboost.DMatrix(_inputs(events), nthread=1)
        logits = [
            xgboost.Booster({"nthread": 1}, model_file=bytearray(tree)).predict(matrix, output_margin=True)
            for tree in self.trees
        ]
        odds = np.exp(np.mean(np.asarray(logits, dtype=float), axis=0))
        weights: FloatArray = self.normalisation * np.clip(odds, 1 / max_weight, max_weight)
        return weights


def _weights(prior: BackgroundModel, events: Events, settings: Reweighting, stream: Stream) -> MemberWeights:
    """The classifiers of one member, and the normalisation on samples that none of them saw."""
    mass = np.tile(events.mass, settings.copies)
    drawn, fresh = (prior.sample(mass, stream.child(use).rooted()) for use in ("samples", "normalisation"))
    inputs = np.concatenate([_inputs(events), _inputs(drawn)])
    is_data = np.repeat([True, False], [len(events), len(drawn)])
    weight = np.concatenate([events.weight * (drawn.weight.sum() / events.weight.sum()), drawn.weight])
    trees = []
    for number in range(settings.classifiers):
        own = stream.child("classifier", number)
        order = own.child("split").generator().permutation(len(events))
        held_out = np.zeros(len(events), dtype=bool)
        held_out[order[: max(1, round(settings.validation_fraction * len(events)))]] = True
        stopping = np.tile(held_out, settings.copies + 1)  # an event and its copies are on the same side
        trees.append(_train(inputs, is_data, weight, stopping, settings, own.child("trees").integer()))
    unscaled = MemberWeights(tuple(trees))
    mean = float(np.average(unscaled.of(fresh, settings.max_weight), weights=fresh.weight))
    return MemberWeights(tuple(trees), 1.0 / mean)


def _inputs(events: Events) -> FloatArray:
    """(n_events, n_features + 1): the features and the mass."""
    return np.column_stack([events.features, events.mass])


def _train(
    x: FloatArray, is_data: BoolArray, weight: FloatArray, stopping: BoolArray, settings: Reweighting, seed: int
) -> bytes:
    """One classifier, in one thread, up to the tree of the lowest validation loss; as UBJSON."""
    import xgboost

    matrices = [
        xgboost.DMatrix(x[part], is_data[part].astype(float), weight=weight[part], nthread=1)
        for part in (~stopping, stopping)
    ]
    parameters = {
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "tree_method": "hist",
        "max_depth": settings.max_depth,
        "learning_rate": settings.learning_rate,
        "subsample": 0.7,
        "nthread": 1,
        "seed": seed,
    }
    booster = xgboost.train(
        parameters,
        matrices[0],
        num_boost_round=settings.n_trees,
        evals=[(matrices[1], "validation")],
        early_stopping_rounds=settings.early_stopping,
        verbose_eval=False,
    )
    return bytes(booster[: booster.best_iteration + 1].save_raw("ubj"))


@dataclass(frozen=True, eq=False)
class Reweighted:
    """A prior whose samples carry weights; a `BackgroundModel`. weights: of each member of the prior."""

    settings: Reweighting
    prior: BackgroundModel
    weights: tuple[MemberWeights, ...]

    @property
    def kind(self) -> str:
        """Its name in the registry."""
        return self.settings.kind

    @property
    def scaler(self) -> LogitScaler:
        """The prior's."""
        return self.prior.scaler

    @property
    def members(self) -> int:
        """Those of the prior."""
        return self.prior.members

    @property
    def n_parameters(self) -> int:
        """Those of the prior; the trees have none that are counted alike."""
        return self.prior.n_parameters

    @property
    def losses(self) -> FloatArray:
        """Those of the prior."""
        return self.prior.losses

    def member_of(self, n_events: int) -> IntArray:
        """(n_events,): the member of the prior that each event comes from."""
        return self.prior.member_of(n_events)

    def with_members(self, members: Sequence[int]) -> "Reweighted":
        """The model of some members of the prior, each with its own weights."""
        weights = tuple(self.weights[number] for number in members)
        return Reweighted(self.settings, self.prior.with_members(members), weights)

    def sample(self, mass: FloatArray, stream: Stream) -> Events:
        """Events of the prior at given masses [GeV], weighted."""
        drawn = self.prior.sample(mass, stream.child("prior").rooted())
        member, weight = self.member_of(len(drawn)), np.empty(len(drawn))
        for number, own in enumerate(self.weights):
            chosen = member == number
            weight[chosen] = drawn.weight[chosen] * own.of(drawn[chosen], self.settings.max_weight)
        return Events(drawn.mass, drawn.features, weight, drawn.row, drawn.names)

    def state(self) -> dict[str, Any]:
        """Tensors, numbers and texts for `Reweighting.restored`."""
        import torch

        return {
            "settings": self.settings.model_dump(mode="json"),
            "trees": [[torch.tensor(list(tree), dtype=torch.uint8) for tree in own.trees] for own in self.weights],
            "normalisations": [own.normalisation for own in self.weights],
            "prior": {"kind": self.prior.kind, **self.prior.state()},
        }
