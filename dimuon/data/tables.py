"""Tables of events that a user hands in: CSV, parquet and flat ROOT trees, checked column by column on entry.

A column is asked for by its name in the analysis; where that comes from, a column of the file, a formula of its columns
or the momenta of two muons, is the section `input.table` of the configuration.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dimuon import kinematics
from dimuon.arrays import BoolArray, FloatArray
from dimuon.data import formulas
from dimuon.data.schema import EVENT
from dimuon.data.settings import Table
from dimuon.errors import UserError

log = logging.getLogger("dimuon")

Values = NDArray[Any]  # (n_rows,): numbers, or texts
MAX_TEXTS = 20  # different texts of a column that is used as a number; more are no kinds
COMMENT = "#"


class TableFile(Protocol):
    """A file with columns. names: {name in the analysis: name in the file}; units: {name: unit} where it gives them."""

    names: dict[str, str]
    units: dict[str, str]

    def read(self, column: str) -> pa.ChunkedArray:
        """A column by its name in the file; `UserError` where it cannot be read."""
        ...


class Parquet:
    """A parquet file."""

    def __init__(self, path: Path) -> None:
        self.path, self.units = path, dict[str, str]()
        try:
            self.file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path}: not a readable parquet file ({error})") from error
        self.names = _by_name(path, self.file.schema_arrow.names)

    def read(self, column: str) -> pa.ChunkedArray:
        """A column."""
        try:
            return self.file.read(columns=[column]).column(column)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise UserError(f"{self.path}: column {column} cannot be read ({error})") from error


def _by_name(path: Path, columns: Iterable[str]) -> dict[str, str]:
    """{name without blanks: column} of a file; `UserError` where two have one name."""
    names = dict[str, str]()
    for column in columns:
        if (name := column.strip()) in names:
            raise UserError(f"{path}: two columns are called {name!r}; rename one")
        names[name] = column
    return names


class Csv:
    """A text file with a header line, which comments may precede. Units may follow the names: "mass [GeV]"."""

    def __init__(self, path: Path, delimiter: str | None, decimal: str) -> None:
        self.path, self.decimal = path, decimal
        self.skipped, header = self._header()
        self.delimiter = delimiter or max(",;\t", key=header.count)
        if delimiter is None and header.count(self.delimiter) == 0 and len(header.split()) > 1:
            raise UserError(
                f"{path}: no comma, semicolon or tab in the header {header[:80]!r}; set input.table.delimiter"
            )
        self.names, self.units = dict[str, str](), dict[str, str]()
        for column in (name.strip('"') for name in header.rstrip("\r\n").split(self.delimiter)):
            found = re.fullmatch(r"\s*(.*?)\s*[\[(]([^\])]*)[\])]\s*", column)
            name, unit = (found[1], found[2]) if found and found[1] else (column.strip(), "")
            if name in self.names:
                raise UserError(f"{path}: two columns are called {name!r}; rename one")
            self.names[name] = column
            self.units |= {name: unit} if unit else {}
        self._table: pa.Table | None = None

    def read(self, column: str) -> pa.ChunkedArray:
        """A column; the file is read whole once, for the first."""
        if self._table is None:
            self._table = self._read()
        return self._table.column(list(self.names.values()).index(column))

    def _header(self) -> tuple[int, str]:
        """(lines before the header, the header)."""
        try:
            with open(self.path, encoding="utf-8-sig") as lines:
                for number, line in enumerate(lines):
                    if line.strip() and not line.lstrip().startswith(COMMENT):
                        return number, line
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.path}: not a readable text file ({error})") from error
        raise UserError(f"{self.path}: no header line in it")

    def _read(self) -> pa.Table:
        ragged: list[Any] = []

        def refuse(row: Any) -> str:
            ragged.append(row)
            return "error"

        def read(threads: bool) -> pa.Table:
            return pyarrow.csv.read_csv(
                self.path,
                pyarrow.csv.ReadOptions(skip_rows=self.skipped, use_threads=threads),
                pyarrow.csv.ParseOptions(delimiter=self.delimiter, invalid_row_handler=refuse),
                pyarrow.csv.ConvertOptions(decimal_point=self.decimal, strings_can_be_null=True),
            )

        try:
            return read(threads=True)
        except (OSError, pa.ArrowException) as error:
            with suppress(pa.ArrowException):
                read(threads=False)  # one thread alone knows the number of the line
            if ragged:
                row = ragged[-1]
                due = f"{row.actual_columns} values where {row.expected_columns} are due"
                raise UserError(f"{self.path}: line {row.number} has {due}; mend it") from error
            raise UserError(f"{self.path}: {error}; is input.table.delimiter right?") from error


class Root:
    """A tree of flat branches in a ROOT file."""

    def __init__(self, path: Path, tree: str | None) -> None:
        import uproot  # it and what reads NanoAOD take long to import: a plan, a CSV need neither

        from dimuon.data.sources import READ_ERRORS, reason

        self.path, self.units = path, dict[str, str]()
        try:
            file = uproot.open(path)
            trees = file.keys(recursive=True, cycle=False, filter_classname=["TTree", "*RNTuple*"])
            name = tree or (trees[0] if len(set(trees)) == 1 else None)
            if name is None or name not in trees:
                what = f"no tree {tree}" if tree else "not exactly one tree"
                raise UserError(f"{path}: {what} in it; set input.table.tree, found {', '.join(trees) or 'none'}")
            self.tree = file[name]
            self.names = {key: key for key in self.tree.keys(recursive=False)}
        except READ_ERRORS as error:
            raise UserError(f"{path}: not a readable ROOT file ({reason(error)})") from error

    def read(self, column: str) -> pa.ChunkedArray:
        """A branch."""
        from dimuon.data.sources import READ_ERRORS, reason

        try:
            values = self.tree[column].array(library="np")
        except READ_ERRORS as error:
            raise UserError(f"{self.path}: branch {column} cannot be read ({reason(error)})") from error
        if values.dtype == object and len(values) and not isinstance(values[0], str):
            raise UserError(f"{self.path}: branch {column} has several values an event; one is needed")
        return pa.chunked_array([pa.array(values)])


def opened(path: Path, settings: Table) -> TableFile:
    """The file at a path by the ending of its name; `UserError` for one that is not known or cannot be read."""
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return Parquet(path)
    if suffix in (".csv", ".tsv", ".txt", ".dat"):
        return Csv(path, settings.delimiter, settings.decimal)
    if suffix == ".root":
        return Root(path, settings.tree)
    raise UserError(f"{path}: {suffix or 'no ending'}: a table is a .csv, .txt, .parquet or .root file")


def numbers(path: Path | str, name: str, column: pa.ChunkedArray) -> Values:
    """A column as numbers in double precision, or as texts where it holds no numbers: (n_rows,).

    Truth values are 0 and 1; decimals, dictionaries and nullable columns are what they stand for, a missing number is
    NaN. Raises `UserError` for a missing text and for lists and other things that are no single value.
    """
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    kind = column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    if is_text and column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise UserError(f"{path}: {name} is missing in row {row} ({column.null_count} such values); mend the table")
    if is_text:
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=str)
    if pa.types.is_boolean(kind):
        column = pc.cast(column, pa.int8())
        kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        if pa.types.is_float16(kind):
            return np.asarray(column.to_numpy(), dtype=float)
        return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(), dtype=float)
    raise UserError(f"{path}: {name} holds {kind}, where one number for each event is needed")


def checked(path: Path, names: Iterable[str]) -> pd.DataFrame:
    """Columns of a parquet table that was handed in, by row, whatever kinds of numbers and words they are kept as.

    charge is "OS" and "SS", anti_isolated true and false, all others are numbers.
    """
    file, columns = Parquet(path), dict[str, Values]()
    for name in names:
        if name not in file.names:
            raise UserError(f"{path}: column {name} is missing; found {_listed(file.names)}")
        column = file.read(file.names[name])
        if name == "charge":
            columns[name] = charges(path, column)
        elif name == "anti_isolated":
            columns[name] = truths(path, name, column)
        else:
            columns[name] = numbers(path, name, column)
            if columns[name].dtype.kind in "US":
                raise UserError(f"{path}: {name} is text, {str(columns[name][0])!r} in row 0; numbers are needed")
    return pd.DataFrame(columns)


def as_kept(path: Path | str, name: str, column: pa.ChunkedArray) -> Values:
    """(n_rows,) a column to be shown: integers and truth values stay what they are, all else is as `numbers` says.

    Raises `UserError` for run, section and event numbers kept as reals that no longer tell events apart.
    """
    if (pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)) and not column.null_count:
        return np.asarray(column.to_numpy())
    if name in EVENT and pa.types.is_floating(column.type):
        require_exact(column.to_numpy(), name, path)
    return numbers(path, name, column)


def require_exact(values: Values, column: str, name: Path | str) -> None:
    """`UserError` where numbers of events are kept as reals beyond what tells whole numbers apart: 2^24 or 2^53.

    values: (n_events,). name: how messages call the file.
    """
    if values.dtype.kind != "f" or not len(values):
        return
    largest, exact = np.abs(values).max(), 2 / np.finfo(values.dtype).eps
    if not largest <= exact:
        raise UserError(
            f"{name}: {column} is kept as {values.dtype}, exact up to {exact:.0f}, and holds {largest:.0f}: events "
            "would be taken for one another; keep it as an integer"
        )


CHARGES = {"os": "OS", "ss": "SS", "-1": "OS", "0": "OS", "1": "SS", "2": "SS", "-2": "SS"}  # product or sum of both
TRUTHS = {"true": True, "false": False, "1": True, "0": False}


def charges(path: Path | str, column: pa.ChunkedArray) -> Values:
    """ "OS" and "SS" of a column charge: texts in any case, or the product or the sum of both muons' charges."""
    return _translated(path, "charge", column, CHARGES, '"OS" and "SS", or the product or sum of both charges')


