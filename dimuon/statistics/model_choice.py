"""Choosing the background function by the sidebands: a ladder, an F-test, or an envelope that keeps the choice open.

A choice has a list of candidate families in the same bins, in rising complexity, and takes the place of a family in
`dimuon.statistics.significance.discoveries`: each spectrum is tested with the candidate that it calls for.
"""

from dataclasses import dataclass, fields

import numpy as np
from scipy.special import fdtrc

from dimuon.statistics.families import FIXED_DEGREES, make
from dimuon.statistics.significance import Discovery, discoveries

ATLAS_LADDER = ("dijet3", "dijet4", "ua2")


@dataclass(frozen=True)
class Choice:
    """What all choices share. candidates: families, the simplest first."""

    candidates: tuple

    @property
    def bins(self):
        """The `MassBins` of the candidates."""
        return self.candidates[0].bins

    @property
    def degree(self):
        """The largest degree among the candidates."""
        return max(family.degree for family in self.candidates)

    def chosen(self, spectra):
        """The family used for each spectrum, as a list."""
        outcomes = [discoveries(spectra, family) for family in self.candidates]
        return [self.candidates[i] for i in self._pick(outcomes)]

    def discoveries(self, spectra):
        """The `Discovery` in each spectrum with its own candidate."""
        outcomes = [discoveries(spectra, family) for family in self.candidates]
        return _select(outcomes, self._pick(outcomes))


@dataclass(frozen=True)
class Ladder(Choice):
    """Complexity rises until the chi2 p-value of the sidebands is above p_min (ATLAS 2025, section V D 1).

    Where no rung reaches it the last is taken, and its p_chi2 says so. The sidebands are not shortened.
    """

    p_min: float = 0.05

    def _pick(self, outcomes):
        good = np.stack([outcome.p_chi2 > self.p_min for outcome in outcomes])
        return np.where(good.any(axis=0), good.argmax(axis=0), len(outcomes) - 1)


@dataclass(frozen=True)
class FTest(Choice):
    """Complexity rises as long as the next candidate improves the chi2 with an F-test p-value below p_max.

    For nested candidates, such as polynomials of rising degree.
    """

    p_max: float = 0.05

    def _pick(self, outcomes):
        index, climbing = np.zeros(len(outcomes[0].chi2), int), np.ones(len(outcomes[0].chi2), bool)
        for i, (now, following) in enumerate(zip(outcomes[:-1], outcomes[1:], strict=True)):
            more = now.ndf - following.ndf
            ratio = (
                (now.chi2 - following.chi2) / more / np.maximum(following.chi2 / np.maximum(following.ndf, 1), 1e-12)
            )
            climbing &= (ratio > 0) & (fdtrc(more, np.maximum(following.ndf, 1), np.maximum(ratio, 0)) < self.p_max)
            index[climbing] = i + 1
        return index


@dataclass(frozen=True)
class Envelope(Choice):
    """The choice is profiled like a parameter (Dauncey et al. 2015, arXiv:1408.6865): both the background-only and the
    signal likelihood take the best candidate, each paying `penalty` in -2 ln L for every coefficient.

    n_bkg and the rest are those of the candidate that is best with a signal.
    """

    penalty: float = 1.0

    def discoveries(self, spectra):
        """The `Discovery` in each spectrum; its q0 compares the best candidate of either hypothesis."""
        outcomes = [discoveries(spectra, family) for family in self.candidates]
        pick = self._pick(outcomes)
        with_signal, without = (_heights(outcomes, self.candidates, self.penalty, signal) for signal in (True, False))
        q0 = np.maximum(without.min(axis=0) - with_signal.min(axis=0), 0.0)
        return _select(outcomes, pick).with_q0(q0)

    def _pick(self, outcomes):
        return _heights(outcomes, self.candidates, self.penalty, signal=True).argmin(axis=0)


def make_choice(kind, bins, family, degree, penalty):
    """The model that the YAML asks for.

    kind: "fixed" (family and degree), "ladder" (the ATLAS functions), "f_test" (the family from degree 1 up to degree)
    or "envelope" (polynomials and exponentials up to degree, dijet functions).
    """
    if kind == "fixed":
        return make(family, bins, degree)
    if kind == "ladder":
        return Ladder(tuple(make(name, bins, degree) for name in ATLAS_LADDER))
    if kind == "f_test":
        if family in FIXED_DEGREES:
            raise ValueError(f"an F-test raises the degree, which {family} does not have")
        return FTest(tuple(make(family, bins, d) for d in range(1, degree + 1)))
    candidates = [make(name, bins, d) for d in range(2, degree + 1) for name in ("polynomial", "exponential")]
    return Envelope((*(make(name, bins, degree) for name in ATLAS_LADDER), *candidates), penalty)


def model_of(settings, window):
    """The background function of step 6, or the choice among several, in its bins.

    settings: the section `significance` of the configuration. window: `MassWindow`.
    """
    bins = window.binning(settings.n_bins_sr)
    return make_choice(settings.choice, bins, settings.family, settings.degree, settings.penalty)


def describe(settings):
    """The background function of step 6 in words. settings: as for `model_of`."""
    family, degree = settings.family, settings.degree
    return {
        "fixed": f"{family} function" if family in FIXED_DEGREES else f"{family} of degree {degree}",
        "ladder": f"ladder of {', '.join(ATLAS_LADDER)}",
        "f_test": f"{family} up to degree {degree} by an F-test",
        "envelope": f"envelope of functions of degrees up to {degree}",
    }[settings.choice]


def _heights(outcomes, candidates, penalty, signal):
    """(n_candidates, n) -2 ln L of each candidate, up to a constant of the spectrum, with its penalty."""
    return np.stack([
        outcome.deviance + (outcome.z_signed**2 - (outcome.q0 if signal else 0.0)) + penalty * family.n_coefficients
        for outcome, family in zip(outcomes, candidates, strict=True)
    ])  # fmt: skip


def _select(outcomes, pick):
    """The `Discovery` whose i-th entry is that of candidate pick[i]."""
    columns = np.arange(len(pick))
    stacked = {item.name: np.stack([getattr(outcome, item.name) for outcome in outcomes]) for item in fields(Discovery)}
    return Discovery(**{name: values[pick, columns] for name, values in stacked.items()})
