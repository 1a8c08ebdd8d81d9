"""The bump hunt's test: is there more in the SR than the sidebands, interpolated, let expect? (paper, step 4)

How q0, Z0 and p0 are defined: `dimuon.statistics.likelihood_ratio`. Which background function they rest on is a
`SpectrumModel`: one family of functions, or a choice among several.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc

from dimuon.arrays import FloatArray
from dimuon.errors import AnalysisError
from dimuon.regions import MassBins, MassWindow
from dimuon.statistics.families import Family, Polynomial, grouped
from dimuon.statistics.likelihood_ratio import Discoveries, Discovery, pearson
from dimuon.statistics.spectra import Spectra, finite


class SpectrumModel(Protocol):
    """What the background of a mass spectrum is: a family of functions, or a choice among several.

    bins: that it is made for. degree: of the function, the largest where there are several.
    """

    @property
    def bins(self) -> MassBins: ...
    @property
    def degree(self) -> int: ...
    def chosen(self, spectra: Spectra) -> list[Family]:
        """The family used for each spectrum."""

    def discoveries(self, spectra: Spectra) -> Discoveries:
        """The outcome of the test in each spectrum."""


def discovery(
    mass: ArrayLike, window: MassWindow, *, n_bins_sr: int = 11, degree: int = 5, weights: ArrayLike | None = None
) -> Discovery:
    """The outcome of the test on one sample, with a polynomial background.

    mass: (n_events,), GeV; events outside `window` are not part of the test. weights: (n_events,), None for events.
    No event in the SR gives q0 = 0. Raises ValueError for no event in the sidebands, for values that are not finite,
    negative weights, and a degree that the sideband bins cannot determine; `FitError` for a fit that is not at its
    minimum.

    >>> background = np.linspace(5.005, 15.995, 1100)
    >>> peak = np.linspace(9.3, 9.6, 60)
    >>> outcome = discovery(np.concatenate([background, peak]), MassWindow(5.0, 9.0, 10.6, 16.0), degree=1)
    >>> f"{outcome.n_obs:.0f} events, {outcome.n_bkg:.0f} expected: {outcome.z0:.1f} sigma"
    '220 events, 160 expected: 4.1 sigma'
    """
    bins = window.binning(n_bins_sr)
    spectra = Spectra.of(mass, bins, weights)
    require_sidebands(spectra)
    return discoveries(spectra, Polynomial(bins, degree)).one(0)


def discoveries(spectra: Spectra, model: SpectrumModel) -> Discoveries:
    """The outcome of the test in each of n spectra at once."""
    return model.discoveries(spectra)


@dataclass(frozen=True)
class SidebandFit:
    """The background's mass spectrum, fitted to the sidebands alone.

    family: its function. coefficients: (k,), covariance: (k, k). n_sidebands: events fitted. chi2, ndf, p_chi2,
    p_saturated: goodness of fit. gradient_norm, gap, min_eigenvalue, steps, at_boundary: certificate, as in
    `Discovery`.
    """

    family: Family
    coefficients: FloatArray
    covariance: FloatArray
    n_sidebands: float
    chi2: float
    ndf: int
    p_chi2: float
    p_saturated: float
    gradient_norm: float
    gap: float
    min_eigenvalue: float
    steps: int
    at_boundary: int

    def density(self, mass: ArrayLike) -> FloatArray:
        """Events per GeV, never negative. mass: (n,), GeV, anywhere in the window."""
        return self.family.density(self.coefficients[None], np.atleast_1d(mass))[0, :]

    def expected(self, edges: ArrayLike) -> FloatArray:
        """(n,) events in each bin, exactly integrated. edges: (n + 1,), GeV, inside the window."""
        edges = np.asarray(edges, dtype=float)
        return self.family.expected(self.coefficients[None], edges[:-1], edges[1:])[0, :]

    def expected_err(self, edges: ArrayLike) -> FloatArray:
        """(n,) standard errors of `expected(edges)`, from the covariance of the coefficients."""
        edges = np.asarray(edges, dtype=float)
        slope = self.family.jacobian(self.coefficients[None], edges[:-1], edges[1:])[0]
        error: FloatArray = np.sqrt(np.einsum("ri,ij,rj->r", slope, self.covariance, slope))
        return error


def fit_sidebands(
    mass: ArrayLike, window: MassWindow, *, n_bins_sr: int = 11, degree: int = 5, weights: ArrayLike | None = None
) -> SidebandFit:
    """The fit of a polynomial to the sidebands of one sample. Arguments and errors as for `discovery`."""
    bins = window.binning(n_bins_sr)
    return sideband_fits(Spectra.of(mass, bins, weights), Polynomial(bins, degree))[0]


def sideband_fits(spectra: Spectra, model: SpectrumModel) -> list[SidebandFit]:
    """The fit to the sidebands of each spectrum."""
    require_sidebands(spectra)
    fits_of: dict[int, SidebandFit] = {}
    for family, rows in grouped(model.chosen(spectra)):
        counts, scales = spectra.counts[rows, :-1], spectra.scales[rows, :-1]
        fits = family.fit(spectra.low[:-1], spectra.high[:-1], counts, scales)
        chi2, ndf = pearson(counts, fits.expected, scales), max(counts.shape[1] - family.n_coefficients, 0)
        for i, row in enumerate(rows):
            fits_of[int(row)] = SidebandFit(
                family=family,
                coefficients=fits.coefficients[i],
                covariance=fits.covariance[i],
                n_sidebands=counts[i].sum().item(),
                chi2=chi2[i].item(),
                ndf=ndf,
                p_chi2=chdtrc(ndf, chi2[i]).item(),
                p_saturated=chdtrc(ndf, fits.deviance[i]).item(),
                gradient_norm=fits.gradient_norm[i].item(),
                gap=fits.gap[i].item(),
                min_eigenvalue=fits.min_eigenvalue[i].item(),
                steps=fits.steps[i].item(),
                at_boundary=fits.at_boundary[i].item(),
            )
    return [fits_of[row] for row in range(len(spectra))]


def likelihood_weights(score: ArrayLike, n_sig: float, n_bkg: float) -> FloatArray:
    """max(l, 0) with l = [z - (1-mu)(1-z)] / [mu(1-z)], mu = S/(S+B) (paper, Eq. 1 and step 4b).

    score: (n_events,), classifier output z in [0, 1). n_sig, n_bkg: S and B of the unweighted fit without a cut.
    Raises ValueError for S <= 0, where mu and the weights are not defined, and for a score outside [0, 1).
    """
    score = finite(score, "score")
    if not n_sig > 0:
        raise ValueError("the fit without a cut finds no excess, so the signal fraction is not defined")
    outside = (score < 0) | (score >= 1)
    if outside.any():
        raise ValueError(f"score {score[outside][0]:g} of event {np.argmax(outside)} is not in [0, 1)")
    mu = n_sig / (n_sig + n_bkg)
    ratio: FloatArray = (score - (1 - mu) * (1 - score)) / (mu * (1 - score))
    return np.maximum(ratio, 0.0)


def require_sidebands(spectra: Spectra) -> None:
    """Raise `AnalysisError` for a spectrum without an event in the sidebands."""
    if not spectra.counts[:, :-1].sum(axis=1).all():
        raise AnalysisError("no event in the sidebands: there is nothing to fit the background to")
