"""How often does background alone reach the significance of the data?"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from dimuon.arrays import FloatArray
from dimuon.bumphunt.result import Statistic, shown_likelihood
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import COLOURS, LINES, Z0_LABEL, Colour, Line, legend_beside, panel, say_origin, styled
from dimuon.workflow.products import PRODUCTS

CAPTION = (
    "How often datasets without a signal, taken through the whole chain, reach a significance: coloured, with "
    "binomial errors, against the asymptotic expectation for a single test (black). The best cut lies above the "
    "black line because many cuts were tried. Vertical lines: the data."
)


@figure("pseudoexperiments", section=Section.ROBUSTNESS, order=65, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each charge, where the study was made."""
    paths = [saved.run.path(PRODUCTS[name]) for name in ("pseudoexperiments", "pseudoexperiments_calibrated")]
    table = saved.optional_table(paths[0])
    content = saved.optional_json(paths[1]) if table is not None else None
    for charge, part in saved.by_charge(table):
        likelihood = shown_likelihood(part["variable"], saved.config.significance.weight_scales)
        yield Drawing(
            f"study_pseudoexperiments_{charge}",
            saved.data.titled("Pseudoexperiments", charge),
            paths,
            part,
            partial(null_distributions, observed=_observed(content, charge, _shown(likelihood)), charge=charge),
        )


def _shown(likelihood: Statistic) -> tuple[Statistic, ...]:
    return (Statistic.NO_CUT, Statistic.BEST_CUT, likelihood)


def _observed(content: Any, charge: str, shown: Sequence[Statistic]) -> dict[Statistic, float | None]:
    """Z0 of the data, searched as the null datasets are: {what is shown: it, None where it is not known}.

    content: of `pseudoexperiments.json`, or None.
    """
    outcomes = content[charge]["data"]["like_nulls"] if content else {}
    return {name: outcomes[name]["asymptotic"] if outcomes.get(name) else None for name in shown}


@styled
def null_distributions(
    table: pd.DataFrame, observed: Mapping[Statistic, float | None], charge: str, data: Dataset
) -> Figure:
    """Toy distributions against asymptotics: how often background alone reaches a Z0, by full-chain pseudoexperiments.

    table: experiment, variable, z0 of null datasets of one charge. observed: {what is shown: Z0 of the data}, drawn
    as vertical lines where it is known.
    """
    figure, axes = panel((12.0, 7.0))
    grid = np.linspace(0, max(5.0, table["z0"].max(), *(z0 for z0 in observed.values() if z0 is not None)) * 1.05, 300)
    axes.plot(grid, norm.sf(grid), color="black", linewidth=2, label="asymptotic, one test")
    for (statistic, of_data), colour, line in zip(observed.items(), COLOURS, LINES[1:], strict=False):
        z0 = np.sort(table.loc[table["variable"] == statistic, "z0"].fillna(0.0).to_numpy())
        if len(z0):
            _share_above(axes, grid, z0, (colour, line), statistic.label)
        if of_data is not None:
            axes.axvline(of_data, color=colour, linestyle=line, linewidth=1)
    n_nulls = table["experiment"].nunique()
    axes.set(yscale="log", xlabel=Z0_LABEL, ylabel=r"Fraction of null datasets at or above $Z_0$")
    axes.set(ylim=(0.2 / n_nulls, 1), xlim=(0, grid[-1]))
    legend_beside(axes, f"{n_nulls} null datasets, {data.short(charge)}\nvertical lines: data")
    say_origin(figure, axes, data.origin)
    return figure


def _share_above(axes: Axes, grid: FloatArray, z0: FloatArray, look: tuple[Colour, Line], label: str) -> None:
    """The fraction of the sorted z0 at or above each value of the grid, with its binomial error."""
    colour, line = look
    share = 1 - np.searchsorted(z0, grid, side="left") / len(z0)
    error = np.sqrt(share * (1 - share) / len(z0))
    axes.plot(grid[share > 0], share[share > 0], color=colour, linestyle=line, label=label)
    axes.fill_between(grid, np.clip(share - error, 1e-9, 1), share + error, color=colour, alpha=0.2, linewidth=0)
