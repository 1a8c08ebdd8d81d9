"""`input.table` of 3,000,000 rows and 10 features, read and windowed: `python -m tests.benchmarks.tables`.

As parquet and as CSV, each in a process of its own; the peer is pandas, which reads the same columns and applies the
same window. Time on the wall clock from the opened process to the events; peak memory of the process.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from tests.benchmarks.common import save

N_ROWS, N_FEATURES = 3_000_000, 10
NAMES = [f"x{i}" for i in range(N_FEATURES)]
WINDOW = (2.6, 3.2, 3.8, 5.0)
OURS = """
import json, resource, sys, time
from dimuon.config import Config
from dimuon.data.dimuons import Dimuons
from dimuon.regions import MassWindow
from dimuon.workflow.provenance import Run
import pyarrow.csv, pyarrow.parquet
start = time.perf_counter()
names = json.loads(sys.argv[2])
section = {"table": {"file": sys.argv[1], "mass": "mjj"}}
config = Config.model_validate({"name": "t", "seed": 1, "input": section, "features": {"set": names},
                                "window": MassWindow(*json.loads(sys.argv[3]))})
events = Dimuons(Run(config, "03_train_flows.py")).events("all")
took, memory = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([took, memory, len(events), float(events.features.sum())]))
"""
PANDAS = """
import json, resource, sys, time
import pandas as pd
start = time.perf_counter()
names, (low, _, _, high) = json.loads(sys.argv[2]), json.loads(sys.argv[3])
read = pd.read_csv if sys.argv[1].endswith("csv") else pd.read_parquet
columns = {"usecols" if sys.argv[1].endswith("csv") else "columns": ["mjj", *names]}
frame = read(sys.argv[1], **columns)
frame = frame[frame["mjj"].between(low, high)]
values = frame[names].to_numpy(float)
took, memory = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([took, memory, len(values), float(values.sum())]))
"""


def timed(code, path):
    """(seconds, MB, events, sum of their features) of a process that reads a table."""
    command = [sys.executable, "-c", code, str(path), json.dumps(NAMES), json.dumps(WINDOW)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Write the tables, read each three times in turn, keep the best."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({name: rng.normal(size=N_ROWS).astype(np.float32) for name in NAMES})
    frame["mjj"] = rng.uniform(2, 6, N_ROWS)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("parquet", "csv"):
            path = Path(folder) / f"table.{suffix}"
            frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, index=False, float_format="%.6g")
            runs = [(timed(OURS, path), timed(PANDAS, path)) for _ in range(3)]
            (ours, peer) = (min(side) for side in zip(*runs, strict=True))
            if ours[2] != peer[2] or not np.isclose(ours[3], peer[3]):
                raise SystemExit(f"{suffix}: {ours[2:]} events and sum where pandas has {peer[2:]}")
            for what, unit, index in (("s", "s", 0), ("mb", "MB", 1)):
                figure = {"name": f"table_{suffix}_3M_{what}", "value": ours[index], "unit": unit}
                figures.append(figure | {"peer": "pandas", "ratio": peer[index] / ours[index]})
    save("tables", figures)


if __name__ == "__main__":
    main()
