"""Choosing the background function by the sidebands: a ladder, an F-test, or an envelope that keeps the choice open.

A choice has a list of candidate families in the same bins, in rising complexity, and is a
`dimuon.statistics.significance.SpectrumModel` as a family is: each spectrum is tested with the candidate that it calls
for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.special import fdtrc

from dimuon.arrays import BoolArray, FloatArray, IntArray
from dimuon.errors import AnalysisError
from dimuon.regions import MassBins, MassWindow
from dimuon.statistics.families import FIXED_DEGREES, Family, make
from dimuon.statistics.likelihood_ratio import Discoveries, likelihood_ratio
from dimuon.statistics.settings import Significance
from dimuon.statistics.significance import SpectrumModel
from dimuon.statistics.spectra import Spectra

ATLAS_LADDER = ("dijet3", "dijet4", "ua2")


@dataclass(frozen=True)
class Choice:
    """What all choices share. candidates: families, the simplest first."""

    candidates: tuple[Family, ...]

    @property
    def bins(self) -> MassBins:
        """The `MassBins` of the candidates."""
        return self.candidates[0].bins

    @property
    def degree(self) -> int:
        """The largest degree among the candidates."""
        return max(family.degree for family in self.candidates)

    def chosen(self, spectra: Spectra) -> list[Family]:
        """The family used for each spectrum."""
        outcomes = [likelihood_ratio(spectra, family) for family in self.candidates]
        return [self.candidates[i] for i in self._pick(outcomes)]

    def discoveries(self, spectra: Spectra) -> Discoveries:
        """The outcome of the test in each spectrum with its own candidate."""
        outcomes = [likelihood_ratio(spectra, family) for family in self.candidates]
        return _select(outcomes, self._pick(outcomes))

    def _pick(self, outcomes: Sequence[Discoveries]) -> IntArray:
        """(n,) number of the candidate for each spectrum. outcomes: of every candidate."""
        raise NotImplementedError


@dataclass(frozen=True)
class Ladder(Choice):
    """Complexity rises until the chi2 p-value of the sidebands is above p_min (ATLAS 2025, section V D 1).

    Where no rung reaches it the last is taken, and its p_chi2 says so. The sidebands are not shortened.
    """

    p_min: float = 0.05

    def _pick(self, outcomes: Sequence[Discoveries]) -> IntArray:
        good = np.stack([outcome.p_chi2 > self.p_min for outcome in outcomes])
        return np.where(good.any(axis=0), good.argmax(axis=0), len(outcomes) - 1)


@dataclass(frozen=True)
class FTest(Choice):
    """Complexity rises as long as the next candidate improves the chi2 with an F-test p-value below p_max.

    For nested candidates, such as polynomials of rising degree.
    """

    p_max: float = 0.05

    def _pick(self, outcomes: Sequence[Discoveries]) -> IntArray:
        n = len(outcomes[0].chi2)
        index, climbing = np.zeros(n, dtype=int), np.ones(n, dtype=bool)
        for i, (now, following) in enumerate(zip(outcomes[:-1], outcomes[1:], strict=True)):
            climbing &= self.improves(now.chi2, following.chi2, now.ndf - following.ndf, following.ndf)
            index[climbing] = i + 1
        return index

    def improves(self, chi2: FloatArray, following: FloatArray, more: IntArray | int, ndf: IntArray | int) -> BoolArray:
        """(n,) whether the next candidate is better. chi2: of this one; following, ndf: chi2 and degrees of freedom of
        the next, which has `more` coefficients."""
        left = np.maximum(following / np.maximum(ndf, 1), 1e-12)
        ratio = (chi2 - following) / more / left
        better: BoolArray = (ratio > 0) & (fdtrc(more, np.maximum(ndf, 1), np.maximum(ratio, 0)) < self.p_max)
        return better


@dataclass(frozen=True)
class Envelope(Choice):
    """The choice is profiled like a parameter (Dauncey et al. 2015, arXiv:1408.6865): both the background-only and the
    signal likelihood take the best candidate, each paying `penalty` in -2 ln L for every coefficient.

    n_bkg and the rest are those of the candidate that is best with a signal.
    """

    penalty: float = 1.0

    def discoveries(self, spectra: Spectra) -> Discoveries:
        """The outcome in each spectrum; its q0 compares the best candidate of either hypothesis."""
        outcomes = [likelihood_ratio(spectra, family) for family in self.candidates]
        pick = self._pick(outcomes)
        with_signal, without = (_heights(outcomes, self.candidates, self.penalty, signal) for signal in (True, False))
        q0 = np.maximum(without.min(axis=0) - with_signal.min(axis=0), 0.0)
        return _select(outcomes, pick).with_q0(q0)

    def _pick(self, outcomes: Sequence[Discoveries]) -> IntArray:
        lowest: IntArray = _heights(outcomes, self.candidates, self.penalty, signal=True).argmin(axis=0)
        return lowest


def make_choice(kind: str, bins: MassBins, family: str, degree: int, penalty: float) -> SpectrumModel:
    """The model that the settings ask for.

    kind: "fixed" (family and degree), "ladder" (the ATLAS functions), "f_test" (the family from degree 1 up to degree)
    or "envelope" (polynomials and exponentials up to degree, dijet functions).
    """
    if kind == "fixed":
        return make(family, bins, degree)
    if kind == "ladder":
        return Ladder(tuple(make(name, bins, degree) for name in ATLAS_LADDER))
    if kind == "f_test":
        if family in FIXED_DEGREES:
            raise AnalysisError(f"an F-test raises the degree, which {family} does not have", setting="choice")
        return FTest(tuple(make(family, bins, d) for d in range(1, degree + 1)))
    candidates = [make(name, bins, d) for d in range(2, degree + 1) for name in ("polynomial", "exponential")]
    return Envelope((*(make(name, bins, degree) for name in ATLAS_LADDER), *candidates), penalty)


def model_of(settings: Significance, window: MassWindow) -> SpectrumModel:
    """The background function of step 6, or the choice among several, in its bins."""
    bins = window.binning(settings.n_bins_sr)
    return make_choice(settings.choice, bins, settings.family, settings.degree, settings.penalty)


def describe(settings: Significance) -> str:
    """The background function of step 6 in words."""
    family, degree = settings.family, settings.degree
    return {
        "fixed": f"{family} function" if family in FIXED_DEGREES else f"{family} of degree {degree}",
        "ladder": f"ladder of {', '.join(ATLAS_LADDER)}",
        "f_test": f"{family} up to degree {degree} by an F-test",
        "envelope": f"envelope of functions of degrees up to {degree}",
    }[settings.choice]


def _heights(outcomes: Sequence[Discoveries], candidates: Sequence[Family], penalty: float, signal: bool) -> FloatArray:
    """(n_candidates, n) -2 ln L of each candidate, up to a constant of the spectrum, with its penalty."""
    heights = []
    for outcome, family in zip(outcomes, candidates, strict=True):
        above_free_fit = outcome.z_signed**2 - (outcome.q0 if signal else 0.0)
        heights.append(outcome.deviance + above_free_fit + penalty * family.n_coefficients)
    return np.stack(heights)


def _select(outcomes: Sequence[Discoveries], pick: IntArray) -> Discoveries:
    """The outcomes whose i-th entry is that of candidate pick[i]."""
    columns = np.arange(len(pick))
    by_candidate = {
        field.name: np.stack([getattr(outcome, field.name) for outcome in outcomes]) for field in fields(Discoveries)
    }
    return Discoveries(**{name: values[pick, columns] for name, values in by_candidate.items()})
