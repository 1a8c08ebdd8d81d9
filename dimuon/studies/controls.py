"""Study: the chain where there is no signal, as a gate before any significance is believed.

Two kinds of controls: the SS dimuons in the search window, and the OS dimuons with the signal region moved into each
sideband, the real signal region left out altogether. Each control runs steps 4 to 6 with several seeds, on a background
trained for its window. It passes where the median Z0 over the seeds and its spread (standard deviation) are both below
one at each of the gate's working points and for the likelihood (criterion of arXiv:2502.09770, section V E). The
working points are fixed beforehand: the best of many would exceed one by being the best of many.

One dataset without any signal still exceeds Z0 = 1 in 16 % of all cases at a given working point: a failed control is a
reason to look, a passed one no proof.

Writes, under results/<name>/studies/: controls.parquet (every significance of every seed) and controls.json.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from dimuon.bumphunt.result import Statistic
from dimuon.columns import Column
from dimuon.errors import UserError
from dimuon.random import Stream
from dimuon.records import Record
from dimuon.regions import MassWindow
from dimuon.studies import scenarios
from dimuon.studies.registry import study
from dimuon.studies.scenarios import Outcome, Scenario, vary
from dimuon.studies.study import Study
from dimuon.studies.trained import Data
from dimuon.workflow import provenance
from dimuon.workflow.config import Config
from dimuon.workflow.products import FOUND, PRODUCTS, Product, study_maker

LIMIT = 1.0  # of the median Z0 and of its spread
CRITERION = "median Z0 over seeds and its standard deviation below 1 at each working point (arXiv:2502.09770, V E)"

MAKER = study_maker("controls", "studies.members", "studies.seeds", "studies.gate_fprs")
TABLE = PRODUCTS.declare(
    Product(
        "controls",
        "results/{name}/studies/controls.parquet",
        MAKER,
        "the significances where there is no signal",
        ("seed", "variable", "fpr", *FOUND, "z_signed"),
        own={"control": Column("text", 'where there is no signal: "ss", or the OS window shifted into a sideband')},
    )
)
VERDICTS = PRODUCTS.declare(
    Product("controls_verdicts", "results/{name}/studies/controls.json", MAKER, "which controls pass, and how clearly")
)


def passes(study: Study) -> bool:
    """Whether all controls pass, of what the study wrote."""
    return Verdicts.from_json(provenance.load_json(study.run.path(VERDICTS))).passed


@study(
    MAKER, "does the chain find something where there is no signal? A gate: SS dimuons, shifted windows", gate=passes
)
def run(study: Study) -> str:
    """Do the study."""
    listed = list(controls(study.config, study.events))
    if not listed:
        raise UserError("selection.charges: neither ss nor os dimuons, so there is no control")
    outcomes = scenarios.run(study, listed, scenarios.significances)
    frame = table(outcomes)
    verdicts = verdict(frame, outcomes, study.config.studies.gate_fprs)
    study.write_table(TABLE, frame)
    study.write_json(VERDICTS, verdicts.to_json())
    return report(verdicts)


def controls(config: Config, charges: Collection[str]) -> Iterator[Scenario]:
    """Every seed of every control that the given charges allow."""
    for name, (charge, window) in windows(config.window, charges).items():
        varied = vary(config, {"window": window, "bdt.members": config.studies.members})
        for index in range(config.studies.seeds):
            stream = Stream(config.seed).child("control", name, index).rooted()
            labels: dict[str, str | int] = {"control": name, "seed": stream.seed}
            yield Scenario(f"{name}/{index}", charge, varied, stream, Data(), labels)


def windows(window: MassWindow, charges: Collection[str]) -> dict[str, tuple[str, MassWindow]]:
    """{name: (charge, window)} of the controls that the given charges allow."""
    controls = {}
    if "ss" in charges:
        controls["ss"] = ("ss", window)
    if "os" in charges:
        low, high = shifted(window)
        controls |= {"os_low_sideband": ("os", low), "os_high_sideband": ("os", high)}
    return controls


def shifted(window: MassWindow) -> tuple[MassWindow, MassWindow]:
    """The windows with the SR, as wide as it is, in the middle of the low and of the high sideband.

    Each ends where the real SR begins. In a sideband narrower than two SR widths the SR is half of it.
    """
    return (
        _in_the_middle(window.sb_low, window.sr_low, window.sr_high - window.sr_low),
        _in_the_middle(window.sr_high, window.sb_high, window.sr_high - window.sr_low),
    )


def _in_the_middle(low: float, high: float, width: float) -> MassWindow:
    half, middle = min(width, (high - low) / 2) / 2, (low + high) / 2
    return MassWindow(low, round(middle - half, 6), round(middle + half, 6), high)


def table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Every significance of every seed: control, seed, variable, fpr, z0, n_obs, n_bkg, n_sig, valid."""
    return scenarios.table(outcomes, "control")


