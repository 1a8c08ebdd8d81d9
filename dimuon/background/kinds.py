"""The kinds of background estimator by name, each found by its file in `dimuon.background.estimators`."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from dimuon.background.protocol import BackgroundEstimator, BackgroundModel
from dimuon.background.scaler import LogitScaler
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

    @abstractmethod
    def estimator(self, scaler: LogitScaler) -> BackgroundEstimator:
        """An untrained estimator of features that this scaler prepares. `AnalysisError` for a device not there."""

    @classmethod
    @abstractmethod
    def restored(cls, state: Mapping[str, Any]) -> BackgroundModel:
        """The model whose `state()` this is."""


ESTIMATORS: Registry[type[EstimatorSettings]] = Registry("dimuon.background.estimators")
AnyEstimator: TypeAlias = Annotated[EstimatorSettings, OneOf(ESTIMATORS, DEFAULT)]
