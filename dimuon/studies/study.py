"""How far can the result be believed? One study at work on one analysis.

Each study reads the dimuons and the models of steps 1 to 3 and writes under results/<name>/studies/. A study that is
stopped goes on where it was when it is called again.
"""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from dimuon.background.protocol import BackgroundModel
from dimuon.bumphunt import steps
from dimuon.data.dimuons import Dimuons
from dimuon.events import Events
from dimuon.studies.ledger import Ledger, settings_of
from dimuon.studies.registry import STUDIES
from dimuon.workflow import config, executor, lock, machine, messages, provenance
from dimuon.workflow.products import FLOWS, Product

log = logging.getLogger("dimuon")


class Study:
    """One study at work on one analysis: its inputs, its ledger, its results."""

    def __init__(self, run: provenance.Run, name: str, pool: Executor) -> None:
        self.run, self.name, self.pool = run, name, pool
        self.config: config.Config = run.config
        self.dimuons = Dimuons(run)
        self._read: dict[tuple[str, tuple[str, ...]], Events] = {}  # the whole table, by charge and features

    @cached_property
    def events(self) -> dict[str, Events]:
        """The data of each charge."""
        return {charge: self.read(self.config, charge) for charge in self.dimuons.charges}

    def read(self, varied: config.Config, charge: str) -> Events:
        """The data of one charge as a varied configuration (a narrower window, other features) sees them.

        The table is that of the analysis itself, whichever step made it; the events in the varied window are taken.
        """
        names = tuple(varied.features.names)
        if (charge, names) not in self._read:
            self._read[charge, names] = self.dimuons.events(charge, names)
        events = self._read[charge, names]
        return events[varied.window.in_window(events.mass)]

    @property
    def files(self) -> list[Path]:
        """The dimuon tables."""
        return sorted(set(self.dimuons.paths.values()))

    @property
    def inputs(self) -> list[Path]:
        """The files that the results are made from."""
        return [*self.files, *self.flows]

    @property
    def flows(self) -> list[Path]:
        """The models of step 3."""
        return [self.run.path(FLOWS, charge=charge) for charge in self.dimuons.charges]

    def background(self, charge: str) -> BackgroundModel:
        """The background model that step 3 trained; `UserError` where it has not, or with other settings."""
        return steps.read_model(self.run, charge)

    def ledger(self, leave_out: Sequence[str] = ()) -> Ledger:
        """The `Ledger` of finished scenarios. leave_out: settings that may change without making them worthless.

        Raises `UserError` for an input that is not there or stale, and for a ledger begun with other settings.
        """
        for path in self.inputs:
            self.run.require(path)
        path = self.run.results / "studies" / f"{self.name}.ledger.jsonl"
        return Ledger(path, settings_of(self.run, self.inputs, leave_out), leave_out)

    def write_table(
        self, product: Product, frame: pd.DataFrame, origin: str | None = None, inputs: Sequence[Path] | None = None
    ) -> Path:
        """Write a table of results with its sidecar. inputs: that it was made from (None: `Study.inputs`)."""
        sources = self.inputs if inputs is None else inputs
        return self.run.write_table(self.run.path(product), frame, sources, origin)

    def write_json(self, product: Product, content: dict[str, Any], origin: str | None = None) -> Path:
        """Write results as JSON with its sidecar."""
        return self.run.write_json(self.run.path(product), content, self.inputs, origin)


def do(name: str, config_path: str) -> bool:
    """Do one study of the analysis in a configuration file; returns whether it passes, where it is a gate."""
    start, declared = time.perf_counter(), STUDIES[name]
    run = provenance.Run(config.load(config_path), declared.maker.command, config_path)
    machine.require_folder(run.results)
    with lock.locked(run.results / "studies", f"study {name}", name), messages.log_file(run.results, f"study {name}"):
        with executor.of(run.config.execution) as pool:
            at_work = Study(run, name, pool)
            report = declared.run(at_work)
            passed = declared.gate is None or declared.gate(at_work)
        log.info("%s", report)
        log.info("%s: done in %.1f s, wrote %s", name, time.perf_counter() - start, run.summary())
    return passed