@dataclass(frozen=True)
class ControlPoint(Record):
    """Z0 of one statistic over the seeds of a control: median and spread. gate: whether it counts for the verdict."""

    what: str
    gate: bool
    median: float
    spread: float
    passed: bool

    @classmethod
    def of(cls, what: str, z0: "pd.Series[float]", gate: bool) -> "ControlPoint":
        """From Z0 of every seed; a likelihood without an excess in the unweighted fit has none, and counts as 0."""
        values = z0.fillna(0.0)
        median, spread = float(values.median()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
        return cls(what, gate, median, spread, median < LIMIT and spread < LIMIT)

    def __str__(self) -> str:
        aside = "" if self.gate else " (not in the gate)"
        return f"{self.what} {self.median:.2f} +- {self.spread:.2f}{aside}"


@dataclass(frozen=True)
class ControlVerdict(Record):
    """Whether one control passes: at every point of the gate, and with no seed that failed."""

    passed: bool
    n_seeds: int
    n_failed: int
    failures: tuple[str, ...]
    points: tuple[ControlPoint, ...]


@dataclass(frozen=True)
class Verdicts(Record):
    """Whether all controls pass, by which criterion, and each of them."""

    passed: bool
    criterion: str
    controls: dict[str, ControlVerdict]


def verdict(frame: pd.DataFrame, outcomes: Sequence[Outcome], gate_fprs: Sequence[float]) -> Verdicts:
    """The verdict on every control. frame: of `table`. The best cut is shown and does not count."""
    by_control: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_control.setdefault(str(outcome.scenario.labels["control"]), []).append(outcome)
    verdicts = {}
    for name, of_control in by_control.items():
        part, failures = frame[frame["control"] == name], tuple(scenarios.failures(of_control).values())
        points = _points(part, gate_fprs) if len(part) else ()
        passed = bool(points) and not failures and all(point.passed for point in points if point.gate)
        verdicts[name] = ControlVerdict(passed, int(part["seed"].nunique()), len(failures), failures, points)
    return Verdicts(all(each.passed for each in verdicts.values()), CRITERION, verdicts)


def _points(part: pd.DataFrame, gate_fprs: Sequence[float]) -> tuple[ControlPoint, ...]:
    """The points of one control. part: its rows of the table."""
    by_statistic = {
        statistic: part.loc[part["variable"] == statistic, "z0"]
        for statistic in (Statistic.LIKELIHOOD, Statistic.NO_CUT, Statistic.BEST_CUT)
    }
    return (
        *(ControlPoint.of(f"FPR {fpr:g}", _nearest(part, fpr), True) for fpr in gate_fprs),
        *(ControlPoint.of(str(name), z0, name == Statistic.LIKELIHOOD) for name, z0 in by_statistic.items()),
    )


def _nearest(part: pd.DataFrame, fpr: float) -> "pd.Series[float]":
    """Z0 of every seed at the working point nearest to a rate."""
    cuts = part[part["variable"] == Statistic.WORKING_POINT]
    distance = (cuts["fpr"] / fpr - 1).abs()
    nearest: pd.Series[float] = cuts.loc[distance <= distance.min() * (1 + 1e-9) + 1e-12, "z0"]
    return nearest


def report(verdicts: Verdicts) -> str:
    """The verdicts, for the screen."""
    lines = [f"controls: {_state(verdicts.passed)} ({verdicts.criterion})"]
    for name, control in verdicts.controls.items():
        points = ", ".join(map(str, control.points))
        seeds = f"{control.n_seeds} seeds, {control.n_failed} failed"
        lines.append(f"  {name}: {_state(control.passed)}, {seeds}: {points}")
    return "\n".join(lines)


def _state(passed: bool) -> str:
    return "passed" if passed else "NOT PASSED"
