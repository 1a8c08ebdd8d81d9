"""`input.table`: where its file lies, fetched where it must be, and which of its events are analysed."""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from dimuon.arrays import BoolArray, IntArray
from dimuon.data.addresses import digest_of, is_remote
from dimuon.data.finite import require_finite
from dimuon.data.settings import Table
from dimuon.data.tables import TableColumns
from dimuon.errors import UserError
from dimuon.random import Stream
from dimuon.workflow.config import Config
from dimuon.workflow.provenance import Run

log = logging.getLogger("dimuon")

REMEDY = "mend the table, or leave such events out by input.table.cuts"
FETCHED = Path("data", "_fetched")  # files from elsewhere, shared by all analyses; no analysis can have this name


def path(run: Run) -> Path:
    """Where the file lies, or will once it is fetched."""
    table = _table(run.config)
    if table.record is not None:
        return FETCHED / f"record_{table.record}" / _file_name(table)
    if is_remote(str(table.file)):
        return FETCHED / digest_of(str(table.file)) / _file_name(table)
    return Path(str(table.file))


def open_table(run: Run) -> TableColumns:
    """The columns of the table, after fetching its file where that must be: opened once in a step, read once.

    `UserError` where it cannot be had.
    """
    table, place = _table(run.config), path(run)
    if place not in run.tables:
        if place.is_relative_to(FETCHED):
            _fetch(run, table, place)
        run.tables[place] = TableColumns(run.require(place), table)
    columns: TableColumns = run.tables[place]
    return columns


def chosen(columns: TableColumns, config: Config, sample: str, names: Sequence[str]) -> pd.DataFrame:
    """The events of a sample inside the window that pass the cuts, by their row in the file.

    names: of the columns wanted, the mass among them. Raises `UserError` for a value that is not finite where it
    counts, and for a feature that is the mass.
    """
    from dimuon.data import selection  # it reads NanoAOD, too, which a plan need not

    table, window, path = _table(config), config.window, columns.path
    mass = columns.mass
    require_finite(path, {config.mass_axis.column: mass}, np.arange(len(mass)), REMEDY)
    inside = window.in_window(mass)
    rows = np.flatnonzero(inside & columns.sample(sample))
    rows = rows[_drawn(columns, config, rows)]
    for column, cut in table.cuts.items():
        passing = selection.passes(columns.number(column)[rows], cut)
        log.debug("%s: %s keeps %d of %d", path, selection.name_of(column, cut), passing.sum(), len(rows))
        rows = rows[passing]
    frame = {config.mass_axis.column: mass[rows]}
    for name in names:
        if name not in frame:
            values = columns.number(name)[rows]
            require_finite(path, {name: values}, rows, REMEDY)
            if name in config.features.names and len(rows) > 1 and np.array_equal(values, mass[rows]):
                raise UserError(f"{path}: the feature {name} is the mass itself; leave it out of features.set")
            frame[name] = values
    return pd.DataFrame(frame, index=rows)


def _drawn(columns: TableColumns, config: Config, rows: IntArray) -> BoolArray:
    """(n,) True for the rows that are drawn: those of a weighted table with their weight as probability, else all.

    The events drawn have unit weight, and every density of theirs is the weighted one. Each row of the file has its own
    random number, so the same are drawn whatever is asked for.
    """
    weight = columns.weight()
    if weight is None:
        return np.ones(len(rows), dtype=bool)
    given, name = weight[rows], f"{columns.path}: input.table.weight ({_table(config).weight})"
    wrong = ~((given >= 0) & (given <= 1))  # what is missing, too
    if wrong.any():
        remedy = "divide by the largest weight in its formula" if np.nanmax(given) > 1 else "leave such events out"
        raise UserError(
            f"{name} is {given[wrong][0]:g} in row {rows[wrong][0]} ({wrong.sum()} such values); a row stands for 0 to "
            f"1 events, so that it can be drawn with this probability; {remedy}"
        )
    drawn: BoolArray = Stream(config.seed).child("input.table", "weight").generator().random(len(weight))[rows] < given
    log.debug(
        "%s: %d of %d rows are drawn by their weights, whose sum is %g", name, drawn.sum(), len(rows), given.sum()
    )
    return drawn


def _table(config: Config) -> Table:
    if config.input.table is None:
        raise ValueError("the configuration has no input.table")
    return config.input.table


def _file_name(table: Table) -> str:
    """The last part of the file's name, which becomes part of a path: nothing that leads elsewhere."""
    name = PurePosixPath(str(table.file).partition("?")[0]).name
    if name in ("", ".", ".."):
        raise UserError(f"input.table.file: {table.file!r} names no file")
    return name


def _fetch(run: Run, table: Table, place: Path) -> None:
    from dimuon.data import portal, sources

    settings, name = run.config.execution, _file_name(table)
    if table.record is not None:
        cache = place.parent / "record.json"
        record = portal.Record(table.record, run.config.input.portal, cache, settings.attempts, settings.timeout)
        source = portal.named(record, name)
    else:
        source = sources.Source(name, (str(table.file),))
    if place.exists() and portal.agrees(source, place):
        return
    try:
        portal.fetch(source, place, settings.attempts, settings.timeout)
    except sources.ReadFailed as error:
        raise UserError(f"input.table.file: {error}") from error
    log.info("%s: %s bytes fetched from %s", place, f"{place.stat().st_size:,}", source.address)
