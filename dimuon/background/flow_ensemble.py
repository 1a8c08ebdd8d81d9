"""Density estimators: ensembles that learn the density of the features given the mass, and sample from it.

`FlowEnsemble(settings)` is the engine of `conditional.ConditionalBackground`: prepared features and scaled masses in,
numpy in, numpy out. All flows share one training (`dimuon.background.training`). A new flow is a class like
`maf.StackedMaf`, a line in `MODELS` and its settings in `estimators.flows`.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from copy import copy
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from dimuon.arrays import FloatArray, IntArray
from dimuon.background import training
from dimuon.background.flow_matching import FlowMatching, InterpolatedFlowMatching
from dimuon.background.joint_training import Sample, train_jointly
from dimuon.background.maf import StackedMaf
from dimuon.background.protocol import Checkpoint, Selective, State
from dimuon.background.splines import SplineAutoregressive, SplineCoupling
from dimuon.background.training import StackedModel, TrainedStack
from dimuon.errors import AnalysisError
from dimuon.random import Stream

if TYPE_CHECKING:
    from dimuon.background.estimators.flows import Flow

MODELS: dict[str, type[StackedModel]] = {
    "maf": StackedMaf,
    "spline_autoregressive": SplineAutoregressive,
    "spline_coupling": SplineCoupling,
    "flow_matching": FlowMatching,
    "sigma": InterpolatedFlowMatching,
}
ONE_AT_A_TIME = Lock()  # of the trainings in this process: they would share its device
CHUNK = 512  # events of each member at a time: memory stays the same for any number of them, larger ones are no faster


class FlowEnsemble:
    """Members of one kind, trained on the same events, each in the state of its lowest validation loss.

    After `fit`: `best_epoch` (members,), the epoch of that state, counted from 1; `losses` (members, epochs, 2), the
    train and validation loss after every epoch, NaN where a member had stopped.
    """

    model: Any  # a stack of networks; torch's own methods are not in `StackedModel`
    best_epoch: IntArray
    losses: FloatArray

    def __init__(self, settings: "Flow") -> None:
        self.settings = settings
        self.device = settings.device if available(settings.device) else "cpu"  # of what is trained: where it computes

    def fit(
        self,
        features: FloatArray,
        mass: FloatArray,
        stream: Stream,
        pool: Executor | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> "FlowEnsemble":
        """Train; returns itself.

        features: (n_events, n_features), prepared (`LogitScaler`); mass: (n_events,), standard scaled. pool: for the
        stacks of members (None: one after the other; the result is the same); for a device that is not the CPU its
        workers that have it (`Selective`), and this process where none has. checkpoint: an interrupted training goes on
        from its parts. Raises `AnalysisError` for a device that is nowhere, and for a loss that is not finite, naming
        member and epoch.
        """
        x, m = _arrays(features, mass)
        if len(m) < 3:
            raise AnalysisError(
                f"{len(m)} events to train flows on: at least 3 are needed to split off a validation set"
            )
        trainers = workers_with(self.settings.device, pool)
        stacks = training.stacks(self.settings.members, self.settings.device)
        places = [None if checkpoint is None else checkpoint.part(members[0]) for members in stacks]
        shared = (MODELS[self.settings.kind], self.settings, x, m, stream)
        tasks = [(*shared, members, place) for members, place in zip(stacks, places, strict=True)]
        if trainers:
            futures = [trainers.submit(training.train_stack, *task) for task in tasks]
            results = [future.result() for future in futures]
        else:
            with ONE_AT_A_TIME:
                results = [training.train_stack(*task) for task in tasks]
        self.take(results, x.shape[1])
        for place in filter(None, places):  # not before all are done: a finished stack need not train again
            place.clear()
        return self

    @classmethod
    def fit_jointly(cls, settings: "Flow", samples: Sequence[Sample]) -> list["FlowEnsemble"]:
        """An ensemble for each sample, all in one stack (`joint_training`), here. Raises as `train_jointly` does."""
        ensembles = []
        for trained, sample in zip(train_jointly(MODELS[settings.kind], settings, samples), samples, strict=True):
            ensembles.append(cls(settings))
            ensembles[-1].take([trained], sample.features.shape[1])
        return ensembles

    def log_prob(self, features: FloatArray, mass: FloatArray) -> FloatArray:
        """Log of the members' mean density [nats]: (n_events,). features, mass: as in `fit`."""
        density: FloatArray = logsumexp(self.member_log_prob(features, mass), axis=0) - np.log(self.settings.members)
        return density

    def member_log_prob(self, features: FloatArray, mass: FloatArray) -> FloatArray:
        """Log-density of each member [nats]: (members, n_events)."""
        features, mass = _arrays(features, mass)
        parts: list[FloatArray] = []
        with training.one_thread():
            for start in range(0, len(mass), CHUNK):
                part = slice(start, start + CHUNK)
                x = self._tensor(features[part].T).expand(self.settings.members, -1, -1)
                m = self._tensor(mass[part][None]).expand(self.settings.members, -1, -1)
                parts.append(self.model.log_prob(x, m).detach().cpu().numpy())
        return np.concatenate(parts, axis=1).astype(float)

    def member_of(self, n_events: int) -> IntArray:
        """The member that `sample` takes for each event: (n_events,); equal shares, whatever the masses' order."""
        member: IntArray = np.arange(n_events) % self.settings.members
        return member

    def sample(self, mass: FloatArray, stream: Stream) -> NDArray[np.float32]:
        """Features at given masses: (n_events, n_features), float32, prepared as those of `fit`.

        mass: (n_events,), scaled. Event i comes from member i modulo the number of members. Raises `AnalysisError`
        naming member and epoch where a sample is not finite.
        """
        mass = np.ascontiguousarray(mass, dtype=np.float32)
        members, n_features = self.settings.members, self.n_features
        share = -(-len(mass) // members)
        padded = np.zeros(share * members, dtype=np.float32)
        padded[: len(mass)] = mass
        by_member = padded.reshape(share, members).T
        randoms = [stream.child("member", member, "sample").generator() for member in range(members)]
        samples = np.empty((share, members, n_features), dtype=np.float32)
        with training.one_thread(), torch.no_grad():
            for start in range(0, share, CHUNK):
                m = by_member[:, start : start + CHUNK]
                noise = [random.standard_normal((m.shape[1], n_features), dtype=np.float32).T for random in randoms]
                x = self.model.from_noise(self._tensor(np.stack(noise)), self._tensor(m[:, None]))
                samples[start : start + CHUNK] = x.cpu().numpy().transpose(2, 0, 1)
        flat = samples.reshape(-1, n_features)[: len(mass)]
        self._refuse_non_finite(flat)
        return flat

    def to_noise(self, features: FloatArray, mass: FloatArray) -> FloatArray:
        """What each member takes for the noise behind features: (members, n_events, n_features). Arguments as in `fit`.

        Standard normal for events of the density that it learned. Raises `AnalysisError` for a kind without an inverse.
        """
        if not hasattr(self.model, "to_noise"):
            raise AnalysisError(f"a flow of kind {self.settings.kind} does not say what noise an event is", "kind")
        features, mass = _arrays(features, mass)
        parts: list[FloatArray] = []
        with training.one_thread(), torch.no_grad():
            for start in range(0, len(mass), CHUNK):
                part = slice(start, start + CHUNK)
                x = self._tensor(features[part].T).expand(self.settings.members, -1, -1)
                m = self._tensor(mass[part][None]).expand(self.settings.members, -1, -1)
                parts.append(self.model.to_noise(x, m).cpu().numpy().transpose(0, 2, 1))
        return np.concatenate(parts, axis=1).astype(float)

    @property
    def n_features(self) -> int:
        """Features that the members were trained on."""
        return int(self.model.n_features)

    @property
    def n_parameters(self) -> int:
        """Weights of the networks of a member."""
        return sum(int(weights.numel()) for weights in self.model.parameters()) // self.settings.members

    def state(self) -> dict[str, Any]:
        """What `from_state` needs, as plain tensors and numbers."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "n_features": self.n_features,
            "model": {name: value.cpu() for name, value in self.model.state_dict().items()},
            "best_epoch": torch.tensor(self.best_epoch),
        }

    @classmethod
    def from_state(cls, state: State, settings: "Flow") -> "FlowEnsemble":
        """The trained ensemble that `state()` described. settings: those in it, checked."""
        ensemble = cls(settings)
        ensemble._load(state["model"], state["n_features"])
        ensemble.best_epoch = state["best_epoch"].numpy()
        return ensemble

    def with_members(self, members: Sequence[int]) -> "FlowEnsemble":
        """The ensemble of some members alone. members: their numbers, in the order wanted."""
        state, chosen = self.state(), list(members)
        state["model"] = {name: value[chosen] for name, value in state["model"].items()}
        state["best_epoch"] = state["best_epoch"][chosen]
        return FlowEnsemble.from_state(state, self.settings.model_copy(update={"members": len(chosen)}))

    def across(self, low: float, high: float) -> "FlowEnsemble":
        """The same members, the same weights, interpolating between two scaled masses (`InterpolatedFlowMatching`)."""
        other = copy(self)
        other.model = copy(self.model)
        other.model.across = (low, high)
        return other

    def take(self, results: Sequence[TrainedStack], n_features: int) -> None:
        """Be the members of these stacks, one after the other."""
        self._load(
            {name: np.concatenate([part.state[name] for part in results]) for name in results[0].state}, n_features
        )
        self.best_epoch = np.concatenate([part.best_epoch for part in results])
        self.losses = _padded([part.losses for part in results])

    def _load(self, state: State, n_features: int) -> None:
        model: Any = MODELS[self.settings.kind].build(n_features, self.settings, range(self.settings.members))
        model.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
        self.model = model.to(self.device).eval().requires_grad_(False)

    def _tensor(self, values: ArrayLike) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), device=self.device)

    def _refuse_non_finite(self, samples: NDArray[np.float32]) -> None:
        bad = np.flatnonzero(~np.isfinite(samples).all(axis=1))
        if bad.size:
            member = self.member_of(len(samples))[bad[0]]
            raise AnalysisError(
                f"flow member {member} (state of epoch {self.best_epoch[member]}): sampled features "
                f"{samples[bad[0]].tolist()} are not finite ({bad.size} such events); train the flows again with "
                "a lower learning rate",
                setting="learning_rate",
            )


def workers_with(device: str, pool: Executor | None = None) -> Executor | None:
    """Those of a pool's workers that have a device; None: this process is to train.

    Raises `AnalysisError` where neither a worker nor this machine has it.
    """
    if device == "cpu":
        return pool
    workers = pool.where(available, device) if isinstance(pool, Selective) else None
    if workers is None and not available(device):
        raise AnalysisError(f"device is {device!r} but no such device is available; use cpu", setting="device")
    return workers


def available(device: str) -> bool:
    """Whether this machine has a device: "cpu", "cuda", "cuda:1", "mps"."""
    kind, _, number = device.partition(":")
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind == "cpu" or (kind == "cuda" and int(number or 0) < torch.cuda.device_count())


def _arrays(features: ArrayLike, mass: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    features, mass = np.asarray(features, dtype=np.float32), np.asarray(mass, dtype=np.float32)
    if features.ndim != 2 or mass.shape != features.shape[:1]:
        raise ValueError(
            f"features {features.shape} and mass {mass.shape} must be (n_events, n_features) and (n_events,)"
        )
    for name, values in (("features", features), ("mass", mass)):
        if not np.isfinite(values).all():
            raise ValueError(f"{(~np.isfinite(values)).sum()} values of {name} are not finite")
    return features, mass


def _padded(losses: Sequence[FloatArray]) -> FloatArray:
    """Losses of stacks that stopped after different numbers of epochs, as one array: (members, epochs, 2)."""
    n_epochs = max(part.shape[1] for part in losses)
    missing = [((0, 0), (0, n_epochs - part.shape[1]), (0, 0)) for part in losses]
    return np.concatenate(
        [np.pad(part, pad, constant_values=np.nan) for part, pad in zip(losses, missing, strict=True)]
    )
