"""Null datasets of other origins: what each says of the same search."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dimuon.bumphunt.result import Statistic
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import COLOURS, MARKERS, legend_beside, panels, say_origin, styled
from dimuon.studies.null_origins import ORIGINS, STATISTICS, OfOrigin
from dimuon.studies.pseudoexperiments import FIXED, FIXED_FPR
from dimuon.workflow.products import PRODUCTS

CAPTION = (
    "Null datasets of several origins, searched alike: the mean of their significance, and how often they exceed 1 and "
    "2 standard deviations, over what a Gaussian does (68 % intervals). What the origins differ by is a systematic "
    "uncertainty of all that null datasets calibrate."
)
MEAN = r"Mean $Z_0$"
LABELS = {FIXED: f"cut at {100 * FIXED_FPR:g} %"} | {str(each): each.label for each in Statistic}
SHOWN = (1.0, 2.0)  # sigma: beyond them hundreds of null datasets say little
BESIDE = 0.12  # of the points of one origin against the next

Summary = Mapping[str, Mapping[str, OfOrigin]]


@figure("null_origins", section=Section.ROBUSTNESS, order=68, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """What the null datasets of each origin say, for each charge."""
    path = saved.run.path(PRODUCTS["null_origins_summary"])
    content = saved.optional_json(path) or {}
    for charge, by_statistic in content.items():
        summary = {
            name: {origin: OfOrigin.from_json(each) for origin, each in _in_order(found["origins"], ORIGINS)}
            for name, found in _in_order(by_statistic, STATISTICS)
        }
        title = saved.data.titled("Null datasets of other origins", charge)
        yield Drawing(f"study_null_origins_{charge}", title, [path], table(summary), origins)


def _in_order(content: Mapping[str, Any], names: Iterable[str]) -> list[tuple[str, Any]]:
    """What there is of these names; a JSON file has them in the order of the alphabet."""
    return [(name, content[name]) for name in names if name in content]


def table(summary: Summary) -> pd.DataFrame:
    """statistic, origin, what (the mean, or the fraction above a threshold over nominal), value, low, high, n."""
    rows = list[tuple[str, str, str, float, float, float, int]]()
    for name, by_origin in summary.items():
        statistic = LABELS[name]
        for origin, each in by_origin.items():
            label = (statistic, ORIGINS[origin])
            rows.append((*label, MEAN, each.mean, each.mean - each.error, each.mean + each.error, each.n))
            for row in each.coverage:
                if row.z0 in SHOWN:
                    ratio, low, high = (value / row.expected for value in (row.fraction, row.low, row.high))
                    rows.append((*label, f"Above {row.z0:g} / nominal", ratio, low, high, row.n))
    return pd.DataFrame(rows, columns=["statistic", "origin", "what", "value", "low", "high", "n"])


@styled
def origins(rows: pd.DataFrame, data: Dataset) -> Figure:
    """rows: of `table`."""
    shown = rows["what"].unique()
    figure, axes = panels(len(shown), 1, (12.0, 4.0 * len(shown)), sharex=True)
    for own, what in zip(np.atleast_1d(axes), shown, strict=True):
        _by_origin(own, rows[rows["what"] == what])
        own.set(ylabel=what)
        if what != MEAN:
            own.axhline(1, color="black", linewidth=1)
            own.set_ylim(bottom=0)
    first, last = np.atleast_1d(axes)[[0, -1]]
    statistics = rows["statistic"].unique()
    last.set_xticks(range(len(statistics)), [textwrap.fill(statistic, 12) for statistic in statistics])
    last.set(xlim=(-0.5, len(statistics) - 0.5), xlabel="Statistic of the search")
    last.minorticks_off()
    legend_beside(first, "Null datasets from")
    say_origin(figure, first, data.origin, last=last)
    return figure


def _by_origin(axes: Axes, rows: pd.DataFrame) -> None:
    """A point for each statistic, those of each origin a little beside those of the one before."""
    places = {statistic: place for place, statistic in enumerate(rows["statistic"].unique())}
    by_origin = list(rows.groupby("origin", sort=False))
    for number, ((origin, part), colour, marker) in enumerate(zip(by_origin, COLOURS, MARKERS, strict=False)):
        at = part["statistic"].map(places) + BESIDE * (number - (len(by_origin) - 1) / 2)
        errors = [part["value"] - part["low"], part["high"] - part["value"]]
        label = textwrap.fill(f"{origin} ({part['n'].max()})", 34)
        axes.errorbar(at, part["value"], yerr=errors, color=colour, marker=marker, linestyle="", label=label)
