"""Families of functions for the background's mass spectrum, behind one interface.

A family is made for given `MassBins` and offers `fit(low, high, counts, scales) -> Fits`, `expected(coefficients,
low, high)`, `density(coefficients, mass)` and `jacobian(coefficients, low, high)`; the significance never asks
which one it is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre

from dimuon.fits import fit_linear
from dimuon.regions import MassBins


@dataclass(frozen=True)
class Polynomial:
    """A polynomial in the mass, as Legendre polynomials over the window, with exact bin integrals.

    The expected count of every bin, those of the SR among them, is held at or above zero.
    """

    bins: MassBins
    degree: int

    @property
    def n_coefficients(self):
        """Free coefficients."""
        return self.degree + 1

    def fit(self, low, high, counts, scales=None):
        """`Fits` to events in the mass intervals low to high: (r,), GeV. counts, scales: (n, r)."""
        edges, sr = self.bins.edges, self.bins.is_sr
        limits = self._integrals(edges[:-1][sr], edges[1:][sr])
        return fit_linear(self._integrals(low, high), counts, scales, limits)

    def expected(self, coefficients, low, high):
        """(n, r) events in the mass intervals low to high: (r,), GeV, exactly integrated. coefficients: (n, k)."""
        return coefficients @ self._integrals(low, high).T

    def jacobian(self, coefficients, low, high):
        """(n, r, k) derivatives of `expected` by the coefficients."""
        return np.broadcast_to(self._integrals(low, high), (len(coefficients), len(low), self.n_coefficients))

    def density(self, coefficients, mass):
        """(n, n_events) events per GeV. mass: (n_events,), GeV.

        Never negative: the fit keeps the integral over every bin at or above zero, and where a fit to few events
        dips below zero inside a bin, the density is zero there.
        """
        values = coefficients @ legendre.legvander(self._scaled(mass), self.degree).T
        return np.maximum(values, 0.0) / self.bins.width

    def _scaled(self, mass):
        low, high = self.bins.window.sb_low, self.bins.window.sb_high
        return (2 * np.asarray(mass, dtype=float) - low - high) / (high - low)

    def _integrals(self, low, high):
        """(r, k), in units of the bin width: the integral of P_j is (P_{j+1} - P_{j-1}) / (2j + 1)."""
        window = self.bins.window

        def antiderivative(mass):
            values = legendre.legvander(self._scaled(mass), self.degree + 1)
            order = np.arange(1, self.degree + 1)
            higher = (values[..., 2:] - values[..., :-2]) / (2 * order + 1)
            return np.concatenate([values[..., 1:2], higher], axis=-1)

        half = (window.sb_high - window.sb_low) / 2
        return (antiderivative(high) - antiderivative(low)) * half / self.bins.width
