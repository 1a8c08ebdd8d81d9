"""Mass spectra as the test sees them: sideband bins and, last, the SR as one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dimuon.arrays import BoolArray, FloatArray, IntArray
from dimuon.regions import MassBins


@dataclass(frozen=True)
class Spectra:
    """n mass spectra in the bins of the test: the sideband bins and, last, the SR as one.

    counts: (n, n_sidebands + 1), events or sums of weights. scales: same shape, sum(w^2) / sum(w) of each bin.
    """

    bins: MassBins
    counts: FloatArray
    scales: FloatArray

    @property
    def low(self) -> FloatArray:
        """(n_sidebands + 1,) lower bin edges [GeV]."""
        return np.append(self.bins.edges[:-1][~self.bins.is_sr], self.bins.window.sr_low)

    @property
    def high(self) -> FloatArray:
        """(n_sidebands + 1,) upper bin edges [GeV]."""
        return np.append(self.bins.edges[1:][~self.bins.is_sr], self.bins.window.sr_high)

    @classmethod
    def of(
        cls,
        mass: ArrayLike,
        bins: MassBins,
        weights: ArrayLike | None = None,
        selections: BoolArray | None = None,
        pooled: bool = False,
    ) -> "Spectra":
        """The spectra of one sample under one or several selections.

        mass: (n_events,), GeV. weights: (n_events,), not negative; an event of weight zero counts as absent.
        selections: (n, n_events) True where an event is kept (None: one spectrum of all). pooled: see `weighted`.
        Events in no bin are not part of the test. Raises ValueError for masses or weights that are not finite, for
        negative weights and for no weight at all.
        """
        mass = finite(mass, "mass")
        index = bins.index(mass)
        kept = np.ones((1, len(mass)), dtype=bool) if selections is None else np.atleast_2d(selections)
        if weights is None:
            counts = np.array([bins.sr_as_one(bins.counts_at(index[row])) for row in kept])
            return cls(bins, counts, np.ones_like(counts))
        weights = finite(weights, "weight")
        if len(weights) != len(mass):
            raise ValueError(f"{len(weights)} weights for {len(mass)} masses")
        if (weights < 0).any():
            raise ValueError(f"weight {weights[weights < 0][0]:g} of event {np.argmax(weights < 0)} is negative")
        if not (weights > 0).any():
            raise ValueError("every weight is zero")
        counts = np.array([bins.sr_as_one(bins.counts_at(index[row], weights[row])) for row in kept])
        squares = np.array([bins.sr_as_one(bins.counts_at(index[row], weights[row] ** 2)) for row in kept])
        return cls.weighted(bins, counts, squares, pooled)

    @classmethod
    def weighted(cls, bins: MassBins, counts: FloatArray, squares: FloatArray, pooled: bool = False) -> "Spectra":
        """From sums of weights and of squared weights, (n, n_sidebands + 1).

        Each bin has the scale of its own events, an empty one that of its whole sample. pooled: the sideband bins
        share the scale of all of them. A bin's own scale fluctuates with its count, which draws the fit below the
        sidebands and Z0 up; a common scale does not (tests/benchmarks/significance.py).
        """
        scales = scale_factors(counts, squares)
        if pooled:
            sums, of_squares = (values[:, :-1].sum(axis=1, keepdims=True) for values in (counts, squares))
            scales[:, :-1] = _ratio(of_squares, sums, whole_scale(counts, squares))
        return cls(bins, counts, scales)

    @classmethod
    def joined(cls, parts: Sequence["Spectra"]) -> "Spectra":
        """One set of the spectra of several, in their order; all in the same bins."""
        counts, scales = (np.concatenate([getattr(part, name) for part in parts]) for name in ("counts", "scales"))
        return cls(parts[0].bins, counts, scales)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, chosen: int | list[int] | slice | BoolArray | IntArray) -> "Spectra":
        """The spectra that an index, a slice or a mask chooses."""
        return Spectra(self.bins, np.atleast_2d(self.counts[chosen]), np.atleast_2d(self.scales[chosen]))


def scale_factors(sums: FloatArray, squares: FloatArray) -> FloatArray:
    """f = sum(w^2) / sum(w) of each bin, by which a sum of weights is a scaled Poisson count (Bohm & Zech 2014,
    arXiv:1309.1287). An empty bin takes the f of its whole spectrum.

    sums, squares: (..., n_bins), of the weights and of their squares.

    >>> scale_factors(np.array([4.0, 0.0, 4.0]), np.array([8.0, 0.0, 4.0])).tolist()
    [2.0, 1.5, 1.0]
    """
    return _ratio(squares, sums, whole_scale(sums, squares))


def whole_scale(sums: FloatArray, squares: FloatArray) -> FloatArray:
    """f of the whole spectrum, (..., 1); 1 where it is empty. sums, squares: as for `scale_factors`."""
    return _ratio(squares.sum(axis=-1, keepdims=True), sums.sum(axis=-1, keepdims=True), 1.0)


def finite(values: ArrayLike, name: str) -> FloatArray:
    """The values as (n_events,) numbers; ValueError names the first that is not finite."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 1:
        raise ValueError(f"{name} must have shape (n_events,), found {values.shape}")
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(f"{name} of event {np.argmax(bad)} is {values[bad][0]}: every {name} must be finite")
    return values


def _ratio(above: FloatArray, below: FloatArray, otherwise: FloatArray | float) -> FloatArray:
    """above / below, and `otherwise` where below is zero."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), otherwise)
