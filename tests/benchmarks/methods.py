"""The methods of the field side by side: `python -m tests.benchmarks.methods [--all] [--workers 2]`.

The small form of `configs/bench.yaml` (every method, one sample and feature set, two seeds), or all of it. What is
timed is the whole matrix with nothing done before; where a run was stopped, what is left of it. The figures are the
median improvement of each method, its seconds, and the differences between those that the literature has in an order.
"""

import argparse
import os
import time
from pathlib import Path

from threadpoolctl import threadpool_limits

from dimuon.commands import bench as command
from dimuon.studies.bench import matrix, tables
from dimuon.studies.bench.matrix import Bench
from dimuon.workflow import config, executor, provenance
from dimuon.workflow.execution import Execution
from dimuon.workflow.products import BENCH_MAKER
from tests.benchmarks import common

CONFIG = Path("configs") / "bench.yaml"
FOLDER = Path("results") / "bench" / "methods"  # where the cells are kept


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="the whole matrix")
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    chosen, here = config.load(CONFIG), Path.cwd()
    chosen = chosen.model_copy(update={"execution": Execution(workers=options.workers)})  # a sample is dealt out by it
    FOLDER.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with executor.executor(options.workers, preload=["torch", "xgboost"]) as pool, threadpool_limits(1):
        os.chdir(FOLDER)
        bench = Bench(provenance.Run(chosen, BENCH_MAKER.command, str(CONFIG)), "bench", pool)
        bench.small = not options.all
        summary = command.written(bench)
        outcomes = matrix.run(bench)  # all are there
        os.chdir(here)
    seconds = time.perf_counter() - start
    print("\n".join(command.report(summary)))
    cells, costs = tables.cells(outcomes), tables.costs(outcomes)
    kind = "all" if options.all else "small"
    figures = [
        {"name": f"{kind}_s", "value": seconds, "unit": "s"},
        {"name": f"{kind}_cells", "value": len(cells), "unit": ""},
    ]
    first = summary.ranking[0]
    at_first = cells[
        (cells["features"] == first.features) & (cells["noise"] == first.noise) & (cells["n_injected"] > 0)
    ]
    for name, rows in at_first.groupby("method", sort=False):
        spent = costs[costs["method"] == name]
        figures += [
            {"name": f"{name}_improvement", "value": rows["improvement_max"].median(), "unit": ""},
            {"name": f"{name}_z0_at_10_percent", "value": rows["z0_loose"].median(), "unit": "sigma"},
            {"name": f"{name}_s", "value": spent["cpu_seconds"].median(), "unit": "s"},
            {"name": f"{name}_peak_mb", "value": spent["peak_mb"].median(), "unit": "MB"},
        ]
    for pair in summary.order:
        label = f"{pair.better}_less_{pair.worse}_{pair.features}_{pair.n_injected}"
        figures.append({"name": label, "value": pair.difference, "unit": ""})
    common.save("methods", figures)


if __name__ == "__main__":
    main()
