"""Poisson fits of many histograms at once, each with a certificate that it is at its minimum.

The expected counts are linear in the coefficients, lambda = design @ theta, and may not be negative. The negative
log-likelihood is then convex, so the minimum is unique in lambda, and a primal-dual interior-point method (Boyd &
Vandenberghe, Convex Optimization, section 11.7) finds it in about ten Newton steps whether or not it lies on the
boundary. An empty bin is a constraint, a filled one a count; the method treats both as u * z = b, with b -> 0 for
the constraints.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from dimuon.arrays import FloatArray, IntArray
from dimuon.errors import AnalysisError

TOLERANCE = 1e-9  # a certified fit is no further than this from its minimum, in ln L
MAX_STEPS = 100
# an exponential fitted to a handful of events creeps towards one that vanishes between them: more steps, looser limit
MAX_SCORING_STEPS = 1000
SCORING_TOLERANCE = 1e-5  # in ln L
CHUNK = 1024  # histograms worked on at once: their arrays stay in the cache
STALL = 1e-14  # relative ridge on the Hessian: no step is lost to rounding at a corner of the constraints


class FitError(AnalysisError):
    """A fit that is not at its minimum: never a number."""


@dataclass(frozen=True)
class Fits:
    """n fits with k coefficients to r bins; a certificate for each.

    coefficients: (n, k). expected: (n, r) events. deviance: (n,), -2 ln of the likelihood ratio to the saturated
    model. covariance: (n, k, k) of the coefficients, from the curvature within the active constraints.
    gradient_norm: (n,), of the Lagrangian, for coefficients in units of a flat spectrum's. gap: (n,), bound on the
    distance from the minimum in ln L. min_eigenvalue: (n,), smallest of the Hessian (same units; constraints in).
    at_boundary: (n,), constraints that hold with equality. steps: (n,).
    """

    coefficients: FloatArray
    expected: FloatArray
    deviance: FloatArray
    covariance: FloatArray
    gradient_norm: FloatArray
    gap: FloatArray
    min_eigenvalue: FloatArray
    at_boundary: IntArray
    steps: IntArray


def fit_linear(
    design: FloatArray,
    counts: ArrayLike,
    start: FloatArray,
    scales: ArrayLike | None = None,
    limits: FloatArray | None = None,
    known: FloatArray | None = None,
) -> Fits:
    """Maximum-likelihood `Fits` of expected counts `design @ theta + known >= 0`, under `limits @ theta >= 0`.

    design: (r, k), expected events per bin and unit coefficient. counts: (n, r), events or sums of weights.
    start: (k,), coefficients that leave every one of these forms above zero, where the search begins. scales:
    (n, r), f = sum(w^2) / sum(w) of a scaled Poisson count (Bohm & Zech 2014, arXiv:1309.1287); None: 1. limits:
    (m, k), further linear forms that may not be negative; None: none. known: (n, r) events expected on top, not
    negative; None: none. Raises ValueError where the bins cannot
    determine k coefficients, `FitError` for a fit that is not at its minimum.
    """
    counts = np.atleast_2d(np.asarray(counts, dtype=float))
    scales = np.ones_like(counts) if scales is None else np.atleast_2d(np.asarray(scales, dtype=float))
    n_bins, n_coefficients = design.shape
    if np.linalg.matrix_rank(design) < n_coefficients:
        raise AnalysisError(f"{n_coefficients} coefficients cannot be determined from {n_bins} bins", setting="degree")
    _check(counts, scales)
    rows = design if limits is None else np.vstack([design, limits])
    known = np.zeros_like(counts) if known is None else known
    chunks = [
        _fit_chunk(rows, start, *(values[first : first + CHUNK] for values in (counts, scales, known)))
        for first in range(0, len(counts), CHUNK)
    ]
    return _joined(chunks)


def fit_loglinear(
    logs: FloatArray,
    weights: FloatArray,
    counts: ArrayLike,
    scales: ArrayLike | None = None,
    known: FloatArray | None = None,
) -> Fits:
    """Maximum-likelihood `Fits` of expected counts sum_q weights exp(logs @ theta) + known, by Fisher scoring.

    logs: (r, q, k), weights: (r, q): the functions in the exponent at q points of each bin, and the quadrature's
    weights. counts, scales, known as for `fit_linear`. Within a bin the exponent hardly varies, so the likelihood is
    that of a generalised linear model with its own link, convex but for small terms; the deviance falls in every step.
    Raises ValueError and `FitError` as `fit_linear` does.
    """
    counts = np.atleast_2d(np.asarray(counts, dtype=float))
    scales = np.ones_like(counts) if scales is None else np.atleast_2d(np.asarray(scales, dtype=float))
    n_bins, n_coefficients = logs.shape[0], logs.shape[-1]
    if n_bins < n_coefficients:
        raise AnalysisError(f"{n_coefficients} coefficients cannot be determined from {n_bins} bins", setting="degree")
    _check(counts, scales)
    size = CHUNK // 8  # each bin has several points
    known = np.zeros_like(counts) if known is None else known
    chunks = [
        _Scoring(logs, weights, *(values[first : first + size] for values in (counts, scales, known))).fits()
        for first in range(0, len(counts), size)
    ]
    return _joined(chunks)


def deviance(counts: FloatArray, expected: FloatArray, scales: FloatArray | float = 1.0) -> FloatArray:
    """2 sum[lambda - n + n ln(n / lambda)] / f over the last axis: -2 ln of the ratio to the saturated likelihood."""
    safe = np.where(counts > 0, expected, 1.0)
    ratio = np.where(counts > 0, counts, 1.0) / safe
    height: FloatArray = 2 * np.sum((expected - counts + xlogy(counts, ratio)) / scales, axis=-1)
    return height


def _check(counts: FloatArray, scales: FloatArray) -> None:
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise ValueError("counts must be finite and not negative")
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise ValueError("scales must be finite and positive")


def _joined(chunks: Sequence[Fits]) -> Fits:
    return Fits(**{item.name: np.concatenate([getattr(chunk, item.name) for chunk in chunks]) for item in fields(Fits)})


# of some coefficients: events at the quadrature's points, in the bins, and the deviance
_Trial = tuple[FloatArray, FloatArray, FloatArray]


class _Scoring:
    """Fisher scoring with step halving, on n histograms at once."""

    def __init__(
        self, logs: FloatArray, weights: FloatArray, counts: FloatArray, scales: FloatArray, known: FloatArray
    ) -> None:
        self.logs, self.weights, self.counts, self.scales, self.known = logs, weights, counts, scales, known
        self.n, self.k = len(counts), logs.shape[-1]

    def fits(self) -> Fits:
        flat = np.linalg.lstsq(self.logs.reshape(-1, self.k), np.ones(self.weights.size), rcond=None)[0]
        level = np.log(np.maximum(self.counts.mean(axis=1), 1e-3) / self.weights.sum(axis=1).mean())
        theta, steps, gap = level[:, None] * flat, np.zeros(self.n, int), np.full(self.n, np.inf)
        busy = np.arange(self.n)
        points, expected, height = self._evaluate(theta, busy)
        for step in range(1, MAX_SCORING_STEPS + 1):
            gradient, information = self._equations(points[busy], expected[busy], busy)
            move = -np.linalg.solve(information, gradient[:, :, None])[:, :, 0]
            theta[busy], trial = self._descend(theta[busy], move, height[busy], busy)
            points[busy], expected[busy], height[busy] = trial
            gap[busy], steps[busy] = -np.sum(gradient * move, axis=1) / 2, step
            busy = busy[~(gap[busy] < TOLERANCE / 10)]
            if not busy.size:
                break
        _raise_if_failed(gap, steps, self.counts, SCORING_TOLERANCE)
        gradient, information = self._equations(points, expected, np.arange(self.n))
        return Fits(
            coefficients=theta,
            expected=expected,
            deviance=height,
            covariance=np.linalg.inv(information),
            gradient_norm=np.linalg.norm(gradient, axis=1),
            gap=gap,
            min_eigenvalue=np.linalg.eigvalsh(information)[:, 0],
            at_boundary=np.zeros(self.n, int),
            steps=steps,
        )

    def _evaluate(self, theta: FloatArray, busy: IntArray) -> _Trial:
        exponent = np.minimum(np.tensordot(theta, self.logs, axes=(1, -1)), 500.0)
        points = self.weights * np.exp(exponent)
        expected = np.maximum(points.sum(axis=-1) + self.known[busy], 1e-300)
        return points, expected, deviance(self.counts[busy], expected, self.scales[busy])

    def _equations(self, points: FloatArray, expected: FloatArray, busy: IntArray) -> tuple[FloatArray, FloatArray]:
        """Gradient of -ln L and Fisher information: (m, k), (m, k, k)."""
        counts, scales = self.counts[busy], self.scales[busy]
        slopes = np.einsum("nrq,rqk->nrk", points, self.logs, optimize=True)
        gradient = np.einsum("nr,nrk->nk", (1 - counts / expected) / scales, slopes)
        root = slopes / np.sqrt(expected * scales)[:, :, None]
        information = root.transpose(0, 2, 1) @ root
        return gradient, information + STALL * np.trace(information, axis1=1, axis2=2)[:, None, None] * np.eye(self.k)

    def _descend(
        self, theta: FloatArray, move: FloatArray, height: FloatArray, busy: IntArray
    ) -> tuple[FloatArray, _Trial]:
        """Each step halved until the deviance does not rise: new coefficients and what they give."""
        length = np.ones((len(theta), 1))
        for _ in range(40):
            trial = self._evaluate(theta + length * move, busy)
            worse = trial[2] > height + 1e-9
            if not worse.any():
                break
            length[worse] /= 2
        return theta + length * move, trial


def _fit_chunk(rows: FloatArray, start: FloatArray, counts: FloatArray, scales: FloatArray, known: FloatArray) -> Fits:
    n, n_bins = counts.shape
    unit = counts.mean(axis=1)
    unit = np.where(unit > 0, unit, 1.0)[:, None]  # expected counts are `unit * u` with u of order 1
    a, b = np.zeros((n, len(rows))), np.zeros((n, len(rows)))
    a[:, :n_bins], b[:, :n_bins] = unit / scales, counts / scales
    first = np.tile(rows @ start, (n, 1))
    first[:, :n_bins] += known / unit
    solution = _interior_point(rows, start, first, a, b, shrink=0.02, reach=0.99)
    failed = ~(solution.gap < TOLERANCE)
    if failed.any():  # a second try with more careful steps
        again = _interior_point(rows, start, first[failed], a[failed], b[failed], shrink=0.5, reach=0.9)
        for name, value in vars(solution).items():
            value[failed] = getattr(again, name)
        _raise_if_failed(solution.gap, solution.steps, counts)
    return _certify(rows, a, b, unit, counts, scales, solution)


@dataclass
class _Point:
    theta: FloatArray  # (n, k), in units of `unit`
    u: FloatArray  # (n, rows), positive
    z: FloatArray  # (n, rows), positive; dual variables
    gap: FloatArray  # (n,)
    steps: IntArray  # (n,)


def _interior_point(
    rows: FloatArray, start: FloatArray, first: FloatArray, a: FloatArray, b: FloatArray, shrink: float, reach: float
) -> _Point:
    """Minimise sum(a u - b ln u) with u = rows @ theta + known >= 0, for each row of a and b: (n, rows).

    start: (k,), first: (n, rows), theta and u where the search begins; u moves by `rows` times what theta does.
    At the minimum rows.T @ z = rows.T @ a and u z = b, with u, z >= 0. Each step solves the linearised equations with
    b = 0 replaced by `shrink` times its present mean, and goes at most the share `reach` of the way to the boundary.
    """
    n, k = len(a), rows.shape[1]
    outer = _outer(rows)
    theta, u, empty = np.tile(start, (n, 1)), first, (b == 0).astype(float)
    z = np.where(b > 0, b / u, np.where(a > 0, a, a.mean(axis=1, keepdims=True)))
    best = _Point(theta.copy(), u.copy(), z.copy(), np.full(n, np.inf), np.zeros(n, int))
    share = shrink / np.maximum(empty.sum(axis=1), 1)
    busy = np.arange(n)
    for step in range(1, MAX_STEPS + 1):
        target = b + (share * np.sum(u * z * empty, axis=1))[:, None] * empty
        hessian = _hessian(outer, z / u, k)
        move = np.linalg.solve(hessian, ((target / u - a) @ rows)[:, :, None])[:, :, 0]
        du = move @ rows.T
        dz = (target - z * du) / u - z
        forward, dual = _step_length(du / u, reach), _step_length(dz / z, reach)
        theta, u, z = theta + forward * move, u + forward * du, z + dual * dz
        gap = _distance(rows, a, b, empty, u, z, hessian)
        done = gap < TOLERANCE / 10
        done |= step == MAX_STEPS
        if done.any():
            at = busy[done]
            best.theta[at], best.u[at], best.z[at] = theta[done], u[done], z[done]
            best.gap[at], best.steps[at] = gap[done], step
            busy, empty, share = busy[~done], empty[~done], share[~done]
            theta, u, z, a, b = theta[~done], u[~done], z[~done], a[~done], b[~done]
            if not busy.size:
                break
    return best


def _outer(rows: FloatArray) -> FloatArray:
    """(rows, k * k): the contribution of each row to the Hessian, flattened."""
    products: FloatArray = np.einsum("ri,rj->rij", rows, rows)
    return products.reshape(len(rows), -1)


def _hessian(outer: FloatArray, curvature: FloatArray, k: int) -> FloatArray:
    hessian: FloatArray = (curvature @ outer).reshape(-1, k, k)
    diagonal = np.einsum("nii->ni", hessian)  # a view
    diagonal += STALL * diagonal.sum(axis=1, keepdims=True)
    return hessian


def _step_length(relative: FloatArray, reach: float) -> FloatArray:
    """(n, 1), at most 1, that keeps every 1 + step * relative above 1 - reach."""
    furthest: FloatArray = reach / np.maximum(-relative.min(axis=1, keepdims=True), 1e-9)
    return np.minimum(furthest, 1.0)


def _distance(
    rows: FloatArray,
    a: FloatArray,
    b: FloatArray,
    empty: FloatArray,
    u: FloatArray,
    z: FloatArray,
    hessian: FloatArray,
) -> FloatArray:
    """(n,) bound on the distance from the minimum in ln L: duality gap and Newton decrement of what is left."""
    gap: FloatArray = np.sum(u * z * empty, axis=1)
    near = gap < TOLERANCE
    if near.any():
        residual = (a[near] - b[near] / u[near] - z[near] * empty[near]) @ rows
        gap[near] += np.abs(np.sum(residual * np.linalg.solve(hessian[near], residual[:, :, None])[:, :, 0], axis=1))
    return gap


def _raise_if_failed(gap: FloatArray, steps: IntArray, counts: FloatArray, tolerance: float = TOLERANCE) -> None:
    failed = np.flatnonzero(~(gap < tolerance))
    if failed.size:
        first = failed[0]
        raise FitError(
            f"{failed.size} of {len(counts)} fits are not at their minimum; the first, to {counts[first].sum():g} "
            f"events, stays {gap[first]:.2g} in ln L away after {steps[first]} steps"
        )


def _certify(
    rows: FloatArray,
    a: FloatArray,
    b: FloatArray,
    unit: FloatArray,
    counts: FloatArray,
    scales: FloatArray,
    solution: _Point,
) -> Fits:
    n_bins, k = counts.shape[1], rows.shape[1]
    counted = b > 0
    z = np.where(counted, b / solution.u, solution.z)
    hessian = _hessian(_outer(rows), z / solution.u, k)
    expected = unit * solution.u[:, :n_bins]
    return Fits(
        coefficients=unit * solution.theta,
        expected=expected,
        deviance=deviance(counts, expected, scales),
        covariance=np.linalg.inv(hessian) * unit[:, :, None] ** 2,
        gradient_norm=np.linalg.norm((a - z) @ rows, axis=1),
        gap=solution.gap,
        min_eigenvalue=np.linalg.eigvalsh(hessian)[:, 0],
        at_boundary=(~counted & (z > solution.u)).sum(axis=1),
        steps=solution.steps,
    )
