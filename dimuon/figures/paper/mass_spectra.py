"""Fig. 1a, 2a: the dimuon mass after each cut on the classifier, and weighted by the likelihood; also in panels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from dimuon.bumphunt.result import Statistic
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure
from dimuon.figures.saved import Saved
from dimuon.figures.sections import figure_name, paper_panel, section_of
from dimuon.figures.style import (
    Look,
    bin_edges,
    deviance_pull,
    fpr_name,
    legend_beside,
    mark_known,
    mark_signal_region,
    panels,
    poisson_errors,
    say_origin,
    stacked,
    styled,
    working_point_looks,
)
from dimuon.regions import MassWindow
from dimuon.workflow import products

LARGEST_PULL = 4.5  # drawn; beyond it a marker says so
N_ACROSS = 4  # small panels beside each other
AFTER_CUTS = (
    "The mass after cuts on the classifier, one colour, marker and line per false-positive rate (FPR: the fraction "
    "of sideband events kept). The curve ({model}) is fitted to the sidebands alone, outside the two vertical lines, "
    "and interpolated between them; its band there is the error of the fit. A resonance stands above the curve "
    "between the vertical lines and nowhere else. Below, the pulls after each cut: signed square root of the Poisson "
    "deviance, grey within one. (!) marks cuts after which too few events are left for the asymptotic significance; "
    "of their fits only what they expect between the vertical lines is drawn."
)
WEIGHTED = (
    "The mass with every event weighted by its estimated signal-to-background likelihood ratio. The weights w are "
    "scaled by one factor, Σw / Σw² of the whole spectrum, so that their sum is the number of events that would be "
    "as precise; the significance does not depend on it. The curve ({model}) is fitted to the sidebands alone and "
    "interpolated between the vertical lines; the band is its error."
)
PANELS = (
    "The same spectra as in the figure before, one cut in each panel, on linear axes that begin at zero. Curve and "
    "band: the fit to the sidebands ({model}) and its error, interpolated in the signal region (between the vertical "
    "lines). As the cut tightens, a background falls with it and a signal stays. (!): too few events are left for "
    "the asymptotic significance, and only what the fit expects in the signal region is drawn."
)


@dataclass(frozen=True, eq=False)
class Spectra:
    """What the mass spectra of one train-test combination and variable are drawn with.

    points: fpr, n_obs (events in the SR), n_bkg, z0, valid of the test on each, for the words; None: not known. known:
    {name: mass} to mark.
    """

    window: MassWindow
    points: pd.DataFrame | None = None
    known: Mapping[str, float] = field(default_factory=dict)

    def point(self, fpr: float) -> Any:
        """The test after one cut, None where it is not known."""
        return None if self.points is None else self.points[self.points["fpr"] == fpr].iloc[0]

    def supported(self, part: pd.DataFrame) -> pd.DataFrame:
        """The bins of one spectrum in which its fit is drawn: all, or the SR alone where few events are left.

        A polynomial through a handful of events swings to zero and back far from them.
        """
        point = self.point(part["fpr"].iloc[0])
        return part if point is None or point["valid"] else part[part["region"] == "SR"]


@figure("mass_spectra", section=None, order=10, caption=AFTER_CUTS, first=True)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each train-test combination, and one more where the likelihood weights are defined."""
    for train, test, table, spectra in _spectra(saved):
        weighted, of_test = _is_weighted(table), saved.data.describe(train, test)
        number = paper_panel("a", train, test) if saved.is_the_papers else ""
        title = saved.data.mass.title
        yield Drawing(
            figure_name(f"mass_{table['variable'].iloc[0]}", train, test, number),
            f"{title}, {of_test}, likelihood weights" if weighted else f"{title}, {of_test}",
            _paths(saved),
            table,
            partial(mass_spectra, spectra=spectra),
            section=section_of(train, test),
            caption=WEIGHTED if weighted else AFTER_CUTS,
        )


