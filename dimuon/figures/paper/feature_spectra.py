"""Fig. 3: the features of the events in the SR after each cut on the classifier, and against the background."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dimuon.bumphunt.result import Statistic
from dimuon.dataset import Dataset
from dimuon.features import Feature
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure
from dimuon.figures.saved import Saved
from dimuon.figures.sections import figure_name, section_of
from dimuon.figures.style import (
    COLOURS,
    bin_edges,
    bin_middles,
    filled_range,
    fpr_name,
    has_log_bins,
    legend_beside,
    panels,
    poisson_errors,
    say_origin,
    stacked,
    step_line,
    styled,
    working_point_looks,
)
from dimuon.workflow import products

FINE = 30  # bins; of so many and more two are drawn as one beside the background
CAPTION = "What the classifier keeps: the features of the events in the signal region after each cut."
BEFORE = " Black: before the anti-isolation cut."
DIFFERENCES = (
    "The features of the events in the signal region after a cut (points) and of the background sampled there after "
    "the same cut (filled, with the error of the sampled events), scaled to what the sidebands let expect. Below, the "
    "difference: what stands above zero is what the excess is made of. The cut is, of those of the figures, the most "
    "significant one with enough events for the asymptotic formula."
)


@figure("feature_spectra", section=None, order=30, caption=CAPTION, first=True)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each train-test combination; none where scores were given without features."""
    for train, test, part in _tables(saved):
        number = "fig3" if saved.is_the_papers and train == test == "os" else ""
        yield Drawing(
            figure_name("features", train, test, number),
            f"Features in the signal region, {saved.data.describe(train, test)}",
            [saved.run.path(products.FEATURE_HISTOGRAMS)],
            part,
            feature_spectra,
            section=section_of(train, test),
            caption=CAPTION + (BEFORE if part["fpr"].isna().any() else ""),
        )


