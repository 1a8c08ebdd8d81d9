"""The published skim (Zenodo record 14618719): pickled dictionaries of awkward arrays, read without running anything.

A pickle is a program. The unpickler here lets it name what rebuilds numpy and awkward arrays and nothing else; any
other name is refused before it is looked up.
"""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import awkward as ak

from dimuon.data import nanoaod
from dimuon.data.schema import EVENT
from dimuon.errors import UserError

# (module, name) pairs that rebuild arrays, as numpy 1 and 2 and awkward 1 and 2 write them
ADMITTED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("awkward.highlevel", "Array"),
    ("awkward._pickle", "unpickle_array_schema_1"),
    ("awkward._pickle", "unpickle_array_schema_2"),
}
# without these the selection cannot be made; run, section and event numbers are not in the published files
NEEDED = tuple(branch for branch in nanoaod.NEEDED if branch not in EVENT)


class Refused(pickle.UnpicklingError):
    """A pickle asks for something that is no array."""


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles built-in containers and numbers, numpy and awkward arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """The admitted object of that name; `Refused` for any other, without importing it."""
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if (module, name) not in ADMITTED:
            raise Refused(f"it asks for {module}.{name}, which is no array")
        return super().find_class(module, name)


def load(path: Path | str) -> dict[str, Any]:
    """The dictionary of arrays in a pickle.

    `UserError` where it holds or asks for anything else, OSError where it is cut short.
    """
    try:
        with open(path, "rb") as handle:
            content = ArrayUnpickler(handle).load()
    except Refused as error:
        raise UserError(f"{path}: refused, nothing of it was run: {error}") from error
    except (pickle.UnpicklingError, EOFError) as error:
        raise OSError(f"not a whole pickle ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path}: holds a {type(content).__name__} where a dictionary of arrays is due")
    return content


@contextmanager
def open_events(address: Path | str, name: str | None = None, size: int | None = None) -> Iterator[dict[str, Any]]:
    """{branch: array} of the muon file at `address` (`all_mu_<id>`) and the jet file beside it (`all_jet_<id>`).

    Pickles cannot be read in parts: memory is that of the larger of the two, whole, until `ranges` drops the branches
    that are not asked for. The jets go as soon as `nJet` is counted from them.
    """
    n_jets = _count(jet_file(address))
    content = load(address) | n_jets
    lengths = {branch: len(array) for branch, array in content.items() if nanoaod.kind(array)}
    if len(set(lengths.values())) > 1:
        raise OSError(f"the arrays differ in length: {lengths}")
    yield content


def jet_file(muon_file: Path | str) -> Path:
    """The path of the jet file that belongs to a muon file."""
    path = Path(muon_file)
    return path.with_name(path.name.replace("all_mu_", "all_jet_", 1))


def layout(content: dict[str, Any], muon_id: str, triggers: Sequence[str], name: str) -> nanoaod.Layout:
    """As `nanoaod.layout`."""
    entries = next((len(array) for array in content.values() if nanoaod.kind(array)), 0)

    def whole(branches: Sequence[str]) -> dict[str, Any]:
        return {branch: content[branch] for branch in branches}

    return nanoaod.layout_of(nanoaod.Offer(frozenset(content), entries, NEEDED, whole), muon_id, triggers, name)


def ranges(content: dict[str, Any], branches: Sequence[str], start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """As `nanoaod.ranges`; branches that are not asked for are dropped from the content, for the memory they take."""
    for branch in content.keys() - set(branches):
        del content[branch]
    entries = len(content[branches[0]])
    for first in range(start, entries, nanoaod.ENTRIES_PER_RANGE):
        stop = min(first + nanoaod.ENTRIES_PER_RANGE, entries)
        yield stop, {branch: content[branch][first:stop] for branch in branches}


def _count(path: Path) -> dict[str, Any]:
    """{"nJet": (n_events,) array} of a jet file, {} where it holds no property of the jets."""
    for branch, array in load(path).items():
        if branch.startswith("Jet_"):
            if nanoaod.kind(array) != "jagged":
                raise UserError(f"{path}: {branch} is no jagged array of numbers; is this the published skim?")
            return {"nJet": ak.num(array, axis=1)}
    return {}


def _latin1(text: str, encoding: str) -> bytes:
    """What numpy's pickles of protocol 2 ask of `_codecs.encode`."""
    if encoding != "latin1":
        raise Refused(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")
