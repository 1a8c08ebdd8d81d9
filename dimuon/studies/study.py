"""How far can the result be believed? `python -m dimuon study NAME CONFIG.yaml`

variations: other fits, bins, edges, seeds, flows, preprocessing. pseudoexperiments: the chain on null datasets, and
calibrated p-values. cut_scan: simultaneous classical cuts. controls: the chain where there is no signal, as a gate.
injection: the chain on null datasets with known numbers of signal events.

Each reads the dimuons and the flows of steps 1 to 3 and writes under results/<name>/studies/. A study that is stopped
goes on where it was when it is called again.
"""

import argparse
import logging
import sys
import time
from functools import cached_property

from dimuon.bumphunt import steps
from dimuon.data import dimuons
from dimuon.studies import controls, cut_scan, injection, pseudoexperiments, variations
from dimuon.studies.ledger import Ledger, settings_of
from dimuon.workflow import cli, config, executor, products, provenance

log = logging.getLogger("dimuon")

STUDIES = {
    "variations": variations.run,
    "pseudoexperiments": pseudoexperiments.run,
    "cut_scan": cut_scan.run,
    "controls": controls.run,
    "injection": injection.run,
}


class Study:
    """One study at work on one analysis: its inputs, its ledger, its results.

    run: `artifacts.Run` of the study. pool: `concurrent.futures.Executor`.
    """

    def __init__(self, run, name, pool):
        self.run, self.name, self.pool = run, name, pool
        self.config = run.config
        self.tables = {}  # of `read`

    @cached_property
    def events(self):
        """{charge: `chain.Events`} of the data."""
        return {charge: self.read(self.config, charge) for charge in dimuons.paths(self.run)}

    def read(self, varied, charge):
        """The `chain.Events` of one charge as a varied configuration (a narrower window, other features) sees them.

        The table is that of the analysis itself, whichever step made it; the events in the varied window are taken.
        """
        names = tuple(varied.features.names)
        if (charge, names) not in self.tables:
            self.tables[charge, names] = dimuons.Dimuons(self.run).events(charge, names)
        events = self.tables[charge, names]
        return events[varied.window.in_window(events.mass)]

    @property
    def files(self):
        """The dimuon tables."""
        return sorted(set(dimuons.paths(self.run).values()))

    @property
    def inputs(self):
        """The files that the results are made from."""
        return [*self.files, *(self.run.path(products.FLOWS, charge=charge) for charge in dimuons.paths(self.run))]

    def background(self, charge):
        """The `ConditionalBackground` that step 3 trained; `UserError` where it has not, or with other settings."""
        return steps.read_model(self.run, charge)

    def ledger(self, leave_out=()):
        """The `Ledger` of finished tasks. leave_out: settings that may change without making them worthless.

        Raises `UserError` for an input that is not there or stale, and for a ledger begun with other settings.
        """
        for path in self.inputs:
            self.run.require(path)
        path = self.run.results / "studies" / f"{self.name}.ledger.jsonl"
        return Ledger(path, settings_of(self.run, self.inputs, leave_out))

    def write_table(self, product, frame, origin=None):
        """Write a table of results with its sidecar."""
        return self.run.write_table(self.run.path(product), frame, self.inputs, origin)

    def write_json(self, product, content, origin=None):
        """Write results as JSON with its sidecar."""
        return self.run.write_json(self.run.path(product), content, self.inputs, origin)


def main(arguments=None):
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dimuon study", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("name", metavar="NAME", choices=STUDIES, help=", ".join(STUDIES))
    parser.add_argument("config", metavar="CONFIG.yaml", help="the analysis, e.g. configs/upsilon.yaml")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    return cli.guarded(f"dimuon study {given.name}", lambda: study(given.name, given.config))


def study(name, config_path):
    """Do one study of the analysis in a configuration file."""
    start = time.perf_counter()
    run = provenance.Run(config.load(config_path), f"-m dimuon study {name}", config_path)
    with executor.executor(run.config.execution.workers, run.config.execution.scheduler) as pool:
        words = STUDIES[name](Study(run, name, pool))
    log.info("%s", words)
    log.info("%s: done in %.1f s, wrote %s", name, time.perf_counter() - start, run.summary())
