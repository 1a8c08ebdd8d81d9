"""The dimuon selection (paper, "Anti-Isolated Upsilon Selection"): named cuts in the order of the YAML, counted."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dimuon import kinematics
from dimuon.data import nanoaod
from dimuon.data.schema import DIMUONS, MEASURED
from dimuon.errors import UserError

CHARGES = ("os", "ss")
ALL = "all"
SKIM_STEPS = {  # names in the cutflow of what the skim has counted
    "events_read": "events read",
    "events_certified": "certified luminosity",
    "events_two_muons": "two muons identified",
}


@dataclass
class Cutflow:
    """How many events are left after each step: {step: {"all" | "os" | "ss": events}}, in the order of the steps."""

    counts: dict = field(default_factory=dict)

    def add(self, step, events, os=None, ss=None):
        """Add events to a step, its last if it is a new one. os, ss: of them by charge, None where not known yet."""
        count = self.counts.setdefault(step, dict.fromkeys((ALL, *CHARGES)))
        for key, value in ((ALL, events), ("os", os), ("ss", ss)):
            if value is not None:
                count[key] = (count[key] or 0) + int(value)

    @classmethod
    def of_skim(cls, totals, charges=CHARGES):
        """The cutflow that begins with what the skim has counted. totals: of its manifest. charges: those wanted."""
        cutflow = cls()
        for key in ("events_read", "events_certified"):
            cutflow.add(SKIM_STEPS[key], totals[key])
        by_charge = {charge: totals[charge] for charge in charges}
        cutflow.add(SKIM_STEPS["events_two_muons"], sum(by_charge.values()), **by_charge)
        return cutflow

    def add_mask(self, step, passing, opposite):
        """Add the events of a step by charge. passing, opposite: (n_events,) flags."""
        os = int((passing & opposite).sum())
        total = int(passing.sum())
        self.add(step, total, os, total - os)

    def steps(self):
        """List of {"name", "events", "efficiency", "cumulative"}: events by charge and in all, the share of the step
        before, and the share of the first step that knows the charge; None where not known."""
        rows, before, first = [], {}, {}
        for name, count in self.counts.items():
            known = {key: value for key, value in count.items() if value is not None}
            row = {"name": name, "events": count}
            for label, base in (("efficiency", before), ("cumulative", first)):
                row[label] = {key: known[key] / base[key] if base.get(key) and key in known else None for key in count}
            rows.append(row)
            before = known
            first = {**known, **first}
        return rows

    def text(self):
        """The cutflow as lines of text, for the screen."""
        width = max(len(name) for name in self.counts)
        lines = [f"{'':{width}}" + "".join(f"{key.upper():>14}{'eff.':>8}{'cumul.':>8}" for key in (ALL, *CHARGES))]
        for row in self.steps():
            cells = (
                f"{_number(row['events'][key]):>14}{_percent(row['efficiency'][key]):>8}{_percent(row['cumulative'][key]):>8}"
                for key in (ALL, *CHARGES)
            )
            lines.append(f"{row['name']:{width}}" + "".join(cells))
        return "\n".join(lines)

    def require_events(self):
        """`UserError` where a step leaves no event at all; it names the first such step."""
        for name, count in self.counts.items():
            if count[ALL] == 0:
                raise UserError(
                    f"no event is left after the step {name!r} of the selection; check it in the configuration"
                )


def check_columns(cuts, key, triggers=()):
    """`UserError` where a cut names no column that it can be made on.

    cuts: {column: range}; key: where they stand. triggers: flags that are there; the dimuon table has none.
    """
    known = (*MEASURED, *triggers)
    for column in cuts:
        if column not in known:
            remedy = "; triggers are cut on in selection.cuts" if column.startswith("HLT_") else ""
            if remedy and triggers:
                remedy = "; add it to input.triggers"
            raise UserError(f"{key}.{column}: no such column{remedy or nanoaod.nearest(column, known)}")


def passes(values, cut_range):
    """(n_events,) True where min < value < max. values: (n_events,), NaN where not known, which never passes.

    cut_range: has `min` and `max`, either None.
    """
    values = np.asarray(values)
    passing = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), bool)
    if cut_range.min is not None:
        passing &= values > cut_range.min
    if cut_range.max is not None:
        passing &= values < cut_range.max
    return passing


def name_of(column, cut_range):
    """The name of a cut in the cutflow, e.g. "mu0_pt > 17"."""
    low = "" if cut_range.min is None else f"{cut_range.min:g} < " if cut_range.max is not None else ""
    high = f" < {cut_range.max:g}" if cut_range.max is not None else f" > {cut_range.min:g}"
    return f"{low}{column}{high}"


def select(pairs, trigger, cuts, window, charges, cutflow):
    """Trigger, cuts and mass window, one after the other, on a batch of muon pairs.

    pairs: {column: (n_events,)} of the skim (`nanoaod.schema`). trigger: column name. cuts: {column: range}, applied
    in this order to any column of the dimuon table. window: `MassWindow`. charges: those wanted, of "os", "ss".
    cutflow: `Cutflow` that the batch is added to. Returns {column: (n_selected,)} with the dimuon kinematics and
    `charge`, `region`; the order is kept.
    """
    opposite = kinematics.is_opposite_sign(pairs["mu0_charge"], pairs["mu1_charge"])
    wanted = np.isin(np.where(opposite, "os", "ss"), charges)
    pairs, opposite = _chosen((pairs, opposite), wanted)
    passing = pairs[trigger]
    cutflow.add_mask(trigger, passing, opposite)
    pairs, opposite = _chosen((pairs, opposite), passing)
    pairs = pairs | kinematics.of_pairs(pairs)
    for column, cut_range in cuts.items():
        passing = passes(pairs[column], cut_range)
        cutflow.add_mask(name_of(column, cut_range), passing, opposite)
        pairs, opposite = _chosen((pairs, opposite), passing)
    passing = window.in_window(pairs["dimu_mass"])
    cutflow.add_mask(name_of_window(window), passing, opposite)
    pairs, opposite = _chosen((pairs, opposite), passing)
    return pairs | {"charge": np.where(opposite, "OS", "SS"), "region": window.region(pairs["dimu_mass"])}


def table(batches):
    """The selected batches as one DataFrame in the columns of `DIMUONS`, sorted by run, luminosity section and event.

    Events that the input does not number (run 0) keep their order, in front.
    """
    joined = {name: np.concatenate([batch[name] for batch in batches]) for name in DIMUONS if name != "anti_isolated"}
    order = np.lexsort((joined["event"], joined["luminosityBlock"], joined["run"]))
    return pd.DataFrame({name: values[order] for name, values in joined.items()})


def without_repeated(dimuons, cutflow):
    """(dimuons that were read for the first time, number of those dropped); adds a step to the cutflow."""
    again = repeated(dimuons["run"], dimuons["luminosityBlock"], dimuons["event"])
    cutflow.add_mask("not read before", ~again, (dimuons["charge"] == "OS").to_numpy())
    return dimuons[~again].reset_index(drop=True), int(again.sum())


def anti_isolated(dimuons, cuts, cutflow):
    """(n_dimuons,) True for the dimuons that pass the cuts, one step of the cutflow each. cuts: {column: range}."""
    passing = np.ones(len(dimuons), bool)
    opposite = (dimuons["charge"] == "OS").to_numpy()
    for column, cut_range in cuts.items():
        passing &= passes(dimuons[column], cut_range)
        cutflow.add_mask(f"anti-isolation: {name_of(column, cut_range)}", passing, opposite)
    return passing


def name_of_window(window):
    """The name of the mass window in the cutflow."""
    return f"{window.sb_low:g} <= dimu_mass <= {window.sb_high:g}"


def repeated(run, section, event):
    """(n_events,) True for every event but the first of equal run, section and event number; events of run 0
    (not known) are never repeated. run, section, event: (n_events,), whole numbers."""
    order = np.lexsort((event, section, run))
    same = np.ones(len(order), bool)
    same[:1] = False
    for values in (run, section, event):
        ordered = np.asarray(values)[order]
        same[1:] &= ordered[1:] == ordered[:-1]
    mask = np.zeros(len(order), bool)
    mask[order] = same  # lexsort is stable: the first of equal events is the first in the table
    return mask & (np.asarray(run) > 0)


def _chosen(tables, mask):
    pairs, opposite = tables
    return {name: values[mask] for name, values in pairs.items()}, opposite[mask]


def _number(value):
    return "" if value is None else f"{value:,}"


def _percent(value):
    return "" if value is None else f"{100 * value:.3g} %"
