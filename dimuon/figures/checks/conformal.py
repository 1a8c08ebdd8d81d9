"""Does the SR keep more than its share, whatever the fit to the mass says? Each cut by conformal p-values."""

from collections.abc import Iterator
from functools import partial

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dimuon.bumphunt.result import Statistic
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import COLOURS, legend_beside, panel, say_origin, styled
from dimuon.statistics.conformal import BETWEEN, HIGH, LOW
from dimuon.workflow import products

FIT = "mass fit"
CAPTION = (
    "Each cut on the classifier once more, without a fit to the mass: is the fraction of events that pass larger in "
    "the signal region than in the sidebands (conformal p-values)? The low and the high sideband answer for "
    "themselves, and where the score knows the mass they disagree; between them the answer is interpolated to the "
    "mass of the signal region. The fit does not use how many events the region holds before the cut, the fractions "
    "do not use the mass spectrum. Open markers: too few events for the asymptotic form of the fit."
)
LOOKS = {LOW: (":", "v", COLOURS[0]), HIGH: ("--", "^", COLOURS[2]), BETWEEN: ("-", "s", COLOURS[3])}


@figure("conformal", section=Section.CLASSIFIER, order=105, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each sample that its own classifier scored."""
    path, curves = saved.run.path(products.CONFORMAL), saved.curves
    for train, test, table in saved.by_test(saved.table(path)):
        if curves is None or train != test:
            return  # the matched ones come first
        own = curves[(curves["train"] == train) & (curves["test"] == test) & curves["baseline"]]
        fit = own[own["variable"] == Statistic.WORKING_POINT.value].assign(calibration=FIT)
        yield Drawing(
            f"conformal_{test}",
            f"The cuts without a fit to the mass, {saved.data.describe(train, test)}",
            [path, saved.run.path(products.CURVES)],
            pd.concat([table, fit[["train", "test", "fpr", "cut", "n_obs", "calibration", "z0", "valid"]]]),
            partial(conformal, train=train, test=test),
        )


@styled
def conformal(table: pd.DataFrame, train: str, test: str, data: Dataset) -> Figure:
    """Significance of each cut against the false-positive rate, by each set of calibration events and by the fit.

    table: of `dimuon.bumphunt.cut_and_count.conformal_points`, one train-test combination, and rows of the fit with
    calibration "mass fit", z0 and valid.
    """
    figure, axes = panel((10.5, 7.0))
    fit = table[table["calibration"] == FIT].sort_values("fpr")
    valid = fit["valid"].astype(bool)
    axes.plot(fit["fpr"], fit["z0"], "-", color="black", linewidth=2.6)
    axes.plot(fit["fpr"][valid], fit["z0"][valid], "o", color="black", markersize=7)
    axes.plot(fit["fpr"][~valid], fit["z0"][~valid], "o", color="black", markerfacecolor="white", markersize=7)
    axes.plot([], [], "o-", color="black", linewidth=2.6, label="fit to the mass")
    for name, (line, marker, colour) in LOOKS.items():
        part = table[table["calibration"] == name].sort_values("fpr")
        axes.plot(
            part["fpr"],
            part["z_conformal"],
            marker,
            linestyle=line,
            color=colour,
            linewidth=1.8,
            markersize=6,
            label=name,
        )
    axes.axhline(0, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="False-positive rate (fraction of sideband events kept)")
    axes.set_ylabel(r"Local significance [$\sigma$]")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.12)
    legend_beside(axes, f"{data.describe(train, test)}\nSR compared by", fontsize=14)
    say_origin(figure, axes, data.origin)
    return figure
