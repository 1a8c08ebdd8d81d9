"""Study: the whole chain on null datasets (paper, End Matter), and the p-values that it gives.

The best of many cuts, each placed by a classifier trained on the very events that are counted, need not follow the
asymptotic distribution. Here the distribution is counted: null datasets (`dimuon.studies.nulls`) go through steps 4 to
6 (with `studies.retrain_flows`, 3 to 6), and the data are compared with them.

Writes, under results/<name>/studies/: pseudoexperiments.parquet (every significance of every null dataset) and
pseudoexperiments.json (calibrated local and global p-values, coverage of the asymptotic ones, uniformity).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.stats import norm

from dimuon.arrays import FloatArray
from dimuon.bumphunt import steps
from dimuon.bumphunt.cut_and_count import RANDOM
from dimuon.bumphunt.result import Statistic
from dimuon.errors import UserError
from dimuon.random import Stream
from dimuon.records import Record
from dimuon.statistics import calibration
from dimuon.statistics.calibration import Calibrated, Coverage, Uniformity
from dimuon.statistics.trials import GlobalSignificance, upcrossing_tail
from dimuon.statistics.working_points import nearest
from dimuon.studies import scenarios
from dimuon.studies.nulls import LikeNull, Null, NullModel
from dimuon.studies.registry import study
from dimuon.studies.scenarios import Outcome, Row, Scenario, vary
from dimuon.studies.study import Study
from dimuon.studies.trained import Data
from dimuon.workflow.config import Config
from dimuon.workflow.products import FOUND, PRODUCTS, Product, study_maker

FIXED = "fixed"  # the statistic of the cut at
FIXED_FPR = 0.1  # the working point whose coverage is shown beside that of the maximum
CAVEAT = "The null datasets are drawn from flows of the same sidebands: what all flows have wrong, no null shows."
STATISTICS = (
    Statistic.BEST_CUT,
    FIXED,
    Statistic.LIKELIHOOD,
    Statistic.LIKELIHOOD_POOLED,
    Statistic.BEST_FEATURE,
    Statistic.NO_CUT,
)
ANALYSIS, LIKE_NULLS = "analysis", "like_nulls"  # the data, searched as in step 6, and as the null datasets are
SOURCE = "null datasets through the whole chain"
CHAINS = "chains"  # not a statistic: Z0 along the cuts on each feature
NOT_CHOSEN = (Statistic.NO_CUT, Statistic.LIKELIHOOD, Statistic.LIKELIHOOD_POOLED)  # among several: local is global

Nulls = Mapping[str | float, FloatArray]  # {statistic, or FPR of a cut on the classifier: (n,) Z0}
Chains = Mapping[str, Sequence[FloatArray]]  # {statistic that is the best of many cuts: [(n, n_cuts) Z0 along them]}

MAKER = study_maker(
    "pseudoexperiments",
    "studies.members",
    "studies.pseudoexperiments",
    "studies.held_out",
    "studies.retrain_flows",
)
TABLE = PRODUCTS.declare(
    Product(
        "pseudoexperiments",
        "results/{name}/studies/pseudoexperiments.parquet",
        MAKER,
        "the significances of every null dataset",
        ("charge", "experiment", "seed", "member", "variable", "fpr", *FOUND, "z_signed"),
    )
)
CALIBRATED = PRODUCTS.declare(
    Product(
        "pseudoexperiments_calibrated",
        "results/{name}/studies/pseudoexperiments.json",
        MAKER,
        "calibrated local and global p-values, coverage of the asymptotic ones, uniformity",
    )
)


@study(MAKER, "how often does background alone reach the Z0 of the data? The chain on null datasets")
def run(study: Study) -> str:
    """Do the study."""
    settings = study.config.studies
    if settings.held_out >= settings.pseudoexperiments:
        raise UserError(
            f"studies.held_out = {settings.held_out} of studies.pseudoexperiments = "
            f"{settings.pseudoexperiments}: none is left to calibrate with; lower the first or raise the second"
        )
    listed: list[Scenario] = []
    for charge, events in study.events.items():
        null = NullModel.of(study.config, charge, events, study.background(charge))
        listed += [*of_data(study.config, null), *of_nulls(study.config, null, settings.pseudoexperiments)]
    may_change = ["studies.pseudoexperiments", "studies.held_out"]
    outcomes = scenarios.run(study, listed, significances, may_change)
    summary = {charge: summarise(study.config, charge, outcomes) for charge in study.events}
    study.write_table(TABLE, table(outcomes))
    study.write_json(CALIBRATED, {charge: part.to_json() for charge, part in summary.items()})
    return report(summary)


def of_nulls(config: Config, null: NullModel, n: int) -> Iterator[Scenario]:
    """The first `n` null datasets of one charge, each with a stream of its own."""
    charge, searched = null.charge, vary(config, {"bdt.members": config.studies.members})
    for number in range(n):
        stream = Stream(config.seed).child("pseudoexperiment", charge, number).rooted()
        labels: dict[str, str | int] = {
            "charge": charge.upper(),
            "experiment": number,
            "seed": stream.seed,
            "member": null.truth(number),
        }
        yield Scenario(f"{charge}/{number}", charge, searched, stream, Null(null, number), labels)


def of_data(config: Config, null: NullModel) -> Iterator[Scenario]:
    """The data of one charge themselves, twice.

    As steps 4 to 6 search them, and as a null dataset is: with fewer classifiers, and without one of the members.
    """
    charge, stream = null.charge, Stream(config.seed)
    fewer = vary(config, {"bdt.members": config.studies.members})
    yield Scenario(f"{charge}/data/{ANALYSIS}", charge, config, stream, Data())
    yield Scenario(f"{charge}/data/{LIKE_NULLS}", charge, fewer, stream, LikeNull(null, 0))


def significances(scenario: Scenario) -> list[Row]:
    """The reading: every significance of steps 4 to 6, rows as of `steps.headline`, and after them one of `CHAINS`."""
    result = scenarios.search(scenario, scenario.source.events(scenario))
    cuts = result.curves[~result.curves["variable"].isin([Statistic.WORKING_POINT, RANDOM])]
    chains = {name: part["z0"].tolist() for name, part in cuts.groupby("variable", sort=False)}
    return [*steps.headline(result), {"variable": CHAINS, "z0": chains}]


def table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Every significance of every null dataset: charge, experiment, seed, member, variable, fpr, z0, n_obs, ..."""
    nulls = [replace(outcome, rows=_numbers(outcome)) for outcome in outcomes if outcome.scenario.labels]
    return scenarios.table(nulls, "pseudoexperiment")


