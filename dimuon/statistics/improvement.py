"""How much a score gains: significance improvement with labels, and ARGOS without."""

from dataclasses import dataclass

import numpy as np

from dimuon.arrays import BoolArray, FloatArray
from dimuon.records import Record

LARGEST_ERROR = 0.2  # of the background count, relative: what is cut tighter is not shown
EFFICIENCIES = np.geomspace(0.02, 1.0, 25)  # of the signal, at which the curve is given


@dataclass(frozen=True, eq=False)
class Improvement:
    """The significance improvement eps_S / sqrt(eps_B) of cuts on a score, of looser ones first.

    eps_signal, eps_background: fractions of labelled events that pass. low, high: ends of the 68 % interval of the
    improvement, from the binomial errors of both. (n_points,) each.
    """

    eps_signal: FloatArray
    eps_background: FloatArray
    improvement: FloatArray
    low: FloatArray
    high: FloatArray

    @property
    def best(self) -> float:
        """The largest value."""
        return float(self.improvement.max())

    def at(self, eps_background: float) -> float:
        """The value of the loosest cut that keeps no more background than this; the tightest known where none does."""
        tight = np.flatnonzero(self.eps_background <= eps_background)
        return float(self.improvement[tight[0] if tight.size else -1])


def improvement(signal: FloatArray, background: FloatArray, efficiencies: FloatArray = EFFICIENCIES) -> Improvement:
    """The `Improvement` at given signal efficiencies, as far as the background count is known to 20 %.

    signal, background: (n,) scores of labelled events that the models did not see. Of equal scores all pass.
    """
    cuts = np.sort(signal)[::-1][np.maximum(np.round(efficiencies * len(signal)).astype(int), 1) - 1]
    cuts = np.unique(cuts)  # rising: looser first
    n_signal, n_background = (_passing(scores, cuts) for scores in (signal, background))
    known = n_background >= LARGEST_ERROR**-2
    eps_signal, eps_background = n_signal[known] / len(signal), n_background[known] / len(background)
    values = eps_signal / np.sqrt(eps_background)
    relative = (1 - eps_signal) / n_signal[known] + (1 - eps_background) / (4 * n_background[known])
    error = values * np.sqrt(relative)
    return Improvement(eps_signal, eps_background, values, values - error, values + error)


def _passing(scores: FloatArray, cuts: FloatArray) -> FloatArray:
    ordered = np.sort(scores)
    return (len(ordered) - np.searchsorted(ordered, cuts, side="left")).astype(float)


@dataclass(frozen=True)
class Argos(Record):
    """ARGOS = eps_SR / sqrt(eps_B) - sqrt(eps_B), the largest over the cuts, and the eps_B where it is.

    Zero where the SR passes as the background does (Hein et al. 2025, arXiv:2511.14832). eps_B is that of the sideband
    events here, not of a background template, so that every method has one.
    """

    value: float
    eps_background: float


def argos(score: FloatArray, in_sr: BoolArray, fprs: FloatArray) -> Argos:
    """The `Argos` of a score on data, over the false-positive rates whose sideband count is known to 20 %.

    score: (n_events,). in_sr: (n_events,); the others are sideband events.
    """
    sidebands, n_sr = np.sort(score[~in_sr])[::-1], int(in_sr.sum())
    n_passing = np.round(fprs * len(sidebands)).astype(int)
    n_passing = np.unique(n_passing[n_passing >= LARGEST_ERROR**-2])[::-1]
    cuts = sidebands[n_passing - 1]
    eps_background = _passing(sidebands, cuts) / len(sidebands)
    eps_sr = _passing(score[in_sr], cuts) / n_sr
    values = eps_sr / np.sqrt(eps_background) - np.sqrt(eps_background)
    best = int(values.argmax())
    return Argos(float(values[best]), float(eps_background[best]))
