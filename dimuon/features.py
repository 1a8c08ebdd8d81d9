"""The features: what they are called, how they are drawn and cut, and how they are prepared for the flows."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import expit, logit

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

STRETCH = 1.2  # u = (x - min) / (1.2 max - min): room above the largest value
SQUEEZE = (0.02, 0.98)  # u is mapped linearly into this interval before the logit


class LogitScaler:
    """Feature preprocessing of the published analysis (slides, backup), with its exact inverse.

    Per feature: u = (x - min) / (1.2 max - min), v = 0.02 + 0.96 u, y = (logit v - mean) / std. min and max are those
    of the events it is fitted on, mean and std those of their sidebands. The published code adds a small number
    inside the logit that its inverse leaves out (round trip off by 1e-4); there is none here.

    A value outside the fitted range but with 0 < v < 1 is transformed like any other; beyond that no finite
    image exists and `transform` raises: nothing is clipped.
    """

    def __init__(self):
        self.minimum = self.span = self.mean = self.std = None

    def fit(self, x, sideband=None, limits_from_sidebands=False):
        """Learn the transform from x: (n_events, n_features), physical units; returns itself.

        sideband: (n_events,) True for sideband events, the ones that give mean and std (None: all).
        limits_from_sidebands: take minimum and maximum from them too, so that no SR event enters.
        Raises ValueError for a value that is not finite and for a constant feature.
        """
        x = _table(x)
        sideband = np.ones(len(x), dtype=bool) if sideband is None else np.asarray(sideband, dtype=bool)
        if not sideband.any():
            raise ValueError("no sideband event to fit the feature scaler on")
        limits = x[sideband] if limits_from_sidebands else x
        self.minimum = limits.min(axis=0)
        maximum = limits.max(axis=0)
        constant = np.flatnonzero(maximum == self.minimum)
        if constant.size:
            index = int(constant[0])
            raise ValueError(f"feature {index} is constant ({self.minimum[index]:g}): nothing to learn from it")
        # 1.2 max lies below max where max is negative: stretch the distance instead, the same idea
        top = np.where(maximum > 0, STRETCH * maximum, maximum + (STRETCH - 1) * (maximum - self.minimum))
        self.span = top - self.minimum
        self.mean, self.std = np.zeros(x.shape[1]), np.ones(x.shape[1])
        y = self.transform(x[sideband])
        self.mean, self.std = y.mean(axis=0), y.std(axis=0)
        return self

    def outside(self, x):
        """(n_events,) True where an event has a feature without a finite image. x: (n_events, n_features)."""
        v = self._squeezed(_table(x, finite=False))
        return ~((v > 0) & (v < 1)).all(axis=1)

    def transform(self, x):
        """y: (n_events, n_features), dimensionless. x: same shape, physical units. Raises ValueError outside."""
        x = _table(x)
        outside = self.outside(x)
        if outside.any():
            raise ValueError(
                f"{outside.sum()} of {len(x)} events lie outside the range the feature scaler was fitted on, "
                f"first {x[np.argmax(outside)]}"
            )
        return (logit(self._squeezed(x)) - self.mean) / self.std

    def inverse(self, y):
        """x: (n_events, n_features), physical units, with transform(inverse(y)) = y."""
        low, high = SQUEEZE
        u = (expit(_table(y) * self.std + self.mean) - low) / (high - low)
        return self.minimum + u * self.span

    def log_jacobian(self, x):
        """log |det dy/dx|: (n_events,). x: (n_events, n_features), physical units."""
        low, high = SQUEEZE
        v = self._squeezed(_table(x))
        return np.sum(np.log((high - low) / (v * (1 - v) * self.span * self.std)), axis=1)

    def state(self):
        """The fitted numbers as lists, for saving."""
        return {name: getattr(self, name).tolist() for name in ("minimum", "span", "mean", "std")}

    @classmethod
    def from_state(cls, state):
        """The scaler that `state()` described."""
        scaler = cls()
        for name in ("minimum", "span", "mean", "std"):
            setattr(scaler, name, np.asarray(state[name], dtype=float))
        return scaler

    def _squeezed(self, x):
        low, high = SQUEEZE
        return low + (high - low) * (x - self.minimum) / self.span


def _table(x, finite=True):
    x = np.asarray(x, dtype=float)
    if x.ndim != 2:
        raise ValueError(f"features must have shape (n_events, n_features), found {x.shape}")
    if finite and not np.isfinite(x).all():
        bad = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"feature {bad[1]} of event {bad[0]} is {x[tuple(bad)]}: features must be finite")
    return x
