"""Where events come from, and what must be said of it wherever their numbers are shown."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from dimuon.records import Record

KINDS = ("measured", "unknown", "rebuilt", "simulated")  # in rising order of what must be said


@dataclass(frozen=True)
class Origin(Record):
    """Where events come from, as their input states it; "" for what it does not.

    kind: of `KINDS`. experiment: "CMS Open Data". year: "2016", of the data taking. energy: "13 TeV", of the
    collisions. luminosity: "8.7 fb-1".

    >>> Origin("measured", "CMS Open Data", "2011", "7 TeV").label
    'CMS Open Data 2011 (7 TeV)'
    >>> Origin().label, Origin("rebuilt", "CMS Open Data").label
    ('origin not stated', 'CMS Open Data, features partly REBUILT')
    """

    kind: str = "unknown"
    experiment: str = ""
    year: str = ""
    energy: str = ""
    luminosity: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"origin {self.kind!r} is none of {', '.join(KINDS)}")

    @property
    def is_simulated(self) -> bool:
        """Whether any of it is simulated."""
        return self.kind == "simulated"

    @property
    def data(self) -> str:
        """Experiment and year: "CMS Open Data 2011"."""
        return " ".join(filter(None, (self.experiment, self.year)))

    @property
    def exposure(self) -> str:
        """Luminosity and energy: "8.7 fb-1 (13 TeV)", "7 TeV", ""."""
        return (
            f"{self.luminosity} ({self.energy})" if self.luminosity and self.energy else self.luminosity or self.energy
        )

    @property
    def label(self) -> str:
        """All of it in a line."""
        if self.is_simulated:
            return " ".join(filter(None, ("SIMULATED", self.data)))
        exposure = ", ".join(filter(None, (self.luminosity, self.energy)))
        where = f"{self.data} ({exposure})" if self.data and exposure else self.data or exposure
        if self.kind == "rebuilt":
            return f"{where or 'origin not stated'}, features partly REBUILT"
        return where if self.kind == "measured" and where else "origin not stated" + (f", {where}" if where else "")

    @classmethod
    def read(cls, content: Any) -> "Origin":
        """The origin in a file's own words: the JSON of one, or the kind alone, as earlier versions wrote it."""
        return cls(content) if isinstance(content, str) else cls.from_json(content)


def merged(origins: Iterable[Origin]) -> Origin:
    """What must be said of events of several origins: the kind with most to be said, and what all state alike."""
    every = list(origins)
    if not every:
        return Origin("measured")
    alike = {
        field.name: getattr(every[0], field.name)
        for field in fields(Origin)
        if len({getattr(origin, field.name) for origin in every}) == 1
    }
    return Origin(**alike | {"kind": max((origin.kind for origin in every), key=KINDS.index)})


def of_kind(origin: Origin, kind: str) -> Origin:
    """An origin of which at least that kind must be said."""
    return replace(origin, kind=max(origin.kind, kind, key=KINDS.index))
