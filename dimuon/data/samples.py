"""The scored samples that step 6 tests: dimuons with their classifier scores, or a table that a user hands in."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from dimuon.arrays import BoolArray, FloatArray
from dimuon.data import scores, tables
from dimuon.data.dimuons import Dimuons, require_regions
from dimuon.data.finite import require_finite
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.workflow.provenance import Run, table_columns

log = logging.getLogger("dimuon")


@dataclass(frozen=True, eq=False)
class Sample:
    """Scored events of one charge.

    train, test: charge the classifier was trained on, and that of these events. score: (n_events,). weight:
    (n_events,) likelihood weights handed in, or None. before: the events before the anti-isolation, or None where
    there are no others. sources: the files it was read from. members: (n_events, n_members) scores to combine by the
    median of their histograms, or None. sampled: background sampled in the SR for the charge that the classifier was
    trained on, and its scores, (n_sampled,), or None.
    """

    train: str
    test: str
    events: Events
    score: FloatArray
    weight: FloatArray | None = None
    before: Events | None = None
    sources: tuple[Path, ...] = ()
    members: FloatArray | None = None
    sampled: tuple[Events, FloatArray] | None = None

    def only(self, chosen: BoolArray) -> "Sample":
        """The chosen events alone, (n_events,), with what belongs to them."""
        members = None if self.members is None else self.members[chosen]
        weight = None if self.weight is None else self.weight[chosen]
        return replace(self, events=self.events[chosen], score=self.score[chosen], weight=weight, members=members)

    @property
    def name(self) -> str:
        """As in the names of the score tables, e.g. "os_on_os"."""
        return f"{self.train}_on_{self.test}"

    @property
    def mass(self) -> FloatArray:
        """(n_events,), GeV."""
        return self.events.mass

    @property
    def features(self) -> dict[str, FloatArray]:
        """{name: (n_events,)}."""
        return self.events.columns


def read(run: Run) -> list[Sample]:
    """Every `Sample` there is a score table for, the matched charges first; says which are absent.

    Raises `UserError` where there is none at all, and for tables that cannot be used.
    """
    if run.config.input.scores is not None:
        return _read_handed_in(run, Path(run.config.input.scores))
    dimuons = Dimuons(run)
    pairs = [(train, test) for train in dimuons.charges for test in dimuons.charges]
    pairs.sort(key=lambda pair: pair[0] != pair[1])
    present = [pair for pair in pairs if scores.path(run, *pair).exists()]
    for pair in pairs:
        if pair not in present:
            log.info("%s: not found, so %s_on_%s is left out", scores.path(run, *pair), *pair)
    if not present:
        run.require(scores.path(run, *pairs[0]))
    tested = dict.fromkeys(test for _, test in present)
    own = {test: dimuons.events(test) for test in tested}
    before = {test: dimuons.events(test, anti_isolated=False) for test in tested}
    return [_read(run, train, test, own[test], before[test], dimuons.paths[test]) for train, test in present]


def _read(run: Run, train: str, test: str, events: Events, before: Events, file: Path) -> Sample:
    """before: of any isolation. file: that the events are from."""
    matched = scores.read(run, train, test, events.row)
    by_median = run.config.bdt.combination == "median"
    sources = [file, scores.path(run, train, test), *([scores.members_path(run, train, test)] if by_median else [])]
    whole = Sample(
        train=train,
        test=test,
        events=events,
        score=matched["score"].to_numpy(dtype=float),
        before=before if len(before) > len(events) else None,
        sources=tuple(sources),
        members=scores.read_members(run, train, test, events.row) if by_median else None,
    )
    return whole.only(run.config.bdt.searches(matched["fold"].to_numpy()))


def _read_handed_in(run: Run, path: Path) -> list[Sample]:
    """The samples in a table with mass and score, one for each charge where it has a column charge."""
    mass, window = run.config.mass_axis.column, run.config.window
    known = table_columns(run.require(path))
    names = [name for name in run.config.features.names if name in known]
    table = tables.checked(path, [mass, "score", *names, *(name for name in ("weight", "charge") if name in known)])
    values = {str(name): table[name].to_numpy(dtype=float) for name in table if name != "charge"}
    require_finite(path, values, table.index.to_numpy(), "mend the table")
    beyond = ~table["score"].between(0, 1)
    if beyond.any():
        row, first = np.argmax(beyond), table["score"][beyond].iloc[0]
        raise UserError(
            f"{path}: score is {first:g} in row {row} ({beyond.sum()} such values); the likelihood test needs "
            "the probability of data against background: map it to 0 to 1, calibrated"
        )
    charges = run.config.selection.charges
    if "charge" in table:
        by_charge = {charge: table[table["charge"] == charge.upper()] for charge in charges}
    else:
        by_charge = {charges[0]: table}
    for charge, part in by_charge.items():
        require_regions(part[mass], window, path, f"{charge.upper()} event" if "charge" in table else "event")
    return [_handed_in(charge, part, mass, names, path) for charge, part in by_charge.items()]


def _handed_in(charge: str, table: pd.DataFrame, mass_column: str, names: list[str], path: Path) -> Sample:
    mass, features = table[mass_column].to_numpy(dtype=float), table[names].to_numpy(dtype=float)
    return Sample(
        train=charge,
        test=charge,
        events=Events.of(mass, features, names, row=table.index.to_numpy()),
        score=table["score"].to_numpy(dtype=float),
        weight=table["weight"].to_numpy(dtype=float) if "weight" in table else None,
        sources=(path,),
    )
