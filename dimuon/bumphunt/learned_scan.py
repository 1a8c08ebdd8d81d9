"""The learned scan: what steps 3 to 6 find in one window, with a background model of that window.

A mode of the scan (`scan.mode`) is a way to the background model; the search with it is the same for all.

- `retrain`: steps 3 to 6 as they are, a training on the sidebands of each window (`train_window`).
- `one_model`: the estimator of the configuration, trained once on the whole range, its density interpolated across the
  SR of each window (`background.estimators.interpolated`).
- `fine_tune`: `one_model`, its flows trained for a few more epochs on the sidebands of each window, the SR masked
  (`background.fine_tuning`), before they are interpolated.
- `sigma`: one flow matching of the whole range, its velocity interpolated (`background.sigma`), of the size of the
  configuration's flows, or as the configuration sets it.

Known resonances are no background: their events are left out of a training of the whole range (`train_range`).
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dimuon.background import closure, mass_model
from dimuon.background.closure import ClosureRecord
from dimuon.background.estimators.flows import Flow
from dimuon.background.estimators.interpolated import Interpolated, InterpolatedBackground
from dimuon.background.estimators.sigma import Sigma
from dimuon.background.kinds import EstimatorSettings
from dimuon.background.protocol import BackgroundModel, Checkpoint, Rewindowed
from dimuon.bumphunt import steps
from dimuon.bumphunt.scan_windows import ScanSettings, ScanWindow
from dimuon.bumphunt.steps import SearchResult
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.workflow.executor import AtOnce

if TYPE_CHECKING:
    from dimuon.workflow.config import Config


def window_config(config: "Config", placed: ScanWindow) -> "Config":
    """The analysis in one window: its edges, and the bins and the background function of the scan."""
    scan = _scan(config)
    n_bins_sr, tested = (
        scan.binnings_of(placed)[0],
        {"family": scan.family, "degree": scan.degree, "choice": scan.choice},
    )
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


def can_be_joint(estimator: EstimatorSettings) -> bool:
    """Whether the trainings of several windows can be one (`train_windows`)."""
    if not isinstance(estimator, Flow) or isinstance(estimator, Sigma):
        return False
    return estimator.patience is None and estimator.on_cpu  # a GPU has its work already


def train_windows(
    config: "Config", charge: str, events: Events, windows: Sequence[ScanWindow], streams: Sequence[Stream]
) -> list[BackgroundModel]:
    """`train_window` in several windows, as one training: the same but for rounding, in a third of the time.

    streams: of each. Raises ValueError for an estimator that cannot be trained so, `AnalysisError` as `train_window`.
    """
    from dimuon.background.conditional import ConditionalFlows, fit_jointly  # loads torch

    flows, sidebands, own = list[ConditionalFlows](), list[Events](), list[Stream]()
    for placed, stream in zip(windows, streams, strict=True):
        searched = window_config(config, placed)
        inside = events[placed.window.in_window(events.mass)]
        steps.require_enough(searched, inside)
        flows.append(ConditionalFlows(config.estimator, steps.scaler_of(searched, {charge: inside})))
        sidebands.append(inside[~placed.window.in_sr(inside.mass)])
        own.append(stream.child("flows", charge).rooted())
    return list(fit_jointly(flows, sidebands, own))


def shared_estimator(estimator: EstimatorSettings, mode: str) -> EstimatorSettings | None:
    """The estimator that is trained once for all windows, by the mode; None where each has a training of its own.

    estimator: of the configuration. Raises `AnalysisError` where it is none that can be fine-tuned, or there is no
    SIGMA of its size.
    """
    if mode == "retrain":
        return None
    if mode != "sigma":
        shared = estimator if isinstance(estimator, Interpolated) else Interpolated(of=estimator)
        if mode == "fine_tune" and (not isinstance(shared.of, Flow) or isinstance(shared.of, Sigma)):
            raise AnalysisError(
                f"mode is fine_tune, and estimator.kind {shared.of.kind} no flow that can be trained further; set "
                "another kind, such as maf, or another mode",
                setting="mode",
            )
        return shared
    if isinstance(estimator, Sigma):
        return estimator
    if not isinstance(estimator, Flow):
        raise AnalysisError(
            f"mode is sigma, and estimator.kind {estimator.kind} no flow; set estimator.kind: sigma, or another mode",
            setting="mode",
        )
    return Sigma(**{name: getattr(estimator, name) for name in Flow.model_fields if name != "kind"})


def train_shared(
    config: "Config", charge: str, events: Events, stream: Stream, pool: Executor, checkpoint: Checkpoint | None = None
) -> BackgroundModel:
    """The model of all windows, put under none yet, where the mode has one. events: of the whole range.

    Raises ValueError where it has none, `AnalysisError` as `shared_estimator` and the estimator do.
    """
    shared = shared_estimator(config.estimator, _scan(config).mode)
    if shared is None:
        raise ValueError("every window has a training of its own")
    return train_range(config.model_copy(update={"estimator": shared}), charge, events, stream, pool, checkpoint)


def put_under(
    config: "Config", events: Events, placed: ScanWindow, shared: BackgroundModel, stream: Stream
) -> BackgroundModel:
    """The background model of one window, of the model of all. stream: of its training, where there is some.

    Raises `AnalysisError` as `train_window` does.
    """
    if not isinstance(shared, Rewindowed):
        raise ValueError(f"a model of kind {shared.kind} is of one window")
    inside, scan = events[placed.window.in_window(events.mass)], _scan(config)
    steps.require_enough(window_config(config, placed), inside)
    if scan.mode != "fine_tune":
        return shared.across(placed.window)
    from dimuon.background.conditional import ConditionalBackground  # loads torch
    from dimuon.background.fine_tuning import fine_tuned

    if not isinstance(shared, InterpolatedBackground) or not isinstance(shared.learned, ConditionalBackground):
        raise ValueError(f"a model of kind {shared.kind} cannot be trained further")
    sidebands, own = inside[~placed.window.in_sr(inside.mass)], stream.child("fine tuning").rooted()
    tuned = fine_tuned(shared.learned, sidebands, scan.tuning_epochs, own)
    return replace(shared, learned=tuned).across(placed.window)


def train_range(
    config: "Config", charge: str, events: Events, stream: Stream, pool: Executor, checkpoint: Checkpoint | None = None
) -> BackgroundModel:
    """A background model of the whole range, trained beside the known resonances. events: of the whole range."""
    scan = _scan(config)
    known = np.zeros(len(events), dtype=bool)
    for low, high in scan.known.values():
        known |= (events.mass >= low) & (events.mass <= high)
    background = events[~known]
    scaler = steps.preparation_of(config, background).scaler(background, np.ones(len(background), dtype=bool))
    estimator = config.estimator.estimator(scaler)
    return estimator.fit(background, stream.child("flows", charge).rooted(), pool=pool, checkpoint=checkpoint)


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
