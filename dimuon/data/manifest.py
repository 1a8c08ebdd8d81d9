"""The manifest of a skim: what is done, what failed, what is still to do."""

import json
import logging

import numpy as np

from dimuon import columns
from dimuon.data import luminosity, nanoaod, skim, sources
from dimuon.errors import UserError
from dimuon.workflow import products
from dimuon.workflow.provenance import atomic, file_hash, load_json, sidecar_path

log = logging.getLogger("dimuon")

TOTALS = ("entries", "events_read", "events_certified", "events_two_muons", "os", "ss")


class Manifest:
    """Entries of `skim/manifest.json` by input, kept on disk after every change.

    made_with: what a skim depends on beside its input (muon ID, triggers, certified luminosity); entries made with
    anything else are not done.
    """

    def __init__(self, path, made_with):
        self.path, self.made_with, self.entries = path, made_with, {}
        if path.exists():
            before = load_json(path)
            if before.get("made_with") == json.loads(json.dumps(made_with)):
                self.entries = {entry["input"]: entry for entry in before["inputs"]}

    def is_done(self, source):
        """True where the skim of `source` exists, is what was written, and the input is still the same."""
        entry = self.entries.get(source.name, {"status": "absent"})
        if entry["status"] != "done" or any(entry[key] != value for key, value in source.identity.items()):
            return False
        output = self.path.parent / entry["output"]
        return output.exists() and file_hash(output) == entry["sha256"]

    def failed(self, source):
        """True where the last attempt at `source` failed."""
        return self.entries.get(source.name, {}).get("status") == "failed"

    def add(self, entry):
        """Take one entry and write the manifest; until `Run.seal` seals it again no later step accepts it.

        A disk too full for that is said and no more: the entry counts in this run, which ends with what is missing.
        """
        self.entries[entry["input"]] = entry
        sidecar_path(self.path).unlink(missing_ok=True)
        try:
            with atomic(self.path) as temporary:
                temporary.write_text(json.dumps(self.content(), indent=1, allow_nan=False) + "\n")
        except OSError as error:
            log.warning("%s: cannot be written: %s", self.path, sources.reason(error))

    def keep(self, names):
        """Forget entries of inputs that are no longer among the names."""
        self.entries = {name: entry for name, entry in self.entries.items() if name in names}

    def done(self):
        """The entries of the inputs whose last attempt went well."""
        return [entry for entry in self.entries.values() if entry["status"] == "done"]

    def content(self):
        """The manifest as JSON values: inputs sorted by name, and the totals over those that are done."""
        return {
            "made_with": self.made_with,
            "inputs": [self.entries[name] for name in sorted(self.entries)],
            "totals": {name: sum(entry[name] for entry in self.done()) for name in TOTALS},
        }

    def require_complete(self, inputs, command):
        """`UserError` with the exact list of the inputs whose skim is missing or no longer good.

        command: what is to be run; with --retry-failed where all of them have failed.
        """
        missing = [source for source in inputs if not self.is_done(source)]
        if missing:
            reasons = "; ".join(self._reason(source) for source in missing)
            remedy = f"{command} --retry-failed" if all(map(self.failed, missing)) else command
            raise UserError(f"{len(missing)} of {len(inputs)} inputs are missing: {reasons}; run `{remedy}`")

    def _reason(self, source):
        entry = self.entries.get(source.name)
        if entry is None:
            return f"{source.address}: not read yet"
        return entry.get("error", f"{source.address}: has changed since it was read, or its skim is lost or damaged")

    def finish(self, run, inputs, simulated=False, made_from=()):
        """Seal the skim of all inputs, or raise `UserError`: something failed, or nothing certified or kept.

        run: `artifacts.Run`. inputs: the sources of the analysis. simulated: none of it is data (inputs with generator
        particles say so themselves). made_from: further files the skim depends on, the certified luminosity.
        """
        self.require_complete(inputs, f"python {run.step} {run.config_path}")
        content, folder = self.content(), self.path.parent
        if problem := _nothing_left(content["totals"], self.made_with):
            self._discard()
            raise UserError(f"{problem}; nothing was written")
        _report(content)
        simulated = simulated or any(entry["simulated"] for entry in content["inputs"])
        origin = "simulated" if simulated else "measured"
        outputs = [folder / entry["output"] for entry in content["inputs"]]
        for path in set(folder.glob("*")) - {*outputs, self.path}:
            path.unlink()  # of inputs that are no longer asked for, or left by an interrupted run
        units = columns.units(nanoaod.schema(self.made_with["triggers"]).names)
        for path, entry in zip(outputs, content["inputs"], strict=True):
            run.seal(path, made_from, origin, rows=entry["events_two_muons"], units=units)
        run.write_table(run.path(products.SPECTRUM), skim.spectrum_table(outputs), outputs)
        sections = np.concatenate([luminosity.as_keys(entry["certified"]) for entry in content["inputs"]])
        run.write_json(run.path(products.PROCESSED_LUMINOSITY), luminosity.as_sections(sections), outputs)
        run.write_json(self.path, content, outputs)

    def _discard(self):
        for path in self.path.parent.glob("*"):
            path.unlink()


def _nothing_left(totals, made_with):
    """Why a skim holds nothing, or None where it holds something."""
    if not totals["events_read"]:
        return "the inputs hold no event"
    if not totals["events_certified"]:
        return "input.certified_luminosity certifies no luminosity section of the inputs"
    if not totals["events_two_muons"]:
        return f"no certified event has two muons that pass selection.muon_id = {made_with['muon_id']}"
    return None


def _report(content):
    totals = content["totals"]
    for entry in content["inputs"]:
        if entry["missing_branches"]:
            log.info("%s: without %s (null in the skim)", entry["address"], ", ".join(entry["missing_branches"]))
        if entry["events_read"] and not entry["events_certified"]:
            log.warning("%s: none of its luminosity sections is certified", entry["address"])
    unverified = sum(entry["checksum"] is not None and not entry["checksum_verified"] for entry in content["inputs"])
    if unverified:
        log.info("%d of %d inputs: checksum of the portal not verified", unverified, len(content["inputs"]))
    certified, lost = (
        len(np.unique(np.concatenate([luminosity.as_keys(entry[which]) for entry in content["inputs"]])))
        for which in ("certified", "lost")
    )
    log.info(
        "%s luminosity sections seen, %s certified, %s lost",
        f"{certified + lost:,}",
        f"{certified:,}",
        f"{lost:,}",
    )
    log.info(
        "%s events read, %s certified, %s with two muons (%s OS, %s SS)",
        *(f"{totals[name]:,}" for name in ("events_read", "events_certified", "events_two_muons", "os", "ss")),
    )
