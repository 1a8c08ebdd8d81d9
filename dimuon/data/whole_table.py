"""All columns of the events that were tested, also those that nothing was trained on, and the sampled background."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dimuon.arrays import IntArray
from dimuon.data import background_table, handed_in, scores, tables
from dimuon.data.dimuons import paths
from dimuon.data.samples import Sample
from dimuon.data.tables import Values
from dimuon.errors import UserError
from dimuon.workflow.provenance import Run, load_table

log = logging.getLogger("dimuon")


def read(run: Run, sample: Sample) -> pd.DataFrame:
    """The row of each event of a sample in its file, and all columns of it that can be read."""
    rows = sample.events.row
    if run.config.input.table is not None:
        return _handed_in(run, rows)
    given = run.config.input.scores
    path = Path(given) if given is not None else paths(run)[sample.test]
    if run.config.input.first_step == 1:
        return load_table(run.require(path)).iloc[rows].reset_index(drop=True).assign(row=rows)
    file = tables.Parquet(run.require(path))
    return _readable(path, file.names, lambda name: tables.as_kept(path, name, file.read(file.names[name])), rows)


def _handed_in(run: Run, rows: IntArray) -> pd.DataFrame:
    columns = handed_in.open_table(run)
    renamed = {formula for name, formula in columns.settings.columns.items() if formula != name}
    return _readable(columns.path, (name for name in columns.others() if name not in renamed), columns.values, rows)


def _readable(path: Path, names: Iterable[str], read: Callable[[str], Values], rows: IntArray) -> pd.DataFrame:
    """row, and the named columns in these rows that can be read and are complete; says which are not."""
    values = {"row": rows}
    for name in names:
        if name in values:
            continue
        try:
            own = read(name)[rows]
        except UserError as error:
            log.info("not among the columns that are compared: %s", error)
            continue
        if own.dtype.kind == "f" and (missing := ~np.isfinite(own)).any():
            where = f"{name} is missing in row {rows[np.argmax(missing)]} ({missing.sum()} such values)"
            log.info("not among the columns that are compared: %s: %s", path, where)
        else:
            values[name] = own
    return pd.DataFrame(values)


def sources(run: Run, sample: Sample) -> list[Path]:
    """The files that a sample and its sampled background are read from."""
    more = [scores.path(run, sample.train, "background"), background_table.path(run, sample.train)]
    return [*sample.sources, *(more if sample.sampled is not None else [])]


def with_background(run: Run, sample: Sample) -> Sample:
    """The sample with the background that was sampled in the SR for it and its scores, where it was scored.

    A cross-application has none: its classifier scored background for another sample.
    """
    path = scores.path(run, sample.train, "background")
    if sample.train != sample.test or run.config.input.scores is not None or not path.exists():
        return sample
    events = background_table.read(run, sample.train, run.config.features.names)
    score = scores.read(run, sample.train, "background", events.row)["score"].to_numpy(dtype=float)
    return replace(sample, sampled=(events, score))
