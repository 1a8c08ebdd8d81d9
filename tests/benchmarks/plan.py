"""How well `dimuon plan` knows beforehand what an analysis takes: `python -m tests.benchmarks.plan CONFIG [CONFIG ...]`.

Each configuration in a folder of its own, where nothing is done yet: the plan, then every step as a person runs it,
one after the other. The ratio of both, step by step and together; the larger of it and its inverse counts. Nothing
else should be at work: the plan is of what the machine gave during the calibration.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dimuon.commands.needed import Analysis
from dimuon.commands.plan import workers_of
from dimuon.planning.costs import Costs
from dimuon.planning.sizes import sizes
from dimuon.planning.speeds import measure
from dimuon.workflow import products
from tests.benchmarks.common import save
from tests.conftest import ROOT


class Asked:
    """No workers but those of this machine."""

    workers = None


def compared(path):
    """[(step, planned seconds, seconds)] of one configuration."""
    analysis = Analysis.load(path)
    found, events = sizes(analysis.run(products.STEP_7))
    costs, (here, *_) = Costs(analysis.config, found, measure(analysis.config, events)), workers_of(analysis, Asked)
    rows = []
    for step in analysis.steps:
        planned = costs.step(step, "").wall(here)
        start = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / step.command), path, "--quiet"], check=True)
        rows.append((step.command, planned, time.perf_counter() - start))
    return rows


def main():
    """Measure and save."""
    figures, worst = [], 1.0
    for given in map(Path, sys.argv[1:] or [str(ROOT / "configs" / "demo.yaml")]):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            rows = compared(str(given.resolve()))
        print(f"{given.stem}\n{'':<26}{'planned':>9}{'took':>9}{'ratio':>8}")
        rows.append(("together", sum(row[1] for row in rows), sum(row[2] for row in rows)))
        for name, planned, took in rows:
            print(f"{name:<26}{planned:>7.1f} s{took:>7.1f} s{planned / took:>8.2f}")
        ratio = rows[-1][1] / rows[-1][2]
        worst = max(worst, ratio, 1 / ratio)
        figures += [
            {"name": f"plan_{given.stem}_ratio", "value": ratio, "unit": "planned / took"},
            {"name": f"plan_{given.stem}_worst_step", "value": max(max(p / t, t / p) for _, p, t in rows), "unit": ""},
        ]
    save("plan", [*figures, {"name": "plan_worst_ratio", "value": worst, "unit": "of whole analyses"}])


if __name__ == "__main__":
    main()
