"""The look of every figure: CMS style, what must be said of the data, colours and markers, saving.

Figures are made outside pyplot, from tables, and handed back; nothing is shown. Colours are the colour-blind-safe
set that CMS recommends (Petroff, arXiv:2107.02270); what a colour says a marker or a line style says too, so that
a grey print reads the same.
"""

import contextlib
import functools
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import matplotlib.style
import mplhep
import numpy as np
import pandas as pd
from hist.intervals import poisson_interval
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import StepPatch
from numpy.typing import ArrayLike

from dimuon.arrays import FloatArray
from dimuon.origin import Origin
from dimuon.regions import MassWindow
from dimuon.statistics.spectra import scale_factors
from dimuon.workflow.provenance import atomic

P = ParamSpec("P")
Colour = str | tuple[float, float, float, float]
Line = str | tuple[int, tuple[int, ...]]

matplotlib.use("Agg")  # no window, wherever the figures are made
logging.getLogger("fontTools").setLevel(logging.WARNING)  # it logs every table of every font embedded

PNG_DPI = 110

# TrueType, so that PDF readers and printers take it as it is: the CMS style's TeX Gyre Heros is OpenType with
# PostScript outlines, which matplotlib embeds under a wrong type
FONT = "Fira Sans"

STYLE = {
    **mplhep.style.CMS,
    "font.sans-serif": [FONT, "DejaVu Sans"],
    "mathtext.rm": FONT,
    "mathtext.bf": f"{FONT}:bold",
    "mathtext.sf": FONT,
    "mathtext.it": f"{FONT}:italic",
    "mathtext.tt": FONT,
    "mathtext.cal": FONT,
    "figure.figsize": (9.0, 7.5),
    "figure.dpi": PNG_DPI,
    "figure.constrained_layout.use": True,
    "font.size": 19,
    "axes.labelsize": 18,
    "xtick.labelsize": 16,
    "ytick.labelsize": 16,
    "legend.fontsize": 14,
    "axes.formatter.use_mathtext": True,
    "axes.linewidth": 1.4,
    "xtick.major.size": 9,
    "xtick.minor.size": 4.5,
    "ytick.major.size": 9,
    "ytick.minor.size": 4.5,
    "lines.linewidth": 2,
    "lines.markersize": 7,
    "pdf.fonttype": 42,  # fonts embedded whole, so that text stays text
    "ps.fonttype": 42,
}
COLOURS = ("#5790fc", "#e42536", "#f89c20", "#964a8b", "#7a21dd", "#9c9ca1", "#2b7a3e", "#8b5a2b")
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "<")
LINES: tuple[Line, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)), (0, (3, 1)))
WORKING_POINT_MARKERS = ("o", "s", "^", "D", "v", "X", "*", "P", "<")  # neighbours differ at any size
Z0_LABEL = r"$Z_0$ [$\sigma$]"


@dataclass(frozen=True)
class Look:
    """Line, marker and colour of a curve."""

    line: Line
    marker: str
    colour: Colour
    strong: bool = False


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """A figure function that works in the house style, whatever the caller's settings are."""

    @functools.wraps(draw)
    def in_style(*arguments: P.args, **keywords: P.kwargs) -> Figure:
        with matplotlib.style.context(STYLE, after_reset=True):
            return draw(*arguments, **keywords)

    return in_style


def panel(size: tuple[float, float] | None = None) -> tuple[Figure, Axes]:
    """A figure outside pyplot, with one panel. size: inches."""
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def panels(n_rows: int, n_columns: int, size: tuple[float, float], **keywords: Any) -> tuple[Figure, Any]:
    """A figure outside pyplot, with an array of panels as `Figure.subplots` gives it. size: inches."""
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(n_rows, n_columns, **keywords)


def stacked(figure: Figure) -> None:
    """Leave no room between the rows of panels."""
    figure.set_layout_engine("constrained", h_pad=0.01)


def heading(origin: Origin) -> tuple[str, str, str]:
    """What stands over a figure: in bold, after it, and at the right end."""
    exposure = re.sub(r"\b([fpn]b)(-1|⁻¹)", r"\1$^{-1}$", origin.exposure)
    if origin.is_simulated:
        return "SIMULATED", f"{origin.data}, not data" if origin.data else "not data", exposure
    if origin.kind == "unknown":
        return "Origin not stated", origin.data, exposure
    first, _, rest = origin.data.partition(" ")
    doubt = "features partly REBUILT" if origin.kind == "rebuilt" else ""
    return first or doubt, ", ".join(filter(None, (rest, doubt if first else ""))), exposure


