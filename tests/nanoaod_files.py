"""Small NanoAOD files for the tests of steps 1 and 2, written branch by branch from random muons."""

import awkward as ak
import numpy as np
import uproot

TRIGGER = "HLT_TrkMu15_DoubleTrkMu5NoFiltersNoVtx"


def events(n, seed=0, run=278820, mass=None, triggers=(TRIGGER,), first_event=1):
    """{branch: array} of n events with 0 to 5 muons, hardest first. mass: (low, high) [GeV] of the two hardest, where
    given, for events with two muons or more."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, n)

    def jagged(values, kind=np.float32):
        return ak.unflatten(np.asarray(values, kind), counts)

    total = counts.sum()
    pt = ak.sort(jagged(rng.exponential(15, total) + 3), axis=1, ascending=False)
    eta, phi = rng.uniform(-2.4, 2.4, total), rng.uniform(-np.pi, np.pi, total)
    if mass is not None:
        eta, phi = _pairs_at(rng.uniform(*mass, n), counts, ak.flatten(pt).to_numpy(), eta, phi)
    jets = rng.integers(0, 9, n)
    return {
        "run": np.full(n, run, np.uint32),
        "luminosityBlock": (1 + np.arange(n) * 40 // max(n, 1)).astype(np.uint32),
        "event": (first_event + np.arange(n)).astype(np.uint64),
        **{trigger: rng.random(n) < 0.8 for trigger in triggers},
        "Muon": ak.zip(
            {
                "pt": pt,
                "eta": jagged(eta),
                "phi": jagged(phi),
                "charge": jagged(rng.choice([-1, 1], total), np.int32),
                "ip3d": jagged(rng.exponential(0.01, total)),
                "dxy": jagged(rng.normal(0, 0.01, total)),
                "dz": jagged(rng.normal(0, 0.02, total)),
                "pfRelIso03_all": jagged(rng.exponential(0.7, total)),
                "pfRelIso04_all": jagged(rng.exponential(1.0, total)),
                "jetRelIso": jagged(rng.exponential(1.0, total)),
                "tightId": jagged(rng.random(total) < 0.8, bool),
            }
        ),
        "Jet": ak.zip({"pt": ak.unflatten(rng.exponential(30, jets.sum()).astype(np.float32), jets)}),
    }


def _pairs_at(mass, counts, pt, eta, phi):
    """Put the two hardest muons of each event at a common phi and the eta distance that gives the mass (massless)."""
    first = np.cumsum(counts) - counts
    chosen = counts >= 2
    i0, i1 = first[chosen], first[chosen] + 1
    eta[i0], phi[i1] = 0.0, phi[i0]
    eta[i1] = np.arccosh(1 + mass[chosen] ** 2 / (2 * pt[i0] * pt[i1]))
    return eta, phi


def write(path, arrays, drop=(), basket=1000, compression=None, tree="Events"):
    """Write a NanoAOD file of `events(...)`, without the branches (or Muon fields) named in `drop`."""
    arrays = {name: values for name, values in arrays.items() if name not in drop}
    for name in ("Muon", "Jet"):
        kept = [field for field in arrays[name].fields if f"{name}_{field}" not in drop]
        arrays[name] = arrays[name][kept]
    kinds = {
        name: values.type.content if isinstance(values, ak.Array) else values.dtype for name, values in arrays.items()
    }
    n = len(arrays["event"])
    with uproot.recreate(path, compression=compression or uproot.ZLIB(1)) as file:
        file.mktree(tree, kinds, counter_name=lambda jagged: f"n{jagged}")
        for start in range(0, max(n, 1), basket):
            file[tree].extend({name: values[start : start + basket] for name, values in arrays.items()})
    return path
