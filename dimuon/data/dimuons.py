"""The table that steps 3 to 6 begin with, from step 2 or handed in by the user: one way to read it for every step."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dimuon.arrays import BoolArray
from dimuon.data import handed_in, tables
from dimuon.data.finite import require_finite
from dimuon.dataset import SAMPLES
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.regions import REGIONS, MassWindow
from dimuon.workflow import products
from dimuon.workflow.provenance import Run, load_table, table_columns

log = logging.getLogger("dimuon")

CHOOSING = ("charge", "anti_isolated")  # columns, where a table has them


def paths(run: Run) -> dict[str, Path]:
    """{sample: file} of the tables of this analysis. The samples are the charges, or those of the split of a table."""
    if run.config.input.table is not None:
        return dict.fromkeys(run.config.input.table.samples, handed_in.path(run))
    given = run.config.input.dimuons
    if given is None:
        return {charge: run.path(products.DIMUONS) for charge in run.config.selection.charges}
    if isinstance(given, str):
        return {charge: Path(given) for charge in run.config.selection.charges}
    by_charge = {"os": given.os, "ss": given.ss}
    return {charge: Path(file) for charge in run.config.selection.charges if (file := by_charge[charge])}


class Dimuons:
    """The selected events of one analysis, dimuons mostly. Each column of each file is read once, when first asked for.

    Only the events inside the mass window are given, by default only the anti-isolated of them (a table without the
    column anti_isolated is taken to hold no others). Both methods raise `UserError` for a file or column that is
    missing, stale or damaged, a value that is not finite, and a region without events.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.paths = run, paths(run)
        self.mass = run.config.mass_axis.column
        self._tables: dict[Path, pd.DataFrame] = {}

    @property
    def charges(self) -> list[str]:
        """The samples that there are events of: "os" and "ss", or those of the split."""
        return list(self.paths)

    def events(self, charge: str, names: Sequence[str] | None = None, anti_isolated: bool = True) -> Events:
        """The events of one sample. names: of their features; None: those of the configuration."""
        names = list(self.run.config.features.names if names is None else names)
        frame = self.frame(charge, names, anti_isolated)
        mass, features = frame[self.mass].to_numpy(dtype=float), frame[names].to_numpy(dtype=float)
        return Events.of(mass, features, names, row=frame["row"].to_numpy())

    def frame(self, charge: str, names: Sequence[str] = (), anti_isolated: bool = True) -> pd.DataFrame:
        """The events of one sample with the columns row (of the file), the mass and those named.

        region, where it is named, is that of the window of the configuration.
        """
        path, window = self.paths[charge], self.run.config.window
        measured = [name for name in dict.fromkeys([self.mass, *names]) if name != "region"]
        if self.run.config.input.table is not None:
            table = handed_in.chosen(handed_in.open_table(self.run), self.run.config, charge, measured)
        else:
            table = self._read(self.run.require(path), measured)
            table = table[self._chosen(path, charge, anti_isolated)]
            values = {name: table[name].to_numpy(dtype=float) for name in measured}
            require_finite(path, values, table.index.to_numpy(), "mend the table")
            inside = window.in_window(table[self.mass])
            if not inside.all():
                counts = (~inside).sum(), len(table)
                log.info("%s: %d of %d %s lie outside the mass window", path, *counts, self._said(charge) + "s")
            table = table[inside]
        require_regions(table[self.mass], window, path, self._said(charge))
        frame = table[measured].assign(row=table.index)
        if "region" in names:
            frame["region"] = self._regions(path, table)
        return frame[["row", *dict.fromkeys([self.mass, *names])]].reset_index(drop=True)

    def _said(self, charge: str) -> str:
        """One event of a sample, in words: "OS dimuon", "event"."""
        noun = self.run.config.dataset.events.removesuffix("s")
        return f"{SAMPLES.get(charge, charge)} {noun}".strip()

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
        if self.run.config.input.first_step == 1:
            return self._read(path, ["region"]).loc[table.index, "region"].to_numpy()
        return self.run.config.window.region(table[self.mass])

    def _read(self, path: Path, names: Sequence[str]) -> pd.DataFrame:
        """The columns of a file that were asked for up to now, and those that choose, in the file's rows."""
        known = self._tables.get(path, pd.DataFrame())
        if path not in self._tables:
            names = [*names, *(name for name in CHOOSING if name in table_columns(path))]
        if new := [name for name in dict.fromkeys(names) if name not in known]:
            read = load_table if self.run.config.input.first_step == 1 else tables.checked
            self._tables[path] = pd.concat([known, read(path, new).reset_index(drop=True)], axis=1)
        return self._tables[path]


def require_regions(mass: "pd.Series[float]", window: MassWindow, path: Path, event: str) -> None:
    """`UserError` where a region of the window holds no event. event: what one is called."""
    in_regions, edges = (window.in_sbl, window.in_sr, window.in_sbh), dataclasses.astuple(window)
    for region, is_in, low, high in zip(REGIONS, in_regions, edges, edges[1:], strict=False):
        if not is_in(mass).any():
            remedy = "check cuts and window" if len(mass) else "check cuts, window and selection.charges"
            raise UserError(f"{path}: no {event} in {region} ({low:g} to {high:g}); {remedy}")
