"""The minimum of a `PeakModel`, its certificate, and the errors there.

A sum of Poisson deviances is a sum of squares, so `scipy.optimize.least_squares` finds its minimum within the bounds of
the parameters.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.special import xlogy

from dimuon.arrays import BoolArray, FloatArray
from dimuon.statistics.likelihood_ratio import pearson
from dimuon.statistics.peak_model import PeakModel
from dimuon.statistics.poisson_fits import FitError, deviance

NEAR = 1e-4  # of what is allowed: a parameter this close to a bound, and pushed there, is at it
MIN_EXPECTED = 5.0  # events, of the bins of Pearson's chi2


@dataclass(frozen=True, eq=False)
class Minimum:
    """A model at its minimum. height: the deviance. free: (n_parameters,) False at a bound. gap: bound on the
    distance from the minimum in ln L."""

    model: PeakModel
    theta: FloatArray
    height: float
    free: BoolArray
    gap: float

    @property
    def akaike(self) -> float:
        """-2 ln L + 2 (parameters), up to a constant of the spectrum."""
        return self.height + 2 * self.model.n_parameters

    @property
    def resolution(self) -> float:
        """Width over mass of the peaks."""
        return self.model.split(self.theta)[3]


def minimum(model: PeakModel, start: FloatArray) -> Minimum:
    """The minimum of the deviance within the bounds, from a start within them. Raises `FitError` where it is none."""
    counts, (low, high) = model.spectrum.counts, model.bounds()

    last: list[tuple[FloatArray, FloatArray, FloatArray]] = []  # residuals and slopes where they were last asked for

    def evaluate(theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        if not (last and np.array_equal(last[0][0], theta)):
            expected, derivatives = _expected(model, theta)
            values, by_expected = _residuals(counts, expected)
            last[:] = [(theta.copy(), values, by_expected[:, None] * derivatives)]
        return last[0]

    options = {"ftol": 1e-10, "xtol": 1e-10, "gtol": 1e-10, "max_nfev": 100}
    theta = least_squares(
        lambda at: evaluate(at)[1], start, lambda at: evaluate(at)[2], bounds=(low, high), x_scale="jac", **options
    ).x
    expected, derivatives = _expected(model, theta)
    gradient = derivatives.T @ (1 - counts / expected)
    near = np.where(gradient > 0, theta - low, high - theta)
    free = ~(near < NEAR * np.where(np.isfinite(high - low), high - low, np.inf))
    inside = derivatives[:, free]
    curvature = inside.T @ (inside / expected[:, None])
    gap = float(gradient[free] @ np.linalg.lstsq(curvature, gradient[free], rcond=None)[0]) / 2
    gap += float(np.sum(np.abs(gradient[~free]) * near[~free]))
    return Minimum(model, theta, float(deviance(counts, expected)), free, gap)


def _expected(model: PeakModel, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    background, peaks, derivatives = model.parts(theta)
    return background + peaks.sum(axis=0), derivatives


def _residuals(counts: FloatArray, expected: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(n_bins,) whose squares sum to the deviance, and their derivatives by the expected counts."""
    filled = np.where(counts > 0, counts, 1.0)
    size = np.sqrt(np.maximum(2 * (expected - counts + xlogy(counts, filled / expected)), 0.0))
    same = size < 1e-5
    slope = np.where(same, 1 / np.sqrt(expected), (1 - counts / expected) / np.where(same, 1.0, size))
    return np.sign(expected - counts) * size, np.abs(slope)


def covariance_of(fitted: Minimum) -> FloatArray:
    """(n_parameters, n_parameters), from the curvature of ln L in the free ones; NaN for those at a bound."""
    model, counts, free = fitted.model, fitted.model.spectrum.counts, np.flatnonzero(fitted.free)

    def gradient(theta: FloatArray) -> FloatArray:
        expected, derivatives = _expected(model, theta)
        downhill: FloatArray = derivatives[:, free].T @ (1 - counts / expected)
        return downhill

    expected, derivatives = _expected(model, fitted.theta)
    inside = derivatives[:, free]
    information = inside.T @ (inside / expected[:, None])
    steps = 1e-3 / np.sqrt(np.diag(information))
    curvature = np.empty_like(information)
    for i, (place, step) in enumerate(zip(free, steps, strict=True)):
        move = np.zeros(len(fitted.theta))
        move[place] = step
        curvature[i] = (gradient(fitted.theta + move) - gradient(fitted.theta - move)) / (2 * step)
    curvature = (curvature + curvature.T) / 2
    scale = np.outer(steps, steps) * 1e6
    if np.linalg.eigvalsh(curvature * scale)[0] <= 0:
        raise FitError("the errors of the peaks are not defined: the likelihood is flat or not at a minimum")
    covariance = np.full((len(fitted.theta),) * 2, np.nan)
    covariance[np.ix_(free, free)] = np.linalg.inv(curvature * scale) * scale
    return covariance


def merged_chi2(counts: FloatArray, expected: FloatArray, n_parameters: int) -> tuple[float, int]:
    """Pearson's chi2 in neighbouring bins merged until each expects enough, and its degrees of freedom."""
    starts, room = [0], 0.0
    for i, value in enumerate(expected):
        if room >= MIN_EXPECTED:
            starts.append(i)
            room = 0.0
        room += float(value)
    if room < MIN_EXPECTED and len(starts) > 1:
        starts.pop()
    n, lam = np.add.reduceat(counts, starts), np.add.reduceat(expected, starts)
    return float(pearson(n, lam)), max(len(starts) - n_parameters, 0)
