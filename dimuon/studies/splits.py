"""Study: how are the events split between the training of the classifiers and the search?

A cut learned from the very events that are counted claims too much; held-out events are the remedy, and the ways to
hold them out differ in what they cost. Here the same null datasets, and the same with signal events of the simulation
injected, are searched with each of `SPLITS`. On one half alone (trained on the other) the asymptotic significance is
what it says as far as the classifier is concerned, at the price of half of the events. With every fold searched, each
event is scored by models that did not see it, but the models of one fold have seen the events of the others, which are
counted together.

How often background alone exceeds 1, 2, 3 sigma at each working point, beside nominal, is the calibration curve of a
split. What it costs is said at equal false alarms: the share of datasets with signal whose Z0 lies above the level that
a share p of the null datasets of the same split exceeds (p of 2 sigma).

Writes, under results/<name>/studies/: splits.parquet (every significance of every dataset by every split) and
splits.json (calibration and sensitivity of each).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.special import ndtr

from dimuon.arrays import FloatArray
from dimuon.bumphunt import steps
from dimuon.bumphunt.result import Statistic
from dimuon.classifiers.cross_validation import Scores
from dimuon.columns import Column
from dimuon.errors import AnalysisError, UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.records import Record
from dimuon.screen import aligned
from dimuon.statistics import calibration
from dimuon.statistics.calibration import Coverage
from dimuon.statistics.intervals import clopper_pearson
from dimuon.statistics.working_points import nearest, rates
from dimuon.studies import scenarios
from dimuon.studies.injection import BAND, Injected, why_no_signal
from dimuon.studies.nulls import Null, NullModel
from dimuon.studies.pseudoexperiments import FIXED, statistics
from dimuon.studies.registry import study
from dimuon.studies.scenarios import Outcome, Row, Scenario, vary
from dimuon.studies.study import Study
from dimuon.workflow.config import Config
from dimuon.workflow.executor import AtOnce
from dimuon.workflow.products import FOUND, PRODUCTS, Product, study_maker

log = logging.getLogger("dimuon")

SPLITS: dict[str, dict[str, Any]] = {
    "one half": {"bdt.folds": 2, "bdt.searched_folds": "one", "bdt.combination": "mean"},
    "both halves": {"bdt.folds": 2, "bdt.searched_folds": "all", "bdt.combination": "mean"},
    "5 folds": {"bdt.folds": 5, "bdt.searched_folds": "all", "bdt.combination": "mean"},
    "5 folds, median": {"bdt.folds": 5, "bdt.searched_folds": "all", "bdt.combination": "median"},
}
LEVEL = 2.0  # sigma, whose share of false alarms the sensitivity is compared at
STATISTICS = (Statistic.NO_CUT, Statistic.BEST_CUT, Statistic.LIKELIHOOD_POOLED)  # beside every working point
SHOWN = (FIXED, Statistic.LIKELIHOOD_POOLED)  # on the screen
IMPOSSIBLE = "impossible"  # the row of a split with which a dataset could not be searched

MAKER = study_maker("splits", "studies.members", "studies.pseudoexperiments", "studies.injected", "studies.repeats")
TABLE = PRODUCTS.declare(
    Product(
        "splits",
        "results/{name}/studies/splits.parquet",
        MAKER,
        "the significances of every dataset by every split of the events. With signal injected: SIMULATED",
        ("charge", "experiment", "seed", "n_injected", "variable", "fpr", *FOUND, "z_signed"),
        own={"split": Column("text", "how the events are split between the training of classifiers and the search")},
    )
)
SUMMARY = PRODUCTS.declare(
    Product(
        "splits_summary",
        "results/{name}/studies/splits.json",
        MAKER,
        "calibration of each split on null datasets at every working point, and what it costs in sensitivity",
    )
)


@study(MAKER, "half and half, five folds, or their median histogram? Calibration and cost of each split")
def run(study: Study) -> str:
    """Do the study."""
    nulls = [
        NullModel.of(study.config, charge, events, study.background(charge)) for charge, events in study.events.items()
    ]
    listed = [each for null in nulls for each in of_null_model(study.config, null)]
    outcomes = scenarios.run(study, listed, by_split, ["studies.pseudoexperiments", "studies.repeats"])
    study.write_table(TABLE, table(outcomes))
    summary = {charge: summarise(charge, outcomes) for charge in study.events}
    study.write_json(SUMMARY, {charge: content(by_name) for charge, by_name in summary.items()})
    return "\n".join(line for charge, by_name in summary.items() for line in report(charge, by_name))


def of_null_model(config: Config, null: NullModel) -> Iterator[Scenario]:
    """The null datasets of one charge, and those with signal: of OS dimuons with the features that the simulation has.

    A dataset has the stream of its number: those with signal are null datasets of their own.
    """
    charge, searched = null.charge, vary(config, {"bdt.members": config.studies.members})
    numbers = [n for n in config.studies.injected if n > 0] if charge == "os" else []
    if numbers and (reason := why_no_signal(config)):
        log.warning("splits: null datasets alone, %s", reason)
        numbers = []
    sources = {0: [Null(null, number) for number in range(config.studies.pseudoexperiments)]}
    sources |= {n: [Injected(null, number, n) for number in range(config.studies.repeats)] for n in numbers}
    for n_injected, datasets in sources.items():
        for number, source in enumerate(datasets):
            stream = Stream(config.seed).child("splits", charge, n_injected, number).rooted()
            labels: dict[str, str | int] = {
                "charge": charge.upper(),
                "experiment": number,
                "seed": stream.seed,
                "n_injected": n_injected,
            }
            yield Scenario(f"{charge}/{n_injected}/{number}", charge, searched, stream, source, labels)


def by_split(scenario: Scenario) -> list[Row]:
    """The reading: the significances of each split, from one training for those with the same folds."""
    charge, stream, events = scenario.charge, scenario.stream, scenario.source.events(scenario)
    model, fit = scenario.source.model(scenario, events), steps.fit_masses(scenario.config, events)
    background = steps.sample_background(scenario.config, charge, fit, model, stream).events
    rows, scores = list[Row](), dict[int, Scores]()
    for name, changes in SPLITS.items():
        config = vary(scenario.config, changes)
        folds = config.bdt.folds
        if folds not in scores:
            scores[folds] = steps.classify(config, charge, events, background, stream, AtOnce(), whole=False).data
        rows += [{"split": name, **row} for row in _searched(config, charge, events, scores[folds], stream)]
    return rows


def _searched(config: Config, charge: str, events: Events, scores: Scores, stream: Stream) -> list[Row]:
    """The rows of one search, without the tightest cuts where the median of small counts is empty after these."""
    fprs = rates(config.significance.n_working_points, config.significance.fpr_min)
    for n in range(len(fprs), 0, -1):
        cuts = vary(config, {"significance.n_working_points": n, "significance.fpr_min": float(fprs[n - 1])})
        try:
            found = steps.headline(steps.measure_scored(cuts, charge, events, scores, stream))
        except AnalysisError as error:
            if error.setting != "fpr_min" or n <= 2:
                return [{"variable": IMPOSSIBLE, "reason": str(error)}]
        else:
            break
    of_cuts = [row for row in found if row["variable"] == Statistic.WORKING_POINT]
    rows = [{**row, "fpr": float(fprs[nearest(fprs, row["fpr"])])} for row in of_cuts]  # alike to the last digit
    return rows + [row for row in found if row["variable"] in STATISTICS]


def table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Every significance: charge, experiment, seed, n_injected, split, variable, fpr, z0, ..."""
    found = [replace(each, rows=[row for row in each.rows if row["variable"] != IMPOSSIBLE]) for each in outcomes]
    return scenarios.table(found, "dataset")


