"""Fig. 1b, 2b: p-value and significance against the false-positive rate, for each variable cut on."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from dimuon.bumphunt.headlines import HeadlineRow, headline_rows
from dimuon.bumphunt.result import Statistic, TestResult
from dimuon.dataset import Dataset
from dimuon.figures import overlay
from dimuon.figures.drawing import Drawing
from dimuon.figures.overlay import Overlay
from dimuon.figures.p_value_axes import BESIDE, FLOOR, curve, p_value_axes, upper_bounds, variable_label
from dimuon.figures.registry import figure
from dimuon.figures.saved import Saved
from dimuon.figures.sections import figure_name, paper_panel, section_of
from dimuon.figures.style import COLOURS, LINES, MARKERS, Look, legend_beside, panel, say_origin, styled
from dimuon.workflow import products

CATHODE = Look("-", "o", COLOURS[0], strong=True)
RANDOM = Look(LINES[3], "x", "black")
OVERLAYS = Look((0, (4, 2)), "h", "0.45")  # curves of others; the colour gets darker from one to the next
CAPTION = (
    "Local p-value (left) and significance (right) of the excess in the signal region against the fraction of "
    "sideband events kept: for the classifier, for a cut on each feature alone and for a random cut. Lower is more "
    "significant. Open markers: too few events for the asymptotic formula; stars are then from toys, bars with an "
    "arrow upper bounds by them. Where there is no excess at all, the asymptotic p-value is 0.5 and that of toys, "
    "every one of which is as extreme, 1. Horizontal line: the likelihood-reweighted value. Diamond with an error, "
    "or bar with an arrow where only a bound is known: the p-value of the best cut, corrected for the cuts scanned; "
    "a dotted line leads to it."
)


@figure("p_values", section=None, order=20, caption=CAPTION, first=True)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each train-test combination."""
    paths = [saved.run.path(products.CURVES), saved.run.path(products.SIGNIFICANCE)]
    others = saved.overlays
    curves, results = saved.curves, {result.name: result for result in saved.results}
    if curves is None or not results:
        return
    for train, test, part in saved.by_test(curves[curves["baseline"]]):
        result = results.get(f"{train}_on_{test}")
        if result is not None:
            yield Drawing(
                figure_name("p_values", train, test, paper_panel("b", train, test) if saved.is_the_papers else ""),
                f"p-value against false-positive rate, {saved.data.describe(train, test)}",
                paths,
                part,
                partial(p_values, result=result, others=overlay.of_test(others, train, test)),
                section=section_of(train, test),
            )


@styled
def p_values(curves: pd.DataFrame, result: TestResult, data: Dataset, others: Sequence[Overlay] = ()) -> Figure:
    """The p-value and significance against the false-positive rate, for each variable cut on.

    curves: variable, fpr, z0, p0, valid; one train-test combination, one degree, one binning. result: of the same
    combination, for the likelihood and global values. others: curves to draw beside them. Open markers: `valid` is
    false.
    """
    figure, axes = panel((12.0, 7.2))
    for name, look in _looks(curves["variable"]).items():
        points = curves[curves["variable"] == name]
        if len(points):
            curve(axes, points, look, variable_label(name, data))
    for index, other in enumerate(others):
        colour = f"{0.45 - 0.35 * index / len(others):.2f}"
        style: dict[str, Any] = {"color": colour, "linestyle": OVERLAYS.line, "marker": OVERLAYS.marker}
        style |= {"markersize": 6, "markerfacecolor": "none", "zorder": 1.5}
        axes.plot(other.fpr, other.p0.clip(FLOOR), label=other.label, **style)
    _toy_values(axes, curves[curves["variable"] == Statistic.WORKING_POINT])
    (row,) = headline_rows([result])
    drawn = [curves["p0"].min(), *(other.p0.min() for other in others)]
    weighted = row.likelihood
    if weighted.p0 is not None:
        label = rf"{weighted.statistic.label}: {weighted.text}$\sigma$"
        axes.axhline(max(weighted.p0, FLOOR), color=CATHODE.colour, linewidth=1.3, label=label)
        drawn.append(weighted.p0)
    _global_value(axes, row)
    p_value_axes(axes, min(drawn))
    legend_beside(axes, data.describe(*curves[["train", "test"]].iloc[0]), BESIDE)
    say_origin(figure, axes, data.origin)
    return figure


def _looks(variables: Iterable[str]) -> dict[str, Look]:
    """{variable: `Look`} in the order of the legend; after every round of looks, each marker meets another line."""
    features = [name for name in dict.fromkeys(variables) if name not in ("cathode", "random")]
    lines, markers, colours = LINES[1:3] + LINES[4:], MARKERS[1:], COLOURS[1:]
    looks = {Statistic.WORKING_POINT.value: CATHODE}
    for index, name in enumerate(features):
        line = lines[(index + index // len(lines)) % len(lines)]
        looks[name] = Look(line, markers[index % len(markers)], colours[index % len(colours)])
    return looks | {"random": RANDOM}


def _toy_values(axes: Axes, part: pd.DataFrame) -> None:
    """Stars where background-only toys gave the p-value, bounds where too few of them reached it for a value."""
    if "n_toys" not in part or not (part["n_toys"] > 0).any():
        return
    tested = part[part["n_toys"] > 0]
    known, bound = tested[~tested["toys_bound"]], tested[tested["toys_bound"]]
    name = f"{Statistic.WORKING_POINT.label}, from toys"
    if len(known):
        error = known["p0_toys_err"].clip(upper=known["p0_toys"] * 0.99)  # on a logarithmic axis
        label = name if (known["p0_toys"] < 1).all() else f"{name}\n(1: no excess)"
        look: dict[str, Any] = {"fmt": "*", "markersize": 9, "color": "black", "label": label, "clip_on": False}
        axes.errorbar(known["fpr"], known["p0_toys"], yerr=error, zorder=5, **look)
    if len(bound):
        upper_bounds(axes, bound["fpr"], bound["p0_toys"], "black", f"{name}: below")


def _global_value(axes: Axes, row: HeadlineRow) -> None:
    """The p-value of the best cut, corrected for the cuts scanned, over that cut: a value, or a bound."""
    cell, best, record = row[Statistic.GLOBAL], row[Statistic.BEST_CUT], row.result.global_
    if record is None or best.p0 is None or best.fpr is None:
        return
    at = norm.sf(cell.bound) if cell.p0 is None and cell.bound is not None else cell.p0
    if at is None:
        return
    label = f"best cut, corrected for\nthe cuts scanned: {cell.text}$\\sigma$"
    axes.plot([best.fpr] * 2, [max(best.p0, FLOOR), at], color=CATHODE.colour, linestyle=":", linewidth=1.6, zorder=1)
    if cell.p0 is None:
        upper_bounds(axes, [best.fpr], [at], CATHODE.colour, f"{label} (a bound)")
        return
    ends = [at if z0 is None else norm.sf(max(z0, 0.0)) for z0 in (record.z0_low, record.z0_high)]
    error = np.abs(np.array(ends)[:, None] - at)[::-1]  # the higher significance is the lower p-value
    look: dict[str, Any] = {
        "fmt": "D",
        "color": CATHODE.colour,
        "markerfacecolor": "white",
        "markersize": 9,
        "capsize": 3,
    }
    axes.errorbar([best.fpr], [at], yerr=error, label=label, zorder=6, **look)
