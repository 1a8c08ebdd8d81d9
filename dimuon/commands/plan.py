"""Say what an analysis will cost before anything is done: time, memory, disk and network of each step.

A calibration of about 20 s measures this machine with the settings of the analysis, on events like its own; it is kept
for the next time (~/.cache/dimuon). What is already done and fresh costs nothing (--all: plan it nevertheless).
"""

import argparse
import logging
import re
from dataclasses import replace

import numpy as np

from dimuon.bumphunt import learned_scan
from dimuon.bumphunt.scan_windows import ScanSettings, scan_windows, searched
from dimuon.commands.needed import Analysis
from dimuon.commands.needed import plan as needed
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.methods.kinds.cathode import Cathode
from dimuon.methods.protocol import METHODS
from dimuon.planning.costs import Costs, studies
from dimuon.planning.sizes import sizes
from dimuon.planning.speeds import speeds
from dimuon.planning.work import Work
from dimuon.screen import aligned
from dimuon.studies.bench.matrix import Bench, cells
from dimuon.studies.bench.products import CELLS
from dimuon.studies.learned_windows import JOINT
from dimuon.studies.scan_results import SCAN
from dimuon.workflow import cli, machine, products
from dimuon.workflow.config import Config
from dimuon.workflow.executor import AtOnce
from dimuon.workflow.products import Maker, Product

log = logging.getLogger("dimuon")

CLASSICAL_S = 6e-5  # s of a window and binning in a spectrum without a signal: 1,000 in 60 windows take 3.4 s
JOINT_GAIN = 3.0  # times that flows of several windows are trained faster in one stack
STUDIES = ("pseudoexperiments", "injection", "controls", "variations")  # whose searches are counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands after `plan`."""
    parser.add_argument("config", metavar="CONFIG.yaml", help="the analysis, e.g. configs/demo.yaml")
    parser.add_argument("--workers", nargs="+", type=int, metavar="N", help="numbers of workers, beside this machine's")
    parser.add_argument("--all", action="store_true", help="all steps, as if nothing were done yet")
    parser.add_argument("--study", nargs="+", default=[], choices=STUDIES, help="studies to be planned, too")
    parser.add_argument("--nulls", type=int, metavar="N", help="null datasets through the whole chain, so many in all")
    parser.add_argument(
        "--windows", metavar="WxFxN", help="a scan of W windows x F feature sets x N null datasets: 60x9x1000"
    )
    parser.add_argument("--again", action="store_true", help="measure this machine again")


def main(arguments: argparse.Namespace) -> None:
    """Plan and print."""
    analysis = Analysis.load(arguments.config)
    cli.say_folder(arguments.config)
    for line in report(analysis, works(analysis, arguments), workers_of(analysis, arguments)):
        log.info("%s", line)


def workers_of(analysis: Analysis, arguments: argparse.Namespace) -> list[int]:
    """The numbers of workers: those of this machine, then those asked for. `UserError` for less than one."""
    if any(n < 1 for n in arguments.workers or ()):
        raise UserError(f"--workers {min(arguments.workers)}: at least one worker is needed")
    here = analysis.config.execution.workers or machine.cores()
    return list(dict.fromkeys([here, *(arguments.workers or ())]))


def works(analysis: Analysis, arguments: argparse.Namespace) -> list[Work]:
    """All that is to be done, in its order."""
    steps = [each for each in needed(analysis, list(analysis.steps)) if arguments.all or each.reason]
    asked = bool(arguments.study or arguments.nulls or arguments.windows)
    scan = analysis.config.scan if arguments.all or _is_due(analysis, products.SCAN_MAKER, SCAN) else None
    with_bench = "bench" in analysis.config.model_fields_set and (
        arguments.all or _is_due(analysis, products.BENCH_MAKER, CELLS)
    )
    if not steps and not asked and scan is None and not with_bench:
        return []
    found, events = sizes(analysis.run(products.STEP_7))
    measured, place = speeds(analysis.config, events, arguments.again)
    log.info("sizes: %s; speeds: measured in %.0f s (%s)", found.how, measured.seconds, place)
    costs = Costs(analysis.config, found, measured)
    planned = [costs.step(each.step, each.reason or "asked for") for each in steps]
    if scan is not None:
        planned.append(scan_work(costs, scan, events))
    if with_bench:
        planned.append(bench_work(costs, Bench(analysis.run(products.BENCH_MAKER), "bench", AtOnce())))
    planned += studies(costs, arguments.study)
    members = analysis.config.studies.members
    if arguments.nulls:
        planned.append(costs.nulls("null datasets", arguments.nulls, members, f"{arguments.nulls:,} searches"))
    if arguments.windows:
        n_windows, n_sets, n_nulls = _three(arguments.windows)
        n, fits = n_windows * n_sets * (1 + n_nulls), n_windows * n_sets
        planned.append(costs.nulls("scan", n, members, f"{n:,} searches, {fits:,} trainings", fits))
    return planned


def _is_due(analysis: Analysis, maker: Maker, product: Product) -> bool:
    """Whether a command's table was not made, or not so."""
    run = analysis.run(maker)
    path = run.path(product)
    return not path.exists() or run.stale(path) is not None


