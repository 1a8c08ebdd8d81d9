"""Poisson fits of many histograms at once, each with a certificate that it is at its minimum.

The expected counts are linear in the coefficients, lambda = design @ theta, and may not be negative. The negative
log-likelihood is then convex, so the minimum is unique in lambda, and a primal-dual interior-point method (Boyd &
Vandenberghe, Convex Optimization, section 11.7) finds it in about ten Newton steps whether or not it lies on the
boundary. An empty bin is a constraint, a filled one a count; the method treats both as u * z = b, with b -> 0 for
the constraints.
"""

from dataclasses import dataclass, fields

import numpy as np
from scipy.special import xlogy

TOLERANCE = 1e-9  # a certified fit is no further than this from its minimum, in ln L
MAX_STEPS = 100
CHUNK = 2048  # histograms worked on at once: their arrays stay in the cache
STALL = 1e-14  # relative ridge on the Hessian: no step is lost to rounding at a corner of the constraints


class FitError(ArithmeticError):
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

    coefficients: np.ndarray
    expected: np.ndarray
    deviance: np.ndarray
    covariance: np.ndarray
    gradient_norm: np.ndarray
    gap: np.ndarray
    min_eigenvalue: np.ndarray
    at_boundary: np.ndarray
    steps: np.ndarray


def fit_linear(design, counts, scales=None, limits=None):
    """Maximum-likelihood `Fits` of expected counts `design @ theta >= 0`, under `limits @ theta >= 0`.

    design: (r, k), expected events per bin and unit coefficient. counts: (n, r), events or sums of weights. scales:
    (n, r), f = sum(w^2) / sum(w) of a scaled Poisson count (Bohm & Zech 2014, arXiv:1309.1287); None: 1. limits:
    (m, k), further linear forms that may not be negative; None: none. Raises ValueError where the bins cannot
    determine k coefficients, `FitError` for a fit that is not at its minimum.
    """
    counts = np.atleast_2d(np.asarray(counts, dtype=float))
    scales = np.ones_like(counts) if scales is None else np.atleast_2d(np.asarray(scales, dtype=float))
    n_bins, n_coefficients = design.shape
    if np.linalg.matrix_rank(design) < n_coefficients:
        raise ValueError(f"{n_coefficients} coefficients cannot be determined from {n_bins} bins")
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise ValueError("counts must be finite and not negative")
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise ValueError("scales must be finite and positive")
    rows = design if limits is None else np.vstack([design, limits])
    chunks = [
        _fit_chunk(rows, counts[start : start + CHUNK], scales[start : start + CHUNK])
        for start in range(0, len(counts), CHUNK)
    ]
    return Fits(
        **{field.name: np.concatenate([getattr(chunk, field.name) for chunk in chunks]) for field in fields(Fits)}
    )


def deviance(counts, expected, scales=1.0):
    """2 sum[lambda - n + n ln(n / lambda)] / f over the last axis: -2 ln of the ratio to the saturated likelihood."""
    safe = np.where(counts > 0, expected, 1.0)
    ratio = np.where(counts > 0, counts, 1.0) / safe
    return 2 * np.sum((expected - counts + xlogy(counts, ratio)) / scales, axis=-1)


def _fit_chunk(rows, counts, scales):
    n, n_bins = counts.shape
    unit = counts.mean(axis=1)
    unit = np.where(unit > 0, unit, 1.0)[:, None]  # expected counts are `unit * u` with u of order 1
    a, b = np.zeros((n, len(rows))), np.zeros((n, len(rows)))
    a[:, :n_bins], b[:, :n_bins] = unit / scales, counts / scales
    solution = _interior_point(rows, a, b, shrink=0.02, reach=0.99)
    failed = ~(solution.gap < TOLERANCE)
    if failed.any():  # a second try with more careful steps
        again = _interior_point(rows, a[failed], b[failed], shrink=0.5, reach=0.9)
        for name, value in vars(solution).items():
            value[failed] = getattr(again, name)
        _raise_if_failed(solution, counts)
    return _certify(rows, a, b, unit, counts, scales, solution)