def _numbers(outcome: Outcome) -> list[Row]:
    return [row for row in outcome.rows if row["variable"] != CHAINS]


def chains(outcomes: Sequence[Outcome]) -> dict[str, list[FloatArray]]:
    """Z0 along the cuts of the statistics that are the best of many, in null datasets: see `Chains`.

    The best feature is left out where a study begun with an earlier version did not keep its cuts.
    """
    cuts = [[row["z0"] for row in each.rows if row["variable"] == Statistic.WORKING_POINT] for each in outcomes]
    found = {str(Statistic.BEST_CUT): [np.array(cuts)]}
    features = [row["z0"] for each in outcomes for row in each.rows if row["variable"] == CHAINS]
    if features and len(features) == len(outcomes):
        found[str(Statistic.BEST_FEATURE)] = [np.array([each[name] for each in features]) for name in features[0]]
    return found


def statistics(rows: Sequence[Row], fixed_fpr: float = FIXED_FPR) -> dict[str | float, float]:
    """The statistics of one dataset: {name of STATISTICS, and the FPR of each cut on the classifier: Z0}.

    A likelihood value that is not defined (no excess without a cut, as in half of all null datasets) counts as 0.
    """
    not_named = (Statistic.WORKING_POINT, CHAINS)
    named = {row["variable"]: row["z0"] or 0.0 for row in rows if row["variable"] not in not_named}
    cuts = {row["fpr"]: row["z0"] for row in rows if row["variable"] == Statistic.WORKING_POINT}
    return named | cuts | {FIXED: cuts[list(cuts)[nearest(list(cuts), fixed_fpr)]]}


@dataclass(frozen=True)
class CalibratedStatistic(Record):
    """One statistic of the data and its p-values, counted in null datasets.

    asymptotic: local Z0 of the data, whose calibrated values these are. local: of its own working point; None where
    only the choice among several has a p-value. overall: of the whole choice, beyond the null datasets by their
    upcrossings; "global" in JSON.
    """

    asymptotic: float
    fpr: float
    local: Calibrated | None
    overall: GlobalSignificance

    def to_json(self) -> dict[str, Any]:
        content = super().to_json()
        return content | {"global": content.pop("overall")}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        overall = content["global"]
        if "observed" in overall:  # of an earlier version
            overall = GlobalSignificance.of_counts(Calibrated.from_json(overall), SOURCE).to_json()
        return super().from_json({**content, "overall": overall})


@dataclass(frozen=True)
class CalibratedSummary(Record):
    """What the null datasets of one charge say.

    n: null datasets, n_failed of them without a value. members: classifiers a fold, of each way to search the data.
    reach: the Z0 beyond which so many null datasets cannot be counted. data: {way to search: {statistic: p-values}};
    the way of the null datasets alone is a like-for-like comparison. coverage: of the asymptotic Z0. uniformity: of the
    p-values of the last null datasets by the others; by_truth: of those of one member by those of the others, None
    where all are of one member.
    """

    n: int
    n_failed: int
    failures: tuple[str, ...]
    members: dict[str, int]
    reach: float
    data: dict[str, dict[str, CalibratedStatistic]]
    coverage: dict[str, tuple[Coverage, ...]]
    uniformity: dict[str, Uniformity]
    by_truth: dict[str, Uniformity] | None


