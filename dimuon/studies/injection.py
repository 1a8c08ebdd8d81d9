"""Study: what is found of a known number of signal events? (the discovery sensitivity of arXiv:2412.03747)

Prompt Upsilons of the simulation are added to null datasets (`dimuon.studies.nulls`), which then go through steps 4 to
6. The methods compared: no cut, the best cut on a single feature, the classifier cut (best, and at a fixed working
point), the likelihood reweighting, and as the ideal a classifier trained with truth labels on the same features, cut in
the same two ways. The best of many cuts is local: its trials are for `dimuon.studies.pseudoexperiments` to count. The
signal is SIMULATED; so are the numbers here.

Writes, under results/<name>/studies/: injection.parquet (every significance) and injection.json (medians and bands,
where learning sets in, linearity of the fitted signal, events needed for 3 and 5 sigma).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from dimuon.arrays import BoolArray, FloatArray
from dimuon.background.mass_model import sample_data, sample_masses
from dimuon.bumphunt import cut_and_count, steps
from dimuon.bumphunt.result import ScanPoint, Statistic
from dimuon.classifiers.protocol import CLASSIFIERS, Split, TrainingSet, make
from dimuon.columns import Column
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.records import Record
from dimuon.screen import aligned
from dimuon.statistics import model_choice
from dimuon.statistics.likelihood_ratio import Discovery
from dimuon.statistics.working_points import CutVariable, nearest, rates
from dimuon.studies import scenarios
from dimuon.studies.nulls import Null, NullModel
from dimuon.studies.registry import study
from dimuon.studies.scenarios import Outcome, Row, Scenario, vary
from dimuon.studies.study import Study
from dimuon.workflow.config import Config
from dimuon.workflow.products import PRODUCTS, Product, study_maker

METHODS = (
    Statistic.NO_CUT,
    Statistic.BEST_FEATURE,
    Statistic.FIXED_CUT,
    Statistic.BEST_CUT,
    Statistic.LIKELIHOOD,
    Statistic.SUPERVISED_FIXED,
    Statistic.SUPERVISED,
)
FIXED_FPR = 0.1
N_TRUTH = 20_000  # labelled events of each kind for the ideal classifier
N_TRUTH_MEMBERS = 5
BAND = (0.16, 0.84)
TARGETS = (3.0, 5.0)  # sigma
INJECTED = -1  # the row of an injected event, which is of no table

MAKER = study_maker("injection", "studies.members", "studies.injected", "studies.repeats", "studies.retrain_flows")
TABLE = PRODUCTS.declare(
    Product(
        "injection",
        "results/{name}/studies/injection.parquet",
        MAKER,
        "the significances with signal events injected. SIMULATED",
        ("n_injected", "repeat", "seed", "method", "fpr", "z0", "n_obs", "n_bkg"),
        own={"n_kept": Column("events", "of the signal events added, in the SR after the cut")},
    )
)
SUMMARY = PRODUCTS.declare(
    Product(
        "injection_summary",
        "results/{name}/studies/injection.json",
        MAKER,
        "medians and bands by number of signal events, where learning sets in, events for 3 and 5 sigma. SIMULATED",
    )
)


@study(MAKER, "what is found of a known number of signal events, by which method?")
def run(study: Study) -> str:
    """Do the study."""
    config = study.config
    if "os" not in study.events:
        raise UserError("selection.charges: there are no os dimuons, and the signal to inject has opposite charges")
    if reason := why_no_signal(config):
        raise UserError(f"features.set: {reason}")
    null = NullModel.of(config, "os", study.events["os"], study.background("os"))
    outcomes = scenarios.run(study, with_signal(config, null), Methods(Ideal.trained(config, null)))
    frame = table(outcomes)
    summary = summarise(frame, outcomes)
    study.write_table(TABLE, frame, origin="simulated")
    study.write_json(SUMMARY, summary.to_json(), origin="simulated")
    return report(summary)


def with_signal(config: Config, null: NullModel) -> Iterator[Scenario]:
    """Null datasets with every number of signal events, each as often as the settings say."""
    searched, repeats = vary(config, {"bdt.members": config.studies.members}), config.studies.repeats
    for place, n_injected in enumerate(config.studies.injected):
        for repeat in range(repeats):
            number = place * repeats + repeat
            stream = Stream(config.seed).child("injection", n_injected, number).rooted()
            labels: dict[str, str | int] = {"n_injected": n_injected, "repeat": repeat, "seed": stream.seed}
            source = Injected(null, number, n_injected)
            yield Scenario(f"{n_injected}/{repeat}", null.charge, searched, stream, source, labels)


def why_no_signal(config: Config) -> str | None:
    """What the simulated signal lacks of the features, in words; None where it has them all."""
    known = list(simulated_signal(1, np.random.default_rng(0)).columns)
    missing = [name for name in config.features.names if name not in known]
    return f"the simulated signal has no {missing[0]}; it has {', '.join(known)}" if missing else None


def simulated_signal(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Anti-isolated Upsilons of the simulation (`upsilon_events`)."""
    from dimuon.simulation.nanoaod_files import upsilon_events  # slow to import: no figure needs it

    return upsilon_events(n, rng)


