"""What is in the data? The mass of every muon pair of the skim."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_selection
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import COLOURS, panel, say_origin, step_line, styled
from dimuon.workflow import products

RESONANCES = {  # mass [GeV] of what the eye looks for (Review of Particle Physics)
    r"$\eta$": 0.548,
    r"$\rho,\omega$": 0.78,
    r"$\phi$": 1.019,
    r"$J/\psi$": 3.097,
    r"$\psi$(2S)": 3.686,
    r"$\Upsilon$": 9.7,
    r"$Z$": 91.19,
}
TICKS = (0.2, 0.3, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200)  # GeV
MOST_TICKS = 9
CAPTION = (
    "Mass of every muon pair in the skim, before trigger and selection, on logarithmic axes, with the resonances named."
)


@figure("spectrum", section=Section.DATA, order=160, caption=CAPTION, condition=with_selection)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One."""
    path = saved.run.path(products.SPECTRUM)
    table = saved.table(path)
    if table is not None:
        yield Drawing("spectrum", "Inclusive dimuon mass", [path], table, spectrum)


@styled
def spectrum(table: pd.DataFrame, data: Dataset) -> Figure:
    """The inclusive dimuon mass spectrum, pairs per GeV, by charge. table: bin_low, bin_high [GeV], n_os, n_ss."""
    figure, axes = panel((10.5, 7.0))
    low, high = table["bin_low"], table["bin_high"]
    density = table[["n_os", "n_ss"]].div(high - low, axis=0)
    step_line(axes, low, high, density["n_os"], color=COLOURS[0], linestyle="-", label="opposite sign", linewidth=1.4)
    step_line(axes, low, high, density["n_ss"], color=COLOURS[1], linestyle="--", label="same sign", linewidth=1.4)
    seen = density["n_os"] > 0
    axes.set(xscale="log", yscale="log", xlabel=data.mass.axis_label, ylabel="Muon pairs / GeV")
    axes.set_xlim(low[seen].min() / 1.3, high[seen].max() * 1.3)
    axes.set_ylim(density["n_os"][seen].min() / 2, density["n_os"].max() * 20)
    _name_resonances(axes, table, density["n_os"])
    left, right = axes.get_xlim()
    ticks = [tick for tick in TICKS if left < tick < right]
    if len(ticks) > MOST_TICKS:
        ticks = [tick for tick in ticks if f"{tick:e}"[0] in "125"]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="upper right")
    say_origin(figure, axes, data.origin)
    return figure


def _name_resonances(axes: Axes, table: pd.DataFrame, density: pd.Series) -> None:
    for index, (name, mass) in enumerate(RESONANCES.items()):
        near = density[(table["bin_low"] < 1.06 * mass) & (table["bin_high"] > 0.94 * mass)]
        if len(near) and near.max() > 0:
            above = (0, 9 + 16 * (index % 2))
            axes.annotate(name, (mass, near.max()), above, textcoords="offset points", ha="center", fontsize=15)
