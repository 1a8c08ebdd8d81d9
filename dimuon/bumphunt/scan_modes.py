"""How the learned scan comes to the background model of a window: `scan.mode`.

- `retrain`: steps 3 to 6 as they are; a training on the sidebands of each window (`learned_scan.train_window`).
- `one_model`: the estimator of the configuration, trained once on the whole range, its density interpolated across the
  SR of each window (`background.estimators.interpolated`).
- `sigma`: one flow matching of the whole range, its velocity interpolated (`background.sigma`); of the size of the
  configuration's flows, or as the configuration sets it.

Known resonances are no background: their events are left out of a training of the whole range.
"""

from concurrent.futures import Executor
from typing import TYPE_CHECKING

import numpy as np

from dimuon.arrays import BoolArray
from dimuon.background.estimators.flows import Flow
from dimuon.background.estimators.interpolated import Interpolated
from dimuon.background.estimators.sigma import Sigma
from dimuon.background.kinds import EstimatorSettings
from dimuon.background.protocol import BackgroundModel, Checkpoint
from dimuon.bumphunt import steps
from dimuon.bumphunt.scan_windows import ScanSettings
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.random import Stream

if TYPE_CHECKING:
    from dimuon.workflow.config import Config


def shared_estimator(estimator: EstimatorSettings, mode: str) -> EstimatorSettings | None:
    """The estimator that is trained once for all windows, by the mode; None where each has a training of its own.

    estimator: of the configuration. Raises `AnalysisError` where there is no SIGMA of its size.
    """
    if mode == "retrain":
        return None
    if mode == "one_model":
        return estimator if isinstance(estimator, Interpolated) else Interpolated(of=estimator)
    if isinstance(estimator, Sigma):
        return estimator
    if not isinstance(estimator, Flow):
        raise AnalysisError(
            f"mode is sigma, and estimator.kind {estimator.kind} no flow; set estimator.kind: sigma, or another mode",
            setting="mode",
        )
    return Sigma(**{name: getattr(estimator, name) for name in Flow.model_fields if name != "kind"})


def train_shared(
    config: "Config",
    charge: str,
    events: Events,
    stream: Stream,
    pool: Executor | None = None,
    checkpoint: Checkpoint | None = None,
) -> BackgroundModel:
    """The model of all windows, which interpolates nowhere yet. events: of the whole range, those of the SRs included.

    Raises ValueError for the mode `retrain`, `AnalysisError` as `shared_estimator` and the estimator do.
    """
    scan = config.scan
    settings = None if scan is None else shared_estimator(config.estimator, scan.mode)
    if scan is None or settings is None:
        raise ValueError("no mode of the scan that trains once")
    background = events[~in_known(scan, events)]
    everywhere = np.ones(len(background), dtype=bool)
    scaler = steps.preparation_of(config, background).scaler(background, everywhere)
    own = stream.child("flows", charge).rooted()
    return settings.estimator(scaler).fit(background, own, pool=pool, checkpoint=checkpoint)


def in_known(scan: ScanSettings, events: Events) -> BoolArray:
    """(n_events,) True where a known resonance is."""
    known = np.zeros(len(events), dtype=bool)
    for low, high in scan.known.values():
        known |= (events.mass >= low) & (events.mass <= high)
    return known
