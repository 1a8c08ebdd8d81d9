"""How time and memory of the steps grow: `python -m tests.benchmarks.growth [events features members nulls select]`.

Simulated dimuons of a falling mass through steps 3 to 6, as a person runs them, each in processes of its own: 12,000
events x 1, 10, 100; 3, 6, 12 features; 1, 4, 16 members of flows and classifiers; 8, 32, 128 null datasets; and step 2
on simulated CMS files of 1, 3, 10 times the paper's number of dimuons (not by default: it makes the files). Flows and
classifiers are small and few otherwise, which is a factor and no power. Of each step the wall and CPU seconds and the
peak memory of all its processes, and the power of a straight line through them, log-log: 1 is linear. A start-up that
does not grow is in every number, so that the power between the two largest is given beside it.

The results are saved after every step. `WORKERS` in the environment: worker processes, 2 unless set.
"""

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from tests.benchmarks.common import FOLDER, save
from tests.benchmarks.report import measure
from tests.conftest import ROOT

STEPS = ("03_train_flows.py", "04_sample_background.py", "05_train_bdts.py", "06_significance.py")
N_EVENTS, N_FEATURES = 12_000, 3
GROWN = {
    "events": [int(n) for n in os.environ.get("EVENTS", "12000 120000 1200000").split()],
    "features": [3, 6, 12],
    "members": [1, 4, 16],
    "nulls": [8, 32, 128],
    "select": [1, 3, 10],
}


def config(n_features=N_FEATURES, members=2):
    """The analysis of a table with so many features, by so many flows and classifiers."""
    names = [f"x{k}" for k in range(n_features)]
    return {
        "name": "growth",
        "seed": 1,
        "input": {"dimuons": {"os": "events.parquet"}},
        "window": {"sb_low": 5.0, "sr_low": 9.0, "sr_high": 10.6, "sb_high": 16.0},
        "features": {"set": names, "define": {name: {"label": name, "log": True, "side": "above"} for name in names}},
        "estimator": {"members": members, "hidden": 20, "epochs": 2},
        "background": {"degree": 5, "n_bins_sr": 11, "oversampling": 5.0},
        "bdt": {"members": members, "folds": 5},
        "significance": {"degree": 5, "n_bins_sr": 11},
        "execution": {"workers": int(os.environ.get("WORKERS", "2"))},
    }


def events(n, n_features=N_FEATURES):
    """A table of so many events: a falling mass [GeV], features of a long tail that follow it a little."""
    rng = np.random.default_rng(1)
    mass = 5 + 11 * rng.beta(1.0, 1.6, n)
    features = np.exp(rng.normal(size=(n, n_features)) + 0.05 * mass[:, None])
    frame = pd.DataFrame(features, columns=[f"x{k}" for k in range(n_features)])
    frame.assign(dimu_mass=mass).to_parquet("events.parquet")


def steps(given, commands=STEPS):
    """{step: (wall s, CPU s, peak MB)} of an analysis."""
    Path("growth.yaml").write_text(yaml.safe_dump(given))
    taken = {}
    for command in commands:
        words = command.split() + ["growth.yaml", "--quiet"]
        seconds, cpu, _, together = measure([sys.executable, str(ROOT / words[0]), *words[1:]])
        print(f"    {command:<28}{seconds:>8.1f} s{cpu:>9.1f} s CPU{together:>9.0f} MB", flush=True)
        taken[command.partition(".")[0]] = (seconds, cpu, together)
    return taken


def grown(what, value):
    """{step: (wall s, CPU s, peak MB)} where one thing has this size and all else the usual one."""
    if what == "select":
        simulation = {"n_files": 2 * value, "scale": float(value), "compression": "zlib"}
        demo = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())
        demo |= {"name": "growth", "input": {"simulation": simulation}}
        return steps(demo, ("01_skim.py", "02_select_dimuons.py"))
    features, members = value if what == "features" else N_FEATURES, value if what == "members" else 2
    events(value if what == "events" else N_EVENTS, features)
    if what != "nulls":
        return steps(config(features, members))
    steps(config() | {"studies": {"pseudoexperiments": value, "held_out": value // 2}})
    study = ["-m", "dimuon", "study", "pseudoexperiments", "growth.yaml", "--quiet"]
    seconds, cpu, _, together = measure([sys.executable, *study])
    return {"pseudoexperiments": (seconds, cpu, together)}


def powers(sizes, values):
    """The power of a line through all of them, and of that through the two largest."""
    x, y = np.log(sizes), np.log(values)
    return np.polyfit(x, y, 1)[0], (y[-1] - y[-2]) / (x[-1] - x[-2])


def figures(measured):
    """What is saved of {what: {size: {step: (wall s, CPU s, peak MB)}}}."""
    for what, by_size in measured.items():
        for step in next(iter(by_size.values())):
            sizes = list(by_size)
            for k, unit in enumerate(("s", "CPU s", "MB")):
                values = [by_size[size][step][k] for size in sizes]
                for size, value in zip(sizes, values, strict=True):
                    yield {"name": f"{step}_{what}_{size}", "value": value, "unit": unit}
                if len(sizes) > 1:
                    for name, power in zip(("power", "last_power"), powers(sizes, values), strict=True):
                        yield {"name": f"{step}_{what}_{name}", "value": power, "unit": unit}


def main():
    """Measure what is asked for, save after every analysis."""
    measured, here = {}, Path.cwd()
    for what in sys.argv[1:] or ["events", "features", "members", "nulls"]:
        for size in GROWN[what]:
            print(what, size, flush=True)
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                taken = grown(what, size)
            measured.setdefault(what, {})[size] = taken
            (here / FOLDER).mkdir(parents=True, exist_ok=True)
            (here / FOLDER / "growth_so_far.json").write_text(json.dumps(measured, indent=1))
    save("growth", list(figures(measured)))


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    main()
