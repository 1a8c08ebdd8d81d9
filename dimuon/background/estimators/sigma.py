"""SIGMA: one flow matching of all events, interpolated across the signal region (arXiv:2410.20537)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from dimuon.background.estimators.flows import VelocityField
from dimuon.background.kinds import ESTIMATORS
from dimuon.background.protocol import BackgroundEstimator, BackgroundModel
from dimuon.background.scaler import LogitScaler


class Sigma(VelocityField):
    """A velocity field of all masses, interpolated across the signal region."""

    kind: Literal["sigma"] = "sigma"
    frequencies: Annotated[int, Field(ge=0, le=12)] = 4  # of the mass, in octaves; the published code has 9
    margin: Annotated[float, Field(ge=0)] = 0.25  # where the interpolation starts, in widths of the SR outside of it

    @property
    def sentence(self) -> str:
        """What a report says of the flows."""
        return (
            f"{super().sentence} They are trained on all events, those of the signal region included, and interpolated "
            "across it (SIGMA)."
        )

    def estimator(self, scaler: LogitScaler) -> BackgroundEstimator:
        """Untrained flows."""
        from dimuon.background.sigma import UntrainedSigma

        return UntrainedSigma(self, scaler)

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> BackgroundModel:
        """Flows as they were saved, across the window that they were for."""
        from dimuon.background.sigma import SigmaBackground

        return SigmaBackground.from_state(state, cls.model_validate(state["estimator"]["settings"]))


ESTIMATORS.register("sigma", Sigma)
