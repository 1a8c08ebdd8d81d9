"""Families of functions for the background's mass spectrum, behind one interface.

A family is made for given `MassBins`; the significance never asks which one it is. Another family is another class in
`FAMILIES`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import ArrayLike
from scipy.special import comb

from dimuon.arrays import FloatArray, IntArray
from dimuon.errors import AnalysisError
from dimuon.regions import MassBins
from dimuon.statistics.likelihood_ratio import Discoveries, likelihood_ratio
from dimuon.statistics.poisson_fits import Fits, fit_linear, fit_loglinear
from dimuon.statistics.spectra import Spectra

COLLISION_ENERGY = 13000.0  # GeV, the square root of s in the dijet functions
NODES, NODE_WEIGHTS = legendre.leggauss(8)  # of the integral over a bin where it has no closed form


@dataclass(frozen=True)
class Family:
    """What all families share. degree: coefficients beyond the normalisation."""

    bins: MassBins
    degree: int

    @property
    def name(self) -> str:
        """Its name in the settings."""
        return next(name for name, family in FAMILIES.items() if family is type(self))

    @property
    def n_coefficients(self) -> int:
        """Free coefficients."""
        return self.degree + 1

    def chosen(self, spectra: Spectra) -> list["Family"]:
        """The family used for each spectrum: this one; a choice among families may differ between them."""
        return [self] * len(spectra)

    def discoveries(self, spectra: Spectra) -> Discoveries:
        """The outcome of the test in each spectrum, with this family as the background."""
        return likelihood_ratio(spectra, self)

    def fit(
        self,
        low: FloatArray,
        high: FloatArray,
        counts: FloatArray,
        scales: FloatArray | None = None,
        known: FloatArray | None = None,
    ) -> Fits:
        """The fit to events in the mass intervals low to high: (r,), GeV. counts, scales: (n, r).

        known: (n, r), events expected beside those of this family, a signal's; None: none.
        """
        raise NotImplementedError

    def expected(self, coefficients: FloatArray, low: ArrayLike, high: ArrayLike) -> FloatArray:
        """(n, r) events in the mass intervals low to high: (r,), GeV. coefficients: (n, k)."""
        raise NotImplementedError

    def jacobian(self, coefficients: FloatArray, low: ArrayLike, high: ArrayLike) -> FloatArray:
        """(n, r, k) derivatives of `expected` by the coefficients."""
        raise NotImplementedError

    def density(self, coefficients: FloatArray, mass: ArrayLike) -> FloatArray:
        """(n, n_events) events per GeV, never negative. mass: (n_events,), GeV. coefficients: (n, k)."""
        raise NotImplementedError

    def _scaled(self, mass: ArrayLike) -> FloatArray:
        """The mass mapped to [-1, 1] over the window."""
        low, high = self.bins.window.sb_low, self.bins.window.sb_high
        return (2 * np.asarray(mass, dtype=float) - low - high) / (high - low)


class LinearFamily(Family):
    """A sum of functions, whose integrals are exact. The fit is convex: its minimum is unique.

    Its density is zero where a fit to few events, whose integral over every bin is kept at or above zero, dips below
    zero inside a bin.
    """

    def fit(
        self,
        low: FloatArray,
        high: FloatArray,
        counts: FloatArray,
        scales: FloatArray | None = None,
        known: FloatArray | None = None,
    ) -> Fits:
        return fit_linear(self._integrals(low, high), counts, self._flat, scales, self._limits(), known)

    def expected(self, coefficients: FloatArray, low: ArrayLike, high: ArrayLike) -> FloatArray:
        return coefficients @ self._integrals(low, high).T

    def jacobian(self, coefficients: FloatArray, low: ArrayLike, high: ArrayLike) -> FloatArray:
        integrals = self._integrals(low, high)
        return np.broadcast_to(integrals, (len(coefficients), *integrals.shape))

    def density(self, coefficients: FloatArray, mass: ArrayLike) -> FloatArray:
        return np.maximum(coefficients @ self._functions(mass).T, 0.0) / self.bins.width

    def _integrals(self, low: ArrayLike, high: ArrayLike) -> FloatArray:
        """(r, k), in units of the bin width."""
        half = (self.bins.window.sb_high - self.bins.window.sb_low) / 2
        return (self._primitives(high) - self._primitives(low)) * half / self.bins.width

    @property
    def _flat(self) -> FloatArray:
        """(k,) coefficients of a flat spectrum."""
        raise NotImplementedError

    def _functions(self, mass: ArrayLike) -> FloatArray:
        """(n, k) values of the functions."""
        raise NotImplementedError

    def _primitives(self, mass: ArrayLike) -> FloatArray:
        """(n, k) integrals of the functions, over the scaled mass."""
        raise NotImplementedError

    def _limits(self) -> FloatArray:
        """(m, k) linear forms of the coefficients that may not be negative."""
        raise NotImplementedError


class Polynomial(LinearFamily):
    """A polynomial in the mass, as Legendre polynomials over the window (the paper's choice, degree 5).

    The expected count of every bin, those of the SR among them, is held at or above zero.
    """

    @property
    def _flat(self) -> FloatArray:
        return np.eye(self.n_coefficients)[0, :]

    def _functions(self, mass: ArrayLike) -> FloatArray:
        return legendre.legvander(self._scaled(mass), self.degree)

    def _primitives(self, mass: ArrayLike) -> FloatArray:
        """The integral of P_j is (P_{j+1} - P_{j-1}) / (2j + 1)."""
        values = legendre.legvander(self._scaled(mass), self.degree + 1)
        order = np.arange(1, self.degree + 1)
        return np.concatenate([values[..., 1:2], (values[..., 2:] - values[..., :-2]) / (2 * order + 1)], axis=-1)

    def _limits(self) -> FloatArray:
        edges, sr = self.bins.edges, self.bins.is_sr
        return self._integrals(edges[:-1][sr], edges[1:][sr])


class Bernstein(LinearFamily):
    """A polynomial in the mass whose Bernstein coefficients over the window are not negative, nor is it anywhere."""

    @property
    def _flat(self) -> FloatArray:
        return np.ones(self.n_coefficients)

    def _functions(self, mass: ArrayLike) -> FloatArray:
        return _bernstein(self._scaled(mass), self.degree)

    def _primitives(self, mass: ArrayLike) -> FloatArray:
        """The integral of B_{j,d} is the sum of B_{i,d+1} over i > j, divided by d + 1; twice that here."""
        higher = _bernstein(self._scaled(mass), self.degree + 1)
        return 2 * higher[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:] / (self.degree + 1)

    def _limits(self) -> FloatArray:
        return np.eye(self.n_coefficients)


def _bernstein(x: FloatArray, degree: int) -> FloatArray:
    u, j = (np.asarray(x)[..., None] + 1) / 2, np.arange(degree + 1)
    values: FloatArray = comb(degree, j) * u**j * (1 - u) ** (degree - j)
    return values


class LogLinearFamily(Family):
    """The exponential of a sum of functions, integrated over each bin by Gauss-Legendre quadrature. Always positive."""

    def fit(
        self,
        low: FloatArray,
        high: FloatArray,
        counts: FloatArray,
        scales: FloatArray | None = None,
        known: FloatArray | None = None,
    ) -> Fits:
        nodes, weights = _nodes(low, high)
        return fit_loglinear(self._orthonormal(nodes), weights / self.bins.width, counts, scales, known)

    def expected(self, coefficients: FloatArray, low: ArrayLike, high: ArrayLike) -> FloatArray:
        nodes, weights = _nodes(low, high)
        integral: FloatArray = np.sum(weights * self._at(coefficients, nodes), axis=-1)
        return integral

    def jacobian(self, coefficients: FloatArray, low: ArrayLike, high: ArrayLike) -> FloatArray:
        nodes, weights = _nodes(low, high)
        slope: FloatArray = np.einsum("nrq,rqk->nrk", weights * self._at(coefficients, nodes), self._orthonormal(nodes))
        return slope

    def density(self, coefficients: FloatArray, mass: ArrayLike) -> FloatArray:
        return self._at(coefficients, np.asarray(mass, dtype=float))

    def _at(self, coefficients: FloatArray, mass: FloatArray) -> FloatArray:
        """(n, ...) events per GeV at masses of any shape."""
        density: FloatArray = np.exp(np.tensordot(coefficients, self._orthonormal(mass), axes=(1, -1)))
        return density / self.bins.width

    def _orthonormal(self, mass: FloatArray) -> FloatArray:
        """(..., k): the functions, orthonormal over the bins, so that collinear ones do not spoil the fit."""
        return self._logs(mass) @ self._rotation

    @cached_property
    def _rotation(self) -> FloatArray:
        nodes, _ = _nodes(self.bins.edges[:-1], self.bins.edges[1:])
        functions = self._logs(nodes).reshape(-1, self.n_coefficients)
        return np.linalg.inv(np.linalg.qr(functions / np.sqrt(len(functions)))[1])

    def _logs(self, mass: FloatArray) -> FloatArray:
        """(..., k) functions in the exponent, at masses of any shape."""
        raise NotImplementedError


class Exponential(LogLinearFamily):
    """The exponential of a polynomial in the mass."""

    def _logs(self, mass: FloatArray) -> FloatArray:
        return legendre.legvander(self._scaled(mass), self.degree)


class Dijet3(LogLinearFamily):
    """p1 (1 - x)^p2 x^-p3, x = m / sqrt(s): the first rung of the ATLAS ladder (ATLAS 2025, section V D 1)."""

    def _logs(self, mass: FloatArray) -> FloatArray:
        x = np.asarray(mass) / COLLISION_ENERGY
        return np.stack([np.ones_like(x), np.log1p(-x), np.log(x)], axis=-1)


class Dijet4(LogLinearFamily):
    """p1 (1 - x)^p2 x^(-p3 + p4 ln x): its second rung."""

    def _logs(self, mass: FloatArray) -> FloatArray:
        x = np.asarray(mass) / COLLISION_ENERGY
        return np.stack([np.ones_like(x), np.log1p(-x), np.log(x), np.log(x) ** 2], axis=-1)


class Ua2(LogLinearFamily):
    """p1 x^-p2 exp(-p3 x - p4 x^2): its third rung, the UA2 function."""

    def _logs(self, mass: FloatArray) -> FloatArray:
        x = np.asarray(mass) / COLLISION_ENERGY
        return np.stack([np.ones_like(x), np.log(x), x, x**2], axis=-1)


FAMILIES: dict[str, type[Family]] = {
    "polynomial": Polynomial,
    "bernstein": Bernstein,
    "exponential": Exponential,
    "dijet3": Dijet3,
    "dijet4": Dijet4,
    "ua2": Ua2,
}
FIXED_DEGREES = {"dijet3": 2, "dijet4": 3, "ua2": 3}


def make(name: str, bins: MassBins, degree: int) -> Family:
    """The family called `name`, with its own degree where that is fixed. Raises ValueError for an unknown name."""
    if name not in FAMILIES:
        raise AnalysisError(f"unknown background family {name!r}; known: {', '.join(FAMILIES)}", setting="family")
    return FAMILIES[name](bins, FIXED_DEGREES.get(name, degree))


def grouped(chosen: Sequence[Family]) -> list[tuple[Family, IntArray]]:
    """[(family, (m,) indices)] of the spectra that share a family. chosen: one a spectrum."""
    distinct = {id(family): family for family in chosen}.values()
    return [(family, np.array([i for i, own in enumerate(chosen) if own is family])) for family in distinct]


def _nodes(low: ArrayLike, high: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """(r, q) masses and weights [GeV] of the quadrature over each interval."""
    low, high = np.asarray(low, dtype=float)[:, None], np.asarray(high, dtype=float)[:, None]
    return (low + high) / 2 + (high - low) / 2 * NODES, (high - low) / 2 * NODE_WEIGHTS
