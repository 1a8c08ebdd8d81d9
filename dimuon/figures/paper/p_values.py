"""Fig. 1b, 2b: p-value and significance against the false-positive rate, for each variable cut on."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dimuon.bumphunt.headlines import headline_rows
from dimuon.bumphunt.result import Statistic, TestResult
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.p_value_axes import Look, curve, p_value_axes, variable_label
from dimuon.figures.registry import figure
from dimuon.figures.saved import Saved
from dimuon.figures.sections import paper_name, section_of
from dimuon.figures.style import COLOURS, LINES, MARKERS, panel, say_origin, styled
from dimuon.workflow import products

CATHODE = Look("-", "o", COLOURS[0], strong=True)
RANDOM = Look(LINES[3], "x", "black")
LEVELS = (  # what is drawn as a horizontal line: line style, name in the legend
    (Statistic.LIKELIHOOD, "-", Statistic.LIKELIHOOD.label),
    (Statistic.GLOBAL, "--", "global, best cut"),
)
CAPTION = (
    "Local p-value (left) and significance (right) of the excess in the signal region against the fraction of "
    "sideband events kept: for the classifier, for a cut on each feature alone and for a random cut. Lower is "
    "more significant. Open markers: too few events for the asymptotic formula; stars are then "
    "from toys, arrows only bounds by them. Horizontal lines: the "
    "likelihood-reweighted value and, where toys were run, the best cut corrected for the cuts scanned."
)


@figure("p_values", section=None, order=20, caption=CAPTION)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each train-test combination."""
    paths = [saved.run.path(products.CURVES), saved.run.path(products.SIGNIFICANCE)]
    curves, results = saved.curves, {result.name: result for result in saved.results}
    if curves is None or not results:
        return
    for train, test, part in saved.by_test(curves[curves["baseline"]]):
        result = results.get(f"{train}_on_{test}")
        if result is not None:
            yield Drawing(
                paper_name("b", "p_values", train, test),
                f"p-value against false-positive rate, {saved.data.describe(train, test)}",
                paths,
                part,
                partial(p_values, result=result),
                section=section_of(train, test),
            )


@styled
def p_values(curves: pd.DataFrame, result: TestResult, data: Dataset) -> Figure:
    """The p-value and significance against the false-positive rate, for each variable cut on.

    curves: variable, fpr, z0, p0, valid; one train-test combination, one degree, one binning. result: of the same
    combination, for the likelihood and global values. Open markers: `valid` is false.
    """
    figure, axes = panel((9.5, 7.5))
    for name, look in _looks(curves["variable"]).items():
        points = curves[curves["variable"] == name]
        if len(points):
            curve(axes, points, look, variable_label(name, data))
    _toy_values(axes, curves[curves["variable"] == Statistic.WORKING_POINT])
    lowest = curves["p0"].min()
    (row,) = headline_rows([result])
    for statistic, line, what in LEVELS:
        cell = row[statistic]
        if cell.p0 is not None:
            label = rf"{Statistic.WORKING_POINT.label}, {what}: {cell.text}$\sigma$"
            axes.axhline(cell.p0, color=CATHODE.colour, linestyle=line, linewidth=1.3, label=label)
            lowest = min(lowest, cell.p0)
    p_value_axes(axes, lowest)
    axes.legend(loc="lower right", fontsize=13, framealpha=0.85, frameon=True, edgecolor="none")
    say_origin(figure, axes, data.origin, data.describe(*curves[["train", "test"]].iloc[0]))
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
    """Stars where background-only toys gave the p-value; arrows where too few toys reached it for more than a bound."""
    if "n_toys" not in part or not (part["n_toys"] > 0).any():
        return
    tested = part[part["n_toys"] > 0]
    known, bound = tested[~tested["toys_bound"]], tested[tested["toys_bound"]]
    look: dict[str, Any] = {"linestyle": "none", "color": "black"}
    axes.errorbar(
        known["fpr"],
        known["p0_toys"],
        yerr=known["p0_toys_err"],
        fmt="*",
        markersize=9,
        label="CATHODE, from toys",
        **look,
    )
    axes.plot(bound["fpr"], bound["p0_toys"], marker="$\\downarrow$", markersize=11, **look)
