"""The background over the whole range of a mass scan: one smooth function, from which datasets without a signal come.

The expected events per unit of mass are exp(polynomial in t), where t = integral dm / sigma(m) counts resolutions from
the low end of the range: in t all windows of a scan are alike. The degree is that of the lowest BIC = deviance + k
ln(n_bins) (Schwarz 1978): a function with more coefficients than the data call for follows their fluctuations, and
spectra thrown from it have larger excesses than the data can have. Bins in which a known resonance lies are not fitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import ArrayLike

from dimuon.arrays import BoolArray, FloatArray
from dimuon.errors import AnalysisError
from dimuon.statistics.poisson_fits import FitError, Fits, deviance, fit_loglinear

NODES, NODE_WEIGHTS = legendre.leggauss(4)  # of the integral over a bin, which is about a resolution wide
MAX_DEGREE = 10
N_BINS = 60  # at least, over the whole range
MIN_BINS = 20  # of them beside known resonances
N_TOYS = 500  # for the goodness of fit
Spans = Sequence[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Resolutions:
    """The coordinate t of a range. mass: (n,), rising; t: (n,), resolutions from the first of them."""

    mass: FloatArray
    t: FloatArray

    @classmethod
    def of(cls, mass: ArrayLike, sigma: ArrayLike) -> "Resolutions":
        """From the standard deviation at each of some masses: (n,), positive."""
        at, inverse = np.asarray(mass, dtype=float), 1 / np.asarray(sigma, dtype=float)
        return cls(at, np.concatenate([[0.0], np.cumsum((inverse[1:] + inverse[:-1]) / 2 * np.diff(at))]))

    def at(self, mass: FloatArray) -> FloatArray:
        """t of each mass."""
        return np.interp(mass, self.mass, self.t)

    def edges(self) -> FloatArray:
        """(n + 1,) masses that divide the range into bins of about one resolution each, or finer."""
        n_bins = max(int(round(self.t[-1])), N_BINS)
        return np.interp(np.linspace(0, self.t[-1], n_bins + 1), self.t, self.mass)


@dataclass(frozen=True, eq=False)
class RangeFit:
    """A fitted background. coefficients: (degree + 1,), of Legendre polynomials over the range of t.

    n_events: fitted. n_bins: that were fitted. deviance: -2 ln of the likelihood ratio to the saturated model.
    p_value: the share of datasets drawn from the fit with a deviance as large, to which fitting them would have been
    worth one for each coefficient.
    """

    axis: Resolutions
    coefficients: FloatArray
    n_events: int
    n_bins: int
    deviance: float
    p_value: float

    @property
    def degree(self) -> int:
        """Of the polynomial."""
        return len(self.coefficients) - 1

    def expected(self, edges: ArrayLike) -> FloatArray:
        """(n,) events in each bin. edges: (n + 1,), inside the range."""
        logs, weights = _quadrature(self.axis, np.asarray(edges, dtype=float), self.degree)
        integrals: FloatArray = np.sum(weights * np.exp(logs @ self.coefficients), axis=1)
        return integrals


def fit_range(mass: ArrayLike, axis: Resolutions, known: Spans, rng: np.random.Generator) -> RangeFit:
    """The background of events over a whole range. mass: (n_events,). known: (low, high) of resonances.

    Raises `AnalysisError` where too few bins are left beside them, or no event.
    """
    edges = axis.edges()
    inside = np.asarray(mass, dtype=float)
    counts = np.histogram(inside[(inside >= edges[0]) & (inside <= edges[-1])], edges)[0].astype(float)
    free = _free(edges, known)
    if free.sum() < MIN_BINS or not counts[free].any():
        raise AnalysisError(
            f"{int(free.sum())} of {len(free)} bins with {int(counts[free].sum())} events are left beside the known "
            f"resonances, too few for the background of the whole range, which needs {MIN_BINS}; widen the range",
            setting="range",
        )
    highest = min(MAX_DEGREE, int(free.sum()) // 3)
    fits = [fit for degree in range(1, highest + 1) if (fit := _fit(axis, edges, counts, free, degree)) is not None]
    if not fits:
        raise FitError("no function fits the background of the whole range; narrow the range")
    penalty = np.log(free.sum())
    best = min(fits, key=lambda fit: fit.deviance[0] + penalty * fit.coefficients.shape[1])
    k, height, mean = best.coefficients.shape[1], float(best.deviance[0]), best.expected[0]
    toys = rng.poisson(mean, (N_TOYS, len(mean))).astype(float)
    p_value = float(np.mean(deviance(toys, mean[None]) >= height + k))
    return RangeFit(axis, best.coefficients[0], int(counts[free].sum()), int(free.sum()), height, p_value)


def _fit(axis: Resolutions, edges: FloatArray, counts: FloatArray, free: BoolArray, degree: int) -> Fits | None:
    """The fit of one degree; None where it does not reach its minimum."""
    logs, weights = _quadrature(axis, edges, degree)
    try:
        return fit_loglinear(logs[free], weights[free], counts[free][None])
    except FitError:
        return None


def _free(edges: FloatArray, known: Spans) -> BoolArray:
    """(n_bins,) True for the bins that no known resonance overlaps."""
    free = np.ones(len(edges) - 1, dtype=bool)
    for low, high in known:
        free &= (edges[1:] <= low) | (edges[:-1] >= high)
    return free


def _quadrature(axis: Resolutions, edges: FloatArray, degree: int) -> tuple[FloatArray, FloatArray]:
    """(n_bins, q, degree + 1) Legendre polynomials at the points of each bin, (n_bins, q) weights in mass."""
    half, middle = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
    scaled = 2 * axis.at(middle + half * NODES) / axis.t[-1] - 1
    return legendre.legvander(scaled, degree), half * NODE_WEIGHTS
