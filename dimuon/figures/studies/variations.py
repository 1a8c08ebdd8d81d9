"""Does the significance hang on one choice of the analysis?"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dimuon.bumphunt.result import Statistic, shown_likelihood
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import COLOURS, LINES, MARKERS, Z0_LABEL, legend_beside, panel, say_origin, styled
from dimuon.workflow.products import PRODUCTS

CAPTION = (
    "Significance when one choice of the analysis is changed at a time: degree and bins of the fit, edges of the "
    "signal region and of the sidebands, preprocessing, flow, seed. Vertical lines: the baseline."
)


@figure("variations", section=Section.ROBUSTNESS, order=60, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each charge, where the study was made."""
    path = saved.run.path(PRODUCTS["variations"])
    for charge, part in saved.by_charge(saved.optional_table(path)):
        name, title = f"study_variations_{charge}", saved.data.titled("Variations", charge)
        likelihood = shown_likelihood(part["variable"], saved.config.significance.weight_scales)
        yield Drawing(name, title, [path], part, partial(variations, charge=charge, likelihood=likelihood))


@styled
def variations(table: pd.DataFrame, charge: str, likelihood: Statistic, data: Dataset) -> Figure:
    """Z0 of every systematic variation, for the best cut, the likelihood and no cut; a line marks the baseline.

    table: variation, kind, variable, z0 of one charge. likelihood: which of its two forms is shown.
    """
    names = list(dict.fromkeys(table["variation"]))
    figure, axes = panel((12.0, 1.9 + 0.38 * len(names)))
    shown = (Statistic.NO_CUT, Statistic.BEST_CUT, likelihood)
    for statistic, colour, marker, line in zip(shown, COLOURS, MARKERS, LINES, strict=False):
        z0 = table[table["variable"] == statistic].set_index("variation")["z0"].reindex(names)
        axes.plot(z0, np.arange(len(names)), marker, color=colour, label=statistic.label)
        if "baseline" in names:
            axes.axvline(z0["baseline"], color=colour, linestyle=line, linewidth=1, zorder=0)
    axes.set_yticks(range(len(names)), names, fontsize=13)
    axes.tick_params(axis="y", which="both", length=0)
    axes.set(xlabel=Z0_LABEL, ylim=(len(names) - 0.5, -0.5), xlim=(0, 1.1 * max(table["z0"].max(), 1)))
    legend_beside(axes, f"{data.short(charge)}\nlines: baseline")
    say_origin(figure, axes, data.origin)
    return figure
