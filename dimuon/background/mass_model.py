"""The masses of the background in the SR: they follow the polynomial fitted to the sidebands (paper, step 2)."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dimuon.arrays import FloatArray, IntArray
from dimuon.background.protocol import BackgroundModel
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.records import Record
from dimuon.regions import MassWindow
from dimuon.statistics.significance import SidebandFit

VALIDATION_SHARE = 0.25  # of the sampled SR events: one fold in four, as three folds train and one validates
CANDIDATES = 16  # for an event of weight 1: more than the largest weight that a reweighting may have by default
CDF_STEPS = 4096  # the cumulative mass function is exact at so many points, linear between them


class Spectrum(Protocol):
    """A mass spectrum: a fit to the sidebands, or a known one."""

    def expected(self, edges: ArrayLike) -> FloatArray:
        """Events expected in each bin."""
        ...


@dataclass(frozen=True, eq=False)
class Sampled:
    """Sampled background. member: (n_events,), of the estimator. use: (n_events,), "train", "validation", "closure"."""

    events: Events
    member: IntArray
    use: NDArray[np.object_]

    def frame(self, window: MassWindow, mass: str = "dimu_mass") -> pd.DataFrame:
        """One row an event: the features, the mass under its name, region, member, use, weight."""
        return pd.DataFrame(self.events.columns).assign(
            **{mass: self.events.mass},
            region=window.region(self.events.mass),
            member=self.member,
            use=self.use,
            weight=self.events.weight,
        )

    def n_beyond(self, real: Events) -> int:
        """Sampled events with a feature outside the range of the real ones, where the scaler's inverse still goes."""
        low, high = real.features.min(axis=0), real.features.max(axis=0)
        return int(((self.events.features < low) | (self.events.features > high)).any(axis=1).sum())


@dataclass(frozen=True)
class MassFitRecord(Record):
    """A sideband fit in numbers and lists; counts in events per bin.

    coefficients: of Legendre polynomials over the window, events per bin width. n_bkg: expected in the SR.
    """

    degree: int
    n_bins_sr: int
    coefficients: list[float]
    covariance: list[list[float]]
    n_sidebands: float
    n_bkg: float
    n_bkg_err: float
    edges: list[float]
    expected: list[float]
    goodness: dict[str, float]
    certificate: dict[str, float]

    @classmethod
    def of(cls, fit: SidebandFit, window: MassWindow, n_bins_sr: int) -> "MassFitRecord":
        """The record of a fit."""
        edges, sr = window.binning(n_bins_sr).edges, [window.sr_low, window.sr_high]
        certificate = ("gradient_norm", "gap", "min_eigenvalue", "steps", "at_boundary")
        return cls(
            degree=len(fit.coefficients) - 1,
            n_bins_sr=n_bins_sr,
            coefficients=fit.coefficients.tolist(),
            covariance=fit.covariance.tolist(),
            n_sidebands=float(fit.n_sidebands),
            n_bkg=float(fit.expected(sr).sum()),
            n_bkg_err=float(fit.expected_err(sr)[0]),
            edges=edges.tolist(),
            expected=fit.expected(edges).tolist(),
            goodness={name: float(getattr(fit, name)) for name in ("chi2", "ndf", "p_chi2", "p_saturated")},
            certificate={name: float(getattr(fit, name)) for name in certificate},
        )


def sample_masses(fit: Spectrum, low: float, high: float, n_events: int, rng: np.random.Generator) -> FloatArray:
    """Masses [GeV] between low and high distributed as a spectrum, by its inverse CDF: (n_events,).

    Raises `AnalysisError` where the fit expects no event.
    """
    edges = np.linspace(low, high, CDF_STEPS + 1)
    cumulative = np.concatenate([[0.0], np.cumsum(np.maximum(fit.expected(edges), 0.0))])
    if not cumulative[-1] > 0:
        raise AnalysisError(
            f"the sideband fit expects no event between {low:g} and {high:g} GeV; lower the degree of its polynomial"
        )
    return np.interp(rng.uniform(0.0, cumulative[-1], n_events), cumulative, edges)


def sample_signal_region(
    model: BackgroundModel, fit: Spectrum, window: MassWindow, oversampling: float, stream: Stream
) -> Sampled:
    """Background events in the SR, `oversampling` for every one that the fit expects, all uses together.

    A random quarter is for "validation", the rest to "train"; a classifier that makes folds of its own takes both.
    """
    n_events = max(1, round(oversampling * fit.expected([window.sr_low, window.sr_high]).sum()))
    mass = sample_masses(fit, window.sr_low, window.sr_high, n_events, stream.child("mass").generator())
    use = np.full(n_events, "train", dtype=object)
    order = stream.child("use").generator().permutation(n_events)
    use[order[: round(VALIDATION_SHARE * n_events)]] = "validation"
    return Sampled(model.sample(mass, stream.child("features").rooted()), model.member_of(n_events), use)


def sample_at(model: BackgroundModel, mass: FloatArray, copies: int, stream: Stream) -> Sampled:
    """Events sampled `copies` times at each given mass, copy after copy, for the closure."""
    mass = np.tile(mass, copies)
    events = model.sample(mass, stream)
    return Sampled(events, model.member_of(len(mass)), np.full(len(mass), "closure", dtype=object))


def sample_data(model: BackgroundModel, mass: FloatArray, stream: Stream) -> Events:
    """Events of weight 1, as data have, at given masses [GeV].

    Where the model's samples are weighted, one of `CANDIDATES` at each mass is taken, with its weight for a chance.
    """
    events = model.sample(mass, stream)
    if (events.weight == 1).all():
        return events
    candidates = sample_at(model, mass, CANDIDATES, stream.child("candidates")).events
    weight = np.cumsum(candidates.weight.reshape(CANDIDATES, len(mass)), axis=0)
    drawn = stream.child("choice").generator().uniform(0.0, weight[-1])
    chosen = np.minimum((weight <= drawn).sum(axis=0), CANDIDATES - 1)
    taken = candidates[chosen * len(mass) + np.arange(len(mass))]
    return Events.of(taken.mass, taken.features, taken.names)
