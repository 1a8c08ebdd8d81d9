"""What is computed from the two muons of a pair: a function for each column, named like the column.

The four-vectors are those of the library `vector`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

import numpy as np

from dimuon.arrays import BoolArray, FloatArray, IntArray

MUON_MASS = 0.1056583755  # GeV, CODATA 2018


class FourVectors(Protocol):
    """What is used of an array of four-vectors: pt and mass in GeV, phi in rad, each (n_events,)."""

    pt: FloatArray
    eta: FloatArray
    phi: FloatArray
    mass: FloatArray

    def __add__(self, other: "FourVectors") -> "FourVectors": ...

    def deltaR(self, other: "FourVectors") -> FloatArray:
        """Distance in eta and phi: (n_events,)."""
        ...


@dataclass(frozen=True, eq=False)
class MuonPairs:
    """Muon pairs, by their columns.

    columns: {column: (n_events,)} with pt [GeV], eta, phi [rad] and whatever else of the harder muon, mu0_pt ..., and
    of the softer one, mu1_pt ... Where there is a mass [GeV] it is taken for that of the muon.
    """

    columns: Mapping[str, Any]

    def __getitem__(self, column: str) -> FloatArray:
        """(n_events,) of one column, in double precision."""
        return np.asarray(self.columns[column], dtype=float)

    @cached_property
    def harder(self) -> FourVectors:
        """Four-vectors of the harder muons."""
        return self._four_vectors("mu0")

    @cached_property
    def softer(self) -> FourVectors:
        """Four-vectors of the softer muons."""
        return self._four_vectors("mu1")

    @cached_property
    def total(self) -> FourVectors:
        """Four-vectors of the dimuons."""
        return self.harder + self.softer

    def _four_vectors(self, muon: str) -> FourVectors:
        import vector  # slow to import, and most modules want no more than the names of the columns

        momenta = {name: self[f"{muon}_{name}"] for name in ("pt", "eta", "phi")}
        given = f"{muon}_mass" in self.columns
        mass = self[f"{muon}_mass"] if given else np.full(momenta["pt"].shape, MUON_MASS)
        return cast(FourVectors, vector.array({**momenta, "mass": mass}))


Computation = Callable[[MuonPairs], FloatArray]
COMPUTED: dict[str, Computation] = {}  # the columns below, by name


def computed(column: Computation) -> Computation:
    """Make a function a column of the dimuon table."""
    COMPUTED[column.__name__] = column
    return column


@computed
def dimu_mass(pairs: MuonPairs) -> FloatArray:
    """Invariant mass [GeV]."""
    return pairs.total.mass


@computed
def dimu_pt(pairs: MuonPairs) -> FloatArray:
    """Transverse momentum [GeV]."""
    return pairs.total.pt


@computed
def dimu_eta(pairs: MuonPairs) -> FloatArray:
    """Pseudorapidity."""
    return pairs.total.eta


@computed
def dimu_phi(pairs: MuonPairs) -> FloatArray:
    """Azimuth [rad]."""
    return pairs.total.phi


@computed
def mumu_deltaR(pairs: MuonPairs) -> FloatArray:
    """Distance of the two muons in eta and phi."""
    return pairs.harder.deltaR(pairs.softer)


@computed
def mumu_deltapT(pairs: MuonPairs) -> FloatArray:
    """Transverse momentum of the harder muon less that of the softer one [GeV]."""
    return pairs.harder.pt - pairs.softer.pt


def dimuon(mu0: Mapping[str, Any], mu1: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Every computed column of muon pairs: {column: (n_events,)}, in double precision.

    mu0, mu1: {column: (n_events,)} with pt [GeV], eta, phi [rad]; mu0 is the harder muon.
    """
    muons = (("mu0", mu0), ("mu1", mu1))
    return of_pairs({f"{muon}_{name}": values for muon, columns in muons for name, values in columns.items()})


def of_pairs(pairs: Mapping[str, Any]) -> dict[str, FloatArray]:
    """`dimuon` of the columns mu0_pt, mu0_eta, mu0_phi and the same of mu1."""
    muon_pairs = MuonPairs(pairs)
    return {name: computation(muon_pairs) for name, computation in COMPUTED.items()}


def of_two_muons(first: Mapping[str, FloatArray], second: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """All columns of pairs of muons in any order: those of `dimuon`, mu0_pt ... and mu1_pt ..., mu0 the harder.

    first, second: {column: (n_events,)} with E, px, py, pz [GeV], or pt [GeV], eta, phi [rad] and where known mass
    [GeV], and whatever else, alike for both. The squared mass of a rounded four-vector may be negative; its mass is
    then minus the root of that, so that the energy is kept.
    """
    muons = [_as_pt_eta_phi(muon) for muon in (first, second)]
    swapped = muons[1]["pt"] > muons[0]["pt"]
    pairs = {}
    for name in muons[0]:
        pairs[f"mu0_{name}"] = np.where(swapped, muons[1][name], muons[0][name])
        pairs[f"mu1_{name}"] = np.where(swapped, muons[0][name], muons[1][name])
    return of_pairs(pairs) | pairs


def _as_pt_eta_phi(muon: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    if not {"E", "px", "py", "pz"} <= muon.keys():
        return dict(muon)
    import vector

    momentum = cast(FourVectors, vector.array({name: muon[name] for name in ("px", "py", "pz", "E")}))
    computed = {"pt": momentum.pt, "eta": momentum.eta, "phi": momentum.phi, "mass": momentum.mass}
    rest = {name: values for name, values in muon.items() if name not in ("px", "py", "pz", "E", *computed)}
    return {name: np.asarray(values) for name, values in computed.items()} | rest


def mass_of_pairs(pairs: Mapping[str, Any]) -> FloatArray:
    """Invariant mass [GeV] of the same columns: (n_events,)."""
    return dimu_mass(MuonPairs(pairs))


def is_opposite_sign(charge0: IntArray, charge1: IntArray) -> BoolArray:
    """(n_events,) True where the two charges are opposite. charge0, charge1: (n_events,), +1 or -1."""
    opposite: BoolArray = np.asarray(charge0) != np.asarray(charge1)
    return opposite
