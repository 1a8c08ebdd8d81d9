"""The mass scan: the search in windows that slide over the mass, and what the largest excess of all is worth.

The classical scan comes first: the bump hunt's test in every window, and background-only spectra through all of them.
The learned scan does steps 3 to 6 in every window. Each window, and each batch of spectra, is a line of the ledger in
results/<name>/scan/, so that a scan that was stopped goes on where it was.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.background import saved
from dimuon.background.protocol import BackgroundModel
from dimuon.bumphunt import learned_scan, steps
from dimuon.bumphunt.scan_windows import GRID, ScanSettings, ScanWindow, scan_windows, searched
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.statistics import bump_scan, model_choice, range_fit, sculpting
from dimuon.statistics.bump_scan import BumpScan, WindowTest
from dimuon.statistics.likelihood_ratio import Discovery
from dimuon.statistics.range_fit import RangeFit, Resolutions
from dimuon.statistics.significance import sideband_fits
from dimuon.statistics.spectra import Spectra
from dimuon.statistics.working_points import rates
from dimuon.studies import scenarios
from dimuon.studies.ledger import Ledger, settings_of, work_off
from dimuon.studies.scenarios import Outcome, Row, Scenario, Source
from dimuon.studies.study import Study
from dimuon.workflow.checkpoint import FileCheckpoint
from dimuon.workflow.products import SHARED_FLOWS

NAME = "mass scan"
BATCH = 100  # toys in one task
PEAK = 5.0  # local Z0 of a window, above which its SR is no background for the fit of the whole range
UNDESCRIBED = 1e-3  # p-value of a sideband fit, below which its window is not quoted
MAY_CHANGE = ("scan.methods", "scan.toys", "scan.nulls", "studies.members")


class MassScan(Study):
    """A mass scan at work on one analysis; its inputs are the events alone."""

    @property
    def settings(self) -> ScanSettings:
        """The section `scan`; `UserError` where there is none."""
        if self.config.scan is None:
            raise UserError(f"{self.run.config_path}: the section scan is missing; see docs/scan.md")
        return self.config.scan

    @property
    def inputs(self) -> list[Path]:
        """The tables of events."""
        return self.files

    def ledger(self, leave_out: Sequence[str] = ()) -> Ledger:
        """The finished windows. Errors: as of `Study.ledger`."""
        for path in self.inputs:
            self.run.require(path)
        may_change = [*MAY_CHANGE, *leave_out]
        return Ledger(
            self.run.results / "scan" / "windows.ledger.jsonl",
            settings_of(self.run, self.inputs, may_change),
            may_change,
        )

    def masses(self, charge: str) -> FloatArray:
        """(n_events,) of one charge."""
        return self.dimuons.events(charge, ()).mass

    def whole(self, charge: str) -> Events:
        """The events of one charge in the range of the scan, with their features."""
        low, high = self.settings.range
        events = self.dimuons.events(charge)
        return events[(events.mass >= low) & (events.mass <= high)]


@dataclass(frozen=True, eq=False)
class ClassicalScan:
    """The classical scan of one charge.

    windows: all. tests: {label: one for each binning} of those that are searched. spectra: {label: Row of lists}, with
    the first binning. background: of the whole range. toys: (n, n_searched) signed Z0 without a signal.
    """

    charge: str
    windows: Sequence[ScanWindow]
    tests: Mapping[str, Sequence[WindowTest]]
    spectra: Mapping[str, Row]
    background: RangeFit
    toys: FloatArray

    def largest(self, label: str) -> WindowTest:
        """The test of the binning with the largest Z0."""
        return max(self.tests[label], key=lambda test: test.outcome.z_signed)


def bump_scan_of(settings: ScanSettings, windows: Sequence[ScanWindow]) -> BumpScan:
    """The classical tests of the windows that are searched."""
    return BumpScan(
        tuple(
            tuple(
                model_choice.make_choice(
                    settings.choice, each.window.binning(n_bins_sr), settings.family, settings.degree, 0.0
                )
                for n_bins_sr in settings.binnings
            )
            for each in searched(windows)
        )
    )


def classical(study: MassScan, charge: str) -> ClassicalScan:
    """The classical scan of one charge, with its toys."""
    settings, mass, stream = study.settings, study.masses(charge), Stream(study.config.seed).child("mass scan", charge)
    windows = scan_windows(settings, mass)
    scan, kept = bump_scan_of(settings, windows), searched(windows)
    ledger, label = study.ledger(), f"{NAME}, {charge}"
    of_windows = {
        f"{charge}/classical/{each.label}": (_window_record, mass[each.window.in_window(mass)], models)
        for each, models in zip(kept, scan.models, strict=True)
    }
    records = work_off(ledger, of_windows, study.pool, f"{label}, windows")
    tests, spectra = dict[str, list[WindowTest]](), dict[str, Row]()
    for each in kept:
        record = records[f"{charge}/classical/{each.label}"]
        if "failed" in record:
            windows = [replace(old, skipped=record["failed"]) if old == each else old for old in windows]
            continue
        tests[each.label] = [_read_test(row) for row in record["tests"]]
        spectra[each.label] = record["spectrum"]
    scan, kept = bump_scan_of(settings, windows), searched(windows)
    peaks = [
        (each.window.sr_low, each.window.sr_high)
        for each in kept
        if max(test.outcome.z0 for test in tests[each.label]) > PEAK
    ]
    known = [(low, high) for low, high in settings.known.values()]
    rng = stream.child("goodness").generator()
    background = range_fit.fit_range(mass, resolutions(settings), [*known, *peaks], rng)
    expected, n_batches = background.expected(scan.edges), -(-settings.toys // BATCH)
    of_toys = {
        f"{charge}/toys/{number}": (_toys_record, scan, expected, stream.child("toys", number))
        for number in range(n_batches)
    }
    toys = work_off(ledger, of_toys, study.pool, f"{label}, toys")
    z = np.array([row for record in toys.values() for row in record.get("z", ())], dtype=float)
    return ClassicalScan(charge, windows, tests, spectra, background, z.reshape(-1, len(kept))[: settings.toys])


def resolutions(settings: ScanSettings) -> Resolutions:
    """The coordinate of the range in which all windows are alike."""
    low, high = settings.range
    grid = np.linspace(low, high, GRID)
    return Resolutions.of(grid, settings.resolution_at(grid))


def _window_record(mass: FloatArray, models: Sequence[Any]) -> dict[str, Any]:
    """What the ledger keeps of the classical tests in one window, in a worker."""
    [tests] = BumpScan((tuple(models),)).tests(mass)
    bins = models[0].bins
    [fit] = sideband_fits(Spectra.of(mass, bins), models[0])
    spectrum = {
        "bin_low": bins.edges[:-1].tolist(),
        "bin_high": bins.edges[1:].tolist(),
        "n_obs": bins.counts(mass).tolist(),
        "n_bkg": fit.expected(bins.edges).tolist(),
        "n_bkg_err": fit.expected_err(bins.edges).tolist(),
    }
    rows = [
        {"n_bins_sr": test.n_bins_sr, "family": test.family, "degree": test.degree, "outcome": test.outcome.to_json()}
        for test in tests
    ]
    return {"tests": rows, "spectrum": spectrum}


def _read_test(row: Mapping[str, Any]) -> WindowTest:
    outcome = Discovery.from_json(row["outcome"])
    return WindowTest(row["n_bins_sr"], row["family"], row["degree"], outcome)


def _toys_record(scan: BumpScan, expected: FloatArray, stream: Stream) -> dict[str, Any]:
    """What the ledger keeps of a batch of toys, in a worker; null where a fit failed."""
    z = bump_scan.toys(scan, expected, BATCH, stream.generator())
    return {"z": [[None if np.isnan(value) else round(value, 5) for value in row] for row in z.tolist()]}


# the learned scan


@dataclass(frozen=True)
class InWindow(Source):
    """The data in one window of the scan.

    Filled in by `prepared`: observed, and shared, the bytes of the model of all windows where the mode has one.
    """

    placed: ScanWindow
    observed: Events | None = None
    shared: bytes | None = None

    def prepared(self, study: Study, scenario: Scenario) -> "InWindow":
        """With the events in the window; the model of all windows is trained where it is not kept."""
        assert isinstance(study, MassScan)
        events = study.whole(scenario.charge)
        observed = events[self.placed.window.in_window(events.mass)]
        return replace(self, observed=observed, shared=shared_model(study, scenario.charge))

    def events(self, scenario: Scenario) -> Events:
        """The data. ValueError before `prepared`."""
        if self.observed is None:
            raise ValueError(f"{scenario.key}: the data were not read")
        return self.observed

    def model(self, scenario: Scenario, events: Events) -> BackgroundModel:
        """The background model of the window, by the mode of the scan."""
        if self.shared is not None:
            return learned_scan.put_across(scenario.config, events, self.placed, saved.from_bytes(self.shared))
        return learned_scan.train_window(scenario.config, scenario.charge, events, self.placed, scenario.stream)


def shared_model(study: MassScan, charge: str) -> bytes | None:
    """The model of all windows, as bytes, trained where it is not kept; None where the mode has none."""
    if learned_scan.shared_estimator(study.config.estimator, study.settings.mode) is None:
        return None
    path = study.run.path(SHARED_FLOWS, charge=charge)
    if not path.exists() or study.run.stale(path):
        stream = Stream(study.config.seed).child("mass scan", charge, "shared")
        checkpoint, events = FileCheckpoint(path.with_suffix(".checkpoint")), study.whole(charge)
        model = learned_scan.train_shared(study.config, charge, events, stream, study.pool, checkpoint)
        study.run.write_bytes(path, saved.to_bytes(model), study.files)
    return path.read_bytes()


def learned_scenarios(study: MassScan, charge: str, windows: Sequence[ScanWindow]) -> list[Scenario]:
    """The learned search in each window that is searched."""
    stream = Stream(study.config.seed).child("mass scan", charge, "learned")
    return [
        Scenario(
            f"{charge}/learned/{study.settings.mode}/{each.label}",
            charge,
            study.config,
            stream.child(each.label).rooted(),
            InWindow(each),
            {"charge": charge.upper(), "window": each.label},
        )
        for each in searched(windows)
    ]


def learned(study: MassScan, charge: str, windows: Sequence[ScanWindow]) -> list[Outcome]:
    """The learned scan of one charge."""
    return scenarios.run(study, learned_scenarios(study, charge, windows), read_learned)


def read_learned(scenario: Scenario) -> list[Row]:
    """The reading of a window: every significance of steps 4 to 6, and after them one row "window" with how far the
    background can be trusted there."""
    source = scenario.source
    assert isinstance(source, InWindow)
    began, events = time.perf_counter(), source.events(scenario)
    model = source.model(scenario, events)
    trained = time.perf_counter()
    found = learned_scan.search_window(scenario.config, scenario.charge, events, source.placed, model, scenario.stream)
    ended = time.perf_counter()
    verdict = {
        "variable": "window",
        **closure_of(scenario, events, source.placed, model),
        **sculpting_of(scenario, events, source.placed, found.score),
        "train_s": trained - began,
        "search_s": ended - trained,
    }
    return [*steps.headline(found), verdict]


def closure_of(scenario: Scenario, events: Events, placed: ScanWindow, model: BackgroundModel) -> Row:
    """AUC of a classifier that tells real from sampled events of the sidebands, and its error."""
    record = learned_scan.closure_of(scenario.config, events, placed, model, scenario.stream.child("closure"))
    return {"closure_auc": record.auc, "closure_auc_err": record.auc_err, "closure_auc_with_mass": record.auc_with_mass}


def sculpting_of(scenario: Scenario, events: Events, placed: ScanWindow, score: FloatArray) -> Row:
    """How many cuts shape the mass in the sidebands, of how many, and the distance correlation of score and mass."""
    searched_as = learned_scan.window_config(scenario.config, placed)
    settings, mass = searched_as.significance, events.mass
    bins, fprs = placed.window.binning(settings.n_bins_sr), rates(settings.n_working_points, settings.fpr_min)
    rng = scenario.stream.child("sculpting").generator()
    record, _ = sculpting.report(mass, score, fprs, bins, settings.degree, rng)
    flagged = [point["sculpted"] for point in record["working_points"]]
    return {
        "n_sculpted": int(sum(flagged)),
        "n_cuts": len(flagged),
        "p_knows_mass": record["distance_correlation"]["p_value"],
    }
