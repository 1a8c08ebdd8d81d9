"""Step 1 on 5 million generated NanoAOD events, against bare uproot, the read-everything way, and ROOT's RDataFrame;
step 2 on a skim of 28 million.

python -m tests.benchmarks.skim

The files have the branches of the data: 16 of muons, 12 of jets, 40 triggers, 200 that nobody reads; about
half of the events are kept. Each contestant runs in a process of its own, one after the other, on the same
file; its rate is per second of CPU, the best of `REPEATS`, so that a busy machine does not decide. RDataFrame
with ours beside it (each from the start of its process), the scaling over two workers and step 2 are on
the wall clock. RDataFrame runs where DIMUON_ROOT_PYTHON names a Python with ROOT (PyPI's `root`), or is
left out. Step 2 runs as a script on seven links to one file, as a skim of seven inputs.
"""

import contextlib
import itertools
import os
import pickle
import re
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot
import vector  # noqa: F401  # what the modules of step 1 import when they first need it: no start-up is timed

from dimuon import columns
from dimuon.data import luminosity, nanoaod, schema, skim, sources
from dimuon.data.manifest_entry import EventCounts, ManifestEntry, Skimmed
from dimuon.workflow import config, executor, provenance
from tests.benchmarks import common
from tests.conftest import ROOT

TRIGGER, MUON_ID = "HLT_TrkMu15_DoubleTrkMu5NoFiltersNoVtx", "Muon_tightId"
N_LARGE, N_MIDDLE, N_SMALL = 5_000_000, 1_000_000, 500_000
N_ROWS, N_LINKS = 4_000_000, 7  # of the skim for step 2
BLOCK, REPEATS = 50_000, 2
SECTIONS = {"278820": [[1, 950]]}  # of 1,000


