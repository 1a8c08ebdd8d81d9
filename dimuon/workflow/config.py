"""One YAML file describes one analysis; it is read once, here, and checked completely before anything runs.

An unknown or repeated key, a wrong type or a value out of range stops with file, line, key, value and the nearest
known key. A default below is the paper's value unless its comment says otherwise.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from dimuon.background.kinds import DEFAULT, ESTIMATORS, AnyEstimator
from dimuon.classifiers.settings import Bdt
from dimuon.data.settings import Input, Selection
from dimuon.features import FEATURE_SETS, FEATURES
from dimuon.regions import MassWindow
from dimuon.settings import Positive, Section
from dimuon.statistics.settings import Significance
from dimuon.workflow import yaml_file


class Features(Section):
    """What the flows and classifiers see; the mass is never among it."""

    set: str | list[str] = "paper"  # a name of FEATURE_SETS, or a list of features
    limits_from: Literal["all", "sidebands"] = "all"  # events that give the scaler's minimum and maximum

    @field_validator("set")
    @classmethod
    def _known(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, str) and value not in FEATURE_SETS:
            raise ValueError(f"unknown feature set{yaml_file.nearest(value, FEATURE_SETS)}")
        for name in [] if isinstance(value, str) else value:
            if name not in FEATURES:
                raise ValueError(f"unknown feature {name!r}{yaml_file.nearest(name, FEATURES)}")
        if not value or (isinstance(value, list) and len({*value}) < len(value)):
            raise ValueError("name at least one feature, each once")
        return value

    @property
    def names(self) -> list[str]:
        """The features in their order."""
        return list(FEATURE_SETS[self.set]) if isinstance(self.set, str) else list(self.set)


class Background(Section):
    """Sampled background in the SR (paper, step 2)."""

    degree: Annotated[int, Field(ge=1, le=9)] = 5
    n_bins_sr: Positive = 11  # 1.5 % of the mass
    oversampling: Annotated[float, Field(gt=0)] = 5.0  # sampled SR events per expected background event
    # checks that train the flows anew, each as long as step 3
    half_split: bool = False  # on one half of the sidebands, compared with the other
    shifted_windows: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = []  # GeV, left out and compared


Variation = Literal["fits", "seeds", "sr_edges", "sideband_edges", "preprocessing", "flow"]
Cuts = Annotated[list[float], Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]


class Studies(Section):
    """How far the result can be believed (`python -m dimuon study`); the seven steps need nothing of this."""

    members: Positive = 20  # classifiers per fold where the chain is repeated many times
    pseudoexperiments: Annotated[int, Field(ge=2)] = 1000  # per charge
    held_out: Positive = 300  # of them, to test the calibration by the others
    retrain_flows: bool = False  # train the flows again for every null dataset and for every seed of the variations
    gate_fprs: list[Annotated[float, Field(gt=0, le=1)]] = [0.1, 0.01]  # working points that a control must pass
    seeds: Annotated[int, Field(ge=2)] = 10  # of each control and of the variations
    variations: list[Variation] = ["fits", "seeds", "sr_edges", "sideband_edges", "preprocessing", "flow"]
    sr_shift: Annotated[float, Field(gt=0)] = 0.1  # GeV, of both SR edges
    sideband_shift: Annotated[float, Field(gt=0)] = 0.5  # GeV, of each outer edge, inwards
    scan_pt: Cuts = [20.0, 28.5, 37.0, 45.5, 54.0, 62.5, 71.0, 79.5, 88.0, 96.5]  # GeV
    scan_ip3d: Cuts = [0.001, 0.0022, 0.0046, 0.01, 0.022, 0.046, 0.1, 0.22, 0.46, 1.0]  # cm
    injected: Annotated[list[Count], Field(min_length=2)] = [0, 25, 50, 75, 100, 150, 200, 300, 400]  # signal events
    repeats: Annotated[int, Field(ge=2)] = 10  # null datasets per injected number


class Execution(Section):
    """Where the work runs; nothing here changes a result."""

    workers: Positive | None = None  # None: every core
    scheduler: str | None = None  # address of a Dask scheduler; None: local processes
    attempts: Positive = 5  # tries per remote file, with growing pauses between them
    timeout: Annotated[float, Field(gt=0)] = 60.0  # seconds without an answer that count as a failure
    download: bool = False  # fetch remote files whole and check their checksum, instead of reading what is needed


class Config(Section):
    """One analysis."""

    former_keys: ClassVar[dict[str, Any]] = {"flow": AnyEstimator}  # of earlier versions, still read

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    seed: Annotated[int, Field(ge=0)]
    input: Input
    selection: Selection = Selection()
    window: MassWindow = MassWindow(5.0, 9.0, 10.6, 16.0)
    features: Features = Features()
    estimator: AnyEstimator = Field(
        default_factory=lambda: ESTIMATORS[DEFAULT](kind=DEFAULT),
        validation_alias=AliasChoices("estimator", "flow"),
    )
    background: Background = Background()
    bdt: Bdt = Bdt()
    significance: Significance = Significance()
    studies: Studies = Studies()
    execution: Execution = Execution()

    @model_validator(mode="before")
    @classmethod
    def _one_estimator(cls, values: Any) -> Any:
        if isinstance(values, dict) and {"flow", "estimator"} <= values.keys():
            raise ValueError("flow is the earlier name of the section estimator; keep one of the two")
        return values


def load(path: Path | str) -> Config:
    """The checked `Config` in the YAML file at `path`; `UserError` names file, line, key, value and remedy.

    Environment variables in the values of `input` are expanded.
    """
    return yaml_file.load(path, Config, expanded=["input"])
