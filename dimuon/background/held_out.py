"""Honest checks of the interpolation: train without some sideband events, then compare samples with exactly these.

The closure of `dimuon.background.closure` looks where the estimator was trained. These look where it was not: at one half of the
sidebands, or at a window of masses that, like the SR, the training never sees.
"""

import numpy as np

from dimuon.background import closure
from dimuon.background.conditional import ConditionalBackground, fit_scaler
from dimuon.errors import UserError
from dimuon.workflow.executor import generator, integer_seed


def half_split(make, features, mass, names, window, seed, copies, pool):
    """Train on a random half of the sideband events, compare samples with the other half; `closure.in_sidebands`.

    make: function that gives an untrained estimator. features: (n_events, n_features), physical units; mass:
    (n_events,), GeV; both of sideband events. window: `MassWindow`. copies: samples per event compared. seed: whole
    number. pool: `concurrent.futures.Executor`.
    """
    first = generator(seed, "half").permutation(len(mass)) < len(mass) // 2
    sampled = _sampled(make, features, mass, names, first, ~first, seed, copies, pool)
    compare_seed = integer_seed(seed, "compare")
    records = closure.in_sidebands(features[~first], sampled, mass[~first], window, names, compare_seed, pool)
    return {place: {"n_train": int(first.sum())} | record for place, record in records.items()}


def shifted_window(make, features, mass, names, window, shifted, seed, copies, pool):
    """Train on the sidebands without the masses low to high, compare samples with the real events there.

    window: `MassWindow`; its SR stays out of the training too, since a signal may be there. shifted: (low, high), GeV,
    inside one sideband. Other arguments as for `half_split`; the record is that of `closure.compare`, over this
    window. Raises `UserError` for a window that is not inside a sideband or holds too few events.
    """
    low, high = shifted
    if not (window.sb_low <= low < high <= window.sr_low or window.sr_high <= low < high <= window.sb_high):
        raise UserError(f"background.shifted_windows: [{low:g}, {high:g}] is not inside a sideband of {window}")
    tested = (mass >= low) & (mass <= high)
    if tested.sum() < closure.MIN_EVENTS:
        raise UserError(
            f"background.shifted_windows: [{low:g}, {high:g}] holds {tested.sum()} events, "
            f"at least {closure.MIN_EVENTS} are needed; widen it"
        )
    sampled = _sampled(make, features, mass, names, ~tested, tested, seed, copies, pool)
    record = closure.compare(features[tested], sampled, mass[tested], names, integer_seed(seed, "compare"))
    return {"n_train": int((~tested).sum()), "mass_low": float(low), "mass_high": float(high), **record}


def _sampled(make, features, mass, names, trained, tested, seed, copies, pool):
    """Samples (copies, n_tested, n_features) at the masses tested, from an estimator of the events trained on."""
    scaler = fit_scaler(features, trained, names)  # like the paper's: range of all events, mean and spread of these
    background = ConditionalBackground.train(
        make(), scaler, features[trained], mass[trained], integer_seed(seed, "train"), pool
    )
    sampled = background.sample(np.tile(mass[tested], copies), integer_seed(seed, "sample"))
    return sampled.reshape(copies, tested.sum(), len(names))
