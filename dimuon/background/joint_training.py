"""Ensembles of several samples trained at once, as one stack: what each would get alone, in a third of the time.

The networks of a window are small, and most of a step is overhead; a stack of the windows of a scan shares it. Every
sample keeps its own events, splits, orders and noise (`training.StackTraining`). The samples are of different sizes:
step j of an epoch is made by those that have a whole batch j, and the rest of a sample's events, of any number, is a
step of its own. Sums are done in another order than alone, so that results agree within rounding, which a training
amplifies from epoch to epoch; which samples share a stack is for the caller to fix.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dimuon.arrays import FloatArray
from dimuon.background.training import StackedModel, StackTraining, TrainedStack, one_thread
from dimuon.progress import Progress
from dimuon.random import Stream

if TYPE_CHECKING:
    from dimuon.background.estimators.flows import Flow

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam, as torch has them


@dataclass(frozen=True, eq=False)
class Sample:
    """What an ensemble is trained on. features: (n_events, n_features), prepared; mass: (n_events,), scaled."""

    features: NDArray[np.float32]
    mass: NDArray[np.float32]
    stream: Stream

    @classmethod
    def of(cls, features: FloatArray, mass: FloatArray, stream: Stream) -> "Sample":
        """In single precision."""
        return cls(np.asarray(features, dtype=np.float32), np.asarray(mass, dtype=np.float32), stream)


def train_jointly(model_class: type[StackedModel], settings: "Flow", samples: Sequence[Sample]) -> list[TrainedStack]:
    """All members of an ensemble for each sample, in the order of the samples.

    Raises ValueError where members may stop early, `AnalysisError` for a loss that is not finite.
    """
    if settings.patience is not None:
        raise ValueError("members that stop early cannot be trained jointly")
    with one_thread():
        training = JointTraining(model_class, settings, samples)
        with Progress(f"flows, {len(samples)} windows", settings.epochs, "epochs") as progress:
            for _ in range(settings.epochs):
                train_loss, validation_loss = training.run_epoch()
                progress.step(train=train_loss, validation=validation_loss)
        return training.results


class JointTraining:
    """Ensembles of several samples in training. Those with most whole batches come first in the stack."""

    def __init__(self, model_class: type[StackedModel], settings: "Flow", samples: Sequence[Sample]) -> None:
        self.members, self.batch_size = settings.members, settings.batch_size
        each = list(range(settings.members))
        unordered = [
            StackTraining(model_class, settings, sample.features, sample.mass, sample.stream, each)
            for sample in samples
        ]
        self.order = sorted(range(len(samples)), key=lambda number: -self._whole(unordered[number]))
        self.parts = [unordered[number] for number in self.order]
        models: list[Any] = [part.model for part in self.parts]
        self.weights = {
            name: torch.cat([model.get_parameter(name).detach() for model in models])
            for name, _ in models[0].named_parameters()
        }
        for number, model in enumerate(models):  # each part computes with its share of the stack
            for name, parameter in model.named_parameters():
                parameter.data = self.weights[name][self._place(number, number + 1)]
        self.adam = _Adam(self.weights, settings.learning_rate, settings.weight_decay)
        self.stacks = dict[tuple[int, int], Any]()

    def run_epoch(self) -> tuple[float, float]:
        """One pass over the training events of every sample; returns the mean train and validation loss."""
        for part in self.parts:
            part.epoch += 1
        events = [part.shuffled() for part in self.parts]
        totals = torch.zeros(self.members * len(self.parts), dtype=torch.float64)
        whole = [self._whole(part) for part in self.parts]
        for batch in range(whole[0]):
            n_parts = sum(n > batch for n in whole)
            inside = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            chosen = [_joined(values, inside) for values in zip(*events[:n_parts], strict=True)]
            totals[self._place(0, n_parts)] += self._step(0, n_parts, *chosen)
        for number, (part, values) in enumerate(zip(self.parts, events, strict=True)):
            for rest in part.batches[whole[number] :]:
                chosen = [None if value is None else value[..., rest] for value in values]
                totals[self._place(number, number + 1)] += self._step(number, number + 1, *chosen)
        losses = []
        for number, part in enumerate(self.parts):
            mean = totals[self._place(number, number + 1)] / part.train_x.shape[2]
            losses.append(part.finish_epoch(mean))
        train, validation = zip(*losses, strict=True)
        return sum(train) / len(train), sum(validation) / len(validation)

    @property
    def results(self) -> list[TrainedStack]:
        """Of each sample, in the order that they were given."""
        by_number = dict(zip(self.order, self.parts, strict=True))
        return [by_number[number].result for number in range(len(self.parts))]

    def _whole(self, part: StackTraining) -> int:
        """Batches of an epoch that are of the size asked for; the others come after them."""
        return sum(batch.stop - batch.start == self.batch_size for batch in part.batches)

    def _place(self, first: int, last: int) -> slice:
        """In the stack, of some parts."""
        return slice(first * self.members, last * self.members)

    def _step(self, first: int, last: int, x: Any, mass: Any, noise: Any) -> Tensor:
        """A step of the parts from `first` up to `last`; returns the sum of the losses of each member."""
        place, stack = self._place(first, last), self._stack(first, last)
        losses: Tensor = stack.differentiate(x, mass, noise)
        self.adam.step(place, {name: parameter.grad for name, parameter in stack.named_parameters()})
        return losses.double()

    def _stack(self, first: int, last: int) -> Any:
        """A network of these parts that shares its weights with the whole stack."""
        if (first, last) not in self.stacks:
            stack: Any = copy(self.parts[0].model)
            place = self._place(first, last)
            stack._parameters = {name: nn.Parameter(value[place]) for name, value in self.weights.items()}
            self.stacks[first, last] = stack.train()
        return self.stacks[first, last]


def _joined(values: Sequence[Tensor | None], inside: slice) -> Tensor | None:
    """The events of some parts as those of one stack; None where the parts have none."""
    present = [value[..., inside] for value in values if value is not None]
    return torch.cat(present) if present else None


class _Adam:
    """Adam (arXiv:1412.6980) as torch does it, for a part of a stack at a time; each member counts its own steps."""

    def __init__(self, weights: dict[str, Tensor], learning_rate: float, weight_decay: float) -> None:
        self.weights, self.learning_rate, self.weight_decay = weights, learning_rate, weight_decay
        self.mean = {name: torch.zeros_like(value) for name, value in weights.items()}
        self.square = {name: torch.zeros_like(value) for name, value in weights.items()}
        self.steps = torch.zeros(len(next(iter(weights.values()))), dtype=torch.float64)

    @torch.no_grad()
    def step(self, place: slice, gradients: dict[str, Tensor]) -> None:
        """One step of the members at a place in the stack."""
        self.steps[place] += 1
        first, second = (1 - beta ** self.steps[place] for beta in BETAS)
        rate, root = (-self.learning_rate / first).float(), second.sqrt().float()
        for name, gradient in gradients.items():
            weight, mean, square = self.weights[name][place], self.mean[name][place], self.square[name][place]
            shape = (-1, *[1] * (weight.ndim - 1))
            gradient = gradient.add(weight, alpha=self.weight_decay)
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            denominator = square.sqrt().div_(root.view(shape)).add_(EPSILON)
            weight.add_(rate.view(shape) * mean / denominator)
