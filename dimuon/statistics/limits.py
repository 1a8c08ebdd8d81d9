"""How much signal there may be in the SR: upper limits by CLs, where no excess is seen or beside one.

The test of `dimuon.statistics.likelihood_ratio` turned round: of s signal events in the SR, is the data's disagreement
with s small enough? The statistic is q~_s of Cowan et al. 2011 (arXiv:1007.1727, Eq. 16), its distribution the
asymptotic one (Eqs. 64 to 66), with the Asimov dataset of the background fitted to the data; CLs = p_s / (1 - p_b)
(Read 2002). The bands are of datasets with background alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from dimuon.arrays import FloatArray
from dimuon.errors import AnalysisError
from dimuon.records import Record
from dimuon.statistics.families import Family, grouped
from dimuon.statistics.likelihood_ratio import free_and_null
from dimuon.statistics.significance import SpectrumModel, require_sidebands
from dimuon.statistics.spectra import Spectra

CONFIDENCE = 0.95
SIGMAS = (-2, -1, 0, 1, 2)  # of the bands
DOUBLINGS = 60  # of the number of events at which the search for a limit gives up


@dataclass(frozen=True)
class UpperLimit(Record):
    """Upper limits on the signal in the SR, in events or sums of weights.

    observed: of the data. minus_2 to plus_2: quantiles of the limit where there is background alone, at -2, -1, 0, 1
    and 2 standard deviations; expected is the median.
    """

    confidence: float
    observed: float
    minus_2: float
    minus_1: float
    expected: float
    plus_1: float
    plus_2: float


class ProfiledSignal:
    """The likelihood of a fixed number of signal events in each of n spectra, the background fitted anew for each.

    family: of the background function. asimov: the spectra that the background-only fit expects.
    """

    def __init__(self, spectra: Spectra, family: Family) -> None:
        self.spectra, self.family = spectra, family
        free, null = free_and_null(spectra, family)
        self.n_sig = (
            spectra.counts[:, -1] - family.expected(free.coefficients, spectra.low[-1:], spectra.high[-1:])[:, 0]
        )
        self._lowest = np.where(self.n_sig < 0, null.deviance, free.deviance)
        self.asimov = Spectra(spectra.bins, null.expected, spectra.scales)

    def of_data(self, signal: FloatArray) -> FloatArray:
        """q~ of the data against s signal events: (n,). signal: (n,)."""
        q = np.maximum(self._deviance(self.spectra, signal) - self._lowest, 0.0)
        return np.where(self.n_sig > signal, 0.0, q)

    def of_asimov(self, signal: FloatArray) -> FloatArray:
        """q~ of the dataset that the background-only fit expects: (n,). signal: (n,)."""
        return np.maximum(self._deviance(self.asimov, signal), 0.0)

    def cls(self, signal: FloatArray) -> FloatArray:
        """CLs of s signal events: (n,), from 1 at s = 0 towards 0. signal: (n,)."""
        q, of_asimov = self.of_data(signal), self.of_asimov(signal)
        root, middle = np.sqrt(q), np.sqrt(of_asimov)
        far = q > of_asimov  # where the fitted signal of the data is negative
        safe = np.where(middle > 0, middle, 1.0)
        with_signal = np.where(far, (q + of_asimov) / (2 * safe), root)
        alone = np.where(far, (q - of_asimov) / (2 * safe), root - middle)
        ratio: FloatArray = ndtr(-with_signal) / ndtr(-alone)
        return ratio

    def one(self, index: int) -> "ProfiledSignal":
        """That of one spectrum."""
        row = slice(index, index + 1)
        spectra = self.spectra
        return ProfiledSignal(Spectra(spectra.bins, spectra.counts[row], spectra.scales[row]), self.family)

    def _deviance(self, spectra: Spectra, signal: FloatArray) -> FloatArray:
        known = np.zeros_like(spectra.counts)
        known[:, -1] = signal
        return self.family.fit(spectra.low, spectra.high, spectra.counts, spectra.scales, known).deviance


def upper_limits(spectra: Spectra, model: SpectrumModel, confidence: float = CONFIDENCE) -> list[UpperLimit]:
    """The limits on the signal in each of n spectra. confidence: above 0.5 and below 1.

    Raises `AnalysisError` for a spectrum without an event in the sidebands, ValueError for another confidence.
    """
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence is {confidence:g}; a limit has one above 0.5 and below 1")
    require_sidebands(spectra)
    limits: dict[int, UpperLimit] = {}
    for family, rows in grouped(model.chosen(spectra)):
        of_family = ProfiledSignal(Spectra(spectra.bins, spectra.counts[rows], spectra.scales[rows]), family)
        for place, row in enumerate(rows):
            limits[int(row)] = _upper_limit(of_family.one(place), confidence)
    return [limits[row] for row in range(len(spectra))]


def _upper_limit(profile: ProfiledSignal, confidence: float) -> UpperLimit:
    alpha = 1 - confidence

    def observed(signal: float) -> float:
        return float(profile.cls(np.array([signal]))[0]) - alpha

    def expected(signal: float, due: float) -> float:
        return due - float(np.sqrt(profile.of_asimov(np.array([signal]))[0]))

    fitted = max(float(profile.n_sig[0]), 0.0)
    # of a dataset that fluctuates by N sigma CLs = Phi(N - sqrt(q~_A)) / Phi(N), which is alpha where sqrt(q~_A) is due
    due = [sigma - ndtri(alpha * ndtr(sigma)) for sigma in SIGMAS]
    return UpperLimit(
        confidence, _root(observed, fitted), *(_root(partial(expected, due=float(value)), 0.0) for value in due)
    )


def _root(function: Callable[[float], float], low: float) -> float:
    """Where a falling function that is positive at `low` crosses zero."""
    step = 10.0
    for _ in range(DOUBLINGS):
        if function(low + step) < 0:
            return float(brentq(function, low, low + step, xtol=1e-6, rtol=1e-8))
        step *= 2
    raise AnalysisError(f"no limit is found below {low + step:.3g} events")