def truths(path: Path | str, name: str, column: pa.ChunkedArray) -> BoolArray:
    """A column of truth values: booleans, 0 and 1, or texts."""
    return _translated(path, name, column, TRUTHS, "true and false, or 1 and 0").astype(bool)


def _translated(
    path: Path | str, name: str, column: pa.ChunkedArray, words: Mapping[str, Any], expected: str
) -> Values:
    values = numbers(path, name, column)
    kinds, index = np.unique(values, return_inverse=True)
    kinds, index = _without_missing(path, name, kinds, index)
    keys = [f"{kind:g}" if values.dtype.kind == "f" else str(kind).strip().lower() for kind in kinds]
    for kind, key in zip(kinds, keys, strict=True):
        if key not in words:
            row = int(np.argmax(values == kind))
            raise UserError(f"{path}: {name} is {str(kind)!r} in row {row}; known are {expected}")
    return np.array([words[key] for key in keys])[index]


def _without_missing(path: Path | str, name: str, kinds: Values, index: Values) -> tuple[Values, Values]:
    if kinds.dtype.kind == "f" and np.isnan(kinds).any():
        row = int(np.argmax(np.isnan(kinds)[index]))
        raise UserError(f"{path}: {name} is missing in row {row}; mend the table")
    return kinds, index


