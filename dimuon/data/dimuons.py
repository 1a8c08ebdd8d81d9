"""The table of selected dimuons, from step 2 or handed in by the user: one way to read it for every later step."""

import logging
from pathlib import Path

import numpy as np

from dimuon.errors import UserError
from dimuon.workflow.provenance import load_table

log = logging.getLogger("dimuon")


def paths(run):
    """{charge: file} of the dimuon tables of this analysis, for the charges that it has."""
    given = run.config.input.dimuons
    if given is None:
        return {charge: run.data / "dimuons.parquet" for charge in run.config.selection.charges}
    if isinstance(given, str):
        return {charge: Path(given) for charge in run.config.selection.charges}
    by_charge = {"os": given.os, "ss": given.ss}
    return {charge: Path(by_charge[charge]) for charge in run.config.selection.charges if by_charge[charge]}


def read(run, charge, names, anti_isolated=True):
    """The dimuons of one charge inside the mass window, as a DataFrame.

    Columns: `row` (of the file), `dimu_mass` [GeV], `region`, and the named columns in physical units.
    anti_isolated: keep only the anti-isolated ones (a table without that column is taken to hold no others).
    Raises `UserError` for a missing file or column, a value that is not finite, or no event in a region.
    """
    path = run.require(paths(run)[charge])
    frame = load_table(path)
    for name in ("dimu_mass", *names):
        if name not in frame:
            raise UserError(f"{path}: column {name} is missing; found {', '.join(map(str, frame.columns))}")
    frame.insert(0, "row", np.arange(len(frame)))
    if "charge" in frame:
        frame = frame[frame["charge"] == charge.upper()]
    elif isinstance(run.config.input.dimuons, str) and len(run.config.selection.charges) > 1:
        raise UserError(f"{path}: column charge is missing; add it, or give input.dimuons.os and input.dimuons.ss")
    if anti_isolated and "anti_isolated" in frame:
        frame = frame[frame["anti_isolated"]]
    frame = frame[["row", "dimu_mass", *[name for name in names if name != "dimu_mass"]]]
    bad = ~np.isfinite(frame.drop(columns="row").to_numpy(dtype=float))
    if bad.any():
        event, column = np.argwhere(bad)[0]
        name, row = frame.columns[column + 1], frame["row"].iloc[event]
        raise UserError(f"{path}: {name} is not finite in row {row} ({bad.sum()} such values); mend the table")
    window = run.config.window
    inside = window.in_window(frame["dimu_mass"])
    if not inside.all():
        log.info("%s: %d of %d %s dimuons lie outside the mass window", path, (~inside).sum(), len(frame), charge)
    frame = frame[inside].reset_index(drop=True)
    frame.insert(2, "region", window.region(frame["dimu_mass"]))
    for region in ("SBL", "SR", "SBH"):
        if not (frame["region"] == region).any():
            raise UserError(f"{path}: no {charge.upper()} dimuon in {region} ({window}); check cuts and window")
    return frame
