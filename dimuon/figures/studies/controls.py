"""Does the method make a signal where there is none?"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dimuon.bumphunt.result import Statistic, shown_likelihood
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import COLOURS, MARKERS, legend_beside, panels, say_origin, styled
from dimuon.studies.controls import signed
from dimuon.workflow.products import PRODUCTS

CAPTION = (
    "Significance, with its sign, in samples that hold no signal, a panel for each, over seeds: samples without a "
    "signal and windows moved into the sidebands. Filled markers are the gate: working points fixed beforehand and, "
    "on the right, the likelihood. Median and spread below one (dashed) there say that the method does not make "
    "a signal."
)


@figure("controls", section=Section.ROBUSTNESS, order=70, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One, where the study was made."""
    path = saved.run.path(PRODUCTS["controls"])
    table = saved.optional_table(path)
    if table is not None:
        likelihood = shown_likelihood(table["variable"], saved.config.significance.weight_scales)
        plot = partial(controls, gate_fprs=saved.config.studies.gate_fprs, likelihood=likelihood)
        yield Drawing("study_controls", "Controls", [path], table, plot)


@styled
def controls(table: pd.DataFrame, gate_fprs: Sequence[float], likelihood: Statistic, data: Dataset) -> Figure:
    """Signed Z0 of samples without a signal over seeds, a panel for each: at each working point and, right, of the
    likelihood.

    table: control, seed, variable, fpr, z0, z_signed. gate_fprs: the working points that decide with the likelihood,
    where median and spread must stay below one; their markers are filled. likelihood: which of its forms decides.
    """
    shown = table[table["variable"].isin([Statistic.WORKING_POINT, likelihood])]
    shown = shown.assign(z=signed(shown))
    of_cuts = shown["variable"] == Statistic.WORKING_POINT
    cuts = np.sort(shown.loc[of_cuts, "fpr"].unique())
    edge, slot = 1.5 * cuts[-1], 2.8 * cuts[-1]  # of the place for the likelihood
    shown = shown.assign(place=shown["fpr"].where(of_cuts, slot))
    gate = [slot, *(cuts[np.abs(cuts / fpr - 1).argmin()] for fpr in gate_fprs)]
    names = sorted(shown["control"].unique())
    figure, grid = panels(1, len(names), (5.6 * len(names) + 2.4, 6.4), sharey=True, squeeze=False)
    for axes, name, colour, marker in zip(grid[0], names, cycle(COLOURS), cycle(MARKERS), strict=False):
        part = shown[shown["control"] == name]
        look = {"fmt": marker, "color": colour, "capsize": 3}
        decides = part["place"].isin(gate)
        _medians(axes, part[decides], fillstyle="full", **look)
        _medians(axes, part[~decides], fillstyle="none", **look)
        axes.set(xscale="log", xlabel="False-positive rate", xlim=(cuts[0] / 1.4, slot**2 / edge))
        axes.axhline(1, color="black", linestyle="--", linewidth=1)
        _likelihood_slot(axes, edge, slot)
        named: dict[str, Any] = {"transform": axes.transAxes, "va": "top", "fontsize": 17}
        axes.text(0.04, 0.96, f"{name.replace('_', ' ')}\n{part['seed'].nunique()} seeds", **named)
    grid[0, 0].set_ylabel(r"Signed $Z_0$ [$\sigma$], median and spread over seeds")
    grid[0, 0].set_ylim(min(-0.2, 1.2 * shown["z"].min()), max(3.0, 1.4 * shown["z"].max()))
    last = grid[0, -1]
    last.plot([], [], "o", color="black", label="in the gate")
    last.plot([], [], "o", color="black", fillstyle="none", label="not in the gate")
    last.plot([], [], color="black", linestyle="--", linewidth=1, label="the gate's limit")
    legend_beside(last, "no signal expected")
    say_origin(figure, grid[0, 0], data.origin, last=last)
    return figure


def _medians(axes: Axes, part: pd.DataFrame, **look: Any) -> None:
    """Median and spread over the seeds at each place."""
    z = part.groupby("place")["z"]
    axes.errorbar(z.median().index, z.median(), yerr=z.std().fillna(0), **look)


def _likelihood_slot(axes: Axes, edge: float, slot: float) -> None:
    """A place of its own for the likelihood, right of the working points, named along it."""
    axes.axvline(edge, color="black", linewidth=1)
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    words: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "top", "fontsize": 13}
    axes.annotate(Statistic.LIKELIHOOD, (slot, 1), (0, -8), **words, **place)
    axes.set_xticks([tick for tick in axes.get_xticks(minor=True) if tick < edge], minor=True)
