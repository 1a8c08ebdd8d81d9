"""Study: the chain where there is no signal, as a gate before any significance is believed.

Two kinds of controls: the SS dimuons in the search window, and the OS dimuons with the signal region moved into each
sideband, the real signal region left out altogether. Each control runs steps 4 to 6 with several seeds, on a background
trained for its window. It passes where the median signed Z0 over the seeds (negative for a deficit) and its spread
(standard deviation) are both below one at each of the gate's working points and for the likelihood (criterion of
arXiv:2502.09770, section V E). The working points are fixed beforehand: the best of many would exceed one by being the
best of many.

What the controls read on the mean, against the mass at which they were searched, says what the search reads without a
signal at its own mass: the non-closure, by which a claim may be lowered (`dimuon.statistics.nonclosure`).

One dataset without any signal still exceeds Z0 = 1 in 16 % of all cases at a given working point: a failed control is a
reason to look, a passed one no proof.

Writes, under results/<name>/studies/: controls.parquet (every significance of every seed) and controls.json.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd

from dimuon.bumphunt.result import LIKELIHOODS, Statistic
from dimuon.columns import Column
from dimuon.errors import UserError
from dimuon.random import Stream
from dimuon.records import Record
from dimuon.regions import MassWindow
from dimuon.statistics.nonclosure import NonClosure, SignedMean
from dimuon.statistics.working_points import nearest
from dimuon.studies import scenarios
from dimuon.studies.registry import study
from dimuon.studies.scenarios import Outcome, Scenario, vary
from dimuon.studies.study import Study
from dimuon.studies.trained import Data
from dimuon.workflow import provenance
from dimuon.workflow.config import Config
from dimuon.workflow.products import FOUND, PRODUCTS, Product, study_maker

LIMIT = 1.0  # of the median Z0 and of its spread
CRITERION = "median signed Z0 over seeds and its spread below 1 at each working point (arXiv:2502.09770, V E)"

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
    quoted = LIKELIHOODS[study.config.significance.weight_scales]
    verdicts = verdict(frame, outcomes, study.config.studies.gate_fprs, quoted)
    verdicts = replace(verdicts, nonclosure=tuple(nonclosure(frame, study.config.window, study.events)))
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
    """Signed Z0 of one statistic over the seeds of a control: median and spread. gate: whether it counts."""

    what: str
    gate: bool
    median: float
    spread: float
    passed: bool

    @classmethod
    def of(cls, what: str, z0: "pd.Series[float]", gate: bool) -> "ControlPoint":
        """From the Z0 of every seed, of `signed`."""
        values = z0
        median, spread = float(values.median()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
        return cls(what, gate, median, spread, median < LIMIT and spread < LIMIT)

    def __str__(self) -> str:
        aside = "" if self.gate else " (not in the gate)"
        return f"{self.what} {self.median:+.2f} +- {self.spread:.2f}{aside}"


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
    """Whether all controls pass, by which criterion, and each of them.

    nonclosure: what the search is to be expected to read without a signal, for each working point and statistic.
    """

    passed: bool
    criterion: str
    controls: dict[str, ControlVerdict]
    nonclosure: tuple[NonClosure, ...] = ()

    def expected(self, statistic: str, fpr: float) -> NonClosure | None:
        """The non-closure of a statistic; of a cut on the classifier that of the nearest working point."""
        cut = statistic in (Statistic.BEST_CUT, Statistic.WORKING_POINT)
        own = [one for one in self.nonclosure if one.variable == (Statistic.WORKING_POINT if cut else statistic)]
        return own[nearest([one.fpr for one in own], fpr)] if own else None

    def __str__(self) -> str:
        """What the controls were to show, and what they show."""
        seen = [f"{name} {'passes' if one.passed else f'FAILS ({_worst(one)})'}" for name, one in self.controls.items()]
        return f"controls without a signal: {_state(self.passed)}; asked is {self.criterion}; seen: {', '.join(seen)}"


def _worst(control: ControlVerdict) -> str:
    """Why a control does not pass: its points beyond the limit, its seeds without a value."""
    points = [str(point) for point in control.points if point.gate and not point.passed]
    return ", ".join([*points, *([f"{control.n_failed} seeds failed"] if control.n_failed else [])])


def nonclosure(frame: pd.DataFrame, window: MassWindow, charges: Collection[str]) -> Iterator[NonClosure]:
    """The non-closure at the search's own mass of each working point, the likelihood values and the test without a cut.

    frame: of `table`. window, charges: of the analysis.
    """
    centres = {name: _centre(own) for name, (_, own) in windows(window, charges).items()}
    z, kinds = signed(frame), (Statistic.WORKING_POINT, Statistic.NO_CUT, *LIKELIHOODS.values())
    for key, part in frame[frame["variable"].isin(kinds)].groupby(["variable", "fpr"], sort=False):
        variable, fpr = cast(tuple[str, float], key)
        of_control = part.groupby("control", sort=False).groups
        samples = [SignedMean.of(str(name), centres[str(name)], z.loc[rows]) for name, rows in of_control.items()]
        yield NonClosure.of(variable, fpr, _centre(window), samples)


def signed(frame: pd.DataFrame) -> "pd.Series[float]":
    """The signed Z0 of every row; Z0 where a study begun with an earlier version did not keep it.

    A likelihood without an excess in the unweighted fit has none, and counts as 0.
    """
    with_sign = frame["z_signed"] if "z_signed" in frame else pd.Series(np.nan, frame.index)
    return with_sign.astype(float).fillna(frame["z0"].astype(float)).fillna(0.0)


def _centre(window: MassWindow) -> float:
    return (window.sr_low + window.sr_high) / 2


def verdict(
    frame: pd.DataFrame,
    outcomes: Sequence[Outcome],
    gate_fprs: Sequence[float],
    likelihood: Statistic = Statistic.LIKELIHOOD_POOLED,
) -> Verdicts:
    """The verdict on every control. frame: of `table`. likelihood: the form that counts; the best cut does not."""
    frame = frame.assign(z_signed=signed(frame))
    by_control: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_control.setdefault(str(outcome.scenario.labels["control"]), []).append(outcome)
    verdicts = {}
    for name, of_control in by_control.items():
        part, failures = frame[frame["control"] == name], tuple(scenarios.failures(of_control).values())
        points = _points(part, gate_fprs, likelihood) if len(part) else ()
        passed = bool(points) and not failures and all(point.passed for point in points if point.gate)
        verdicts[name] = ControlVerdict(passed, int(part["seed"].nunique()), len(failures), failures, points)
    return Verdicts(all(each.passed for each in verdicts.values()), CRITERION, verdicts)


def _points(part: pd.DataFrame, gate_fprs: Sequence[float], likelihood: Statistic) -> tuple[ControlPoint, ...]:
    """The points of one control. part: its rows of the table."""
    by_name = {"likelihood": likelihood} | {str(name): name for name in (Statistic.NO_CUT, Statistic.BEST_CUT)}
    by_statistic = {name: part.loc[part["variable"] == value, "z_signed"] for name, value in by_name.items()}
    return (
        *(ControlPoint.of(f"FPR {fpr:g}", _nearest(part, fpr), True) for fpr in gate_fprs),
        *(ControlPoint.of(name, z, name == "likelihood") for name, z in by_statistic.items()),
    )


def _nearest(part: pd.DataFrame, fpr: float) -> "pd.Series[float]":
    """Signed Z0 of every seed at the working point nearest to a rate."""
    cuts = part[part["variable"] == Statistic.WORKING_POINT]
    distance = (cuts["fpr"] / fpr - 1).abs()
    at_rate: pd.Series[float] = cuts.loc[distance <= distance.min() * (1 + 1e-9) + 1e-12, "z_signed"]
    return at_rate


def report(verdicts: Verdicts) -> str:
    """The verdicts, for the screen."""
    lines = [f"controls: {_state(verdicts.passed)} ({verdicts.criterion})"]
    for name, control in verdicts.controls.items():
        points = ", ".join(map(str, control.points))
        seeds = f"{control.n_seeds} seeds, {control.n_failed} failed"
        lines.append(f"  {name}: {_state(control.passed)}, {seeds}: {points}")
    for one in verdicts.nonclosure:
        if one.variable != Statistic.WORKING_POINT:
            lines.append(f"  non-closure of {one.variable} at {one.mass:g}: {one.shift:+.2f} +- {one.shift_err:.2f}")
    return "\n".join(lines)


def _state(passed: bool) -> str:
    return "passed" if passed else "NOT PASSED"
