"""A background and n peaks in one mass spectrum: what is fitted in `dimuon.statistics.peaks`."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.regions import MassBins
from dimuon.statistics.families import Family, LinearFamily
from dimuon.statistics.peak_shapes import Shape

N_WIDTHS = 6  # resolutions looked at
WIDEST = 0.25  # of the SR: a wider peak is not inside it
FLOOR = 1e-3  # events in a bin at which a background that would turn negative is held, smoothly


@dataclass(frozen=True, eq=False)
class PeakSpectrum:
    """Counts in fine bins, and the background function that goes with them."""

    family: Family
    counts: FloatArray

    @property
    def bins(self) -> MassBins:
        return self.family.bins

    def background(self, coefficients: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(n_bins,) events and their derivatives (n_bins, k). coefficients: (k,)."""
        if self._design is not None:
            return self._design @ coefficients, self._design
        low, high = self.bins.edges[:-1], self.bins.edges[1:]
        expected = self.family.expected(coefficients[None], low, high)[0, :]
        return expected, self.family.jacobian(coefficients[None], low, high)[0, :]

    @cached_property
    def _design(self) -> FloatArray | None:
        """(n_bins, k) events for unit coefficients, where the function is a sum with them."""
        if not isinstance(self.family, LinearFamily):
            return None
        nothing = np.zeros((1, self.family.n_coefficients))
        return self.family.jacobian(nothing, self.bins.edges[:-1], self.bins.edges[1:])[0, :]

    @cached_property
    def sidebands(self) -> FloatArray:
        """(k,) coefficients of the background fitted to the sidebands, where every other fit begins."""
        low, high = self.bins.edges[:-1][~self.bins.is_sr], self.bins.edges[1:][~self.bins.is_sr]
        return self.family.fit(low, high, self.counts[None, ~self.bins.is_sr]).coefficients[0, :]

    @property
    def widths(self) -> tuple[float, float]:
        """Width over mass: the smallest that the bins tell from a line, the largest of a peak inside the SR."""
        window = self.bins.window
        return self.bins.width / 2 / window.sr_high, WIDEST * (window.sr_high - window.sr_low) / window.sr_high

    def resolutions(self) -> FloatArray:
        """(N_WIDTHS,) from the smallest to the largest."""
        return np.geomspace(*self.widths, N_WIDTHS)


@dataclass(frozen=True, eq=False)
class PeakModel:
    """Background and n peaks. Parameters: the background's coefficients, then events, masses, resolution, tail."""

    spectrum: PeakSpectrum
    shape: Shape
    n_peaks: int

    @property
    def n_background(self) -> int:
        return self.spectrum.family.n_coefficients

    @property
    def n_parameters(self) -> int:
        return self.n_background + (2 * self.n_peaks + 1 + len(self.shape.start) if self.n_peaks else 0)

    @property
    def names(self) -> list[str]:
        peaks = [f"{what} {i + 1}" for what in ("n_events", "mass") for i in range(self.n_peaks)]
        shared = ["resolution", *(f"tail {i + 1}" for i in range(len(self.shape.start)))] if self.n_peaks else []
        return [f"background {i}" for i in range(self.n_background)] + peaks + shared

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        window, n = self.spectrum.bins.window, self.n_peaks
        most = max(self.spectrum.counts.sum(), 1.0)
        low = [-np.inf] * self.n_background + [0.0] * n + [window.sr_low] * n
        high = [np.inf] * self.n_background + [most] * n + [window.sr_high] * n
        if n:
            low += [self.spectrum.widths[0], *self.shape.low]
            high += [self.spectrum.widths[1], *self.shape.high]
        return np.array(low), np.array(high)

    def split(self, theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, float, tuple[float, ...]]:
        """(coefficients of the background, events, masses, resolution, tail)."""
        k, n = self.n_background, self.n_peaks
        shared = theta[k + 2 * n :]
        resolution = float(shared[0]) if n else np.nan
        tail = tuple(float(value) for value in shared[1:])
        return theta[:k], theta[k : k + n], theta[k + n : k + 2 * n], resolution, tail

    def parts(self, theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Background (n_bins,), peaks (n, n_bins) and the derivatives of their sum (n_bins, n_parameters)."""
        edges = self.spectrum.bins.edges
        coefficients, events, masses, resolution, tail = self.split(theta)
        bare, slope = self.spectrum.background(coefficients)
        root = np.sqrt(bare**2 + 4 * FLOOR**2)
        background = np.where(bare > 0, (bare + root) / 2, 2 * FLOOR**2 / (root - np.minimum(bare, 0.0)))
        columns = [slope * (background / root)[:, None]]
        if not self.n_peaks:
            return background, np.zeros((0, len(bare))), columns[0]
        spectra = Templates.of(edges, self.shape, masses, resolution, tail)
        by_events, by_mass = spectra.shape.T, (events[:, None] * spectra.by_mass).T
        shared = np.einsum("n,pnb->bp", events, np.stack([spectra.by_resolution, *spectra.by_tail]))
        return background, events[:, None] * spectra.shape, np.hstack([*columns, by_events, by_mass, shared])


@dataclass(frozen=True, eq=False)
class Templates:
    """Peaks of one event each in the window, (n, n_bins), and their derivatives; by_tail: one for each parameter."""

    shape: FloatArray
    by_mass: FloatArray
    by_resolution: FloatArray
    by_tail: list[FloatArray]

    @classmethod
    def of(
        cls, edges: FloatArray, shape: Shape, masses: FloatArray, resolution: float, tail: tuple[float, ...]
    ) -> "Templates":
        """masses: (n,). edges: (n_bins + 1,)."""
        widths = (resolution * masses)[:, None]
        z = (edges - masses[:, None]) / widths
        below, density = shape.cdf(z, *tail), shape.pdf(z, *tail)
        total = below[:, -1:] - below[:, :1]
        template = np.diff(below) / total

        def slope(change: FloatArray) -> FloatArray:
            """Of the template, where the distribution function changes so at the edges."""
            derivative: FloatArray = (np.diff(change) - template * (change[:, -1:] - change[:, :1])) / total
            return derivative

        by_tail = []
        for i, value in enumerate(tail):
            step = 1e-5 * value
            up, down = (shape.cdf(z, *tail[:i], value + sign * step, *tail[i + 1 :]) for sign in (1, -1))
            by_tail.append(slope((up - down) / (2 * step)))
        by_mass = slope(density * -(z + 1 / resolution) / masses[:, None])
        return cls(template, by_mass, slope(density * -z / resolution), by_tail)
