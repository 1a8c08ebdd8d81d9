"""Null datasets of the mass scan: background alone, over the whole range, through all windows and methods at once.

The masses follow the background of the whole range, known resonances left out; the features come from one member of a
background model of the whole range, trained beside the known resonances. Every window is searched with the other
members, as `dimuon.studies.nulls` does; what distinguishes the models of the mode of the scan from these, no null
dataset shows. With `studies.retrain_flows` each null dataset has trainings of its own, by the mode, as the data have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dimuon.background import saved
from dimuon.background.mass_model import sample_data, sample_masses
from dimuon.background.protocol import BackgroundModel
from dimuon.bumphunt import learned_scan
from dimuon.bumphunt.result import Statistic, shown_likelihood
from dimuon.bumphunt.scan_windows import ScanWindow, searched
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.statistics.range_fit import RangeFit
from dimuon.studies import scenarios
from dimuon.studies.mass_scan import ClassicalScan, MassScan, bump_scan_of
from dimuon.studies.scenarios import Outcome, Row, Scenario, Source, vary
from dimuon.workflow.config import Config
from dimuon.workflow.executor import AtOnce
from dimuon.workflow.products import RANGE_FLOWS

TOO_FEW = (
    "estimator.members = 1: null datasets take their features from one member and are searched with the others; at "
    "least 2 are needed, or scan.nulls: 0"
)


@dataclass(frozen=True)
class NullScan(Source):
    """Null dataset `number` of a scan. fit: of the masses. trained: bytes of a model of the whole range."""

    windows: tuple[ScanWindow, ...]
    fit: RangeFit
    trained: bytes
    number: int

    def events(self, scenario: Scenario) -> Events:
        """Background alone over the whole range."""
        low, high = self.fit.axis.mass[0], self.fit.axis.mass[-1]
        rng = scenario.stream.child("null").generator()
        n_events = rng.poisson(self.fit.expected(self.fit.axis.edges()).sum())
        mass = sample_masses(self.fit, low, high, n_events, rng)
        whole = saved.from_bytes(self.trained)
        truth = whole.with_members([self.number % whole.members])
        return sample_data(truth, mass, scenario.stream.child("null features").rooted())

    def under(self, placed: ScanWindow, scenario: Scenario, events: Events, model: BackgroundModel) -> BackgroundModel:
        """The model of one window. model: that of all windows."""
        config = scenario.config
        if not config.studies.retrain_flows:
            return model
        stream = scenario.stream.child("trained", placed.label)
        if _has_shared(config):
            return learned_scan.put_under(config, events, placed, model, stream)
        return learned_scan.train_window(config, scenario.charge, events, placed, stream)

    def model(self, scenario: Scenario, events: Events) -> BackgroundModel:
        """The other members; where flows are retrained, the model of all windows that the mode has, if it has one."""
        config = scenario.config
        if config.studies.retrain_flows and _has_shared(config):
            stream = scenario.stream.child("trained").rooted()
            return learned_scan.train_shared(config, scenario.charge, events, stream, AtOnce())
        whole = saved.from_bytes(self.trained)
        truth = self.number % whole.members
        return whole.with_members([member for member in range(whole.members) if member != truth])


def _has_shared(config: Config) -> bool:
    """Whether the mode of the scan has one model for all windows."""
    assert config.scan is not None
    return learned_scan.shared_estimator(config.estimator, config.scan.mode) is not None


def range_model(study: MassScan, charge: str) -> bytes:
    """The background model of the whole range, as bytes; trained where it is not kept. Errors: as of step 3."""
    path = study.run.path(RANGE_FLOWS, charge=charge)
    if not path.exists() or study.run.stale(path):
        stream = Stream(study.config.seed).child("mass scan", charge, "whole range")
        model = learned_scan.train_range(study.config, charge, study.whole(charge), stream, study.pool)
        study.run.write_bytes(path, saved.to_bytes(model), study.files)
    return path.read_bytes()


def nulls(study: MassScan, scan: ClassicalScan) -> list[Outcome]:
    """The null datasets of one charge, searched. Raises `UserError` for a model of a single member."""
    trained = range_model(study, scan.charge)
    if saved.from_bytes(trained).members < 2:
        raise UserError(TOO_FEW)
    charge, windows = scan.charge, tuple(searched(scan.windows))
    fewer = vary(study.config, {"bdt.members": study.config.studies.members})
    stream = Stream(study.config.seed).child("mass scan", charge, "null")
    trained_as = f"/retrained {study.settings.mode}" if study.config.studies.retrain_flows else ""
    listed = [
        Scenario(
            f"{charge}/null{trained_as}/{study.config.studies.members}/{number}",
            charge,
            fewer,
            stream.child(number).rooted(),
            NullScan(windows, scan.background, trained, number),
        )
        for number in range(study.settings.nulls)
    ]
    return scenarios.run(study, listed, read_null)


def read_null(scenario: Scenario) -> list[Row]:
    """The reading: one row a window with the Z0 of the classical test, of every cut and of the likelihood."""
    source, config = scenario.source, scenario.config
    assert isinstance(source, NullScan)
    assert config.scan is not None
    events = source.events(scenario)
    model, rows = source.model(scenario, events), list[Row]()
    for placed, tests in zip(source.windows, bump_scan_of(config.scan, source.windows).tests(events.mass), strict=True):
        stream = scenario.stream.child(placed.label).rooted()
        own = source.under(placed, scenario, events, model)
        found = learned_scan.search_window(config, scenario.charge, events, placed, own, stream)
        headlines = found.headlines()
        likelihood = shown_likelihood([row.variable for row in headlines], config.significance.weight_scales)
        rows.append({
            "window": placed.label,
            "classical": max(test.outcome.z_signed for test in tests),
            "cuts": [row.z0 for row in headlines if row.variable == Statistic.WORKING_POINT],
            "likelihood": next((row.z0 for row in headlines if row.variable == likelihood), None) or 0.0,
        })  # fmt: skip
    return rows


@dataclass(frozen=True)
class NullResults:
    """What the null datasets that were searched say. n_failed: that were not.

    classical: (n, n_windows) signed Z0. likelihood: (n, n_windows) Z0. cuts: (n, n_windows, n_cuts) Z0.
    """

    classical: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    likelihood: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    cuts: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    n_failed: int


def results(outcomes: Sequence[Outcome]) -> NullResults:
    """The Z0 of the null datasets."""
    done = scenarios.succeeded(outcomes)
    if not done:
        raise UserError(f"every null dataset failed, the first with: {outcomes[0].failed}")

    def of(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return np.array([[row[name] for row in each.rows] for each in done], dtype=float)

    return NullResults(of("classical"), of("likelihood"), of("cuts"), len(outcomes) - len(done))