@dataclass
class _Point:
    theta: np.ndarray  # (n, k), in units of `unit`
    u: np.ndarray  # (n, rows), positive
    z: np.ndarray  # (n, rows), positive; dual variables
    gap: np.ndarray  # (n,)
    steps: np.ndarray  # (n,)


def _interior_point(rows, a, b, shrink, reach):
    """Minimise sum(a u - b ln u) with u = rows @ theta >= 0, for each row of a and b: (n, rows).

    At the minimum rows.T @ z = rows.T @ a and u z = b, with u, z >= 0. Each step solves the linearised equations
    with b = 0 replaced by `shrink` times its present mean, and goes at most the share `reach` of the way to the
    boundary.
    """
    n, k = len(a), rows.shape[1]
    outer = np.einsum("ri,rj->rij", rows, rows).reshape(len(rows), k * k)
    start = np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)[0]  # flat, hence inside every constraint
    point = _Point(np.tile(start, (n, 1)), np.tile(rows @ start, (n, 1)), None, np.full(n, np.inf), np.zeros(n, int))
    counted = b > 0
    point.z = np.where(counted, b / point.u, np.where(a > 0, a, a.mean(axis=1, keepdims=True)))
    n_constraints = np.maximum((~counted).sum(axis=1), 1)
    busy = np.arange(n)
    for step in range(1, MAX_STEPS + 1):
        u, z, b_now, a_now, is_count = point.u[busy], point.z[busy], b[busy], a[busy], counted[busy]
        slack = np.where(is_count, 0.0, u * z).sum(axis=1)
        target = np.where(is_count, b_now, (shrink * slack / n_constraints[busy])[:, None])
        hessian = _hessian(outer, z / u, k)
        move = np.linalg.solve(hessian, ((target / u - a_now) @ rows)[:, :, None])[:, :, 0]
        du = move @ rows.T
        dz = (target - z * u - z * du) / u
        forward, dual = _step_length(du / u, reach), _step_length(dz / z, reach)
        point.theta[busy] += forward * move
        point.u[busy] = u = u + forward * du
        point.z[busy] = z = z + dual * dz
        point.gap[busy] = gap = _distance(rows, a_now, b_now, is_count, u, z, hessian)
        point.steps[busy] = step
        busy = busy[~(gap < TOLERANCE / 10)]
        if not busy.size:
            break
    return point


def _hessian(outer, curvature, k):
    hessian = (curvature @ outer).reshape(-1, k, k)
    return hessian + STALL * np.trace(hessian, axis1=1, axis2=2)[:, None, None] * np.eye(k)


def _step_length(relative, reach):
    """(n, 1), at most 1, that keeps every 1 + step * relative above 1 - reach."""
    return np.minimum(1.0, reach / np.maximum(-relative.min(axis=1, keepdims=True), 1e-9))


def _distance(rows, a, b, is_count, u, z, hessian):
    """(n,) bound on the distance from the minimum in ln L: duality gap and Newton decrement of what is left."""
    slack = np.where(is_count, 0.0, u * z).sum(axis=1)
    near = slack < TOLERANCE
    residual = (a[near] - np.where(is_count[near], b[near] / u[near], z[near])) @ rows
    decrement = np.sum(residual * np.linalg.solve(hessian[near], residual[:, :, None])[:, :, 0], axis=1)
    slack[near] += np.abs(decrement)
    return slack


def _raise_if_failed(solution, counts):
    failed = np.flatnonzero(~(solution.gap < TOLERANCE))
    if failed.size:
        first = failed[0]
        raise FitError(
            f"{failed.size} of {len(counts)} fits are not at their minimum; the first, to {counts[first].sum():g} "
            f"events, stays {solution.gap[first]:.2g} in ln L away after {solution.steps[first]} steps"
        )


def _certify(rows, a, b, unit, counts, scales, solution):
    n_bins, k = counts.shape[1], rows.shape[1]
    counted = b > 0
    z = np.where(counted, b / solution.u, solution.z)
    outer = np.einsum("ri,rj->rij", rows, rows).reshape(len(rows), k * k)
    hessian = _hessian(outer, z / solution.u, k)
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
