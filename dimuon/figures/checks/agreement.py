"""How well can sampled and real events be told apart, in slices of the mass?"""

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import (
    COLOURS,
    MARKERS,
    legend_beside,
    mark_signal_region,
    panels,
    say_origin,
    stacked,
    styled,
)
from dimuon.regions import MassWindow
from dimuon.workflow import products

LOOKS = {  # of each closure test: how its markers are filled, colour, marker, where in its slice they stand
    "sidebands": ("full", COLOURS[0], MARKERS[0], "the sidebands themselves"),
    "half_split": ("left", COLOURS[1], MARKERS[1], "half of them, trained on the other"),
    "shifted_windows": ("none", COLOURS[2], MARKERS[2], "windows hidden from the training"),
}
WHOLE = ("sidebands", "SBL", "SBH")  # places that are no slice of the mass; the report has their numbers
CAPTION = (
    "How well a classifier tells sampled from real events in slices of the mass, the horizontal bars (AUC; 0.5 is not "
    "at all, so that points on the dashed line are perfect), and the largest distance between their distributions, "
    "feature by feature (Kolmogorov-Smirnov). Grey bars: the distance that two samples of this size of one "
    "distribution exceed once in 20 times; points below it agree. Where windows inside the sidebands were hidden from "
    "the flows, these show what the signal region would see."
)


@figure("agreement", section=Section.BACKGROUND, order=140, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each charge."""
    for charge in saved.charges:
        path = saved.run.path(products.CLOSURE, charge=charge)
        table = agreement_table(saved.json(path) or {})
        if len(table):
            title = saved.data.titled("Agreement of sampled and real events", charge)
            plot = partial(agreement, window=saved.config.window, charge=charge)
            yield Drawing(f"agreement_{charge}", title, [path], table, plot)


def agreement_table(content: dict[str, Any]) -> pd.DataFrame:
    """One row per place for `agreement`: test, place, mass_low, mass_high [GeV], auc, auc_err, ks_<feature>, level.

    content: of `closure_<charge>.json`: {test: {place: record}} with the records of
    `dimuon.background.closure.compare`; places without a value (too few events) are left out. level: the distance that
    samples of this size exceed by chance (`dimuon.background.closure.ks_level`); missing in files of earlier versions.
    """
    rows = []
    for test, records in content.items():
        for place, record in records.items() if isinstance(records, dict) else ():
            if isinstance(record, dict) and "auc" in record and "mass_low" in record:
                numbers = {key: record[key] for key in ("mass_low", "mass_high", "n_real", "auc", "auc_err")}
                distances = {f"ks_{name}": value["distance"] for name, value in record["ks"].items()}
                level = {"level": next(iter(record["ks"].values())).get("level", np.nan)}
                rows.append({"test": test, "place": place} | numbers | distances | level)
    return pd.DataFrame(rows)


@styled
def agreement(table: pd.DataFrame, window: MassWindow, charge: str, data: Dataset) -> Figure:
    """How well sampled and real events agree in slices of the mass: AUC of a classifier, and KS distances.

    table: of `agreement_table`. Horizontal bars are the mass ranges; dashed, what perfect agreement gives; grey, the
    distance expected by chance. What is of a whole sideband is left to the report.
    """
    figure, (top, bottom) = panels(2, 1, (12.0, 8.4), sharex=True)
    stacked(figure)
    looks = _feature_looks([column for column in map(str, table.columns) if column.startswith("ks_")])
    slices = table[~table["place"].isin(WHOLE)]
    for test, (fill, colour, marker, label) in LOOKS.items():
        part = slices[slices["test"] == test]
        if len(part):
            low, high = part["mass_low"], part["mass_high"]
            look: dict[str, Any] = {"linestyle": "none", "markersize": 7, "fillstyle": fill}
            bars = {"xerr": (high - low) / 2, "yerr": part["auc_err"], "elinewidth": 1.3}
            top.errorbar((low + high) / 2, part["auc"], fmt=marker, color=colour, label=label, **bars, **look)
            bottom.hlines(part["level"], low, high, color="0.55", linewidth=4, alpha=0.6, zorder=1)
            for index, (name, (feature_colour, feature_marker)) in enumerate(looks.items()):
                at = low + (high - low) * (index + 1) / (len(looks) + 1)  # side by side in the slice
                bottom.plot(at, part[name], feature_marker, color=feature_colour, **look)
    for name, (colour, marker) in looks.items():
        bottom.plot([], [], marker, color=colour, markersize=7, label=data.feature(name.removeprefix("ks_")).label)
    bottom.plot([], [], color="0.55", linewidth=4, alpha=0.6, label="exceeded by chance\nonce in 20 times")
    top.axhline(0.5, color="black", linestyle="--", linewidth=1)
    reach = (slices["auc"] - 0.5).abs().max() + slices["auc_err"].max() if len(slices) else 0.0
    top.set(
        ylabel="AUC, sampled against real", ylim=(min(0.46, slices["auc"].min() - 0.02), 0.5 + max(0.06, 1.15 * reach))
    )
    highest = slices[[*looks, "level"]].max().max()
    bottom.set(ylabel="KS distance", ylim=(0, 1.2 * highest if highest > 0 else 1), xlabel=data.mass.axis_label)
    bottom.set_xlim(window.sb_low, window.sb_high)
    legend_beside(top, data.short(charge))
    legend_beside(bottom, "feature")
    mark_signal_region(top, window)
    mark_signal_region(bottom, window, label=False)
    say_origin(figure, top, data.origin)
    return figure


def _feature_looks(names: list[str]) -> dict[str, tuple[str, str]]:
    """{column: (colour, marker)} of the distances."""
    return dict(zip(names, zip(cycle(COLOURS[3:]), cycle(MARKERS[2:]), strict=False), strict=False))
