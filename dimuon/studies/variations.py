"""Study: does the result depend on a choice? (paper, End Matter, "Systematic Variations", Fig. 4)

Every variation changes one choice and runs steps 4 to 6 again; the background is trained again only where the choice
changes what it learns, once for all scenarios that share it (`dimuon.studies.trained`).

Writes, under results/<name>/studies/: variations.parquet (every significance of every variation) and variations.json
(the baseline and the range of each kind of variation).
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd
from scipy.stats import norm

from dimuon.background.estimators.flows import Flow
from dimuon.bumphunt.result import Statistic
from dimuon.columns import Column
from dimuon.errors import UserError
from dimuon.random import Stream
from dimuon.records import Record
from dimuon.regions import MassWindow
from dimuon.screen import aligned
from dimuon.studies import scenarios
from dimuon.studies.registry import study
from dimuon.studies.scenarios import Outcome, Scenario, vary
from dimuon.studies.study import Study
from dimuon.studies.trained import Data, kept_path
from dimuon.workflow import provenance
from dimuon.workflow.config import Config
from dimuon.workflow.products import FOUND, PRODUCTS, Product, study_maker

FLOWS: dict[str, dict[str, Any]] = {
    "slides' flow": {"estimator.hidden": 128, "estimator.epochs": 1000},
    "published file's flow": {"estimator.hidden": 20, "estimator.epochs": 400},
}
BASELINE = "baseline"
SHOWN = {
    Statistic.NO_CUT: "no cut",
    Statistic.BEST_CUT: "cut",
    Statistic.BEST_FEATURE: "feature",
    Statistic.LIKELIHOOD: "likelihood",
}

Changes = Mapping[str, Any]  # {"section.key": value}

log = logging.getLogger("dimuon")

# each variation has a line of its own in the ledger, named by what it varies
MAY_CHANGE = ("studies.variations", "studies.seeds", "studies.sr_shift", "studies.sideband_shift")

MAKER = study_maker(
    "variations",
    "studies.variations",
    "studies.seeds",
    "studies.retrain_flows",
    "studies.sr_shift",
    "studies.sideband_shift",
)
TABLE = PRODUCTS.declare(
    Product(
        "variations",
        "results/{name}/studies/variations.parquet",
        MAKER,
        "the significances after every systematic variation",
        ("charge", "seed", "degree", "n_bins_sr", "variable", "fpr", "p0", *FOUND, "z_signed"),
        own={
            "kind": Column("text", "group of variations that it belongs to"),
            "variation": Column("text", "what was changed"),
        },
    )
)
RANGES = PRODUCTS.declare(
    Product(
        "variations_ranges",
        "results/{name}/studies/variations.json",
        MAKER,
        "the baseline and the range of each kind of variation",
    )
)


@study(MAKER, "does the result depend on a choice? Other fits, bins, edges, seeds, flows, preprocessing")
def run(study: Study) -> str:
    """Do the study."""
    listed = variations(study.config, list(study.events))
    for line in costs(study, listed):
        log.info("%s", line)
    outcomes = scenarios.run(study, listed, scenarios.significances, MAY_CHANGE)
    frame = table(outcomes)
    summary = summarise(frame, outcomes)
    study.write_table(TABLE, frame)
    study.write_json(RANGES, {charge: ranges.to_json() for charge, ranges in summary.items()})
    return report(frame, summary)


def costs(study: Study, listed: Sequence[Scenario]) -> Iterator[str]:
    """What is to be done before the first significance: how many scenarios, and the backgrounds that are trained anew.

    A training is measured by that of step 3: its time for as many epochs, at least, where the network is no smaller.
    """
    yield f"variations: {len(listed)} in all; `studies.variations` in {study.run.config_path} says which"
    seconds = [provenance.sidecar(path).get("wall_time_s", 0.0) for path in study.flows]
    trained: dict[str, tuple[str, Config]] = {}
    for scenario in listed:
        needed = kept_path(study, scenario.config, scenario.charge)
        if needed is not None and not needed.exists():
            trained.setdefault(str(needed), (scenario.key, scenario.config))
    for name, varied in trained.values():
        own, other = study.config.estimator, varied.estimator
        epochs = other.epochs / own.epochs if isinstance(own, Flow) and isinstance(other, Flow) else 1.0
        larger = (
            isinstance(own, Flow) and isinstance(other, Flow) and other.hidden * other.blocks > own.hidden * own.blocks
        )
        size = f", {other.epochs} epochs of {other.hidden} hidden features" if isinstance(other, Flow) else ""
        minutes = epochs * max(seconds, default=0.0) / 60 / max(len(study.flows), 1)
        yield f"  {name}: trains a background anew, {'more than ' if larger else 'about '}{minutes:.1f} min{size}"


def variations(config: Config, charges: Sequence[str]) -> list[Scenario]:
    """Every variation of every charge, the baseline first. `UserError` where a shift is too large for the window."""
    chosen, listed = choices(config), []
    for charge in charges:
        for name, (kind, changes) in chosen.items():
            varied = vary(config, changes)
            labels: dict[str, str | int] = {
                "charge": charge.upper(),
                "kind": kind,
                "variation": name,
                "seed": varied.seed,
                "degree": varied.significance.degree,
                "n_bins_sr": varied.significance.n_bins_sr,
            }
            listed.append(Scenario(f"{charge}/{name}", charge, varied, Stream(varied.seed), Data(), labels))
    return listed


def choices(config: Config) -> dict[str, tuple[str, Changes]]:
    """{name: (kind, {setting: value})} of the variations, the baseline first.

    `UserError` where a shift is too large for the window.
    """
    chosen: dict[str, tuple[str, Changes]] = {BASELINE: (BASELINE, {})}
    for kind in config.studies.variations:
        try:
            varied = list(KINDS[kind](config))
        except ValueError as error:
            raise UserError(f"studies.sr_shift or studies.sideband_shift is too large for {kind}: {error}") from error
        chosen |= {name: (kind, changes) for name, changes in varied if vary(config, changes) != config}
    return chosen


def _fits(config: Config) -> Iterator[tuple[str, Changes]]:
    """Polynomials of other degrees in other bins."""
    for degree in config.significance.degrees:
        for n_bins_sr in config.significance.binnings:
            fit = {"degree": degree, "n_bins_sr": n_bins_sr}
            changes = {
                f"{section}.{key}": value for section in ("background", "significance") for key, value in fit.items()
            }
            yield f"degree {degree}, {n_bins_sr} bins", changes


def _seeds(config: Config) -> Iterator[tuple[str, Changes]]:
    """Other random numbers throughout."""
    for index in range(config.studies.seeds):
        yield f"seed {index}", {"seed": Stream(config.seed).child("variation", index).integer()}


def _sr_edges(config: Config) -> Iterator[tuple[str, Changes]]:
    """A wider and a narrower SR."""
    window = config.window
    for shift in (config.studies.sr_shift, -config.studies.sr_shift):
        low, high = window.sr_low - shift, window.sr_high + shift
        yield f"SR {low:g}-{high:g} GeV", {"window": MassWindow(window.sb_low, low, high, window.sb_high)}


def _sideband_edges(config: Config) -> Iterator[tuple[str, Changes]]:
    """A shorter low and a shorter high sideband."""
    window, shift = config.window, config.studies.sideband_shift
    for low, high in ((window.sb_low + shift, window.sb_high), (window.sb_low, window.sb_high - shift)):
        yield f"window {low:g}-{high:g} GeV", {"window": MassWindow(low, window.sr_low, window.sr_high, high)}


def _preprocessing(config: Config) -> Iterator[tuple[str, Changes]]:
    """The features' limits with and without the events of the SR."""
    for where in ("all", "sidebands"):
        yield f"feature limits from {where}", {"features.limits_from": where}


