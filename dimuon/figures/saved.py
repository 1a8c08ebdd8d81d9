"""The saved results of an analysis, as the figures and the report look into them."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dimuon.arrays import FloatArray
from dimuon.bumphunt.result import TestResult
from dimuon.data import scores
from dimuon.data.dimuons import Dimuons
from dimuon.dataset import DIMUON_MASS, Dataset
from dimuon.errors import UserError
from dimuon.figures import overlay
from dimuon.figures.overlay import Overlay
from dimuon.origin import Origin
from dimuon.regions import MassWindow
from dimuon.workflow import products, provenance
from dimuon.workflow.config import Config

PAPER_WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)  # GeV; paper, step 1
Tests = list[tuple[str, str]]


class Saved:
    """The saved files of one analysis, each read once; what was asked for and is not there is in `missing`.

    A file that is there but stale or damaged is an error that names it (`provenance.Run.require`). What not every
    analysis has is in `not_made`, and in `missing` where it is out of date: nothing rests on it, the rest is shown.

    used: {path: content}. missing: {path: how to get it} of every file asked for in vain. not_made: the same of
    optional files.
    """

    def __init__(self, run: provenance.Run) -> None:
        self.run = run
        self.config: Config = run.config
        self._dimuons = Dimuons(run)
        self.missing: dict[Path, str] = {}
        self.not_made: dict[Path, str] = {}
        self.used: dict[Path, Any] = {}

    def table(self, path: Path) -> pd.DataFrame | None:
        """A parquet file as a DataFrame, or None where it does not exist."""
        table: pd.DataFrame | None = self._content(path, self.run.read_table)
        return table

    def json(self, path: Path) -> Any:
        """The content of a JSON file, or None where it does not exist."""
        return self._content(path, self.run.read_json)

    def optional_table(self, path: Path) -> pd.DataFrame | None:
        """As `table`, for what not every analysis makes: None where it was not made or is out of date."""
        return self.table(path) if self._has_optional(path) else None

    def optional_json(self, path: Path) -> Any:
        """As `json`, for what not every analysis makes: None where it was not made or is out of date."""
        return self.json(path) if self._has_optional(path) else None

    def events(self, test: str, names: Sequence[str] = ()) -> pd.DataFrame | None:
        """The events of one sample with row, mass, region and the named columns, or None where there are none."""
        if self._content(self._dimuons.paths[test], self.run.require) is None:
            return None
        return self._dimuons.frame(test, ["region", *names])

    def dimuons_path(self, test: str) -> Path:
        """The file with the dimuons of one charge."""
        return self._dimuons.paths[test]

    def scored(self, train: str, test: str) -> pd.DataFrame | None:
        """`events(test)` with the column score of the classifier of `train`, or None where either is not there."""
        path, events = scores.path(self.run, train, test), self.events(test)
        table = self.table(path)
        if table is None or events is None:
            return None
        return events.assign(score=scores.match(table, events["row"], path)["score"].to_numpy())

    def by_test(self, table: pd.DataFrame | None) -> Iterator[tuple[str, str, pd.DataFrame]]:
        """(train, test, its rows) of a table for each combination that has rows, the matched ones first."""
        if table is None:
            return
        for train, test in self.tests:
            part = table[(table["train"] == train) & (table["test"] == test)]
            if len(part):
                yield train, test, part.reset_index(drop=True)

    def by_charge(self, table: pd.DataFrame | None) -> Iterator[tuple[str, pd.DataFrame]]:
        """(charge, its rows) of a table of a study for each charge in it."""
        if table is not None:
            for charge, part in table.groupby("charge"):
                yield str(charge).lower(), part.reset_index(drop=True)

    @property
    def charges(self) -> list[str]:
        """The charges of this analysis that have dimuons."""
        return self._dimuons.charges

    @property
    def tests(self) -> Tests:
        """(train, test) of every combination of the charges, the matched ones first."""
        matched = [(charge, charge) for charge in self.charges]
        return matched + [(train, test) for train in self.charges for test in self.charges if train != test]

    @property
    def data(self) -> Dataset:
        """What the events are, as the configuration states it."""
        return self.config.dataset

    @cached_property
    def overlays(self) -> list[Overlay]:
        """The curves of others in the files of `figures.overlay`."""
        files = [Path(name) for name in self.config.figures.overlays]
        return [curve for path in files for curve in self.used.setdefault(path, overlay.read(path))]

    @property
    def is_the_papers(self) -> bool:
        """Whether the events are the dimuons of the paper, in its window, so that its figures have their numbers."""
        config = self.config
        return config.input.table is None and self.data.mass.column == DIMUON_MASS and config.window == PAPER_WINDOW

    @property
    def known(self) -> dict[str, float]:
        """{name: mass} that the configuration declares, for the figures to mark."""
        return self.config.significance.peaks.known

    @property
    def origin(self) -> Origin:
        """What must be said of the headline: the origin of `significance.json` and of the dimuons.

        Studies with simulated signal say SIMULATED themselves; they do not make the data so. Where neither file was
        read, that of all that were.
        """
        headline = {self.run.path(products.SIGNIFICANCE), *self._dimuons.paths.values()}
        return self.run.origin([path for path in self.used if path in headline] or self.used)

    @cached_property
    def curves(self) -> pd.DataFrame | None:
        """The significance curves, or None."""
        read = partial(self.run.read_table, names=products.CURVES.column_names)
        curves: pd.DataFrame | None = self._content(self.run.path(products.CURVES), read)
        return curves

    @cached_property
    def summary(self) -> Any:
        """The content of `significance.json`, or None."""
        return self.json(self.run.path(products.SIGNIFICANCE))

    @property
    def results(self) -> list[TestResult]:
        """The headline numbers of every test, in the order of `significance.json`; none where it is not there."""
        return [TestResult.from_json(test) for test in (self.summary or {"tests": {}})["tests"].values()]

    def _content(self, path: Path, read: Callable[[Path], Any]) -> Any:
        if path in self.used:
            return self.used[path]
        if not path.exists():
            self.missing[path] = self._refusal(path).partition("; ")[2]
            return None
        self.used[path] = read(path)
        return self.used[path]

    def _has_optional(self, path: Path) -> bool:
        if not path.exists():
            self.not_made[path] = self._refusal(path).partition("; ")[2]  # it ends with how to get the file
            return False
        whole = provenance.sidecar(path).get("sha256") == provenance.file_hash(path)
        if whole and self.run.stale(path):
            self.missing[path] = "left out: " + self._refusal(path).removeprefix(f"{path}: ")
            return False
        return True

    def _refusal(self, path: Path) -> str:
        """Why a file cannot be used, and how to get it, in the words of `provenance.Run.require`; "" where it can."""
        try:
            self.run.require(path)
        except UserError as reason:
            return str(reason)
        return ""


def weights_of(events: pd.DataFrame) -> FloatArray:
    """(n_events,) the column weight, 1 where the table has none."""
    return events["weight"].to_numpy(dtype=float) if "weight" in events else np.ones(len(events))
