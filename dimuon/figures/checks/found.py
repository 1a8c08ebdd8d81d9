"""What was found: the peaks in the signal region, and the columns in which signal and background differ."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from dimuon.bumphunt.excess import Found, PeakResult, with_error
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import (
    COLOURS,
    bin_edges,
    deviance_pull,
    fpr_name,
    mark_signal_region,
    panels,
    poisson_errors,
    say_origin,
    stacked,
    step_line,
    styled,
)
from dimuon.regions import MassWindow
from dimuon.workflow import products

SHOWN = 9  # columns, the most different ones
FEW = 6  # values of a discrete column that are written at the axis
DECADES = 1.5  # a positive column over more is drawn on a logarithmic axis
PULLS = 4.5
FORMS = {"gaussian": "Gaussian", "crystal_ball": "Crystal Ball", "pseudo_voigt": "pseudo-Voigt"}
BOX: dict[str, Any] = {"frameon": True, "framealpha": 1, "edgecolor": "none"}
WHITE: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}

PEAKS = (
    "Peaks in the signal region {cut}: background ({{model}}) and peaks are fitted together over the whole window. "
    "Dashed: the background of that fit. One more peak is taken as long as its likelihood ratio, with the places open "
    "to it counted, has a p-value below {threshold}. \u03c3: width of the Gaussian part. Below, the pulls: signed "
    "square root of the Poisson deviance."
)
COLUMNS = (
    "Columns of the table in which the excess differs most from the background, after the same cut (FPR {fpr}), and "
    "those that the classifier knows. "
    "Points: signal region less the background expected there. Filled: that background, from the sidebands, which are "
    "weighted to its mean mass. Dashed: background sampled in the signal region, where it has the column. All are "
    "normalised to one. z: significance of the difference; AUC: probability that an event of the signal has the larger "
    "value. Marked ~, and last: columns that vary with the mass so that the sidebands do not tell their background."
)


@figure("peaks", section=Section.FOUND, order=34, caption="")
def peak_drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each sample and cut with a fit."""
    for test, found in _found(saved).items():
        path = saved.run.path(products.PEAK_SPECTRA)
        table = saved.table(path)
        if table is None:
            continue
        for result in found.peaks:
            chosen = (table["train"] + "_on_" + table["test"] == test) & (table["variable"] == result.variable)
            if result.fit is not None and chosen.any():
                cut = "without a cut" if result.fpr >= 1 else f"after the best cut (FPR {fpr_name(result.fpr)})"
                yield Drawing(
                    f"peaks_{result.variable}_{test}",
                    f"Peaks in the signal region, {saved.data.describe(found.train, found.test)}, {cut}",
                    [path, saved.run.path(products.PEAKS)],
                    table[chosen].reset_index(drop=True),
                    partial(peaks, result=result, window=saved.config.window, of_test=(found.train, found.test)),
                    caption=PEAKS.format(cut=cut, threshold=f"{result.fit.threshold:.3g}"),
                )


