"""The learned scan: steps 3 to 6 in every window, with a background model by the mode of the scan.

Models that serve several windows, or were trained with others, are kept under data/<name>/scan/; a window is a line in
the ledger of the scan.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dimuon.arrays import FloatArray
from dimuon.background import saved
from dimuon.background.protocol import BackgroundModel
from dimuon.bumphunt import learned_scan, steps
from dimuon.bumphunt.scan_windows import ScanWindow, searched
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.statistics import sculpting
from dimuon.statistics.working_points import rates
from dimuon.studies import scenarios
from dimuon.studies.ledger import FAILURES
from dimuon.studies.mass_scan import MassScan
from dimuon.studies.scenarios import Outcome, Row, Scenario, Source
from dimuon.studies.study import Study
from dimuon.workflow.checkpoint import FileCheckpoint
from dimuon.workflow.config import Config
from dimuon.workflow.products import SHARED_FLOWS, WINDOW_FLOWS

log = logging.getLogger("dimuon")

JOINT = 6  # windows in one training: more are no faster, and leave nothing for a second worker


@dataclass(frozen=True)
class InWindow(Source):
    """The data in one window of the scan.

    Filled in by `prepared`: observed, and trained, the bytes of a model that is kept: of all windows, by the mode of
    the scan, or of this one; None: it is trained with the search.
    """

    placed: ScanWindow
    observed: Events | None = None
    trained: bytes | None = None

    def prepared(self, study: Study, scenario: Scenario) -> "InWindow":
        """With the events in the window; the model of all windows is trained where it is not kept."""
        assert isinstance(study, MassScan)
        events = study.whole(scenario.charge)
        observed = events[self.placed.window.in_window(events.mass)]
        trained = shared_model(study, scenario.charge) or kept_model(study, scenario.charge, self.placed)
        return replace(self, observed=observed, trained=trained)

    def events(self, scenario: Scenario) -> Events:
        """The data. ValueError before `prepared`."""
        if self.observed is None:
            raise ValueError(f"{scenario.key}: the data were not read")
        return self.observed

    def model(self, scenario: Scenario, events: Events) -> BackgroundModel:
        """The background model of the window, by the mode of the scan."""
        config = scenario.config
        if self.trained is None:
            return learned_scan.train_window(config, scenario.charge, events, self.placed, scenario.stream)
        model = saved.from_bytes(self.trained)
        if not _is_shared(config):
            return model
        return learned_scan.put_under(config, events, self.placed, model, scenario.stream)


def _is_shared(config: Config) -> bool:
    """Whether one model is for all windows."""
    assert config.scan is not None
    return learned_scan.shared_estimator(config.estimator, config.scan.mode) is not None


def shared_model(study: MassScan, charge: str) -> bytes | None:
    """The model of all windows, as bytes, trained where it is not kept; None where the mode has none."""
    if not _is_shared(study.config):
        return None
    path = study.run.path(SHARED_FLOWS, charge=charge)
    if not path.exists() or study.run.stale(path):
        start, stream = time.perf_counter(), Stream(study.config.seed).child("mass scan", charge, "shared")
        checkpoint, events = FileCheckpoint(path.with_suffix(".checkpoint")), study.whole(charge)
        model = learned_scan.train_shared(study.config, charge, events, stream, study.pool, checkpoint)
        study.run.write_bytes(path, saved.to_bytes(model), study.files)
        log.info("%s: one background model for all windows, trained in %.0f s", charge, time.perf_counter() - start)
    return path.read_bytes()


def kept_model(study: MassScan, charge: str, placed: ScanWindow) -> bytes | None:
    """The model of one window, as bytes, where it is kept (`train_jointly`)."""
    path = study.run.path(WINDOW_FLOWS, charge=charge, window=placed.label)
    return path.read_bytes() if path.exists() and not study.run.stale(path) else None


def train_jointly(study: MassScan, charge: str, listed: Sequence[Scenario]) -> None:
    """Train the models of the windows that the ledger lacks and keep them, `JOINT` neighbours as one training.

    Which windows are neighbours does not depend on which are missing. Where one cannot be trained, as for want of
    events, its neighbours are trained with their search, like itself.
    """
    if _is_shared(study.config) or not learned_scan.can_be_joint(study.config.estimator):
        return
    start, n_trained = time.perf_counter(), 0
    done, events, running = study.ledger().records, study.whole(charge), []
    for first in range(0, len(listed), JOINT):
        group = listed[first : first + JOINT]
        windows = [each.source.placed for each in group if isinstance(each.source, InWindow)]
        missing = [
            placed
            for each, placed in zip(group, windows, strict=True)
            if each.key not in done and kept_model(study, charge, placed) is None
        ]
        if len(windows) > 1 and missing:
            streams = [each.stream for each in group]
            task = study.pool.submit(_train_group, study.config, charge, events, windows, streams)
            running.append((windows, task))
    for windows, task in running:
        try:
            models = task.result()
        except FAILURES as error:
            log.info("%s: %s to %s are trained one by one: %s", charge, windows[0].label, windows[-1].label, error)
            continue
        for placed, model in zip(windows, models, strict=True):
            study.run.write_bytes(study.run.path(WINDOW_FLOWS, charge=charge, window=placed.label), model, study.files)
        n_trained += len(windows)
    if n_trained:
        seconds = time.perf_counter() - start
        log.info("%s: background models of %d windows, %d at a time, in %.0f s", charge, n_trained, JOINT, seconds)


def _train_group(
    config: Config, charge: str, events: Events, windows: Sequence[ScanWindow], streams: Sequence[Stream]
) -> list[bytes]:
    """The models of some windows, in a worker."""
    return [saved.to_bytes(model) for model in learned_scan.train_windows(config, charge, events, windows, streams)]


def learned_scenarios(study: MassScan, charge: str, windows: Sequence[ScanWindow]) -> list[Scenario]:
    """The learned search in each window that is searched."""
    stream, settings = Stream(study.config.seed).child("mass scan", charge, "learned"), study.settings
    epochs = f" {settings.tuning_epochs}" if settings.mode == "fine_tune" else ""
    return [
        Scenario(
            f"{charge}/learned/{settings.mode}{epochs}/{each.label}",
            charge,
            study.config,
            stream.child(each.label).rooted(),
            InWindow(each),
            {"charge": charge.upper(), "window": each.label},
        )
        for each in searched(windows)
    ]


def learned(study: MassScan, charge: str, windows: Sequence[ScanWindow]) -> list[Outcome]:
    """The learned scan of one charge."""
    listed = learned_scenarios(study, charge, windows)
    train_jointly(study, charge, listed)
    return scenarios.run(study, listed, read_learned)


def read_learned(scenario: Scenario) -> list[Row]:
    """The reading of a window: every significance of steps 4 to 6, and after them one row "window" with how far the
    background can be trusted there."""
    source = scenario.source
    assert isinstance(source, InWindow)
    began, events = time.perf_counter(), source.events(scenario)
    model = source.model(scenario, events)
    trained = time.perf_counter()
    found = learned_scan.search_window(scenario.config, scenario.charge, events, source.placed, model, scenario.stream)
    ended = time.perf_counter()
    verdict = {
        "variable": "window",
        **closure_of(scenario, events, source.placed, model),
        **sculpting_of(scenario, events[found.searched], source.placed, found.score),
        "train_s": trained - began,
        "search_s": ended - trained,
    }
    return [*steps.headline(found), verdict]


def closure_of(scenario: Scenario, events: Events, placed: ScanWindow, model: BackgroundModel) -> Row:
    """AUC of a classifier that tells real from sampled events of the sidebands, and its error."""
    record = learned_scan.closure_of(scenario.config, events, placed, model, scenario.stream.child("closure"))
    return {"closure_auc": record.auc, "closure_auc_err": record.auc_err, "closure_auc_with_mass": record.auc_with_mass}


def sculpting_of(scenario: Scenario, events: Events, placed: ScanWindow, score: FloatArray) -> Row:
    """How many cuts shape the mass in the sidebands, of how many, and the distance correlation of score and mass."""
    searched_as = learned_scan.window_config(scenario.config, placed)
    settings, mass = searched_as.significance, events.mass
    bins, fprs = placed.window.binning(settings.n_bins_sr), rates(settings.n_working_points, settings.fpr_min)
    rng = scenario.stream.child("sculpting").generator()
    record, _ = sculpting.report(mass, score, fprs, bins, settings.degree, rng)
    flagged = [point["sculpted"] for point in record["working_points"]]
    return {
        "n_sculpted": int(sum(flagged)),
        "n_cuts": len(flagged),
        "p_knows_mass": record["distance_correlation"]["p_value"],
    }
