"""Pseudo-data: p-values that do not rely on the asymptotic form, with every fit redone in each toy.

A toy p-value comes with its binomial error and claims nothing beyond its reach: with k of n toys at least as
extreme as the data it is (k + 1) / (n + 1), and with k below `MIN_EXTREME` only an upper bound.
"""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import ndtr, ndtri
from tqdm import tqdm

from dimuon.statistics.families import grouped
from dimuon.statistics.significance import Spectra, discoveries

MIN_EXTREME = 5  # toys at least as extreme as the data, for a p-value rather than a bound
BATCH = 2000  # toys fitted at once


@dataclass(frozen=True)
class ToyValue:
    """A p-value from n_toys pseudo-data, n_extreme of them at least as extreme as the data.

    p0 and its binomial error p0_err; z0 the significance it stands for (zero where p0 is above one half). bound:
    too few extreme toys, so p0 is an upper and z0 a lower bound.
    """

    p0: float
    p0_err: float
    z0: float
    n_toys: int
    n_extreme: int
    bound: bool

    @classmethod
    def of(cls, statistic, observed):
        """From the statistic of every toy, (n_toys,), and that of the data."""
        n, k = len(statistic), int(np.sum(statistic >= observed - 1e-9))
        p0 = (k + 1) / (n + 1)
        return cls(p0, float(np.sqrt(p0 * (1 - p0) / n)), float(max(-ndtri(p0), 0.0)), n, k, k < MIN_EXTREME)

    def asdict(self):
        """{field: value}."""
        return asdict(self)


def null_expectation(spectra, model):
    """(n, n_sidebands + 1) counts expected without a signal: each spectrum's own background-only fit."""
    expected = np.empty_like(spectra.counts)
    for family, rows in grouped(model.chosen(spectra)):
        fits = family.fit(spectra.low, spectra.high, spectra.counts[rows], spectra.scales[rows])
        expected[rows] = fits.expected
    return expected


def local(spectra, model, n_toys, rng):
    """A list with the `ToyValue` of q0 for each of n spectra, from background-only toys of its own.

    Weighted spectra have toys that are scaled Poisson; how well that stands for the actual weights is what
    `weighted_calibration` answers. Where the data have q0 = 0 every toy is as extreme, and none is drawn.
    """
    observed, expected = discoveries(spectra, model).q0, null_expectation(spectra, model)
    q0 = np.zeros((len(spectra), n_toys))
    owner = np.repeat(np.flatnonzero(observed > 0), n_toys)  # the spectrum that each toy is for
    found = []
    for first in tqdm(range(0, len(owner), BATCH), desc="toys", disable=None):
        of = owner[first : first + BATCH]
        scales = spectra.scales[of]
        counts = rng.poisson(expected[of] / scales) * scales
        found.append(discoveries(Spectra(spectra.bins, counts, scales), model).q0)
    if found:
        q0[observed > 0] = np.concatenate(found).reshape(-1, n_toys)
    return [ToyValue.of(values, value) for values, value in zip(q0, observed, strict=True)]


