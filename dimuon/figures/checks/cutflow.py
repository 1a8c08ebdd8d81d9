"""Who was cut? Events left after each step of the selection."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_selection
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import COLOURS, panel, say_origin, styled
from dimuon.workflow import products

BARS = {  # of each charge: name, hatch
    "all": ("all", ""),
    "os": ("opposite sign", "//"),
    "ss": ("same sign", ".."),
}
CAPTION = "Events left after each step of the selection. The anti-isolated dimuons in the mass window are analysed."


@figure("cutflow", section=Section.DATA, order=150, caption=CAPTION, condition=with_selection)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One."""
    path = saved.run.path(products.CUTFLOW)
    content = saved.json(path)
    if content is not None:
        yield Drawing("cutflow", "Cutflow", [path], cutflow_table(content["steps"]), cutflow)


def cutflow_table(steps: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per step and charge for `cutflow`: step, charge, events, efficiency. steps: of `cutflow.json`."""
    rows = [
        {"step": step["name"], "charge": charge, "events": events, "efficiency": step["efficiency"][charge]}
        for step in steps
        for charge, events in step["events"].items()
        if events is not None
    ]
    return pd.DataFrame(rows)


@styled
def cutflow(table: pd.DataFrame, data: Dataset) -> Figure:
    """Events left after each step of the selection, in all and by charge, on a log axis. table: of `cutflow_table`."""
    steps = list(dict.fromkeys(table["step"]))
    figure, axes = panel((10.5, 1.6 + 0.85 * len(steps)))
    height = 0.8 / len(BARS)
    for bar, (charge, (name, hatch)) in enumerate(BARS.items()):
        part = table[table["charge"] == charge]
        place = np.array([steps.index(step) for step in part["step"]]) + (bar - 1) * height
        axes.barh(place, part["events"], height, color=COLOURS[bar], hatch=hatch, edgecolor="white", label=name)
        for y, events in zip(place, part["events"], strict=True):
            axes.text(events * 1.15, y, f"{events:,.0f}", va="center", fontsize=11)
    axes.set(xscale="log", xlabel="Events left")
    axes.set_xlim(max(table["events"].min() / 5, 0.5), table["events"].max() * 40)
    axes.set_yticks(range(len(steps)), steps, fontsize=13)
    axes.tick_params(axis="y", which="minor", left=False, right=False)
    axes.tick_params(axis="y", which="major", length=0)
    axes.set_ylim(len(steps) - 0.4, -0.6)
    axes.legend(loc="lower right", fontsize=13)
    say_origin(figure, axes, data.origin)
    return figure
