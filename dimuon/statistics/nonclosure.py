"""What an analysis reads where there is no signal, and a claim lowered by it.

A straight line is fitted to the mean signed significance of samples without a signal against the mass at which they
were searched; its value at the signal region is subtracted from the significance of the data there. It is subtracted
where it is positive alone, and never below zero: the correction can only lower a claim (ATLAS, arXiv:2502.09770,
section V D 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from dimuon.records import Record


@dataclass(frozen=True)
class SignedMean(Record):
    """The mean signed significance of one sample without a signal, searched several times.

    mass: centre of its signal region, in the unit of the table. mean: over n searches. spread: their standard
    deviation. error: of the mean as a statement on all such samples: all searches share the events of the one sample,
    whose own fluctuation is one standard deviation.
    """

    sample: str
    mass: float
    n: int
    mean: float
    spread: float
    error: float

    @classmethod
    def of(cls, sample: str, mass: float, z_signed: ArrayLike) -> Self:
        """From the signed significance of every search: (n,), n of at least 1."""
        values = np.asarray(z_signed, dtype=float)
        n, spread = len(values), float(values.std(ddof=1)) if len(values) > 1 else 0.0
        return cls(sample, mass, n, float(values.mean()), spread, float(np.sqrt(1 + spread**2 / n)))


@dataclass(frozen=True)
class NonClosure(Record):
    """What the analysis reads at the mass of its signal region without a signal: shift, in sigma, and its error.

    samples: from which it is interpolated, by a straight line where they are at three masses or more, else by their
    mean. variable, fpr: of the statistic that it is of, as in the tables of the studies.
    """

    variable: str
    fpr: float
    mass: float
    shift: float
    shift_err: float
    samples: tuple[SignedMean, ...]

    @classmethod
    def of(cls, variable: str, fpr: float, mass: float, samples: Sequence[SignedMean]) -> Self:
        """The shift at a mass. ValueError for no sample."""
        if not samples:
            raise ValueError("no sample without a signal to say what the analysis reads there")
        masses, means, errors = (
            np.array([getattr(one, name) for one in samples]) for name in ("mass", "mean", "error")
        )
        terms = 2 if len(set(masses.tolist())) >= 3 else 1
        design = np.vander(masses - mass, terms, increasing=True) / errors[:, None]
        covariance = np.linalg.inv(design.T @ design)
        shift = covariance @ design.T @ (means / errors)
        return cls(variable, fpr, mass, float(shift[0]), float(np.sqrt(covariance[0, 0])), tuple(samples))

    def lowered(self, z0: float) -> float:
        """A significance of the data, corrected: never raised, never below zero."""
        return max(z0 - max(self.shift, 0.0), min(z0, 0.0))
