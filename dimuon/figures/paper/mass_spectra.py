"""Fig. 1a, 2a: the dimuon mass after each cut on the classifier, and weighted by the likelihood."""

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from dimuon.bumphunt.result import Statistic
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure
from dimuon.figures.saved import Saved
from dimuon.figures.sections import paper_name, section_of
from dimuon.figures.style import (
    MARKERS,
    Colour,
    bin_edges,
    deviance_pull,
    fpr_name,
    mark_signal_region,
    panels,
    poisson_errors,
    say_origin,
    shades,
    stacked,
    styled,
)
from dimuon.regions import MassWindow
from dimuon.workflow import products

LARGEST_PULL = 4.5  # drawn; beyond it a marker says so
AFTER_CUTS = (
    "The mass after cuts on the classifier, one colour and marker per false-positive rate (FPR: the "
    "fraction of sideband events kept). The dashed curve ({model}) is fitted to the sidebands alone, outside "
    "the two vertical lines, and interpolated between them; its band there is the error of the fit. A resonance "
    "stands above the dashed line between the vertical lines and nowhere else. Below, the pulls after each "
    "cut: signed square root of the Poisson deviance, grey within one. (!) marks cuts after which too few "
    "events are left for the asymptotic significance."
)

WEIGHTED = (
    "The mass with every event weighted by its estimated signal-to-background likelihood ratio. The dashed "
    "curve ({model}) is fitted to the sidebands alone and interpolated between the vertical lines; the band is its "
    "error."
)


