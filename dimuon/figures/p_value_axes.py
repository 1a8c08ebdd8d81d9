"""p-values against the false-positive rate: the axes and the curves that several figures share."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.path import Path as MarkerPath
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri
from scipy.stats import norm

from dimuon.bumphunt.result import Statistic
from dimuon.dataset import Dataset
from dimuon.figures.style import Colour, Look

FLOOR = 1e-280  # smaller p-values are drawn here, and that is said: beyond it floating point gives zero
LOWEST = 1e-300  # where an axis ends at the latest
STRONG = 1e-30  # below it the axis is linear in standard deviations, so that weak curves are seen beside strong ones
BOUND = MarkerPath(  # a bar, and an arrow from its middle down
    [(-0.4, 0), (0.4, 0), (0, 0), (0, -1), (-0.25, -0.68), (0, -1), (0.25, -0.68)],
    [MarkerPath.MOVETO, MarkerPath.LINETO, MarkerPath.MOVETO, *[MarkerPath.LINETO] * 4],
)
BESIDE = 1.08  # where a legend beside these axes begins, in their widths: right of the standard deviations


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
        "zorder": 3 if look.strong else 2,
    }
    inside = look.colour if look.marker == "x" else "white"
    axes.plot(fpr, p0, linestyle=look.line, **style)
    axes.plot(fpr[valid], p0[valid], look.marker, **style)
    axes.plot(fpr[~valid], p0[~valid], look.marker, markerfacecolor=inside, **style)
    axes.plot([], [], marker=look.marker, linestyle=look.line, label=label, **style)


def upper_bounds(axes: Axes, fpr: ArrayLike, p0: ArrayLike, colour: Colour, label: str) -> None:
    """p-values that are only known to lie below p0: bars with an arrow that points down. fpr, p0: (n,)."""
    look: dict[str, Any] = {"marker": BOUND, "markersize": 22, "markeredgewidth": 1.5, "markerfacecolor": "none"}
    axes.plot(fpr, p0, color=colour, linestyle="none", label=label, zorder=4, **look)


def p_value_axes(axes: Axes, lowest: float, with_sigma: bool = True) -> None:
    """FPR across, p-value from 1 down to the lowest, and the same in standard deviations on the right.

    Where the lowest is below `STRONG` the axis is linear in standard deviations and ends at -1. with_sigma: standard
    deviations are written.
    """
    beyond, lowest = lowest < FLOOR, max(lowest, FLOOR)
    strong = lowest < STRONG
    axes.set(xscale="log", xlabel="False-positive rate (fraction of sideband events kept)")
    axes.set_ylabel(r"local $p$-value" + (r" (linear in $\sigma$)" if strong else ""))
    if strong:
        axes.set_yscale("function", functions=(ndtri, ndtr))
        bottom, top = norm.sf(norm.isf(lowest) * 1.06), norm.sf(-1.0)
    else:
        axes.set_yscale("log")
        bottom, top = min(0.2 * lowest, norm.sf(3.6)), 1.0
    bottom = max(bottom, LOWEST)
    axes.set_ylim(bottom, top)
    if beyond:
        said = rf"$p < 10^{{{round(np.log10(FLOOR))}}}$ is drawn there"
        axes.text(0.98, 0.02, said, transform=axes.transAxes, ha="right", va="bottom", fontsize=13)
    reach = int(norm.isf(bottom))
    sigmas = np.arange(0 if strong else 1, reach + 1)[:: 1 + reach // 12]
    for sigma in sigmas:
        axes.axhline(norm.sf(sigma), color="0.75", linestyle=":", linewidth=1, zorder=0)
    if strong:  # round powers of ten near the standard deviations
        powers = sorted({round(float(norm.logsf(sigma)) / np.log(10)) for sigma in sigmas[1:]})
        axes.yaxis.set_major_locator(FixedLocator([10.0**power for power in powers]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda p, _: f"$10^{{{round(np.log10(p))}}}$"))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="y", which="both", right=False)
    beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    for sigma in sigmas if with_sigma else ():
        axes.annotate(rf"{sigma}$\sigma$", (1, norm.sf(sigma)), (6, 0), fontsize=16, **beside)
