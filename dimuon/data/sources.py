"""Where the events come from: local files, addresses, records of the CERN Open Data portal."""

import glob
import importlib
import importlib.util
import logging
import math
import time
import zlib
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
from dimuon.errors import UserError

log = logging.getLogger("dimuon")

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # s, between attempts
PORTAL: str = Input.model_fields["portal"].default
EOS = "root://eospublic.cern.ch/"  # where the portal's files lie; the portal serves the same paths over https
RESERVED = ("spectrum",)  # names of skim files that belong to no input


# what reading a file over a network, or a damaged one, can raise; anything else is a mistake of ours (uproot
# decompresses with cramjam; a read beyond the end of the file, which a damaged address asks for, is a TypeError there)
NETWORK_ERRORS = (OSError, EOFError, HTTPException)
DECODING_ERRORS = (zlib.error, cramjam.DecompressionError, uproot.DeserializationError, AssertionError, RuntimeError)
READ_ERRORS = (*NETWORK_ERRORS, *DECODING_ERRORS, ValueError, IndexError, KeyError, TypeError)


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
