"""Study: do null datasets of other origins say the same?

The null datasets of `pseudoexperiments` come from one member of the model that the others of them are searched with, so
a mistake that all members share shows in none. Here the chain searches, with the same members, null datasets of these
origins: that member; a model of another kind (`studies.null_estimator`), trained on the same sidebands; and, with
down-up-sampling (ATLAS 2025, arXiv:2502.09770, appendix B 3), that model trained on a small random share of all events,
the SR among them, which dilutes any signal beyond notice. For OS dimuons the same-sign ones are a fourth origin where
there are enough: real events of the SR, in which there is no signal, with the weights that make the SS sidebands those
of the OS dimuons, interpolated in the mass. The masses follow the sideband fit in all of them.

What the origins differ by, beyond what so few null datasets fluctuate, is a systematic uncertainty of every number that
null datasets calibrate.

Writes, under results/<name>/studies/: null_origins.parquet (every significance of every null dataset) and
null_origins.json (their means, spreads and coverage by origin, and the difference).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.background import saved
from dimuon.background.estimators.reweighting import Reweighting, reweight
from dimuon.background.protocol import BackgroundModel
from dimuon.background.scaler import LogitScaler
from dimuon.background.simulated_table import SimulatedTable
from dimuon.bumphunt.result import Statistic
from dimuon.columns import Column
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.records import Record
from dimuon.screen import aligned
from dimuon.statistics import calibration
from dimuon.statistics.calibration import Coverage
from dimuon.studies import scenarios, trained
from dimuon.studies.nulls import Null, NullModel, loaded
from dimuon.studies.pseudoexperiments import FIXED, statistics
from dimuon.studies.registry import study
from dimuon.studies.scenarios import Outcome, Scenario, vary
from dimuon.studies.study import Study
from dimuon.workflow.config import Config
from dimuon.workflow.products import FOUND, PRODUCTS, Product, study_maker

log = logging.getLogger("dimuon")

MEMBER, OTHER, DOWN_UP, SAME_SIGN = "member", "other_model", "down_up_sampling", "same_sign"
ORIGINS = {
    MEMBER: "one member of the search's own model",
    OTHER: "a model of another kind, from the sidebands",
    DOWN_UP: "the same from a small share of all events (down-up-sampling)",
    SAME_SIGN: "same-sign events, weighted to the opposite-sign ones in the sidebands",
}
STATISTICS = (Statistic.NO_CUT, FIXED, Statistic.BEST_CUT, Statistic.LIKELIHOOD_POOLED)

MAKER = study_maker(
    "null_origins",
    "studies.members",
    "studies.null_origins",
    "studies.null_estimator",
    "studies.down_sampling",
    "studies.same_sign_reuse",
)
TABLE = PRODUCTS.declare(
    Product(
        "null_origins",
        "results/{name}/studies/null_origins.parquet",
        MAKER,
        "the significances of every null dataset, by its origin",
        ("charge", "experiment", "seed", "variable", "fpr", *FOUND, "z_signed"),
        own={"origin": Column("text", "where the features of the null dataset come from")},
    )
)
SUMMARY = PRODUCTS.declare(
    Product(
        "null_origins_summary",
        "results/{name}/studies/null_origins.json",
        MAKER,
        "mean, spread and coverage of each statistic by the origin of the null datasets, and their difference",
    )
)


@dataclass(frozen=True)
class OfOrigin(Record):
    """One statistic in the null datasets of one origin.

    n: null datasets, n_failed without a value. mean, error: of Z0, spread: its standard deviation. coverage: of the
    asymptotic Z0, the failed ones counted as above.
    """

    n: int
    n_failed: int
    mean: float
    error: float
    spread: float
    coverage: tuple[Coverage, ...]

    @classmethod
    def of(cls, z0: FloatArray, n_failed: int) -> "OfOrigin":
        """z0: (n,) of those that did not fail, two at least."""
        spread, n = float(z0.std(ddof=1)), len(z0)
        covered = tuple(calibration.coverage(z0, n_failed))
        return cls(n + n_failed, n_failed, float(z0.mean()), spread / n**0.5, spread, covered)


def difference(origins: Sequence[OfOrigin]) -> float:
    """What the means of the origins differ by, in sigma, beyond their errors: a systematic uncertainty.

    The variance of the means between the origins less that which their errors explain, not below zero; its root.
    """
    means, errors = (np.array([getattr(each, name) for each in origins]) for name in ("mean", "error"))
    return float(np.sqrt(max(means.var(ddof=1) - np.mean(errors**2), 0.0)))


@dataclass(frozen=True)
class OtherNull(Null):
    """A null dataset whose features come from a model that is no member of the search's. other: its bytes."""

    other: bytes = b""

    @property
    def truth(self) -> BackgroundModel:
        return loaded(self.other)


@study(MAKER, "do null datasets of other origins say the same?")
def run(study: Study) -> str:
    """Do the study."""
    listed = [scenario for charge in study.events for scenario in of_charge(study, charge)]
    outcomes = scenarios.run(study, listed, scenarios.significances)
    study.write_table(TABLE, scenarios.table(outcomes, "null dataset"))
    summary = {charge: summarise(charge, outcomes) for charge in study.events}
    study.write_json(SUMMARY, {charge: content(by_statistic) for charge, by_statistic in summary.items()})
    return "\n".join(line for charge, by_statistic in summary.items() for line in report(charge, by_statistic))


