"""Dask on two local worker processes against two local processes, and growth.

python -m tests.benchmarks.scale [N] [--long]

Small forms of what takes long: the skim of N simulated events (default 120,000) in six files, 5 x 40 BDTs, the flows
of the published file with fewer epochs, 12 null datasets. Each is done in turn by both, three times; the ratio is of
the fastest. The start of the workers is not in it, nor is it in a long step. With --long 5 x 100 BDTs, ten times the
epochs, 200 null datasets, twice: what Dask needs for a task is seen less there. Then the time and the memory of the
parts of the chain for 1, 3, 10 and 30 times as many events, with the power of a straight line through them, log-log.
"""

import argparse
import resource
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from dimuon.background.estimators import flows
from dimuon.background.flow_ensemble import FlowEnsemble
from dimuon.classifiers import cross_validation
from dimuon.classifiers.kinds.xgboost import XGBoostSettings
from dimuon.data import skim, sources
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.regions import MassWindow
from dimuon.simulation import nanoaod_files
from dimuon.simulation.settings import Simulation
from dimuon.statistics.significance import discovery
from dimuon.workflow import executor
from dimuon.workflow.execution import Cluster, Execution
from tests.benchmarks.common import save

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
TRIGGER = "HLT_TrkMu15_DoubleTrkMu5NoFiltersNoVtx"
N_EVENTS, WORKERS, TURNS = 12_000, 2, 3
GROWTH = (1, 3, 10, 30)


def toy(n, name="toy"):
    """Events with a falling mass and three features of a long tail."""
    rng = Stream(1).child(name).generator()
    mass = 5 + 11 * rng.beta(1.0, 1.6, n)
    return Events.of(mass, np.exp(rng.normal(size=(n, 3))), ["dimu_pt", "mu0_ip3d", "mu1_ip3d"])


def skims(pool, folder):
    """The files of a folder."""
    tasks = [
        skim.Task(source, folder / f"{source.name}.parquet", "Muon_tightId", (TRIGGER,), None, 1, 60.0, False)
        for source in sources.from_files([str(folder / "*.root")])
    ]
    futures = [pool.submit(surveyed, task) for task in tasks]
    return [future.result() for future in futures]


def surveyed(task):
    """The rows of a skimmed input."""
    return skim.skim(task, skim.survey(task)).skimmed.counts.events_two_muons


def classified(pool, n=N_EVENTS, members=40):
    """BDTs against five times as many sampled events, in five folds."""
    events, background = toy(n), toy(5 * n // 6, "background")
    settings = XGBoostSettings()
    return cross_validation.train(
        events,
        WINDOW.in_sr(events.mass),
        background,
        settings=settings,
        n_members=members,
        n_folds=5,
        stream=Stream(1),
        pool=pool,
    ).data.mean


def trained(pool, n=N_EVENTS, epochs=6):
    """Flows."""
    events = toy(n)
    x = np.log(events.features).astype(np.float32)
    mass = ((events.mass - events.mass.mean()) / events.mass.std()).astype(np.float32)
    return FlowEnsemble(flows.Maf(hidden=20, epochs=epochs)).fit(x, mass, Stream(1), pool).losses


def nulls(pool, n=12):
    """Null datasets: BDTs and the test of what they select, each in one task."""
    futures = [pool.submit(null, number) for number in range(n)]
    return [future.result() for future in futures]


def null(number):
    """The significance that one null dataset shows."""
    events = toy(N_EVENTS // 2, f"null {number}")
    score = classified(executor.AtOnce(), len(events), members=2)
    return discovery(events.mass[score >= np.quantile(score, 0.9)], WINDOW).z0


def overheads(folder, long):
    """Figures: the time on Dask over that in local processes. long: a real size, twice."""
    work = {"skim": lambda pool: skims(pool, folder), "bdts": classified, "flows": trained, "nulls": nulls}
    if long:
        work |= {"bdts": partial(classified, members=100), "flows": partial(trained, epochs=60)}
        work["nulls"] = partial(nulls, n=200)
    seconds = {name: ([], []) for name in work}
    modules = ["torch", "xgboost", "dimuon.data.skim", "dimuon.bumphunt.steps"]
    with (
        executor.executor(WORKERS, preload=modules) as local,
        executor.of(Execution(cluster=Cluster(kind="local", workers=WORKERS))) as cluster,
    ):
        for name, do in work.items():
            for pool in (local, cluster):  # libraries are loaded with the first
                do(pool)
            for turn in range(2 if long else TURNS):
                for where in (0, 1) if turn % 2 else (1, 0):
                    start = time.perf_counter()
                    do((local, cluster)[where])
                    seconds[name][where].append(time.perf_counter() - start)
        start = time.perf_counter()
        for future in [cluster.submit(int, k) for k in range(400)]:
            future.result()
        dispatch = (time.perf_counter() - start) / 400
    figures = [
        {
            "name": f"dask_overhead_{name}", "value": min(there), "unit": "s",
            "peer": f"two local processes, {min(here):.2f} s; medians {statistics.median(there):.2f}, "
            f"{statistics.median(here):.2f} s", "ratio": min(here) / min(there),
        }
        for name, (here, there) in seconds.items()
    ]  # fmt: skip
    return [*figures, {"name": "dask_dispatch_s", "value": dispatch, "unit": "s/task"}]


def growth():
    """Figures: the power of the number of events with which CPU time grows, and the memory at the end [MB]."""
    parts = {
        "flows": lambda n: trained(None, n, 1),
        "bdts": lambda n: classified(executor.AtOnce(), n, 1),
        "fit": lambda n: discovery(toy(n).mass, WINDOW),
    }
    figures = []
    with threadpool_limits(1):
        for name, do in parts.items():
            do(N_EVENTS)
            taken = []
            for factor in GROWTH:
                start = time.process_time()
                do(factor * N_EVENTS)
                taken.append(time.process_time() - start)
            power = float(np.polyfit(np.log(GROWTH), np.log(taken), 1)[0])
            print(name, *(f"{factor * N_EVENTS:,}: {s:.2f} s" for factor, s in zip(GROWTH, taken, strict=True)))
            figures.append({"name": f"growth_{name}", "value": power, "unit": "power"})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [*figures, {"name": f"growth_peak_mb_{max(GROWTH) * N_EVENTS}", "value": peak, "unit": "MB"}]


def main():
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("n_events", nargs="?", type=int, default=120_000, metavar="N")
    parser.add_argument("--long", action="store_true", help="a real size of all but the skim")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        given = Simulation(n_files=6, scale=asked.n_events / 62_712)
        nanoaod_files.write_nanoaod(folder, given, Stream(1), TRIGGER)
        figures = overheads(folder, asked.long)
    save("scale", [*figures, *growth()])


if __name__ == "__main__":
    main()
