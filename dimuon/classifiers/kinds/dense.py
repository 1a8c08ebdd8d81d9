"""The dense network of the weakly supervised ATLAS dijet search (its appendix A)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field
from scipy.special import expit, ndtri

from dimuon.arrays import FloatArray
from dimuon.classifiers.arrays import from_npy, to_npy
from dimuon.classifiers.protocol import CLASSIFIERS, ClassifierSettings, Labelled, TrainingSet
from dimuon.errors import AnalysisError
from dimuon.settings import Positive

if TYPE_CHECKING:
    import torch

N_QUANTILES = 201


class DenseSettings(ClassifierSettings):
    """The dense network of the ATLAS search (its appendix A)."""

    kind: Literal["dense"] = "dense"
    hidden: Annotated[list[Positive], Field(min_length=1)] = [64, 64, 64]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    batch_size: Positive = 512
    epochs: Positive = 100
    patience: Positive = 10


@CLASSIFIERS.named("dense")
class DenseNetwork:
    """The network of the weakly supervised ATLAS dijet search (its appendix A): 64, 64, 64, 1, ReLU, dropout 5 %, Adam.

    Each feature is first mapped to a normal distribution by the quantiles of the training events, since impact
    parameters span four orders of magnitude. The state of the lowest validation loss is kept.
    """

    Settings: ClassVar[type[ClassifierSettings]] = DenseSettings
    suffix: ClassVar[str] = "npy"
    libraries: ClassVar[tuple[str, ...]] = ("torch",)

    def __init__(self, settings: DenseSettings | None = None) -> None:
        self.settings = settings or DenseSettings()
        self.members: list[Network] = []

    def fit(self, training: TrainingSet, seeds: Sequence[int]) -> Self:
        """Train one member per seed; returns itself.

        Raises `AnalysisError` where the validation loss is not finite.
        """
        import torch

        torch.set_num_threads(1)
        # of the events as they are, whatever they weigh: any monotonic map would do
        quantiles = np.quantile(training.train.x, np.linspace(0, 1, N_QUANTILES), axis=0)
        train, validation = (_Tensors.of(part, quantiles) for part in (training.train, training.validation))
        for seed in seeds:
            self.members.append(Network(quantiles, self._train(train, validation, seed)))
        return self

    def _train(self, train: "_Tensors", validation: "_Tensors", seed: int) -> list[tuple[FloatArray, FloatArray]]:
        """(weight, bias) of each layer in the state of the lowest validation loss."""
        import torch

        settings = self.settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sizes = (train.x.shape[1], *settings.hidden, 1)
            network = torch.nn.ModuleList(torch.nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes))
        optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
        random = np.random.Generator(np.random.SFC64(seed))

        def loss(events: "_Tensors", kept: "torch.Tensor | None" = None) -> "torch.Tensor":
            logit = _through(network, events.x, kept)
            return torch.nn.functional.binary_cross_entropy_with_logits(logit, events.label, events.weight)

        best, best_epoch, state = np.inf, 0, list[FloatArray]()
        for epoch in range(settings.epochs):
            order = torch.from_numpy(random.permutation(len(train.x)))
            for batch in torch.split(order, settings.batch_size):
                kept = _kept(random, len(batch), sum(settings.hidden), settings.dropout)
                optimizer.zero_grad()
                loss(train[batch], kept).backward()  # type: ignore[no-untyped-call]  # torch gives it no types
                optimizer.step()
            with torch.no_grad():
                held_out = loss(validation).item()
            if not np.isfinite(held_out):
                raise AnalysisError(
                    f"dense network, seed {seed}: validation loss is {held_out} in epoch {epoch + 1} at learning "
                    f"rate {settings.learning_rate:g}; lower it",
                    setting="learning_rate",
                )
            if held_out < best:
                best, best_epoch = held_out, epoch
                state = [value.numpy().copy() for value in network.state_dict().values()]
            elif epoch - best_epoch >= settings.patience:
                break
        return list(zip(state[::2], state[1::2], strict=True))

    def score(self, x: FloatArray) -> FloatArray:
        """Score of each member: (n_events, n_members), 0 to 1. x: (n_events, n_features), physical units."""
        return np.column_stack([network.score(x) for network in self.members])

    def to_bytes(self) -> list[bytes]:
        """One file of weights per member, as .npy arrays one after the other, in the order of the layers."""
        return [network.to_bytes() for network in self.members]

    @classmethod
    def from_bytes(cls, models: Sequence[bytes]) -> Self:
        """The classifier with the members that `to_bytes` gave."""
        restored = cls()
        restored.members = [Network.from_bytes(model) for model in models]
        return restored


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network, applied without torch.

    quantiles: (n_quantiles, n_features) of the training events. layers: (weight, bias) of each, as torch has them.
    """

    quantiles: FloatArray
    layers: list[tuple[FloatArray, FloatArray]]

    def score(self, x: FloatArray) -> FloatArray:
        """(n_events,), 0 to 1. x: (n_events, n_features), physical units."""
        values = to_normal(x, self.quantiles).astype(np.float32)
        for weight, bias in self.layers[:-1]:
            values = np.maximum(values @ weight.T + bias, 0)
        weight, bias = self.layers[-1]
        logit: FloatArray = (values @ weight.T + bias)[:, 0]
        return np.asarray(expit(logit))

    def to_bytes(self) -> bytes:
        """The quantiles, then weight and bias of each layer, as .npy arrays one after the other."""
        return to_npy(self.quantiles, *(array for layer in self.layers for array in layer))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The network that `to_bytes` described."""
        quantiles, *arrays = from_npy(content)
        return cls(quantiles, list(zip(arrays[::2], arrays[1::2], strict=True)))


@dataclass(frozen=True, eq=False)
class _Tensors:
    """Labelled events as torch wants them: x (n_events, n_features), label and weight (n_events,)."""

    x: "torch.Tensor"
    label: "torch.Tensor"
    weight: "torch.Tensor"

    @classmethod
    def of(cls, events: Labelled, quantiles: FloatArray) -> "_Tensors":
        import torch

        columns = to_normal(events.x, quantiles), events.label, events.weight
        return cls(*(torch.as_tensor(column, dtype=torch.float32) for column in columns))

    def __getitem__(self, chosen: Any) -> "_Tensors":
        return _Tensors(self.x[chosen], self.label[chosen], self.weight[chosen])


def _through(network: Any, x: "torch.Tensor", kept: "torch.Tensor | None") -> "torch.Tensor":
    """(n_events,) log odds. kept: of `_kept`, for each output of a hidden layer; None: all are kept."""
    import torch

    *hidden, last = network
    widths = [layer.out_features for layer in hidden]
    of_layer = [None] * len(hidden) if kept is None else torch.split(kept, widths, dim=1)
    for layer, factor in zip(hidden, of_layer, strict=True):
        x = layer(x).relu()
        x = x if factor is None else x * factor
    logit: torch.Tensor = last(x)[:, 0]
    return logit


def _kept(random: np.random.Generator, n_events: int, n_outputs: int, dropout: float) -> "torch.Tensor":
    """What dropout multiplies by, 0 or 1 / (1 - dropout): (n_events, n_outputs).

    Drawn as integers of two bytes, in a third of the time that torch takes, to a chance that is right to 1e-5.
    """
    import torch

    drawn = random.integers(0, 1 << 16, (n_events, n_outputs), dtype=np.uint16)
    return torch.from_numpy(drawn >= round(dropout * (1 << 16))).float() / (1 - dropout)


def to_normal(x: FloatArray, quantiles: FloatArray) -> FloatArray:
    """Each feature through the quantiles (n_quantiles, n_features) to a normal distribution, within 3 sigma."""
    levels = np.linspace(0, 1, len(quantiles))
    ranks = [np.interp(column, grid, levels) for column, grid in zip(x.T, quantiles.T, strict=True)]
    return np.asarray(np.clip(ndtri(np.column_stack(ranks)), -3, 3))