@dataclass(frozen=True)
class Injected(Null):
    """A null dataset with prompt Upsilons of the simulation: with `row` -1, and weight 1."""

    n_injected: int

    def events(self, scenario: Scenario) -> Events:
        """The null dataset, and after it the signal events inside the window."""
        null, window = super().events(scenario), scenario.config.window
        if not self.n_injected:
            return null
        drawn = simulated_signal(self.n_injected, scenario.stream.child("signal").generator())
        mass, features = drawn["dimu_mass"].to_numpy(float), drawn.reindex(columns=list(null.names)).to_numpy(float)
        signal = Events.of(mass, features, null.names, row=np.full(len(drawn), INJECTED))
        return null + signal[window.in_window(signal.mass)]


@dataclass(frozen=True)
class Ideal:
    """A classifier trained with truth labels, as bytes: what any method could reach. kind: of `CLASSIFIERS`."""

    kind: str
    members: tuple[bytes, ...]

    @classmethod
    def trained(cls, config: Config, null: NullModel) -> "Ideal":
        """The classifier that knows signal from background in the SR, with the features of the analysis."""
        stream, window = Stream(config.seed).child("injection"), config.window
        rng = stream.child("truth").generator()
        mass = sample_masses(null.fit, window.sr_low, window.sr_high, N_TRUTH, rng)
        background = sample_data(null.background, mass, stream.child("truth features").rooted()).features
        signal = simulated_signal(N_TRUTH, rng)[config.features.names].to_numpy(dtype=float)
        truth = [Events.of(np.full(N_TRUTH, np.nan), x, config.features.names) for x in (signal, background)]
        half = N_TRUTH // 2
        training = TrainingSet.of(*(Split(events[:half], events[half:]) for events in truth))
        seeds = [stream.child("truth", member).integer() for member in range(N_TRUTH_MEMBERS)]
        classifier = make(config.bdt.classifier).fit(training, seeds)
        return cls(config.bdt.classifier.kind, tuple(classifier.to_bytes()))

    def score(self, features: FloatArray) -> FloatArray:
        """(n_events,) mean score. features: (n_events, n_features)."""
        return np.asarray(CLASSIFIERS[self.kind].from_bytes(self.members).score(features).mean(axis=1, dtype=float))


@dataclass(frozen=True)
class MethodOutcome(Record):
    """What one method finds of the injected events.

    fpr: of its cut, 1 without. n_kept: injected events in the SR that pass it, None where the cut is not known. The
    rest is None where the test is not defined.
    """

    method: Statistic
    fpr: float
    n_kept: int | None
    z0: float | None = None
    n_obs: float | None = None
    n_bkg: float | None = None

    @classmethod
    def of(cls, method: Statistic, outcome: Discovery | ScanPoint | None, n_kept: int | None = None) -> Self:
        """From the outcome of a test, None where it is not defined."""
        if outcome is None:
            return cls(method, 1.0, n_kept)
        fpr = outcome.fpr if isinstance(outcome, ScanPoint) else 1.0
        return cls(method, fpr, n_kept, outcome.z0, outcome.n_obs, outcome.n_bkg)


