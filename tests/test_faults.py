"""A fault of network or disk ends in the complete, byte-identical skim or in an exact list of what is missing."""

import contextlib
import functools
import io
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import uproot

from dimuon.data import portal, skim, sources
from dimuon.data.manifest import MadeWith, Manifest
from dimuon.errors import UserError
from tests import nanoaod_files, servers

RUNS = 10  # of each kind of fault, in the slow form
TIMEOUT = 1.0  # s
STALL = 3.0  # s, longer than the timeout

# name: (protocol, what the server does, words of the message that ends it, None where the skim is complete)
FAULTS = {
    "503, then fine": ("http", {"kind": "503", "times": 1, "after": 1}, None),
    "503 for ever": ("http", {"kind": "503", "times": 10**6, "after": 1}, "503"),
    "connection cut mid-file": ("http", {"kind": "cut", "times": 2, "after": 2}, None),
    "stalled read": ("http", {"kind": "stall", "times": 1, "after": 2}, None),
    "truncated file": ("http", {"served": "truncated"}, "bytes where"),
    "truncated file on disk": ("disk", {"served": "truncated"}, "bytes where"),
    "damaged LZMA file": ("disk", {"served": "broken", "compression": "LZMA"}, "DecompressionError"),
    "wrong checksum, fetched whole": ("http", {"served": "changed", "download": True}, "checksum adler32:"),
    "vanishes before it is read": ("http", {"served": "vanishing"}, "404"),
    "vanishes from the disk": ("disk", {"served": "vanishing"}, "FileNotFoundError"),
    "wrong checksum by XRootD": ("root", {"served": "changed"}, "checksum adler32:"),
    "connection cut by XRootD": ("root", {"kind": "cut", "times": 2, "after": 12}, None),
    "stalled read by XRootD": ("root", {"kind": "stall", "times": 1, "after": 12}, None),
    "vanishes from XRootD": ("root", {"served": "vanishing"}, "no such file"),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A function that gives, for a compression, a NanoAOD file, its checksum as the portal gives it, and its skim."""

    @functools.cache
    def make(compression):
        folder = tmp_path_factory.mktemp("original")
        events = nanoaod_files.events(20_000)
        compression = getattr(uproot, compression)(1)
        path = nanoaod_files.write(folder / "events.root", events, basket=2_000, compression=compression)
        skimmed, _ = skim_one(folder, sources.from_files([str(path)])[0])
        return SimpleNamespace(content=path.read_bytes(), checksum=portal.adler32(path), skim=skimmed)

    return make


def damaged(content, branch):
    """The content of a file with one bit turned in the middle of the first basket of a branch."""
    with uproot.open(io.BytesIO(content)) as file:
        members = file["Events"][branch].all_members
    content = bytearray(content)
    content[members["fBasketSeek"][0] + members["fBasketBytes"][0] // 2] ^= 1
    return content


def skim_one(folder, source, download=False, after_survey=lambda: None):
    """(bytes of the skim or None, message or None) of one source, worked on in this process."""
    manifest = Manifest(folder / "manifest.json", MadeWith("Muon_tightId", ()))
    task = skim.Task(
        source=source,
        output=folder / "events.parquet",
        muon_id="Muon_tightId",
        triggers=(nanoaod_files.TRIGGER,),
        mask=None,
        attempts=5,
        timeout=TIMEOUT,
        download=download,
    )
    with ThreadPoolExecutor(1) as pool:
        layouts = skim.survey_all(pool, [task], manifest)
        after_survey()
        skim.skim_all(pool, [task], layouts, manifest)
    message = None
    try:
        manifest.require_complete([source], "again")
    except UserError as error:
        message = str(error)
    left = {path.name for path in folder.glob("*")} - {"manifest.json", "events.parquet", "events.root"}
    assert not left, "nothing half-written"
    return (task.output.read_bytes() if task.output.exists() else None), message


@contextlib.contextmanager
def served(protocol, folder, faults):
    """The address of `folder`/events.root by one of the protocols."""
    if protocol == "disk":
        yield str(folder / "events.root")
    elif protocol == "http":
        with servers.http(folder, faults) as (address, _):
            yield f"{address}/events.root"
    else:
        if not servers.has_xrootd_server():
            servers.absent("no XRootD server here: apt-get install xrootd-server, pip install '.[xrootd]'")
        work = folder / "server"
        work.mkdir()
        with servers.xrootd(folder, work) as port, servers.proxy(port, faults) as proxied:
            yield f"root://127.0.0.1:{proxied}//events.root"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(sources, "FIRST_PAUSE", 0.1)


def strike(name, original, folder):
    """Skim over one fault and check the end."""
    protocol, settings, words = FAULTS[name]
    settings = dict(settings)
    original = original(settings.pop("compression", "ZLIB"))
    how, download = settings.pop("served", "well"), settings.pop("download", False)
    content = original.content
    if how == "truncated":
        content = content[: len(content) * 6 // 10]
    if how == "changed":
        content = damaged(content, "Jet_pt")  # which is not read: nothing but the checksum can tell
    if how == "broken":
        content = damaged(content, "Muon_pt")
    for path in (folder, folder / "files", folder / "skim"):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    file = folder / "files" / "events.root"
    file.write_bytes(content)
    faults = servers.Faults(**settings)
    faults.stall = STALL
    checksum = None if how == "truncated" else original.checksum
    with served(protocol, folder / "files", faults) as address:
        source = sources.Source("events", (address,), checksum=checksum)
        result, message = skim_one(
            folder / "skim", source, download, file.unlink if how == "vanishing" else lambda: None
        )
    if words is None:
        assert result == original.skim
        assert message is None
        assert faults.times == 0, "the fault never struck"
    else:
        assert result is None
        assert message.startswith(f"1 of 1 inputs are missing: {address}: ")
        assert words in message


@pytest.fixture
def folder():
    """A scratch folder that the XRootD server, which is not run as root, may read: pytest's own is closed to it."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_leaves_all_or_nothing(name, original, folder):
    strike(name, original, folder)


def test_a_change_that_only_the_checksum_shows(original, folder):
    """What the "wrong checksum" faults above rest on: without a checksum such a file gives the same skim."""
    sound = original("ZLIB")
    changed = damaged(sound.content, "Jet_pt")
    (folder / "events.root").write_bytes(changed)
    assert changed != sound.content
    assert skim_one(folder, sources.from_files([str(folder / "events.root")])[0]) == (sound.skim, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_every_time(name, original, folder):
    for i in range(RUNS):
        strike(name, original, folder / str(i))
