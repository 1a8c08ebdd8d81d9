"""A toy of the CMS data: NanoAOD files with Upsilons, Drell-Yan and hadron decays. SIMULATED wherever it shows.

It stands in for the data where a whole run must take minutes (the demo) or where the truth must be known (injection
studies). What is in it, and how far it is like the data, is in `dimuon.simulation.processes`; here it becomes events
and files.
"""

import json
import logging
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pandas as pd
import uproot
from numpy.typing import NDArray

from dimuon.arrays import BoolArray, FloatArray
from dimuon.kinematics import MUON_MASS, dimuon
from dimuon.random import Stream
from dimuon.simulation.processes import (
    MAX_ETA,
    PROCESSES,
    UPSILON_IN_JETS,
    UPSILON_ISOLATED,
    Muons,
    generate,
)
from dimuon.simulation.settings import Simulation

log = logging.getLogger("dimuon")

# What becomes of the dimuons beside the good ones, each failing one cut: how many, relative to the good ones.
FATES = {
    "good": 1.0,
    "uncertified": 0.05,  # in a luminosity section that is not certified
    "untriggered": 0.05,
    "one tight muon": 0.10,
    "soft muons": 0.20,  # above the trigger's thresholds, below the cuts
}
FURTHER_MUONS = (0.46, 0.4)  # probability of a softer tight muon (as in the published SR), and of one that is not tight
MEAN_JETS = 6.1
FIRST_RUN = 278820  # of 2016, eras G and H
CERTIFIED_SECTIONS = ((1, 60), (71, 120))
UNCERTIFIED_SECTIONS = (61, 70)
FIRST_EVENT = 2**32 - 20_000  # event numbers need 64 bits: some lie above 2**32
ENTRIES_PER_BASKET = 20_000
COMPRESSIONS = {"zlib": uproot.ZLIB(4), "lzma": uproot.LZMA(4), "zstd": uproot.ZSTD(5)}


def write_nanoaod(folder: Path, simulation: Simulation, stream: Stream, trigger: str) -> list[Path]:
    """Write the toy NanoAOD files and their list of certified luminosity sections; returns the ROOT files' paths.

    folder: made where absent. trigger: name of the trigger's branch. Branch names and types are those of CMS NanoAOD;
    `certified_luminosity.json` has the form of CMS. The same stream gives the same contents in every branch (the bytes
    of the ROOT files still differ, by the time stamps that ROOT files carry).
    """
    folder.mkdir(parents=True, exist_ok=True)
    runs = [FIRST_RUN + i for i in range(simulation.n_files)]
    certified = {str(run): [list(sections) for sections in CERTIFIED_SECTIONS] for run in runs}
    (folder / "certified_luminosity.json").write_text(json.dumps(certified) + "\n", encoding="utf-8")
    paths = [folder / f"simulated_{i}.root" for i in range(simulation.n_files)]
    for old in {*folder.glob("simulated_*.root")} - {*paths}:  # of a simulation with more files
        old.unlink()
    for i, (run, path) in enumerate(zip(runs, paths, strict=True)):
        muons, fates = dimuons(simulation.scale / simulation.n_files, stream, i)
        events = _events(muons, fates, run, trigger, stream.child("simulation", i, "events").generator())
        _write(path, events, COMPRESSIONS[simulation.compression])
        log.info("%s: %d SIMULATED events", path, len(fates))
    return paths


def dimuons(scale: float, stream: Stream, file: int = 0) -> tuple[Muons, NDArray[np.str_]]:
    """(muons, (n,) fates) of every process, charge and fate, in random order.

    scale: 1 for as many as in the published sample. file: its number, from 0; each has its own random streams.
    """
    stream = stream.child("simulation", file)
    blocks: list[Muons] = []
    fates: list[str] = []
    for process in PROCESSES:
        for charge in ("os", "ss"):
            rng = stream.child(process.name, charge).generator()
            for fate, share in FATES.items():
                n = rng.poisson(getattr(process, charge) * share * scale)
                blocks.append(generate(process, n, charge, rng, soft=fate == "soft muons"))
                fates += [fate] * n
    order = stream.child("order").generator().permutation(len(fates))
    muons = {name: np.concatenate([block[name] for block in blocks])[order] for name in blocks[0]}
    return muons, np.array(fates)[order]


def _events(muons: Muons, fates: NDArray[np.str_], run: int, trigger: str, rng: np.random.Generator) -> dict[str, Any]:
    """{branch or collection: (n_events,) array} of one file, in order of luminosity section."""
    n = len(fates)
    certified = np.concatenate([np.arange(first, last + 1) for first, last in CERTIFIED_SECTIONS])
    uncertified = np.arange(UNCERTIFIED_SECTIONS[0], UNCERTIFIED_SECTIONS[1] + 1)
    section = np.where(fates == "uncertified", rng.choice(uncertified, n), rng.choice(certified, n))
    order = np.argsort(section, kind="stable")
    muons, fates = {name: values[order] for name, values in muons.items()}, fates[order]
    isolated = (muons["iso04"] < [0.15, 0.4]).all(axis=1)
    return {
        "run": np.full(n, run, dtype=np.uint32),
        "luminosityBlock": section[order].astype(np.uint32),
        "event": np.arange(FIRST_EVENT, FIRST_EVENT + n, dtype=np.uint64),
        "PV_npvs": (1 + rng.poisson(22, n)).astype(np.int32),
        "HLT_IsoMu24": isolated & (muons["pt"][:, 0] > 24),
        "HLT_Mu50": muons["pt"][:, 0] > 50,
        "HLT_Mu17_TrkIsoVVL_Mu8_TrkIsoVVL_DZ": isolated,
        trigger: fates != "untriggered",
        "Muon": _muon_collection(muons, fates, rng),
        "Jet": _jet_collection(n, rng),
    }