@figure("found_columns", section=Section.FOUND, order=36, caption="")
def column_drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each sample in which columns were compared."""
    paths = [saved.run.path(product) for product in (products.FOUND_SPECTRA, products.FOUND_COLUMNS)]
    for test, found in _found(saved).items():
        spectra, ranking = (saved.table(path) for path in paths)
        if spectra is None or ranking is None or not found.n_columns:
            continue
        of_test = [table[table["train"] + "_on_" + table["test"] == test] for table in (spectra, ranking)]
        best = _shown(of_test[1])
        table = (
            of_test[0]
            .merge(best.drop(columns=["train", "test"]), on="feature")
            .sort_values(["rank", "bin_low"], kind="stable", ignore_index=True)
        )
        if len(table):
            yield Drawing(
                f"found_columns_{test}",
                f"How the excess differs from the background, {saved.data.describe(found.train, found.test)}",
                paths,
                table,
                partial(columns, found=found),
                caption=COLUMNS.format(fpr=fpr_name(found.fpr)),
            )


def _shown(ranking: pd.DataFrame) -> pd.DataFrame:
    """The columns that differ most, and in any case those that the classifier knows."""
    tested = ranking[ranking["z"].notna()].sort_values(["trained", "rank"], ascending=[False, True])
    known = int(tested["trained"].sum())
    first = tested.sort_values("rank").head(max(SHOWN - known, 0))
    more = tested[~tested.index.isin(first.index)].head(SHOWN - len(first))
    return pd.concat([first, more]).sort_values("rank")


def _found(saved: Saved) -> Mapping[str, Found]:
    """{test: what was found in it}, empty where that was not made."""
    content = saved.json(saved.run.path(products.PEAKS)) or {"tests": {}}
    return {test: Found.from_json(found) for test, found in content["tests"].items()}


@styled
def peaks(
    table: pd.DataFrame, result: PeakResult, window: MassWindow, of_test: tuple[str, str], data: Dataset
) -> Figure:
    """A mass spectrum with the background and the peaks fitted in it, and the pulls.

    table: bin_low, bin_high [unit of the mass], n_obs, n_bkg, n_fit [events].
    """
    rows = {"height_ratios": [4.2, 1], "hspace": 0.0}
    figure, (main, strip) = panels(2, 1, (10.5, 8.5), sharex=True, gridspec_kw=rows)
    stacked(figure)
    centre = ((table["bin_low"] + table["bin_high"]) / 2).to_numpy()
    counts = table["n_obs"].to_numpy(dtype=float)
    main.errorbar(
        centre,
        counts,
        yerr=poisson_errors(counts),
        fmt="o",
        color="black",
        markersize=3.5,
        elinewidth=0.9,
        label="Data",
    )
    main.plot(centre, table["n_fit"], color=COLOURS[1], linewidth=2, label="Background and peaks")
    main.plot(centre, table["n_bkg"], color=COLOURS[0], linestyle="--", label="Background")
    _name_peaks(main, table, result, data)
    top = max(counts.max(), table["n_fit"].max())
    low = 0.0 if table["n_bkg"].min() < 0.5 * top else 0.7 * table["n_bkg"].min()
    main.set_ylim(low, low + 1.75 * (top - low))
    width = table["bin_high"].iloc[0] - table["bin_low"].iloc[0]
    main.set_ylabel(f"{data.events.capitalize()} / {width:.3g} {data.mass.unit}")
    handles, labels = main.get_legend_handles_labels()
    main.legend(handles[::-1], labels[::-1], loc="upper right", bbox_to_anchor=(1, 0.94), fontsize=13, **BOX)
    main.text(0.02, 0.97, _words(result), transform=main.transAxes, va="top", fontsize=13, linespacing=1.35, bbox=WHITE)
    pulls = deviance_pull(counts, table["n_fit"])
    strip.axhspan(-1, 1, color="0.9", zorder=0)
    strip.stairs(pulls, bin_edges(table["bin_low"], table["bin_high"]), fill=True, color=COLOURS[1])
    strip.set(xlabel=data.mass.axis_label, ylim=(-PULLS, PULLS), yticks=[-3, 0, 3])
    strip.set_ylabel("Pulls", loc="center", fontsize=16)
    main.set_xlim(table["bin_low"].min(), table["bin_high"].max())
    for axes in (main, strip):
        mark_signal_region(axes, window, label=axes is main)
    say_origin(figure, main, data.origin, data.describe(*of_test))
    return figure


def _name_peaks(axes: Axes, table: pd.DataFrame, result: PeakResult, data: Dataset) -> None:
    """Name, mass and events of each peak over it, at rising heights so that neighbours do not overlap."""
    if result.fit is None:
        return
    top = max(table["n_obs"].max(), table["n_fit"].max())
    span = table["bin_high"].max() - table["bin_low"].min()
    last, level = -np.inf, 0
    for peak, name in zip(result.fit.peaks, result.names, strict=True):
        level = level + 1 if peak.mass - last < 0.27 * span else 0
        last = peak.mass
        nearest = table.iloc[(table["bin_low"] - peak.mass).abs().argmin()]
        words = f"{name}\n" if name else ""
        words += (
            f"{with_error(peak.mass, peak.mass_err)} {data.mass.unit}\n{peak.n_events:,.0f} ± {peak.n_events_err:,.0f}"
        )
        axes.annotate(
            words,
            (peak.mass, max(nearest["n_fit"], nearest["n_obs"])),
            (peak.mass + 0.012 * span, top * (1.06 - 0.19 * level)) if level else (peak.mass, top * 1.06),
            ha="left" if level else "center",
            va="bottom",
            fontsize=12,
            bbox=WHITE,
            arrowprops={"arrowstyle": "-", "color": "0.4", "linewidth": 1},
        )


def _words(result: PeakResult) -> str:
    """The fit in words."""
    fit = result.fit
    if fit is None:
        return ""
    if not fit.peaks:
        return f"no peak\n$\\chi^2$ / ndf = {fit.chi2:.0f} / {fit.ndf}, p = {fit.p_chi2:.2g}"
    lines = [
        f"{len(fit.peaks)} peak{'s' if len(fit.peaks) > 1 else ''} ({FORMS[fit.shape]})",
        f"$\\sigma / m$ = {with_error(100 * fit.resolution, 100 * fit.resolution_err)} %",
        f"$\\chi^2$ / ndf = {fit.chi2:.0f} / {fit.ndf}, p = {fit.p_chi2:.2g}",
    ]
    if result.scale is not None:
        lines.append(f"mass scale {with_error(result.scale.scale, result.scale.scale_err)}")
        if result.scale.ndf:
            lines.append(f"of one scale: $\\chi^2$ = {result.scale.chi2:.2g} / {result.scale.ndf}")
    return "\n".join(lines)


@styled
def columns(table: pd.DataFrame, found: Found, data: Dataset) -> Figure:
    """Signal and background in the columns that differ most, each normalised to one.

    table: spectra (feature, bin_low, bin_high, values, n_excess, n_bkg, n_sampled with errors) with rank, z, auc ...
    """
    names = list(dict.fromkeys(table["feature"]))
    n_columns = min(3, len(names))
    n_rows = -(-len(names) // n_columns)
    figure, grid = panels(n_rows, n_columns, (6.0 * n_columns, 5.2 * n_rows), squeeze=False)
    for axes, name in zip(grid.ravel(), names, strict=False):
        _column(axes, table[table["feature"] == name], data)
    for axes in grid.ravel()[len(names) :]:
        axes.set_axis_off()
    for row in grid:
        row[0].set_ylabel("Share / bin width")
    named = [zip(*reversed(axes.get_legend_handles_labels()), strict=True) for axes in grid.ravel()]
    legend = {label: handle for pairs in named for label, handle in pairs}
    grid[0, 0].legend(list(legend.values()), list(legend), loc="upper right", fontsize=12)
    note = f"{data.describe(found.train, found.test)}, FPR {fpr_name(found.fpr)}"
    say_origin(figure, grid[0, 0], data.origin, last=grid[0, -1])
    figure.suptitle(note, fontsize=17)
    return figure


def _column(axes: Axes, part: pd.DataFrame, data: Dataset) -> None:
    first = part.iloc[0]
    feature = data.feature(first["feature"])
    low, high, log = _ends(part)
    width = np.log10(high / low) if log else high - low
    signal, background, sampled = (part[name].to_numpy(dtype=float) for name in ("n_excess", "n_bkg", "n_sampled"))
    share = background / background.sum() / width
    edges = np.append(low, high[-1])
    axes.stairs(share, edges, fill=True, color=COLOURS[0], alpha=0.35, label="Background")
    error = part["n_bkg_err"].to_numpy(dtype=float) / background.sum() / width
    axes.stairs(share + error, edges, baseline=share - error, fill=True, color=COLOURS[0], alpha=0.4)
    if np.isfinite(sampled).all() and sampled.sum() > 0:
        step_line(
            axes,
            low,
            high,
            sampled / sampled.sum() / width,
            color=COLOURS[2],
            linestyle="--",
            label="Sampled background",
        )
    centre = np.sqrt(low * high) if log else (low + high) / 2
    total = signal.sum() if signal.sum() > 0 else np.nan
    look: dict[str, Any] = {"fmt": "o", "color": "black", "markersize": 5, "elinewidth": 1.3, "label": "Signal"}
    axes.errorbar(centre, signal / total / width, yerr=part["n_excess_err"] / total / width, **look)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xscale("log" if log else "linear")
    axes.set_xlabel(f"{feature.axis_label}, by decade" if log else feature.axis_label)
    axes.set_xlim(edges[0], edges[-1])
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(bottom, 0), top + 0.45 * (top - min(bottom, 0)))
    if first["of_text"] or (first["discrete"] and len(part) <= FEW):
        axes.set_xticks(centre, [str(value) for value in part["values"]], fontsize=13)
        axes.xaxis.set_minor_locator(NullLocator())
    doubt = " ~" if first["doubtful"] else ""
    known = "" if first["trained"] else "\nnever trained on"
    axes.text(
        0.03,
        0.96,
        f"z = {first['z']:.1f}{doubt}\nAUC {first['auc']:.2f} ± {first['auc_err']:.2f}{known}",
        transform=axes.transAxes,
        va="top",
        fontsize=13,
    )


def _ends(part: pd.DataFrame) -> tuple[Any, Any, bool]:
    """(low, high) of the bins as they are drawn, and whether on a logarithmic axis; a value becomes a bin around it."""
    low, high = (part[name].to_numpy(dtype=float) for name in ("bin_low", "bin_high"))
    if part["discrete"].iloc[0]:
        between = (low[1:] + high[:-1]) / 2
        first, last = between[0] - low[0], high[-1] - between[-1]
        return np.append(low[0] - first, between), np.append(between, high[-1] + last), False
    return low, high, bool(low[0] > 0 and np.log10(high[-1] / low[0]) > DECADES)
