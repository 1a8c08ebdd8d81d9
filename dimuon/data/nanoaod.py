"""CMS NanoAOD: which branches the analysis reads, and the muon pair of each event, range by range.

Only the needed branches are decompressed, a range of entries at a time, so memory does not grow with the file. The
hot path is NumPy on the flat content of the jagged branches.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import uproot

from dimuon.arrays import BoolArray, FloatArray, IntArray
from dimuon.data.schema import EVENT, MUON_BRANCHES
from dimuon.data.tables import require_exact
from dimuon.errors import UserError

ENTRIES_PER_RANGE = 100_000  # a few tens of MB with the branches below, whatever the file

# a file without one of these is refused; the others become nulls and are listed in the manifest
NEEDED = ("run", "event", *(MUON_BRANCHES[name] for name in ("pt", "eta", "phi", "charge", "ip3d", "iso04")))


EVENTS_KINDS = (uproot.behaviors.TTree.TTree, uproot.behaviors.RNTuple.RNTuple)
Arrays = Mapping[str, Any]  # {branch: array}, flat ones (n_events,) of numpy or awkward, jagged ones of awkward


def schema(triggers: Iterable[str]) -> pa.Schema:
    """The Arrow schema of every skim file. triggers: names of the HLT columns, nullable flags."""
    muon = {name: pa.int8() if name == "charge" else pa.float32() for name in MUON_BRANCHES}
    return pa.schema(
        [
            ("run", pa.uint32()),
            ("luminosityBlock", pa.uint32()),
            ("event", pa.uint64()),
            *((trigger, pa.bool_()) for trigger in triggers),
            ("n_muons", pa.uint16()),
            ("n_jets", pa.uint16()),
            *((f"{prefix}_{name}", kind) for prefix in ("mu0", "mu1") for name, kind in muon.items()),
        ]
    )


@dataclass(frozen=True)
class Layout:
    """What a NanoAOD file holds of what is asked.

    entries: events. present, missing: of the branches asked for. all_triggers: its HLT branches. simulated: it has
    generator particles.
    """

    entries: int
    present: tuple[str, ...]
    missing: tuple[str, ...]
    all_triggers: tuple[str, ...]
    simulated: bool


@dataclass(frozen=True)
class Offer:
    """What a file has to offer, before it is read.

    branches: all that it has. entries: events. needed: branches without which it is refused. beginning: gives some
    branches, the whole or a part of them.
    """

    branches: frozenset[str]
    entries: int
    needed: tuple[str, ...]
    beginning: Callable[[Sequence[str]], Arrays]


@contextmanager
def open_events(address: str, name: str | None = None, size: int | None = None, **options: Any) -> Iterator[Any]:
    """The TTree or RNTuple `Events` of the ROOT file at `address` (path or URL); `UserError` where it has none.

    name: how messages call the file (None: its address). size: bytes that it must have (None: not known). options:
    handed to `uproot.open`. Raises OSError for a file that is shorter than it says itself, or not of this size.
    """
    with uproot.open(address, **options) as file:
        present, promised = file.file.source.num_bytes, file.file.fEND
        if present < promised or size not in (None, present):
            raise OSError(f"{present:,} bytes where {size or promised:,} are due")
        if "Events" not in file:
            found = ", ".join(file.keys(cycle=False)) or "nothing"
            raise UserError(f"{name or address}: no tree `Events` in this ROOT file (found {found}); is it NanoAOD?")
        events = file["Events"]
        if not isinstance(events, EVENTS_KINDS):
            what = f"`Events` is a {file.classname_of('Events')}"
            raise UserError(f"{name or address}: {what}, where a TTree or an RNTuple is needed; is it NanoAOD?")
        yield events


def layout(tree: Any, muon_id: str, triggers: Sequence[str], name: str) -> Layout:
    """The `Layout` of the tree `Events`; `UserError` names a needed branch that it lacks.

    muon_id: the branch a muon has to pass; triggers: HLT branches; name: how messages call the file.
    """

    def beginning(branches: Sequence[str]) -> Any:  # a basket of each, in one request
        return _only(branches, tree.arrays(filter_name=list(branches), entry_stop=0, how=dict))

    return layout_of(Offer(frozenset(tree.keys()), tree.num_entries, NEEDED, beginning), muon_id, triggers, name)


def layout_of(offer: Offer, muon_id: str, triggers: Sequence[str], name: str) -> Layout:
    """As `layout`, of any kind of file."""
    available = offer.branches
    for branch in (*offer.needed, muon_id):
        if branch not in available:
            raise UserError(f"{name}: branch {branch} is missing{nearest(branch, sorted(available))}")
    jagged = (*MUON_BRANCHES.values(), muon_id)
    asked = dict.fromkeys((*EVENT, *jagged, "nJet", *triggers))
    present = tuple(branch for branch in asked if branch in available)
    for branch, array in offer.beginning(present).items():
        due = "jagged" if branch in jagged else "flat"
        if kind(array) != due:
            raise UserError(f"{name}: branch {branch} is no {due} array of numbers; is this NanoAOD?")
    return Layout(
        entries=offer.entries,
        present=present,
        missing=tuple(branch for branch in asked if branch not in available),
        all_triggers=tuple(sorted(branch for branch in available if branch.startswith("HLT_"))),
        simulated="nGenPart" in available,
    )


def kind(array: Any) -> str | None:
    """The shape of an array, "jagged" (numbers for each muon) or "flat" (one for the event); None for anything else."""
    if isinstance(array, np.ndarray) and array.dtype.kind in "biuf":
        array = ak.Array(array)
    if not isinstance(array, ak.Array):
        return None
    shape, layout = "flat", array.layout
    if isinstance(layout, ak.contents.ListOffsetArray) and layout.parameter("__array__") is None:  # else it is text
        shape, layout = "jagged", layout.content
    return shape if isinstance(layout, ak.contents.NumpyArray) and layout.data.ndim == 1 else None


def ranges(tree: Any, branches: Sequence[str], start: int = 0) -> Iterator[tuple[int, Arrays]]:
    """Yield (stop, {branch: array}) for the entries from `start` on, `ENTRIES_PER_RANGE` at a time."""
    for arrays, report in tree.iterate(
        filter_name=list(branches), entry_start=start, step_size=ENTRIES_PER_RANGE, report=True, how=dict
    ):
        yield report.stop, _only(branches, arrays)


def require_sound(arrays: Arrays, muon_id: str, name: str) -> None:
    """`UserError` where branches hold different numbers of muons, or event numbers as reals too large to be exact.

    muon_id: the branch a muon has to pass. name: how messages call the file.
    """
    offsets = _flat(arrays[muon_id])[0]
    for branch in MUON_BRANCHES.values():
        if branch in arrays and not np.array_equal(_flat(arrays[branch])[0], offsets):
            raise UserError(f"{name}: {branch} and {muon_id} hold different numbers of muons; is this NanoAOD?")
    for branch in EVENT:
        if branch in arrays:
            require_exact(np.asarray(arrays[branch]), branch, name)


def muon_pairs(arrays: Arrays, muon_id: str, triggers: Sequence[str], event_mask: BoolArray) -> pa.RecordBatch:
    """The two hardest muons that pass `muon_id`, for every event with at least two of them.

    arrays: a branch that is not there gives nulls. event_mask: (n_events,) True for the events to keep (certified
    ones). Returns a batch of `schema(triggers)`: mu0 is the harder muon, and the order of the events is kept.
    """
    offsets, passing = _flat(arrays[muon_id])
    passing = passing.astype(bool)
    pt = _flat(arrays["Muon_pt"])[1]
    n_before = np.concatenate([[0], np.cumsum(passing)])  # passing muons before each muon
    n_passing = n_before[offsets[1:]] - n_before[offsets[:-1]]
    kept = np.flatnonzero(event_mask & (n_passing >= 2))
    position = _hardest_first(np.flatnonzero(passing), pt, offsets)
    first = n_before[offsets[kept]]
    columns: dict[str, Any] = {
        "n_muons": n_passing[kept],
        "n_jets": _take(arrays.get("nJet"), kept),
        **{name: _take(arrays.get(name), kept) for name in (*EVENT, *triggers)},
    }
    for prefix, muon in (("mu0", position[first]), ("mu1", position[first + 1])):
        for name, branch in MUON_BRANCHES.items():
            columns[f"{prefix}_{name}"] = _flat(arrays[branch])[1][muon] if branch in arrays else None
    fields = schema(triggers)
    return pa.RecordBatch.from_arrays(
        [
            pa.nulls(len(kept), field.type) if columns[field.name] is None else _arrow(columns[field.name], field.type)
            for field in fields
        ],
        schema=fields,
    )


def _only(branches: Sequence[str], arrays: Arrays) -> Arrays:
    """What was asked for: an RNTuple gives the collections that hold it, too."""
    return {branch: arrays[branch] for branch in branches if branch in arrays}


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known names nearest to it."""
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else ""


def _flat(array: Any) -> tuple[IntArray, Any]:
    """(offsets, content) of a jagged branch: event i holds content[offsets[i]:offsets[i + 1]]."""
    offsets, content = np.asarray(array.layout.offsets.data), np.asarray(array.layout.content.data)
    return offsets - offsets[0], content[offsets[0] : offsets[-1]]


def _take(array: Any, index: IntArray) -> Any:
    return None if array is None else np.asarray(array)[index]


def _arrow(values: Any, kind: pa.DataType) -> pa.Array:
    if kind == pa.bool_():
        return pa.array(values.astype(bool))
    return pa.array(values.astype(kind.to_pandas_dtype(), copy=False))


def _hardest_first(position: IntArray, pt: FloatArray, offsets: IntArray) -> IntArray:
    """Positions of passing muons with the hardest of each event first; NanoAOD has them so, other files may not."""
    event = np.searchsorted(offsets, position, side="right")
    hardness = pt[position]
    if np.all((hardness[:-1] >= hardness[1:]) | (event[:-1] != event[1:])):
        return position
    return position[np.lexsort((-hardness, event))]
