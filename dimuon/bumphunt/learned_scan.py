"""The learned scan: what steps 3 to 6 find in one window, with a background model of that window.

A mode of the scan (`scan.mode`) is a way to the background model; the search with it is the same for all. Here is
`retrain`: steps 3 to 6 as they are, on the events of the window.
"""

from concurrent.futures import Executor
from typing import TYPE_CHECKING

import numpy as np

from dimuon.background import closure, mass_model
from dimuon.background.closure import ClosureRecord
from dimuon.background.protocol import BackgroundModel
from dimuon.bumphunt import steps
from dimuon.bumphunt.scan_windows import ScanSettings, ScanWindow
from dimuon.bumphunt.steps import SearchResult
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.workflow.executor import AtOnce

if TYPE_CHECKING:
    from dimuon.workflow.config import Config


def window_config(config: "Config", placed: ScanWindow) -> "Config":
    """The analysis in one window: its edges, and the bins and the background function of the scan."""
    scan = _scan(config)
    n_bins_sr, tested = scan.binnings[0], {"family": scan.family, "degree": scan.degree, "choice": scan.choice}
    return config.model_copy(
        update={
            "window": placed.window,
            "background": config.background.model_copy(update={"n_bins_sr": n_bins_sr, "degree": scan.degree}),
            "significance": config.significance.model_copy(update={"n_bins_sr": n_bins_sr, **tested}),
        }
    )


def train_window(config: "Config", charge: str, events: Events, placed: ScanWindow, stream: Stream) -> BackgroundModel:
    """`retrain`: the background model of one window, trained on its own sidebands. events: of the whole range."""
    searched = window_config(config, placed)
    inside = events[placed.window.in_window(events.mass)]
    steps.require_enough(searched, inside)
    scaler = steps.scaler_of(searched, {charge: inside})
    return steps.train_background(searched, charge, inside, scaler, stream, AtOnce())


def train_range(config: "Config", charge: str, events: Events, stream: Stream, pool: Executor) -> BackgroundModel:
    """A background model of the whole range, trained beside the known resonances. events: of the whole range."""
    scan = _scan(config)
    known = np.zeros(len(events), dtype=bool)
    for low, high in scan.known.values():
        known |= (events.mass >= low) & (events.mass <= high)
    background = events[~known]
    scaler = steps.preparation_of(config, background).scaler(background, np.ones(len(background), dtype=bool))
    estimator = config.estimator.estimator(scaler)
    return estimator.fit(background, stream.child("flows", charge).rooted(), pool=pool)


def search_window(
    config: "Config", charge: str, events: Events, placed: ScanWindow, model: BackgroundModel, stream: Stream
) -> SearchResult:
    """Steps 4 to 6 in one window with a model of its background. events: of the whole range."""
    searched = window_config(config, placed)
    inside = events[placed.window.in_window(events.mass)]
    return steps.search(searched, charge, inside, model, stream, AtOnce())


def closure_of(
    config: "Config", events: Events, placed: ScanWindow, model: BackgroundModel, stream: Stream
) -> ClosureRecord:
    """How far sampled events are from the real ones of both sidebands of a window. events: of the whole range."""
    real = events[placed.window.in_sidebands(events.mass)]
    copies = max(1, round(config.background.oversampling))
    sampled = mass_model.sample_at(model, real.mass, copies, stream.rooted()).events
    return closure.compare(real, sampled, stream.child("compared").rooted())


def _scan(config: "Config") -> ScanSettings:
    if config.scan is None:
        raise ValueError("the configuration has no section scan")
    return config.scan
