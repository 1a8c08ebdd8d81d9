"""The mass scan: the search in windows that slide over the mass, and what the largest excess of all is worth.

The classical scan comes first: the bump hunt's test in every window, and background-only spectra through all of them.
The learned scan (`learned_windows`) does steps 3 to 6 in every window. Each window, and each batch of spectra, is a
line of the ledger in results/<name>/scan/, so that a scan that was stopped goes on where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.bumphunt.scan_windows import GRID, ScanSettings, ScanWindow, scan_windows, searched
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.statistics import bump_scan, model_choice, range_fit
from dimuon.statistics.bump_scan import BumpScan, WindowTest
from dimuon.statistics.likelihood_ratio import Discovery
from dimuon.statistics.range_fit import RangeFit, Resolutions
from dimuon.statistics.significance import sideband_fits
from dimuon.statistics.spectra import Spectra
from dimuon.studies.ledger import Ledger, settings_of, work_off
from dimuon.studies.scenarios import Row
from dimuon.studies.study import Study

NAME = "mass scan"
BATCH = 500  # toys in one task: fits of fewer at once take longer each
PEAK = 5.0  # local Z0 of a window, above which its SR is no background for the fit of the whole range
UNDESCRIBED = 1e-3  # p-value of a sideband fit, below which its window is not quoted
MAY_CHANGE = (
    *("scan.methods", "scan.mode", "scan.tuning_epochs", "scan.toys", "scan.nulls"),
    *("studies.members", "studies.retrain_flows"),
)


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
                for n_bins_sr in settings.binnings_of(each)
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
        f"{charge}/toys/{len(kept)} windows/{number}": (_toys_record, scan, expected, stream.child("toys", number))
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
