"""The mass window of the bump hunt: sidebands, signal region, bins.

SBL = [sb_low, sr_low), SR = [sr_low, sr_high], SBH = (sr_high, sb_high]; the paper's step 1.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Strict

REGIONS = ("SBL", "SR", "SBH")


@dataclass(frozen=True)
class MassWindow:
    """The four edges [GeV] of a resonance search, in rising order.

    The defaults of `configs/upsilon.yaml` are the paper's: 5.0, 9.0, 10.6, 16.0 GeV.
    """

    sb_low: Annotated[float, Strict()]
    sr_low: Annotated[float, Strict()]
    sr_high: Annotated[float, Strict()]
    sb_high: Annotated[float, Strict()]

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self):
        values = (self.sb_low, self.sr_low, self.sr_high, self.sb_high)
        if not all(isinstance(value, (int, float)) and np.isfinite(value) for value in values):
            raise ValueError(f"window edges must be finite numbers, found {values}")
        if not self.sb_low < self.sr_low < self.sr_high < self.sb_high:
            raise ValueError(f"window edges must rise (sb_low < sr_low < sr_high < sb_high), found {values}")

    @property
    def label(self):
        """The SR in words: "9-10.6"."""
        return f"{self.sr_low:g}-{self.sr_high:g}"

    def region(self, mass):
        """Region of each event. mass: (n_events,), GeV. Returns (n_events,) of "SBL", "SR", "SBH" or "" (outside)."""
        mass = np.asarray(mass, dtype=float)
        masks = [self.in_sbl(mass), self.in_sr(mass), self.in_sbh(mass)]
        return np.select(masks, REGIONS, default="")

    def in_sr(self, mass):
        """True where mass [GeV] lies in the signal region, both edges included."""
        mass = np.asarray(mass)
        return (mass >= self.sr_low) & (mass <= self.sr_high)

    def in_sbl(self, mass):
        """True where mass [GeV] lies in the low sideband, [sb_low, sr_low)."""
        mass = np.asarray(mass)
        return (mass >= self.sb_low) & (mass < self.sr_low)

    def in_sbh(self, mass):
        """True where mass [GeV] lies in the high sideband, (sr_high, sb_high]."""
        mass = np.asarray(mass)
        return (mass > self.sr_high) & (mass <= self.sb_high)

    def in_sidebands(self, mass):
        """True where mass [GeV] lies in either sideband."""
        return self.in_sbl(mass) | self.in_sbh(mass)

    def in_window(self, mass):
        """True where mass [GeV] lies between the outer edges, both included."""
        mass = np.asarray(mass)
        return (mass >= self.sb_low) & (mass <= self.sb_high)

    def binning(self, n_bins_sr):
        """The `MassBins` with `n_bins_sr` equal bins over the SR and the same width outward from it."""
        return MassBins(self, n_bins_sr)

    def edges(self, n_bins_sr):
        """Bin edges [GeV], rising: see `MassBins`."""
        return self.binning(n_bins_sr).edges


@dataclass(frozen=True)
class MassBins:
    """Equal mass bins: `n_bins_sr` over the SR, continued outward as far as whole bins fit in each sideband.

    11 bins over 9.0-10.6 GeV are 1.5 % of the mass at 9.8 GeV. The published code's `num_bins_SR` counted edges.
    Events between the outermost edges and the ends of the window fall in no bin. A mass exactly on an edge belongs
    to the bin that the regions give it: bins below `sr_high` are closed below, those above it closed above, and
    the last SR bin is closed on both sides.
    """

    window: MassWindow
    n_bins_sr: int

    def __post_init__(self):
        if not (isinstance(self.n_bins_sr, (int, np.integer)) and self.n_bins_sr >= 1):
            raise ValueError(f"n_bins_sr must be a whole number of at least 1, found {self.n_bins_sr!r}")
        if self.n_bins_sbl < 1 or self.n_bins_sbh < 1:
            raise ValueError(
                f"{self.n_bins_sr} bins over the SR are {self.width:.4g} GeV wide: no whole bin fits in a sideband"
            )

    @property
    def width(self):
        """Bin width [GeV]."""
        return (self.window.sr_high - self.window.sr_low) / self.n_bins_sr

    @property
    def n_bins_sbl(self):
        """Whole bins in the low sideband."""
        return _whole_bins(self.window.sr_low - self.window.sb_low, self.width)

    @property
    def n_bins_sbh(self):
        """Whole bins in the high sideband."""
        return _whole_bins(self.window.sb_high - self.window.sr_high, self.width)

    @cached_property
    def edges(self):
        """(n_bins + 1,), GeV; sr_low and sr_high are among them to the last bit."""
        window, width = self.window, self.width
        below = window.sr_low - width * np.arange(self.n_bins_sbl, 0, -1)
        inside = np.linspace(window.sr_low, window.sr_high, self.n_bins_sr + 1)
        above = window.sr_high + width * np.arange(1, self.n_bins_sbh + 1)
        return np.concatenate([below, inside, above])

    @cached_property
    def is_sr(self):
        """(n_bins,) True for the bins of the SR."""
        sr = np.zeros(self.n_bins_sbl + self.n_bins_sr + self.n_bins_sbh, dtype=bool)
        sr[self.n_bins_sbl : self.n_bins_sbl + self.n_bins_sr] = True
        return sr

    def index(self, mass):
        """Bin of each event, -1 where none. mass: (n_events,), GeV."""
        mass = np.asarray(mass, dtype=float)
        closed_below = np.searchsorted(self.edges, mass, side="right") - 1
        closed_above = np.searchsorted(self.edges, mass, side="left") - 1
        index = np.where(mass < self.window.sr_high, closed_below, closed_above)
        return np.where((index >= 0) & (index < len(self.is_sr)), index, -1)

    def counts(self, mass, weights=None):
        """Sum of weights (events where None) in each bin: (n_bins,). mass, weights: (n_events,)."""
        index = self.index(mass)
        inside = index >= 0
        if weights is not None:
            weights = np.asarray(weights, dtype=float)[inside]
        return np.bincount(index[inside], weights=weights, minlength=len(self.is_sr)).astype(float)


def _whole_bins(length, width):
    return int(np.floor(length / width * (1 + 1e-12)))