def scan_work(costs: Costs, scan: ScanSettings, events: Events) -> Work:
    """The mass scan. events: like those of a charge.

    A window costs what its share of the events does; null datasets are searched in all windows.
    """
    config, windows = costs.config, searched(scan_windows(scan, events.mass))
    shares = [float(np.mean(each.window.in_window(events.mass))) for each in windows]
    n, charges = len(windows), costs.charges
    cpu = len(charges) * n * len(scan.binnings) * scan.toys * CLASSICAL_S
    tasks, longest, said = len(charges) * n, 0.0, [f"{n} windows of {' and '.join(charges)}, {scan.toys:,} toys"]
    if "learned" in scan.methods:
        kind, share = config.estimator, sum(shares)
        epoch_s = {charge: costs.sizes.charges[charge] * costs.speeds.fit_s for charge in charges}
        if scan.mode == "retrain":
            joint = learned_scan.can_be_joint(kind)
            fits, parts = n, -(-n // JOINT) if joint else n
            epochs = share * costs.epochs / (JOINT_GAIN if joint else 1.0)
        else:
            fits, parts = 1, costs.n_stacks
            epochs = costs.epochs + (share * scan.tuning_epochs if scan.mode == "fine_tune" else 0.0)
        searches = {charge: share * costs.chain_s(charge, config.bdt.members) for charge in charges}
        cpu += sum(epoch_s[charge] * epochs + searches[charge] for charge in charges)
        longest = max(epoch_s[charge] * epochs / parts for charge in charges)
        said.append(f"learned ({scan.mode}): {len(charges) * n:,} searches, {len(charges) * fits:,} trainings")
        if scan.nulls:
            null_s = {charge: share * costs.chain_s(charge, config.studies.members) for charge in charges}
            cpu += sum(scan.nulls * null_s[charge] + epoch_s[charge] * costs.epochs for charge in charges)
            tasks, longest = tasks + len(charges) * scan.nulls, max(longest, *null_s.values())
            said.append(f"{len(charges) * scan.nulls:,} null datasets: {len(charges) * scan.nulls * n:,} searches")
    return Work(
        "scan",
        "; ".join(said),
        serial_s=0.0,
        parallel_s=cpu,
        n_tasks=tasks,
        longest_s=longest,
        start_s=costs.speeds.start_s,
        driver_mb=costs.speeds.program_mb + tasks * 0.02,
        worker_mb=costs.speeds.program_mb,
        disk_mb=tasks * 0.02,
        shared_mb=1.0,
        task_mb=0.03,
    )


def bench_work(costs: Costs, bench: Bench) -> Work:
    """All of the bench's matrix: a search for each cell and null dataset, a training for each flow of a sample."""
    config, listed, found = bench.config, list(cells(bench)), costs.sizes
    samples, names = {each.key.rpartition("/")[0] for each in listed}, {str(each.labels["method"]) for each in listed}
    largest = max(found.charges, key=lambda charge: found.charges[charge])
    share = found.in_sr[largest] / found.charges[largest]
    n_events = max([config.bench.events] * ("simulated" in config.bench.samples) + [*found.charges.values()])
    own = replace(found, charges={"bench": n_events}, in_sr={"bench": round(share * n_events)})
    n_nulls = config.bench.nulls * sum(each.labels["n_injected"] == 0 for each in listed)
    fits = len(samples) * (1 + sum(trainings(name, config) for name in names))  # one is the configured flow's
    reason = f"{len(listed):,} cells of {len(samples):,} samples, {n_nulls:,} null datasets, {fits:,} trainings"
    of_bench = Costs(config, own, costs.speeds)
    return of_bench.nulls("bench", len(listed) + n_nulls, config.bdt.members, reason, fits)


def trainings(name: str, config: Config) -> int:
    """How many flows a method of the bench trains beside the configured one, each taken to be as long as that."""
    method = METHODS[name]
    if isinstance(method, Cathode):
        return int(bool(method.kind))
    return config.bdt.folds if name == "anode" else 0


def _three(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
    if match is None:
        raise UserError(
            f"--windows {text}: three numbers are needed, windows x feature sets x null datasets: 60x9x1000"
        )
    return int(match[1]), int(match[2]), int(match[3])


def report(analysis: Analysis, planned: list[Work], workers: list[int]) -> list[str]:
    """The plan in lines for the screen."""
    if not planned:
        return [f"{analysis.path}: all is up to date; --all plans it nevertheless"]
    header = [
        "",
        *(f"{n} workers" if n > 1 else "1 worker" for n in workers),
        "memory",
        "disk",
        "network",
        "useful",
        "",
    ]
    rows = [header]
    most = max(workers)
    for each in planned:
        times = [duration(each.wall(n)) for n in workers]
        sizes = [
            size(each.memory(workers[0])),
            size(each.disk_mb),
            size(each.network(most) if most > 1 else each.read_mb),
        ]
        rows.append([each.name, *times, *sizes, f"{each.useful_workers:,}", each.reason])
    totals = [sum(each.wall(n) for each in planned) for n in workers]
    sums = [max(each.memory(workers[0]) for each in planned), sum(each.disk_mb for each in planned)]
    read = sum(each.network(most) for each in planned)
    rows.append(["together", *map(duration, totals), *map(size, sums), size(read), "", ""])
    lines = aligned(rows, "<" + ">" * (len(header) - 2) + "<")
    for n in workers:
        pole = max(planned, key=lambda each: each.wall(n))
        lines.append(f"longest pole with {n:,} workers: {pole.name}, {duration(pole.wall(n))}")
    lines.append(
        f"memory: of all processes with {workers[0]} workers; network: with {most:,} workers on other machines, and "
        "what is read; useful: workers beyond which it is hardly faster"
    )
    return lines


def duration(seconds: float) -> str:
    """In words: "40 s", "12 min", "3.5 h", "12 days"."""
    for limit, unit, name in ((100, 1, "s"), (5400, 60, "min"), (3 * 86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}" if unit == 3600 else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:,.0f} days"


def size(megabytes: float) -> str:
    """In words: "3 MB", "1.2 GB"."""
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.3g} GB"
