"""The same test by MINUIT: an independent minimiser on an independently written likelihood."""

import numpy as np
from iminuit import Minuit
from numpy.polynomial import Polynomial
from scipy.special import xlogy


def z0(counts, bins, degree):
    """Z0 of sideband counts and, last, the SR count. counts: (n_sidebands + 1,). bins: `MassBins`."""
    edges, sr = bins.edges, bins.is_sr
    each = _monomial_integrals(edges[:-1], edges[1:], degree, bins)
    basis = np.linalg.qr(each)[0] @ np.diag(np.sqrt(np.full(degree + 1, len(each))))
    sideband, inside = basis[~sr], basis[sr]
    total = inside.sum(axis=0, keepdims=True)
    free = _minimum(sideband, counts[:-1], basis)
    null = _minimum(np.vstack([sideband, total]), counts, basis)
    excess = counts[-1] > null[1]
    return np.sqrt(max(null[0] - free[0], 0.0)) if excess else 0.0


def _monomial_integrals(low, high, degree, bins):
    centre, half = (bins.window.sb_low + bins.window.sb_high) / 2, (bins.window.sb_high - bins.window.sb_low) / 2
    columns = []
    for power in range(degree + 1):
        primitive = Polynomial.basis(power).integ()
        columns.append(primitive((high - centre) / half) - primitive((low - centre) / half))
    return np.stack(columns, axis=1) / columns[0][:, None]


def _minimum(rows, counts, every_bin):
    """(deviance at the minimum, expected count in the last row) with every bin's expected count at or above zero.

    The constraints enter by the method of multipliers (Nocedal & Wright, Numerical Optimization, section 17.4).
    """
    unit = max(counts.mean(), 1e-3)
    stiffness, multipliers = 10 * unit, np.zeros(len(every_bin))
    saturated = 2 * np.sum(xlogy(counts, np.where(counts > 0, counts, 1.0)) - counts)

    def value(theta):
        short = np.maximum(multipliers / (2 * stiffness) - every_bin @ theta, 0.0)
        expected = unit * rows @ theta
        return saturated + 2 * np.sum(expected - counts * _log(expected)[0]) + stiffness * np.sum(short**2)

    def slope(theta):
        short = np.maximum(multipliers / (2 * stiffness) - every_bin @ theta, 0.0)
        terms = 1 - counts * _log(unit * rows @ theta)[1]
        return 2 * unit * rows.T @ terms - 2 * stiffness * every_bin.T @ short

    theta = np.linalg.lstsq(every_bin, np.ones(len(every_bin)), rcond=None)[0]
    last = np.inf
    for _ in range(60):
        minuit = Minuit(value, theta, grad=slope)
        minuit.errordef, minuit.strategy, minuit.tol = 1.0, 2, 1e-6
        minuit.migrad(ncall=20000)
        theta, change, last = np.array(minuit.values), last - minuit.fval, minuit.fval
        before, multipliers = multipliers, np.maximum(multipliers - 2 * stiffness * (every_bin @ theta), 0.0)
        if np.abs(multipliers - before).max() < 1e-6 * unit and abs(change) < 1e-9:
            break
        stiffness = min(2 * stiffness, 1e4 * unit)
    expected = unit * rows @ theta
    return saturated + 2 * np.sum(expected - counts * _log(expected)[0]), expected[-1]


def _log(x, floor=1e-5):
    """(ln x, its slope), continued below `floor` by its Taylor expansion, so that it is defined for negative x."""
    safe, low = np.maximum(x, floor), np.minimum(x - floor, 0.0) / floor
    return np.log(safe) + low - low**2 / 2, np.where(x > floor, 1 / safe, (1 - low) / floor)
