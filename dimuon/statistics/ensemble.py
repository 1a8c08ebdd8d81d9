"""What the members of a classifier ensemble say one by one: the median of their histograms, and how many are enough.

python -m dimuon study convergence CONFIG.yaml

writes results/<name>/convergence.parquet, the spread of the significance against the number of members, for every
train-test combination whose members step 5 kept (`bdt.keep_members: true`).

The mean score is the default (paper, step 3; CMS). The ATLAS way (its section V C 2) cuts on every member and takes the
median of the members' mass histograms; the standard error of the median adds to the Poisson variance.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dimuon.data import dimuons, scores
from dimuon.statistics import model_choice
from dimuon.statistics.significance import Spectra, discoveries, likelihood_weights
from dimuon.statistics.working_points import CutVariable, rates
from dimuon.workflow import cli, products
from dimuon.workflow.executor import generator

MEDIAN_ERROR = np.sqrt(np.pi / 2)  # standard error of a median over that of a mean, for a normal distribution


def median_spectra(mass, members, fprs, bins):
    """One spectrum per working point, the median over the members, each cut at its own: (`Spectra`, cuts).

    mass: (n_events,), GeV. members: (n_events, n_members) scores. fprs: (n,). bins: `dimuon.regions.MassBins`. The
    median is taken bin by bin, in the SR as in the sidebands: a median of small counts lies below their mean, and so
    it does so alike in both. A count n with variance e^2 of the median enters as a scaled Poisson count of variance
    n + e^2 (scale 1 + e^2 / n; an empty bin takes the scale of the whole spectrum). cuts: (n,), the median of the
    members' cuts. Raises ValueError where so few events pass that the median is empty.
    """
    sideband = bins.window.in_sidebands(mass)
    scans = [CutVariable(f"member {index}", score).scan(sideband, fprs) for index, score in enumerate(members.T)]
    counts = np.array([[bins.counts(mass[kept]) for kept in scan.kept] for scan in scans])
    by_bin, extra = np.median(counts, axis=0), np.zeros(counts.shape[1:])
    if len(scans) > 1:
        extra = (MEDIAN_ERROR * counts.std(axis=0, ddof=1)) ** 2 / len(scans)
    median, extra = _sr_as_one(bins, by_bin), _sr_as_one(bins, extra)
    empty = ~median[:, :-1].any(axis=1)
    if empty.any():
        raise ValueError(
            f"at FPR {np.asarray(fprs)[empty].max():.3g} the median of the members' sideband histograms is empty; "
            "raise significance.fpr_min, or set bdt.combination: mean"
        )
    whole = 1 + extra.sum(axis=1, keepdims=True) / median.sum(axis=1, keepdims=True)
    scales = np.where(median > 0, 1 + extra / np.where(median > 0, median, 1.0), whole)
    return Spectra(bins, median, scales), np.median([scan.cut for scan in scans], axis=0)


def _sr_as_one(bins, values):
    """(n, n_sidebands + 1) from (n, n_bins): the sideband bins and, last, the sum over the SR."""
    return np.column_stack([values[:, ~bins.is_sr], values[:, bins.is_sr].sum(axis=1)])


@dataclass(frozen=True)
class MedianCut(CutVariable):
    """A classifier whose members are cut on one by one; values: (n_events,), their mean, where one cut is needed.

    members: (n_events, n_members) scores.
    """

    members: np.ndarray = None

    def spectra(self, mass, bins, fprs):
        """The median of the members' spectra after each cut, and the median cuts: see `median_spectra`."""
        return median_spectra(mass, self.members, fprs, bins)


def convergence(mass, members, fprs, model, rng, sizes=None, n_draws=50):
    """Spread of the significance when the ensemble is drawn again from its members, with replacement.

    mass: (n_events,), GeV. members: (n_events, n_members) scores. model: of the background, in its own bins.
    sizes: numbers of members (None: 1, 2, 5, 10, 20, 50 ... up to all).

    Returns a DataFrame with n_members, draw, z0_max (largest over the working points `fprs`) and
    z0_likelihood (NaN where it is not defined). The spread at the full size is that of another seed, as far as the
    members alone decide: same flows, same folds.
    """
    sizes = standard_sizes(members.shape[1]) if sizes is None else sizes
    sideband = model.bins.window.in_sidebands(mass)
    bare = discoveries(Spectra.of(mass, model.bins), model).one(0)
    frames = []
    for size in sizes:
        drawn = [members[:, rng.integers(0, members.shape[1], size)].mean(axis=1, dtype=float) for _ in range(n_draws)]
        scans = [CutVariable("cathode", score).scan(sideband, fprs) for score in drawn]
        cut = Spectra.joined([Spectra.of(mass, model.bins, selections=scan.kept) for scan in scans])
        likelihood = np.full(n_draws, np.nan)
        if bare.n_sig > 0:
            weights = [likelihood_weights(score, bare.n_sig, bare.n_bkg) for score in drawn]
            weighted = Spectra.joined([Spectra.of(mass, model.bins, weight) for weight in weights])
            likelihood = discoveries(weighted, model).z0
        by_draw = {
            "draw": np.arange(n_draws),
            "z0_max": discoveries(cut, model).z0.reshape(n_draws, len(fprs)).max(axis=1),
            "z0_likelihood": likelihood,
        }
        frames.append(pd.DataFrame({"n_members": size} | by_draw))
    return pd.concat(frames, ignore_index=True)


def standard_sizes(n_members):
    """1, 2, 5, 10, 20, 50 ... below n_members, and n_members."""
    steps = (digit * 10**power for power in range(6) for digit in (1, 2, 5))
    return [*[size for size in steps if size < n_members], n_members]


def main(run):
    """Write the convergence of every train-test combination."""
    files, settings = dimuons.paths(run), run.config.significance
    model = model_choice.model_of(settings, run.config.window)
    fprs = rates(settings.n_working_points, settings.fpr_min)
    frames, sources = [], []
    for test in files:
        table = dimuons.read(run, test, [])
        for train in files:
            members = scores.read_members(run, train, test, table)
            rng = generator(run.config.seed, "convergence", train, test)
            frame = convergence(table["dimu_mass"].to_numpy(dtype=float), members, fprs, model, rng)
            frames.append(frame.assign(train=train, test=test))
            sources.append(scores.members_path(run, train, test))
    run.write_table(run.path(products.CONVERGENCE), pd.concat(frames, ignore_index=True), sources)


def command():
    """The command."""
    cli.run("-m dimuon study convergence", main)
