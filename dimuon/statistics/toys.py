"""Pseudo-data: p-values that do not rely on the asymptotic form, with every fit redone in each toy.

What is counted in them, and how far it reaches: `dimuon.statistics.calibration`.
"""

from collections.abc import Sequence

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.progress import follow
from dimuon.regions import MassBins
from dimuon.statistics.calibration import ROUNDING, Calibration, ToyValue
from dimuon.statistics.families import grouped
from dimuon.statistics.significance import SpectrumModel, discoveries
from dimuon.statistics.spectra import Spectra
from dimuon.statistics.trials import GlobalSignificance, upcrossing_tail

BATCH = 2000  # toys fitted at once
NESTED = "toys of the nested cuts"


def null_expectation(spectra: Spectra, model: SpectrumModel) -> FloatArray:
    """(n, n_sidebands + 1) counts expected without a signal: each spectrum's own background-only fit."""
    expected = np.empty_like(spectra.counts)
    for family, rows in grouped(model.chosen(spectra)):
        fits = family.fit(spectra.low, spectra.high, spectra.counts[rows], spectra.scales[rows])
        expected[rows] = fits.expected
    return expected


def local(spectra: Spectra, model: SpectrumModel, n_toys: int, rng: np.random.Generator) -> list[ToyValue]:
    """The p-value of q0 for each of n spectra, from background-only toys of its own.

    Weighted spectra have toys that are scaled Poisson; how well that stands for the actual weights is what
    `weighted_calibration` answers. Where the data have q0 = 0 every toy is as extreme, and none is drawn.
    """
    observed, expected = discoveries(spectra, model).q0, null_expectation(spectra, model)
    q0 = np.zeros((len(spectra), n_toys))
    owner = np.repeat(np.flatnonzero(observed > 0), n_toys)  # the spectrum that each toy is for
    drawn = []
    for first in follow(range(0, len(owner), BATCH), "toys of each cut", "batches"):
        of = owner[first : first + BATCH]
        scales = spectra.scales[of]
        counts = rng.poisson(expected[of] / scales) * scales
        drawn.append(discoveries(Spectra(spectra.bins, counts, scales), model).q0)
    if drawn:
        q0[observed > 0] = np.concatenate(drawn).reshape(-1, n_toys)
    return [ToyValue.of(values, value) for values, value in zip(q0, observed, strict=True)]


def best_of_scan(spectra: Spectra, model: SpectrumModel, n_toys: int, rng: np.random.Generator) -> GlobalSignificance:
    """What the largest Z0 over n nested cuts is worth: the look-elsewhere effect of having scanned them.

    spectra: unweighted, of the same sample after tighter and tighter cuts.
    """
    return best_of_scans([spectra], model, n_toys, rng)


def best_of_scans(
    scans: Sequence[Spectra], model: SpectrumModel, n_toys: int, rng: np.random.Generator
) -> GlobalSignificance:
    """The same for the largest Z0 over several scans of one sample, at the same rates: cuts on one variable each.

    The toys of the scans are drawn independently: what variables that are alike have in common is not taken off the
    number of trials, so the global significance comes out too small, never too large.
    """
    observed = max(float(discoveries(spectra, model).z0.max()) for spectra in scans)
    z0 = [of_scan(spectra, model, n_toys, rng) for spectra in scans]
    tail = upcrossing_tail(z0, observed, scans[0].counts.sum(axis=1))
    return GlobalSignificance.of(observed, np.hstack(z0).max(axis=1) + ROUNDING, NESTED, tail)


def of_scan(spectra: Spectra, model: SpectrumModel, n_toys: int, rng: np.random.Generator) -> FloatArray:
    """(n_toys, n) Z0 after each of n nested cuts without a signal. spectra: as for `best_of_scan`.

    Each toy draws the events between successive cuts once, from the background-only fit to just those events, so its
    cuts are as nested, and as correlated, as the data's. ValueError for cuts that are not nested.
    """
    between = spectra.counts - np.vstack([spectra.counts[1:], np.zeros_like(spectra.counts[:1])])
    if (between < 0).any():
        raise ValueError("the cuts are not nested: a tighter one keeps events that a looser one drops")
    expected = null_expectation(Spectra(spectra.bins, between, np.ones_like(between)), model)
    z0 = []
    for n in follow(_batches(n_toys, BATCH // len(spectra)), "toys of the scan", "batches"):
        counts = nested_counts(expected, n, rng).reshape(-1, expected.shape[-1])
        z0.append(discoveries(Spectra(spectra.bins, counts, np.ones_like(counts)), model).z0.reshape(n, -1))
    return np.concatenate(z0)


def nested_counts(between: FloatArray, n_toys: int, rng: np.random.Generator) -> FloatArray:
    """(n_toys, n, n_bins) counts after each of n nested cuts. between: (n, n_bins), expected from one to the next."""
    drawn = rng.poisson(between, (n_toys, *between.shape)).astype(float)
    counts: FloatArray = drawn[:, ::-1].cumsum(axis=1)[:, ::-1]
    return counts


def calibration(
    expected: FloatArray, bins: MassBins, model: SpectrumModel, n_toys: int, rng: np.random.Generator
) -> Calibration:
    """How the significance behaves in unweighted toys. expected: (n_sidebands + 1,) counts without a signal."""
    z = []
    for n in follow(_batches(n_toys), "toys", "batches"):
        counts = rng.poisson(expected, (n, len(expected))).astype(float)
        z.append(discoveries(Spectra(bins, counts, np.ones_like(counts)), model).z_signed)
    return Calibration.of(np.concatenate(z))


def weighted_calibration(
    mass: FloatArray,
    weights: FloatArray,
    model: SpectrumModel,
    n_toys: int,
    rng: np.random.Generator,
    pooled: bool = False,
) -> tuple[Calibration, ToyValue]:
    """The scaled Poisson put to the test on the actual weights.

    mass: (n_events,), GeV; weights: (n_events,). Each toy draws a Poisson number of events for every bin, from the
    background-only fit to the events that have a weight, and gives each the weight of a sideband event drawn at
    random (a bootstrap), so that the weights do not depend on the mass and there is no signal. The p-value is that of
    the data's own Z0 among them.
    """
    weights = np.asarray(weights, dtype=float)
    weighted = weights > 0
    bins = model.bins
    pool = weights[weighted & bins.window.in_sidebands(mass)]
    expected = null_expectation(Spectra.of(np.asarray(mass)[weighted], bins), model)[0]
    observed = discoveries(Spectra.of(mass, bins, weights, pooled=pooled), model).z_signed[0]
    signed = []
    for n in follow(_batches(n_toys, 100), "weighted toys", "batches"):
        n_events = rng.poisson(expected, (n, len(expected)))
        drawn = rng.choice(pool, n_events.sum())
        place = np.repeat(np.arange(n_events.size), n_events.ravel())
        counts, squares = (
            np.bincount(place, power, n_events.size).reshape(n, -1).astype(float) for power in (drawn, drawn**2)
        )
        signed.append(discoveries(Spectra.weighted(bins, counts, squares, pooled), model).z_signed)
    z = np.concatenate(signed)
    return Calibration.of(z), ToyValue.of(z, observed)


def _batches(n_toys: int, size: int = BATCH) -> list[int]:
    return [min(size, n_toys - start) for start in range(0, n_toys, size)]
