"""The CERN Open Data portal: the files of a record with their sizes and checksums, and fetching them whole."""

import json
import logging
import math
import zlib
from pathlib import Path

import fsspec
import requests
from cernopendata_client import searcher

from dimuon.data import sources
from dimuon.errors import UserError
from dimuon.workflow.provenance import atomic, load_json

log = logging.getLogger("dimuon")

BLOCK = 1 << 20


def files(record, portal, cache, attempts, timeout):
    """The `sources.Source` of every file of a record, in the portal's order.

    record: number. portal: its address. cache: JSON file that keeps the portal's answer, so that it is asked once.
    """
    cache = Path(cache)
    listed = load_json(cache) if cache.exists() else {}
    if (listed.get("record"), listed.get("portal")) != (record, portal):
        listed = {"record": record, "portal": portal, "files": _ask(record, portal, attempts, timeout)}
        with atomic(cache) as temporary:
            temporary.write_text(json.dumps(listed, indent=1) + "\n")
        log.info("record %d of %s: %d files", record, portal, len(listed["files"]))
    named = sources.names(entry["address"] for entry in listed["files"])
    return [
        sources.Source(
            named[entry["address"]],
            sources.both_ways(entry["address"], portal),
            entry["size"],
            entry["checksum"] or None,
        )
        for entry in listed["files"]
    ]


def root_files(record, *arguments):
    """The ROOT files of a record; arguments as for `files`. `UserError` where it has none."""
    found = [source for source in files(record, *arguments) if source.address.endswith(".root")]
    if not found:
        raise UserError(f"input.record: record {record} holds no ROOT file; is it a NanoAOD data set?")
    return found


def certified_luminosity(record, path, portal, cache, attempts, timeout):
    """The CMS JSON file of a record, fetched to `path` unless it is there already; the rest as for `files`."""
    listed = files(record, portal, cache, attempts, timeout)
    listed = [source for source in listed if source.address.endswith((".json", "JSON.txt"))]
    if len(listed) != 1:
        found = ", ".join(source.address for source in listed) or "none"
        raise UserError(f"input.certified_luminosity: record {record} must hold one CMS JSON file, found {found}")
    if not (path.exists() and adler32(path) == listed[0].checksum):
        try:
            fetch(listed[0], path, attempts, timeout)
        except sources.ReadFailed as error:
            raise UserError(f"input.certified_luminosity: {error}") from error
    return path


def fetch(source, path, attempts, timeout):
    """Copy a source to `path`, whole, with the size and adler32 that the portal gives; `sources.ReadFailed` if not."""

    def copy(attempt):
        address = source.addresses[(attempt - 1) % len(source.addresses)]
        with atomic(path) as temporary:
            with open(temporary, "wb") as target:
                for block in _blocks(address, timeout):
                    target.write(block)
            size = temporary.stat().st_size
            if source.size not in (None, size):
                raise OSError(f"{address}: {size:,} bytes where {source.size:,} are due")
            if source.adler32 and (found := adler32(temporary)) != source.adler32:
                raise OSError(f"{address}: checksum {found} where {source.adler32} is due")

    sources.retry(copy, source, attempts)


def adler32(path):
    """The checksum of a file as the portal writes it, "adler32:" and eight hexadecimal digits."""
    value = 1
    with open(path, "rb") as handle:
        while block := handle.read(BLOCK):
            value = zlib.adler32(block, value)
    return f"adler32:{value:08x}"


def _ask(record, portal, attempts, timeout):
    where = sources.Source(name=str(record), addresses=(f"{portal}/api/records/{record}",))

    def ask(_attempt):
        answer = requests.get(where.address, timeout=timeout)
        if answer.status_code == 404:
            raise UserError(f"{where.address}: the portal has no record {record}; check the number")
        answer.raise_for_status()
        listed = searcher.get_files_list(portal, answer.json(), protocol="xrootd", expand=True)
        return [{"address": address, "size": size, "checksum": checksum} for address, size, checksum in listed]

    try:
        return sources.retry(ask, where, attempts)
    except sources.ReadFailed as error:
        raise UserError(f"{error}; is the portal reachable? `input.files` takes files on disk") from error


def _blocks(address, timeout):
    if address.startswith("root://"):
        with fsspec.open(address, timeout=math.ceil(timeout)) as handle:
            while block := handle.read(BLOCK):
                yield block
        return
    with requests.get(address, stream=True, timeout=timeout) as answer:
        answer.raise_for_status()
        yield from answer.iter_content(BLOCK)
