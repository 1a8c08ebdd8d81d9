"""The median of the mass histograms that the members of a classifier ensemble give, each cut at its own.

The mean score is the default (paper, step 3; CMS). The ATLAS way (its section V C 2) cuts on every member and takes the
median of the members' mass histograms; the standard error of the median adds to the Poisson variance.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from dimuon.arrays import FloatArray
from dimuon.errors import AnalysisError
from dimuon.regions import MassBins
from dimuon.statistics.spectra import Spectra, scale_factors
from dimuon.statistics.working_points import CutVariable

MEDIAN_ERROR = np.sqrt(np.pi / 2)  # standard error of a median over that of a mean, for a normal distribution


def median_spectra(
    mass: FloatArray, members: FloatArray, fprs: ArrayLike, bins: MassBins
) -> tuple[Spectra, FloatArray]:
    """One spectrum per working point, the median over the members, each cut at its own; and the cuts.

    mass: (n_events,), GeV. members: (n_events, n_members) scores. fprs: (n,). The median is taken bin by bin, in the
    SR as in the sidebands: a median of small counts lies below their mean, and so it does so alike in both. A count n
    with variance e^2 of the median enters as a scaled Poisson count of variance n + e^2 (scale 1 + e^2 / n; an empty
    bin takes the scale of the whole spectrum). cuts: (n,), the median of the members' cuts. Raises ValueError where so
    few events pass that the median is empty.
    """
    sideband = bins.window.in_sidebands(mass)
    scans = [CutVariable(f"member {index}", score).scan(sideband, fprs) for index, score in enumerate(members.T)]
    counts = np.array([[bins.counts(mass[kept]) for kept in scan.kept] for scan in scans])
    by_bin: FloatArray = np.median(counts, axis=0)
    extra: FloatArray = np.zeros(counts.shape[1:])
    if len(scans) > 1:
        extra = (MEDIAN_ERROR * counts.std(axis=0, ddof=1)) ** 2 / len(scans)
    median, extra = bins.sr_as_one(by_bin), bins.sr_as_one(extra)
    empty = ~median[:, :-1].any(axis=1)
    if empty.any():
        raise AnalysisError(
            f"at FPR {np.asarray(fprs)[empty].max():.3g} the median of the members' sideband histograms is empty; "
            "stop at a larger rate, or combine the members by the mean of their scores",
            setting="fpr_min",
        )
    return Spectra(bins, median, 1 + scale_factors(median, extra)), np.median([scan.cut for scan in scans], axis=0)


@dataclass(frozen=True)
class MedianCut(CutVariable):
    """A classifier whose members are cut on one by one; values: (n_events,), their mean, where one cut is needed.

    members: (n_events, n_members) scores.
    """

    members: FloatArray = field(kw_only=True)

    def spectra(self, mass: FloatArray, bins: MassBins, fprs: ArrayLike) -> tuple[Spectra, FloatArray]:
        """The median of the members' spectra after each cut, and the median cuts: see `median_spectra`."""
        return median_spectra(mass, self.members, fprs, bins)
