"""How much an analysis has to do: counted where its files are there, estimated where they are not."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dimuon.data.dimuons import Dimuons
from dimuon.errors import AnalysisError, UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.workflow import products, provenance
from dimuon.workflow.config import Config
from dimuon.workflow.provenance import Run

log = logging.getLogger("dimuon")

# of `input.simulation`, for each unit of its scale; and of the published sample (record 30555: 28 files, 42 GB)
SIMULATED = {"events": 62_712, "skimmed": 55_960, "rows": 40_467, "os": 12_077, "ss": 7_254}
PUBLISHED = {"events": 46_000_000, "skimmed": 25_000_000, "rows": 45_000, "os": 12_332, "ss": 7_168}
PUBLISHED_MB, PUBLISHED_FILES = 42_000.0, 28
ROW_BYTES = 130  # of a CSV table of two four-vectors


@dataclass(frozen=True)
class Sizes:
    """events: of the input. skimmed: with two muons. rows: of the dimuon table, {charge: n} of those that are searched.

    in_sr: {charge: n} of them in the SR. n_files, input_mb: of the input. how: where all this is known from.
    """

    events: int
    skimmed: int
    rows: int
    charges: dict[str, int]
    in_sr: dict[str, int]
    n_files: int
    input_mb: float
    how: str

    def sidebands(self, charge: str) -> int:
        """Events of a charge outside the SR."""
        return self.charges[charge] - self.in_sr[charge]


def sizes(run: Run) -> tuple[Sizes, Events]:
    """The sizes of an analysis, and events that are like its own: its own where they are there."""
    counted = _counted(run)
    if counted is not None:
        return counted
    given, config = run.config.input, run.config
    charges = list(config.selection.charges) if config.input.table is None else _of_table(config)
    share = _sr_share(config)
    if given.simulation is not None:
        scale, how = given.simulation.scale, "input.simulation"
        known = {name: round(scale * n) for name, n in SIMULATED.items()}
        n_files, read = given.simulation.n_files, 0.0
    elif given.table is not None:
        rows = _rows_of_table(given.table.file)
        known = {"events": rows, "skimmed": rows, "rows": rows} | {name: rows // len(charges) for name in charges}
        n_files, read, how = 1, rows * ROW_BYTES / 1e6, "the size of the table"
    else:
        known, n_files, read = dict(PUBLISHED), PUBLISHED_FILES, PUBLISHED_MB
        how = "the published sample, which it is taken to be like"
    own = {charge: known.get(charge, known["rows"]) for charge in charges}
    in_sr = {charge: round(share * n) for charge, n in own.items()}
    found = Sizes(known["events"], known["skimmed"], known["rows"], own, in_sr, n_files, read, how)
    return found, like(config, max(own.values()))


def _counted(run: Run) -> tuple[Sizes, Events] | None:
    """From the table of dimuons, None where it is not there or not that of the configuration."""
    try:
        dimuons = Dimuons(run)
        events = {charge: dimuons.events(charge) for charge in dimuons.charges}
    except (UserError, AnalysisError, OSError) as error:
        log.debug("sizes are estimated: %s", error)
        return None
    own = {charge: len(each) for charge, each in events.items()}
    in_sr = {charge: int(run.config.window.in_sr(each.mass).sum()) for charge, each in events.items()}
    files = set(dimuons.paths.values())
    rows = sum(int(provenance.sidecar(path).get("rows") or 0) for path in files) or sum(own.values())
    n_events = skimmed = rows
    n_files, read = 1, sum(path.stat().st_size for path in files) / 1e6
    manifest = run.path(products.MANIFEST)
    if manifest.exists():
        done = provenance.load_json(manifest)["inputs"]
        n_files, read = len(done), sum(entry["size"] or 0 for entry in done) / 1e6
        n_events = sum(entry["events_read"] for entry in done)
        skimmed = sum(entry["events_two_muons"] for entry in done)
    largest = max(events.values(), key=len)
    return Sizes(n_events, skimmed, rows, own, in_sr, n_files, read, "its own dimuons"), largest


def _of_table(config: Config) -> list[str]:
    return [] if config.input.table is None else list(config.input.table.samples)


def _rows_of_table(file: str | None) -> int:
    path = Path(file) if file else None
    if path is not None and path.is_file():
        if path.suffix == ".csv":
            head = path.open("rb").read(200_000)
            return int(path.stat().st_size * max(1, head.count(b"\n")) / len(head))
        return path.stat().st_size // 40
    return 20_000  # a small file of the portal, not fetched yet


def _sr_share(config: Config) -> float:
    window = config.window
    return (window.sr_high - window.sr_low) / (window.sb_high - window.sb_low)


def like(config: Config, n: int) -> Events:
    """Events of the right number and features to measure speeds with: a falling mass, features of a long tail."""
    rng, window = Stream(config.seed).child("plan").generator(), config.window
    mass = window.sb_low + (window.sb_high - window.sb_low) * rng.beta(1.0, 1.5, n)
    names = tuple(config.features.names)
    features = np.exp(rng.normal(size=(n, len(names))))
    return Events(mass, features, np.ones(n), np.arange(n), names)
