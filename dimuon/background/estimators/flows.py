"""Normalising flows: the density of the features given the mass, learned in the sidebands (slides, backup)."""

import logging
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from dimuon.background.kinds import ESTIMATORS, EstimatorSettings
from dimuon.background.protocol import BackgroundEstimator, BackgroundModel
from dimuon.background.scaler import LogitScaler
from dimuon.settings import Fraction, Positive

log = logging.getLogger("dimuon")


class Flow(EstimatorSettings):
    """What the flows of every kind have in common. A default is the paper's value unless its comment says otherwise."""

    of_one_kind: ClassVar[frozenset[str]] = frozenset({"bins", "ode_steps"})

    members: Positive = 5
    blocks: Positive = 6  # MADE or spline blocks; hidden layers of flow matching
    hidden: Positive = 128
    epochs: Positive = 1000
    batch_size: Annotated[int, Field(ge=2)] = 256
    learning_rate: Annotated[float, Field(gt=0)] = 7.5e-4
    weight_decay: Annotated[float, Field(ge=0)] = 1e-6
    validation_fraction: Fraction = 0.2
    patience: Positive | None = None  # stop a member after so many epochs without a better validation loss; None: never
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?|mps)$")] = "cpu"  # where; no file is stale for another one

    @property
    def on_cpu(self) -> bool:
        """Whether the flows are trained on the CPU."""
        return self.device == "cpu"

    @property
    def sentence(self) -> str:
        """What a report says of the flows."""
        what = (type(self).__doc__ or self.kind).strip(" .")
        return (
            f"Background model: {self.members} normalizing flows ({what}; estimator.kind = {self.kind}) of "
            f"{self.blocks} blocks with {self.hidden} hidden features, up to {self.epochs} epochs, batches of "
            f"{self.batch_size}, learning rate {self.learning_rate:g}."
        )

    @model_validator(mode="before")
    @classmethod
    def _without_keys_of_other_kinds(cls, values: Any) -> Any:
        """Files of earlier versions may give them for any kind; they never had a meaning there."""
        if not isinstance(values, Mapping):
            return values
        idle = (cls.of_one_kind & values.keys()) - cls.model_fields.keys()
        for name in sorted(idle):
            log.warning("%s is not a setting of the estimator %s: ignored", name, values.get("kind", "maf"))
        return {name: value for name, value in values.items() if name not in idle}

    def estimator(self, scaler: LogitScaler) -> BackgroundEstimator:
        """Untrained flows."""
        from dimuon.background.conditional import ConditionalFlows

        return ConditionalFlows(self, scaler)

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> BackgroundModel:
        """Flows as they were saved."""
        from dimuon.background.conditional import ConditionalBackground

        return ConditionalBackground.from_state(state, cls.model_validate(state["estimator"]["settings"]))


class Maf(Flow):
    """The paper's masked autoregressive flow, affine."""

    kind: Literal["maf"] = "maf"


class Spline(Flow):
    """Rational-quadratic splines."""

    bins: Annotated[int, Field(ge=2)] = 8


class SplineAutoregressive(Spline):
    """Masked autoregressive splines."""

    kind: Literal["spline_autoregressive"] = "spline_autoregressive"


class SplineCoupling(Spline):
    """Coupling splines; at least two features."""

    kind: Literal["spline_coupling"] = "spline_coupling"


class VelocityField(Flow):
    """A velocity that carries noise to data."""

    ode_steps: Positive = 16  # from noise to data


class FlowMatching(VelocityField):
    """A velocity field that carries noise to data."""

    kind: Literal["flow_matching"] = "flow_matching"


for settings in (Maf, SplineAutoregressive, SplineCoupling, FlowMatching):
    ESTIMATORS.register(settings.model_fields["kind"].default, settings)
