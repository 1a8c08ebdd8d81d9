"""Scan the mass for a bump that nobody pointed at: the whole search in windows that slide over it.

The section `scan` of the configuration says which windows and which methods. A scan that is stopped goes on where it
was. Writes under results/<name>/scan/.
"""

import argparse
import logging
import time

import pandas as pd

from dimuon.bumphunt.scan_windows import scan_windows
from dimuon.random import Stream
from dimuon.screen import aligned
from dimuon.studies import learned_windows, mass_scan, scan_nulls, scan_results, scan_tables
from dimuon.studies.mass_scan import MassScan
from dimuon.studies.scan_results import Summary
from dimuon.workflow import cli, config, executor, lock, machine, messages
from dimuon.workflow.products import SCAN_MAKER
from dimuon.workflow.provenance import Run

log = logging.getLogger("dimuon")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands after `scan`."""
    parser.add_argument("config", metavar="CONFIG.yaml", help="the analysis, e.g. configs/scan_2010.yaml")
    parser.add_argument("--plan", action="store_true", help="list the windows and do nothing")


def main(arguments: argparse.Namespace) -> None:
    """Plan, scan, show and write."""
    start, run = time.perf_counter(), Run(config.load(arguments.config), SCAN_MAKER.command, arguments.config)
    cli.say_folder(arguments.config)
    if arguments.plan:
        say_plan(run)
        return
    machine.require_folder(run.results)
    with lock.locked(run.results / "scan", "scan", "scan"), messages.log_file(run.results, "scan"):
        with executor.of(run.config.execution) as pool, cli.explained(section="scan", what=arguments.config):
            log.info("%s", scan_results.report(do(MassScan(run, mass_scan.NAME, pool))))
        log.info("scan: done in %.1f s, wrote %s", time.perf_counter() - start, run.summary())


def say_plan(run: Run) -> None:
    """The windows of each charge, in words, those that are skipped with the reason."""
    study = MassScan(run, mass_scan.NAME, executor.AtOnce())
    for charge in study.dimuons.charges:
        windows = scan_windows(study.settings, study.masses(charge))
        rows = [[each.label, ", ".join(each.known), each.skipped or "is searched"] for each in windows]
        n_searched = sum(each.skipped is None for each in windows)
        log.info("%s: %d of %d windows are searched", charge, n_searched, len(windows))
        log.info("%s", "\n".join(aligned([["SR", "known", ""], *rows], "<<<")))


def do(study: MassScan) -> dict[str, Summary]:
    """The scan of every charge: the results, written and in short."""
    methods, summary, windows, significances, spectra = study.settings.methods, {}, [], [], []
    for charge in study.dimuons.charges:
        scan = mass_scan.classical(study, charge)
        learned = learned_windows.learned(study, charge, scan.windows) if "learned" in methods else []
        nulls = None
        if study.settings.nulls and learned:
            nulls = scan_nulls.results(scan_nulls.nulls(study, scan))
        rng = Stream(study.config.seed).child("mass scan", charge, "uniformity").generator()
        summary[charge] = scan_results.summarise(scan, learned, nulls, rng)
        windows.append(scan_tables.windows_table(scan, learned))
        significances.append(scan_tables.significances_table(scan, learned))
        spectra.append(scan_tables.spectra_table(scan))
    for product, frames in (
        (scan_tables.WINDOWS, windows),
        (scan_tables.SIGNIFICANCES, significances),
        (scan_tables.SPECTRA, spectra),
    ):
        study.write_table(product, pd.concat(frames, ignore_index=True))
    study.write_json(scan_results.SCAN, {charge: part.to_json() for charge, part in summary.items()})
    return summary
