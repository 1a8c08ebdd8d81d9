"""Who was cut? Events left after each step of the selection."""

import re
import textwrap
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
from dimuon.figures.style import COLOURS, legend_beside, panel, say_origin, styled
from dimuon.workflow import products

BARS = {  # of each charge: name, hatch
    "all": ("all", ""),
    "os": ("opposite sign", "//"),
    "ss": ("same sign", ".."),
}
LONGEST_LINE = 34  # letters
CAPTION = (
    "Events left after each step of the selection, in brackets the share of the step before. The anti-isolated dimuons "
    "in the mass window are analysed."
)


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
    """Events left after each step of the selection, in all and by charge, on a log axis from one event on.

    table: of `cutflow_table`. In brackets: the share of the step before.
    """
    steps = list(dict.fromkeys(table["step"]))
    figure, axes = panel((12.5, 1.6 + 0.85 * len(steps)))
    height = 0.8 / len(BARS)
    for bar, (charge, (name, hatch)) in enumerate(BARS.items()):
        part = table[table["charge"] == charge]
        place = np.array([steps.index(step) for step in part["step"]]) + (bar - 1) * height
        axes.barh(place, part["events"], height, color=COLOURS[bar], hatch=hatch, edgecolor="white", label=name)
        for y, events, share in zip(place, part["events"], part["efficiency"], strict=True):
            words = f"{events:,.0f}" if share is None or np.isnan(share) else f"{events:,.0f} ({100 * share:.3g} %)"
            axes.text(max(events, 1) * 1.15, y, words, va="center", fontsize=11)
    axes.set(xscale="log", xlabel="Events left")
    decades = np.log10(max(table["events"].max(), 10))
    axes.set_xlim(1, 10 ** (1.25 * decades))  # room for the numbers beside the longest bar
    axes.set_yticks(range(len(steps)), [in_words(step, data) for step in steps], fontsize=14)
    axes.tick_params(axis="y", which="minor", left=False, right=False)
    axes.tick_params(axis="y", which="major", length=0)
    axes.set_ylim(len(steps) - 0.4, -0.6)
    legend_beside(axes)
    say_origin(figure, axes, data.origin)
    return figure


def in_words(step: str, data: Dataset) -> str:
    """A step of the selection with the labels of its columns and their unit, in lines that fit beside the axis.

    >>> in_words("anti-isolation: mu0_iso04 > 0.55", Dataset()), in_words("mu1_pt > 8", Dataset())
    ('anti-isolation:\\nHarder muon isolation (0.4) > 0.55', 'Softer muon $p_T$ > 8 GeV')
    """
    unit = ""
    for name in re.findall(r"[A-Za-z_]\w*", step):
        if name == data.mass.column:
            step, unit = step.replace(name, data.mass.label), data.mass.unit
        elif name in data.features:
            step, unit = step.replace(name, data.feature(name).label), data.feature(name).unit
    words = f"{step} {unit}".strip().replace("<=", "≤").replace(">=", "≥").replace(": ", ":\n")
    if "$" in words:
        return words
    lines = [line for part in words.split("\n") for line in textwrap.wrap(part, LONGEST_LINE, break_long_words=False)]
    return "\n".join(_broken(line) for line in lines)


def _broken(line: str) -> str:
    """A line in two where it is one long name, such as a trigger's: at the underscore next to its middle."""
    places = [at + 1 for at, letter in enumerate(line) if letter == "_"]
    if len(line) <= LONGEST_LINE or not places:
        return line
    at = min(places, key=lambda place: abs(place - len(line) / 2))
    return f"{line[:at]}\n{line[at:]}"
