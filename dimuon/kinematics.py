"""Four-vectors of muon pairs, by the library `vector`."""

import numpy as np
import vector

MUON_MASS = 0.1056583755  # GeV, CODATA 2018


def dimuon(mu0, mu1):
    """Kinematics of muon pairs.

    mu0, mu1: mappings with `pt` [GeV], `eta`, `phi` [rad], each (n_events,); mu0 is the harder muon.
    Returns {column: (n_events,) float64}: dimu_mass [GeV], dimu_pt [GeV], dimu_eta, dimu_phi [rad], mumu_deltaR,
    mumu_deltapT [GeV] (harder minus softer).
    """
    harder, softer = _four_vector(mu0), _four_vector(mu1)
    pair = harder + softer
    return {
        "dimu_mass": pair.mass,
        "dimu_pt": pair.pt,
        "dimu_eta": pair.eta,
        "dimu_phi": pair.phi,
        "mumu_deltaR": harder.deltaR(softer),
        "mumu_deltapT": harder.pt - softer.pt,
    }


def of_pairs(pairs):
    """`dimuon` of the columns mu0_pt, mu0_eta, mu0_phi and the same of mu1. pairs: {column: (n_events,)}."""
    return dimuon(*_muons(pairs))


def mass_of_pairs(pairs):
    """Invariant mass [GeV] of the same columns: (n_events,)."""
    mu0, mu1 = _muons(pairs)
    return (_four_vector(mu0) + _four_vector(mu1)).mass


def is_opposite_sign(charge0, charge1):
    """(n_events,) True where the two charges are opposite. charge0, charge1: (n_events,), +1 or -1."""
    return np.asarray(charge0) != np.asarray(charge1)


def _muons(pairs):
    return ({name: pairs[f"{prefix}_{name}"] for name in ("pt", "eta", "phi")} for prefix in ("mu0", "mu1"))


def _four_vector(muon):
    pt, eta, phi = (np.asarray(muon[name], dtype=float) for name in ("pt", "eta", "phi"))
    return vector.array({"pt": pt, "eta": eta, "phi": phi, "mass": np.full(pt.shape, MUON_MASS)})
