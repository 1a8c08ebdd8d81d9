"""Does the method make a signal where there is none?"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dimuon.bumphunt.result import Statistic
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import COLOURS, MARKERS, panel, say_origin, styled
from dimuon.workflow.products import PRODUCTS

CAPTION = (
    "Significance in samples that hold no signal, over seeds: samples without a signal and windows moved into the "
    "sidebands. Filled markers are the gate: working points fixed beforehand and, on the right, the likelihood. "
    "Median and spread below one (dashed) there say that the method does not make a signal."
)


@figure("controls", section=Section.ROBUSTNESS, order=70, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One, where the study was made."""
    path = saved.run.path(PRODUCTS["controls"])
    table = saved.optional_table(path)
    if table is not None:
        plot = partial(controls, gate_fprs=saved.config.studies.gate_fprs)
        yield Drawing("study_controls", "Controls", [path], table, plot)


@styled
def controls(table: pd.DataFrame, gate_fprs: Sequence[float], data: Dataset) -> Figure:
    """Z0 of samples without a signal over seeds, at each working point and, at the right edge, of the likelihood.

    table: control, seed, variable, fpr, z0. gate_fprs: the working points that decide with the likelihood, where median
    and spread must stay below one; their markers are filled.
    """
    figure, axes = panel()
    shown = table[table["variable"].isin([Statistic.WORKING_POINT, Statistic.LIKELIHOOD])]
    shown = shown.fillna({"z0": 0.0})  # a likelihood without an excess has none
    of_cuts = shown["variable"] == Statistic.WORKING_POINT
    cuts = np.sort(shown.loc[of_cuts, "fpr"].unique())
    edge, slot = 1.5 * cuts[-1], 2.8 * cuts[-1]  # of the place for the likelihood
    shown = shown.assign(place=shown["fpr"].where(of_cuts, slot))
    gate = [slot, *(cuts[np.abs(cuts / fpr - 1).argmin()] for fpr in gate_fprs)]
    names = sorted(shown["control"].unique())
    for index, (name, colour, marker) in enumerate(zip(names, COLOURS, MARKERS, strict=False)):
        part, aside = shown[shown["control"] == name], 1.07 ** (index - (len(names) - 1) / 2)
        look = {"fmt": marker, "color": colour, "capsize": 3}
        decides = part["place"].isin(gate)
        _medians(axes, part[decides], aside, fillstyle="full", label=name.replace("_", " "), **look)
        _medians(axes, part[~decides], aside, fillstyle="none", **look)
    axes.plot([], [], "o", color="black", fillstyle="none", label="not in the gate")
    axes.set(xscale="log", xlabel="False-positive rate", ylabel=r"$Z_0$ [$\sigma$], median and spread over seeds")
    axes.set_xlim(cuts[0] / 1.4, slot**2 / edge)
    axes.set_ylim(-0.2, max(3.0, 1.5 * shown["z0"].max()))
    axes.axhline(1, color="black", linestyle="--", linewidth=1)
    _likelihood_slot(axes, edge, slot)
    axes.legend(loc="upper left")
    say_origin(figure, axes, data.origin, "no signal expected")
    return figure


def _medians(axes: Axes, part: pd.DataFrame, aside: float, **look: Any) -> None:
    """Median and spread over the seeds at each place, moved aside by a factor."""
    z0 = part.groupby("place")["z0"]
    median, spread = z0.median(), z0.std().fillna(0)
    axes.errorbar(median.index * aside, median, yerr=spread, **look)


def _likelihood_slot(axes: Axes, edge: float, slot: float) -> None:
    """A place of its own for the likelihood, right of the working points."""
    axes.axvline(edge, ymax=0.85, color="black", linewidth=1)
    below: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(Statistic.LIKELIHOOD, (slot, 0), (0, 5), fontsize=12, ha="center", **below)
    axes.set_xticks([tick for tick in axes.get_xticks(minor=True) if tick < edge], minor=True)
