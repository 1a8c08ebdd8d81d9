"""Half and half, five folds, or their median histogram: the calibration of each and what it costs."""

from collections.abc import Iterator, Mapping, Sequence

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
from dimuon.figures.style import COLOURS, LINES, MARKERS, legend_beside, panels, say_origin, styled
from dimuon.studies.splits import OfStatistic
from dimuon.workflow.products import PRODUCTS

CALIBRATION = (
    "How often null datasets exceed 1, 2 and 3 standard deviations at each working point, over what a Gaussian does "
    "(68 % intervals), with each way to split the events between the training of the classifiers and the search. Above "
    "one, the asymptotic significance claims too much."
)
COST = (
    "What a split costs: the share of datasets with so many signal events whose significance lies above the level that "
    "2.3 % of the null datasets of the same split exceed, at each working point (68 % intervals). SIMULATED signal."
)
SHIFT = 1.035  # of the points of one split against the next, on the logarithmic axis

Splits = Mapping[str, Sequence[OfStatistic]]


def _summaries(saved: Saved) -> Iterator[tuple[str, Splits]]:
    content = saved.optional_json(saved.run.path(PRODUCTS["splits_summary"])) or {}
    for charge, by_name in content.items():
        yield charge, {name: [OfStatistic.from_json(each) for each in listed] for name, listed in by_name.items()}


@figure("splits", section=Section.ROBUSTNESS, order=66, caption=CALIBRATION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """The calibration of every split, for each charge."""
    path = saved.run.path(PRODUCTS["splits_summary"])
    for charge, summary in _summaries(saved):
        title = saved.data.titled("Splits of the events: calibration", charge)
        yield Drawing(f"study_splits_{charge}", title, [path], calibrations(summary), calibration_curves)


@figure("splits_cost", section=Section.ROBUSTNESS, order=67, caption=COST, condition=with_classifier)
def cost_drawings(saved: Saved) -> Iterator[Drawing]:
    """What is found of injected signal with every split, for each charge that has any."""
    path = saved.run.path(PRODUCTS["splits_summary"])
    for charge, summary in _summaries(saved):
        table = costs(summary)
        if len(table):
            title = saved.data.titled("Splits of the events: what is found", charge)
            yield Drawing(f"study_splits_cost_{charge}", title, [path], table, found_of_signal)


def _cuts(summary: Splits) -> Iterator[tuple[str, OfStatistic]]:
    for name, listed in summary.items():
        yield from ((name, each) for each in listed if each.statistic == Statistic.WORKING_POINT)


def calibrations(summary: Splits) -> pd.DataFrame:
    """split, fpr, z0 (the threshold), ratio, low, high (over nominal), n (null datasets): a row each."""
    rows = [
        (name, each.fpr, row.z0, *(value / row.expected for value in (row.fraction, row.low, row.high)), row.n)
        for name, each in _cuts(summary)
        for row in each.coverage
    ]
    return pd.DataFrame(rows, columns=["split", "fpr", "z0", "ratio", "low", "high", "n"])


def costs(summary: Splits) -> pd.DataFrame:
    """split, fpr, n_injected, power, low, high: a row each."""
    rows = [
        (name, each.fpr, found.n_injected, found.power, found.power_low, found.power_high)
        for name, each in _cuts(summary)
        for found in each.with_signal
    ]
    return pd.DataFrame(rows, columns=["split", "fpr", "n_injected", "power", "low", "high"])


@styled
def calibration_curves(table: pd.DataFrame, data: Dataset) -> Figure:
    """table: of `calibrations`."""
    thresholds = sorted(table["z0"].unique())
    figure, axes = panels(len(thresholds), 1, (12.0, 4.2 * len(thresholds)), sharex=True)
    for own, z0 in zip(np.atleast_1d(axes), thresholds, strict=True):
        part = table[table["z0"] == z0]
        _by_split(own, part, "ratio")
        own.axhline(1, color="black", linewidth=1)
        own.set(xscale="log", ylabel=f"Fraction above {z0:g} / nominal", ylim=(0, max(2.0, 1.1 * part["ratio"].max())))
    first, last = np.atleast_1d(axes)[[0, -1]]
    last.set_xlabel("False-positive rate")
    legend_beside(first, f"{table['n'].max()} null datasets")
    say_origin(figure, first, data.origin, last=last)
    return figure


@styled
def found_of_signal(table: pd.DataFrame, data: Dataset) -> Figure:
    """table: of `costs`."""
    numbers = sorted(table["n_injected"].unique())
    figure, axes = panels(len(numbers), 1, (12.0, 4.2 * len(numbers)), sharex=True)
    for own, n_injected in zip(np.atleast_1d(axes), numbers, strict=True):
        _by_split(own, table[table["n_injected"] == n_injected], "power")
        own.set(xscale="log", ylim=(0, 1.05), ylabel=f"Share found of\n{n_injected} signal events")
    first, last = np.atleast_1d(axes)[[0, -1]]
    last.set_xlabel("False-positive rate")
    legend_beside(first, "equal false alarms")
    say_origin(figure, first, data.origin, last=last)
    return figure


def _by_split(axes: Axes, table: pd.DataFrame, what: str) -> None:
    """Points with their intervals, of each split a little beside those of the one before. table: with low and high."""
    looks = zip(table.groupby("split", sort=False), COLOURS, MARKERS, LINES, strict=False)
    for place, ((name, part), colour, marker, line) in enumerate(looks):
        errors = [part[what] - part["low"], part["high"] - part[what]]
        at = part["fpr"] * SHIFT**place
        axes.errorbar(at, part[what], yerr=errors, color=colour, marker=marker, linestyle=line, label=str(name))