@dataclass(frozen=True)
class Methods:
    """The reading: one null dataset with signal, searched, and what each of `METHODS` finds of it."""

    ideal: Ideal

    def __call__(self, scenario: Scenario) -> list[Row]:
        """A row for each method: method, fpr, n_kept, z0, n_obs, n_bkg; n_kept None where the cut is not known."""
        config, events = scenario.config, scenario.source.events(scenario)
        is_signal = config.window.in_sr(events.mass) & (events.row == INJECTED)
        rows = [
            *_of_search(config, is_signal, scenarios.search(scenario, events)),
            *self._of_ideal(config, events, is_signal),
        ]
        by_method = {row.method: row for row in rows}
        return [by_method[method].to_json() for method in METHODS]

    def _of_ideal(self, config: Config, events: Events, is_signal: BoolArray) -> Iterator[MethodOutcome]:
        """The ideal classifier, at its best cut and at the fixed one."""
        truth = CutVariable("supervised", self.ideal.score(events.features))
        model = model_choice.model_of(config.significance, config.window)
        fprs = rates(config.significance.n_working_points, config.significance.fpr_min)
        curve, _ = cut_and_count.cut_and_count(events.mass, [truth], fprs, model)
        best = ScanPoint.of(curve.iloc[int(curve["z0"].to_numpy().argmax())])
        fixed = ScanPoint.of(curve.iloc[nearest(curve["fpr"], FIXED_FPR)])
        for method, point in ((Statistic.SUPERVISED, best), (Statistic.SUPERVISED_FIXED, fixed)):
            yield MethodOutcome.of(method, point, (is_signal & (truth.values >= point.cut)).sum())


def _of_search(config: Config, is_signal: BoolArray, result: steps.SearchResult) -> Iterator[MethodOutcome]:
    """The methods of steps 4 to 6. is_signal: (n_events,) True for injected events in the SR."""
    is_signal, cathode = is_signal[result.searched], result.curves[result.curves["variable"] == Statistic.WORKING_POINT]
    fixed = ScanPoint.of(cathode.iloc[nearest(cathode["fpr"], FIXED_FPR)])
    by_mean = config.bdt.combination == "mean"  # otherwise no single cut says which events are kept
    passes = (is_signal & (result.score >= fixed.cut)).sum() if by_mean else None
    yield MethodOutcome.of(Statistic.NO_CUT, result.found.no_cut, is_signal.sum())
    yield MethodOutcome.of(Statistic.FIXED_CUT, fixed, passes)
    yield MethodOutcome.of(Statistic.BEST_FEATURE, result.found.best_feature)
    yield MethodOutcome.of(Statistic.BEST_CUT, result.found.cathode_max)
    yield MethodOutcome.of(Statistic.LIKELIHOOD, getattr(result.found, result.found.quoted_likelihood))


