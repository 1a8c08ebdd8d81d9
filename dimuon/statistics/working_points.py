"""Working points: cuts that keep given fractions of the sideband events (paper, step 4a)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from dimuon.arrays import BoolArray, FloatArray
from dimuon.regions import MassBins
from dimuon.statistics.spectra import Spectra


@dataclass(frozen=True)
class WorkingPoints:
    """A scan of n cuts on one variable.

    fpr: (n,), nominal fraction of the sideband events kept. cut: (n,), in the variable's unit; events at the cut
    are kept. kept: (n, n_events) True where an event passes.
    """

    fpr: FloatArray
    cut: FloatArray
    kept: BoolArray


@dataclass(frozen=True)
class CutVariable:
    """What is cut on: values (n_events,) and the side that is kept.

    "above" keeps value >= cut. "below" keeps |value| <= cut: its features are positive but for the
    pseudorapidities, where the signal-like side is the central one.
    """

    name: str
    values: FloatArray
    side: Literal["above", "below"] = "above"

    def scan(self, sideband: BoolArray, fprs: ArrayLike) -> WorkingPoints:
        """The cuts for the false-positive rates fprs: (n,), in (0, 1].

        sideband: (n_events,) True for sideband events. The cut is their order statistic: of n_sb of them, round(fpr
        n_sb) pass, at least one; events tied with it pass as well. FPR 1 keeps every event, those of the SR beyond
        the last sideband event among them. Raises ValueError for a value that is not finite, no sideband event, or
        equal values.
        """
        fprs = np.asarray(fprs, dtype=float)
        values = np.asarray(self.values, dtype=float)
        _check(self.name, values, sideband)
        likeness = values if self.side == "above" else -np.abs(values)
        ordered = np.sort(likeness[sideband])[::-1]
        n_passing = np.maximum(np.round(fprs * len(ordered)).astype(int), 1)
        threshold = np.where(fprs >= 1, likeness.min(), ordered[n_passing - 1])
        kept = likeness >= threshold[:, None]
        return WorkingPoints(fprs, threshold if self.side == "above" else -threshold, kept)

    def spectra(self, mass: FloatArray, bins: MassBins, fprs: ArrayLike) -> tuple[Spectra, FloatArray]:
        """The spectra of the events that pass each cut, and the cuts: (n,). mass: (n_events,), GeV; see `scan`."""
        scan = self.scan(bins.window.in_sidebands(mass), fprs)
        return Spectra.of(mass, bins, selections=scan.kept), scan.cut


def rates(n_working_points: int = 25, fpr_min: float = 1e-3) -> FloatArray:
    """(n_working_points,) false-positive rates, log-spaced from 1 to fpr_min; the paper's where none are given."""
    return np.geomspace(1.0, fpr_min, n_working_points)


def nearest(fprs: ArrayLike, fpr: float) -> int:
    """Index of the one of some false-positive rates that is nearest to fpr, by their ratio. fprs: (n,)."""
    return int(np.abs(np.log(np.asarray(fprs, dtype=float) / fpr)).argmin())


def _check(name: str, values: FloatArray, sideband: BoolArray) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(f"{name} of event {np.argmax(bad)} is {values[bad][0]}: every value must be finite")
    if not np.any(sideband):
        raise ValueError(f"{name}: no event in the sidebands to place a cut by")
    if np.ptp(values) == 0:
        raise ValueError(f"{name} is {values[0]:g} for all {len(values)} events: no cut tells them apart")
