"""A toy of the CMS data: NanoAOD files with Upsilons, Drell-Yan and hadron decays. SIMULATED wherever it shows.

It stands in for the data where a whole run must take minutes (the demo) or where the truth must be known (injection
studies). What is in it, and how far it is like the data, is in `dimuon.processes`; here it becomes events and files.
"""

import json
import logging
from pathlib import Path

import awkward as ak
import numpy as np
import pandas as pd
import uproot

from dimuon import execution
from dimuon.kinematics import MUON_MASS, dimuon
from dimuon.processes import (
    MAX_ETA,
    PROCESSES,
    UPSILON_IN_JETS,
    UPSILON_ISOLATED,
    generate,
)

log = logging.getLogger("dimuon")

# What becomes of the dimuons beside the good ones, each failing one cut: how many, relative to the good ones.
FATES = {
    "good": 1.0,
    "uncertified": 0.05,  # in a luminosity section that is not certified
    "untriggered": 0.05,
    "one tight muon": 0.10,
    "soft muons": 0.20,  # above the trigger's thresholds, below the cuts
}
OTHER_TRIGGERS = ("HLT_IsoMu24", "HLT_Mu50", "HLT_Mu17_TrkIsoVVL_Mu8_TrkIsoVVL_DZ")
FURTHER_MUONS = (0.54, 0.43, 0.03)  # probability of none, one, two muons beside the dimuon
MEAN_JETS = 6.1
FIRST_RUN = 278820  # of 2016, eras G and H
CERTIFIED_SECTIONS = ((1, 60), (71, 120))
UNCERTIFIED_SECTIONS = (61, 70)
FIRST_EVENT = 2**32 - 20_000  # event numbers need 64 bits: some lie above 2**32
ENTRIES_PER_BASKET = 20_000
COMPRESSIONS = {"zlib": uproot.ZLIB(4), "lzma": uproot.LZMA(4), "zstd": uproot.ZSTD(5)}


