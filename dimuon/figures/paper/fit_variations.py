"""Fig. 4: the classifier's p-value with polynomials of other degrees and with other bin widths."""

from collections.abc import Iterator
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from dimuon.bumphunt.result import Statistic
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.p_value_axes import BESIDE, curve, p_value_axes
from dimuon.figures.registry import figure
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section, figure_name
from dimuon.figures.style import COLOURS, LINES, MARKERS, Look, legend_beside, panel, say_origin, styled
from dimuon.statistics import model_choice
from dimuon.workflow import products

BASELINE = Look("-", "D", "black", strong=True)
CAPTION = (
    "p-value of the classifier cut against the false-positive rate for polynomials of other degrees and "
    "bin widths; the analysis's own choice ({model}) is bold and black. Curves that agree say that the fit is not "
    "what makes the excess."
)


@figure("fit_variations", section=Section.ROBUSTNESS, order=40, caption=CAPTION, first=True)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each train-test combination that was fitted with other functions."""
    path = saved.run.path(products.CURVES)
    own = model_choice.describe(saved.config.significance)
    for train, test, part in saved.by_test(saved.curves):
        part = part[part["variable"] == Statistic.WORKING_POINT].reset_index(drop=True)
        if not part["baseline"].all():
            yield Drawing(
                figure_name("variations", train, test, "fig4")
                if saved.is_the_papers and train == test == "os"
                else figure_name("fit_variations", train, test),
                f"Other fits, {saved.data.describe(train, test)}",
                [path],
                part,
                partial(fit_variations, baseline=own),
            )


@styled
def fit_variations(curves: pd.DataFrame, baseline: str, data: Dataset) -> Figure:
    """The classifier's p-value against the false-positive rate for polynomials of other degrees and bin widths.

    curves: baseline, degree, n_bins_sr, fpr, p0, valid; the classifier's of one train-test combination. baseline: the
    analysis's own function in words, drawn bold and black.
    """
    figure, axes = panel((12.5, 7.2))
    own, others = curves[curves["baseline"]], curves[~curves["baseline"]]
    degrees, bins = sorted(others["degree"].unique()), sorted(others["n_bins_sr"].unique())
    curve(axes, own, BASELINE, f"{baseline},\n{own['n_bins_sr'].iloc[0]} bins (baseline)")
    for (degree, n_bins), part in others.groupby(["degree", "n_bins_sr"]):
        index, line = degrees.index(degree), LINES[bins.index(n_bins) % len(LINES)]
        look = Look(line, MARKERS[index % len(MARKERS)], COLOURS[index % len(COLOURS)])
        curve(axes, part, look, f"degree {degree}, {n_bins} bins")
    p_value_axes(axes, curves["p0"].min())
    title = data.describe(*curves[["train", "test"]].iloc[0])
    n_columns = 1 if len(degrees) * len(bins) < 20 else 2
    legend_beside(axes, title, BESIDE, fontsize=12, ncol=n_columns)
    say_origin(figure, axes, data.origin)
    return figure