@dataclass(frozen=True)
class WithSignal(Record):
    """One statistic of datasets with n_injected signal events.

    n: datasets, those without a value counted with Z0 = 0. median, low, high: of Z0, and its 68 % band. power: share
    above the level of equal false alarms (`LEVEL`), and its 68 % interval.
    """

    n_injected: int
    n: int
    median: float
    low: float
    high: float
    power: float
    power_low: float
    power_high: float

    @classmethod
    def of(cls, n_injected: int, z0: FloatArray, level: float) -> Self:
        """z0: (n,) of the datasets. level: of Z0."""
        n_above = int(np.sum(z0 > level))
        low, high = np.quantile(z0, BAND)
        interval = clopper_pearson(n_above, len(z0))
        median, power = float(np.median(z0)), n_above / len(z0)
        return cls(n_injected, len(z0), median, float(low), float(high), power, *map(float, interval))


@dataclass(frozen=True)
class OfStatistic(Record):
    """One statistic of one split: at a working point (fpr), or of the whole search (fpr None).

    n: null datasets, n_failed of them without a value. mean, spread: of their Z0. coverage: of the asymptotic Z0, the
    failed ones counted as above. level: Z0 that as many null datasets exceed as a Gaussian exceeds `LEVEL`.
    """

    statistic: str
    fpr: float | None
    n: int
    n_failed: int
    mean: float
    spread: float
    coverage: tuple[Coverage, ...]
    level: float
    with_signal: tuple[WithSignal, ...]

    @classmethod
    def of(cls, name: str | float, nulls: FloatArray, n_failed: int, injected: Mapping[int, FloatArray]) -> Self:
        """name: of `pseudoexperiments.statistics`. nulls: (n,) Z0. injected: {number of signal events: (n,) Z0}."""
        is_cut = isinstance(name, float)
        with_failed = np.append(nulls, np.full(n_failed, np.inf))
        level = float(np.quantile(with_failed, ndtr(LEVEL), method="higher"))
        return cls(
            statistic=str(Statistic.WORKING_POINT) if is_cut else str(name),
            fpr=float(name) if is_cut else None,
            n=len(with_failed),
            n_failed=n_failed,
            mean=float(nulls.mean()),
            spread=float(nulls.std()),
            coverage=tuple(calibration.coverage(nulls, n_failed)),
            level=level,
            with_signal=tuple(WithSignal.of(n, z0, level) for n, z0 in injected.items()),
        )


