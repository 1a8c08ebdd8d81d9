"""Where the events come from: local files, addresses, records of the CERN Open Data portal."""

import glob
import hashlib
import importlib.util
import logging
import lzma
import time
import zlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import uproot

from dimuon import nanoaod
from dimuon.errors import UserError

log = logging.getLogger("dimuon")

REMOTE = ("root://", "https://", "http://")
EOS = "root://eospublic.cern.ch/"  # the portal's storage: the same paths are served over https by the portal itself


# what reading a file over a network, or a damaged one, can raise; anything else is a mistake of ours
READ_ERRORS = (
    OSError, EOFError, HTTPException, TimeoutError, zlib.error, lzma.LZMAError, ValueError, IndexError, KeyError,
    AssertionError, RuntimeError, NotImplementedError, uproot.DeserializationError,
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One input file.

    name: of its skim. addresses: where it can be read, best first. size [bytes] and checksum ("adler32:...") as the
    portal or the file system tells, None where unknown. modified: time stamp [ns] of a local file.
    """

    name: str
    addresses: tuple
    size: int | None = None
    checksum: str | None = None
    modified: int | None = None

    @property
    def address(self):
        """The address that names this source in messages and in the manifest."""
        return self.addresses[0]

    @property
    def is_remote(self):
        """True where it is read over the network."""
        return self.address.startswith(REMOTE)

    @property
    def identity(self):
        """What must be unchanged for its skim to be still good."""
        return {
            "address": self.address,
            "size": self.size,
            "checksum": self.checksum,
            "modified": self.modified,
        }


def resolve(run):
    """(sources, origin) of what the configuration of `run` names; simulates where asked to. `UserError` where none."""
    given = run.config.input
    if given.files is not None:
        return from_files(given.files), "measured"
    if given.simulation is not None:
        return from_files([str(path) for path in simulated(run)]), "simulated"
    raise UserError(
        "input: step 1 needs one of simulation, files, record, published_skim; this input starts later"
    )


def simulated(run):
    """The NanoAOD files of the simulation, written now unless they are there and made with the same settings."""
    from dimuon import simulation

    folder = run.data / "simulated"
    files = sorted(folder.glob("*.root"))
    mask = folder / "certified_luminosity.json"
    if len(files) != run.config.input.simulation.n_files or any(run.stale(path) for path in (*files, mask)):
        files = simulation.write_nanoaod(
            folder, run.config.input.simulation, run.config.seed, run.config.selection.trigger
        )
        for path in (*files, mask):
            run.seal(path, origin="simulated")
    return files


def from_files(patterns):
    """The sources of `input.files`: local paths, globs (sorted), root:// and https:// addresses; each file once.

    Raises `UserError` for a path that does not exist and for a glob that matches nothing.
    """
    addresses = {}
    for pattern in patterns:
        if pattern.startswith(REMOTE):
            addresses[pattern] = None
            continue
        found = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]
        found = [path for path in found if Path(path).is_file()]
        if not found:
            raise UserError(f"{pattern}: no such file; check input.files")
        addresses.update(dict.fromkeys(found))
    names = _names(addresses)
    return [_remote(names[a], a) if a.startswith(REMOTE) else _local(names[a], a) for a in addresses]


class ReadFailed(Exception):
    """An input that could not be read, after every attempt. Its text says why, on one line."""


@contextmanager
def opened(source, timeout, attempt=1):
    """The tree `Events` of a source, over the address whose turn it is. timeout: seconds; attempt: from 1."""
    address = source.addresses[(attempt - 1) % len(source.addresses)]
    with nanoaod.open_events(address, name=source.address, **_reader(address, timeout)) as tree:
        present = tree.file.source.num_bytes
        if source.size is not None and present != source.size:
            raise OSError(f"{address}: {present:,} bytes where {source.size:,} are due")
        yield tree


def stream(source, branches, attempts, timeout):
    """Yield {branch: array} of a source, range by range; after a failure it goes on where it was.

    attempts: tries for the whole file. Raises `ReadFailed` after the last one.
    """
    done = 0
    for attempt in range(1, attempts + 1):
        try:
            with opened(source, timeout, attempt) as tree:
                for stop, arrays in nanoaod.ranges(tree, branches, start=done):
                    yield arrays
                    done = stop
            return
        except READ_ERRORS as error:
            pause(source, error, attempt, attempts)


def retry(action, source, attempts):
    """What `action(attempt)` returns, attempt = 1, 2 ...; raises `ReadFailed` after the last."""
    for attempt in range(1, attempts + 1):
        try:
            return action(attempt)
        except READ_ERRORS as error:
            pause(source, error, attempt, attempts)


def pause(source, error, attempt, attempts):
    """Sleep 1, 2, 4 ... 60 s after a failed attempt, or raise `ReadFailed` where it was the last."""
    if attempt == attempts:
        tries = "" if attempts == 1 else f" (attempt {attempt} of {attempts})"
        raise ReadFailed(f"{source.address}: {reason(error)}{tries}") from error
    seconds = min(2 ** (attempt - 1), 60)
    log.warning("%s: %s; trying again in %d s", source.address, reason(error), seconds)
    time.sleep(seconds)


def reason(error):
    """An exception in a few words, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _local(name, path):
    stat = Path(path).stat()
    return Source(name, (path,), size=stat.st_size, modified=stat.st_mtime_ns)


def _remote(name, address, size=None, checksum=None, portal=None):
    addresses = [address]
    if portal and address.startswith(EOS):
        addresses.append(address.replace(EOS, f"{portal}/"))
        addresses = [a for a in addresses if has_xrootd() or not a.startswith("root://")]
    return Source(name, tuple(addresses), size, checksum)


def has_xrootd():
    """True where root:// addresses can be read: the extra `xrootd` is installed."""
    return (
        importlib.util.find_spec("XRootD") is not None
        and importlib.util.find_spec("fsspec_xrootd") is not None
    )


def _names(addresses):
    """{address: name of its skim}: the file's own name, with a short hash where two files share it."""
    addresses = list(addresses)
    count = Counter(Path(address).stem for address in addresses)
    return {
        address: stem if count[stem := Path(address).stem] == 1
        else f"{stem}_{hashlib.sha256(address.encode()).hexdigest()[:8]}"
        for address in addresses
    }  # fmt: skip


def _reader(address, timeout):
    """Options of `uproot.open` for an address."""
    if address.startswith("http"):
        return {"handler": uproot.HTTPSource, "timeout": timeout}
    return {"timeout": timeout} if address.startswith("root://") else {}
