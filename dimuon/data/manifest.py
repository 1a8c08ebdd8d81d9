"""The manifest of a skim: what is done, what failed, what is still to do."""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dimuon import columns
from dimuon.data import luminosity, nanoaod, skim, sources
from dimuon.data.manifest_entry import EventCounts, ManifestEntry, Skimmed
from dimuon.data.sources import Source
from dimuon.errors import UserError
from dimuon.workflow import products
from dimuon.workflow.provenance import Run, atomic, file_hash, link, load_json, sidecar_path

log = logging.getLogger("dimuon")


@dataclass(frozen=True)
class MadeWith:
    """What a skim depends on beside its input. luminosity: `LuminosityMask.digest`, None where all is kept."""

    muon_id: str
    triggers: tuple[str, ...]
    luminosity: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"muon_id": self.muon_id, "triggers": list(self.triggers), "luminosity": self.luminosity}


class Manifest:
    """Entries of `skim/manifest.json` by input, kept on disk after every change.

    Entries made with anything else than `made_with` are not done.
    """

    def __init__(self, path: Path, made_with: MadeWith) -> None:
        self.path, self.made_with = path, made_with
        self.entries: dict[str, ManifestEntry] = {}
        if path.exists():
            try:
                before = load_json(path)
                if before["made_with"] == made_with.to_json():
                    self.entries = {entry["input"]: ManifestEntry.from_json(entry) for entry in before["inputs"]}
            except (UserError, KeyError, TypeError, AttributeError):
                log.warning("%s: damaged; every input is read anew", path)

    def is_done(self, source: Source, entry: ManifestEntry | None = None) -> bool:
        """True where the skim of `source` exists, is what was written, and the input is still the same.

        entry: that of the source (None: of its name).
        """
        entry = entry or self.entries.get(source.name)
        if entry is None or entry.skimmed is None or not entry.is_of(source):
            return False
        output = self.path.parent / entry.skimmed.output
        return output.exists() and file_hash(output) == entry.skimmed.sha256

    def failed(self, source: Source) -> bool:
        """True where the last attempt at `source` failed."""
        return source.name in self.entries and self.entries[source.name].skimmed is None

    def add(self, entry: ManifestEntry) -> None:
        """Take one entry and write the manifest; until `Run.seal` seals it again no later step accepts it.

        A disk too full for that is said and no more: the entry counts in this run, which ends with what is missing.
        """
        self.entries[entry.input] = entry
        sidecar_path(self.path).unlink(missing_ok=True)
        try:
            with atomic(self.path) as temporary:
                temporary.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")
        except OSError as error:
            log.warning("%s: cannot be written: %s", self.path, sources.reason(error))

    def keep(self, names: Collection[str]) -> None:
        """Forget entries of inputs that are no longer among the names."""
        self.entries = {name: entry for name, entry in self.entries.items() if name in names}

    def adopt(self, source: Source, others: Sequence["Manifest"]) -> Path | None:
        """Take the skim of a source from the manifest of another analysis that has it; returns that skim's path.

        It is linked: on the disk it is there once. None where nobody has it, made in the same way.
        """
        for other in others:
            for entry in other.entries.values():
                if entry.skimmed is None or not entry.is_of(source) or not other.is_done(source, entry):
                    continue
                path, output = other.path.parent / entry.skimmed.output, f"{source.name}.parquet"
                link(path, self.path.parent / output)
                self.add(ManifestEntry.of(source, replace(entry.skimmed, output=output)))
                return path
        return None

    def done(self) -> list[Skimmed]:
        """The skims of the inputs whose last attempt went well, sorted by the inputs' names."""
        return [skimmed for name in sorted(self.entries) if (skimmed := self.entries[name].skimmed) is not None]

    @property
    def totals(self) -> EventCounts:
        """The sum over the inputs that are done."""
        return sum((skimmed.counts for skimmed in self.done()), EventCounts())

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values, the inputs sorted by name."""
        return {
            "made_with": self.made_with.to_json(),
            "inputs": [self.entries[name].to_json() for name in sorted(self.entries)],
            "totals": vars(self.totals),
        }

    def require_complete(self, inputs: Sequence[Source], command: str) -> None:
        """`UserError` with the exact list of the inputs whose skim is missing or no longer good.

        command: what is to be run; with --retry-failed where all of them have failed.
        """
        missing = [source for source in inputs if not self.is_done(source)]
        if missing:
            reasons = "; ".join(self._reason(source) for source in missing)
            remedy = f"{command} --retry-failed" if all(map(self.failed, missing)) else command
            raise UserError(f"{len(missing)} of {len(inputs)} inputs are missing: {reasons}; run `{remedy}`")

    def _reason(self, source: Source) -> str:
        entry = self.entries.get(source.name)
        if entry is None:
            return f"{source.address}: not read yet"
        return entry.error or f"{source.address}: has changed since it was read, or its skim is lost or damaged"

    def finish(
        self, run: Run, inputs: Sequence[Source], simulated: bool = False, made_from: Sequence[Path | str] = ()
    ) -> None:
        """Seal the skim of all inputs, or raise `UserError`: something failed, or nothing certified or kept.

        simulated: none of it is data (inputs with generator particles say so themselves). made_from: further files
        that the skim depends on, the certified luminosity.
        """
        self.require_complete(inputs, f"python {run.step} {run.config_path}")
        if problem := self._nothing_left():
            self._discard()
            raise UserError(f"{problem}; nothing was written")
        self._report()
        skims = self.done()
        origin = "simulated" if simulated or any(skimmed.simulated for skimmed in skims) else None
        outputs = [self.path.parent / skimmed.output for skimmed in skims]
        for path in set(self.path.parent.glob("*")) - {*outputs, self.path}:
            path.unlink()  # of inputs that are no longer asked for, or left by an interrupted run
        units = columns.units(nanoaod.schema(self.made_with.triggers).names)
        for path, skimmed in zip(outputs, skims, strict=True):
            run.seal(path, made_from, origin, rows=skimmed.counts.events_two_muons, units=units)
        run.write_table(run.path(products.SPECTRUM), skim.spectrum_table(outputs), outputs)
        processed = luminosity.as_sections(_keys([skimmed.certified for skimmed in skims]))
        run.write_json(run.path(products.PROCESSED_LUMINOSITY), processed, outputs)
        run.write_json(self.path, self.to_json(), outputs)

    def _discard(self) -> None:
        for path in self.path.parent.glob("*"):
            path.unlink()

    def _nothing_left(self) -> str | None:
        """Why the skim holds nothing, or None where it holds something."""
        totals = self.totals
        if not totals.events_read:
            return "the inputs hold no event"
        if not totals.events_certified:
            return "input.certified_luminosity certifies no luminosity section of the inputs"
        if not totals.events_two_muons:
            return f"no certified event has two muons that pass selection.muon_id = {self.made_with.muon_id}"
        return None

    def _report(self) -> None:
        unverified = 0
        for _, entry in sorted(self.entries.items()):
            if (skimmed := entry.skimmed) is None:
                continue
            if skimmed.missing_branches:
                log.info("%s: without %s (null in the skim)", entry.address, ", ".join(skimmed.missing_branches))
            if skimmed.counts.events_read and not skimmed.counts.events_certified:
                log.warning("%s: none of its luminosity sections is certified", entry.address)
            unverified += entry.checksum is not None and not skimmed.checksum_verified
        if unverified:
            log.info("%d of %d inputs: checksum of the portal not verified", unverified, len(self.entries))
        certified = len(_keys([skimmed.certified for skimmed in self.done()]))
        lost = len(_keys([skimmed.lost for skimmed in self.done()]))
        log.info(f"{certified + lost:,} luminosity sections seen, {certified:,} certified, {lost:,} lost")
        totals = self.totals
        log.info(
            f"{totals.events_read:,} events read, {totals.events_certified:,} certified, "
            f"{totals.events_two_muons:,} with two muons ({totals.os:,} OS, {totals.ss:,} SS)"
        )


def of_others(run: Run, made_with: MadeWith) -> list[Manifest]:
    """The manifests of the other analyses here whose skims hold what this one's would, input by input."""
    pattern = products.MANIFEST.path.format(name="*")
    paths = [path for path in sorted(Path().glob(pattern)) if path != run.path(products.MANIFEST)]
    return [Manifest(path, made_with) for path in paths]


@dataclass(frozen=True)
class FinishedSkim:
    """The skim as step 2 reads it. files: the manifest and the skim of every input. totals: over all inputs."""

    manifest: Path
    skims: list[Path]
    totals: EventCounts

    @property
    def files(self) -> list[Path]:
        """All that it was read from."""
        return [self.manifest, *self.skims]


def read(run: Run) -> FinishedSkim:
    """The skim that step 1 finished; `UserError` where it has not, or a file is stale or damaged."""
    path = run.path(products.MANIFEST)
    content = run.read_json(path)
    entries = [ManifestEntry.from_json(entry) for entry in content["inputs"]]
    skims = [run.require(path.with_name(entry.skimmed.output)) for entry in entries if entry.skimmed is not None]
    return FinishedSkim(path, skims, EventCounts(**content["totals"]))


def _keys(sections: Sequence[luminosity.Sections]) -> luminosity.Keys:
    """The luminosity sections of all inputs, each once."""
    keys: luminosity.Keys = np.unique(np.concatenate([luminosity.as_keys(each) for each in sections]))
    return keys
