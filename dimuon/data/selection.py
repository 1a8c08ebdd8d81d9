"""The dimuon selection (paper, "Anti-Isolated Upsilon Selection"): named cuts in the order of the YAML, counted."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dimuon import kinematics
from dimuon.arrays import BoolArray, IntArray
from dimuon.data import nanoaod
from dimuon.data.cutflow import Cutflow
from dimuon.data.schema import DIMUONS, EVENT, MEASURED
from dimuon.data.settings import Range, Selection
from dimuon.errors import UserError
from dimuon.regions import MassWindow

Pairs = dict[str, Any]  # {column: (n_events,)}, of `nanoaod.schema`, later of the dimuon table


def check_columns(cuts: Mapping[str, Range], key: str, triggers: Iterable[str] = ()) -> None:
    """`UserError` where a cut names no column that it can be made on.

    cuts: {column: range}; key: where they stand. triggers: flags that are there; the dimuon table has none.
    """
    known = (*MEASURED, *triggers)
    for column in cuts:
        if column not in known:
            if not column.startswith("HLT_"):
                remedy = nanoaod.nearest(column, known)
            elif triggers:
                remedy = "; add it to input.triggers"
            else:
                remedy = "; triggers are cut on in selection.cuts"
            raise UserError(f"{key}.{column}: no such column{remedy}")


def passes(values: Any, cut_range: Range) -> BoolArray:
    """(n_events,) True where min < value < max. values: (n_events,), NaN where not known, which never passes."""
    values = np.asarray(values)
    passing = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), bool)
    if cut_range.min is not None:
        passing &= values > cut_range.min
    if cut_range.max is not None:
        passing &= values < cut_range.max
    return passing


def name_of(column: str, cut_range: Range) -> str:
    """The name of a cut in the cutflow: "mu0_pt > 17", "dimu_eta < 1.5" or "-1.5 < dimu_eta < 1.5"."""
    if cut_range.max is None:
        return f"{column} > {cut_range.min:g}"
    if cut_range.min is None:
        return f"{column} < {cut_range.max:g}"
    return f"{cut_range.min:g} < {column} < {cut_range.max:g}"


def select(pairs: Pairs, selection: Selection, window: MassWindow, cutflow: Cutflow) -> Pairs:
    """Trigger, cuts and mass window, one after the other, on a batch of muon pairs of the skim.

    cutflow: what the batch is added to. Returns the pairs that pass, in their order, with the computed columns and
    `charge`, `region`.
    """
    opposite = kinematics.is_opposite_sign(pairs["mu0_charge"], pairs["mu1_charge"])
    pairs, opposite = _chosen(pairs, opposite, np.isin(np.where(opposite, "os", "ss"), selection.charges))
    passing = pairs[selection.trigger]
    cutflow.add_mask(selection.trigger, passing, opposite)
    pairs, opposite = _chosen(pairs, opposite, passing)
    pairs = pairs | kinematics.of_pairs(pairs)
    for column, cut_range in selection.cuts.items():
        passing = passes(pairs[column], cut_range)
        cutflow.add_mask(name_of(column, cut_range), passing, opposite)
        pairs, opposite = _chosen(pairs, opposite, passing)
    passing = window.in_window(pairs["dimu_mass"])
    cutflow.add_mask(name_of_window(window), passing, opposite)
    pairs, opposite = _chosen(pairs, opposite, passing)
    return pairs | {"charge": np.where(opposite, "OS", "SS"), "region": window.region(pairs["dimu_mass"])}


def table(batches: Sequence[Pairs]) -> pd.DataFrame:
    """The selected batches as one dimuon table, without anti_isolated, sorted by run, luminosity section and event.

    Events that the input does not number (run 0) keep their order, in front.
    """
    joined = {name: np.concatenate([batch[name] for batch in batches]) for name in DIMUONS if name != "anti_isolated"}
    order = np.lexsort((joined["event"], joined["luminosityBlock"], joined["run"]))
    return pd.DataFrame({name: values[order] for name, values in joined.items()})


def without_repeated(dimuons: pd.DataFrame, cutflow: Cutflow) -> tuple[pd.DataFrame, int]:
    """(dimuons that were read for the first time, number of those dropped); adds a step to the cutflow."""
    again = repeated(*(dimuons[name].to_numpy() for name in EVENT))
    cutflow.add_mask("not read before", ~again, (dimuons["charge"] == "OS").to_numpy())
    return dimuons[~again].reset_index(drop=True), int(again.sum())


def anti_isolated(dimuons: pd.DataFrame, cuts: Mapping[str, Range], cutflow: Cutflow) -> BoolArray:
    """(n_dimuons,) True for the dimuons that pass the cuts, one step of the cutflow each."""
    passing = np.ones(len(dimuons), bool)
    opposite = (dimuons["charge"] == "OS").to_numpy()
    for column, cut_range in cuts.items():
        passing &= passes(dimuons[column], cut_range)
        cutflow.add_mask(f"anti-isolation: {name_of(column, cut_range)}", passing, opposite)
    return passing


def name_of_window(window: MassWindow) -> str:
    """The name of the mass window in the cutflow."""
    return f"{window.sb_low:g} <= dimu_mass <= {window.sb_high:g}"


def repeated(run: IntArray, section: IntArray, event: IntArray) -> BoolArray:
    """(n_events,) True for every event but the first of equal run, section and event number, each (n_events,).

    Events of which one of the three is 0 (not known) are never repeated.
    """
    order = np.lexsort((event, section, run))
    same = np.ones(len(order), bool)
    same[:1] = False
    for values in (run, section, event):
        ordered = np.asarray(values)[order]
        same[1:] &= ordered[1:] == ordered[:-1]
    mask = np.zeros(len(order), bool)
    mask[order] = same  # lexsort is stable: the first of equal events is the first in the table
    for values in (run, section, event):
        mask &= np.asarray(values) > 0
    return mask


def _chosen(pairs: Pairs, opposite: BoolArray, passing: BoolArray) -> tuple[Pairs, BoolArray]:
    return {name: values[passing] for name, values in pairs.items()}, opposite[passing]
