"""How fast this machine is at what an analysis does: each part of the chain once, small, with its own settings."""

import hashlib
import importlib
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from dimuon import progress
from dimuon.arrays import FloatArray
from dimuon.background import closure
from dimuon.bumphunt import steps
from dimuon.classifiers.cross_validation import worker_modules
from dimuon.data import skim
from dimuon.data.samples import Sample
from dimuon.data.sources import from_files
from dimuon.events import Events
from dimuon.figures import style
from dimuon.random import Stream
from dimuon.records import Record
from dimuon.simulation import nanoaod_files
from dimuon.simulation.settings import Simulation
from dimuon.workflow import machine, provenance
from dimuon.workflow.config import Config
from dimuon.workflow.executor import AtOnce

log = logging.getLogger("dimuon")

T = TypeVar("T")

FITTED, SEARCHED, COMPARED = 3_000, 20_000, 2_500  # events that are trained on, searched, compared, at most
EPOCHS, MEMBERS = 2, 4
SIMULATED = 0.25  # of the demo's events, in one file: what a file takes by itself is a small part
PROGRAM = "import resource, {}; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
ALL, LIGHT = "dimuon.bumphunt.steps, torch, xgboost", "dimuon.workflow.cli, dimuon.data.skim, dimuon.figures.style"


@dataclass(frozen=True)
class Speeds(Record):
    """CPU seconds. start_s: of a program of steps 3 to 6; light_s: of the others; program_mb: its memory when it has
    loaded all.

    simulate_s, skim_s: an event. doubt_s: a charge, at the size of the analysis. fit_s: an event and epoch, all members
    of the background together. sample_s: an event. compare_s: a real event with its samples. member_s: a classifier of
    one fold; importance_s: what it is worth to each; sculpting_s: a sample. chain_s: steps 4 to 6 of one null dataset
    beyond its classifiers. measure_s: a sample in step 6, with its toys. figure_s: a figure. n_events: of the charge
    that all this was measured at. seconds: that measuring took, on the clock.
    """

    start_s: float
    light_s: float
    program_mb: float
    simulate_s: float
    skim_s: float
    doubt_s: float
    fit_s: float
    sample_s: float
    compare_s: float
    member_s: float
    importance_s: float
    sculpting_s: float
    chain_s: float
    measure_s: float
    figure_s: float
    n_events: int
    seconds: float


def speeds(config: Config, events: Events, again: bool = False) -> tuple[Speeds, Path]:
    """The speeds for an analysis, and where they are kept for the next time: by machine and settings."""
    path = _place(config, events)
    if path.exists() and not again:
        try:
            return Speeds.from_json(json.loads(path.read_text())), path
        except (ValueError, KeyError, TypeError) as error:
            log.debug("%s: %s; measured again", path, error)
    measured = measure(config, events)
    path.parent.mkdir(parents=True, exist_ok=True)
    with provenance.atomic(path) as temporary:
        temporary.write_text(json.dumps(measured.to_json(), indent=1) + "\n")
    return measured, path


def _place(config: Config, events: Events) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    sections = ("window", "features", "estimator", "background", "bdt", "significance")
    settings = provenance.chosen_settings(config, sections)
    asked = [settings, len(events), machine.cores(), provenance.versions(), provenance.sources_hash()]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
    return home / "dimuon" / f"speeds_{platform.node() or 'machine'}_{digest}.json"


def measure(config: Config, events: Events) -> Speeds:
    """Measure, in about 20 s. events: that are like those of the analysis."""
    with threadpool_limits(1), progress.silent():  # as in every worker
        return _measured(config, events)