def _flow(config: Config) -> Iterator[tuple[str, Changes]]:
    """The flows of the slides and of the published file, where the background is learned by flows."""
    if isinstance(config.estimator, Flow):
        yield from FLOWS.items()


KINDS: dict[str, Callable[[Config], Iterator[tuple[str, Changes]]]] = {
    "fits": _fits,
    "seeds": _seeds,
    "sr_edges": _sr_edges,
    "sideband_edges": _sideband_edges,
    "preprocessing": _preprocessing,
    "flow": _flow,
}


def table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Every significance of every variation, a row each: labels, variable, fpr, z0, p0, n_obs, n_bkg, n_sig, valid."""
    frame = scenarios.table(outcomes, "variation")
    return frame.assign(p0=norm.sf(frame["z0"]))


@dataclass(frozen=True)
class Range(Record):
    """Z0 over the `n` variations of one kind."""

    n: int
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Dependence:
    """How Z0 of one statistic depends on the choices: the baseline (None: not defined) and {kind: range}."""

    baseline: float | None
    ranges: dict[str, Range]

    def to_json(self) -> dict[str, Any]:
        """{"baseline": Z0, kind: range}."""
        return {BASELINE: self.baseline} | {kind: each.to_json() for kind, each in self.ranges.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        ranges = {kind: Range.from_json(each) for kind, each in content.items() if kind != BASELINE}
        return cls(content[BASELINE], ranges)


@dataclass(frozen=True)
class Ranges:
    """The variations of one charge: {statistic: its dependence}, {variation: why it failed}."""

    statistics: dict[Statistic, Dependence]
    failures: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """{statistic: its dependence, "failures": {variation: reason}}."""
        return {str(name): each.to_json() for name, each in self.statistics.items()} | {"failures": self.failures}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        statistics = {name: Dependence.from_json(content[name]) for name in SHOWN if name in content}
        return cls(statistics, dict(content["failures"]))


def summarise(frame: pd.DataFrame, outcomes: Sequence[Outcome]) -> dict[str, Ranges]:
    """The `Ranges` of every charge. frame: of `table`."""
    summary = {}
    for charge, part in frame.groupby("charge", sort=False):
        own = [outcome for outcome in outcomes if outcome.scenario.labels["charge"] == charge]
        failures = {str(each.scenario.labels["variation"]): each.failed for each in own if each.failed is not None}
        statistics = {name: _dependence(part[part["variable"] == name]) for name in SHOWN}
        summary[str(charge).lower()] = Ranges(statistics, failures)
    return summary


def _dependence(rows: pd.DataFrame) -> Dependence:
    """rows: of one statistic of one charge."""
    z0 = rows.dropna(subset=["z0"]).groupby("kind", sort=False)["z0"]
    baseline, ranges = None, {}
    for kind, values in z0:
        if kind == BASELINE:
            baseline = float(values.item())
        else:
            low, median, high = float(values.min()), float(values.median()), float(values.max())
            ranges[str(kind)] = Range(len(values), low, median, high)
    return Dependence(baseline, ranges)


def report(frame: pd.DataFrame, summary: Mapping[str, Ranges]) -> str:
    """The table of variations, for the screen."""
    rows = [["", "Z0", *SHOWN.values(), ""]]
    for (charge, name), part in frame.groupby(["charge", "variation"], sort=False):
        by_statistic = {row["variable"]: row for row in part.to_dict("records")}
        z0 = [f"{by_statistic[statistic]['z0']:.2f}" for statistic in SHOWN]
        rows.append([str(charge), str(name), *z0, f"best cut at FPR {by_statistic[Statistic.BEST_CUT]['fpr']:.3g}"])
    failures = [
        f"{charge}: {name} failed: {reason}"
        for charge, ranges in summary.items()
        for name, reason in ranges.failures.items()
    ]
    return "\n".join([*aligned(rows, "<<>>>><"), *failures])
