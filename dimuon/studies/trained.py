"""The trained background of a scenario: step 3's own, or trained once for all that share it, and kept."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from dimuon.background import saved
from dimuon.background.protocol import BackgroundModel
from dimuon.bumphunt import steps
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.studies.scenarios import Scenario, Source, vary
from dimuon.studies.study import Study
from dimuon.workflow import provenance
from dimuon.workflow.checkpoint import FileCheckpoint
from dimuon.workflow.config import Config
from dimuon.workflow.products import KEPT_FLOWS, STEP_3

log = logging.getLogger("dimuon")


@dataclass(frozen=True)
class Data(Source):
    """The data as a scenario sees them. observed, trained (the background model's bytes): filled in by `prepared`."""

    observed: Events | None = None
    trained: bytes = b""

    def prepared(self, study: Study, scenario: Scenario) -> "Data":
        """With the events in the scenario's window, its background trained where nobody has. Errors: as in step 3."""
        charge, varied = scenario.charge, scenario.config
        return Data(study.read(varied, charge), background(study, varied, charge))

    def events(self, scenario: Scenario) -> Events:
        """The data. ValueError before `prepared`."""
        if self.observed is None:
            raise ValueError(f"{scenario.key}: the data were not read")
        return self.observed

    def model(self, scenario: Scenario, events: Events) -> BackgroundModel:
        """The trained background."""
        return saved.from_bytes(self.trained)


def background(study: Study, varied: Config, charge: str) -> bytes:
    """The trained background model of a varied configuration, as bytes."""
    path = kept_path(study, varied, charge)
    if path is None:
        return saved.to_bytes(study.background(charge))
    if not (path.exists() and _is_whole(path)):
        varied = _trained_as(study, varied)
        log.info("%s: training the %s background of another choice", path, charge)
        events = {each: study.read(varied, each) for each in study.events}
        scaler, stream = steps.scaler_of(varied, events), Stream(varied.seed)
        checkpoint = FileCheckpoint(path.with_suffix(".checkpoint"))
        model = steps.train_background(varied, charge, events[charge], scaler, stream, study.pool, checkpoint)
        _step(study, varied).write_bytes(path, saved.to_bytes(model), study.files)
    return path.read_bytes()


def kept_path(study: Study, varied: Config, charge: str) -> Path | None:
    """Where the background model of a varied configuration is kept; None where it is that of step 3.

    Under data/<name>/studies/, in another window than the analysis's under data/<name>/windows/<SR>/studies/.
    """
    varied = _trained_as(study, varied)
    settings = provenance.chosen_settings(varied, STEP_3.settings)
    if settings == provenance.chosen_settings(study.config, STEP_3.settings):
        return None
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return _step(study, varied).path(KEPT_FLOWS, charge=charge, digest=digest)


def _trained_as(study: Study, varied: Config) -> Config:
    """The configuration that its background is trained with: with the analysis's own seed, unless asked otherwise."""
    return varied if study.config.studies.retrain_flows else vary(varied, {"seed": study.config.seed})


def _step(study: Study, varied: Config) -> provenance.Run:
    window = None if varied.window == study.config.window else varied.window.label
    return provenance.Run(varied, STEP_3.command, study.run.config_path, window)


def _is_whole(path: Path) -> bool:
    """Whether a kept model is as written and from the dimuons as they are now; its settings are in its name."""
    meta = provenance.sidecar(path)
    made_from = {path: meta["sha256"], **meta["inputs"]} if meta else {path: None}
    return all(Path(name).exists() and provenance.file_hash(name) == digest for name, digest in made_from.items())
