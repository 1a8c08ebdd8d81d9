"""The skim: every input file to one parquet file, in parallel, resumable, with a manifest of what was read.

The manifest holds one entry per input: where it came from, what was read and kept, what was missing, its status. It
is rewritten after every file; the sidecars, without which no later step accepts the skim, are written only when every
input is done.
"""

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dimuon import kinematics
from dimuon.arrays import BoolArray, IntArray
from dimuon.data import luminosity, nanoaod, portal, sources
from dimuon.data.manifest_entry import EventCounts, ManifestEntry, Skimmed
from dimuon.errors import UserError
from dimuon.progress import Progress, follow
from dimuon.workflow.provenance import atomic, file_hash

if TYPE_CHECKING:
    from dimuon.data.manifest import Manifest

log = logging.getLogger("dimuon")

WORKER_MODULES = [__name__, "vector"]  # for the workers to import once, before they start: those that take long

T = TypeVar("T")

# the textbook spectrum: bins of 1 % of the mass
SPECTRUM_EDGES = np.geomspace(0.25, 200.0, 673)  # GeV
ROWS_PER_BATCH = 200_000
SPECTRUM_KEY = b"dimuon_spectrum"


@dataclass(frozen=True)
class Task:
    """What a worker needs to skim one input. mask: `LuminosityMask`, or None to keep every luminosity section."""

    source: sources.Source
    output: Path
    muon_id: str
    triggers: tuple[str, ...]
    mask: luminosity.LuminosityMask | None
    attempts: int
    timeout: float
    download: bool

    @property
    def tries(self) -> int:
        """Attempts at this input: a local file is read once, since its faults do not pass."""
        return self.attempts if self.source.is_remote else 1


def survey(task: Task) -> nanoaod.Layout:
    """What an input holds. Raises `UserError` (not NanoAOD) or `sources.ReadFailed`."""

    def look(attempt: int) -> nanoaod.Layout:
        with sources.opened(task.source, task.timeout, attempt) as events:
            layout: nanoaod.Layout = task.source.reader.layout(events, task.muon_id, task.triggers, task.source.address)
            return layout

    return sources.retry(look, task.source, task.tries)


def skim(task: Task, layout: nanoaod.Layout) -> ManifestEntry:
    """Skim one input into the parquet file `task.output`; returns its manifest entry.

    Raises `sources.ReadFailed`, also where the output cannot be written.
    """
    start = time.perf_counter()
    with _readable(task) as (source, checksum_verified), _written(task) as temporary:
        counts, seen, certified = _write_pairs(source, task, layout, temporary)
    skimmed = Skimmed(
        checksum_verified=checksum_verified,
        output=task.output.name,
        sha256=file_hash(task.output),
        counts=counts,
        sections_seen=len(seen),
        sections_certified=len(certified),
        certified=luminosity.as_sections(certified),
        lost=luminosity.as_sections(np.setdiff1d(seen, certified)),
        missing_branches=list(layout.missing),
        simulated=layout.simulated,
        seconds=round(time.perf_counter() - start, 3),
    )
    return ManifestEntry.of(task.source, skimmed)


def _write_pairs(
    source: sources.Source, task: Task, layout: nanoaod.Layout, path: Path
) -> tuple[EventCounts, luminosity.Keys, luminosity.Keys]:
    """Write the muon pairs of a source; returns the counts and the luminosity sections, those seen and those certified.

    Range by range: memory does not grow with the file.
    """
    counts, spectrum = EventCounts(entries=layout.entries), np.zeros((2, len(SPECTRUM_EDGES) - 1), dtype=int)
    seen = certified = np.zeros(0, np.uint64)
    with _writer(path, nanoaod.schema(task.triggers)) as writer:
        for arrays in sources.stream(source, layout.present, task.tries, task.timeout):
            nanoaod.require_sound(arrays, task.muon_id, task.source.address)
            keys, good = _certified(arrays, task)
            pairs = nanoaod.muon_pairs(arrays, task.muon_id, task.triggers, good)
            writer.write_batch(pairs)
            seen = np.union1d(seen, keys)
            certified = np.union1d(certified, keys[good[: len(keys)]])
            opposite = kinematics.is_opposite_sign(pairs["mu0_charge"], pairs["mu1_charge"])
            spectrum += spectrum_of(pairs, opposite)
            os = int(opposite.sum())
            counts += EventCounts(0, len(good), int(good.sum()), len(pairs), os, len(pairs) - os)
        writer.add_key_value_metadata({SPECTRUM_KEY: json.dumps(spectrum.tolist())})
    return counts, seen, certified