@figure("mass_panels", section=None, order=12, caption=PANELS)
def panel_drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each sample that its own classifier scored, where several cuts are shown."""
    for train, test, table, spectra in _spectra(saved):
        if train == test and not _is_weighted(table) and table["fpr"].nunique() > 1:
            yield Drawing(
                figure_name("mass_panels", train, test),
                f"{saved.data.mass.title} cut by cut, {saved.data.describe(train, test)}",
                _paths(saved),
                table,
                partial(mass_panels, spectra=spectra),
                section=section_of(train, test),
            )


def _paths(saved: Saved) -> list[Any]:
    return [saved.run.path(products.MASS_HISTOGRAMS), saved.run.path(products.MASS_POINTS)]


def _spectra(saved: Saved) -> Iterator[tuple[str, str, pd.DataFrame, Spectra]]:
    """(train, test, table, what it is drawn with) of every train-test combination and variable."""
    histograms, points = (saved.table(path) for path in _paths(saved))
    keys = ["train", "test", "variable"]
    for train, test, of_test in saved.by_test(histograms):
        for _, part in of_test.groupby("variable"):
            own = None if points is None else points[(points[keys] == part[keys].iloc[0]).all(axis=1)]
            table, own = effective(part.reset_index(drop=True), own)
            yield train, test, table, Spectra(saved.config.window, own, saved.known)


def effective(table: pd.DataFrame, points: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Spectra and points with weights scaled so that their sum is their effective number, (sum w)^2 / sum w^2.

    table: n_obs (sum of weights), n_obs_err (root of the sum of squares), n_bkg, n_bkg_err. Events stay as they are.
    """
    if not _is_weighted(table):
        return table, points
    factor = table["n_obs"].sum() / table["n_obs_err"].pow(2).sum()
    scaled = [name for name in ("n_obs", "n_obs_err", "n_bkg", "n_bkg_err") if name in table]
    table = table.assign(**{name: factor * table[name] for name in scaled})
    if points is not None:
        points = points.assign(**{name: factor * points[name] for name in scaled if name in points})
    return table, points


def _is_weighted(table: pd.DataFrame) -> bool:
    return bool((table["variable"] == Statistic.LIKELIHOOD).all())


@styled
def mass_spectra(histograms: pd.DataFrame, spectra: Spectra, data: Dataset) -> Figure:
    """The dimuon mass after each working point, the sideband fit with its band, and the pulls.

    histograms: fpr, bin_low, bin_high [GeV], region, n_obs, n_obs_err, n_bkg, n_bkg_err; one train-test combination
    and one variable.
    """
    looks, weighted, window = working_point_looks(histograms["fpr"]), _is_weighted(histograms), spectra.window
    rows = {"height_ratios": [6.2] + [0.62] * len(looks), "hspace": 0.0}
    size = 9.5 if weighted else 12.0, 6.4 + 0.66 * len(looks)
    figure, (main, *strips) = panels(1 + len(looks), 1, size, sharex=True, gridspec_kw=rows)
    stacked(figure)
    for (fpr, look), strip in zip(looks.items(), strips, strict=True):
        part = histograms[histograms["fpr"] == fpr].sort_values("bin_low")
        _points(main, part, look, weighted, label=_point_label(spectra.point(fpr), fpr))
        fitted = spectra.supported(part)
        _curve(main, fitted, look)
        _fit_band(main, fitted[fitted["region"] == "SR"], look, 0.35)
        _pull_strip(strip, part, look, "" if weighted else fpr_name(fpr))
        mark_signal_region(strip, window, label=False)
    of_test = data.describe(*histograms[["train", "test"]].iloc[0])
    width, top = histograms["bin_high"].iloc[0] - histograms["bin_low"].iloc[0], histograms["n_obs"].max()
    main.set_ylabel(f"{'Effective events' if weighted else 'Events'} / {data.mass.value(round(width, 3))}")
    main.set_xlim(window.sb_low, window.sb_high)
    if weighted:
        main.set_ylim(0, 1.4 * (histograms["n_obs"] + histograms["n_obs_err"]).max())
    else:
        main.set(yscale="log", ylim=(max(0.06, min(0.3, 0.5 * top)), 6 * top))
        legend_beside(main, of_test, labelspacing=0.9)
    mark_signal_region(main, window)
    mark_known(main, spectra.known, top=0.955)
    strips[-1].set_xlabel(data.mass.axis_label)
    strips[-1].tick_params(axis="x", labelsize=16)
    strips[len(looks) // 2].set_ylabel("Pulls", fontsize=16, loc="center")
    words = _point_label(spectra.point(1.0), 1.0) if weighted else ""
    say_origin(figure, main, data.origin, words.replace("FPR 100%", of_test))
    return figure


def _point_label(point: Any, fpr: float) -> str:
    cut = f"FPR {fpr_name(fpr)}"
    if point is None:
        return cut
    return f"{cut}\n{point['n_obs']:.0f} in SR, {point['z0']:.1f}$\\sigma${'' if point['valid'] else ' (!)'}"


def _points(axes: Axes, part: pd.DataFrame, look: Look, weighted: bool, **keywords: Any) -> None:
    """Counts with Poisson errors, or sums of weights with theirs."""
    centre, counts = (part["bin_low"] + part["bin_high"]) / 2, part["n_obs"].to_numpy()
    errors = np.array([part["n_obs_err"]] * 2) if weighted else poisson_errors(counts)
    seen = counts > 0
    style: dict[str, Any] = {"fmt": look.marker, "color": look.colour, "markersize": 5, "elinewidth": 0.9}
    axes.errorbar(centre[seen], counts[seen], yerr=errors[:, seen], **style | keywords)


def _curve(axes: Axes, part: pd.DataFrame, look: Look) -> None:
    """The fit, as a line through the middle of each bin."""
    centre = (part["bin_low"] + part["bin_high"]) / 2
    axes.plot(centre, part["n_bkg"], color=look.colour, linestyle=look.line, linewidth=1.6)


def _fit_band(axes: Axes, part: pd.DataFrame, look: Look, alpha: float) -> None:
    """The error of the fit around it, bin by bin."""
    low, high = (part["n_bkg"] - part["n_bkg_err"]).clip(lower=0.0), part["n_bkg"] + part["n_bkg_err"]
    both_ends = part[["bin_low", "bin_high"]].to_numpy().ravel()
    axes.fill_between(both_ends, np.repeat(low, 2), np.repeat(high, 2), color=look.colour, alpha=alpha, linewidth=0)


def _pull_strip(axes: Axes, part: pd.DataFrame, look: Look, name: str) -> None:
    pulls = deviance_pull(part["n_obs"], part["n_bkg"], part["n_obs_err"])
    axes.axhspan(-1, 1, color="0.9", zorder=0)
    axes.stairs(pulls, bin_edges(part["bin_low"], part["bin_high"]), fill=True, color=look.colour, alpha=0.9)
    axes.set_ylim(-LARGEST_PULL, LARGEST_PULL)
    axes.set_yticks([-3, 0, 3])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="y", labelsize=11)
    if name:
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False}
        axes.plot([1.025], [0], look.marker, color=look.colour, markersize=6, **place)
        beside: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "center"}
        axes.annotate(name, (1.025, 0.5), (9, 0), fontsize=13, **beside)
    centre = ((part["bin_low"] + part["bin_high"]) / 2).to_numpy()
    for side, arrow in ((1, "^"), (-1, "v")):
        for mass in centre[side * pulls > LARGEST_PULL]:
            axes.plot(mass, side * 4.1, marker=arrow, color="black", markersize=4)