def best_of_scan(spectra, model, n_toys, rng):
    """The `ToyValue` of the largest Z0 over n nested cuts: the look-elsewhere effect of having scanned them.

    spectra: unweighted, of the same sample after tighter and tighter cuts. Each toy draws the events between
    successive cuts once, from the background-only fit to just those events, so its cuts are as nested, and as
    correlated, as the data's.
    """
    observed = discoveries(spectra, model).q0.max()
    between = spectra.counts - np.vstack([spectra.counts[1:], np.zeros_like(spectra.counts[:1])])
    if (between < 0).any():
        raise ValueError("the cuts are not nested: a tighter one keeps events that a looser one drops")
    expected = null_expectation(Spectra(spectra.bins, between, np.ones_like(between)), model)
    largest = []
    for n in tqdm(_batches(n_toys, BATCH // len(spectra)), desc="toys of the scan", disable=None):
        counts = nested_counts(expected, n, rng).reshape(-1, expected.shape[-1])
        q0 = discoveries(Spectra(spectra.bins, counts, np.ones_like(counts)), model).q0
        largest.append(q0.reshape(n, -1).max(axis=1))
    return ToyValue.of(np.concatenate(largest), observed)


def nested_counts(between, n_toys, rng):
    """(n_toys, n, n_bins) counts after each of n nested cuts. between: (n, n_bins), expected from one to the next."""
    drawn = rng.poisson(between, (n_toys, *between.shape)).astype(float)
    return drawn[:, ::-1].cumsum(axis=1)[:, ::-1]


@dataclass(frozen=True)
class Calibration:
    """How a significance behaves without a signal: does a Z0 of 3 mean 3?

    n_toys: pseudo-data. mean, std: of the signed significance, 0 and 1 where it is what it says. z, fraction,
    error, nominal: how often Z0 exceeds each z, its binomial error, and what it should be.
    """

    n_toys: int
    mean: float
    std: float
    z: tuple
    fraction: tuple
    error: tuple
    nominal: tuple

    @classmethod
    def of(cls, z_signed, z=(1.0, 2.0, 3.0)):
        """From the signed significance of every toy: (n_toys,)."""
        fraction = [float(np.mean(z_signed > level)) for level in z]
        nominal = [float(ndtr(-level)) for level in z]
        error = [float(np.sqrt(p * (1 - p) / len(z_signed))) for p in nominal]
        return cls(
            len(z_signed), float(z_signed.mean()), float(z_signed.std()),
            tuple(z), tuple(fraction), tuple(error), tuple(nominal),
        )  # fmt: skip

    def asdict(self):
        """{field: value}."""
        return asdict(self)


def calibration(expected, bins, model, n_toys, rng):
    """The `Calibration` of unweighted toys. expected: (n_sidebands + 1,) counts without a signal, in `bins`."""
    z = []
    for n in tqdm(_batches(n_toys), desc="toys", disable=None):
        counts = rng.poisson(expected, (n, len(expected))).astype(float)
        z.append(discoveries(Spectra(bins, counts, np.ones_like(counts)), model).z_signed)
    return Calibration.of(np.concatenate(z))


def weighted_calibration(mass, weights, model, n_toys, rng, pooled=False):
    """The scaled Poisson put to the test on the actual weights: (`Calibration`, `ToyValue`).

    mass: (n_events,), GeV; weights: (n_events,). Each toy draws a Poisson number of events for every bin, from the
    background-only fit to the events that have a weight, and gives each the weight of a sideband event drawn at
    random (a bootstrap), so that the weights do not depend on the mass and there is no signal. The `ToyValue` is
    that of the data's own Z0 among them.
    """
    weights = np.asarray(weights, dtype=float)
    weighted = weights > 0
    bins = model.bins
    pool = weights[weighted & bins.window.in_sidebands(mass)]
    expected = null_expectation(Spectra.of(np.asarray(mass)[weighted], bins), model)[0]
    observed = discoveries(Spectra.of(mass, bins, weights, pooled=pooled), model).z_signed[0]
    z = []
    for n in tqdm(_batches(n_toys, 100), desc="weighted toys", disable=None):
        n_events = rng.poisson(expected, (n, len(expected)))
        drawn = rng.choice(pool, n_events.sum())
        place = np.repeat(np.arange(n_events.size), n_events.ravel())
        counts, squares = (np.bincount(place, power, n_events.size).reshape(n, -1) for power in (drawn, drawn**2))
        z.append(discoveries(Spectra.weighted(bins, counts, squares, pooled), model).z_signed)
    z = np.concatenate(z)
    return Calibration.of(z), ToyValue.of(z, observed)


def _batches(n_toys, size=BATCH):
    return [min(size, n_toys - start) for start in range(0, n_toys, size)]
