"""The features: what they are called, how they are drawn and cut."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dimuon.arrays import FloatArray

MAX_VALUES = 40  # whole numbers of at most so many different values are discrete unless declared otherwise
SHOWN = (0.002, 0.998)  # quantiles between which a feature is drawn where no range is declared
DECADES = 2.5  # a positive feature that spreads over more of them is drawn on a logarithmic axis


@dataclass(frozen=True)
class Feature:
    """One feature of an event: a column of its table that flows and classifiers may see.

    label: LaTeX, as on an axis, without unit. meaning: in words, as the tables' pages say it; "": the label. unit: ""
    where it has none. low, high, n_bins, log: its histogram. signal_side: "above" or "below", the side a classical cut
    keeps (the paper's Fig. 3: prompt and boosted). discrete: it has few values, and nothing lies between them. What is
    None is chosen from the data by `completed`, but for bounds: (lowest, highest) value it can have, None where there
    is none or, as in the published preprocessing, none is respected.
    """

    label: str
    meaning: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    signal_side: Literal["above", "below"] = "above"
    log: bool | None = None
    n_bins: int = 40
    discrete: bool | None = None
    bounds: tuple[float | None, float | None] = (None, None)

    @property
    def axis_label(self) -> str:
        """Label with unit, for an axis."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label

    @property
    def edges(self) -> FloatArray:
        """(n_bins + 1,) edges of its histogram, in its unit. ValueError where its range is not known."""
        if self.low is None or self.high is None:
            raise ValueError(f"the range of {self.label} is not known before it is chosen from data")
        if self.log:
            return np.geomspace(self.low, self.high, self.n_bins + 1)
        return np.linspace(self.low, self.high, self.n_bins + 1)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to be chosen from the data."""
        return None not in (self.low, self.high, self.log, self.discrete)

    def completed(self, values: FloatArray) -> "Feature":
        """The feature with what was not declared chosen from its values: (n_events,), finite.

        >>> Feature("Tracks").completed(np.array([3.0, 5.0, 4.0, 4.0])).edges.tolist()
        [2.5, 3.5, 4.5, 5.5]
        """
        if self.is_complete or len(values) == 0:
            return self
        discrete = self.discrete
        if discrete is None:
            discrete = bool((values == np.round(values)).all()) and len(np.unique(values)) <= MAX_VALUES
        if discrete and self.low is None and self.high is None and not self.log:
            low, high = float(values.min()), float(values.max())
            step = float(np.diff(np.unique(values)).min()) if high > low else 1.0
            if high - low < 4 * MAX_VALUES * step:
                n_bins = round((high - low) / step) + 1
                low, high = low - step / 2, high + step / 2  # a bin for each value
                return replace(self, discrete=True, log=False, low=low, high=high, n_bins=n_bins)
        low, high = (
            float(np.quantile(values, quantile)) if end is None else end
            for end, quantile in zip((self.low, self.high), SHOWN, strict=True)
        )
        if not low < high:  # nearly all in one place
            low, high = float(values.min()), float(values.max())
            low, high = (low, high) if low < high else (low - 0.5, low + 0.5)
        log = self.log if self.log is not None else low > 0 and math.log10(high / low) > DECADES
        if log and low <= 0:  # a logarithmic axis shows the positive values
            positive = values[values > 0]
            low = float(np.quantile(positive, SHOWN[0])) if len(positive) else high / 10
        return replace(self, low=low, high=high, log=bool(log), discrete=discrete)


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


def _of_muons(
    label: str, meaning: str, unit: str, low: float, high: float, side: Literal["above", "below"], log: bool = False
) -> Feature:
    """A continuous feature on the axis of the paper's figures."""
    return Feature(label, meaning, unit, low, high, side, log, discrete=False)


# A new feature is declared here and computed in `dimuon/kinematics.py`, or read from NanoAOD by one more line of
# `MUON_BRANCHES` in `dimuon/data/schema.py`; tables, cuts and documentation follow.
FEATURES = {
    "dimu_pt": _of_muons(r"Dimuon $p_T$", "dimuon transverse momentum", "GeV", 20, 150, "above"),
    "dimu_eta": _of_muons(r"Dimuon $\eta$", "dimuon pseudorapidity", "", -2.5, 2.5, "below"),
    "mumu_deltaR": _of_muons(r"$\Delta R_{\mu\mu}$", "distance of the two muons in eta and phi", "", 0, 1, "below"),
    "mumu_deltapT": _of_muons(
        r"$\Delta p_{T,\mu\mu}$", "difference of the muons' transverse momenta", "GeV", 0, 80, "below"
    ),
    "mu0_pt": _of_muons(r"Harder muon $p_T$", "transverse momentum of the harder muon", "GeV", 17, 100, "above"),
    "mu1_pt": _of_muons(r"Softer muon $p_T$", "transverse momentum of the softer muon", "GeV", 8, 50, "above"),
    **_of_each_muon("eta", _of_muons(r"$\eta$", "pseudorapidity", "", -2.5, 2.5, "below")),
    **_of_each_muon("ip3d", _of_muons("IP3D", "3D impact parameter", "cm", 1e-4, 0.5, "below", log=True)),
    **_of_each_muon(
        "iso04", _of_muons("isolation (0.4)", "relative PF isolation within 0.4", "", 1e-2, 30, "below", log=True)
    ),
    **_of_each_muon(
        "iso03", _of_muons("isolation (0.3)", "relative PF isolation within 0.3", "", 1e-2, 30, "below", log=True)
    ),
    **_of_each_muon(
        "jetiso", _of_muons("jet isolation", "relative isolation in the nearest jet", "", 1e-2, 30, "below", log=True)
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
