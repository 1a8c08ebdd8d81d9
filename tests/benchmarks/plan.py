"""How well `dimuon plan` knows beforehand what an analysis takes: `python -m tests.benchmarks.plan CONFIG ...`.

Each configuration in a folder of its own, where nothing is done yet: the plan, then every step as a person runs it,
one after the other. The ratio of both, step by step and together; the larger of it and its inverse counts. Of wall
times, for which nothing else may be at work, and of CPU times, which do not mind.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

from dimuon.commands.needed import Analysis
from dimuon.commands.plan import workers_of
from dimuon.planning.costs import Costs
from dimuon.planning.sizes import sizes
from dimuon.planning.speeds import measure
from dimuon.workflow import products
from tests.benchmarks.common import save
from tests.benchmarks.report import measure as family_of
from tests.conftest import ROOT


class Asked:
    """No workers but those of this machine."""

    workers = None


def compared(path):
    """[(step, planned wall, wall, planned CPU, CPU seconds)] of one configuration."""
    analysis = Analysis.load(path)
    found, events = sizes(analysis.run(products.STEP_7))
    costs, (here, *_) = Costs(analysis.config, found, measure(analysis.config, events)), workers_of(analysis, Asked)
    rows = []
    for step in analysis.steps:
        work = costs.step(step, "")
        seconds, cpu, *_ = family_of([sys.executable, str(ROOT / step.command), path, "--quiet"])
        rows.append((step.command, work.wall(here), seconds, work.cpu, cpu))
    return rows


def main():
    """Measure and save."""
    figures, worst = [], {"wall": 1.0, "cpu": 1.0}
    for given in map(Path, sys.argv[1:] or [str(ROOT / "configs" / "demo.yaml")]):
        path = str(given.resolve())
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            rows = compared(path)
        print(f"{given.stem}\n{'':<26}{'planned':>9}{'took':>9}{'ratio':>8}{'CPU':>10}{'':>9}{'ratio':>8}")
        rows.append(("together", *(sum(row[k] for row in rows) for k in range(1, 5))))
        for name, planned, took, planned_cpu, cpu in rows:
            print(
                f"{name:<26}{planned:>7.1f} s{took:>7.1f} s{planned / took:>8.2f}"
                f"{planned_cpu:>8.1f} s{cpu:>7.1f} s{planned_cpu / cpu:>8.2f}"
            )
        for kind, k in (("wall", 1), ("cpu", 3)):
            ratio = rows[-1][k] / rows[-1][k + 1]
            worst[kind] = max(worst[kind], ratio, 1 / ratio)
            steps = [max(row[k] / row[k + 1], row[k + 1] / row[k]) for row in rows[:-1]]
            figures += [
                {"name": f"plan_{given.stem}_{kind}_ratio", "value": ratio, "unit": "planned / took"},
                {"name": f"plan_{given.stem}_{kind}_worst_step", "value": max(steps), "unit": ""},
            ]
    figures += [{"name": "plan_worst_ratio", "value": worst["wall"], "unit": "wall"}]
    save("plan", [*figures, {"name": "plan_worst_ratio_cpu", "value": worst["cpu"], "unit": "CPU"}])


if __name__ == "__main__":
    main()
