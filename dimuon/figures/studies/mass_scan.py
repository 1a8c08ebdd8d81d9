"""A mass scan: p-values against the mass, what they are worth, spectra of the best windows, the map of cuts."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.special import ndtr
from scipy.stats import norm

from dimuon.bumphunt.result import Statistic
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.p_value_axes import BESIDE, p_value_axes
from dimuon.figures.registry import figure
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import (
    COLOURS,
    LINES,
    MARKERS,
    legend_beside,
    panel,
    panels,
    poisson_errors,
    say_origin,
    stacked,
    step_line,
    styled,
)
from dimuon.regions import MassWindow
from dimuon.studies.scan_results import CUT, LIKELIHOOD, METHODS, Summary
from dimuon.studies.scan_tables import CLASSICAL
from dimuon.workflow.config import Config
from dimuon.workflow.products import PRODUCTS

COLUMNS = {CLASSICAL: "z0", CUT: "z0_cut", LIKELIHOOD: "z0_likelihood"}
LOG_FROM = 4.0  # times that a range spans, from which on the mass is drawn on a logarithmic axis
GLOBAL = "0.25"  # colour of the lines of global significances
N_BEST = 4
CLIPPED = 8.0  # local Z0, from which on the map has one colour
FAR, FEW = 10.0, ("3", "5")  # local Z0 beyond which only these global significances are marked
P_VALUES = (
    "Local p-value of the excess in each window against the middle of its signal region. Bars: windows of known "
    "resonances, as long as their signal regions. Open markers: windows whose sidebands the fit does not describe. "
    "Dashed: the local p-value that is worth so many standard deviations in the whole classical scan. Grey: known "
    "resonances."
)
WORTH = (
    "What the largest local significance of the classical scan is worth: the probability that background alone exceeds "
    "it in any window, counted in spectra without a signal (68 % intervals) and by upcrossings from window to window. "
    "Below: the trials factor, the global over the local p-value."
)
BEST = (
    "The spectra of the most significant windows of the classical scan that do not overlap, with the fit to their "
    "sidebands (band: its uncertainty) continued through the signal region."
)
MAP = (
    "Significance after a cut on the classifier of each window: across the middle of its signal region, upwards the "
    "false-positive rate. The largest of so many is not a local significance."
)


def with_scan(config: Config) -> bool:
    """Analyses that are scanned."""
    return config.scan is not None


def _summaries(saved: Saved) -> dict[str, Summary]:
    content = saved.optional_json(saved.run.path(PRODUCTS["scan"])) or {}
    return {charge: Summary.from_json(part) for charge, part in content.items()}


@figure("mass_scan", section=Section.SCAN, order=69, caption=P_VALUES, condition=with_scan)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """Local p-values against the mass, for each charge."""
    path, summaries = saved.run.path(PRODUCTS["scan_windows"]), _summaries(saved)
    known = saved.config.scan.known if saved.config.scan else {}
    for charge, windows in saved.by_charge(saved.optional_table(path)):
        if charge in summaries:
            done = windows.dropna(subset="z0").reset_index(drop=True)
            plot = partial(p_values, known=known, levels=summaries[charge].levels)
            title = saved.data.titled("Local p-values against the mass", charge)
            yield Drawing(f"scan_p_values_{charge}", title, [path], done, plot)


@figure("mass_scan_trials", section=Section.SCAN, order=71, caption=WORTH, condition=with_scan)
def trials_drawings(saved: Saved) -> Iterator[Drawing]:
    """The trials factor, for each charge."""
    path = saved.run.path(PRODUCTS["scan"])
    for charge, summary in _summaries(saved).items():
        if summary.trials:
            table = pd.DataFrame([row.to_json() for row in summary.trials]).astype(float)
            title = saved.data.titled("What a local significance is worth", charge)
            yield Drawing(f"scan_trials_{charge}", title, [path], table, trials_factor)


@figure("mass_scan_spectra", section=Section.SCAN, order=72, caption=BEST, condition=with_scan)
def spectra_drawings(saved: Saved) -> Iterator[Drawing]:
    """The spectra of the best windows, for each charge."""
    path, of_windows = saved.run.path(PRODUCTS["scan_spectra"]), saved.run.path(PRODUCTS["scan_windows"])
    windows = saved.optional_table(of_windows)
    for charge, spectra in saved.by_charge(saved.optional_table(path)):
        if windows is None:
            continue
        best = best_windows(windows[windows["charge"] == charge.upper()])
        table = spectra.merge(best, on="window", how="inner", suffixes=("", "_sr"))
        title = saved.data.titled("The most significant windows", charge)
        if len(table):
            yield Drawing(f"scan_spectra_{charge}", title, [path, of_windows], table, best_spectra)


@figure("mass_scan_map", section=Section.SCAN, order=73, caption=MAP, condition=with_scan)
def map_drawings(saved: Saved) -> Iterator[Drawing]:
    """Z0 by mass and false-positive rate, for each charge; where the learned scan was made."""
    path = saved.run.path(PRODUCTS["scan_significances"])
    for charge, table in saved.by_charge(saved.optional_table(path)):
        sliding = table[~is_own(table, saved.config.scan.known if saved.config.scan else {})]
        cuts = sliding[sliding["variable"] == Statistic.WORKING_POINT.value].reset_index(drop=True)
        if len(cuts):
            title = saved.data.titled("Significance by mass and cut", charge)
            yield Drawing(f"scan_map_{charge}", title, [path], cuts, mass_cut_map)


def best_windows(windows: pd.DataFrame, n: int = N_BEST) -> pd.DataFrame:
    """The windows with the largest Z0 whose SRs do not overlap: window, sr_low, sr_high, sb_low, sb_high, z0, known."""
    ranked = windows[windows["described"].fillna(False).astype(bool)].sort_values("z0", ascending=False)
    chosen = list[dict[Any, Any]]()
    for row in ranked.to_dict("records"):
        if len(chosen) < n and all(
            row["sr_low"] >= each["sr_high"] or row["sr_high"] <= each["sr_low"] for each in chosen
        ):
            chosen.append(row)
    names = ["window", "sb_low", "sr_low", "sr_high", "sb_high", "z0", "known"]
    return pd.DataFrame(chosen, columns=list(windows.columns))[names]


@styled
def p_values(
    table: pd.DataFrame, known: Mapping[str, Sequence[float]], levels: Mapping[str, float], data: Dataset
) -> Figure:
    """Local p-values of every method against the middle of the SR.

    table: sr_low, sr_high, described, z0 and those of `COLUMNS` that there are. known: {name: (low, high)} of
    resonances. levels: {global significance: local Z0 that it takes}.
    """
    figure, axes = panel((13.5, 7.5))
    middle = (table["sr_low"] + table["sr_high"]) / 2
    own, half = is_own(table, known), (table["sr_high"] - table["sr_low"]) / 2
    drawn = {name: table[column].astype(float) for name, column in COLUMNS.items() if table[column].notna().any()}
    highest = max(float(z0.max()) for z0 in drawn.values())
    p_value_axes(axes, float(norm.sf(highest)))
    mass_axis(axes, float(table["sb_low"].min()), float(table["sb_high"].max()), data)
    for (method, z0), colour, marker, line in zip(drawn.items(), COLOURS, MARKERS, LINES, strict=False):
        p = pd.Series(ndtr(-z0.clip(lower=0)), index=z0.index)
        described = table["described"].fillna(False).astype(bool)
        label = METHODS[method][0].upper() + METHODS[method][1:]
        for _, run in p[~own].groupby(
            (table["sr_low"] > table["sr_high"].shift()).cumsum()[~own]
        ):  # not across what is skipped
            axes.plot(middle[run.index], run, linestyle=line, color=colour, linewidth=1.3)
        axes.errorbar(middle[own], p[own], xerr=half[own], fmt="none", ecolor=colour, elinewidth=1.3)
        axes.plot(middle[described], p[described], marker, color=colour, linestyle="none", label=label)
        axes.plot(middle[~described], p[~described], marker, color=colour, markerfacecolor="white", linestyle="none")
    bottom = axes.get_ylim()[0]
    shown = {name: z0 for name, z0 in levels.items() if highest < FAR or name in FEW}
    for name, level in shown.items():
        if norm.sf(level) > bottom:
            axes.axhline(norm.sf(level), color=GLOBAL, linestyle="--", linewidth=1.2, zorder=1)
            place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            axes.annotate(rf"{name}$\sigma$ global", (0.01, norm.sf(level)), (0, 3), fontsize=12, color=GLOBAL, **place)
    _mark_spans(axes, known)
    if len(drawn) > 1:
        legend_beside(axes, right=BESIDE)
    say_origin(figure, axes, data.origin)
    return figure


def is_own(table: pd.DataFrame, known: Mapping[str, Sequence[float]]) -> "pd.Series[bool]":
    """Which windows are the own ones of known resonances. table: sr_low, sr_high."""
    own = pd.Series(False, index=table.index)
    for low, high in known.values():
        own |= np.isclose(table["sr_low"], low) & np.isclose(table["sr_high"], high)
    return own


def mass_axis(axes: Axes, low: float, high: float, data: Dataset) -> None:
    """The mass across, on a logarithmic axis where the range is wide."""
    axes.set_xscale("log" if low > 0 and high > LOG_FROM * low else "linear")
    axes.set_xlim(low, high)
    axes.set_xlabel(data.mass.axis_label)
    if axes.get_xscale() == "log":
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda mass, _: f"{mass:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _mark_spans(axes: Axes, known: Mapping[str, Sequence[float]]) -> None:
    """Known resonances as grey bands with their names on top."""
    first, last = axes.get_xlim()
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    for name, (low, high) in known.items():
        if high > first and low < last:
            axes.axvspan(low, high, color="0.9", zorder=0, linewidth=0)
            middle = np.sqrt(low * high) if axes.get_xscale() == "log" else (low + high) / 2
            axes.annotate(name, (middle, 0), (0, 6), rotation=90, ha="center", va="bottom", fontsize=12, **place)


@styled
def trials_factor(table: pd.DataFrame, data: Dataset) -> Figure:
    """Global p-values against the local significance, counted and by upcrossings, and the trials factor.

    table: the fields of `bump_scan.Trials`.
    """
    figure, (above, below) = panels(2, 1, (9.0, 8.5), sharex=True, height_ratios=(3, 2))
    local = norm.sf(table["local"])
    above.semilogy(table["local"], local, color="0.4", linestyle=":", label="local p-value")
    for axes, scale in ((above, 1.0), (below, local)):
        if table["upcrossings"].notna().any():
            style: dict[str, Any] = {"color": COLOURS[0]}
            ends = [table[f"upcrossings_{end}"] / scale for end in ("low", "high")]
            axes.fill_between(table["local"], *ends, alpha=0.3, linewidth=0, **style)
            axes.plot(table["local"], table["upcrossings"] / scale, label="by upcrossings", **style)
        counted = table[table["n_above"] > 0]
        at = norm.sf(counted["local"]) if axes is below else 1.0
        errors = [counted["counted"] - counted["counted_low"], counted["counted_high"] - counted["counted"]]
        label = f"counted in {int(table['n'].iloc[0]):,} spectra"
        axes.errorbar(
            counted["local"],
            counted["counted"] / at,
            yerr=[error / at for error in errors],
            fmt="o",
            color=COLOURS[1],
            label=label,
        )
    above.set_ylim(max(float(table[["upcrossings", "counted_high"]].min(skipna=True).min()) / 5, 1e-9), 1.5)
    above.set_ylabel("p-value")
    above.legend(loc="lower left")
    below.set_ylabel("Trials factor")
    below.set_xlabel(r"Largest local $Z_0$ [$\sigma$]")
    seen = table["factor"].dropna()
    below.set_ylim(0, 1.6 * float(seen.max()) if len(seen) else 1)
    stacked(figure)
    say_origin(figure, above, data.origin)
    return figure


@styled
def best_spectra(table: pd.DataFrame, data: Dataset) -> Figure:
    """The spectra of some windows with their fits.

    table: window, its edges, z0, known, and bin_low, bin_high, region, n_obs, n_bkg, n_bkg_err of each.
    """
    groups = sorted(table.groupby("window", sort=False), key=lambda group: -float(group[1]["z0"].iloc[0]))
    n_rows, n_columns = -(-len(groups) // 2), min(len(groups), 2)
    figure, grid = panels(n_rows, n_columns, (6.75 * n_columns, 5.2 * n_rows), squeeze=False)
    for axes in grid.flat[len(groups) :]:
        axes.set_visible(False)
    for (_, part), axes in zip(groups, grid.flat, strict=False):
        of = part.sort_values("bin_low")
        low, high = of["bin_low"].to_numpy(), of["bin_high"].to_numpy()
        n_obs, n_bkg, error = (of[name].to_numpy(dtype=float) for name in ("n_obs", "n_bkg", "n_bkg_err"))
        edges = np.append(low, high[-1])
        axes.stairs(n_bkg + error, edges, baseline=n_bkg - error, fill=True, color=COLOURS[0], alpha=0.3)
        step_line(axes, low, high, n_bkg, color=COLOURS[0], label="Sideband fit")
        axes.errorbar(
            (low + high) / 2, n_obs, yerr=poisson_errors(n_obs), fmt="ko", markersize=5, label=data.events.capitalize()
        )
        first = of.iloc[0]
        placed = MassWindow(*(float(first[name]) for name in ("sb_low", "sr_low", "sr_high", "sb_high")))
        for edge in (placed.sr_low, placed.sr_high):
            axes.axvline(edge, color="black", linewidth=1.2)
        axes.set_ylim(0, 1.35 * float((n_obs + poisson_errors(n_obs)[1]).max()))
        axes.set_xlim(low[0], high[-1])
        axes.set(xlabel=data.mass.axis_label, ylabel="Events per bin")
        name = f"{first['known']}, " if first["known"] else ""
        said = rf"{name}SR {placed.sr_low:.4g}-{placed.sr_high:.4g}: {first['z0']:.1f}$\sigma$ local"
        behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
        axes.text(0.97, 0.95, said, transform=axes.transAxes, ha="right", va="top", fontsize=14, bbox=behind)
        axes.legend(loc="upper left", fontsize=12, bbox_to_anchor=(0, 0.9))
        say_origin(figure if axes is grid.flat[0] else None, axes, data.origin)
    return figure


@styled
def mass_cut_map(table: pd.DataFrame, data: Dataset) -> Figure:
    """Z0 by window and false-positive rate.

    table: sr_low, sr_high, fpr, z0, a row for each window and cut.
    """
    figure, axes = panel((11.5, 7.5))
    spans = table.groupby("window", sort=False)[["sr_low", "sr_high"]].first().sort_values("sr_low")
    low, high = spans["sr_low"].to_numpy(dtype=float), spans["sr_high"].to_numpy(dtype=float)
    middle = (low + high) / 2
    between = (middle[1:] + middle[:-1]) / 2  # where SRs overlap, each has the half nearer to its middle
    low, high = np.append(low[0], np.maximum(low[1:], between)), np.append(np.minimum(high[:-1], between), high[-1])
    grid = table.assign(fpr=table["fpr"].round(12)).pivot_table(index="fpr", columns="window", values="z0", sort=True)
    z0, rates = grid[list(spans.index)].to_numpy(dtype=float), np.log10(grid.index.to_numpy(dtype=float))
    highest = min(float(np.nanmax(z0)), CLIPPED)
    for i in range(len(middle)):
        sides, column = np.array([low[i], high[i]]), z0[:, [i]]
        image = axes.pcolormesh(sides, 10 ** _ends(rates), column, cmap="cividis", vmin=0, vmax=highest)
    mass_axis(axes, float(low[0]), float(high[-1]), data)
    axes.set(yscale="log", ylabel="False-positive rate")
    y, x = np.unravel_index(np.nanargmax(z0), z0.shape)
    ring: dict[str, Any] = {"markersize": 16, "markerfacecolor": "none", "markeredgewidth": 2}
    axes.plot(middle[x], 10 ** rates[y], "o", markeredgecolor=COLOURS[1], **ring)
    ends = "max" if np.nanmax(z0) > highest else "neither"
    figure.colorbar(image, ax=axes, label=r"Local $Z_0$ [$\sigma$]", extend=ends)
    say_origin(figure, axes, data.origin)
    return figure


def _ends(middles: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n + 1,) ends of cells around (n,) rising middles."""
    if len(middles) == 1:
        return np.array([middles[0] - 0.5, middles[0] + 0.5])
    between = (middles[1:] + middles[:-1]) / 2
    return np.concatenate([[2 * middles[0] - between[0]], between, [2 * middles[-1] - between[-1]]])
