"""A folder of exported files: each written whole or not at all, and a manifest that says what is in them."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dimuon import columns
from dimuon.columns import Column
from dimuon.errors import UserError
from dimuon.exports.layout import HEADERS
from dimuon.records import Record
from dimuon.workflow import provenance

log = logging.getLogger("dimuon")

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ColumnEntry(Record):
    """A column of an exported table."""

    name: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class FileEntry(Record):
    """An exported file. file: its path in the folder. rows, columns: of a table. sources: {path: SHA-256}."""

    file: str
    meaning: str
    sha256: str
    sources: dict[str, str]
    rows: int | None = None
    columns: tuple[ColumnEntry, ...] = ()


@dataclass(eq=False)
class Folder:
    """Files as they are exported. absent: {what: why} of what could not be."""

    place: Path
    entries: list[FileEntry] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def require_writable(self) -> None:
        """`UserError` where nothing can be written there."""
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            allowed = os.access(self.place, os.W_OK | os.X_OK)
        except OSError as error:
            raise UserError(f"{self.place}: cannot be written ({error.strerror}); choose another folder") from error
        if not allowed:
            raise UserError(f"{self.place}: cannot be written (no permission); choose another folder")

    def write(
        self,
        file: str,
        content: bytes,
        meaning: str,
        sources: Iterable[Path],
        described: Sequence[ColumnEntry] = (),
        rows: int | None = None,
    ) -> None:
        """Write a file and enter it. sources: what its numbers are from. described, rows: of a table."""
        with provenance.atomic(self.place / file) as temporary:
            temporary.write_bytes(content)
        hashes = {str(path): provenance.file_hash(path) for path in sources}
        digest = hashlib.sha256(content).hexdigest()
        self.entries.append(FileEntry(file, meaning, digest, hashes, rows, tuple(described)))

    def write_table(
        self, stem: str, frame: pd.DataFrame, meaning: str, sources: Sequence[Path], own: Mapping[str, Column]
    ) -> None:
        """Write a table as `<stem>.csv` and `<stem>.json`. own: columns that `dimuon.columns` does not know, or not as
        they are here."""
        described = describe(frame, own)
        csv = frame.to_csv(index=False, lineterminator="\n").encode()
        content = {
            "meaning": meaning,
            "columns": [entry.to_json() | {"values": plain(frame[entry.name])} for entry in described],
        }
        for suffix, written in (("csv", csv), ("json", as_json(content))):
            self.write(f"{stem}.{suffix}", written, meaning, sources, described, len(frame))

    def finish(self, run: provenance.Run, about: Mapping[str, Any], sources: Iterable[Path]) -> Path:
        """Write the manifest, and remove what an earlier one names and this one does not; the manifest's path.

        about: what is to be said of all files. sources: of all of them.
        """
        path = self.place / MANIFEST
        earlier = provenance.load_json(path)["files"] if path.exists() else []
        written = {entry.file for entry in self.entries}
        for entry in earlier:
            if entry["file"] not in written:
                (self.place / entry["file"]).unlink(missing_ok=True)
        files = [entry.to_json() for entry in self.entries]
        return run.write_json(path, {**about, "files": files, "not_written": self.absent}, list(sources))


def describe(frame: pd.DataFrame, own: Mapping[str, Column]) -> list[ColumnEntry]:
    """Unit and meaning of each column. own: see `Folder.write_table`."""
    names = map(str, frame.columns)
    known = {name: own.get(name) or columns.find(name) or Column("", HEADERS.get(name, name)) for name in names}
    return [ColumnEntry(name, column.unit, column.meaning) for name, column in known.items()]


def plain(values: "pd.Series[Any]") -> list[Any]:
    """The values of a column as JSON knows them: null for what is missing or not finite."""
    items = [value.item() if isinstance(value, np.generic) else value for value in values]
    return [None if pd.isna(item) or item in (np.inf, -np.inf) else item for item in items]


def as_json(content: Any) -> bytes:
    """JSON that says the same in the same bytes."""
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