def summarise(config: Config, charge: str, outcomes: Sequence[Outcome]) -> CalibratedSummary:
    """Calibrated p-values, coverage and uniformity for one charge. `UserError` for too few null datasets to say any."""
    nulls = [outcome for outcome in outcomes if outcome.scenario.charge == charge and outcome.scenario.labels]
    done, failures = scenarios.succeeded(nulls), tuple(scenarios.failures(nulls).values())
    held_out = config.studies.held_out
    if len(done) <= held_out:
        first = f", the first with: {failures[0]}" if failures else ""
        raise UserError(
            f"{charge}: {len(done)} of {len(nulls)} pseudoexperiments succeeded and studies.held_out = {held_out} are "
            f"put aside{first}; lower studies.held_out"
        )
    values = [statistics(outcome.rows) for outcome in done]
    columns = {name: np.array([one[name] for one in values]) for name in values[0]}
    rows = {name: _of_data(outcomes, charge, name) for name in (ANALYSIS, LIKE_NULLS)}
    rng = Stream(config.seed).child("uniformity", charge).generator()
    member = np.array([outcome.scenario.labels["member"] for outcome in done])
    last = member == member.max()
    uniformity = {
        name: calibration.uniformity(columns[name][-held_out:], columns[name][:-held_out], rng) for name in STATISTICS
    }
    by_truth = (
        {name: calibration.uniformity(columns[name][last], columns[name][~last], rng) for name in STATISTICS}
        if not last.all()
        else None
    )
    return CalibratedSummary(
        n=len(nulls),
        n_failed=len(failures),
        failures=failures,
        members={ANALYSIS: config.bdt.members, LIKE_NULLS: config.studies.members},
        reach=float(norm.isf(1 / len(nulls))),
        data={name: calibrate(found, columns, len(failures), chains(done)) for name, found in rows.items()},
        coverage={name: tuple(calibration.coverage(columns[name], len(failures))) for name in STATISTICS},
        uniformity=uniformity,
        by_truth=by_truth,
    )


def _of_data(outcomes: Sequence[Outcome], charge: str, name: str) -> Sequence[Row]:
    """The rows of the data, searched in one way. `UserError` where that failed."""
    outcome = next(each for each in outcomes if each.scenario.key == f"{charge}/data/{name}")
    if outcome.failed is not None:
        raise UserError(f"{charge}: the data themselves failed: {outcome.failed}")
    return outcome.rows


def calibrate(
    rows: Sequence[Row], nulls: Nulls, n_failed: int, along: Chains | None = None
) -> dict[str, CalibratedStatistic]:
    """The statistics of the data, calibrated. rows: of the data, as of `steps.headline`. along: of `chains`.

    The best cut has a local p-value, that of its own working point, and a global one, of the best of all working
    points. The others were not chosen among several (the best feature was: there only the global one exists).
    """
    calibrated, fprs = {}, [row["fpr"] for row in rows if row["variable"] == Statistic.WORKING_POINT]
    for row in rows:
        name, z0 = row["variable"], row["z0"]
        if name in (Statistic.WORKING_POINT, CHAINS) or z0 is None:
            continue
        tail = upcrossing_tail(along[name], z0, fprs) if along and name in along else None
        overall = GlobalSignificance.of(z0, nulls[name], SOURCE, tail, n_failed)
        local = calibration.p_value(z0, nulls[name], n_failed) if name in NOT_CHOSEN else None
        if name == Statistic.BEST_CUT:
            local = calibration.p_value(z0, nulls[row["fpr"]], n_failed)
        calibrated[str(name)] = CalibratedStatistic(z0, row["fpr"], local, overall)
    return calibrated


def report(summary: Mapping[str, CalibratedSummary]) -> str:
    """The summary, for the screen."""
    return "\n".join([line for charge, part in summary.items() for line in _report(charge, part)] + [CAVEAT])


def _report(charge: str, part: CalibratedSummary) -> Iterator[str]:
    yield (
        f"{charge}: {part.n} null datasets, {part.n_failed} failed (counted as above every value); counting ends at "
        f"{part.reach:.2f} sigma"
    )
    for way, statistics in part.data.items():
        yield f"  data searched as {way.replace('_', ' ')} ({part.members[way]} members):"
        for name, value in statistics.items():
            local = "-" if value.local is None else p_value(value.local)
            yield f"    {name:<18}local Z0 = {value.asymptotic:.2f}, calibrated: local {local}; {value.overall}"
    for name, rows in part.coverage.items():
        fractions = ", ".join(f"{row.z0:g}: {row.fraction:.4f} ({row.expected:.4f})" for row in rows)
        yield f"  fraction of {name} above (asymptotic): {fractions}"
    yield f"  uniformity of held-out p-values, KS p: {_ks(part.uniformity)}"
    yield f"  uniformity of p-values of the nulls of another flow, KS p: {_ks(part.by_truth)}"


def _ks(tests: Mapping[str, Uniformity] | None) -> str:
    if tests is None:
        return "one flow only"
    return ", ".join(f"{name} {test.p:.3f}" for name, test in tests.items())


def p_value(value: Calibrated) -> str:
    """A counted p-value with its interval, or how far above all null datasets it lies."""
    if value.p is None:
        return f"none of {value.n} above, Z0 > {value.z0_low:.2f}"
    z0 = "-" if value.z0 is None else f"{value.z0:.2f}"
    return f"p = {value.p:.4f} [{value.p_low:.4f}, {value.p_high:.4f}], Z0 = {z0}"
