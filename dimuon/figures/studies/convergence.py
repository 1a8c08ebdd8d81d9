"""Are the members of the classifier ensemble enough?"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dimuon.bumphunt.result import Statistic
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import COLOURS, MARKERS, Z0_LABEL, panel, say_origin, styled
from dimuon.workflow import products

COLUMNS = {"z0_max": Statistic.BEST_CUT, "z0_likelihood": Statistic.LIKELIHOOD}
LEVELS = np.array([0.025, 0.16, 0.5, 0.84, 0.975])
CAPTION = (
    "Spread of the significance when the ensemble is drawn again from its members (bootstrap), against their "
    "number. Where the band no longer narrows, more members buy nothing."
)


@figure("convergence", section=Section.ROBUSTNESS, order=50, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each train-test combination, where the study was made."""
    path = saved.run.path(products.PRODUCTS["convergence"])
    for train, test, part in saved.by_test(saved.optional_table(path)):
        name, title = f"convergence_{train}_on_{test}", f"Ensemble convergence, {saved.data.describe(train, test)}"
        yield Drawing(name, title, [path], part, partial(convergence, train=train, test=test))


@styled
def convergence(table: pd.DataFrame, train: str, test: str, data: Dataset) -> Figure:
    """Spread of Z0 over bootstrapped ensembles against their number of members: median, 68 % and 95 % bands.

    table: n_members, draw, z0_max, z0_likelihood of one train-test combination.
    """
    figure, axes = panel()
    for (column, statistic), colour, marker in zip(COLUMNS.items(), COLOURS, MARKERS, strict=False):
        by_size = table.dropna(subset=[column]).groupby("n_members")[column]
        if by_size.ngroups:
            levels = by_size.quantile(LEVELS).unstack()
            axes.fill_between(levels.index, levels[0.025], levels[0.975], color=colour, alpha=0.12, linewidth=0)
            axes.fill_between(levels.index, levels[0.16], levels[0.84], color=colour, alpha=0.25, linewidth=0)
            axes.plot(levels.index, levels[0.5], marker=marker, color=colour, label=statistic.label)
    axes.set(xscale="log", xlabel="Members of the ensemble, per fold", ylabel=Z0_LABEL)
    axes.set_ylim(0, 1.4 * table[list(COLUMNS)].max().max())
    axes.legend(loc="lower right")
    say_origin(figure, axes, data.origin, data.describe(train, test))
    return figure