class TableColumns:
    """The columns of an analysis from a table: of the file, of formulas, of the two muons. Each is read once.

    Raises `UserError` for what is missing, not a number, or cannot be computed.
    """

    def __init__(self, path: Path, settings: Table) -> None:
        self.path, self.settings = path, settings
        self.file = opened(path, settings)
        self._known: dict[str, Values] = {}
        self._of_muons: dict[str, FloatArray] | None = None

    @property
    def mass(self) -> FloatArray:
        """(n_rows,) the mass."""
        if self.settings.mass is None:
            return self.number("dimu_mass")
        return self._number(self.settings.mass, self._of(self.settings.mass))

    def number(self, name: str) -> FloatArray:
        """(n_rows,) a column as numbers; the kinds of a text are numbered in their alphabetical order."""
        return self._number(name, self._column(name))

    def values(self, name: str) -> Values:
        """(n_rows,) a column as it is, numbers or texts."""
        source = self.settings.columns.get(name, name)
        if name in EVENT and source in self.file.names:
            return as_kept(self.path, name, self.file.read(self.file.names[source]))
        return self._column(name)

    def sample(self, name: str) -> BoolArray:
        """(n_rows,) which events are of a sample."""
        if self.settings.split is None:
            return np.ones(len(self.mass), dtype=bool)
        values = self._of(self.settings.split[name])
        if values.dtype != bool and not np.isin(values, (0, 1)).all():
            raise UserError(f"{self.path}: input.table.split.{name} must be true or false for every event")
        return values.astype(bool)

    def weight(self) -> FloatArray | None:
        """(n_rows,) how many events each row stands for, None where each is one."""
        formula = self.settings.weight
        return None if formula is None else self._number(formula, self._of(formula))

    def others(self) -> Iterator[str]:
        """The names of all columns that it has, of the analysis and of the file."""
        computed = self._muons() if self.settings.muons is not None else {}
        yield from dict.fromkeys([*self.settings.columns, *computed, *self.file.names])

    def _column(self, name: str, within: tuple[str, ...] = ()) -> Values:
        """A column by its name in the analysis. within: the columns that are being computed from it."""
        if name in self._known:
            return self._known[name]
        if name in self.settings.columns and name not in within:
            values = self._of(self.settings.columns[name], (*within, name))
        elif self.settings.muons is not None and not within and name in self._muons():
            values = self._muons()[name]
        elif name in self.file.names:
            values = numbers(self.path, name, self.file.read(self.file.names[name]))
        else:
            raise UserError(f"{self.path}: column {name} is missing; found {_listed(self.file.names)}")
        if not within:
            self._known[name] = values
        return values

    def _of(self, formula: str, within: tuple[str, ...] = ()) -> Values:
        """The values of a column of the file, or of a formula."""
        if formula in self.file.names and formula not in self.settings.columns:
            return self._column(formula, within)
        if formula in self.file.names and within == (formula,):
            return numbers(self.path, formula, self.file.read(self.file.names[formula]))
        try:
            return formulas.evaluate(formula, {name: self._column(name, within) for name in formulas.names_in(formula)})
        except ValueError as error:
            raise UserError(f"{self.path}: {error}; columns are {_listed(self.file.names)}") from error

    def _number(self, name: str, values: Values) -> FloatArray:
        if values.dtype.kind not in "US":
            return values.astype(float, copy=False)
        kinds, codes = np.unique(values, return_inverse=True)
        if len(kinds) > MAX_TEXTS or name == self.settings.mass:
            commas = " (decimal commas? set input.table.decimal)" if re.match(r"^-?\d+,\d+$", str(values[0])) else ""
            raise UserError(f"{self.path}: {name} is text, {str(values[0])!r} in row 0; numbers are needed{commas}")
        log.info("%s: %s is text, numbered: %s", self.path, name, ", ".join(f"{i} {k}" for i, k in enumerate(kinds)))
        return codes.astype(float)

    def _muons(self) -> dict[str, FloatArray]:
        """The columns of the dimuon and of both muons, the harder first."""
        if self._of_muons is None:
            muons = [
                {key: self._number(key, self._of(formula, (f"muon {key}",))) for key, formula in muon.items()}
                for muon in self.settings.muons or ()
            ]
            self._of_muons = kinematics.of_two_muons(*muons)
        return self._of_muons


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:30]) + (f" and {len(every) - 30} more" if len(every) > 30 else "")