def say_origin(figure: Figure | None, axes: Axes, origin: Origin, note: str = "", last: Axes | None = None) -> None:
    """Write over `axes` what the data are, and SIMULATED across the figure where they are not measured.

    note: what the figure shows of them, in a few words, top right in the axes. figure: None for a further panel of a
    figure that says it across already. last: the panel over whose right end luminosity and energy stand (None: `axes`).
    """
    bold, rest, right = heading(origin)
    above: dict[str, Any] = {"textcoords": "offset points", "va": "bottom"}
    # one line of two fonts, placed by matplotlib itself so that it stays put at any size of figure
    first = axes.annotate(
        bold, (0, 1), (0, 6), xycoords="axes fraction", ha="left", weight="bold", fontsize=19, **above
    )
    beside = axes.annotate(rest, (1, 0), (6, 0), xycoords=first, ha="left", style="italic", fontsize=15, **above)
    beside.set_in_layout(False)  # it may reach over the next panel
    (last or axes).annotate(right, (1, 1), (0, 6), xycoords="axes fraction", ha="right", fontsize=15, **above)
    if note:
        axes.text(0.97, 0.96, note, transform=axes.transAxes, ha="right", va="top", fontsize=14)
    if origin.is_simulated and figure is not None:
        across: dict[str, Any] = {"rotation": 30, "ha": "center", "va": "center", "alpha": 0.10, "zorder": 100}
        figure.text(0.5, 0.5, "SIMULATED", fontsize=80, weight="bold", color="black", **across)


def shades(n: int) -> list[Colour]:
    """n colours from dark to light, told apart in grey and by colour-blind readers (viridis without its lightest)."""
    return [matplotlib.colormaps["viridis"](value) for value in np.linspace(0.0, 0.88, max(n, 2))[:n]]


def working_point_looks(fprs: Iterable[float]) -> dict[float, Look]:
    """{false-positive rate: its look}, the loosest first: one and the same in every figure of an analysis.

    fprs: all working points of the figures, repeated or not, whether they are drawn or not.
    """
    every = sorted(set(fprs), reverse=True)
    looks = zip(cycle(LINES), cycle(WORKING_POINT_MARKERS), shades(len(every)), strict=False)
    return {fpr: Look(*look) for fpr, look in zip(every, looks, strict=False)}


def poisson_errors(counts: ArrayLike) -> FloatArray:
    """(2, n_bins) lengths of the central 68 % Poisson intervals of counts: (n_bins,), whole numbers (Garwood)."""
    events = np.asarray(counts, dtype=float)
    low, high = poisson_interval(events, events)
    return np.array([events - np.nan_to_num(low), np.where(events > 0, high, 1.841) - events])


def deviance_pull(observed: ArrayLike, expected: ArrayLike, error: ArrayLike | None = None) -> FloatArray:
    """Signed square root of each bin's share of the Poisson deviance: (n_bins,).

    Equals (observed - expected) / sqrt(expected) where that is large, and stays meaningful for a few events. NaN
    where nothing is expected. error: (n_bins,) of sums of weights, which are then scaled Poisson counts (Bohm & Zech
    2014, arXiv:1309.1287; an empty bin takes the scale of all); None: events.
    """
    n, b = np.asarray(observed, dtype=float), np.asarray(expected, dtype=float)
    if error is not None:
        scale = scale_factors(n, np.square(np.asarray(error, dtype=float)))
        return deviance_pull(n / scale, b / scale)
    usable = b > 0
    safe = np.where(usable, b, 1.0)
    ratio = np.where(n > 0, n / safe, 1.0)
    deviance = 2 * (n * np.log(ratio) - (n - safe))
    return np.where(usable, np.sign(n - b) * np.sqrt(np.maximum(deviance, 0)), np.nan)


def mark_signal_region(axes: Axes, window: MassWindow, label: bool = True) -> None:
    """Lines at both SR edges [GeV], and its name between them, at the top where curves leave room."""
    for edge in (window.sr_low, window.sr_high):
        axes.axvline(edge, color="black", linewidth=1.2)
    if label:
        middle = (window.sr_low + window.sr_high) / 2
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        axes.annotate("SR", (middle, 1), (0, -6), ha="center", va="top", fontsize=14, **place)