def _muon_collection(muons: Muons, fates: NDArray[np.str_], rng: np.random.Generator) -> Any:
    """The `Muon_*` branches, by falling pT: the dimuon, perhaps a softer tight muon, perhaps one that is not tight.

    The latter may be the hardest of the event: the selection has to look for the tight ones.
    """
    n = len(fates)
    further = {
        "pt": np.stack([rng.uniform(3, muons["pt"][:, 1]), 3 + rng.exponential(8, n)], axis=1),
        "eta": rng.uniform(-MAX_ETA, MAX_ETA, (n, 2)),
        "phi": rng.uniform(-np.pi, np.pi, (n, 2)),
        "charge": rng.choice([-1, 1], (n, 2)),
    }
    further |= {name: muons[name][rng.permutation(n)] for name in muons if name not in further}  # of another event
    there = np.concatenate([np.full((n, 2), True), rng.random((n, 2)) < FURTHER_MUONS], axis=1)
    tight = np.tile([True, True, True, False], (n, 1))
    tight[fates == "one tight muon", 1:] = False

    table = {name: np.concatenate([muons[name], further[name]], axis=1) for name in muons}
    order = np.argsort(np.where(there, -table["pt"], np.inf), axis=1)
    counts = there.sum(axis=1)

    def jagged(values: FloatArray | BoolArray, dtype: type = np.float32) -> Any:
        values = np.take_along_axis(values, order, axis=1)[np.arange(there.shape[1]) < counts[:, None]]
        return ak.unflatten(values.astype(dtype), counts)

    return ak.zip(
        {
            **{name: jagged(table[name]) for name in ("pt", "eta", "phi", "dxy", "dz", "ip3d")},
            "mass": jagged(np.full(there.shape, MUON_MASS)),
            "charge": jagged(table["charge"], np.int32),
            "pdgId": jagged(-13 * table["charge"], np.int32),
            "sip3d": jagged(table["ip3d"] / table["ip3d_err"]),
            "pfRelIso03_all": jagged(table["iso03"]),
            "pfRelIso04_all": jagged(table["iso04"]),
            "jetRelIso": jagged(table["jetiso"]),
            "looseId": jagged(np.full(there.shape, True), bool),
            "mediumId": jagged(tight | (rng.random(there.shape) < 0.5), bool),
            "tightId": jagged(tight, bool),
            "isGlobal": jagged(tight | (rng.random(there.shape) < 0.5), bool),
            "isPFcand": jagged(np.full(there.shape, True), bool),
        }
    )


def _jet_collection(n: int, rng: np.random.Generator) -> Any:
    """The `Jet_*` branches, by falling pT; nothing in the analysis depends on them but their number."""
    counts = 1 + rng.poisson(MEAN_JETS - 1, n)
    total = counts.sum()
    pt = 15 * rng.random(total) ** (-1 / 2.5)
    pt = pt[np.lexsort((-pt, np.repeat(np.arange(n), counts)))]
    values = {
        "pt": pt,
        "eta": np.clip(rng.normal(0, 1.8, total), -4.7, 4.7),
        "phi": rng.uniform(-np.pi, np.pi, total),
        "mass": 0.14 * pt * np.exp(0.3 * rng.standard_normal(total)),
    }
    jets = {name: ak.unflatten(value.astype(np.float32), counts) for name, value in values.items()}
    return ak.zip({**jets, "jetId": ak.unflatten(np.full(total, 6, dtype=np.int32), counts)})


def _write(path: Path, events: dict[str, Any], compression: uproot.compression.Compression) -> None:
    """Write one ROOT file whole or not at all."""
    partial = path.with_suffix(".partial")
    with uproot.recreate(partial, compression=compression) as file:
        types = {
            name: values.type.content if isinstance(values, ak.Array) else values.dtype
            for name, values in events.items()
        }
        tree = file.mktree("Events", types, title="SIMULATED events")
        for start in range(0, len(events["run"]), ENTRIES_PER_BASKET):
            tree.extend({name: values[start : start + ENTRIES_PER_BASKET] for name, values in events.items()})
    partial.replace(path)


def upsilon_events(n: int, rng: np.random.Generator, anti_isolation: float | None = 0.55) -> pd.DataFrame:
    """`n` Upsilon decays as features, to inject into a sample: `dimu_mass` and every feature.

    anti_isolation: both muons' iso04 lie above it, as in the search; None: no such cut. The dimuons pass the muon cuts
    of the paper; units are those of `dimuon.columns`.
    """
    decays: list[pd.DataFrame] = []
    while sum(map(len, decays)) < n:
        for process in (UPSILON_ISOLATED, UPSILON_IN_JETS):
            events = features_of(generate(process, rng.poisson(10 * process.os), "os", rng))
            if anti_isolation is not None:
                events = events[(events[["mu0_iso04", "mu1_iso04"]] > anti_isolation).all(axis=1)]
            decays.append(events)
    return pd.concat(decays).sample(n, random_state=rng, ignore_index=True)


def features_of(muons: Muons) -> pd.DataFrame:
    """The dimuon kinematics and both muons' columns, one row a dimuon."""
    harder, softer = ({name: values[:, i] for name, values in muons.items()} for i in (0, 1))
    single = {f"mu{i}_{name}": muon[name] for i, muon in enumerate((harder, softer)) for name in muon}
    return pd.DataFrame({**dimuon(harder, softer), **single})
