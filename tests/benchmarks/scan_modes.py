"""The modes of the learned scan on the same windows: closure, significance and time.

python -m tests.benchmarks.scan_modes [--data data/demo/dimuons.parquet] [--epochs 400] [--only 1 4 7 10] [MODE ...]

The sample is that of `configs/demo.yaml` after step 2 (SIMULATED, with an Upsilon), the estimator and the classifiers
are those of `configs/upsilon_published_flow.yaml`. Two processes, as a scan on two cores. For every window and mode

- `sidebands`: AUC of a classifier that tells real from sampled events of both sidebands (0.5 is perfect);
- `sr`: the same in the SR of the sample without a signal, SS; a window that `retrain` never saw, and that the other
  modes saw and are to have taken out: that they close better there need not be to their credit;
- `z0`: of steps 4 to 6 without a cut and at the best of the working points; of the OS sample, whose signal is in one.

Times are of training, of the search (steps 4 to 6), and of the closure; the figures leave the closure out. On a busy
machine the wall time says little: the seconds of CPU, shared by two, are printed beside it. Figures:
`scan_12_windows_s` (retrain), `scan_fast_s` (the faster of the modes whose mean sideband AUC is at most 0.01 worse),
and the mean differences of the AUC to that of retrain. With `--share 10` a tenth of the epochs is trained and two
windows are searched, side by side, and the times are scaled up: a minute or two instead of twenty, and no closure.
"""

import argparse
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dimuon.background import closure, mass_model, saved
from dimuon.bumphunt import learned_scan
from dimuon.bumphunt.result import Statistic
from dimuon.bumphunt.scan_windows import ScanSettings, ScanWindow, scan_windows, searched
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.studies.learned_windows import JOINT
from dimuon.workflow import config as configuration
from dimuon.workflow.config import Config
from dimuon.workflow.executor import executor
from tests.benchmarks import common

PUBLISHED = Path(__file__).resolve().parents[2] / "configs" / "upsilon_published_flow.yaml"
MODES = ("retrain", "fine_tune", "one_model", "sigma")
STREAM, COPIES, ALLOWED, N_WORKERS = Stream(2016), 5, 0.01, 2
SCAN = {"range": [5.0, 16.0], "resolution": 0.015, "step": 1.0, "width": 5.4, "methods": ["learned"]}  # 12 windows


@dataclass(frozen=True)
class Task:
    """One window of one charge in one mode. trained: bytes of its model, or of that of all windows (`shared`).

    searched: steps 4 to 6, too.
    """

    config: Config
    charge: str
    events: Events
    placed: ScanWindow
    trained: bytes
    shared: bool
    searched: bool


def read(path, charge, features):
    """The selected dimuons of one charge."""
    table = pd.read_parquet(path)
    own = table[table["anti_isolated"] & (table["charge"] == charge.upper())]
    return Events.of(own["dimu_mass"].to_numpy(), own[features].to_numpy(), features)


def group(config, charge, events, windows):
    """Bytes of the models of some windows, trained together as the scan does."""
    streams = [STREAM.child(each.label).rooted() for each in windows]
    return [saved.to_bytes(model) for model in learned_scan.train_windows(config, charge, events, windows, streams)]


