"""What the manifest of a skim says of each input: the records behind `skim/manifest.json`."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

from dimuon.data.luminosity import Sections
from dimuon.data.sources import Source


@dataclass(frozen=True)
class EventCounts:
    """Events of one input, or of several. entries: that the input holds. os, ss: of those with two muons."""

    entries: int = 0
    events_read: int = 0
    events_certified: int = 0
    events_two_muons: int = 0
    os: int = 0
    ss: int = 0

    def __add__(self, other: "EventCounts") -> "EventCounts":
        return EventCounts(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Skimmed:
    """The skim of one input.

    output: its file name. sections_seen, sections_certified: how many luminosity sections. certified, lost: which.
    missing_branches: nulls in the skim. simulated: the input has generator particles. seconds: that it took.
    """

    checksum_verified: bool
    output: str
    sha256: str
    counts: EventCounts
    sections_seen: int
    sections_certified: int
    certified: Sections
    lost: Sections
    missing_branches: list[str]
    simulated: bool
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values; the counts stand among the others."""
        others = {name: value for name, value in vars(self).items() if name != "counts"}
        return others | vars(self.counts)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Skimmed":
        """The record that `to_json` gave."""
        counts = EventCounts(**{name: content[name] for name in EventCounts.__dataclass_fields__})
        others = {name: content[name] for name in cls.__dataclass_fields__ if name != "counts"}
        return cls(counts=counts, **others)


@dataclass(frozen=True)
class ManifestEntry:
    """What became of one input: its skim, or the error that the last attempt ended with.

    input: name of the skim. address, size [bytes], checksum, modified [ns]: of the source, as `sources.Source`.
    """

    input: str
    address: str
    size: int | None
    checksum: str | None
    modified: int | None
    skimmed: Skimmed | None = field(default=None, kw_only=True)
    error: str | None = field(default=None, kw_only=True)

    @classmethod
    def of(cls, source: Source, skimmed: Skimmed | None = None, error: str | None = None) -> "ManifestEntry":
        """The entry of a source: give its skim or an error."""
        return cls(
            source.name, source.address, source.size, source.checksum, source.modified, skimmed=skimmed, error=error
        )

    def is_of(self, source: Source) -> bool:
        """True where the source is still what it was when it was read."""
        return all(getattr(self, name) == value for name, value in source.identity.items())

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        source = {name: getattr(self, name) for name in ("input", "address", "size", "checksum", "modified")}
        if self.skimmed is None:
            return source | {"status": "failed", "error": self.error}
        return source | self.skimmed.to_json() | {"status": "done"}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "ManifestEntry":
        """The record that `to_json` gave."""
        source = [content[name] for name in ("input", "address", "size", "checksum", "modified")]
        if content["status"] != "done":
            return cls(*source, error=content["error"])
        return cls(*source, skimmed=Skimmed.from_json(content))