@figure("mass_spectra", section=None, order=10, caption=AFTER_CUTS)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each train-test combination, and one more where the likelihood weights are defined."""
    paths = [saved.run.path(products.MASS_HISTOGRAMS), saved.run.path(products.MASS_POINTS)]
    points = saved.table(paths[1])
    title = saved.data.mass.title
    for train, test, spectra in saved.by_test(saved.table(paths[0])):
        for variable, part in spectra.groupby("variable"):
            weighted, of_test = variable == Statistic.LIKELIHOOD, saved.data.describe(train, test)
            yield Drawing(
                paper_name("a", f"mass_{variable}", train, test),
                f"{title}, {of_test}, likelihood weights" if weighted else f"{title}, {of_test}",
                paths,
                part.reset_index(drop=True),
                partial(mass_spectra, points=_points_of(part, points), window=saved.config.window),
                section=section_of(train, test),
                caption=WEIGHTED if weighted else AFTER_CUTS,
            )


def _points_of(spectra: pd.DataFrame, points: pd.DataFrame | None) -> pd.DataFrame | None:
    """The tests on the spectra of one train-test combination and variable."""
    if points is None:
        return None
    keys = ["train", "test", "variable"]
    return points[(points[keys] == spectra[keys].iloc[0]).all(axis=1)]


@styled
def mass_spectra(histograms: pd.DataFrame, points: pd.DataFrame | None, window: MassWindow, data: Dataset) -> Figure:
    """The dimuon mass after each working point, the sideband fit with its band, and the pulls.

    histograms: fpr, bin_low, bin_high [GeV], region, n_obs, n_obs_err, n_bkg, n_bkg_err; one train-test combination
    and one variable. points: fpr, n_obs (events in the SR), z0, valid of the test on each, for the legend; None: not
    known.
    """
    fprs = sorted(histograms["fpr"].unique(), reverse=True)
    weighted = bool((histograms["variable"] == Statistic.LIKELIHOOD).all())
    rows = {"height_ratios": [6.2] + [0.62] * len(fprs), "hspace": 0.0}
    size = 9.5, 7.0 + 0.72 * len(fprs)
    figure, (main, *strips) = panels(1 + len(fprs), 1, size, sharex=True, gridspec_kw=rows)
    stacked(figure)
    for fpr, colour, marker, strip in zip(fprs, shades(len(fprs)), cycle(MARKERS), strips, strict=False):
        part = histograms[histograms["fpr"] == fpr].sort_values("bin_low")
        _spectrum(main, part, colour, marker, _point_label(points, fpr, weighted))
        _pull_strip(strip, part, colour, "" if weighted else fpr_name(fpr))
        mark_signal_region(strip, window, label=False)
    _main_axes(main, histograms, len(fprs), weighted, data)
    main.set_xlim(window.sb_low, window.sb_high)
    mark_signal_region(main, window)
    strips[-1].set_xlabel(data.mass.axis_label)
    strips[len(fprs) // 2].set_ylabel("Pulls", fontsize=15, loc="center")
    say_origin(figure, main, data.origin)
    return figure


def _main_axes(axes: Axes, histograms: pd.DataFrame, n_fprs: int, weighted: bool, data: Dataset) -> None:
    width, top = histograms["bin_high"].iloc[0] - histograms["bin_low"].iloc[0], histograms["n_obs"].max()
    axes.set_ylabel(f"{'Sum of weights' if weighted else 'Events'} / {data.mass.value(round(width, 3))}")
    if weighted:
        axes.set_ylim(0, 1.7 * top)
    else:
        axes.set(yscale="log", ylim=(max(0.06, min(0.3, 0.5 * top)), top * 10 ** (0.8 + 0.12 * n_fprs)))
    box: dict[str, Any] = {"frameon": True, "framealpha": 1, "edgecolor": "none"}
    legend = axes.legend(ncol=2, loc="upper right", fontsize=13, bbox_to_anchor=(1, 0.93), columnspacing=1, **box)
    legend.set_zorder(5)
    of_test, key = data.describe(*histograms[["train", "test"]].iloc[0]), "points: data\ndashed: sideband fit\n"
    axes.text(0.97, 0.97, of_test, transform=axes.transAxes, ha="right", va="top", fontsize=16)
    axes.text(0.03, 0.97, key + "band: its error in the SR", transform=axes.transAxes, va="top", fontsize=12)


def _point_label(points: pd.DataFrame | None, fpr: float, weighted: bool) -> str:
    if points is None:
        return f"FPR {fpr_name(fpr)}"
    point = points[points["fpr"] == fpr].iloc[0]
    doubt = "" if point["valid"] else " (!)"
    cut = "weighted: sum" if weighted else f"FPR {fpr_name(fpr)}:"
    return rf"{cut} {point['n_obs']:.0f} in SR, {point['z0']:.1f}$\sigma${doubt}"


def _spectrum(axes: Axes, part: pd.DataFrame, colour: Colour, marker: str, label: str) -> None:
    centre = (part["bin_low"] + part["bin_high"]) / 2
    counts = part["n_obs"].to_numpy()
    of_events = np.allclose(counts, counts.round())
    errors = poisson_errors(counts) if of_events else np.array([part["n_obs_err"]] * 2)
    seen = counts > 0
    look: dict[str, Any] = {"fmt": marker, "color": colour, "markersize": 4, "elinewidth": 0.9}
    axes.errorbar(centre[seen], counts[seen], yerr=errors[:, seen], label=label, **look)
    axes.plot(centre, part["n_bkg"], color=colour, linestyle="--", linewidth=1.5)
    sr = part[part["region"] == "SR"]
    low, high = (sr["n_bkg"] - sr["n_bkg_err"]).clip(lower=1e-3), sr["n_bkg"] + sr["n_bkg_err"]
    both_ends = sr[["bin_low", "bin_high"]].to_numpy().ravel()
    axes.fill_between(both_ends, np.repeat(low, 2), np.repeat(high, 2), color=colour, alpha=0.35, linewidth=0)


def _pull_strip(axes: Axes, part: pd.DataFrame, colour: Colour, name: str) -> None:
    pulls = deviance_pull(part["n_obs"], part["n_bkg"], part["n_obs_err"])
    axes.axhspan(-1, 1, color="0.9", zorder=0)
    axes.stairs(pulls, bin_edges(part["bin_low"], part["bin_high"]), fill=True, color=colour, alpha=0.9)
    axes.set_ylim(-LARGEST_PULL, LARGEST_PULL)
    axes.set_yticks([-3, 0, 3])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=10)
    beside: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "center"}
    axes.annotate(name, (1, 0.5), (4, 0), fontsize=11, **beside)
    centre = ((part["bin_low"] + part["bin_high"]) / 2).to_numpy()
    for side, arrow in ((1, "^"), (-1, "v")):
        for mass in centre[side * pulls > LARGEST_PULL]:
            axes.plot(mass, side * 4.1, marker=arrow, color="black", markersize=4)
