"""Where the events come from: local files, addresses, records of the CERN Open Data portal."""

import glob
import importlib
import importlib.util
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import cramjam
import uproot

from dimuon.data import nanoaod, published_skim
from dimuon.data.addresses import REMOTE, digest_of, is_remote
from dimuon.data.settings import Input
from dimuon.errors import DAMAGED, UserError

log = logging.getLogger("dimuon")

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # s, between attempts
PORTAL: str = Input.model_fields["portal"].default
EOS = "root://eospublic.cern.ch/"  # where the portal's files lie; the portal serves the same paths over https
RESERVED = ("spectrum",)  # names of skim files that belong to no input


# what reading a file over a network, or a damaged one, can raise (uproot decompresses with cramjam)
NETWORK_ERRORS = (OSError, HTTPException)
READ_ERRORS = (*NETWORK_ERRORS, cramjam.DecompressionError, uproot.DeserializationError, *DAMAGED)


@dataclass(frozen=True)
class Source:
    """One input file.

    name: of its skim. addresses: where it can be read, best first. size [bytes] and checksum (kind, colon, value) as
    the portal or the file system tells, None where unknown. modified: time stamp [ns] of a local file. published_skim:
    it is a pickle of the published skim, not NanoAOD.
    """

    name: str
    addresses: tuple[str, ...]
    size: int | None = None
    checksum: str | None = None
    modified: int | None = None
    published_skim: bool = False

    @property
    def reader(self) -> ModuleType:
        """The module that reads it: `open_events`, `layout` and `ranges`."""
        return published_skim if self.published_skim else nanoaod

    @property
    def address(self) -> str:
        """The address that names this source in messages and in the manifest."""
        return self.addresses[0]

    @property
    def is_remote(self) -> bool:
        """True where it is read over the network."""
        return is_remote(self.address)

    @property
    def adler32(self) -> str | None:
        """Its checksum where that is an adler32, the kind that is compared here, or None."""
        return self.checksum if (self.checksum or "").startswith("adler32:") else None

    @property
    def identity(self) -> dict[str, str | int | None]:
        """What must be unchanged for its skim to be still good: the checksum tells more than the address does."""
        known = {"size": self.size, "checksum": self.checksum, "modified": self.modified}
        return known if self.checksum else {"address": self.address, **known}


def from_files(patterns: Iterable[str], portal: str = PORTAL) -> list[Source]:
    """The sources of `input.files`: local paths, globs (sorted), root:// and https:// addresses; each file once.

    portal: address of the CERN Open Data portal. Raises `UserError` for a path that does not exist or is a folder, and
    for a glob that matches nothing.
    """
    addresses: dict[str | Path, str] = {}  # by what makes them the same
    for pattern in patterns:
        if pattern.startswith(REMOTE):
            addresses[pattern] = pattern
            continue
        for path in _matching(pattern):
            addresses.setdefault(Path(path).resolve(), path)
    named = names(addresses.values())
    return [
        Source(name, both_ways(address, portal)) if address.startswith(REMOTE) else _local(name, address)
        for address, name in named.items()
    ]


def both_ways(address: str, portal: str = PORTAL) -> tuple[str, ...]:
    """The address and, for a file of the CERN Open Data portal, the same over the other protocol, as a tuple.

    Without XRootD installed such a file is read over https alone.
    """
    if address.startswith(EOS):
        other = f"{portal}/{address.removeprefix(EOS).lstrip('/')}"
    elif address.startswith(f"{portal}/eos/"):
        other = EOS + address.removeprefix(portal)
    else:
        return (address,)
    return tuple(each for each in (address, other) if has_xrootd() or not each.startswith("root://"))


def from_published_skim(folder: Path | str) -> list[Source]:
    """The sources of the published skim in `folder`: one for each pair of files all_mu_<id>, all_jet_<id>."""
    sources = []
    for path in sorted(Path(folder).glob("all_mu_*")):
        jets = published_skim.jet_file(path)
        if not jets.is_file():
            raise UserError(f"{jets}: no such file, but there is {path.name}; fetch it, too")
        stats = path.stat(), jets.stat()
        sources.append(
            Source(
                name=path.name.removeprefix("all_mu_"),
                addresses=(str(path),),
                size=sum(stat.st_size for stat in stats),
                modified=max(stat.st_mtime_ns for stat in stats),
                published_skim=True,
            )
        )
    if not sources:
        raise UserError(f"{folder}: no file all_mu_<id> there; check input.published_skim")
    return sources


class ReadFailed(Exception):
    """An input that could not be read, after every attempt. Its text says why, on one line."""


@contextmanager
def opened(source: Source, timeout: float, attempt: int = 1) -> Iterator[Any]:
    """The events of a source, as its `reader` opens them, over the address whose turn it is.

    timeout: seconds. attempt: from 1.
    """
    address = source.addresses[(attempt - 1) % len(source.addresses)]
    with source.reader.open_events(address, source.address, source.size, **_options(address, timeout)) as events:
        yield events


