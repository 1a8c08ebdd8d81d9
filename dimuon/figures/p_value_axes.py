"""p-values against the false-positive rate: the axes and the curves that several figures share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from scipy.stats import norm

from dimuon.bumphunt.result import Statistic
from dimuon.dataset import Dataset
from dimuon.figures.style import Colour, Line

FLOOR = 1e-280  # smaller p-values are drawn here: beyond it floating point gives zero


@dataclass(frozen=True)
class Look:
    """Line, marker and colour of a curve."""

    line: Line
    marker: str
    colour: Colour
    strong: bool = False


def variable_label(name: str, data: Dataset) -> str:
    """What a significance curve is of, in the words of a legend."""
    if name == Statistic.WORKING_POINT:
        return Statistic.WORKING_POINT.label
    if name == "random":
        return "Random cut"
    return data.feature(name).label


def curve(axes: Axes, points: pd.DataFrame, look: Look, label: str) -> None:
    """One curve of fpr, p0, valid; filled markers where the asymptotic form holds, open ones where it does not."""
    points = points.sort_values("fpr")
    fpr, p0, valid = points["fpr"], points["p0"].clip(lower=FLOOR), points["valid"].astype(bool)
    style: dict[str, Any] = {
        "color": look.colour,
        "linewidth": 2.8 if look.strong else 1.6,
        "markersize": 8 if look.strong else 6,
    }
    inside = look.colour if look.marker == "x" else "white"
    axes.plot(fpr, p0, linestyle=look.line, **style)
    axes.plot(fpr[valid], p0[valid], look.marker, **style)
    axes.plot(fpr[~valid], p0[~valid], look.marker, markerfacecolor=inside, **style)
    axes.plot([], [], marker=look.marker, linestyle=look.line, label=label, **style)


def p_value_axes(axes: Axes, lowest: float) -> None:
    """FPR across, p-value down to the lowest, and the same in standard deviations on the right."""
    top, share = 4.0, 0.55  # room for words above p = 1, and the legend below the curves
    bottom = np.clip(top * (max(lowest, FLOOR) / top) ** (1 / share), FLOOR, norm.sf(3.6))
    top = max(top, bottom**-0.09)  # over many decades the words need more of them
    reach = norm.isf(bottom)
    axes.set(xscale="log", yscale="log", xlabel="False-positive rate (fraction of sideband events kept)")
    axes.set_ylabel(r"local $p$-value")
    axes.set_ylim(bottom, top)
    sigmas = np.arange(1, int(reach) + 1)[:: 1 + int(reach) // 12]
    for sigma in sigmas:
        axes.axhline(norm.sf(sigma), color="0.75", linestyle=":", linewidth=1, zorder=0)
    axes.tick_params(axis="y", which="both", right=False)
    right = axes.secondary_yaxis("right")
    right.set_yticks(norm.sf(sigmas), [rf"{sigma}$\sigma$" for sigma in sigmas])
    right.tick_params(axis="y", which="minor", right=False)
    right.yaxis.set_minor_locator(NullLocator())
