"""The test statistic of one background function: q0 from two fits, with and without a signal.

The SR is one count N; the sidebands are binned. With B(theta) the background's integral over the SR and s >= 0, q0
= -2 ln [max L(0, theta) / max L(s, theta)], q0 = 0 where the fitted s is negative, Z0 = sqrt(q0) and p0 = 1 -
Phi(Z0) (Cowan et al. 2011, arXiv:1007.1727, Eqs. 12, 52, 53). Weighted events enter as scaled Poisson counts (Bohm
& Zech 2014, arXiv:1309.1287).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import nan
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from scipy.special import chdtrc, ndtr

from dimuon.arrays import BoolArray, FloatArray, IntArray
from dimuon.records import Record
from dimuon.statistics.poisson_fits import Fits
from dimuon.statistics.spectra import Spectra

# expected SR background below which the asymptotic form fails, by toys (tests/benchmarks/significance.py)
MIN_BACKGROUND = 25.0

Number = TypeVar("Number")
Whole = TypeVar("Whole")
Flag = TypeVar("Flag")


@dataclass(frozen=True)
class _Outcome(Generic[Number, Whole, Flag]):
    """The fields of `Discovery`, numbers of one spectrum or arrays of many."""

    n_obs: Number
    n_bkg: Number
    n_bkg_err: Number
    n_sig: Number
    n_sidebands: Number
    q0: Number
    z0: Number
    p0: Number
    z_signed: Number
    valid: Flag
    deviance: Number
    chi2: Number
    ndf: Whole
    p_chi2: Number
    p_saturated: Number
    gradient_norm: Number
    gap: Number
    min_eigenvalue: Number
    steps: Whole
    at_boundary: Whole


@dataclass(frozen=True)
class Discovery(_Outcome[float, int, bool], Record):
    """The outcome of the test on one spectrum.

    n_obs: events (sum of weights) in the SR. n_bkg, n_bkg_err: background expected there from the sidebands, and
    its standard error. n_sig: n_obs - n_bkg, zero where negative. n_sidebands: events in the sideband bins. q0, z0,
    p0: see the head of this file. z_signed: Z0 with the sign of the excess, where s may be negative. valid: the
    asymptotic form holds (n_bkg of at least `MIN_BACKGROUND` effective events). deviance, p_saturated; chi2, ndf,
    p_chi2: goodness of the sideband fit, by the saturated likelihood and by Pearson. gradient_norm, gap,
    min_eigenvalue, steps: certificate (see `dimuon.statistics.poisson_fits.Fits`), the worse of the two fits.
    at_boundary: bins of the sideband fit whose expected count is held at zero.
    """

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The record that `to_json` gave."""
        values: dict[str, Any] = {item.name: content[item.name] for item in fields(cls)}
        values |= {name: nan for name, value in values.items() if value is None}
        return cls(**values)


@dataclass(frozen=True)
class Discoveries(_Outcome[FloatArray, IntArray, BoolArray]):
    """The outcomes of the test for n spectra: each field of `Discovery` as an array (n,)."""

    def one(self, index: int) -> Discovery:
        """The outcome for one spectrum of many, in plain numbers."""
        return Discovery(**{field.name: getattr(self, field.name)[index].item() for field in fields(self)})

    def with_q0(self, q0: FloatArray) -> Self:
        """The same with another q0 >= 0, (n,), and the significances that follow from it."""
        z0 = np.sqrt(q0)
        return replace(self, q0=q0, z0=z0, p0=ndtr(-z0), z_signed=np.where(q0 > 0, z0, np.minimum(self.z_signed, 0.0)))


class BackgroundFunction(Protocol):
    """A function of the mass that can be fitted to binned counts: see `dimuon.statistics.families`."""

    @property
    def n_coefficients(self) -> int: ...
    def fit(self, low: FloatArray, high: FloatArray, counts: FloatArray, scales: FloatArray | None = None) -> Fits: ...
    def expected(self, coefficients: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray: ...
    def jacobian(self, coefficients: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray: ...


def free_and_null(spectra: Spectra, function: BackgroundFunction) -> tuple[Fits, Fits]:
    """The fits of the background with a free signal, and with none."""
    low, high, counts, scales = spectra.low, spectra.high, spectra.counts, spectra.scales
    # a free signal takes up whatever is in the SR: the sidebands alone determine the background
    return function.fit(low[:-1], high[:-1], counts[:, :-1], scales[:, :-1]), function.fit(low, high, counts, scales)


def likelihood_ratio(spectra: Spectra, function: BackgroundFunction) -> Discoveries:
    """The outcome of the test in each spectrum, with one background function for all."""
    low, high, counts, scales = spectra.low, spectra.high, spectra.counts, spectra.scales
    n_obs = counts[:, -1]
    free, null = free_and_null(spectra, function)
    n_bkg, n_bkg_err = _integral(function, free, low[-1:], high[-1:])
    # by convexity the fitted s is positive where the background-only fit, which the SR pulls, stays below n_obs
    excess = n_obs > null.expected[:, -1]
    ratio = np.maximum(null.deviance - free.deviance, 0.0)
    q0 = np.where(excess, ratio, 0.0)
    ndf = np.maximum(counts.shape[1] - 1 - function.n_coefficients, 0)
    chi2 = pearson(counts[:, :-1], free.expected, scales[:, :-1])
    return Discoveries(
        n_obs=n_obs,
        n_bkg=n_bkg,
        n_bkg_err=n_bkg_err,
        n_sig=np.maximum(n_obs - n_bkg, 0.0),
        n_sidebands=counts[:, :-1].sum(axis=1),
        q0=q0,
        z0=np.sqrt(q0),
        p0=ndtr(-np.sqrt(q0)),
        z_signed=np.where(excess, 1.0, -1.0) * np.sqrt(ratio),
        valid=n_bkg / scales[:, -1] >= MIN_BACKGROUND,
        deviance=free.deviance,
        chi2=chi2,
        ndf=np.full(len(chi2), ndf),
        p_chi2=chdtrc(ndf, chi2),
        p_saturated=chdtrc(ndf, free.deviance),
        gradient_norm=np.maximum(free.gradient_norm, null.gradient_norm),
        gap=np.maximum(free.gap, null.gap),
        min_eigenvalue=np.minimum(free.min_eigenvalue, null.min_eigenvalue),
        steps=np.maximum(free.steps, null.steps),
        at_boundary=free.at_boundary,
    )


def pearson(counts: FloatArray, expected: FloatArray, scales: FloatArray | float = 1.0) -> FloatArray:
    """Pearson's chi2 over the last axis; a bin that neither expects nor holds events adds nothing."""
    safe = np.where(expected > 1e-9, expected, 1.0)
    chi2: FloatArray = np.sum(np.where(expected > 1e-9, (counts - expected) ** 2 / (safe * scales), 0.0), axis=-1)
    return chi2


def _integral(
    function: BackgroundFunction, fits: Fits, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(n,), (n,): expected events in one interval and its standard error."""
    value = function.expected(fits.coefficients, low, high)[:, 0]
    slope = function.jacobian(fits.coefficients, low, high)[:, 0]
    return value, np.sqrt(np.einsum("ni,nij,nj->n", slope, fits.covariance, slope))
