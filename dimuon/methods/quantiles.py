"""Quantile regression: how unusual a value is for its mass."""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial

from dimuon.arrays import FloatArray

LEVELS = np.array([0.02, 0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99])
N_SLICES = 16  # of equal numbers of events, in which quantiles are counted
DEGREE = 2  # of the polynomial in the mass through them


@dataclass(frozen=True, eq=False)
class Quantiles:
    """Quantiles of a value as functions of the mass, one for each of `LEVELS`."""

    of_level: tuple[Polynomial, ...]

    @classmethod
    def of(cls, mass: FloatArray, value: FloatArray) -> "Quantiles":
        """Fitted to events: (n_events,) both. By slices in the mass and a polynomial through their quantiles."""
        order = np.array_split(np.argsort(mass, kind="stable"), N_SLICES)
        middle = np.array([mass[part].mean() for part in order])
        counted = np.array([np.quantile(value[part], LEVELS) for part in order])
        return cls(tuple(Polynomial.fit(middle, values, DEGREE) for values in counted.T))

    def rarity(self, mass: FloatArray, value: FloatArray) -> FloatArray:
        """-log of the chance of a larger value at the same mass: (n_events,). Exponential beyond."""
        at = np.maximum.accumulate([polynomial(mass) for polynomial in self.of_level], axis=0)
        known = -np.log(1 - LEVELS)
        place = np.clip((value[None] >= at).sum(axis=0), 1, len(LEVELS) - 1)
        each = np.arange(len(value))
        low, high = at[place - 1, each], at[place, each]
        slope = (known[place] - known[place - 1]) / np.maximum(high - low, 1e-9)
        rarity: FloatArray = known[place - 1] + slope * (value - low)
        return rarity