def block(rng, first):
    """{branch: array} of `BLOCK` events; reals with the reduced precision of NanoAOD."""
    muons = rng.choice(5, BLOCK, p=[0.05, 0.2, 0.45, 0.2, 0.1])
    jets = rng.poisson(6, BLOCK)

    def real(counts, scale, mask=0xFFFFF000):
        values = rng.exponential(scale, counts.sum()).astype(np.float32).view(np.uint32)
        return ak.unflatten((values & np.uint32(mask)).view(np.float32), counts)

    def whole(counts, low, high):
        return ak.unflatten(rng.integers(low, high, counts.sum()).astype(np.int32), counts)

    muon = {name.removeprefix("Muon_"): real(muons, 1.0) for name in schema.MUON_BRANCHES.values()}
    muon |= {"pt": ak.sort(real(muons, 15.0), ascending=False), "charge": whole(muons, 0, 2) * 2 - 1}
    muon |= {"tightId": ak.unflatten(rng.random(muons.sum()) < 0.85, muons)}
    muon |= {f"extra{i}": real(muons, 1.0) for i in range(5)}
    flags = {f"HLT_Mu{i}": rng.random(BLOCK) < 0.05 for i in range(39)}
    return {
        "run": np.full(BLOCK, 278820, np.uint32),
        "luminosityBlock": (1 + np.arange(first, first + BLOCK) // 1000 % 1000).astype(np.uint32),
        "event": np.arange(first, first + BLOCK).astype(np.uint64),
        TRIGGER: rng.random(BLOCK) < 0.8,
        **flags,
        "Muon": ak.zip(muon),
        "Jet": ak.zip({f"v{i}": real(jets, 30.0, mask=0xFFE00000) for i in range(12)}),
        **{f"Unused_{i}": rng.integers(0, 3, BLOCK).astype(np.uint8) for i in range(200)},
    }


def generate(path, n_events, compression):
    """Write a NanoAOD file, four different blocks over and over."""
    blocks = [block(np.random.default_rng(i), 0) for i in range(4)]
    kinds = {k: v.type.content if isinstance(v, ak.Array) else v.dtype for k, v in blocks[0].items()}
    with uproot.recreate(path, compression=compression) as file:
        tree = file.mktree("Events", kinds, counter_name=lambda jagged: f"n{jagged}")
        for first in range(0, n_events, BLOCK):
            number = np.arange(first, first + BLOCK)
            section = (1 + number // 1000 % 1000).astype(np.uint32)
            tree.extend(blocks[first // BLOCK % 4] | {"event": number.astype(np.uint64), "luminosityBlock": section})


def ours(path, output):
    """Events that step 1 reads of one file."""
    task = task_of(path, output)
    return skim.skim(task, skim.survey(task)).skimmed.counts.events_read


def task_of(path, output):
    return skim.Task(
        source=sources.from_files([str(path)])[0],
        output=Path(output),
        muon_id=MUON_ID,
        triggers=(TRIGGER,),
        mask=luminosity.LuminosityMask(SECTIONS),
        attempts=1,
        timeout=60.0,
        download=False,
    )


def bare(path, output):
    """The same rows by `uproot.iterate`, awkward selections and pyarrow, written down as one does in a notebook."""
    branches = [*schema.EVENT, TRIGGER, "nJet", MUON_ID, *schema.MUON_BRANCHES.values()]
    writer, n_read = None, 0
    with uproot.open(path) as file:
        for arrays in file["Events"].iterate(filter_name=branches, step_size=nanoaod.ENTRIES_PER_RANGE):
            n_read += len(arrays)
            certified = (arrays["run"] == 278820) & (arrays["luminosityBlock"] <= 950)
            kept = arrays[certified & (ak.sum(arrays[MUON_ID], axis=1) >= 2)]
            tight = kept[MUON_ID]
            columns = {name: kept[name] for name in (*schema.EVENT, TRIGGER, "nJet")}
            columns["n_muons"] = ak.sum(tight, axis=1)
            for name, branch in schema.MUON_BRANCHES.items():
                muons = kept[branch][tight]
                columns |= {f"mu0_{name}": muons[:, 0], f"mu1_{name}": muons[:, 1]}
            table = pa.table({name: ak.to_numpy(values) for name, values in columns.items()})
            writer = writer or pq.ParquetWriter(output, table.schema, compression="zstd")
            writer.write_table(table)
    writer.close()
    return n_read


def everything(path, output):
    """Two scripts in one: all muon, jet and trigger arrays into pickles; then the selection from the pickles."""
    with uproot.open(path) as file:
        tree = file["Events"]
        wanted = [name for name in tree.keys() if name.startswith(("Muon_", "Jet_", "HLT_", "run", "event"))]
        content = {name: tree[name].array(entry_stop=N_SMALL) for name in wanted}
    with open(f"{output}.all", "wb") as handle:
        pickle.dump(content, handle)
    with open(f"{output}.all", "rb") as handle:
        content = pickle.load(handle)  # written above
    kept = ak.sum(content[MUON_ID], axis=1) >= 2
    columns = {name: content[name][kept].to_numpy() for name in wanted if name.startswith(("HLT_", "run", "event"))}
    for branch in (name for name in wanted if name.startswith("Muon_")):
        muons = content[branch][content[MUON_ID]][kept]
        columns |= {f"mu0_{branch}": muons[:, 0].to_numpy(), f"mu1_{branch}": muons[:, 1].to_numpy()}
    with open(output, "wb") as handle:
        pickle.dump(columns, handle)
    return len(content[MUON_ID])


RDATAFRAME = """
import sys, time, ROOT
ROOT.EnableImplicitMT(2)
branches = sys.argv[3].split(",")
frame = ROOT.RDataFrame("Events", sys.argv[1])
frame = frame.Filter("run == 278820 && luminosityBlock <= 950 && Sum(Muon_tightId) >= 2")
for branch in branches:
    frame = frame.Define("t_" + branch, branch + "[Muon_tightId]")
    frame = frame.Define("mu0_" + branch, "t_%s[0]" % branch).Define("mu1_" + branch, "t_%s[1]" % branch)
columns = [f"mu{i}_{branch}" for i in (0, 1) for branch in branches]
frame.Snapshot("Events", sys.argv[2], ["run", "luminosityBlock", "event", "nJet", *columns])
"""


def measure(contestant, path, folder):
    """(events per second of CPU, peak MB, wall seconds of the whole process) of one contestant in a process of its own,
    the best of `REPEATS` each."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.skim",
        contestant,
        str(path),
        str(folder / "out.parquet"),
    ]
    runs = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append([float(word) for word in answer.stdout.splitlines()[-1].split()] + [time.perf_counter() - start])
    rates, peaks, seconds = zip(*runs, strict=True)
    return max(rates), min(peaks), min(seconds)


def two_workers(path, folder):
    """Seconds of one worker over those of two, on four links to the same file."""
    links = [folder / f"link{i}.root" for i in range(4)]
    for link in links:
        os.symlink(path, link)
    tasks = [task_of(link, folder / f"{link.stem}.parquet") for link in links]
    seconds = {}
    for workers in (1, 2):
        with executor.executor(workers, preload=skim.WORKER_MODULES) as pool:
            layouts = list(pool.map(skim.survey, tasks[:workers] * 2))  # both workers are up before the clock starts
            start = time.perf_counter()
            list(pool.map(skim.skim, tasks, [layouts[0]] * 4))
            seconds[workers] = time.perf_counter() - start
    return seconds[1] / seconds[2]


def rdataframe(path, folder):
    """Seconds of ROOT's RDataFrame with two threads and its start, or None where ROOT is absent."""
    python = os.environ.get("DIMUON_ROOT_PYTHON")
    if not python:
        print("ROOT's RDataFrame left out: set DIMUON_ROOT_PYTHON to a Python with PyPI's `root`")
        return None
    branches = ",".join(schema.MUON_BRANCHES.values())
    start = time.perf_counter()
    subprocess.run([python, "-c", RDATAFRAME, path, folder / "root.root", branches], check=True, capture_output=True)
    return time.perf_counter() - start


def write_skim(folder):
    """A folder with a configuration and the skim of `N_LINKS` inputs, which are the same `N_ROWS` muon pairs."""
    place, rng = folder / "data" / "bench" / "skim", np.random.default_rng(0)
    place.mkdir(parents=True)
    batches = []
    for _ in range(4):
        arrays = block(rng, 0)
        arrays |= {f"Muon_{name}": arrays["Muon"][name] for name in arrays["Muon"].fields}
        batches.append(nanoaod.muon_pairs(arrays, MUON_ID, (TRIGGER,), np.ones(BLOCK, bool)))
    batches, n_rows = itertools.cycle(batches), 0
    with skim._writer(place / "part0.parquet", nanoaod.schema((TRIGGER,))) as writer:
        while n_rows < N_ROWS:
            batch = next(batches)
            number = pa.array(np.arange(n_rows, n_rows + len(batch), dtype=np.uint64))
            writer.write_batch(batch.set_column(batch.schema.get_field_index("event"), "event", number))
            n_rows += len(batch)
    (folder / "bench.yaml").write_text("{name: bench, seed: 1, input: {files: [part*.root]}}\n")
    names = [f"part{i}.parquet" for i in range(N_LINKS)]
    for name in names[1:]:
        os.symlink("part0.parquet", place / name)
    n_all = n_rows * N_LINKS
    one = EventCounts(n_rows, n_rows, n_rows, n_rows, n_rows // 2, n_rows - n_rows // 2)
    totals = EventCounts(n_all, n_all, n_all, n_all, n_all // 2, n_all - n_all // 2)
    with contextlib.chdir(folder):
        run = provenance.Run(config.load("bench.yaml"), "01_skim_nanoaod.py", "bench.yaml")
        paths = [run.data / "skim" / name for name in names]
        for path in paths:
            run.seal(path, origin="simulated", rows=n_rows, units=columns.units(batch.schema.names))
        entries = [ManifestEntry(name, name, None, None, None, skimmed=linked_skim(name, one)) for name in names]
        content = {"inputs": [entry.to_json() for entry in entries], "totals": vars(totals)}
        run.write_json(run.data / "skim" / "manifest.json", content, paths)
    return folder


def linked_skim(name, counts):
    """What the manifest says of one of the links."""
    return Skimmed(
        checksum_verified=False,
        output=name,
        sha256="",
        counts=counts,
        sections_seen=0,
        sections_certified=0,
        certified={},
        lost={},
        missing_branches=[],
        simulated=True,
        seconds=0.0,
    )


def select(folder, _output):
    """Muon pairs that step 2 selects from, run as a script in `folder`."""
    n_rows = pq.read_metadata(f"{folder}/data/bench/skim/part0.parquet").num_rows
    script = str(ROOT / "02_select_dimuons.py")
    with contextlib.chdir(folder), mock.patch.object(sys, "argv", [script, "bench.yaml"]):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as ended:
            if ended.code:
                raise
    return n_rows * N_LINKS


def main():
    """Generate, race, save."""
    with tempfile.TemporaryDirectory(prefix="skim-bench-") as name:
        folder = Path(name)
        large, middle, lzma = folder / "large.root", folder / "middle.root", folder / "lzma.root"
        generate(large, N_LARGE, uproot.ZLIB(1))
        generate(middle, N_MIDDLE, uproot.ZLIB(1))
        generate(lzma, N_SMALL, uproot.LZMA(1))
        figures = []
        for label, path in (("zlib", large), ("lzma", lzma)):
            rate, peak, ours_s = measure("ours", path, folder)
            bare_rate, bare_peak, _ = measure("bare", path, folder)
            figures += [
                {"name": f"events_per_s_{label}", "value": rate, "unit": "1/s"},
                {"name": f"vs_bare_uproot_{label}", "value": bare_rate, "unit": "1/s", "peer": "bare uproot",
                 "ratio": rate / bare_rate},
                {"name": "peak_rss_mb_per_worker" + "_lzma" * (label == "lzma"), "value": peak, "unit": "MB",
                 "peer": "bare uproot", "ratio": bare_peak / peak},
            ]  # fmt: skip
            if label == "zlib":
                slow_rate, slow_peak, _ = measure("everything", path, folder)
                seconds = rdataframe(path, folder)
                _, middle_peak, _ = measure("ours", middle, folder)
                figures += [
                    {"name": "vs_read_everything", "value": slow_rate, "unit": "1/s", "peer": "read everything",
                     "ratio": rate / slow_rate},
                    {"name": "peak_rss_mb_read_everything", "value": slow_peak, "unit": "MB"},
                    {"name": "peak_rss_5_times_the_events", "value": peak / middle_peak, "unit": ""},
                ]  # fmt: skip
                if seconds is not None:
                    figures.append({"name": "rdataframe_2_threads_s", "value": seconds, "unit": "s",
                                    "peer": "RDataFrame, 2 threads", "ratio": seconds / ours_s})  # fmt: skip
        figures.append({"name": "two_worker_scaling", "value": two_workers(middle, folder), "unit": ""})
        _, peak, seconds = measure("select", write_skim(folder / "select"), folder)
        figures += [
            {"name": "select_28M_s", "value": seconds, "unit": "s"},
            {"name": "select_28M_peak_mb", "value": peak, "unit": "MB"},
        ]
    common.save("skim", figures)


def contest(contestant, path, output):
    """Run one contestant and print events per second of CPU and peak MB."""
    start = time.process_time()
    n_read = {"ours": ours, "bare": bare, "everything": everything, "select": select}[contestant](path, output)
    seconds = time.process_time() - start
    print(n_read / seconds, peak_mb())


def peak_mb():
    """The largest memory this process has taken. `getrusage` counts that of its parent, too, from before the start."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    contest(*sys.argv[1:]) if len(sys.argv) > 1 else main()