def mark_known(axes: Axes, known: Mapping[str, float], top: float = 1.0, named: bool = True) -> None:
    """Dotted lines at declared masses, {name: mass in the unit of the axis}, with their names, as those fit the axis.

    top: where they end, in heights of the axes; their names stand there.
    """
    low, high = sorted(axes.get_xlim())
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    for name, mass in known.items():
        if low < mass < high:
            axes.axvline(mass, ymax=top, color="0.45", linestyle=":", linewidth=1.1, zorder=0)
            words: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "top", "fontsize": 11, "color": "0.25"}
            if named:
                axes.annotate(name, (mass, top), (-1, -4), **words, **place)


def legend_beside(axes: Axes, title: str = "", right: float = 1.02, **keywords: Any) -> Legend:
    """The legend right of the frame, so that it hides nothing. right: where it begins, in widths of the axes."""
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (right, 1.0), "borderaxespad": 0.0, "fontsize": 13}
    legend = axes.legend(**beside | {"title": title or None, "title_fontsize": 15, "alignment": "left"} | keywords)
    legend.set_in_layout(True)
    return legend


def bin_edges(low: ArrayLike, high: ArrayLike) -> FloatArray:
    """(n_bins + 1,) edges of adjacent bins low to high: (n_bins,) each, rising."""
    return np.append(np.asarray(low), np.asarray(high)[-1])


def has_log_bins(table: pd.DataFrame) -> bool:
    """Whether bins bin_low to bin_high are equal on a logarithmic axis, rather than on a linear one."""
    low, high = table["bin_low"].min(), table["bin_high"].max()
    width = (table["bin_high"] - table["bin_low"]).to_numpy()
    return bool(low > 0 and high > low and width.max() > 1.5 * width.min())


def bin_middles(table: pd.DataFrame) -> FloatArray:
    """(n_bins,) where the points of bins bin_low to bin_high stand: the middle of each on its axis."""
    low, high = table["bin_low"].to_numpy(dtype=float), table["bin_high"].to_numpy(dtype=float)
    middles: FloatArray = (low + high) / 2
    if len(table) and has_log_bins(table):
        middles = np.sqrt(low * high)
    return middles


def filled_range(table: pd.DataFrame, *columns: str) -> tuple[float, float]:
    """(low, high) of the bins between the first and the last that hold anything in one of the columns."""
    filled = table[(table[list(columns)].fillna(0) > 0).any(axis=1)]
    shown = filled if len(filled) else table
    return float(shown["bin_low"].min()), float(shown["bin_high"].max())


def step_line(axes: Axes, low: ArrayLike, high: ArrayLike, values: ArrayLike, **keywords: Any) -> StepPatch:
    """A histogram outline of bins low to high: (n_bins,) each, rising and adjacent."""
    return axes.stairs(np.asarray(values), bin_edges(low, high), **keywords)


def fpr_name(fpr: float) -> str:
    """A false-positive rate as people write it: 100%, 0.5%."""
    return f"{100 * fpr:.3g}%"


@contextlib.contextmanager
def _fonts_without_layout_tables() -> Iterator[None]:
    """Embed fonts without their tables of ligatures and kerning, which no reader of a PDF looks at.

    matplotlib has placed every letter by then, and to cut these tables down takes half the time of a page.
    """
    from fontTools import subset  # where figures are written alone

    dropped = subset.Options._drop_tables_default
    subset.Options._drop_tables_default = [*dropped, "GDEF", "GPOS", "GSUB"]
    try:
        yield
    finally:
        subset.Options._drop_tables_default = dropped


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write `<stem>.pdf` and `<stem>.png`, whole or not at all; both paths. Dates are left out: same bytes."""
    pdf, png = stem.with_name(f"{stem.name}.pdf"), stem.with_name(f"{stem.name}.png")
    with matplotlib.style.context(STYLE, after_reset=True), _fonts_without_layout_tables():
        with atomic(pdf) as temporary:
            figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
        figure.set_layout_engine("none")  # the layout is settled: the second format need not find it again
        with atomic(png) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})
    return pdf, png