def stream(source: Source, branches: Sequence[str], attempts: int, timeout: float) -> Iterator[nanoaod.Arrays]:
    """Yield {branch: array} of a source, range by range; after a failure it goes on where it was.

    attempts: tries for the whole file. Raises `ReadFailed` after the last one.
    """
    done = 0
    for attempt in range(1, attempts + 1):
        try:
            with opened(source, timeout, attempt) as events:
                for stop, arrays in source.reader.ranges(events, branches, start=done):
                    yield arrays
                    done = stop
            return
        except READ_ERRORS as error:
            pause(source, error, attempt, attempts)


def verify(source: Source, timeout: float) -> bool:
    """True where the server's own adler32 of a root:// source is the portal's; False where either is not known.

    Raises OSError where they differ. Over https only `Execution.download` can tell.
    """
    address = source.addresses[0]
    if source.adler32 is None or not address.startswith("root://"):
        return False
    client = importlib.import_module("XRootD.client")
    url, checksum = client.URL(address), importlib.import_module("XRootD.client.flags").QueryCode.CHECKSUM
    status, answer = client.FileSystem(url.hostid).query(checksum, url.path, timeout=int(timeout) + 1)
    if not status.ok:
        log.info("%s: the server gives no checksum (%s)", address, status.message.strip())
        return False
    kind, value = answer.decode().strip("\0 \n").split()
    if kind == "adler32" and f"{kind}:{int(value, 16):08x}" != source.adler32:
        raise OSError(f"{address}: checksum {kind}:{value} where {source.adler32} is due")
    verified: bool = kind == "adler32"
    return verified


def retry(action: Callable[[int], T], source: Source, attempts: int) -> T:
    """What `action(attempt)` returns, attempt = 1, 2 ...; raises `ReadFailed` after the last."""
    for attempt in range(1, attempts + 1):
        try:
            return action(attempt)
        except READ_ERRORS as error:
            pause(source, error, attempt, attempts)
    raise ValueError(f"{attempts} attempts at {source.address}: at least one is due")


def pause(source: Source, error: Exception, attempt: int, attempts: int) -> None:
    """Sleep after a failed attempt, twice as long after each, or raise `ReadFailed` where it was the last."""
    if attempt == attempts:
        tries = "" if attempts == 1 else f" (attempt {attempt} of {attempts})"
        raise ReadFailed(f"{source.address}: {reason(error)}{tries}") from error
    seconds = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE)
    log.warning("%s: %s; trying again in %g s", source.address, reason(error), seconds)
    time.sleep(seconds)


def reason(error: Exception) -> str:
    """An exception in a few words, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _matching(pattern: str) -> list[str]:
    """The files of a path or glob, sorted; a file that has such a name itself comes before what it could stand for."""
    if Path(pattern).is_file():
        return [pattern]
    if Path(pattern).is_dir():
        raise UserError(f"{pattern}: is a folder; name its files in input.files, for instance {pattern}/*.root")
    found = [path for path in sorted(glob.glob(pattern, recursive=True)) if Path(path).is_file()]
    if not found:
        raise UserError(f"{pattern}: no such file; check input.files")
    return found


def _local(name: str, path: str) -> Source:
    stat = Path(path).stat()
    return Source(name, (path,), size=stat.st_size, modified=stat.st_mtime_ns)


def has_xrootd() -> bool:
    """True where root:// addresses can be read: the extra `xrootd` is installed."""
    return importlib.util.find_spec("XRootD") is not None and importlib.util.find_spec("fsspec_xrootd") is not None


def names(addresses: Iterable[str]) -> dict[str, str]:
    """{address: name of its skim}: the file's own name, with a short hash where it is another's, too."""
    stems = [(address, Path(address).stem) for address in addresses]
    count = Counter([*RESERVED, *(stem for _, stem in stems)])
    return {address: stem if count[stem] == 1 else f"{stem}_{digest_of(address)}" for address, stem in stems}


def _options(address: str, timeout: float) -> dict[str, Any]:
    """Options of `uproot.open` for an address."""
    if address.startswith("http"):
        return {"handler": uproot.HTTPSource, "timeout": timeout}
    if address.startswith("root://"):
        _xrootd_patience(math.ceil(timeout))
        return {"timeout": math.ceil(timeout), "skip_instance_cache": True}
    return {}


def _xrootd_patience(seconds: int) -> None:
    """Have XRootD give up, and connect anew, after so many seconds; its own settings are 2 minutes to half an hour."""
    if not has_xrootd():
        raise UserError("root:// addresses need XRootD: pip install 'dimuon[xrootd]'")
    client = importlib.import_module("XRootD.client")
    for name in ("ConnectionWindow", "RequestTimeout", "StreamTimeout", "StreamErrorWindow"):
        client.EnvPutInt(name, seconds)
    client.EnvPutInt("TimeoutResolution", 1)
