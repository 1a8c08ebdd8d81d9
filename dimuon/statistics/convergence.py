"""How many members of a classifier ensemble are enough."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dimuon.arrays import FloatArray
from dimuon.statistics.significance import SpectrumModel, discoveries, likelihood_weights
from dimuon.statistics.spectra import Spectra
from dimuon.statistics.working_points import CutVariable


def convergence(
    mass: FloatArray,
    members: FloatArray,
    fprs: FloatArray,
    model: SpectrumModel,
    rng: np.random.Generator,
    sizes: Sequence[int] | None = None,
    n_draws: int = 50,
) -> pd.DataFrame:
    """Spread of the significance when the ensemble is drawn again from its members, with replacement.

    mass: (n_events,), GeV. members: (n_events, n_members) scores. fprs: (n,), working points. sizes: numbers of
    members (None: 1, 2, 5, 10, 20, 50 ... up to all).

    Columns: n_members, draw, z0_max (largest over the working points) and z0_likelihood (NaN where it is not defined).
    The spread at the full size is that of another seed, as far as the members alone decide: same flows, same folds.
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


def standard_sizes(n_members: int) -> list[int]:
    """1, 2, 5, 10, 20, 50 ... below n_members, and n_members."""
    steps = (digit * 10**power for power in range(6) for digit in (1, 2, 5))
    return [*[size for size in steps if size < n_members], n_members]
