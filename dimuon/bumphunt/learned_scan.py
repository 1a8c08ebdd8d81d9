"""The learned scan: what steps 3 to 6 find in one window, with a background model of that window.

A mode of the scan (`scan.mode`) is a way to the background model; the search with it is the same for all. Here is
`retrain`: steps 3 to 6 as they are, on the events of the window.
"""

from typing import TYPE_CHECKING

from dimuon.background.protocol import BackgroundModel
from dimuon.bumphunt import steps
from dimuon.bumphunt.scan_windows import ScanWindow
from dimuon.bumphunt.steps import SearchResult
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.workflow.executor import AtOnce

if TYPE_CHECKING:
    from dimuon.workflow.config import Config


def window_config(config: "Config", placed: ScanWindow) -> "Config":
    """The analysis in one window: its edges, and the bins and the background function of the scan."""
    scan = config.scan
    if scan is None:
        raise ValueError("the configuration has no section scan")
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


def search_window(
    config: "Config", charge: str, events: Events, placed: ScanWindow, model: BackgroundModel, stream: Stream
) -> SearchResult:
    """Steps 4 to 6 in one window with a model of its background. events: of the whole range."""
    searched = window_config(config, placed)
    inside = events[placed.window.in_window(events.mass)]
    return steps.search(searched, charge, inside, model, stream, AtOnce())
