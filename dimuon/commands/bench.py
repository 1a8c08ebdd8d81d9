"""Every method of the field on the same events, folds and statistics: which gains how much, what it costs.

The section `bench` of the configuration says which methods, feature sets, samples and seeds; each combination is a
cell. Cells that are done are kept: what is stopped goes on where it was, and more may be asked for later. Of the seven
steps only the first two are needed, and none where all samples are simulated (docs/bench.md).

Writes results/<name>/bench/: cells.parquet, curves.parquet, costs.parquet, nulls.parquet, bench.json.
"""

import argparse
import logging
import time

from dimuon.methods.protocol import METHODS
from dimuon.screen import aligned
from dimuon.studies.bench import products, tables
from dimuon.studies.bench.matrix import Bench, run
from dimuon.studies.bench.summary import BenchSummary, summarise
from dimuon.workflow import cli, config, executor, lock, machine, messages, provenance
from dimuon.workflow.products import BENCH_MAKER

log = logging.getLogger("dimuon")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands after `bench`."""
    parser.epilog = "\n".join(f"{name:<24}{method.title} ({method.paper})" for name, method in METHODS.items())
    parser.add_argument("config", metavar="CONFIG.yaml", help="the analysis, e.g. configs/bench.yaml")
    parser.add_argument("--small", action="store_true", help="one sample, one feature set and two seeds of the matrix")


def main(arguments: argparse.Namespace) -> None:
    """Do it."""
    start = time.perf_counter()
    current = provenance.Run(config.load(arguments.config), BENCH_MAKER.command, arguments.config)
    cli.say_folder(arguments.config)
    machine.require_folder(current.results)
    with (
        lock.locked(current.results / "bench", "bench"),
        messages.log_file(current.results, "bench"),
        executor.of(current.config.execution, ["torch", "xgboost"]) as pool,
    ):
        bench = Bench(current, "bench", pool)
        bench.small = arguments.small
        summary = written(bench)
        for line in report(summary):
            log.info("%s", line)
        log.info("bench: done in %.1f s, wrote %s", time.perf_counter() - start, current.summary())


def written(bench: Bench) -> BenchSummary:
    """Do the cells and write the files."""
    outcomes = run(bench)
    origin = "simulated" if "simulated" in bench.config.bench.samples else None
    nulls = tables.nulls(outcomes)
    summary = summarise(outcomes, nulls)
    bench.write_table(products.CELLS, tables.cells(outcomes), origin)
    bench.write_table(products.CURVES, tables.curves(outcomes), origin)
    bench.write_table(products.COSTS, tables.costs(outcomes), origin)
    if len(nulls):
        bench.write_table(products.NULLS, nulls, origin)
    bench.write_json(products.SUMMARY, summary.to_json(), origin)
    return summary


def report(summary: BenchSummary) -> list[str]:
    """The ranking as lines for the screen."""
    rows = [["sample", "features", "signal", "method", "cells", "improvement", "Z0 10 %", "Z0 1 %", "Z0 best"]]
    for each in summary.ranking:
        bands = [each.bands.get(name) for name in ("improvement_max", "z0_loose", "z0_tight", "z0_max")]
        numbers = ["-" if band is None else f"{band.median:.2f}" for band in bands]
        sculpts = " (!)" if each.n_sculpted else ""
        rows.append([each.sample, each.features, str(each.n_injected), each.title + sculpts, str(each.n), *numbers])
    lines = aligned(rows, "<<><>>>>>")
    if any(each.n_sculpted for each in summary.ranking):
        lines.append("(!) a fixed cut shapes the mass in the sidebands of some sample")
    return [*lines, *summary.words, f"{summary.n_cells} cells, {summary.n_failed} failed"]