def _measured(config: Config, events: Events) -> Speeds:
    begun, stream, pool, n = time.perf_counter(), Stream(config.seed).child("plan").rooted(), AtOnce(), len(events)
    lazy = ("uproot", *skim.WORKER_MODULES, *closure.WORKER_MODULES)
    for module in (*lazy, *config.estimator.worker_modules, *worker_modules(config.bdt.classifier)):
        importlib.import_module(module)  # what they take is in the start of a program, and not in what is done first
    (start_s, program_mb), (light_s, _) = _program(ALL), _program(LIGHT)
    simulate_s, skim_s = _skim()
    some = events if n <= SEARCHED else events[np.sort(stream.generator().permutation(n)[:SEARCHED])]
    scaler = steps.scaler_of(config, {"all": some})
    doubt_s, _ = _timed(lambda: steps.feature_doubts(config, "all", some, scaler, stream))

    few = some[stream.generator().permutation(len(some))[:FITTED]]
    estimator = config.estimator
    with_epochs = "epochs" in type(estimator).model_fields
    n_epochs = EPOCHS if with_epochs else 1

    def shorter(epochs: int) -> Config:
        changed = estimator.model_copy(update={"epochs": epochs} if with_epochs else {})
        return config.model_copy(update={"estimator": changed})

    if with_epochs:  # libraries are loaded with the first
        steps.train_background(shorter(1), "all", few, scaler, stream)
    learned = some if with_epochs else few  # an epoch of few events is mostly what an epoch takes by itself
    fit_s, model = _timed(lambda: steps.train_background(shorter(n_epochs), "all", learned, scaler, stream))
    fit_s /= n_epochs * int((~config.window.in_sr(learned.mass)).sum())

    masses = some.mass[: 4 * FITTED]
    sample_s, _ = _timed(lambda: model.sample(masses, stream))
    sidebands = few[config.window.in_sidebands(few.mass)][:COMPARED]
    copies = max(1, round(config.background.oversampling))
    like = _alike(sidebands, np.tile(sidebands.mass, copies), stream)
    compare_s, _ = _timed(lambda: closure.compare(sidebands, like, stream))

    fewer = config.model_copy(update={"bdt": config.bdt.model_copy(update={"members": MEMBERS})})
    fit = steps.fit_masses(config, some)
    draw_s, sampled = _timed(lambda: steps.sample_background(config, "all", fit, model, stream))
    alike = _alike(some, sampled.events.mass, stream)
    classify_s, ensemble = _timed(lambda: steps.classify(fewer, "all", some, alike, stream, pool))
    worth_s, _ = _timed(lambda: steps.weigh_features(fewer, "all", ensemble, some, alike, stream, pool))
    shape_s, _ = _timed(lambda: steps.check_sculpting(config, "all", "all", some, ensemble.data, stream))
    sample = Sample("all", "all", some, ensemble.data.mean, sampled=(alike, ensemble.background.mean))
    plain_s, _ = _timed(lambda: steps.measure(config, replace(sample, sampled=None), stream))
    whole_s, _ = _timed(lambda: steps.measure(config, sample, stream, config.significance.toys, True))
    n_models = MEMBERS * config.bdt.folds
    return Speeds(
        start_s=start_s,
        light_s=light_s,
        program_mb=program_mb,
        simulate_s=simulate_s,
        skim_s=skim_s,
        doubt_s=doubt_s,
        fit_s=fit_s,
        sample_s=sample_s / len(masses),
        compare_s=compare_s / len(sidebands),
        member_s=classify_s / n_models,
        importance_s=worth_s / n_models,
        sculpting_s=shape_s,
        chain_s=draw_s + plain_s,
        measure_s=whole_s,
        figure_s=_figure(),
        n_events=len(some),
        seconds=time.perf_counter() - begun,
    )


def _alike(events: Events, mass: FloatArray, stream: Stream) -> Events:
    """What a good background model samples at these masses: trees that find no difference stop early, as they do
    where the flows were trained to their end. Features of events at random."""
    chosen = stream.child("alike").generator().integers(len(events), size=len(mass))
    return Events.of(mass, events.features[chosen], events.names)


def _timed(do: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds and outcome: what else is at work on this machine does not count."""
    start = time.process_time()
    outcome = do()
    return time.process_time() - start, outcome


def _program(libraries: str) -> tuple[float, float]:
    """CPU seconds that a program takes to load its libraries, and its memory then [MB]."""
    before = os.times()
    place = Path(provenance.__file__).parents[2]  # of the package, installed or not
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(libraries)], capture_output=True, text=True, check=True, cwd=place
    )
    kilobytes = float(answer.stdout) * (1 if sys.platform != "darwin" else 1 / 1024)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return used, kilobytes / 1024


def _skim() -> tuple[float, float]:
    """Seconds an event to simulate, and to skim."""
    with tempfile.TemporaryDirectory() as folder:
        given, few = (Simulation(n_files=1, scale=scale) for scale in (SIMULATED, SIMULATED / 10))
        trigger = "HLT_TrkMu15_DoubleTrkMu5NoFiltersNoVtx"
        nanoaod_files.write_nanoaod(Path(folder), few, Stream(1), trigger)  # libraries are loaded with the first
        simulate_s, paths = _timed(lambda: nanoaod_files.write_nanoaod(Path(folder), given, Stream(1), trigger))
        (source,) = from_files([str(paths[0])])
        task = skim.Task(source, Path(folder) / "skim.parquet", "Muon_tightId", (trigger,), None, 1, 60.0, False)
        layout = skim.survey(task)
        skim_s, _ = _timed(lambda: skim.skim(task, layout))
        return simulate_s / layout.entries, skim_s / layout.entries


def _figure() -> float:
    """Seconds to write a figure of three panels as PDF and PNG, the median of three."""
    x = np.linspace(0.0, 10.0, 60)

    def drawn() -> None:
        figure = Figure(figsize=(8, 7))
        for place in (1, 2, 3):
            axes = figure.add_subplot(3, 1, place)
            for k in range(7):
                axes.errorbar(x, np.sin(x + k), yerr=0.1, label=f"{k}")
            axes.legend()
        with tempfile.TemporaryDirectory() as folder:
            style.save(figure, Path(folder) / "figure")

    drawn()  # fonts are found with the first
    return statistics.median(_timed(drawn)[0] for _ in range(3))
