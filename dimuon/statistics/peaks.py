"""What peaks stand in the signal region: how many, where, how wide, how many events each.

The whole window is fitted at once, in bins narrower than those of the test: the background's own family of functions,
and n peaks of one shape that share one relative resolution. Each minimum has a certificate.

How many: one more peak is taken as long as its likelihood ratio has a p-value below `ONE_MORE`. Where a peak would
stand is not known before, and of the first not how wide it is; the p-value counts all places and widths that were
open to it, by the expected Euler characteristic of a Gaussian field (Vitells & Gross 2011, arXiv:1105.4355): with a
Gaussian template of width s, m / s and ln s are its coordinates, with the metric (dm^2 / s^2 + dln(s)^2) / 2. That the
background is fitted, too, makes the true p-value a little smaller.

Which shape: a Gaussian; where Gaussians are found also a Crystal Ball, with the tail of muons that radiate, and a
pseudo-Voigt function, with the wide flanks of a natural width or of a resolution that varies among events. Each has its
own number of peaks. Of those whose -2 ln L + 2 (parameters) (Akaike 1974) is within `SUPPORT` of the smallest, that
with the fewest peaks is kept: a peak that only the form of another asks for is not one. On 20,000 dimuons of 2011
(record 545 of the CERN Open Data portal, `Ymumu.csv`) the one parameter more is worth 15 (Crystal Ball) and 19
(pseudo-Voigt) units of -2 ln L with a background of degree 3, 10 and 6 with degree 5; all find three peaks, and their
masses differ by less than their errors. A free power of the tail, or tails on both sides, are worth less than 2 (degree
5) and not tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc, ndtr

from dimuon.arrays import FloatArray
from dimuon.errors import AnalysisError
from dimuon.records import Record
from dimuon.regions import MassWindow
from dimuon.statistics.families import Family
from dimuon.statistics.peak_minimum import Minimum, covariance_of, merged_chi2, minimum
from dimuon.statistics.peak_model import PeakModel, PeakSpectrum, Templates
from dimuon.statistics.peak_shapes import SHAPES, Shape
from dimuon.statistics.poisson_fits import FitError

ONE_MORE = 1.35e-3  # p-value below which one more peak is taken: 3 sigma, what the field calls evidence
SUPPORT = 10.0  # above the smallest Akaike criterion, beyond which a form has no support (Burnham & Anderson 2002)
FINER = 5  # bins to one of the test's, so that a peak as wide as that has several
MIN_BINS_SR = 50
N_STARTS = 2  # of the resolutions looked at, those that a fit is begun with
TOLERANCE = 1e-4  # a certified fit is no further than this from its minimum, in ln L


@dataclass(frozen=True)
class Peak(Record):
    """One peak: mass and width (standard deviation of its Gaussian part), in the unit of the mass; events in the
    window. Each with its standard error."""

    mass: float
    mass_err: float
    width: float
    width_err: float
    n_events: float
    n_events_err: float


@dataclass(frozen=True)
class OneMore(Record):
    """The test of one more peak.

    shape: of the peaks. n_peaks: with it. q: -2 ln of the ratio of the likelihoods without and with it. p_local: of q
    at a mass and width known before; p_global: with the places in the SR, and of the first peak the widths, that were
    open to it (at most 1). gap: of the fit with it, see `PeakFit`. accepted: p_global is below the threshold.
    """

    shape: str
    n_peaks: int
    q: float
    p_local: float
    p_global: float
    gap: float
    accepted: bool


@dataclass(frozen=True)
class PeakFit(Record):
    """The peaks in the SR; none is an answer, too.

    shape: of every peak. peaks: by mass. mass_covariance: (n, n) of their masses. resolution: width over mass, common
    to all, with its standard error; NaN without a peak. tail: parameters of the shape's tail. n_bkg: fitted background
    in the SR. chi2, ndf, p_chi2: Pearson's, in bins merged until each expects `peak_minimum.MIN_EXPECTED` events. gap:
    bound on the distance from the minimum in ln L. at_bound: parameters at a bound of what was allowed; their errors
    are NaN, those of the others hold with them fixed. tried: the tests that led here. threshold: of p_global.
    """

    shape: str
    peaks: tuple[Peak, ...]
    mass_covariance: tuple[tuple[float, ...], ...]
    resolution: float
    resolution_err: float
    tail: tuple[float, ...]
    n_bkg: float
    deviance: float
    n_parameters: int
    chi2: float
    ndf: int
    p_chi2: float
    gap: float
    at_bound: tuple[str, ...]
    tried: tuple[OneMore, ...]
    threshold: float


@dataclass(frozen=True, eq=False)
class FittedPeaks:
    """A `PeakFit` with its curves.

    edges: (n_bins + 1,) of the bins that were fitted. counts, background: (n_bins,) events; peaks: (n_peaks, n_bins).
    """

    fit: PeakFit
    edges: FloatArray
    counts: FloatArray
    background: FloatArray
    peaks: FloatArray

    @property
    def expected(self) -> FloatArray:
        """(n_bins,) events, of background and peaks."""
        total: FloatArray = self.background + self.peaks.sum(axis=0)
        return total


def find_peaks(
    mass: ArrayLike,
    family: Family,
    *,
    most: int = 5,
    shapes: Sequence[str] = tuple(SHAPES),
    threshold: float = ONE_MORE,
) -> FittedPeaks:
    """The peaks in the SR of one mass spectrum.

    mass: (n_events,); events outside the window are not part of the fit. family: of the background, in the bins of the
    test. most: peaks looked for. shapes: names of `SHAPES`; the first finds peaks, the others are tried where it does.
    threshold: see the head of this file. Raises `AnalysisError` for no event in the sidebands, `FitError` for a fit
    that is not at its minimum.
    """
    fine = family.bins.window.binning(max(FINER * family.bins.n_bins_sr, MIN_BINS_SR))
    counts = fine.counts(mass)
    if not counts[~fine.is_sr].any():
        raise AnalysisError("no event in the sidebands: there is nothing to fit the background to")
    spectrum = PeakSpectrum(replace(family, bins=fine), counts)
    chains = [_chain(spectrum, SHAPES[shapes[0]], most, threshold)]
    if chains[0][0].model.n_peaks:
        chains += [_chain(spectrum, SHAPES[name], most, threshold) for name in shapes[1:]]
    lowest = min(chain[0].akaike for chain in chains)
    supported = [chain[0] for chain in chains if chain[0].akaike <= lowest + SUPPORT]
    best = min(supported, key=lambda fitted: (fitted.model.n_peaks, fitted.akaike))
    tried = tuple(one for chain in chains for one in chain[1])
    return _result(best, tried, threshold)


def _chain(spectrum: PeakSpectrum, shape: Shape, most: int, threshold: float) -> tuple[Minimum, list[OneMore]]:
    """Peaks of one shape added one by one, as long as each is worth it; and the tests."""
    now, tried = _without_peaks(spectrum, shape), list[OneMore]()
    while now.model.n_peaks < most:
        more = _one_more(now)
        q = max(now.height - more.height, 0.0)
        p_local, p_global = p_values(q, more.model.n_peaks, spectrum.bins.window, more.resolution, spectrum.widths)
        accepted = p_global < threshold
        tried.append(OneMore(shape.name, more.model.n_peaks, q, p_local, p_global, more.gap, accepted))
        if not accepted:
            break
        now = more
    return now, tried


def p_values(
    q: float, n_peaks: int, window: MassWindow, resolution: float, widths: tuple[float, float]
) -> tuple[float, float]:
    """p-values of one more peak: at a place and width known before, and with those that were open to it in the SR.

    q: see `OneMore`. n_peaks: with it. resolution: width over mass; widths: the smallest and the largest allowed.
    """
    u, length = np.sqrt(q), np.log(window.sr_high / window.sr_low)
    p_local, density = float(ndtr(-u)), np.exp(-q / 2) / (2 * np.pi)
    if n_peaks > 1:  # the width is that of the others: a line of masses
        return p_local, min(p_local + float(density * length / np.sqrt(2) / resolution), 1.0)
    low, high = widths
    half_round = (length / low + length / high + 2 * np.log(high / low)) / np.sqrt(8)
    area = length * (1 / low - 1 / high) / 2
    return p_local, min(p_local + float(density * (half_round + area * u / np.sqrt(2 * np.pi))), 1.0)


def _without_peaks(spectrum: PeakSpectrum, shape: Shape) -> Minimum:
    """The background alone."""
    return minimum(PeakModel(spectrum, shape, 0), spectrum.sidebands)


def _one_more(now: Minimum) -> Minimum:
    """The best fit with one peak more: begun afresh at the likeliest widths, and from the fit so far."""
    model = replace(now.model, n_peaks=now.model.n_peaks + 1)
    chosen = sorted((_pursuit(model, resolution) for resolution in model.spectrum.resolutions()), key=lambda p: p.chi2)
    pursuits = chosen[:N_STARTS]
    if now.model.n_peaks:
        _, _, masses, resolution, tail = now.model.split(now.theta)
        pursuits.append(_pursuit(model, resolution, tail, masses))
    low, high = model.bounds()
    starts = [np.clip(pursuit.start(model), low, high) for pursuit in pursuits]
    return min((minimum(model, start) for start in starts), key=lambda fitted: fitted.height)


@dataclass(frozen=True, eq=False)
class _Pursuit:
    """Places of peaks of a given resolution, found one after the other by weighted least squares.

    background: coefficients. events, masses: (n,). chi2: what is left.
    """

    background: FloatArray
    events: FloatArray
    masses: FloatArray
    resolution: float
    tail: tuple[float, ...]
    chi2: float

    def start(self, model: PeakModel) -> FloatArray:
        """Where a fit of that model begins."""
        return np.concatenate([self.background, self.events, self.masses, [self.resolution], self.tail])


def _pursuit(
    model: PeakModel, resolution: float, tail: tuple[float, ...] | None = None, given: FloatArray | None = None
) -> _Pursuit:
    """Places for the peaks of a model. given: those that are known."""
    spectrum, window = model.spectrum, model.spectrum.bins.window
    tail = model.shape.start if tail is None else tail
    step = resolution * window.sr_low / 2
    masses = np.linspace(window.sr_low, window.sr_high, int((window.sr_high - window.sr_low) / step) + 2)[1:-1]
    masses = np.concatenate([[] if given is None else given, masses])
    templates = Templates.of(spectrum.bins.edges, model.shape, masses, resolution, tail).shape
    bare = replace(model, n_peaks=0)
    background, _, slope = bare.parts(spectrum.sidebands)
    error = np.sqrt(np.maximum(np.maximum(background, spectrum.counts), 1.0))
    design, columns = slope / error[:, None], templates / error
    wanted = (spectrum.counts - background) / error
    basis = np.linalg.qr(design)[0]
    left, open_columns = wanted - basis @ (basis.T @ wanted), columns - columns @ basis @ basis.T
    size = np.linalg.norm(columns, axis=1)
    chosen: list[int] = []
    for i in range(model.n_peaks):
        length = np.linalg.norm(open_columns, axis=1)
        gain = np.where(length > 0.05 * size, open_columns @ left / np.maximum(length, 1e-300), -np.inf)
        best = i if given is not None and i < len(given) else int(gain.argmax())
        unit = open_columns[best] / max(length[best], 1e-300)
        left, open_columns = left - unit * (unit @ left), open_columns - np.outer(open_columns @ unit, unit)
        chosen.append(best)
    solution = np.linalg.lstsq(np.hstack([design, columns[chosen].T]), wanted, rcond=None)[0]
    order = np.argsort(masses[chosen])
    events = np.maximum(solution[model.n_background :], 1.0)[order]
    coefficients = spectrum.sidebands + solution[: model.n_background]
    return _Pursuit(coefficients, events, masses[chosen][order], resolution, tail, float(left @ left))


def _result(fitted: Minimum, tried: tuple[OneMore, ...], threshold: float) -> FittedPeaks:
    model, theta, bins = fitted.model, fitted.theta, fitted.model.spectrum.bins
    if not fitted.gap < TOLERANCE:
        raise FitError(f"the fit of {model.n_peaks} peaks stays {fitted.gap:.2g} in ln L away from its minimum")
    background, peaks, _ = model.parts(theta)
    _, events, masses, resolution, tail = model.split(theta)
    covariance = covariance_of(fitted)
    n, k = model.n_peaks, model.n_background
    order = np.argsort(masses)
    place = k + n + order
    errors = np.sqrt(np.diag(covariance))
    width, width_err = resolution * masses, np.full(n, np.nan)
    if n:
        r = k + 2 * n
        squares = resolution**2 * np.diag(covariance)[place] + masses[order] ** 2 * covariance[r, r]
        width_err[order] = np.sqrt(squares + 2 * resolution * masses[order] * covariance[place, r])
    expected = background + peaks.sum(axis=0)
    chi2, ndf = merged_chi2(model.spectrum.counts, expected, model.n_parameters)
    fit = PeakFit(
        shape=model.shape.name,
        peaks=tuple(
            Peak(*(float(x) for x in (masses[i], errors[k + n + i], width[i], width_err[i], events[i], errors[k + i])))
            for i in order
        ),
        mass_covariance=tuple(tuple(float(x) for x in row) for row in covariance[np.ix_(place, place)]),
        resolution=resolution,
        resolution_err=float(errors[k + 2 * n]) if n else np.nan,
        tail=tail,
        n_bkg=float(background[bins.is_sr].sum()),
        deviance=fitted.height,
        n_parameters=model.n_parameters,
        chi2=chi2,
        ndf=ndf,
        p_chi2=float(chdtrc(ndf, chi2)) if ndf > 0 else np.nan,
        gap=fitted.gap,
        at_bound=tuple(name for name, free in zip(model.names, fitted.free, strict=True) if not free),
        tried=tried,
        threshold=threshold,
    )
    return FittedPeaks(fit, bins.edges, model.spectrum.counts, background, peaks[order])
