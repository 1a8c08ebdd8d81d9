"""What is found of a known number of signal events?"""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import COLOURS, LINES, MARKERS, Z0_LABEL, panel, say_origin, styled
from dimuon.studies.injection import METHODS
from dimuon.workflow.products import PRODUCTS

CAPTION = (
    "Significance against the number of signal events hidden in a null dataset, for each way to look for them: "
    "medians and 68 % bands. Dotted: 3 and 5 standard deviations."
)


@figure("injection", section=Section.ROBUSTNESS, order=75, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One, where the study was made."""
    path = saved.run.path(PRODUCTS["injection"])
    table = saved.optional_table(path)
    if table is not None:
        yield Drawing("study_injection", "Injection", [path], table, injection)


@styled
def injection(table: pd.DataFrame, data: Dataset) -> Figure:
    """Significance against the number of signal events injected into a null dataset: medians and 68 % bands.

    table: n_injected, repeat, method, z0.
    """
    figure, axes = panel()
    z0 = table.assign(z0=table["z0"].fillna(0.0))  # a likelihood without an excess has none
    used = [method for method in METHODS if (table["method"] == method).any()]
    for method, colour, marker, line in zip(used, COLOURS, MARKERS, LINES, strict=False):
        by_number = z0[z0["method"] == method].groupby("n_injected")["z0"]
        median, low, high = by_number.median(), by_number.quantile(0.16), by_number.quantile(0.84)
        axes.plot(median.index, median, color=colour, marker=marker, linestyle=line, label=method.label)
        axes.fill_between(median.index, low, high, color=colour, alpha=0.12, linewidth=0)
    for sigma in (3, 5):
        axes.axhline(sigma, color="0.6", linestyle=":", linewidth=1)
    axes.set(xlabel="Signal events injected", ylabel=Z0_LABEL, xlim=(0, None))
    axes.set_ylim(0, 1.3 * max(table["z0"].max(), 5))
    axes.legend(loc="upper left", fontsize=13)
    say_origin(figure, axes, data.origin)
    return figure