def write_nanoaod(folder, simulation, seed, trigger):
    """Write the toy NanoAOD files and their list of certified luminosity sections; returns the ROOT files' paths.

    folder: made where absent. simulation: the section `input.simulation` of the configuration (n_files, scale,
    compression). seed: whole number. trigger: name of the trigger's branch. Branch names and types are those of CMS
    NanoAOD; `certified_luminosity.json` has the form of CMS. The same seed gives the same contents in every branch (the
    bytes of the ROOT files still differ, by the time stamps that ROOT files carry).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    muons, fates = _all_dimuons(simulation.scale, seed)
    runs = [FIRST_RUN + i for i in range(simulation.n_files)]
    certified = {str(run): [list(sections) for sections in CERTIFIED_SECTIONS] for run in runs}
    (folder / "certified_luminosity.json").write_text(json.dumps(certified) + "\n", encoding="utf-8")
    paths = []
    for i, run in enumerate(runs):
        rng = execution.generator(seed, "simulation", "file", i)
        mine = slice(i, None, simulation.n_files)
        events = _events({name: values[mine] for name, values in muons.items()}, fates[mine], run, trigger, rng)
        paths.append(folder / f"simulated_{i}.root")
        _write(paths[-1], events, COMPRESSIONS[simulation.compression])
        log.info("%s: %d SIMULATED events", paths[-1], len(events["run"]))
    return paths


def _all_dimuons(scale, seed):
    """({column: (n, 2)}, (n,) fates) of every process, charge and fate, in random order."""
    blocks, fates = [], []
    for process in PROCESSES:
        for charge in ("os", "ss"):
            rng = execution.generator(seed, "simulation", process.name, charge)
            for fate, share in FATES.items():
                n = rng.poisson(getattr(process, charge) * share * scale)
                blocks.append(generate(process, n, charge, rng, soft=fate == "soft muons"))
                fates += [fate] * n
    order = execution.generator(seed, "simulation", "order").permutation(len(fates))
    muons = {name: np.concatenate([block[name] for block in blocks])[order] for name in blocks[0]}
    return muons, np.array(fates)[order]


def _events(muons, fates, run, trigger, rng):
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
        **dict(
            zip(
                OTHER_TRIGGERS,
                ((muons["pt"][:, 0] > 24) & isolated, muons["pt"][:, 0] > 50, isolated),
                strict=True,
            )
        ),
        trigger: fates != "untriggered",
        "Muon": _muon_collection(muons, fates, rng),
        "Jet": _jet_collection(n, rng),
    }


def _muon_collection(muons, fates, rng):
    """The `Muon_*` branches: the dimuon and what further muons there are, by falling pT."""
    n = len(fates)
    further = {
        "pt": 3 + rng.exponential(6, (n, 2)),
        "eta": rng.uniform(-MAX_ETA, MAX_ETA, (n, 2)),
        "phi": rng.uniform(-np.pi, np.pi, (n, 2)),
        "charge": rng.choice([-1, 1], (n, 2)),
    }
    further |= {name: muons[name][rng.permutation(n)] for name in muons if name not in further}  # of another event
    # a further muon may be the hardest of the event, but then it is not tight: the selection has to look
    softest = (further["pt"] < muons["pt"][:, 1:]) & (fates != "one tight muon")[:, None]
    tight = np.concatenate([np.full((n, 2), True), softest & (rng.random((n, 2)) < 0.2)], axis=1)
    tight[fates == "one tight muon", 1] = False
    there = np.arange(4) < 2 + rng.choice(len(FURTHER_MUONS), n, p=FURTHER_MUONS)[:, None]

    table = {name: np.concatenate([muons[name], further[name]], axis=1) for name in muons}
    order = np.argsort(np.where(there, -table["pt"], np.inf), axis=1)
    counts = there.sum(axis=1)

    def jagged(values, dtype=np.float32):
        values = np.take_along_axis(values, order, axis=1)[np.arange(4) < counts[:, None]]
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


def _jet_collection(n, rng):
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


def _write(path, events, compression):
    with uproot.recreate(path, compression=compression) as file:
        types = {
            name: values.type.content if isinstance(values, ak.Array) else values.dtype
            for name, values in events.items()
        }
        tree = file.mktree("Events", types, title="SIMULATED events")
        for start in range(0, len(events["run"]), ENTRIES_PER_BASKET):
            tree.extend({name: values[start : start + ENTRIES_PER_BASKET] for name, values in events.items()})


def upsilon_events(n, rng, anti_isolation=0.55):
    """`n` Upsilon decays as features, to inject into a sample: a DataFrame with `dimu_mass` and every feature.

    anti_isolation: both muons' iso04 lie above it, as in the search; None: no such cut. rng: `numpy.random.Generator`.
    The dimuons pass the muon cuts of the paper; units are those of `dimuon.columns`.
    """
    processes = (UPSILON_ISOLATED, UPSILON_IN_JETS)
    found, missing = [], n
    while missing > 0:
        for process in processes:
            share = process.os / sum(each.os for each in processes)
            muons = generate(process, rng.binomial(max(20 * n, 1000), share), "os", rng)
            kept = (
                np.full(len(muons["pt"]), True)
                if anti_isolation is None
                else (muons["iso04"] > anti_isolation).all(axis=1)
            )
            found.append(_features({name: values[kept] for name, values in muons.items()}))
        missing = n - sum(map(len, found))
    events = pd.concat(found, ignore_index=True)
    return events.iloc[rng.permutation(len(events))[:n]].reset_index(drop=True)


def _features(muons):
    """The dimuon kinematics and both muons' columns, one row a dimuon."""
    harder, softer = ({name: values[:, i] for name, values in muons.items()} for i in (0, 1))
    single = {f"mu{i}_{name}": muon[name] for i, muon in enumerate((harder, softer)) for name in muon}
    return pd.DataFrame({**dimuon(harder, softer), **single})
