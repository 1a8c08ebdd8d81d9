"""The dense network of the weakly supervised ATLAS dijet search (its appendix A)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

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
        train, validation = (_Tensors(part, quantiles) for part in (training.train, training.validation))
        for seed in seeds:
            layers = self._train(train, validation, torch.Generator().manual_seed(seed), seed)
            self.members.append(Network(quantiles, layers))
        return self

    def _train(
        self, train: "_Tensors", validation: "_Tensors", order: "torch.Generator", seed: int
    ) -> list[tuple[FloatArray, FloatArray]]:
        """(weight, bias) of each layer in the state of the lowest validation loss. order: of the batches."""
        import torch

        settings = self.settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = torch.nn.Sequential(*_layers(train.x.shape[1], settings.hidden, settings.dropout))
            optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)

            def loss(x: torch.Tensor, label: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
                return torch.nn.functional.binary_cross_entropy_with_logits(network(x)[:, 0], label, weight)

            best, best_epoch, state = np.inf, 0, list[FloatArray]()
            for epoch in range(settings.epochs):
                network.train()
                for batch in torch.split(torch.randperm(len(train.x), generator=order), settings.batch_size):
                    optimizer.zero_grad()
                    of_batch = loss(train.x[batch], train.label[batch], train.weight[batch])
                    of_batch.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
                    optimizer.step()
                network.eval()
                with torch.no_grad():
                    held_out = loss(validation.x, validation.label, validation.weight).item()
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


class _Tensors:
    """Labelled events as torch wants them."""

    def __init__(self, events: Labelled, quantiles: FloatArray) -> None:
        import torch

        self.x, self.label, self.weight = (
            torch.as_tensor(column, dtype=torch.float32)
            for column in (to_normal(events.x, quantiles), events.label, events.weight)
        )


def _layers(n_features: int, hidden: Sequence[int], dropout: float) -> Iterator["torch.nn.Module"]:
    import torch

    sizes = (n_features, *hidden)
    for n_in, n_out in pairwise(sizes):
        yield from (torch.nn.Linear(n_in, n_out), torch.nn.ReLU(), torch.nn.Dropout(dropout))
    yield torch.nn.Linear(sizes[-1], 1)


def to_normal(x: FloatArray, quantiles: FloatArray) -> FloatArray:
    """Each feature through the quantiles (n_quantiles, n_features) to a normal distribution, within 3 sigma."""
    levels = np.linspace(0, 1, len(quantiles))
    ranks = [np.interp(column, grid, levels) for column, grid in zip(x.T, quantiles.T, strict=True)]
    return np.asarray(np.clip(ndtri(np.column_stack(ranks)), -3, 3))
