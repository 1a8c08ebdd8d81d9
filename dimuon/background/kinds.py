"""The kinds of background estimator by name, each found by its file in `dimuon.background.estimators`."""

from typing import Annotated, TypeAlias

from dimuon.registry import Registry
from dimuon.settings import OneOf, Positive, Section

DEFAULT = "maf"  # the paper's


class EstimatorSettings(Section):
    """What the settings of every kind have. kind: the name in the registry. members: of its ensemble."""

    kind: str
    members: Positive = 5
    device: str = "cpu"

    @property
    def sentence(self) -> str:
        """What a report says of the estimator."""
        return f"Background estimator: {self.members} members of kind {self.kind}."


ESTIMATORS: Registry[type[EstimatorSettings]] = Registry("dimuon.background.estimators")
AnyEstimator: TypeAlias = Annotated[EstimatorSettings, OneOf(ESTIMATORS, DEFAULT)]