def of_charge(study: Study, charge: str) -> Iterator[Scenario]:
    """The null datasets of every origin, each with a stream of its own."""
    config, model = study.config, study.background(charge)
    others = {OTHER: from_sidebands(study, charge), DOWN_UP: from_a_share(study, charge)}
    if charge == "os" and "ss" in study.events and enough(config, study.events["os"], study.events["ss"]):
        others[SAME_SIGN] = from_same_sign(config, study.events["os"], study.events["ss"], model.scaler)
    yield from of_models(config, NullModel.of(config, charge, study.events[charge], model), others)


def of_models(config: Config, null: NullModel, others: Mapping[str, bytes]) -> Iterator[Scenario]:
    """The same. others: {origin: the trained model that its null datasets take their features from}."""
    charge, searched = null.charge, vary(config, {"bdt.members": config.studies.members})
    for origin in (MEMBER, *others):
        for number in range(config.studies.null_origins):
            stream = Stream(config.seed).child("null origin", charge, origin, number).rooted()
            labels: dict[str, str | int] = {
                "charge": charge.upper(),
                "experiment": number,
                "seed": stream.seed,
                "origin": origin,
            }
            source = Null(null, number) if origin == MEMBER else OtherNull(null, number, others[origin])
            yield Scenario(f"{charge}/{origin}/{number}", charge, searched, stream, source, labels)


def from_sidebands(study: Study, charge: str) -> bytes:
    """The model of another kind, trained on the sidebands as step 3 would."""
    return trained.background(study, vary(study.config, {"estimator": study.config.studies.null_estimator}), charge)


def from_a_share(study: Study, charge: str) -> bytes:
    """The model of another kind, trained on a random share of all events in the window."""
    return share_of(study.config, charge, study.events[charge], study.background(charge).scaler, study.pool)


def share_of(config: Config, charge: str, events: Events, scaler: LogitScaler, pool: Executor) -> bytes:
    """The same of given events. scaler: how the features are prepared."""
    settings, stream = config.studies, Stream(config.seed).child("down-sampling", charge)
    few = stream.child("events").generator().random(len(events)) < settings.down_sampling
    estimator = settings.null_estimator.estimator(scaler)
    return saved.to_bytes(estimator.fit(events[few], stream.child("flows").rooted(), pool=pool))


def enough(config: Config, opposite: Events, same: Events) -> bool:
    """Whether the SR holds enough same-sign events; says where it does not.

    Events that stand in a null dataset several times are learned: copies of one are in several folds.
    """
    n_opposite, n_same = (int(config.window.in_sr(events.mass).sum()) for events in (opposite, same))
    reuse = n_opposite / n_same if n_same else np.inf
    if reuse > config.studies.same_sign_reuse:
        log.info(
            "no null datasets of same-sign events: %d SS for %d OS events in the SR, so that each would be used %.2g "
            "times where studies.same_sign_reuse = %g is allowed",
            *(n_same, n_opposite, reuse, config.studies.same_sign_reuse),
        )
    return reuse <= config.studies.same_sign_reuse


def from_same_sign(config: Config, opposite: Events, same: Events, scaler: LogitScaler) -> bytes:
    """Same-sign events at masses nearby, with weights that make their sidebands the opposite-sign ones."""
    sidebands, stream = opposite[config.window.in_sidebands(opposite.mass)], Stream(config.seed).child("same sign")
    return saved.to_bytes(reweight(SimulatedTable(same, scaler), sidebands, Reweighting(), stream))


def summarise(charge: str, outcomes: Sequence[Outcome]) -> dict[str, dict[str, OfOrigin]]:
    """{statistic: {origin: what its null datasets say}} of one charge."""
    of_origin = {
        origin: [each for each in outcomes if each.scenario.labels.get("origin") == origin] for origin in ORIGINS
    }
    own = {origin: [each for each in listed if each.scenario.charge == charge] for origin, listed in of_origin.items()}
    values = {origin: [statistics(each.rows) for each in scenarios.succeeded(listed)] for origin, listed in own.items()}
    return {
        name: {
            origin: OfOrigin.of(np.array([one[name] for one in rows]), len(own[origin]) - len(rows))
            for origin, rows in values.items()
            if len(rows) > 1
        }
        for name in map(str, STATISTICS)
    }


def content(summary: Mapping[str, Mapping[str, OfOrigin]]) -> dict[str, object]:
    """As JSON: {statistic: {origins: {origin: record}, difference}}."""
    return {
        name: {
            "origins": {origin: each.to_json() for origin, each in origins.items()},
            "difference": difference([*origins.values()]) if len(origins) > 1 else None,
        }
        for name, origins in summary.items()
    }


def report(charge: str, summary: Mapping[str, Mapping[str, OfOrigin]]) -> Iterator[str]:
    """One charge, for the screen."""
    yield f"{charge}: Z0 in null datasets, mean and standard deviation, and the fractions above 1, 2, 3 sigma"
    for name, origins in summary.items():
        rows = [
            [
                f"  {ORIGINS[origin]}",
                f"{each.mean:.2f} ± {each.error:.2f}",
                f"{each.spread:.2f}",
                ", ".join(f"{row.fraction:.3f}" for row in each.coverage),
                f"{each.n - each.n_failed} of {each.n}",
            ]
            for origin, each in origins.items()
        ]
        said = "" if len(origins) < 2 else f"; they differ by {difference([*origins.values()]):.2f} beyond their errors"
        yield f"{name}{said}"
        yield from aligned(rows, "<<<<<")
