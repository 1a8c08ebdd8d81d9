"""How well can sampled and real events be told apart, in slices of the mass?"""

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import (
    COLOURS,
    MARKERS,
    mark_signal_region,
    panels,
    say_origin,
    stacked,
    styled,
)
from dimuon.regions import MassWindow
from dimuon.workflow import products

LOOKS = {  # of each closure test: how its markers are filled, colour, marker
    "sidebands": ("full", COLOURS[0], MARKERS[0]),
    "half_split": ("left", COLOURS[1], MARKERS[1]),
    "shifted_windows": ("none", COLOURS[2], MARKERS[2]),
}
CAPTION = (
    "How well a classifier tells sampled from real events in slices of the mass (AUC; 0.5 is not at all, so that "
    "points on the dashed line are perfect) and the largest distance between their distributions, feature by "
    "feature. Where windows inside the sidebands were hidden from the flows, these show what the signal region "
    "would see."
)


@figure("agreement", section=Section.BACKGROUND, order=140, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each charge."""
    for charge in saved.charges:
        path = saved.run.path(products.CLOSURE, charge=charge)
        table = agreement_table(saved.json(path) or {})
        if len(table):
            title = f"Agreement of sampled and real events, {saved.data.short(charge)}"
            plot = partial(agreement, window=saved.config.window, charge=charge)
            yield Drawing(f"agreement_{charge}", title, [path], table, plot)


def agreement_table(content: dict[str, Any]) -> pd.DataFrame:
    """One row per place for `agreement`: test, place, mass_low, mass_high [GeV], auc, auc_err, ks_<feature>.

    content: of `closure_<charge>.json`: {test: {place: record}} with the records of
    `dimuon.background.closure.compare`; places without a value (too few events) are left out.
    """
    rows = []
    for test, records in content.items():
        for place, record in records.items() if isinstance(records, dict) else ():
            if isinstance(record, dict) and "auc" in record and "mass_low" in record:
                numbers = {key: record[key] for key in ("mass_low", "mass_high", "n_real", "auc", "auc_err")}
                distances = {f"ks_{name}": value["distance"] for name, value in record["ks"].items()}
                rows.append({"test": test, "place": place} | numbers | distances)
    return pd.DataFrame(rows)


@styled
def agreement(table: pd.DataFrame, window: MassWindow, charge: str, data: Dataset) -> Figure:
    """How well sampled and real events agree in slices of the mass: AUC of a classifier, and KS distances.

    table: of `agreement_table`. Horizontal bars are the mass ranges; dashed, what perfect agreement gives. What is of
    both sidebands at once is left to the report.
    """
    figure, (top, bottom) = panels(2, 1, (9.5, 9.0), sharex=True)
    stacked(figure)
    names = [column for column in map(str, table.columns) if column.startswith("ks_")]
    slices = table[table["place"] != "sidebands"]
    for test, (fill, colour, marker) in LOOKS.items():
        part = slices[slices["test"] == test]
        if len(part):
            centre, half = (part["mass_low"] + part["mass_high"]) / 2, (part["mass_high"] - part["mass_low"]) / 2
            look = {"xerr": half, "linestyle": "none", "elinewidth": 1.3, "markersize": 6, "fillstyle": fill}
            label = test.replace("_", " ")
            top.errorbar(centre, part["auc"], yerr=part["auc_err"], fmt=marker, color=colour, label=label, **look)
            for name, (feature_colour, feature_marker) in _feature_looks(names).items():
                bottom.errorbar(centre, part[name], fmt=feature_marker, color=feature_colour, **look)
    for name, (colour, marker) in _feature_looks(names).items():
        bottom.plot([], [], marker, color=colour, label=data.feature(name.removeprefix("ks_")).label)
    _axes(top, bottom, table, names)
    bottom.set_xlabel(data.mass.axis_label)
    bottom.set_xlim(window.sb_low, window.sb_high)
    mark_signal_region(top, window, label=False)
    mark_signal_region(bottom, window)
    say_origin(figure, top, data.origin, data.short(charge))
    return figure


def _feature_looks(names: list[str]) -> dict[str, tuple[str, str]]:
    """{column: (colour, marker)} of the distances."""
    return dict(zip(names, zip(cycle(COLOURS[2:]), cycle(MARKERS[2:]), strict=False), strict=False))


def _axes(top: Axes, bottom: Axes, table: pd.DataFrame, names: list[str]) -> None:
    top.axhline(0.5, color="black", linestyle="--", linewidth=1)
    top.set_ylabel("AUC, sampled against real")
    low, high = min(0.46, table["auc"].min() - 0.02), max(0.56, table["auc"].max())
    top.set_ylim(low, low + 1.4 * (high - low))  # room for the legend
    bottom.set(ylabel="KS distance", ylim=(0, 1.4 * table[names].max().max()))
    top.legend(loc="upper left", fontsize=13)
    bottom.legend(loc="upper right", fontsize=13)
