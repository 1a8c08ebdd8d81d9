"""Which known resonances the peaks are, and the mass scale that they imply."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from scipy.special import chdtrc

from dimuon.records import Record
from dimuon.statistics.peaks import PeakFit

FAR = 2.0  # widths, beyond which a peak is not that of a reference


@dataclass(frozen=True)
class MassScale(Record):
    """The one factor between fitted masses and those of references.

    names: of the references, and masses: theirs. scale, scale_err: fitted over true. chi2, ndf, p_chi2: of one common
    factor; NaN with one peak.
    """

    names: tuple[str, ...]
    masses: tuple[float, ...]
    scale: float
    scale_err: float
    chi2: float
    ndf: int
    p_chi2: float


def matched(fit: PeakFit, known: Mapping[str, float]) -> dict[int, str]:
    """{number of the peak: name of the reference}, each at most once, so that the masses are as near as can be.

    known: {name: mass}. A peak further than `FAR` widths from every reference is nobody's.
    """
    if not (fit.peaks and known):
        return {}
    names = list(known)
    away = np.array([[abs(peak.mass - known[name]) / peak.width for name in names] for peak in fit.peaks])
    pairs = zip(*linear_sum_assignment(np.minimum(away, 10 * FAR)), strict=True)
    return {int(i): names[j] for i, j in pairs if away[i, j] <= FAR}


def mass_scale(masses: ArrayLike, covariance: ArrayLike, references: Mapping[str, float]) -> MassScale:
    """The common factor s of `masses = s * references` by least squares, which has a closed form.

    masses: (n,), in the order of the references, covariance: (n, n). Raises ValueError for none or covariances that
    are not positive.

    >>> scale = mass_scale([1.01, 2.02], [[1e-4, 0.0], [0.0, 1e-4]], {"a": 1.0, "b": 2.0})
    >>> f"{scale.scale:.3f} +- {scale.scale_err:.4f}, chi2 {scale.chi2:.1f}"
    '1.010 +- 0.0045, chi2 0.0'
    """
    found, true = np.asarray(masses, dtype=float), np.array(list(references.values()), dtype=float)
    if not len(found) or len(found) != len(true):
        raise ValueError(f"{len(found)} masses for {len(true)} references")
    inverse = np.linalg.inv(np.asarray(covariance, dtype=float))
    weight = float(true @ inverse @ true)
    if not weight > 0:
        raise ValueError("the covariance of the masses is not positive")
    scale = float(true @ inverse @ found) / weight
    left = found - scale * true
    chi2, ndf = float(left @ inverse @ left), len(found) - 1
    return MassScale(
        tuple(references),
        tuple(float(value) for value in true),
        scale,
        weight**-0.5,
        chi2 if ndf else np.nan,
        ndf,
        float(chdtrc(ndf, chi2)) if ndf else np.nan,
    )
