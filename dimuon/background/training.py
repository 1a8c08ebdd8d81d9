"""Training of an ensemble: a stack of members at once, each with its own split, batch order and initial state.

Which members share a stack is fixed (`stacks`), and a stack is computed by one thread, so the result does not depend
on the number of processes that the stacks are spread over. A stack writes a checkpoint after every epoch; training
that finds the checkpoint of the very same training goes on from there, to the same result.
"""

import hashlib
import io
import json
import logging
import pickle
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dimuon.arrays import FloatArray, IntArray
from dimuon.background.protocol import Checkpoint
from dimuon.errors import DAMAGED, AnalysisError
from dimuon.progress import Progress
from dimuon.random import Stream

if TYPE_CHECKING:
    from dimuon.background.estimators.flows import Flow

log = logging.getLogger("dimuon")

STACK = 3  # members computed together on a CPU: two stacks of the paper's five keep two cores busy
EVALUATION_CHUNK = 4096  # events at a time in the validation loss


class StackedModel(Protocol):
    """What the training asks of a stack of networks beside what every `torch.nn.Module` has; see `maf.StackedMaf`."""

    needs_noise: bool

    @classmethod
    def build(cls, n_features: int, settings: Any, seeds: Sequence[int]) -> Any:
        """Untrained members, one per seed. settings: the section of its kind."""
        ...

    def differentiate(self, x: torch.Tensor, mass: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Gradients of a step; see `autograd.ByAutograd`."""
        ...

    def finish_epoch(self, x: torch.Tensor, mass: torch.Tensor) -> None:
        """What is to be done after an epoch with all training events."""
        ...


@dataclass(frozen=True, eq=False)
class TrainedStack:
    """Some trained members, first axis of every array.

    state: of the lowest validation loss. best_epoch: (members,), its epoch. losses: (members, epochs, 2), train and
    validation, NaN after a member has stopped.
    """

    state: dict[str, NDArray[Any]]
    best_epoch: IntArray
    losses: FloatArray


def stacks(n_members: int, device: str) -> list[list[int]]:
    """The members trained together, as a list of lists: at most `STACK` of them on a CPU, all of them on a GPU."""
    n_stacks = -(-n_members // STACK) if device == "cpu" else 1
    return [part.tolist() for part in np.array_split(np.arange(n_members), n_stacks)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with one thread inside: sums come out the same whatever machine or worker computes them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train_stack(
    model_class: type[StackedModel],
    settings: "Flow",
    features: NDArray[np.float32],
    mass: NDArray[np.float32],
    stream: Stream,
    members: Sequence[int],
    checkpoint: Checkpoint | None = None,
) -> TrainedStack:
    """Train some members of an ensemble.

    features: (n_events, n_features), prepared; mass: (n_events,), scaled. members: their numbers in the ensemble.
    checkpoint: to go on from and to save after every epoch. Raises `AnalysisError` for a loss that is not finite.
    """
    with one_thread():
        training = StackTraining(model_class, settings, features, mass, stream, members)
        if checkpoint is not None:
            training.resume(checkpoint)
        what = f"{'flows' if checkpoint is None else checkpoint.name}, members {members[0]}-{members[-1]}"
        with Progress(what, settings.epochs, "epochs", training.epoch) as progress:
            while training.epoch < settings.epochs and len(training.active):
                train_loss, validation_loss = training.run_epoch()
                progress.step(train=train_loss, validation=validation_loss)
                if checkpoint is not None:
                    training.save(checkpoint)
        return training.result


class StackTraining:
    """A stack of members in training. Everything that the next epoch depends on is in its checkpoint."""

    def __init__(
        self,
        model_class: type[StackedModel],
        settings: "Flow",
        features: NDArray[np.float32],
        mass: NDArray[np.float32],
        stream: Stream,
        members: Sequence[int],
    ) -> None:
        self.settings, self.stream, self.members = settings, stream, members
        of_settings = [model_class.__name__, settings.model_dump(mode="json"), stream.seed, stream.names, members]
        self.fingerprint = _fingerprint([*of_settings, torch.__version__], features, mass)
        seeds = [stream.child("member", member, "initial").integer() for member in members]
        self.model: Any = model_class.build(features.shape[1], settings, seeds).to(settings.device)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.epoch = 0
        self.active = torch.arange(len(members))  # places in the stack still in training
        n_validation = max(1, round(settings.validation_fraction * len(mass)))
        self.validation_x, self.validation_mass = self._events(features, mass, slice(None, n_validation))
        self.train_x, self.train_mass = self._events(features, mass, slice(n_validation, None))
        self.batches = _batches(self.train_x.shape[2], settings.batch_size)
        self.validation_noise = self._noise(n_validation, "validation noise")
        self.losses = torch.full((len(members), settings.epochs, 2), torch.nan, dtype=torch.float64)
        self.best = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.best_loss = torch.full((len(members),), torch.inf, dtype=torch.float64)
        self.best_epoch = torch.zeros(len(members), dtype=torch.int64)

    def run_epoch(self) -> tuple[float, float]:
        """One pass over the training events; returns the mean train and validation loss of the active members."""
        self.epoch += 1
        return self.finish_epoch(self._train())

    def finish_epoch(self, train_loss: torch.Tensor) -> tuple[float, float]:
        """What follows the steps of an epoch. train_loss: (active members,); returns as `run_epoch` does."""
        self.model.finish_epoch(self.train_x, self.train_mass)
        self.model.eval()
        validation_loss = self._validate()
        for which, losses in (("train", train_loss), ("validation", validation_loss)):
            self._refuse_non_finite(which, losses)
        self.losses[self.active, self.epoch - 1] = torch.stack([train_loss, validation_loss], dim=1)
        self._keep_best(validation_loss)
        self._stop_members()
        return float(train_loss.mean()), float(validation_loss.mean())

    @property
    def result(self) -> TrainedStack:
        """The members in the state of their lowest validation loss so far."""
        return TrainedStack(
            {name: value.cpu().numpy() for name, value in self.best.items()},
            self.best_epoch.numpy(),
            self.losses[:, : self.epoch].numpy(),
        )

    def save(self, checkpoint: Checkpoint) -> None:
        """Save what the next epoch depends on."""
        names = ("fingerprint", "epoch", "active", "losses", "best", "best_loss", "best_epoch")
        content = {name: getattr(self, name) for name in names}
        content |= {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        checkpoint.save(buffer.getvalue())

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take up the checkpoint if there is one and it belongs to this very training."""
        saved = checkpoint.load()
        if saved is None:
            return
        try:
            content = load_tensors(saved)
        except ValueError as error:
            log.warning("%s: %s; training starts at the first epoch", checkpoint.name, error)
            return
        if content["fingerprint"] != self.fingerprint:
            log.info(
                "%s: left by another training (data or settings differ); training starts at the first epoch",
                checkpoint.name,
            )
            return
        self.epoch, self.losses = content["epoch"], content["losses"]
        self.best_loss, self.best_epoch = content["best_loss"], content["best_epoch"]
        self.best = {name: value.to(self.settings.device) for name, value in content["best"].items()}
        self._keep(content["active"])
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        log.info("%s: training goes on after epoch %d", checkpoint.name, self.epoch)

    def _events(
        self, features: NDArray[np.float32], mass: NDArray[np.float32], part: slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Every member's own part of the events, (members, features, events), and of the masses, (members, 1, events).

        part: of each member's own order.
        """
        orders = [
            self.stream.child("member", member, "split").generator().permutation(len(mass))[part]
            for member in self.members
        ]
        chosen = np.stack(orders)
        x, m = features[chosen].transpose(0, 2, 1), mass[chosen][:, None]
        device = self.settings.device
        return (
            torch.tensor(x, dtype=torch.float32, device=device),
            torch.tensor(m, dtype=torch.float32, device=device),
        )

    def shuffled(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The training events of this epoch and their noise, each active member's in its own order."""
        n_events = self.train_x.shape[2]
        active = [self.members[place] for place in self.active.tolist()]
        orders = [
            self.stream.child("member", member, "epoch", self.epoch).generator().permutation(n_events)
            for member in active
        ]
        order = torch.tensor(np.stack(orders), device=self.settings.device)[:, None]
        x = self.train_x.gather(2, order.expand(-1, self.train_x.shape[1], -1))
        return x, self.train_mass.gather(2, order), self._noise(n_events, "noise", self.epoch)

    def _train(self) -> torch.Tensor:
        x, mass, noise = self.shuffled()
        total = torch.zeros(len(x), dtype=torch.float64)
        self.model.train()
        for batch in self.batches:
            chosen = None if noise is None else noise[..., batch]
            total += self.model.differentiate(x[..., batch], mass[..., batch], chosen).cpu()
            self.optimizer.step()
        return total / x.shape[2]

    @torch.no_grad()
    def _validate(self) -> torch.Tensor:
        total = torch.zeros(len(self.active), dtype=torch.float64)
        n_events = self.validation_x.shape[2]
        for start in range(0, n_events, EVALUATION_CHUNK):
            part = slice(start, start + EVALUATION_CHUNK)
            noise = None if self.validation_noise is None else self.validation_noise[..., part]
            losses = self.model.loss(self.validation_x[..., part], self.validation_mass[..., part], noise)
            total += losses.sum(dim=1).cpu()
        return total / n_events

    def _noise(self, n_events: int, *names: str | int) -> torch.Tensor | None:
        """Standard normal numbers for losses that are themselves random: (members, n_features + 1, n_events)."""
        if not self.model.needs_noise:
            return None
        shape = (self.train_x.shape[1] + 1, n_events)
        active = [self.members[place] for place in self.active.tolist()]
        draws = [
            self.stream.child("member", member, *names).generator().standard_normal(shape, np.float32)
            for member in active
        ]
        return torch.tensor(np.stack(draws), device=self.settings.device)

    def _refuse_non_finite(self, which: str, losses: torch.Tensor) -> None:
        bad = torch.nonzero(~torch.isfinite(losses)).flatten()
        if len(bad):
            member, value = self.members[int(self.active[bad[0]])], float(losses[bad[0]])
            raise AnalysisError(
                f"flow member {member}: {which} loss is {value} in epoch {self.epoch}; lower the learning rate "
                f"({self.settings.learning_rate:g}) or look at the features for extreme values",
                setting="learning_rate",
            )

    def _keep_best(self, validation_loss: torch.Tensor) -> None:
        better = validation_loss < self.best_loss[self.active]
        places = self.active[better]
        self.best_loss[places], self.best_epoch[places] = validation_loss[better], self.epoch
        for name, value in self.model.state_dict().items():
            self.best[name][places] = value[better]

    def _stop_members(self) -> None:
        """Take members out of the stack whose validation loss has not improved for `patience` epochs."""
        if self.settings.patience is not None:
            waiting = self.epoch - self.best_epoch[self.active]
            if (waiting >= self.settings.patience).any():
                self._keep(torch.nonzero(waiting < self.settings.patience).flatten())

    def _keep(self, places: torch.Tensor) -> None:
        """Go on with these places of the current stack only."""
        self.active = self.active[places]
        self.train_x, self.train_mass = self.train_x[places], self.train_mass[places]
        self.validation_x, self.validation_mass = self.validation_x[places], self.validation_mass[places]
        if self.validation_noise is not None:
            self.validation_noise = self.validation_noise[places]
        for parameter in self.model.parameters():
            for name, value in self.optimizer.state[parameter].items():
                if name != "step":
                    self.optimizer.state[parameter][name] = value[places]
            parameter.data = parameter.data[places]
        persistent = self.model.state_dict()
        for name, value in self.model.named_buffers():
            if name in persistent:
                setattr(self.model, name, value[places])


def load_tensors(content: bytes) -> dict[str, Any]:
    """The tensors and numbers in the bytes of a torch file; ValueError where it is damaged or holds anything else.

    Tensors come to the CPU, wherever they were written.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise ValueError("not a whole torch file")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return state
    except (*DAMAGED, pickle.UnpicklingError) as error:
        raise ValueError(f"not a torch file of tensors and numbers ({type(error).__name__})") from error


def _batches(n_events: int, size: int) -> list[slice]:
    """Slices of at most `size` events in order; a single event left over joins the batch before it."""
    edges = [*range(0, n_events, size), n_events]
    if len(edges) > 2 and edges[-1] - edges[-2] == 1:
        del edges[-2]
    return [slice(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True)]


def _fingerprint(words: Sequence[Any], *arrays: NDArray[np.float32]) -> str:
    """What a training is known by again: its settings and its events."""
    digest = hashlib.sha256(json.dumps(list(words), sort_keys=True).encode())
    for values in arrays:
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
