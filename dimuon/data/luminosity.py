"""Certified luminosity: which luminosity sections of which runs the experiment declares good for physics."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dimuon.arrays import BoolArray, IntArray
from dimuon.errors import UserError

Sections = dict[str, list[list[int]]]  # {run: [[first, last], ...]}, the form of CMS JSON files
Keys = NDArray[np.uint64]  # run * 2**32 + section, one integer per luminosity section


class LuminosityMask:
    """The certified luminosity sections of a CMS JSON file, {"run": [[first, last], ...]}, both ends included.

    first, last: (n_intervals,) keys run * 2**32 + section, rising and without overlap, so that one binary search
    answers for any number of events.
    """

    def __init__(self, sections: Any) -> None:
        """sections: {run: [[first, last], ...]}. ValueError where they are anything else, or certify nothing."""
        pairs = np.array(
            [(_key(run, first), _key(run, last)) for run, first, last in _intervals(sections)],
            dtype=np.uint64,
        ).reshape(-1, 2)
        if not len(pairs):
            raise ValueError("certifies no luminosity section")
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        last = np.maximum.accumulate(pairs[:, 1])  # overlapping intervals become one
        starts = np.concatenate([[True], pairs[1:, 0] > last[:-1]])
        self.first = pairs[starts, 0]
        self.last = last[np.append(np.flatnonzero(starts)[1:] - 1, len(pairs) - 1)]

    def certified(self, run: IntArray, section: IntArray) -> BoolArray:
        """(n_events,) True where the section is certified. run, section: (n_events,)."""
        return self.certified_keys(section_key(run, section))

    def certified_keys(self, key: Keys) -> BoolArray:
        """(n_events,) as `certified`, from the keys that `section_key` gives."""
        index = np.searchsorted(self.first, key, side="right")
        certified: BoolArray = (index > 0) & (key <= self.last[index - 1])
        return certified

    @property
    def digest(self) -> str:
        """A hash of the certified sections."""
        return hashlib.sha256(self.first.tobytes() + self.last.tobytes()).hexdigest()[:16]

    @property
    def n_sections(self) -> int:
        """How many luminosity sections are certified."""
        return int((self.last - self.first + np.uint64(1)).sum())


def section_key(run: ArrayLike, section: ArrayLike) -> Keys:
    """(n_events,) `Keys` of run and section numbers, each (n_events,)."""
    return (np.asarray(run).astype(np.uint64) << np.uint64(32)) | np.asarray(section).astype(np.uint64)


def as_sections(keys: ArrayLike) -> Sections:
    """The `Sections` of keys in any order."""
    keys = np.unique(np.asarray(keys, dtype=np.uint64))
    edges = np.flatnonzero(np.diff(keys) != 1) + 1
    starts, stops = [0, *edges], [*edges, len(keys)]
    sections: Sections = {}
    for start, stop in zip(starts, stops, strict=True) if len(keys) else ():
        run, first = divmod(int(keys[start]), 2**32)
        sections.setdefault(str(run), []).append([first, first + int(stop - start) - 1])
    return sections


def as_keys(sections: Sections) -> Keys:
    """(n_sections,) the sorted keys; the inverse of `as_sections`."""
    runs = [np.arange(_key(run, first), _key(run, last) + 1) for run, first, last in _intervals(sections)]
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *runs])).astype(np.uint64)


def read(path: Path | str) -> LuminosityMask:
    """The `LuminosityMask` of a CMS JSON file; `UserError` where it is malformed or certifies nothing."""
    try:
        return parse(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; input.certified_luminosity names a CMS JSON file or a record") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a list of certified luminosity sections: {error}") from error


def parse(text: bytes) -> LuminosityMask:
    """The `LuminosityMask` of the bytes of a CMS JSON file; ValueError where it is malformed or certifies nothing."""
    return LuminosityMask(json.loads(text, object_pairs_hook=_once))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The dictionary of a JSON object's (key, value) pairs; ValueError where a run is given twice."""
    for run, times in Counter(run for run, _ in pairs).items():
        if times > 1:
            raise ValueError(f"run {run} is given {times} times; merge its sections")
    return dict(pairs)


def _intervals(sections: Any) -> Iterator[tuple[int, int, int]]:
    """(run, first, last) of every interval; ValueError where the sections are not as they should be."""
    if not isinstance(sections, dict):
        raise ValueError(f'expected {{"run": [[first, last], ...]}}, found {type(sections).__name__}')
    for run, intervals in sections.items():
        if not str(run).isdecimal():
            raise ValueError(f"{run!r} is not a run number")
        if not isinstance(intervals, list):
            raise ValueError(f"run {run} has {intervals!r} where a list of [first, last] is due")
        for interval in intervals:
            if not (isinstance(interval, list) and [type(end) for end in interval] == [int, int]):
                raise ValueError(f"run {run} has {interval!r} where [first, last] is due")
            first, last = interval
            if not 0 <= first <= last < 2**32:
                raise ValueError(f"run {run} has sections {interval!r}, which do not rise")
            yield int(run), first, last


def _key(run: int, section: int) -> int:
    return (run << 32) | section
