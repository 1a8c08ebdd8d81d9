"""The look of every figure: CMS style, what must be said of the data, colours and markers, saving.

Figures are made outside pyplot, from tables, and handed back; nothing is shown. Colours are the colour-blind-safe
set that CMS recommends (Petroff, arXiv:2107.02270); what a colour says a marker or a line style says too, so that
a grey print reads the same.
"""

import functools
import logging

import matplotlib
import matplotlib.style
import mplhep
import numpy as np
from hist.intervals import poisson_interval
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dimuon.workflow.provenance import atomic

matplotlib.use("Agg")  # no window, wherever the figures are made
logging.getLogger("fontTools").setLevel(logging.WARNING)  # it logs every table of every font embedded

LUMINOSITY = 8.7  # fb^-1, DoubleMuon 2016 of the open data (paper, "Anti-Isolated Upsilon Selection")
ENERGY = 13  # TeV
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
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)), (0, (3, 1)))
CHARGE_NAMES = {"os": "OS", "ss": "SS"}


def styled(draw):
    """A figure function that works in the house style, whatever the caller's settings are."""

    @functools.wraps(draw)
    def in_style(*arguments, **keywords):
        with matplotlib.style.context(STYLE, after_reset=True):
            return draw(*arguments, **keywords)

    return in_style


def panels(n_rows=1, n_columns=1, size=None, **keywords):
    """(figure, axes) outside pyplot, axes as `Figure.subplots` gives them. size: inches."""
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(n_rows, n_columns, **keywords)


def say_origin(figure, axes, origin, note="", last=None):
    """Write over `axes` what the data are, and SIMULATED across the figure where they are not measured.

    origin: of `dimuon.workflow.provenance.ORIGINS`. note: what the figure shows of them, in a few words, top right in the axes.
    figure: None for a further panel of a figure that says it across already. last: the panel over whose right end the
    luminosity stands (None: `axes`).
    """
    heading = {"measured": "CMS", "rebuilt": "CMS", "simulated": "SIMULATED"}[origin]
    rest = {
        "measured": "Open Data 2016",
        "rebuilt": "Open Data 2016, features partly REBUILT",
        "simulated": "toy events, not data",
    }[origin]
    right = f"{ENERGY} TeV" if origin == "simulated" else rf"{LUMINOSITY} fb$^{{-1}}$ ({ENERGY} TeV)"
    # one line of two fonts, placed by matplotlib itself so that it stays put at any size of figure
    first = axes.annotate(heading, (0, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points",
                          ha="left", va="bottom", weight="bold", fontsize=19)  # fmt: skip
    axes.annotate(rest, (1, 0), xycoords=first, xytext=(6, 0), textcoords="offset points",
                  ha="left", va="bottom", style="italic", fontsize=15)  # fmt: skip
    (last or axes).annotate(right, (1, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points",
                  ha="right", va="bottom", fontsize=15)  # fmt: skip
    if note:
        axes.text(0.97, 0.96, note, transform=axes.transAxes, ha="right", va="top", fontsize=14)
    if origin == "simulated" and figure is not None:
        figure.text(0.5, 0.5, "SIMULATED", rotation=30, ha="center", va="center", fontsize=80, weight="bold",
                    color="black", alpha=0.10, zorder=100)  # fmt: skip


def shades(n):
    """n colours from dark to light, told apart in grey and by colour-blind readers (viridis without its lightest)."""
    return [matplotlib.colormaps["viridis"](value) for value in np.linspace(0.0, 0.88, max(n, 2))[:n]]


def poisson_errors(counts):
    """(2, n_bins) lengths of the central 68 % Poisson intervals of counts: (n_bins,), whole numbers (Garwood)."""
    counts = np.asarray(counts, dtype=float)
    low, high = poisson_interval(counts, counts)
    return np.array([counts - np.nan_to_num(low), np.where(counts > 0, high, 1.841) - counts])


def deviance_pull(observed, expected, error=None):
    """Signed square root of each bin's share of the Poisson deviance: (n_bins,).

    Equals (observed - expected) / sqrt(expected) where that is large, and stays meaningful for a few events. NaN
    where nothing is expected. error: (n_bins,) of sums of weights, which are then scaled Poisson counts (Bohm & Zech
    2014, arXiv:1309.1287; an empty bin takes the scale of all); None: events.
    """
    observed, expected = np.asarray(observed, dtype=float), np.asarray(expected, dtype=float)
    if error is not None:
        squares = np.square(np.asarray(error, dtype=float))
        whole = squares.sum() / max(observed.sum(), 1e-300)
        scale = np.where(observed > 0, squares / np.where(observed > 0, observed, 1.0), whole)
        return deviance_pull(observed / scale, expected / scale)
    usable = expected > 0
    safe = np.where(usable, expected, 1.0)
    ratio = np.where(observed > 0, observed / safe, 1.0)
    deviance = 2 * (observed * np.log(ratio) - (observed - safe))
    return np.where(usable, np.sign(observed - expected) * np.sqrt(np.maximum(deviance, 0)), np.nan)


def mark_signal_region(axes, window, label=True):
    """Lines at both SR edges [GeV], and its name between them."""
    for edge in (window.sr_low, window.sr_high):
        axes.axvline(edge, color="black", linewidth=1.2)
    if label:
        axes.annotate("SR", ((window.sr_low + window.sr_high) / 2, 0), xycoords=("data", "axes fraction"),
                      xytext=(0, 5), textcoords="offset points", ha="center", fontsize=13)  # fmt: skip


def step_line(axes, low, high, values, **keywords):
    """A histogram outline of bins low..high: (n_bins,) each, rising and adjacent."""
    return axes.stairs(values, np.append(low, np.asarray(high)[-1]), **keywords)


def describe_test(train, test):
    """A train-test combination in words, as it stands in a figure."""
    if train == test:
        return f"{CHARGE_NAMES[test]} dimuons"
    return f"{CHARGE_NAMES[train]} classifier on {CHARGE_NAMES[test]} dimuons"


def fpr_name(fpr):
    """A false-positive rate as people write it: 100%, 0.5%."""
    return f"{100 * fpr:.3g}%"


def save(figure, stem):
    """Write `<stem>.pdf` and `<stem>.png`, whole or not at all; returns both paths. Dates are left out: same bytes."""
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("pdf", "png")]
    with matplotlib.style.context(STYLE, after_reset=True):
        for path, metadata in zip(paths, ({"CreationDate": None}, {"Software": None}), strict=True):
            with atomic(path) as temporary:
                figure.savefig(temporary, format=path.suffix[1:], metadata=metadata)
            if path.suffix == ".pdf":
                figure.set_layout_engine("none")  # the layout is settled: the second format need not find it again
    return paths
