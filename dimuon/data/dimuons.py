"""The table of selected dimuons, from step 2 or handed in by the user: one way to read it for every later step."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dimuon.arrays import BoolArray
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.regions import REGIONS
from dimuon.workflow import products
from dimuon.workflow.provenance import Run, load_table, table_columns

log = logging.getLogger("dimuon")

CHOOSING = ("charge", "anti_isolated")  # columns, where a table has them


def paths(run: Run) -> dict[str, Path]:
    """{charge: file} of the dimuon tables of this analysis, for the charges that it has."""
    given = run.config.input.dimuons
    if given is None:
        return {charge: run.path(products.DIMUONS) for charge in run.config.selection.charges}
    if isinstance(given, str):
        return {charge: Path(given) for charge in run.config.selection.charges}
    by_charge = {"os": given.os, "ss": given.ss}
    return {charge: Path(file) for charge in run.config.selection.charges if (file := by_charge[charge])}


class Dimuons:
    """The selected dimuons of one analysis. Each column of each file is read once, when it is first asked for.

    Only the dimuons inside the mass window are given, by default only the anti-isolated of them (a table without the
    column anti_isolated is taken to hold no others). Both methods raise `UserError` for a file or column that is
    missing, stale or damaged, a value that is not finite, and a region without events.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.paths = run, paths(run)
        self._tables: dict[Path, pd.DataFrame] = {}

    @property
    def charges(self) -> list[str]:
        """The charges that there are dimuons of, "os" and "ss"."""
        return list(self.paths)

    def events(self, charge: str, names: Sequence[str] | None = None, anti_isolated: bool = True) -> Events:
        """The dimuons of one charge. names: of their features; None: those of the configuration."""
        names = list(self.run.config.features.names if names is None else names)
        frame = self.frame(charge, names, anti_isolated)
        mass, features = frame["dimu_mass"].to_numpy(dtype=float), frame[names].to_numpy(dtype=float)
        return Events.of(mass, features, names, row=frame["row"].to_numpy())

    def frame(self, charge: str, names: Sequence[str] = (), anti_isolated: bool = True) -> pd.DataFrame:
        """The dimuons of one charge with the columns row (of the file), dimu_mass [GeV] and those named.

        region, where it is named, is that of the window of the configuration.
        """
        path, window = self.run.require(self.paths[charge]), self.run.config.window
        measured = [name for name in dict.fromkeys(["dimu_mass", *names]) if name != "region"]
        table = self._read(path, measured)
        table = table[self._chosen(path, charge, anti_isolated)]
        _require_finite(path, table[measured])
        inside = window.in_window(table["dimu_mass"])
        if not inside.all():
            log.info("%s: %d of %d %s dimuons lie outside the mass window", path, (~inside).sum(), len(table), charge)
        table = table[inside]
        in_regions = (window.in_sbl, window.in_sr, window.in_sbh)
        for region, is_in in zip(REGIONS, in_regions, strict=True):
            if not is_in(table["dimu_mass"]).any():
                raise UserError(f"{path}: no {charge.upper()} dimuon in {region} ({window}); check cuts and window")
        frame = table[measured].assign(row=table.index)
        if "region" in names:
            frame["region"] = self._regions(path, table)
        return frame[["row", *dict.fromkeys(["dimu_mass", *names])]].reset_index(drop=True)

    def _chosen(self, path: Path, charge: str, anti_isolated: bool) -> BoolArray:
        """(n_rows,) True for the dimuons of one charge, where asked for the anti-isolated ones alone."""
        table = self._tables[path]
        chosen = np.ones(len(table), dtype=bool)
        if "charge" in table:
            chosen &= (table["charge"] == charge.upper()).to_numpy()
        elif isinstance(self.run.config.input.dimuons, str) and len(self.run.config.selection.charges) > 1:
            raise UserError(f"{path}: column charge is missing; add it, or give input.dimuons.os and input.dimuons.ss")
        if anti_isolated and "anti_isolated" in table:
            chosen &= table["anti_isolated"].to_numpy(dtype=bool)
        return chosen

    def _regions(self, path: Path, table: pd.DataFrame) -> Any:
        """(n_events,) the region as step 2 wrote it; a table handed in may have been made with another window."""
        if self.run.config.input.dimuons is None:
            return self._read(path, ["region"]).loc[table.index, "region"].to_numpy()
        return self.run.config.window.region(table["dimu_mass"])

    def _read(self, path: Path, names: Sequence[str]) -> pd.DataFrame:
        """The columns of a file that were asked for up to now, and those that choose, in the file's rows."""
        known = self._tables.get(path, pd.DataFrame())
        if path not in self._tables:
            names = [*names, *(name for name in CHOOSING if name in table_columns(path))]
        if new := [name for name in dict.fromkeys(names) if name not in known]:
            self._tables[path] = pd.concat([known, load_table(path, new).reset_index(drop=True)], axis=1)
        return self._tables[path]


def _require_finite(path: Path, table: pd.DataFrame) -> None:
    bad = ~np.isfinite(table.to_numpy(dtype=float))
    if bad.any():
        event, column = np.argwhere(bad)[0]
        raise UserError(
            f"{path}: {table.columns[column]} is not finite in row {table.index[event]} "
            f"({bad.sum()} such values); mend the table"
        )
