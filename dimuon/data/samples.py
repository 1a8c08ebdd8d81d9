"""The scored samples that step 6 tests: dimuons with their classifier scores, or a table that a user hands in."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dimuon.data import dimuons, scores
from dimuon.errors import UserError
from dimuon.workflow.provenance import load_table

log = logging.getLogger("dimuon")


@dataclass(frozen=True)
class Sample:
    """Scored events of one charge.

    train, test: charge the classifier was trained on, and that of these events. mass: (n_events,), GeV. score:
    (n_events,). features: {name: (n_events,)}. weight: (n_events,) likelihood weights handed in, or None. before:
    {name: (n_events_before,)} mass and features before the anti-isolation, or None. sources: the files it was read
    from. members: (n_events, n_members) scores to combine by the median of their histograms, or None.
    """

    train: str
    test: str
    mass: np.ndarray
    score: np.ndarray
    features: dict
    weight: np.ndarray | None = None
    before: dict | None = None
    sources: tuple = field(default=())
    members: np.ndarray | None = None

    @property
    def name(self):
        """As in the names of the score tables, e.g. "os_on_os"."""
        return f"{self.train}_on_{self.test}"


def read(run):
    """Every `Sample` there is a score table for, the matched charges first; says which are absent.

    Raises `UserError` where there is none at all, and for tables that cannot be used.
    """
    if run.config.input.scores is not None:
        return _read_scores(run, Path(run.config.input.scores))
    files = dimuons.paths(run)
    pairs = sorted(((train, test) for train in files for test in files), key=lambda pair: pair[0] != pair[1])
    present = [pair for pair in pairs if scores.path(run, *pair).exists()]
    for pair in pairs:
        if pair not in present:
            log.info("%s: not found, so %s_on_%s is left out", scores.path(run, *pair), *pair)
    if not present:
        run.require(scores.path(run, *pairs[0]))
    return [_read(run, train, test, files[test]) for train, test in present]


def _read(run, train, test, file):
    names = run.config.features.names
    table = dimuons.read(run, test, names)
    all_isolations = dimuons.read(run, test, names, anti_isolated=False)
    matched = scores.read(run, train, test, table)
    by_median = run.config.bdt.combination == "median"
    sources = [file, scores.path(run, train, test), *([scores.members_path(run, train, test)] if by_median else [])]
    return Sample(
        train=train,
        test=test,
        mass=table["dimu_mass"].to_numpy(dtype=float),
        score=matched["score"].to_numpy(dtype=float),
        features={name: table[name].to_numpy(dtype=float) for name in names},
        before=_columns(all_isolations, ["dimu_mass", *names]) if len(all_isolations) > len(table) else None,
        sources=tuple(sources),
        members=scores.read_members(run, train, test, table) if by_median else None,
    )


def _read_scores(run, path):
    """The samples in a table with dimu_mass and score, one for each charge where it has a column charge."""
    table = load_table(run.require(path))
    for name in ("dimu_mass", "score"):
        if name not in table:
            raise UserError(f"{path}: column {name} is missing; found {', '.join(map(str, table.columns))}")
    names = [name for name in run.config.features.names if name in table]
    numbers = ["dimu_mass", "score", *names, *(["weight"] if "weight" in table else [])]
    for name in numbers:
        bad = ~np.isfinite(table[name].to_numpy(dtype=float))
        if bad.any():
            raise UserError(f"{path}: {name} is not finite in row {np.argmax(bad)} ({bad.sum()} such values); mend it")
    charges = run.config.selection.charges if "charge" in table else run.config.selection.charges[:1]
    found = []
    for charge in charges:
        part = table[table["charge"] == charge.upper()] if "charge" in table else table
        columns = _columns(part, numbers)
        mass, score, weight = columns.pop("dimu_mass"), columns.pop("score"), columns.pop("weight", None)
        found.append(Sample(charge, charge, mass, score, columns, weight, sources=(path,)))
    return found


def _columns(table, names):
    return {name: table[name].to_numpy(dtype=float) for name in names}
