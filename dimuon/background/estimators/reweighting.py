"""A classifier that reweights a prior sample to the data in the sidebands, conditional on the mass.

w(x, m) = p / (1 - p) of trees that tell sideband data from prior samples at the same masses (SALAD, ATLAS dijet
search, section V B, where the prior is a simulation). Member k is member k of the prior with a classifier of its own.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from dimuon.arrays import FloatArray, IntArray
from dimuon.background.kinds import ESTIMATORS, AnyEstimator, EstimatorSettings
from dimuon.background.protocol import BackgroundModel, Checkpoint
from dimuon.background.scaler import LogitScaler
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.settings import Fraction, Positive


class Reweighting(EstimatorSettings):
    """Trees that reweight a prior."""

    kind: Literal["reweighting"] = "reweighting"
    prior: AnyEstimator = Field(default_factory=lambda: ESTIMATORS["maf"].model_validate({}))
    copies: Positive = 4  # prior samples at each sideband mass
    max_depth: Positive = 3
    learning_rate: Annotated[float, Field(gt=0)] = 0.05
    n_trees: Positive = 500
    early_stopping: Positive = 20
    validation_fraction: Fraction = 0.25  # of the masses, to stop the trees on
    max_weight: Annotated[float, Field(gt=1)] = 10.0

    @property
    def sentence(self) -> str:
        """What a report says of both parts."""
        return f"{self.prior.sentence} Reweighted to the sidebands by trees of depth {self.max_depth}."

    @property
    def on_cpu(self) -> bool:
        """As the prior."""
        return self.prior.on_cpu

    def estimator(self, scaler: LogitScaler) -> "ReweightingEstimator":
        """Untrained."""
        return ReweightingEstimator(self, scaler)

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "ReweightedModel":
        """As it was saved."""
        prior = ESTIMATORS[state["prior"]["kind"]].restored(state["prior"])
        trees = tuple(bytes(tree.numpy().tobytes()) for tree in state["trees"])
        return ReweightedModel(prior, trees, tuple(state["norms"]), state["max_weight"])


@dataclass(frozen=True, eq=False)
class ReweightingEstimator:
    """Trains the prior, then the trees. trained_prior: a model that is already there, in place of the settings'."""

    settings: Reweighting
    scaler: LogitScaler
    trained_prior: BackgroundModel | None = None

    def fit(
        self, events: Events, stream: Stream, *, pool: Executor | None = None, checkpoint: Checkpoint | None = None
    ) -> "ReweightedModel":
        """The reweighted prior (`protocol.BackgroundEstimator.fit`)."""
        prior = self.trained_prior or self.settings.prior.estimator(self.scaler).fit(
            events, stream.child("prior").rooted(), pool=pool, checkpoint=checkpoint
        )
        trees, norms = [], []
        for member in range(prior.members):
            own = stream.child("trees", member)
            booster, norm = _trained(self.settings, events, prior.with_members([member]), own)
            trees.append(booster)
            norms.append(norm)
        return ReweightedModel(prior, tuple(trees), tuple(norms), self.settings.max_weight)


@dataclass(frozen=True, eq=False)
class ReweightedModel:
    """A prior with weights; a `BackgroundModel`. trees: of each member, raw boosters. norms: mean raw weights."""

    prior: BackgroundModel
    trees: tuple[bytes, ...]
    norms: tuple[float, ...]
    max_weight: float
    kind: str = "reweighting"

    @property
    def scaler(self) -> LogitScaler:
        """The prior's."""
        return self.prior.scaler

    @property
    def members(self) -> int:
        """The prior's."""
        return self.prior.members

    @property
    def losses(self) -> FloatArray:
        """The prior's."""
        return self.prior.losses

    def member_of(self, n_events: int) -> IntArray:
        """The prior's."""
        return self.prior.member_of(n_events)

    def with_members(self, members: Sequence[int]) -> "ReweightedModel":
        """Some members, each with its own trees."""
        trees, norms = tuple(self.trees[k] for k in members), tuple(self.norms[k] for k in members)
        return ReweightedModel(self.prior.with_members(members), trees, norms, self.max_weight)

    def sample(self, mass: FloatArray, stream: Stream) -> Events:
        """Prior samples with weights."""
        events = self.prior.sample(mass, stream)
        member, weight = self.member_of(len(events)), events.weight.copy()
        for k, (tree, norm) in enumerate(zip(self.trees, self.norms, strict=True)):
            chosen = member == k
            weight[chosen] *= _ratio(tree, events[chosen], self.max_weight) / norm
        return Events.of(events.mass, events.features, events.names, weight)

    def state(self) -> dict[str, Any]:
        """Tensors, numbers, texts."""
        import torch

        trees = [torch.frombuffer(bytearray(tree), dtype=torch.uint8) for tree in self.trees]
        prior = {"kind": self.prior.kind, **self.prior.state()}
        return {"prior": prior, "trees": trees, "norms": list(self.norms), "max_weight": self.max_weight}


def _trained(settings: Reweighting, real: Events, prior: BackgroundModel, stream: Stream) -> tuple[bytes, float]:
    """(raw booster, mean weight over the sidebands' own samples)."""
    import xgboost as xgb

    n, copies = len(real), settings.copies
    drawn = prior.sample(np.tile(real.mass, copies), stream.child("sample").rooted())
    x, is_real = _inputs(real + drawn), np.repeat([1.0, 0.0], [n, n * copies])
    weight = np.concatenate([real.weight * copies, drawn.weight])
    held_out = np.tile(stream.child("split").generator().random(n) < settings.validation_fraction, copies + 1)
    train, stop = (
        xgb.DMatrix(x[part], is_real[part], weight=weight[part], nthread=1) for part in (~held_out, held_out)
    )
    parameters = {
        "objective": "binary:logistic",
        "max_depth": settings.max_depth,
        "eta": settings.learning_rate,
        "subsample": 0.7,
        "nthread": 1,
        "seed": stream.child("booster").integer(),
    }
    booster = xgb.train(
        parameters,
        train,
        settings.n_trees,
        evals=[(stop, "stop")],
        early_stopping_rounds=settings.early_stopping,
        verbose_eval=False,
    )
    raw = bytes(booster[: booster.best_iteration + 1].save_raw("json"))
    return raw, float(np.average(_ratio(raw, drawn, settings.max_weight), weights=drawn.weight))


def _inputs(events: Events) -> FloatArray:
    return np.column_stack([events.features, events.mass])


def _ratio(raw: bytes, events: Events, max_weight: float) -> FloatArray:
    import xgboost as xgb

    p = xgb.Booster(model_file=bytearray(raw)).inplace_predict(_inputs(events)).astype(float)
    weight: FloatArray = np.clip(p / (1 - p), 0.0, max_weight)
    return weight


ESTIMATORS.register("reweighting", Reweighting)
