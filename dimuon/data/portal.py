"""The CERN Open Data portal: the files of a record with their sizes and checksums, and fetching them whole."""

import json
import logging
import math
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
import requests
from cernopendata_client import searcher

from dimuon.data import sources
from dimuon.errors import UserError
from dimuon.workflow.provenance import atomic, load_json

log = logging.getLogger("dimuon")

BLOCK = 1 << 20
ARRIVING = 1 << 16  # of what a broken connection has begun to send, this much may be lost


@dataclass(frozen=True)
class Record:
    """A record of a portal.

    portal: its address. cache: JSON file that keeps the portal's answer, so that it is asked once. attempts: tries for
    each request. timeout: seconds.
    """

    number: int
    portal: str
    cache: Path
    attempts: int
    timeout: float


def files(record: Record) -> list[sources.Source]:
    """Every file of a record, in the portal's order."""
    listed = load_json(record.cache) if record.cache.exists() else {}
    if (listed.get("record"), listed.get("portal")) != (record.number, record.portal):
        listed = {"record": record.number, "portal": record.portal, "files": _ask(record)}
        with atomic(record.cache) as temporary:
            temporary.write_text(json.dumps(listed, indent=1) + "\n")
        log.info("record %d of %s: %d files", record.number, record.portal, len(listed["files"]))
    named = sources.names(entry["address"] for entry in listed["files"])
    return [
        sources.Source(
            named[entry["address"]],
            sources.both_ways(entry["address"], record.portal),
            entry["size"],
            entry["checksum"] or None,
        )
        for entry in listed["files"]
    ]


def root_files(record: Record) -> list[sources.Source]:
    """The ROOT files of a record. `UserError` where it has none."""
    of_root = [source for source in files(record) if source.address.endswith(".root")]
    if not of_root:
        raise UserError(f"input.record: record {record.number} holds no ROOT file; is it a NanoAOD data set?")
    return of_root


def certified_luminosity(record: Record, path: Path) -> Path:
    """The CMS JSON file of a record, fetched to `path` unless it is there already."""
    listed = [source for source in files(record) if source.address.endswith((".json", "JSON.txt"))]
    if len(listed) != 1:
        found = ", ".join(source.address for source in listed) or "none"
        raise UserError(
            f"input.certified_luminosity: record {record.number} must hold one CMS JSON file, found {found}"
        )
    if not (path.exists() and adler32(path) == listed[0].checksum):
        try:
            fetch(listed[0], path, record.attempts, record.timeout)
        except sources.ReadFailed as error:
            raise UserError(f"input.certified_luminosity: {error}") from error
    return path


def named(record: Record, name: str) -> sources.Source:
    """The file of that name of a record, over https where that can be. `UserError` names those that the record has."""
    every = {source.address.rpartition("/")[2]: source for source in files(record)}
    if name not in every:
        shown = ", ".join(list(every)[:20]) or "none"
        raise UserError(f"input.table.file: record {record.number} has no file {name}; its files are {shown}")
    whole = every[name]
    return replace(whole, addresses=tuple(sorted(whole.addresses, key=lambda address: address.startswith("root://"))))


def agrees(source: sources.Source, path: Path) -> bool:
    """Whether a file is what a source should be, as far as its size and checksum are known."""
    if source.size not in (None, path.stat().st_size):
        return False
    return source.adler32 is None or adler32(path) == source.adler32


def fetch(source: sources.Source, path: Path, attempts: int, timeout: float) -> None:
    """Copy a source to `path`, whole, with the size and adler32 that the portal gives; `sources.ReadFailed` if not.

    What an interrupted copy has reached is kept beside it where there is a checksum that tells whether the rest fits.
    """
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)

    def copy(attempt: int) -> None:
        if source.adler32 is None or (source.size is not None and partial.exists() and _size(partial) > source.size):
            partial.unlink(missing_ok=True)
        address = source.addresses[(attempt - 1) % len(source.addresses)]
        if not partial.exists() or source.size is None or _size(partial) < source.size:
            _append(address, partial, timeout)
        if source.size not in (None, _size(partial)):
            raise OSError(f"{address}: {_size(partial):,} bytes where {source.size:,} are due")
        if source.adler32 and (found := adler32(partial)) != source.adler32:
            partial.unlink()
            raise OSError(f"{address}: checksum {found} where {source.adler32} is due")
        os.replace(partial, path)

    sources.retry(copy, source, attempts)


def _size(path: Path) -> int:
    return path.stat().st_size


def adler32(path: Path) -> str:
    """The checksum of a file as the portal writes it, "adler32:" and eight hexadecimal digits."""
    value = 1
    with open(path, "rb") as handle:
        while block := handle.read(BLOCK):
            value = zlib.adler32(block, value)
    return f"adler32:{value:08x}"


def _ask(record: Record) -> list[dict[str, Any]]:
    """What the portal says of each file of a record: {"address", "size", "checksum"}."""
    where = sources.Source(name=str(record.number), addresses=(f"{record.portal}/api/records/{record.number}",))

    def ask(_attempt: int) -> list[dict[str, Any]]:
        answer = requests.get(where.address, timeout=record.timeout)
        if answer.status_code == 404:
            raise UserError(f"{where.address}: the portal has no record {record.number}; check the number")
        answer.raise_for_status()
        listed = searcher.get_files_list(record.portal, answer.json(), protocol="xrootd", expand=True)
        return [{"address": address, "size": size, "checksum": checksum} for address, size, checksum in listed]

    try:
        return sources.retry(ask, where, record.attempts)
    except sources.ReadFailed as error:
        remedy = "is the portal reachable? `input.files` and `input.table.file` take files on disk"
        raise UserError(f"{error}; {remedy}") from error


def _append(address: str, partial: Path, timeout: float) -> None:
    """Add to a file what an address has beyond it; all of it where the server cannot begin in the middle."""
    start = _size(partial) if partial.exists() else 0
    if address.startswith("root://"):
        with fsspec.open(address, timeout=math.ceil(timeout)) as handle, open(partial, "ab") as target:
            handle.seek(start)
            while block := handle.read(BLOCK):
                target.write(block)
        return
    headers = {"Range": f"bytes={start}-"} if start else {}
    with requests.get(address, stream=True, timeout=timeout, headers=headers) as answer:
        answer.raise_for_status()
        with open(partial, "ab" if answer.status_code == requests.codes.partial_content else "wb") as target:
            for block in answer.iter_content(ARRIVING):
                target.write(block)
