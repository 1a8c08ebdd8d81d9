"""One YAML file describes one analysis; it is read once, here, and checked completely before anything runs.

An unknown or repeated key, a wrong type or a value out of range stops with file, line, key, value and the nearest
known key. A default below is the paper's value unless its comment says otherwise.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from dimuon.background.kinds import DEFAULT, ESTIMATORS, AnyEstimator
from dimuon.bumphunt.scan_windows import ScanSettings
from dimuon.classifiers.settings import Bdt
from dimuon.columns import Column
from dimuon.data.settings import Input, OriginSettings, Selection
from dimuon.dataset import Dataset, MassAxis
from dimuon.errors import AnalysisError
from dimuon.features import FEATURE_SETS, FEATURES, Feature
from dimuon.figures.settings import Figures
from dimuon.methods.settings import Bench
from dimuon.origin import Origin, of_kind
from dimuon.regions import MassWindow
from dimuon.settings import MASS_UNITS, Fraction, Label, Positive, Section, Unit, at
from dimuon.statistics.settings import Significance
from dimuon.workflow import yaml_file
from dimuon.workflow.execution import Execution


class Declaration(Section):
    """What is said of a feature; the rest is that of its name in `FEATURES`, or chosen from the data."""

    label: Label | None = None
    unit: Unit | None = None
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None  # drawn
    side: Literal["above", "below"] | None = None  # that a classical cut keeps
    log: bool | None = None
    discrete: bool | None = None  # few values, nothing between them
    bounds: Annotated[list[float | None], Field(min_length=2, max_length=2)] | None = (
        None  # of every sample; null: none
    )

    @field_validator("bounds")
    @classmethod
    def _apart(cls, value: list[float | None] | None) -> list[float | None] | None:
        low, high = value or (None, None)
        if low is not None and high is not None and not low < high:
            raise ValueError("the bounds must rise")
        return value

    @field_validator("range")
    @classmethod
    def _rising(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError("the range must rise")
        return value

    def of(self, feature: Feature) -> Feature:
        """A feature with what is said of it."""
        low, high = self.range or (feature.low, feature.high)
        return replace(
            feature,
            label=feature.label if self.label is None else self.label,
            unit=feature.unit if self.unit is None else self.unit,
            low=low,
            high=high,
            signal_side=feature.signal_side if self.side is None else self.side,
            log=feature.log if self.log is None else self.log,
            discrete=feature.discrete if self.discrete is None else self.discrete,
            bounds=feature.bounds if self.bounds is None else (self.bounds[0], self.bounds[1]),
        )


RESERVED = ("row", "region", "score", "score_std", "weight", "member", "use", "fold", "train", "test", "fpr")


class Features(Section):
    """What the flows and classifiers see; the mass is never among it."""

    set: str | list[str] = "paper"  # a name of FEATURE_SETS, or a list of features
    define: dict[str, Declaration] = {}  # label, unit, range ... of features and other columns of the table
    limits_from: Literal["all", "sidebands"] = "all"  # events that give the scaler's minimum and maximum

    @field_validator("set")
    @classmethod
    def _known(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, str) and value not in FEATURE_SETS:
            raise ValueError(f"unknown feature set{yaml_file.nearest(value, FEATURE_SETS)}")
        if not value or (isinstance(value, list) and len({*value}) < len(value)):
            raise ValueError("name at least one feature, each once")
        if taken := [name for name in RESERVED if isinstance(value, list) and name in value]:
            raise ValueError(f"a feature cannot be called {taken[0]}: the tables have a column of that name")
        return value

    @property
    def names(self) -> list[str]:
        """The features in their order."""
        return list(FEATURE_SETS[self.set]) if isinstance(self.set, str) else list(self.set)


class Mass(Section):
    """How the mass is called; None: as that of a dimuon in GeV, or the name of its column.

    resolution: its standard deviation at the SR, in its unit. Where it is given, and n_bins_sr is not, the bins are
    bin_width of it wide, as nearly as whole bins fit into the SR.
    """

    label: Label | None = None
    unit: Literal[MASS_UNITS] | None = None  # type: ignore[valid-type]  # a tuple of texts
    resolution: Annotated[float, Field(gt=0)] | None = None
    bin_width: Annotated[float, Field(gt=0)] = 1.0

    def bins_over(self, window: MassWindow) -> int:
        """The number of bins over the SR."""
        if self.resolution is None:
            raise ValueError("the resolution is not given")
        return max(1, round((window.sr_high - window.sr_low) / (self.bin_width * self.resolution)))


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


# ATLAS 2025, arXiv:2502.09770, appendix B 2
DIFFUSION = {
    "kind": "flow_matching",
    "members": 1,
    "blocks": 3,
    "hidden": 32,
    "epochs": 100,
    "batch_size": 64,
    "learning_rate": 1e-4,
}


class Studies(Section):
    """How far the result can be believed (`python -m dimuon study`); the seven steps need nothing of this."""

    members: Positive = 20  # classifiers per fold where the chain is repeated many times
    pseudoexperiments: Annotated[int, Field(ge=2)] = 1000  # per charge
    held_out: Positive = 300  # of them, to test the calibration by the others
    retrain_flows: bool = False  # train the flows again for every null dataset and for every seed of the variations
    null_origins: Annotated[int, Field(ge=2)] = 100  # null datasets of each origin
    # the model behind those that do not come from the search's own; the paper of the down-up-sampling has this one
    null_estimator: AnyEstimator = Field(default_factory=lambda: ESTIMATORS["flow_matching"].model_validate(DIFFUSION))
    down_sampling: Fraction = 0.1  # of the events, SR included, that it learns from in down-up-sampling
    # same-sign events make null datasets, too, where each is used no more often than this on the mean
    same_sign_reuse: Annotated[float, Field(gt=0)] = 1.0
    gate_fprs: list[Annotated[float, Field(gt=0, le=1)]] = [0.1, 0.01]  # working points that a control must pass
    seeds: Annotated[int, Field(ge=2)] = 10  # of each control and of the variations
    variations: list[Variation] = ["fits", "seeds", "sr_edges", "sideband_edges", "preprocessing", "flow"]
    sr_shift: Annotated[float, Field(gt=0)] = 0.1  # GeV, of both SR edges
    sideband_shift: Annotated[float, Field(gt=0)] = 0.5  # GeV, of each outer edge, inwards
    scan_pt: Cuts = [20.0, 28.5, 37.0, 45.5, 54.0, 62.5, 71.0, 79.5, 88.0, 96.5]  # GeV
    scan_ip3d: Cuts = [0.001, 0.0022, 0.0046, 0.01, 0.022, 0.046, 0.1, 0.22, 0.46, 1.0]  # cm
    injected: Annotated[list[Count], Field(min_length=2)] = [0, 25, 50, 75, 100, 150, 200, 300, 400]  # signal events
    repeats: Annotated[int, Field(ge=2)] = 10  # null datasets per injected number


TOY = Origin("simulated", experiment="toy events", energy="13 TeV")  # of `input.simulation`


class Config(Section):
    """One analysis."""

    former_keys: ClassVar[dict[str, Any]] = {"flow": AnyEstimator}  # of earlier versions, still read

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    seed: Annotated[int, Field(ge=0)]
    input: Input
    origin: OriginSettings | None = None
    selection: Selection = Selection()
    mass: Mass = Mass()
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
    scan: ScanSettings | None = None  # None: this analysis is not scanned
    bench: Bench = Bench()
    figures: Figures = Figures()
    execution: Execution = Execution()

    @model_validator(mode="before")
    @classmethod
    def _one_estimator(cls, values: Any) -> Any:
        if isinstance(values, dict) and {"flow", "estimator"} <= values.keys():
            raise ValueError("flow is the earlier name of the section estimator; keep one of the two")
        return values

    @model_validator(mode="after")
    def _bins_of_the_resolution(self) -> "Config":
        if self.mass.resolution is None:
            return self
        n_bins = self.mass.bins_over(self.window)
        for name in ("background", "significance"):
            section = getattr(self, name)
            if "n_bins_sr" not in section.model_fields_set:
                object.__setattr__(self, name, section.model_copy(update={"n_bins_sr": n_bins}))
        return self

    @model_validator(mode="after")
    def _bins_determine_the_fits(self) -> "Config":
        """Of every function that will be fitted, so that no work is done before one of them cannot be."""
        tested = self.significance
        asked = {
            ("background", "n_bins_sr"): [(self.background.n_bins_sr, self.background.degree)],
            ("significance", "n_bins_sr"): [(tested.n_bins_sr, tested.highest_degree)],
            ("significance", "binnings"): [(n_bins, max(tested.degrees, default=0)) for n_bins in tested.binnings],
        }
        for place, fits in asked.items():
            for n_bins_sr, degree in fits:
                try:
                    self.window.binning(n_bins_sr).require_determined(degree)
                except AnalysisError as error:
                    section, key = place
                    lower = f"{section}.degree" if key == "n_bins_sr" else f"{section}.degrees"
                    remedy = f"widen the sidebands, take more bins ({section}.{key}), or lower {lower}"
                    raise at(place, f"{error}; {remedy}") from error
        return self

    @model_validator(mode="after")
    def _scan_inside_the_window(self) -> "Config":
        if self.scan is None:
            return self
        (low, high), window = self.scan.range, self.window
        if low < window.sb_low or high > window.sb_high:
            raise at(
                ("scan", "range"),
                f"the tables hold masses from {window.sb_low:g} to {window.sb_high:g} alone; widen window, or range",
            )
        return self

    @model_validator(mode="after")
    def _known_features(self) -> "Config":
        """A table brings features of its own: whether they are there is seen when it is read."""
        if self.input.table is not None:
            return self
        given = self.features.set if isinstance(self.features.set, list) else []
        for name in given:
            if name not in FEATURES and name not in self.features.define:
                message = f"unknown feature {name!r}{yaml_file.nearest(name, FEATURES)}"
                raise at(("features", "set"), message)
        return self

    @property
    def mass_axis(self) -> MassAxis:
        """The quantity that a resonance is looked for in."""
        table, given = self.input.table, self.mass
        usual = MassAxis()
        if table is not None and table.mass is not None:
            column = table.mass if table.mass.isidentifier() else "mass"
            in_words = given.label if given.label and "$" not in given.label else column  # a heading has no TeX
            usual = MassAxis(column, column, "GeV", in_words)
        return replace(usual, label=given.label or usual.label, unit=given.unit or usual.unit)

    @property
    def dataset(self) -> Dataset:
        """What the events are, as figures and pages name them; their origin as the configuration states it."""
        table = self.input.table
        are_dimuons = table is None or table.muons is not None
        known = {
            name: feature if table is None else replace(feature, low=None, high=None, log=None)
            for name, feature in FEATURES.items()
        }
        declared = {name: given.of(known.get(name, Feature(name))) for name, given in self.features.define.items()}
        events = "dimuons" if are_dimuons else "events"
        return Dataset(self.stated_origin, self.mass_axis, events, known | declared)

    @property
    def stated_origin(self) -> Origin:
        """What the configuration says of where the events come from."""
        if self.origin is not None:
            stated = self.origin.origin
            return of_kind(stated, "simulated") if self.input.simulation is not None else stated
        return TOY if self.input.simulation is not None else Origin()

    @property
    def declared_columns(self) -> dict[str, Column]:
        """The columns that this configuration alone has: its mass, and the features that it uses or defines."""
        data = self.dataset
        names = {*self.features.names, *self.features.define}
        own = {name: Column(data.feature(name).unit, data.feature(name).meaning or name) for name in names}
        return own | {data.mass.column: Column(data.mass.unit, "invariant mass")}


def load(path: Path | str) -> Config:
    """The checked `Config` in the YAML file at `path`; `UserError` names file, line, key, value and remedy.

    Environment variables in the values of `input` and `figures` are expanded.
    """
    return yaml_file.load(path, Config, expanded=["input", "figures"])
