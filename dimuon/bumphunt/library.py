"""The analysis as one function of a library: events and a mass window in, the result of steps 3 to 6 out."""

from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from dimuon.bumphunt import steps
from dimuon.bumphunt.steps import SearchResult
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.regions import MassWindow
from dimuon.workflow.config import Config
from dimuon.workflow.executor import AtOnce, executor


def search(
    events: Events, window: MassWindow, *, seed: int = 1, workers: int = 1, **settings: Mapping[str, Any]
) -> SearchResult:
    """Look for a resonance in the signal region of some events: steps 3 to 6 in memory, without toys and files.

    events: of one kind (one charge), inside and outside the window alike. seed: of everything random. workers:
    processes; 1 is this one. settings: sections of a configuration (`estimator`, `background`, `bdt`, `significance`,
    `features`) where they are to differ from the paper's, e.g. `bdt={"members": 10}`.

    The result has `curves` (the significance at every working point of the classifier and of every feature), `summary`
    (the headline numbers) and `score` (one an event inside the window). Raises `pydantic.ValidationError` for settings
    that do not exist, ValueError for events that cannot be searched.
    """
    sections: dict[str, Any] = {"features": {"set": list(events.names)}, **settings}
    source = {"dimuons": "events in memory"}
    config = Config.model_validate({"name": "search", "seed": seed, "input": source, "window": window, **sections})
    inside, stream, charge = events[window.in_window(events.mass)], Stream(seed), "os"
    pools: AbstractContextManager[Executor] = nullcontext(AtOnce()) if workers == 1 else executor(workers)
    steps.require_enough(config, inside)
    with pools as pool:
        scaler = steps.scaler_of(config, {charge: inside})
        model = steps.train_background(config, charge, inside, scaler, stream, pool)
        return steps.search(config, charge, inside, model, stream, pool)