def trained(config, mode, charge, events, windows, pool):
    """Bytes of the model of each window, or one for all."""
    if mode != "retrain":
        return saved.to_bytes(learned_scan.train_shared(config, charge, events, STREAM.child(mode), pool))
    size = min(JOINT, -(-len(windows) // N_WORKERS))
    groups = [windows[first : first + size] for first in range(0, len(windows), size)]
    tasks = [pool.submit(group, config, charge, events, each) for each in groups]
    return [model for task in tasks for model in task.result()]


def model_of(task):
    """The background model of the window."""
    model = saved.from_bytes(task.trained)
    if not task.shared:
        return model
    return learned_scan.put_under(task.config, task.events, task.placed, model, STREAM.child(task.placed.label))


def auc(real, model):
    """(AUC, error) of real events against samples at their masses."""
    sampled = mass_model.sample_at(model, real.mass, COPIES, STREAM.child("closure").rooted()).events
    return closure.classifier_auc(real, sampled, STREAM.child("compared"))


class Clock:
    """Wall and CPU seconds since the last look."""

    def __init__(self):
        self.look()

    def look(self, name=""):
        now = time.perf_counter(), time.process_time()
        passed = {} if not name else {f"{name}_s": now[0] - self.last[0], f"{name}_cpu": now[1] - self.last[1]}
        self.last = now
        return passed


def timed(function, *arguments):
    """(result, seconds of CPU), in a worker."""
    start = time.process_time()
    return function(*arguments), time.process_time() - start


class TimedPool:
    """A pool that counts the seconds of CPU of its tasks."""

    def __init__(self, pool):
        self.pool, self.cpu = pool, 0.0

    def submit(self, function, *arguments):
        inner, outer = self.pool.submit(timed, function, *arguments), Future()

        def done(future):
            result, cpu = future.result()
            self.cpu += cpu
            outer.set_result(result)

        inner.add_done_callback(done)
        return outer


def work(task):
    """A row of the table, in a worker."""
    window, events, row = task.placed.window, task.events, {"charge": task.charge, "window": task.placed.label}
    clock = Clock()
    model = model_of(task)
    row |= clock.look("model")
    if task.searched:
        own = STREAM.child("search", task.placed.label).rooted()
        found = learned_scan.search_window(task.config, task.charge, events, task.placed, model, own)
        row |= clock.look("search")
        z0 = [each.z0 for each in found.headlines() if each.variable == Statistic.WORKING_POINT]
        row |= {"z0_no_cut": z0[0], "z0_best": np.nanmax(np.array(z0, dtype=float))}
    row["sidebands"], row["sidebands_err"] = auc(events[window.in_sidebands(events.mass)], model)
    if task.charge == "ss":
        row["sr"], row["sr_err"] = auc(events[window.in_sr(events.mass)], model)
    return row | clock.look("closure")


def scanned(config, mode, samples, pool, arguments):
    """The rows of a mode, and {"wall", "cpu"} of its scan of OS in seconds, without the closure."""
    varied = config.model_copy(update={"scan": ScanSettings.model_validate(SCAN | {"mode": mode})})
    rows, seconds = [], {}
    for charge, events in samples.items():
        windows = searched(scan_windows(varied.scan, events.mass))
        windows = [each for number, each in enumerate(windows) if arguments.only is None or number in arguments.only]
        start, timing, search = time.perf_counter(), TimedPool(pool), charge == "os" and not arguments.no_search
        models = trained(varied, mode, charge, events, windows, timing)
        training, shared = time.perf_counter() - start, mode != "retrain"
        print(f"{mode}, {charge}: training {training:.0f} s, {timing.cpu:.0f} s of CPU", flush=True)
        each_model = [models] * len(windows) if shared else models
        tasks = [
            Task(varied, charge, events, placed, model, shared, search)
            for placed, model in zip(windows, each_model, strict=True)
        ]
        start = time.perf_counter()
        own = [{"mode": mode, **row} for row in pool.map(work, tasks)]
        wall, rows = time.perf_counter() - start, rows + own
        print(f"{mode}, {charge}: {len(tasks)} windows {wall:.0f} s with closure", flush=True)
        if search:
            closing = sum(row["closure_s"] for row in own) / N_WORKERS
            cpu = timing.cpu + sum(row["model_cpu"] + row["search_cpu"] for row in own)
            seconds = {"wall": training + wall - closing, "cpu": cpu / N_WORKERS}
    return rows, seconds


def search(task):
    """Steps 4 to 6 of a window, in a worker."""
    model, own = model_of(task), STREAM.child("search", task.placed.label).rooted()
    learned_scan.search_window(task.config, task.charge, task.events, task.placed, model, own)


def estimated(config, mode, events, pool, share):
    """Seconds of the scan of OS in a mode, from a part of its epochs and two of its windows."""
    config = config.model_copy(update={"scan": ScanSettings.model_validate(SCAN | {"mode": mode})})
    short = config.estimator.model_copy(update={"epochs": config.estimator.epochs // share})
    config = config.model_copy(update={"estimator": short})
    windows = searched(scan_windows(config.scan, events.mass))
    start = time.perf_counter()
    models = trained(config, mode, "os", events, windows, pool)
    training, shared = (time.perf_counter() - start) * share, mode != "retrain"
    middle = len(windows) // 2
    tasks = [
        Task(config, "os", events, windows[number], models if shared else models[number], shared, True)
        for number in (middle - 1, middle)
    ]
    list(pool.map(search, tasks))  # the workers have loaded what they need
    start = time.perf_counter()
    list(pool.map(search, tasks))
    searching = (time.perf_counter() - start) * len(windows) / len(tasks)
    print(f"{mode}: training {training:.0f} s, search {searching:.0f} s, {len(windows)} windows", flush=True)
    return training + searching


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", default=list(MODES), metavar="MODE")
    parser.add_argument("--data", default="data/demo/dimuons.parquet")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--charges", nargs="+", default=["os", "ss"])
    parser.add_argument("--name", default="scan_modes")
    parser.add_argument("--only", nargs="+", type=int, help="windows by their number, from 0")
    parser.add_argument("--no-search", action="store_true", help="training and closure alone")
    parser.add_argument("--share", type=int, help="train one epoch in so many, search two windows, scale the times up")
    arguments = parser.parse_args()
    config = configuration.load(PUBLISHED)
    if arguments.epochs:
        config = config.model_copy(
            update={"estimator": config.estimator.model_copy(update={"epochs": arguments.epochs})}
        )
    samples = {charge: read(arguments.data, charge, config.features.names) for charge in arguments.charges}
    rows, seconds = [], {}
    with executor(
        N_WORKERS, preload=["torch", "xgboost", "sklearn.metrics", "dimuon.background.flow_ensemble"]
    ) as pool:
        if arguments.share:  # the workers start and load what they need
            estimated(config, "sigma", samples["os"], pool, config.estimator.epochs)
        for mode in arguments.modes if arguments.share else ():
            value = estimated(config, mode, samples["os"], pool, arguments.share)
            common.save(f"scan_{mode}_estimated", [{"name": f"scan_{mode}_s", "value": value, "unit": "s"}])
        for mode in () if arguments.share else arguments.modes:
            of_mode, seconds[mode] = scanned(config, mode, samples, pool, arguments)
            rows += of_mode
            table = pd.DataFrame(rows)
            print(table[table["mode"] == mode].round(3).to_string(index=False), flush=True)
            print(f"{mode}: {seconds[mode]}", flush=True)
    if arguments.share:
        return
    means = table.groupby("mode")[[name for name in ("sidebands", "sr") if name in table]].mean()
    print(means)
    figures = [
        {"name": f"scan_{mode}_{clock}_s", "value": value, "unit": "s"}
        for mode, clocks in seconds.items()
        for clock, value in clocks.items()
    ]
    seconds = {mode: clocks["wall"] for mode, clocks in seconds.items() if clocks}
    if "retrain" in seconds and arguments.only is None:
        figures.append({"name": "scan_12_windows_s", "value": seconds["retrain"], "unit": "s"})
        worse = means - means.loc["retrain"]
        for mode in [mode for mode in seconds if mode != "retrain"]:
            figures += [
                {"name": f"{mode}_{name}_auc_above_retrain", "value": float(worse.loc[mode, name]), "unit": ""}
                for name in means
            ]
        fast = [mode for mode in seconds if mode != "retrain" and worse.loc[mode, "sidebands"] <= ALLOWED]
        if fast:
            best = min(fast, key=lambda mode: seconds[mode])
            ratio = seconds["retrain"] / seconds[best]
            figures.append(
                {"name": "scan_fast_s", "value": seconds[best], "unit": "s", "peer": "retrain", "ratio": ratio}
            )
    common.save(arguments.name, figures)


if __name__ == "__main__":
    main()
