"""The cutflow: how many events are left after each step of the selection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dimuon.arrays import BoolArray
from dimuon.data.manifest_entry import EventCounts
from dimuon.errors import UserError

CHARGES = ("os", "ss")
ALL = "all"

ByCharge = dict[str, int | None]  # {"all" | "os" | "ss": events}, None where not known
Shares = dict[str, float | None]


@dataclass(frozen=True)
class CutflowStep:
    """One step. efficiency: share of the step before. cumulative: share of the first step that knows the charge."""

    name: str
    events: ByCharge
    efficiency: Shares
    cumulative: Shares

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "CutflowStep":
        """The record that `to_json` gave."""
        return cls(**content)


class Cutflow:
    """How many events are left after each step, in the order of the steps. Events of more batches are added up."""

    def __init__(self) -> None:
        self.counts: dict[str, ByCharge] = {}

    def add(self, step: str, events: int, os: int | None = None, ss: int | None = None) -> None:
        """Add events to a step, its last if it is a new one. os, ss: of them by charge, None where not known yet."""
        count = self.counts.setdefault(step, dict.fromkeys((ALL, *CHARGES)))
        for key, value in ((ALL, events), ("os", os), ("ss", ss)):
            if value is not None:
                count[key] = (count[key] or 0) + int(value)

    @classmethod
    def of_skim(cls, totals: EventCounts, charges: Sequence[str] = CHARGES) -> "Cutflow":
        """The cutflow that begins with what the skim has counted. charges: those wanted."""
        cutflow = cls()
        cutflow.add("events read", totals.events_read)
        cutflow.add("certified luminosity", totals.events_certified)
        os, ss = (getattr(totals, charge) if charge in charges else None for charge in CHARGES)
        cutflow.add("two muons identified", (os or 0) + (ss or 0), os, ss)
        return cutflow

    def add_mask(self, step: str, passing: BoolArray, opposite: BoolArray) -> None:
        """Add the events of a step by charge. passing, opposite: (n_events,) flags."""
        os = int((passing & opposite).sum())
        total = int(passing.sum())
        self.add(step, total, os, total - os)

    def steps(self) -> list[CutflowStep]:
        """The steps, with their efficiencies."""
        steps = []
        before: ByCharge = {}
        first: ByCharge = {}
        for name, events in self.counts.items():
            steps.append(CutflowStep(name, events, _shares(events, before), _shares(events, first)))
            before = events
            first |= {key: value for key, value in events.items() if first.get(key) is None}
        return steps

    def text(self) -> str:
        """The cutflow as lines of text, for the screen."""
        width = max(len(name) for name in self.counts)
        headings = (f"{key.upper():>14}{'eff.':>8}{'cumul.':>8}" for key in (ALL, *CHARGES))
        lines = [" " * width + "".join(headings)]
        for step in self.steps():
            cells = (
                f"{_number(step.events[key]):>14}{_percent(step.efficiency[key]):>8}{_percent(step.cumulative[key]):>8}"
                for key in (ALL, *CHARGES)
            )
            lines.append(f"{step.name:{width}}" + "".join(cells))
        return "\n".join(lines)

    def require_events(self) -> None:
        """`UserError` where a step leaves no event at all; it names the first such step."""
        for name, count in self.counts.items():
            if count[ALL] == 0:
                raise UserError(
                    f"no event is left after the step {name!r} of the selection; check it in the configuration"
                )


def _shares(events: ByCharge, base: ByCharge) -> Shares:
    """The share that the events are of others, None where either is not known or there is nothing to be a share of."""
    shares: Shares = {}
    for key, value in events.items():
        whole = base.get(key)
        shares[key] = value / whole if value is not None and whole else None
    return shares


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.3g} %"
