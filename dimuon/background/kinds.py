"""The kinds of background estimator by name, each found by its file in `dimuon.background.estimators`."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from dimuon.background.protocol import BackgroundEstimator, BackgroundModel
from dimuon.background.scaler import LogitScaler
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.registry import Registry
from dimuon.settings import OneOf, Section

DEFAULT = "maf"  # the paper's


class EstimatorSettings(Section):
    """What the settings of every kind have. kind: the name in the registry."""

    kind: str

    @property
    def sentence(self) -> str:
        """What a report says of the estimator."""
        return f"Background estimator: {self.kind}."

    @property
    def on_cpu(self) -> bool:
        """Whether several may be trained side by side, in worker processes."""
        return True

    @property
    def worker_modules(self) -> list[str]:
        """Modules for the workers to import once, before they start: those that take long."""
        return ["torch", "dimuon.background.flow_ensemble"]

    @property
    def made_of(self) -> Sequence["EstimatorSettings"]:
        """The estimators whose models this one is made of, each trained on the same sidebands; see `composed`."""
        return ()

    def composed(self, models: Sequence[BackgroundModel], sidebands: Events, stream: Stream) -> BackgroundModel:
        """The model, of those that it is made of: trained, in the order of `made_of`. For those that have such."""
        raise NotImplementedError(f"{self.kind} is made of no other estimators")

    @abstractmethod
    def estimator(self, scaler: LogitScaler) -> BackgroundEstimator:
        """An untrained estimator of features that this scaler prepares. `AnalysisError` for a device not there."""

    @classmethod
    @abstractmethod
    def restored(cls, state: Mapping[str, Any]) -> BackgroundModel:
        """The model whose `state()` this is."""


ESTIMATORS: Registry[type[EstimatorSettings]] = Registry("dimuon.background.estimators")
AnyEstimator: TypeAlias = Annotated[EstimatorSettings, OneOf(ESTIMATORS, DEFAULT)]