@contextmanager
def _written(task: Task) -> Iterator[Path]:
    """`provenance.atomic`; where the disk is full, or fails, the input has failed and the others go on."""
    try:
        with atomic(task.output) as temporary:
            yield temporary
    except OSError as error:
        raise sources.ReadFailed(f"{task.source.address}: {task.output}: {sources.reason(error)}") from error


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A parquet writer with encodings for what the columns hold: half the time of the defaults, and smaller files."""
    reals = [field.name for field in schema if pa.types.is_floating(field.type)]
    few_values = [name for name in schema.names if name not in (*reals, "event")]
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=few_values, use_byte_stream_split=reals)


@contextmanager
def _readable(task: Task) -> Iterator[tuple[sources.Source, bool]]:
    """(source to read, whether its checksum was verified): fetched whole first where that is asked for."""
    source = task.source
    if not (task.download and source.is_remote):
        yield source, sources.retry(lambda attempt: sources.verify(source, task.timeout), source, task.tries)
        return
    copy = task.output.with_name(f".{source.name}.root")
    try:
        portal.fetch(source, copy, task.attempts, task.timeout)
        yield replace(source, addresses=(str(copy),)), source.adler32 is not None
    finally:
        copy.unlink(missing_ok=True)


def _certified(arrays: nanoaod.Arrays, task: Task) -> tuple[luminosity.Keys, BoolArray]:
    """(section keys, mask of the certified events); no keys where the input has no run and section numbers."""
    if "run" in arrays and "luminosityBlock" in arrays:
        keys = luminosity.section_key(np.asarray(arrays["run"]), np.asarray(arrays["luminosityBlock"]))
        return keys, np.ones(len(keys), bool) if task.mask is None else task.mask.certified_keys(keys)
    if task.mask is not None:
        raise UserError(
            f"{task.source.address}: no run and section numbers, so no certified luminosity can be asked for; "
            "leave out input.certified_luminosity (simulations have none, the published skim is certified)"
        )
    return np.zeros(0, np.uint64), np.ones(len(arrays["Muon_pt"]), bool)


def spectrum_of(pairs: Any, opposite: BoolArray) -> IntArray:
    """(2, n_bins) histogram of the dimuon mass in `SPECTRUM_EDGES`, OS and SS.

    pairs: RecordBatch of `nanoaod.schema`. opposite: (n_events,) True where the charges are.
    """
    mass = kinematics.mass_of_pairs(pairs)
    return np.stack([np.histogram(mass[chosen], SPECTRUM_EDGES)[0] for chosen in (opposite, ~opposite)])


def read_spectrum(path: Path) -> IntArray:
    """(2, n_bins) OS and SS mass histogram in `SPECTRUM_EDGES` that a skim file carries."""
    return np.array(json.loads(pq.read_metadata(path).metadata[SPECTRUM_KEY]))


def survey_all(pool: Executor, tasks: Sequence[Task], manifest: "Manifest") -> dict[str, nanoaod.Layout]:
    """{input name: layout} of the inputs that can be opened; the others are entered in the manifest as failed.

    Raises `UserError` where every input is no NanoAOD or lacks a needed branch, and for the first trigger that none of
    the inputs has that can be read. Nothing is written before every input has been looked at.
    """
    layouts, failures = {}, []
    calls = [(survey, task) for task in tasks]
    for task, layout in _each(pool, tasks, calls, (sources.ReadFailed, UserError), "survey"):
        if isinstance(layout, Exception):
            failures.append((task, layout))
        else:
            layouts[task.source.name] = layout
    refused = [error for _, error in failures if isinstance(error, UserError)]
    if refused and len(refused) == len(tasks) and not manifest.done():
        raise refused[0]  # one for all: the mistake is in the configuration rather than in the files
    for task, error in failures:
        manifest.add(ManifestEntry.of(task.source, error=str(error)))
    _require_trigger(tasks, layouts, manifest)
    return layouts


def skim_all(
    pool: Executor, tasks: Sequence[Task], layouts: Mapping[str, nanoaod.Layout], manifest: "Manifest"
) -> None:
    """Skim every input that has a layout, entering each in the manifest as soon as it is done or has failed."""
    tasks = [task for task in tasks if task.source.name in layouts]
    calls = [(skim, task, layouts[task.source.name]) for task in tasks]
    n_events = sum(layouts[task.source.name].entries for task in tasks)
    with Progress("skim", n_events, "events") as progress:
        for task, entry in _each(pool, tasks, calls, (sources.ReadFailed, UserError)):
            if isinstance(entry, Exception):
                entry = ManifestEntry.of(task.source, error=str(entry))
            manifest.add(entry)
            progress.step(layouts[task.source.name].entries)


def batches(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Yield {column: (n_events,) array} of the skim files, one after the other, a row group at a time.

    A trigger flag that is not known is False, a real number NaN, a run, section or event number 0.
    """
    for path in paths:
        with pq.ParquetFile(path) as file:
            n_batches = -(-file.metadata.num_rows // ROWS_PER_BATCH)
            for batch in follow(file.iter_batches(ROWS_PER_BATCH), Path(path).stem, "batches", n_batches):
                yield {name: _known(batch.column(name)) for name in batch.schema.names}


def _known(column: pa.Array) -> Any:
    """(n_events,) the column with what stands for its nulls."""
    if column.null_count:
        column = column.fill_null(np.nan if pa.types.is_floating(column.type) else pa.scalar(0).cast(column.type))
    return column.to_numpy(zero_copy_only=False)


def spectrum_table(paths: Sequence[Path]) -> pd.DataFrame:
    """The inclusive dimuon mass spectrum of all skim files: one row per bin, a column of counts per charge."""
    os, ss = np.sum([read_spectrum(path) for path in paths], axis=0)
    return pd.DataFrame({"bin_low": SPECTRUM_EDGES[:-1], "bin_high": SPECTRUM_EDGES[1:], "n_os": os, "n_ss": ss})


def _each(
    pool: Executor,
    tasks: Sequence[Task],
    calls: Sequence[tuple[Any, ...]],
    failures: tuple[type[Exception], ...],
    progress: str | None = None,
) -> Iterator[tuple[Task, Any]]:
    """Yield (task, result) as they are finished; exceptions of the kind `failures` are results, any other is raised.

    calls: (function, argument ...), one for each task. progress: what a progress bar counts (None: no bar). Where a
    worker process is killed, all that was still to be done has failed.
    """
    futures = {_submit(pool, call): task for call, task in zip(calls, tasks, strict=True)}
    try:
        finished = as_completed(futures)
        for future in finished if progress is None else follow(finished, progress, "inputs", len(futures)):
            task = futures[future]
            try:
                result = future.result()
            except failures as error:
                result = error
            except BrokenExecutor:
                reason = "a worker process was killed, out of memory perhaps: lower execution.workers"
                result = sources.ReadFailed(f"{task.source.address}: {reason}")
            yield task, result
    finally:
        for future in futures:
            future.cancel()


def _submit(pool: Executor, call: tuple[Any, ...]) -> "Future[Any]":
    try:
        return pool.submit(*call)
    except BrokenExecutor as error:  # a worker was killed before
        future: Future[Any] = Future()
        future.set_exception(error)
        return future


def _require_trigger(tasks: Sequence[Task], layouts: Mapping[str, nanoaod.Layout], manifest: "Manifest") -> None:
    missing = {name: entry.skimmed.missing_branches for name, entry in manifest.entries.items() if entry.skimmed}
    missing |= {name: list(layout.missing) for name, layout in layouts.items()}
    for trigger in tasks[0].triggers if layouts else ():
        if all(trigger in branches for branches in missing.values()):
            known = set[str]().union(*(layout.all_triggers for layout in layouts.values()))
            nearest = nanoaod.nearest(trigger, sorted(known))
            raise UserError(f"trigger {trigger}: no input that can be read has it{nearest}")
