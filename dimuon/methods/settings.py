"""The section `bench` of the configuration: which methods, on which samples, how often."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from dimuon.features import FEATURE_SETS
from dimuon.methods.protocol import METHODS
from dimuon.settings import Section

Count = Annotated[int, Field(ge=0)]
FeatureSet = str | list[str]


def label_of(features: FeatureSet) -> str:
    """A feature set in a word."""
    return features if isinstance(features, str) else "+".join(features)


class Bench(Section):
    """One cell for each method, feature set, sample and seed (`python -m dimuon bench`). No value is a paper's."""

    methods: list[str] | None = None  # names of the registry; None: all of them
    features: Annotated[list[FeatureSet], Field(min_length=1)] | None = None  # sets; None: that of the analysis
    samples: Annotated[list[Literal["data", "simulated"]], Field(min_length=1)] = ["simulated"]  # data: each charge
    events: Annotated[int, Field(ge=1000)] = 12_000  # background events of a simulated sample, on the mean
    injected: Annotated[list[Count], Field(min_length=1)] = [
        0,
        50,
        100,
        200,
        400,
    ]  # signal events in a simulated sample
    leak: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=1)] = [0.0]  # of them, in the sidebands
    noise: Annotated[list[Count], Field(min_length=1)] = [0]  # features of pure noise that are added
    seeds: Annotated[int, Field(ge=1)] = 10
    nulls: Count = 0  # further samples without signal for each simulated cell without one; nothing is learned anew

    @field_validator("methods")
    @classmethod
    def _known(cls, value: list[str] | None) -> list[str] | None:
        unknown = [name for name in value or [] if name not in METHODS]
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}; there are {', '.join(METHODS)}")
        if value is not None and (not value or len({*value}) < len(value)):
            raise ValueError("name at least one method, each once")
        return value

    @field_validator("features")
    @classmethod
    def _known_sets(cls, value: list[FeatureSet] | None) -> list[FeatureSet] | None:
        for features in value or []:
            if isinstance(features, str) and features not in FEATURE_SETS:
                raise ValueError(f"unknown feature set {features!r}; there are {', '.join(FEATURE_SETS)}")
            if not features or (isinstance(features, list) and len({*features}) < len(features)):
                raise ValueError("a set names at least one feature, each once")
        return value

    @property
    def chosen(self) -> list[str]:
        """The methods, in the order named."""
        return list(METHODS) if self.methods is None else self.methods
