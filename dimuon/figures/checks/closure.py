"""Do sampled events look like real ones in the sidebands, feature by feature?"""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dimuon.arrays import FloatArray
from dimuon.dataset import Dataset
from dimuon.features import Feature
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved, weights_of
from dimuon.figures.sections import Section
from dimuon.figures.style import (
    COLOURS,
    Colour,
    bin_edges,
    has_log_bins,
    panels,
    poisson_errors,
    say_origin,
    stacked,
    step_line,
    styled,
)
from dimuon.workflow import products

RATIO_RANGE = (0.5, 1.5)  # of real to sampled events; beyond it, arrows
REGIONS = {"SBL": (COLOURS[0], "o", "-"), "SBH": (COLOURS[1], "s", "--")}  # colour, marker and line of each
CAPTION = (
    "Real events (points) and events sampled from the flows (lines) in the sidebands, and their ratio below. "
    "The samples are scaled to the number of real events. Agreement here says that the flows learned what "
    "they were shown; whether they interpolate is for the shifted windows to say. Bands: the error of the sampled "
    "events; arrows: ratios beyond the axis."
)


@figure("closure", section=Section.BACKGROUND, order=130, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each charge with sampled events in the sidebands."""
    names = saved.config.features.names
    for charge in saved.charges:
        path = saved.run.path(products.BACKGROUND, charge=charge)
        sampled, events = saved.table(path), saved.events(charge, names)
        if sampled is None or events is None:
            continue
        in_sidebands = events[events["region"] != "SR"]
        features = {name: saved.data.feature(name).completed(in_sidebands[name].to_numpy(float)) for name in names}
        table = closure_table(events, sampled[sampled["use"] == "closure"], features)
        if len(table):
            yield Drawing(
                f"closure_{charge}",
                f"Sampled against real sidebands, {saved.data.short(charge)}",
                [path, saved.dimuons_path(charge)],
                table,
                partial(closure, charge=charge),
            )


def closure_table(data: pd.DataFrame, sampled: pd.DataFrame, features: Mapping[str, Feature]) -> pd.DataFrame:
    """Histograms of real and sampled events for `closure`; empty where nothing was sampled.

    data, sampled: region and the features; sampled may have a weight, 1 where it has none. The sampled events are
    scaled to the number of real ones in each region. Columns: region, feature, bin_low, bin_high, n_data, n_sampled,
    n_sampled_err (events).
    """
    rows = []
    for region in REGIONS:
        real, drawn = data[data["region"] == region], sampled[sampled["region"] == region]
        if drawn.empty:
            continue
        weight = weights_of(drawn)
        scale = len(real) / weight.sum()
        for name, feature in features.items():
            edges = feature.edges if feature.discrete else feature.edges[::2]
            squares = np.histogram(drawn[name], edges, weights=weight**2)[0]
            histogram = {
                "region": region,
                "feature": name,
                "bin_low": edges[:-1],
                "bin_high": edges[1:],
                "n_data": np.histogram(real[name], edges)[0],
                "n_sampled": scale * np.histogram(drawn[name], edges, weights=weight)[0],
                "n_sampled_err": scale * np.sqrt(squares),
            }
            rows.append(pd.DataFrame(histogram))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


@styled
def closure(table: pd.DataFrame, charge: str, data: Dataset) -> Figure:
    """Real against sampled events in each sideband, feature by feature, with their ratio. table: `closure_table`.

    Bands: the error of the sampled events, below around one. Arrows: ratios beyond the axis.
    """
    names = list(dict.fromkeys(table["feature"]))
    rows = {"height_ratios": [3, 1.3], "hspace": 0.0}
    size = 6.0 * len(names), 7.0
    figure, axes = panels(2, len(names), size, sharex="col", squeeze=False, gridspec_kw=rows)
    stacked(figure)
    for column, name in enumerate(names):
        top, ratio = axes[:, column]
        of_feature = table[table["feature"] == name]
        for region, part in of_feature.groupby("region", sort=False):
            _counts(top, part, region)
            _ratio(ratio, part, region)
        feature = data.feature(name)
        ratio.set(xlabel=feature.axis_label, xscale="log" if has_log_bins(of_feature) else "linear", ylim=RATIO_RANGE)
        ratio.set_xlim(of_feature["bin_low"].min(), of_feature["bin_high"].max())
        ratio.axhline(1, color="black", linewidth=1)
        top.set(yscale="log", ylim=(0.5, 40 * of_feature["n_data"].max()))
    axes[0, 0].set_ylabel("Events / bin")
    axes[1, 0].set_ylabel("Data / sampled", loc="center", fontsize=15)
    axes[0, -1].legend(loc="upper right", ncol=2, fontsize=13)
    say_origin(figure, axes[0, 0], data.origin, f"{data.short(charge)} sidebands", last=axes[0, -1])
    return figure


def _counts(axes: Axes, part: pd.DataFrame, region: str) -> None:
    colour, marker, line = REGIONS[region]
    low, high, expected = part["bin_low"], part["bin_high"], part["n_sampled"]
    step_line(axes, low, high, expected, color=colour, linestyle=line, linewidth=1.5, label=f"{region} sampled")
    _band(axes, part, expected, part["n_sampled_err"], colour)
    axes.errorbar(
        _centres(part),
        part["n_data"],
        yerr=poisson_errors(part["n_data"]),
        fmt=marker,
        color=colour,
        markersize=5,
        elinewidth=1,
        label=f"{region} data",
    )


def _ratio(axes: Axes, part: pd.DataFrame, region: str) -> None:
    colour, marker, _ = REGIONS[region]
    share = part["n_sampled_err"] / part["n_sampled"].where(part["n_sampled"] > 0, 1.0)
    _band(axes, part, share * 0 + 1, share, colour)
    full = part[(part["n_data"] > 0) & (part["n_sampled"] > 0)]
    centre, values = _centres(full), (full["n_data"] / full["n_sampled"]).to_numpy()
    errors = poisson_errors(full["n_data"]) / full["n_sampled"].to_numpy()
    axes.errorbar(centre, values, yerr=errors, fmt=marker, color=colour, markersize=4, elinewidth=1)
    low, high = RATIO_RANGE
    for beyond, edge, arrow in ((values > high, high - 0.05, "^"), (values < low, low + 0.05, "v")):
        axes.plot(centre[beyond], np.full(beyond.sum(), edge), arrow, color=colour, markersize=6)


def _band(axes: Axes, part: pd.DataFrame, middle: pd.Series, half: pd.Series, colour: Colour) -> None:
    edges = bin_edges(part["bin_low"], part["bin_high"])
    low, high = (middle - half).to_numpy(), (middle + half).to_numpy()
    axes.stairs(high, edges, baseline=low, fill=True, color=colour, alpha=0.25)


def _centres(part: pd.DataFrame) -> FloatArray:
    """(n_bins,) where the points stand: the middle of each bin on its axis."""
    low, high = part["bin_low"].to_numpy(dtype=float), part["bin_high"].to_numpy(dtype=float)
    centres: FloatArray = (low + high) / 2
    if len(part) and has_log_bins(part):
        centres = np.sqrt(low * high)
    return centres
