"""The features: what they are called, how they are drawn and cut."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dimuon.arrays import FloatArray


@dataclass(frozen=True)
class Feature:
    """One feature of a dimuon: a column of the dimuon table that flows and classifiers may see.

    label: LaTeX, as on an axis, without unit. meaning: in words, as the tables' pages say it. unit: "" where it has
    none. low, high, n_bins, log: its histogram. signal_side: "above" or "below", the side a classical cut keeps (the
    paper's Fig. 3: prompt and boosted).
    """

    label: str
    meaning: str
    unit: str
    low: float
    high: float
    signal_side: Literal["above", "below"]
    log: bool = False
    n_bins: int = 40

    @property
    def axis_label(self) -> str:
        """Label with unit, for an axis."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label

    @property
    def edges(self) -> FloatArray:
        """(n_bins + 1,) edges of its histogram, in its unit."""
        if self.log:
            return np.geomspace(self.low, self.high, self.n_bins + 1)
        return np.linspace(self.low, self.high, self.n_bins + 1)


def _of_each_muon(column: str, feature: Feature) -> dict[str, Feature]:
    """The same feature of both muons: mu0, the harder, and mu1, the softer."""
    return {
        f"{muon}_{column}": replace(
            feature,
            label=f"{which.capitalize()} muon {feature.label}",
            meaning=f"{feature.meaning} of the {which} muon",
        )
        for muon, which in (("mu0", "harder"), ("mu1", "softer"))
    }


# A new feature is declared here and computed in `dimuon/kinematics.py`, or read from NanoAOD by one more line of
# `MUON_BRANCHES` in `dimuon/data/schema.py`; tables, cuts and documentation follow.
FEATURES = {
    "dimu_pt": Feature(r"Dimuon $p_T$", "dimuon transverse momentum", "GeV", 20, 150, "above"),
    "dimu_eta": Feature(r"Dimuon $\eta$", "dimuon pseudorapidity", "", -2.5, 2.5, "below"),
    "mumu_deltaR": Feature(r"$\Delta R_{\mu\mu}$", "distance of the two muons in eta and phi", "", 0, 1, "below"),
    "mumu_deltapT": Feature(
        r"$\Delta p_{T,\mu\mu}$", "difference of the muons' transverse momenta", "GeV", 0, 80, "below"
    ),
    "mu0_pt": Feature(r"Harder muon $p_T$", "transverse momentum of the harder muon", "GeV", 17, 100, "above"),
    "mu1_pt": Feature(r"Softer muon $p_T$", "transverse momentum of the softer muon", "GeV", 8, 50, "above"),
    **_of_each_muon("eta", Feature(r"$\eta$", "pseudorapidity", "", -2.5, 2.5, "below")),
    **_of_each_muon("ip3d", Feature("IP3D", "3D impact parameter", "cm", 1e-4, 0.5, "below", log=True)),
    **_of_each_muon(
        "iso04", Feature("isolation (0.4)", "relative PF isolation within 0.4", "", 1e-2, 30, "below", log=True)
    ),
    **_of_each_muon(
        "iso03", Feature("isolation (0.3)", "relative PF isolation within 0.3", "", 1e-2, 30, "below", log=True)
    ),
    **_of_each_muon(
        "jetiso", Feature("jet isolation", "relative isolation in the nearest jet", "", 1e-2, 30, "below", log=True)
    ),
}

# the paper's set, and the eight alternatives of the published analysis
FEATURE_SETS = {
    "paper": ("dimu_pt", "mu0_ip3d", "mu1_ip3d"),
    "single_0": ("mu0_pt", "mu1_pt", "mu0_eta", "mu1_eta"),
    "single_1": ("mu0_iso04", "mu1_iso04"),
    "single_2": ("mu0_pt", "mu1_pt"),
    "single_3": ("mu0_ip3d", "mu1_ip3d"),
    "double_0": ("dimu_pt", "dimu_eta", "mumu_deltaR", "mumu_deltapT"),
    "double_1": ("dimu_pt", "dimu_eta"),
    "double_2": ("mumu_deltaR", "mumu_deltapT"),
    "mix_0": ("dimu_pt", "mu0_iso04", "mu1_iso04"),
}
