"""Do sampled events look like real ones in the sidebands, feature by feature?"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from dimuon.arrays import FloatArray
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import (
    COLOURS,
    bin_edges,
    bin_middles,
    filled_range,
    has_log_bins,
    legend_beside,
    panels,
    poisson_errors,
    say_origin,
    stacked,
    step_line,
    styled,
)
from dimuon.workflow import products

RATIO_RANGE = (0.4, 1.6)  # of real to sampled events; beyond it, arrows
REGIONS = {"SBL": (COLOURS[0], "o", "-"), "SBH": (COLOURS[1], "s", "--")}  # colour, marker and line of each
CAPTION = (
    "Real events (points) and events sampled from the flows (lines) in the sidebands, and their ratio below, a row "
    "for each sideband. The samples are scaled to the number of real events. Bands in the rows: where 68 % and 95 % "
    "of the points would lie if both were of one distribution, from the Poisson spread of the real and the error of "
    "the sampled events; arrows: ratios beyond the axis. Agreement here says that the flows learned what they were "
    "shown; whether they interpolate is for the shifted windows to say."
)


@figure("closure", section=Section.BACKGROUND, order=130, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each charge with sampled events in the sidebands."""
    for charge in saved.charges:
        path = saved.run.path(products.CLOSURE_HISTOGRAMS, charge=charge)
        table = saved.table(path)
        if table is not None and len(table):
            title = saved.data.titled("Sampled against real sidebands", charge)
            yield Drawing(f"closure_{charge}", title, [path], table, partial(closure, charge=charge))


@styled
def closure(table: pd.DataFrame, charge: str, data: Dataset) -> Figure:
    """Real against sampled events in each sideband, feature by feature, with their ratio.

    table: of `dimuon.background.closure.histograms`. Bands: the error of the sampled events above, and the spread
    expected of the ratio below. Arrows: ratios beyond the axis.
    """
    names, regions = (list(dict.fromkeys(table[column])) for column in ("feature", "region"))
    rows = {"height_ratios": [3, *[1.15] * len(regions)], "hspace": 0.0}
    size = 5.6 * len(names) + 1.6, 5.2 + 1.5 * len(regions)
    figure, axes = panels(1 + len(regions), len(names), size, sharex="col", squeeze=False, gridspec_kw=rows)
    stacked(figure)
    for column, name in enumerate(names):
        top, *ratios = axes[:, column]
        of_feature = table[table["feature"] == name]
        for region, ratio in zip(regions, ratios, strict=True):
            part = of_feature[of_feature["region"] == region]
            _counts(top, part, region)
            _ratio(ratio, part, region)
        feature = data.feature(name)
        ratios[-1].set(xlabel=feature.axis_label, xscale="log" if has_log_bins(of_feature) else "linear")
        ratios[-1].set_xlim(*filled_range(of_feature, "n_real", "n_sampled"))
        top.set(yscale="log", ylim=(0.5, 3 * of_feature["n_real"].max()))
    axes[0, 0].set_ylabel("Events / bin")
    for region, ratio in zip(regions, axes[1:, 0], strict=True):
        ratio.set_ylabel(f"{region}: real\n/ sampled", loc="center", fontsize=14)
    legend_beside(axes[0, -1], data.named("sidebands", charge))
    legend_beside(axes[1, -1], "expected where\nboth agree", title_fontsize=13)
    say_origin(figure, axes[0, 0], data.origin, last=axes[0, -1])
    return figure


def _counts(axes: Axes, part: pd.DataFrame, region: str) -> None:
    colour, marker, line = REGIONS[region]
    low, high, expected = part["bin_low"], part["bin_high"], part["n_sampled"]
    step_line(axes, low, high, expected, color=colour, linestyle=line, linewidth=1.5, label=f"{region} sampled")
    ends = (expected - part["n_sampled_err"]).clip(lower=0), expected + part["n_sampled_err"]
    _band(axes, part, *ends, {"color": colour, "alpha": 0.25})
    look: dict[str, Any] = {"fmt": marker, "color": colour, "markersize": 5, "elinewidth": 1}
    axes.errorbar(bin_middles(part), part["n_real"], yerr=_errors(part["n_real"]), label=f"{region} real", **look)


def _ratio(axes: Axes, part: pd.DataFrame, region: str) -> None:
    colour, marker, _ = REGIONS[region]
    expected = part["n_sampled"].where(part["n_sampled"] > 0)
    for level, shade in ((95, "0.88"), (68, "0.74")):
        lower, upper = part[f"low_{level}"] / expected, part[f"high_{level}"] / expected
        _band(axes, part, lower, upper, {"color": shade, "label": f"{level} %", "zorder": 0})
    axes.axhline(1, color="black", linewidth=1, zorder=1)
    full = part[(part["n_real"] > 0) & expected.notna()]
    centre, values = bin_middles(full), (full["n_real"] / full["n_sampled"]).to_numpy()
    errors = _errors(full["n_real"]) / full["n_sampled"].to_numpy()
    axes.errorbar(centre, values, yerr=errors, fmt=marker, color=colour, markersize=4, elinewidth=1)
    low, high = RATIO_RANGE
    for beyond, edge, arrow in ((values > high, high - 0.06, "^"), (values < low, low + 0.06, "v")):
        axes.plot(centre[beyond], np.full(beyond.sum(), edge), arrow, color=colour, markersize=6)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator([0.5, 1.0, 1.5]))


def _errors(counts: pd.Series) -> FloatArray:
    """Poisson's of whole numbers; the root of sums of weights."""
    events = counts.to_numpy(dtype=float)
    if np.allclose(events, events.round()):
        return poisson_errors(events.round())
    return np.array([np.sqrt(events)] * 2)


def _band(axes: Axes, part: pd.DataFrame, low: pd.Series, high: pd.Series, look: dict[str, Any]) -> None:
    edges = bin_edges(part["bin_low"], part["bin_high"])
    axes.stairs(high.to_numpy(), edges, baseline=low.to_numpy(), fill=True, **look)
