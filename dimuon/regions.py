"""The mass window of the bump hunt: sidebands, signal region, bins.

SBL = [sb_low, sr_low), SR = [sr_low, sr_high], SBH = (sr_high, sb_high]; the paper's step 1.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ConfigDict, Strict

from dimuon.arrays import BoolArray, FloatArray, IntArray
from dimuon.errors import AnalysisError

REGIONS = ("SBL", "SR", "SBH")


@dataclass(frozen=True)
class MassWindow:
    """The four edges [GeV] of a resonance search, in rising order.

    The defaults of `configs/upsilon.yaml` are the paper's: 5.0, 9.0, 10.6, 16.0 GeV.

    >>> window = MassWindow(5.0, 9.0, 10.6, 16.0)
    >>> window.region([8.999, 9.0, 10.6, 10.601, 17.0]).tolist()
    ['SBL', 'SR', 'SR', 'SBH', '']
    >>> window.edges(n_bins_sr=2).round(3).tolist()
    [5.0, 5.8, 6.6, 7.4, 8.2, 9.0, 9.8, 10.6, 11.4, 12.2, 13.0, 13.8, 14.6, 15.4]
    """

    sb_low: Annotated[float, Strict()]
    sr_low: Annotated[float, Strict()]
    sr_high: Annotated[float, Strict()]
    sb_high: Annotated[float, Strict()]

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        values = (self.sb_low, self.sr_low, self.sr_high, self.sb_high)
        if not all(isinstance(value, (int, float)) and np.isfinite(value) for value in values):
            raise ValueError(f"window edges must be finite numbers, found {values}")
        if not self.sb_low < self.sr_low < self.sr_high < self.sb_high:
            raise ValueError(f"window edges must rise (sb_low < sr_low < sr_high < sb_high), found {values}")

    @property
    def label(self) -> str:
        """The SR in words: "9-10.6"."""
        return f"{self.sr_low:g}-{self.sr_high:g}"

    def region(self, mass: ArrayLike) -> NDArray[np.str_]:
        """Region of each event, "SBL", "SR", "SBH" or "" (outside): (n_events,). mass: (n_events,), GeV."""
        mass = np.asarray(mass, dtype=float)
        masks = [self.in_sbl(mass), self.in_sr(mass), self.in_sbh(mass)]
        return np.select(masks, REGIONS, default="")

    def in_sr(self, mass: ArrayLike) -> BoolArray:
        """True where mass [GeV] lies in the signal region, both edges included."""
        mass = _numbers(mass)
        return (mass >= self.sr_low) & (mass <= self.sr_high)

    def in_sbl(self, mass: ArrayLike) -> BoolArray:
        """True where mass [GeV] lies in the low sideband, [sb_low, sr_low)."""
        mass = _numbers(mass)
        return (mass >= self.sb_low) & (mass < self.sr_low)

    def in_sbh(self, mass: ArrayLike) -> BoolArray:
        """True where mass [GeV] lies in the high sideband, (sr_high, sb_high]."""
        mass = _numbers(mass)
        return (mass > self.sr_high) & (mass <= self.sb_high)

    def in_sidebands(self, mass: ArrayLike) -> BoolArray:
        """True where mass [GeV] lies in either sideband."""
        return self.in_sbl(mass) | self.in_sbh(mass)

    def in_window(self, mass: ArrayLike) -> BoolArray:
        """True where mass [GeV] lies between the outer edges, both included."""
        mass = _numbers(mass)
        return (mass >= self.sb_low) & (mass <= self.sb_high)

    def around_sr(self, margin: float) -> tuple[float, float]:
        """Two masses [GeV] outside the SR by `margin` of its width, or the window's ends where these come first.

        >>> MassWindow(5.0, 9.0, 10.6, 16.0).around_sr(0.25)
        (8.6, 11.0)
        """
        outside = margin * (self.sr_high - self.sr_low)
        return max(self.sb_low, self.sr_low - outside), min(self.sb_high, self.sr_high + outside)

    def binning(self, n_bins_sr: int) -> "MassBins":
        """The `MassBins` with `n_bins_sr` equal bins over the SR and the same width outward from it."""
        return MassBins(self, n_bins_sr)

    def edges(self, n_bins_sr: int) -> FloatArray:
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

    def __post_init__(self) -> None:
        if not (isinstance(self.n_bins_sr, (int, np.integer)) and self.n_bins_sr >= 1):
            raise ValueError(f"n_bins_sr must be a whole number of at least 1, found {self.n_bins_sr!r}")
        if self.n_bins_sbl < 1 or self.n_bins_sbh < 1:
            raise AnalysisError(
                f"{self.n_bins_sr} bins over the SR are {self.width:.4g} GeV wide: no whole bin fits in a sideband",
                setting="n_bins_sr",
            )

    @property
    def width(self) -> float:
        """Bin width [GeV]."""
        return (self.window.sr_high - self.window.sr_low) / self.n_bins_sr

    @property
    def n_bins_sbl(self) -> int:
        """Whole bins in the low sideband."""
        return _whole_bins(self.window.sr_low - self.window.sb_low, self.width)

    @property
    def n_bins_sbh(self) -> int:
        """Whole bins in the high sideband."""
        return _whole_bins(self.window.sb_high - self.window.sr_high, self.width)

    def require_determined(self, degree: int) -> None:
        """`AnalysisError` where the sideband bins cannot determine a function with degree + 1 coefficients."""
        if degree + 1 > self.n_bins_sbl + self.n_bins_sbh:
            raise AnalysisError(
                f"{degree + 1} coefficients (degree {degree}) cannot be determined from {self.n_bins_sbl} + "
                f"{self.n_bins_sbh} sideband bins, of {self.n_bins_sr} over the SR",
                setting="degree",
            )

    @cached_property
    def edges(self) -> FloatArray:
        """(n_bins + 1,), GeV; sr_low and sr_high are among them to the last bit."""
        window, width = self.window, self.width
        below = window.sr_low - width * np.arange(self.n_bins_sbl, 0, -1)
        inside = np.linspace(window.sr_low, window.sr_high, self.n_bins_sr + 1)
        above = window.sr_high + width * np.arange(1, self.n_bins_sbh + 1)
        return np.concatenate([below, inside, above])

    @cached_property
    def is_sr(self) -> BoolArray:
        """(n_bins,) True for the bins of the SR."""
        sr = np.zeros(self.n_bins_sbl + self.n_bins_sr + self.n_bins_sbh, dtype=bool)
        sr[self.n_bins_sbl : self.n_bins_sbl + self.n_bins_sr] = True
        return sr

    def index(self, mass: ArrayLike) -> IntArray:
        """Bin of each event, -1 where none. mass: (n_events,), GeV."""
        mass = np.asarray(mass, dtype=float)
        closed_below = np.searchsorted(self.edges, mass, side="right") - 1
        closed_above = np.searchsorted(self.edges, mass, side="left") - 1
        index = np.where(mass < self.window.sr_high, closed_below, closed_above)
        return np.where((index >= 0) & (index < len(self.is_sr)), index, -1)

    def counts(self, mass: ArrayLike, weights: ArrayLike | None = None) -> FloatArray:
        """Sum of weights (events where None) in each bin: (n_bins,). mass, weights: (n_events,)."""
        return self.counts_at(self.index(mass), weights)

    def counts_at(self, index: IntArray, weights: ArrayLike | None = None) -> FloatArray:
        """`counts` of events whose bins are known: (n_bins,). index: of `index`. weights: (n_events,)."""
        inside = index >= 0
        if weights is not None:
            weights = np.asarray(weights, dtype=float)[inside]
        return np.bincount(index[inside], weights=weights, minlength=len(self.is_sr)).astype(float)

    def sr_as_one(self, values: FloatArray) -> FloatArray:
        """The sideband bins and, last, the sum over the SR: (..., n_sidebands + 1). values: (..., n_bins).

        >>> MassWindow(5.0, 9.0, 10.6, 16.0).binning(1).sr_as_one(np.arange(6.0)).tolist()
        [0.0, 1.0, 3.0, 4.0, 5.0, 2.0]
        """
        sr = values[..., self.is_sr].sum(axis=-1, keepdims=True)
        return np.concatenate([values[..., ~self.is_sr], sr], axis=-1)

    def merged(self, n_bins: int) -> IntArray:
        """Positions in `edges` of wider bins: the SR as one, and `n_bins` to one outward from it.

        The wider bins lie on a grid of `n_bins` from `sr_low`; the one that the SR's upper end cuts is narrower. What
        does not fill a whole one at the ends is left out.
        """
        sr_low, sr_high = self.n_bins_sbl, self.n_bins_sbl + self.n_bins_sr
        below = np.arange(sr_low, -1, -n_bins)[::-1]
        grid = np.arange(sr_low, len(self.edges), n_bins)
        return np.unique(np.concatenate([below, [sr_high], grid[grid > sr_high]]))


def _numbers(mass: ArrayLike) -> FloatArray:
    return np.asarray(mass)


def _whole_bins(length: float, width: float) -> int:
    return int(np.floor(length / width * (1 + 1e-12)))