def summarise(charge: str, outcomes: Sequence[Outcome]) -> dict[str, tuple[OfStatistic, ...]]:
    """{split: each of its statistics} of one charge; `UserError` where every null dataset failed."""
    own = [outcome for outcome in outcomes if outcome.scenario.charge == charge]
    numbers = sorted({int(outcome.scenario.labels["n_injected"]) for outcome in own})
    by_number = {n: [outcome for outcome in own if outcome.scenario.labels["n_injected"] == n] for n in numbers}
    return {name: tuple(_of_split(name, charge, by_number)) for name in SPLITS}


def _of_split(split: str, charge: str, by_number: Mapping[int, Sequence[Outcome]]) -> Iterator[OfStatistic]:
    """by_number: {number of signal events: outcomes}."""
    values = {n: list(_values(split, outcomes)) for n, outcomes in by_number.items()}
    nulls = [one for one in values[0] if one]
    if not nulls:
        reasons = [reason for outcome in by_number[0] if (reason := _why_not(split, outcome))]
        raise UserError(f"{charge}: every null dataset failed with the split {split!r}, the first with: {reasons[0]}")
    for name in max(nulls, key=len):
        z0 = {n: np.array([one.get(name, 0.0) for one in listed]) for n, listed in values.items() if n}
        known = np.array([one[name] for one in nulls if name in one])
        yield OfStatistic.of(name, known, len(values[0]) - len(known), z0)


def _values(split: str, outcomes: Sequence[Outcome]) -> Iterator[dict[str | float, float]]:
    """The statistics of every outcome with one split, those that have a value."""
    for outcome in outcomes:
        rows = [row for row in outcome.rows if row["split"] == split]
        yield statistics(rows) if rows and rows[0]["variable"] != IMPOSSIBLE else {}


def _why_not(split: str, outcome: Outcome) -> str | None:
    """Why a dataset could not be searched with a split; None where it was."""
    reasons = [row["reason"] for row in outcome.rows if row["split"] == split and row["variable"] == IMPOSSIBLE]
    return outcome.failed or (reasons[0] if reasons else None)


def content(summary: Mapping[str, Sequence[OfStatistic]]) -> dict[str, Any]:
    """As JSON: {split: [record of each statistic]}."""
    return {name: [each.to_json() for each in listed] for name, listed in summary.items()}


def report(charge: str, summary: Mapping[str, Sequence[OfStatistic]]) -> Iterator[str]:
    """One charge, for the screen."""
    first = next(iter(summary.values()))
    numbers = [one.n_injected for one in first[0].with_signal]
    yield (
        f"{charge}: fraction of {first[0].n} null datasets above 1, 2, 3 sigma (nominal "
        f"{', '.join(f'{row.expected:.4f}' for row in first[0].coverage)}); with signal events: median Z0, and share "
        "found at equal false alarms"
    )
    for shown in SHOWN:
        rows = [[f"  {shown}", "nulls", *(f"{n} events" for n in numbers)]]
        for name, listed in summary.items():
            one = next(each for each in listed if each.statistic == shown)
            covered = ", ".join(f"{row.fraction:.4f}" for row in one.coverage)
            found = [f"{each.median:.2f}, {each.power:.2f}" for each in one.with_signal]
            failed = f" ({one.n_failed} failed)" if one.n_failed else ""
            rows.append([f"  {name}", covered + failed, *found])
        yield from aligned(rows, "<" * len(rows[0]))