@styled
def mass_panels(histograms: pd.DataFrame, spectra: Spectra, data: Dataset) -> Figure:
    """The dimuon mass after each working point in a panel of its own, on linear axes. Arguments as `mass_spectra`."""
    looks, window = working_point_looks(histograms["fpr"]), spectra.window
    n_across = min(N_ACROSS, len(looks))
    n_rows = -(-len(looks) // n_across)
    size = 4.7 * n_across, 4.3 * n_rows + 0.6
    figure, grid = panels(n_rows, n_across, size, sharex=True, squeeze=False)
    for (fpr, look), axes in zip(looks.items(), grid.flat, strict=False):
        _small_panel(axes, histograms[histograms["fpr"] == fpr].sort_values("bin_low"), look, spectra, fpr)
    for axes in grid.flat[len(looks) :]:
        axes.set_axis_off()
    for axes in grid.flat[max(0, len(looks) - n_across) : len(looks)]:
        axes.tick_params(axis="x", labelbottom=True)
        axes.set_xlabel(data.mass.axis_label)
    width = histograms["bin_high"].iloc[0] - histograms["bin_low"].iloc[0]
    for row in grid:
        row[0].set_ylabel(f"Events / {data.mass.value(round(width, 3))}")
    of_test = data.describe(*histograms[["train", "test"]].iloc[0])
    say_origin(figure, grid[0, 0], data.origin, last=grid[0, -1])
    if len(looks) < grid.size:
        words = f"{of_test}\n\npoints: data\ncurve: sideband fit\nband: its error"
        marked = [name for name, mass in spectra.known.items() if window.sb_low < mass < window.sb_high]
        words += f"\ndotted: {', '.join(marked)}" if marked else ""
        grid[-1, -1].text(0.05, 0.95, words, transform=grid[-1, -1].transAxes, va="top", fontsize=16, linespacing=1.4)
    else:
        figure.suptitle(of_test, fontsize=16)
    return figure


def _small_panel(axes: Axes, part: pd.DataFrame, look: Look, spectra: Spectra, fpr: float) -> None:
    window, point = spectra.window, spectra.point(fpr)
    fitted = spectra.supported(part)
    _fit_band(axes, fitted, look, 0.25)
    _curve(axes, fitted, look)
    _points(axes, part, look, weighted=False, markersize=4)
    highest = (part["n_obs"] + poisson_errors(part["n_obs"])[1]).max()
    axes.set(xlim=(window.sb_low, window.sb_high), ylim=(0, 1.55 * highest))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    for edge in (window.sr_low, window.sr_high):
        axes.axvline(edge, ymax=0.72, color="black", linewidth=1)
    mark_known(axes, spectra.known, top=0.72, named=False)
    axes.text(
        0.96, 0.955, f"FPR {fpr_name(fpr)}", transform=axes.transAxes, ha="right", va="top", fontsize=17, weight="bold"
    )
    if point is not None:
        doubt = "" if point["valid"] else " (!)"
        words = f"{point['n_obs']:.0f} in SR, {point['n_bkg']:.0f} expected: {point['z0']:.1f}$\\sigma${doubt}"
        axes.text(0.96, 0.86, words, transform=axes.transAxes, ha="right", va="top", fontsize=13)