@figure("feature_differences", section=None, order=32, caption=DIFFERENCES)
def difference_drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each sample with sampled background, after its most significant cut."""
    for train, test, part in _tables(saved):
        points = saved.table(saved.run.path(products.MASS_POINTS))
        if points is None or "n_sampled" not in part or part["n_sampled"].isna().all():
            continue
        keys = {"train": train, "test": test, "variable": Statistic.WORKING_POINT.value}
        own = points[(points[list(keys)] == list(keys.values())).all(axis=1) & points["valid"]]
        if len(own):
            point = own.sort_values("z0").iloc[-1]
            yield Drawing(
                figure_name("features_difference", train, test),
                f"Features against the background, {saved.data.describe(train, test)}, FPR {fpr_name(point['fpr'])}",
                [saved.run.path(product) for product in (products.FEATURE_HISTOGRAMS, products.MASS_POINTS)],
                part[np.isclose(part["fpr"], point["fpr"])].reset_index(drop=True),
                partial(feature_differences, point=point),
                section=section_of(train, test),
            )


def _tables(saved: Saved) -> Iterator[tuple[str, str, pd.DataFrame]]:
    without_features = {Statistic.WORKING_POINT.value, "random"}
    if saved.curves is None or not set(saved.curves["variable"]) <= without_features:
        yield from saved.by_test(saved.table(saved.run.path(products.FEATURE_HISTOGRAMS)))


@styled
def feature_spectra(histograms: pd.DataFrame, data: Dataset) -> Figure:
    """The features in the SR after each working point; black, before the anti-isolation cut.

    histograms: feature, fpr (NaN: before anti-isolation), bin_low, bin_high, n_obs; one train-test combination.
    """
    names = list(dict.fromkeys(histograms["feature"]))
    figure, axes = panels(1, len(names), (5.8 * len(names) + 2.0, 5.6), squeeze=False)
    for name, frame in zip(names, axes[0], strict=True):
        _feature(frame, data.feature(name), histograms[histograms["feature"] == name])
    axes[0, 0].set_ylabel("Events in the SR / bin")
    legend_beside(axes[0, -1], data.describe(*histograms[["train", "test"]].iloc[0]))
    say_origin(figure, axes[0, 0], data.origin, last=axes[0, -1])
    return figure


def _feature(axes: Axes, feature: Feature, part: pd.DataFrame) -> None:
    def outline(rows: pd.DataFrame, **look: Any) -> None:
        step_line(axes, rows["bin_low"], rows["bin_high"], rows["n_obs"], **look)

    before = part[part["fpr"].isna()]
    if len(before):
        outline(before, color="black", linewidth=1.0, label="before\nanti-isolation")
    for fpr, look in working_point_looks(part["fpr"].dropna()).items():
        style = {"color": look.colour, "linestyle": look.line, "linewidth": 2}
        outline(part[part["fpr"] == fpr], **style, label=f"FPR {fpr_name(fpr)}")
    axes.set(xlabel=feature.axis_label, xscale="log" if has_log_bins(part) else "linear", yscale="log")
    axes.set_xlim(*filled_range(part, "n_obs"))
    axes.set_ylim(0.5, 3 * max(part["n_obs"].max(), 1))


@styled
def feature_differences(histograms: pd.DataFrame, point: "pd.Series[Any]", data: Dataset) -> Figure:
    """The features in the SR after one cut, over the background sampled there, and the difference.

    histograms: feature, bin_low, bin_high, n_obs, n_sampled, n_sampled_err. point: fpr, n_obs, n_bkg, z0 of the cut.
    """
    names = list(dict.fromkeys(histograms["feature"]))
    rows = {"height_ratios": [2.2, 1], "hspace": 0.0}
    figure, axes = panels(2, len(names), (5.6 * len(names) + 2.0, 7.0), sharex="col", squeeze=False, gridspec_kw=rows)
    stacked(figure)
    for name, (top, bottom) in zip(names, axes.T, strict=True):
        _difference(top, bottom, _coarser(histograms[histograms["feature"] == name]))
        bottom.set_xlabel(data.feature(name).axis_label)
    axes[0, 0].set_ylabel("Events in the SR / bin")
    axes[1, 0].set_ylabel("Difference", loc="center")
    words = f"{data.describe(*histograms[['train', 'test']].iloc[0])}\nFPR {fpr_name(point['fpr'])}"
    words += f"\n{point['n_obs']:.0f} in SR,\n{point['n_bkg']:.0f} expected:\n{point['z0']:.1f}$\\sigma$"
    legend_beside(axes[0, -1], words)
    say_origin(figure, axes[0, 0], data.origin, last=axes[0, -1])
    return figure


def _difference(top: Axes, bottom: Axes, part: pd.DataFrame) -> None:
    edges, middle = bin_edges(part["bin_low"], part["bin_high"]), bin_middles(part)
    n_obs, background, error = (part[name].to_numpy(dtype=float) for name in ("n_obs", "n_sampled", "n_sampled_err"))
    top.stairs(background, edges, fill=True, color=COLOURS[0], alpha=0.35, label="sampled\nbackground")
    low, high = background - error, background + error
    top.stairs(high, edges, baseline=low, fill=True, color=COLOURS[0], alpha=0.4)
    errors = poisson_errors(n_obs)
    look: dict[str, Any] = {"fmt": "o", "color": "black", "markersize": 5, "elinewidth": 1.1}
    top.errorbar(middle, n_obs, yerr=errors, label="data", **look)
    top.set_ylim(0, 1.15 * max((n_obs + errors[1]).max(), high.max()))
    bottom.stairs(error, edges, baseline=-error, fill=True, color=COLOURS[0], alpha=0.4)
    bottom.axhline(0, color="black", linewidth=1)
    bottom.errorbar(middle, n_obs - background, yerr=errors, **look)
    bottom.set_xscale("log" if has_log_bins(part) else "linear")
    bottom.set_xlim(*filled_range(part, "n_obs", "n_sampled"))


def _coarser(part: pd.DataFrame) -> pd.DataFrame:
    """Two bins to one where there are many; errors add in quadrature."""
    if len(part) < FINE:
        return part
    pairs = np.arange(len(part)) // 2
    squares = part.assign(n_sampled_err=part["n_sampled_err"] ** 2)
    ends = {"bin_low": "first", "bin_high": "last"}
    merged = squares.groupby(pairs).agg(ends | dict.fromkeys(("n_obs", "n_sampled", "n_sampled_err"), "sum"))
    return merged.assign(n_sampled_err=np.sqrt(merged["n_sampled_err"]))