def table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Every significance: n_injected, repeat, seed, method, fpr, z0, n_obs, n_bkg, n_kept."""
    return scenarios.table(outcomes, "injection")


@dataclass(frozen=True)
class CurvePoint(Record):
    """Z0 of one method with so many events injected: median, and the 68 % band from low to high."""

    n_injected: int
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Sensitivity(Record):
    """One method: its curve, and {"3": injected events needed for 3 sigma, "5": ...}, None where they do not reach."""

    curve: tuple[CurvePoint, ...]
    events_needed: dict[str, float | None]


@dataclass(frozen=True)
class Line(Record):
    """Straight line of the excess against the signal events kept: one and zero where the fitted signal is unbiased."""

    slope: float
    slope_err: float
    offset: float
    offset_err: float


@dataclass(frozen=True)
class InjectionSummary(Record):
    """The sensitivity of every method.

    learning_from: of `onset`. linearity: {method: its line, None for too few values}, of those cut at a fixed place.
    """

    methods: dict[str, Sensitivity]
    n_failed: int
    failures: dict[str, str]
    learning_from: int | None
    linearity: dict[str, Line | None]


def summarise(frame: pd.DataFrame, outcomes: Sequence[Outcome]) -> InjectionSummary:
    """Medians and bands of each method, events needed, where learning sets in, linearity. frame: of `table`."""
    failures = scenarios.failures(outcomes)
    methods = {str(method): _sensitivity(frame[frame["method"] == method]) for method in METHODS}
    return InjectionSummary(
        methods,
        len(failures),
        failures,
        onset(methods[Statistic.BEST_CUT].curve),
        {str(name): linearity(frame[frame["method"] == name]) for name in (Statistic.NO_CUT, Statistic.FIXED_CUT)},
    )


def _sensitivity(rows: pd.DataFrame) -> Sensitivity:
    """rows: of one method; a significance that is not defined counts as 0."""
    z0 = rows["z0"].fillna(0.0).groupby(rows["n_injected"])
    bands = pd.DataFrame({"median": z0.median(), "low": z0.quantile(BAND[0]), "high": z0.quantile(BAND[1])})
    curve = tuple(CurvePoint(int(str(n)), *map(float, band)) for n, band in bands.iterrows())
    n_injected, median = [point.n_injected for point in curve], [point.median for point in curve]
    return Sensitivity(curve, {f"{target:g}": needed_events(n_injected, median, target) for target in TARGETS})


def needed_events(n_injected: Sequence[float], median: Sequence[float], target: float) -> float | None:
    """Injected events from which the median Z0 stays at or above a target, interpolated; None where it never does."""
    below = np.flatnonzero(np.asarray(median) < target)
    if not below.size:
        return float(n_injected[0])
    last = int(below[-1])
    if last + 1 == len(median):
        return None
    share = (target - median[last]) / (median[last + 1] - median[last])
    return float(n_injected[last] + share * (n_injected[last + 1] - n_injected[last]))


def onset(curve: Sequence[CurvePoint]) -> int | None:
    """Where learning sets in.

    Smallest number of injected events from which on the median Z0 of the best classifier cut lies above the band that
    it has with nothing injected; None where it never does, or nothing was injected nowhere.
    """
    nothing = next((point for point in curve if point.n_injected == 0), None)
    if nothing is None:
        return None
    injected = [point for point in curve if point.n_injected > 0]
    hidden = [point.n_injected for point in injected if point.median <= nothing.high]
    return min((point.n_injected for point in injected if point.n_injected > max(hidden, default=0)), default=None)


def linearity(frame: pd.DataFrame) -> Line | None:
    """The line of the excess n_obs - n_bkg (not cut off at zero) against the signal events kept in the SR.

    Errors from the scatter. None with fewer than four values, or with one number of events kept. frame: with n_obs,
    n_bkg, n_kept (missing: left out).
    """
    frame = frame.dropna(subset=["n_kept", "n_obs", "n_bkg"])
    if len(frame) < 4 or frame["n_kept"].nunique() < 2:
        return None
    line, covariance = np.polyfit(frame["n_kept"], frame["n_obs"] - frame["n_bkg"], 1, cov=True)
    errors = np.sqrt(np.diag(covariance))
    return Line(float(line[0]), float(errors[0]), float(line[1]), float(errors[1]))


def report(summary: InjectionSummary) -> str:
    """The summary, for the screen."""
    numbers = [str(point.n_injected) for point in summary.methods[Statistic.NO_CUT].curve]
    rows = [["median Z0 at injected events", *numbers, "for 3, 5 sigma"]]
    for method, part in summary.methods.items():
        needed = ", ".join("-" if n is None else f"{n:.0f}" for n in part.events_needed.values())
        rows.append([method, *(f"{point.median:.2f}" for point in part.curve), needed])
    lines = aligned(rows, "<" + ">" * len(numbers) + "<")
    lines.append(f"learning sets in at {summary.learning_from} injected events; {summary.n_failed} failed")
    if line := summary.linearity[Statistic.NO_CUT]:
        slope, offset = f"{line.slope:.2f} +- {line.slope_err:.2f}", f"{line.offset:.0f} +- {line.offset_err:.0f}"
        lines.append(f"fitted signal without a cut = ({slope}) n + ({offset})")
    return "\n".join(lines)
