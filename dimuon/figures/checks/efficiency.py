"""Do the cuts on the classifier follow the mass? The fraction of events that each keeps, against the mass."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import (
    fpr_name,
    legend_beside,
    mark_signal_region,
    panel,
    say_origin,
    styled,
    working_point_looks,
)
from dimuon.regions import MassWindow
from dimuon.statistics.working_points import nearest
from dimuon.workflow import products

CAPTION = (
    "Fraction of events kept by each cut on the classifier in slices of the mass, with 68 % Clopper-Pearson "
    "intervals; lines, the working points themselves. A cut that does not know the mass is flat across the "
    "sidebands; a resonance lifts the signal region alone."
)


@figure("efficiency", section=Section.CLASSIFIER, order=100, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each train-test combination; with the flags of step 5 where they are there."""
    path = saved.run.path(products.EFFICIENCIES)
    for train, test, table in saved.by_test(saved.table(path)):
        flags = saved.run.path(products.SCULPTING, train=train, test=test)
        flagged = saved.table(flags)
        if flagged is not None:
            at = {fpr: bool(flagged["sculpted"].iloc[nearest(flagged["fpr"], fpr)]) for fpr in table["fpr"].unique()}
            table["sculpted"] = table["fpr"].map(at)
        yield Drawing(
            f"efficiency_{train}_on_{test}",
            f"Efficiency against mass, {saved.data.describe(train, test)}",
            [path] if flagged is None else [path, flags],
            table,
            partial(efficiency, window=saved.config.window, train=train, test=test),
        )


@styled
def efficiency(table: pd.DataFrame, window: MassWindow, train: str, test: str, data: Dataset) -> Figure:
    """Efficiency of each cut on the classifier against the dimuon mass.

    table: of `dimuon.bumphunt.cut_and_count.efficiencies`, one train-test combination.

    Lines: the false-positive rates themselves. A cut that does not know the mass is flat in the sidebands; FLAGGED
    where the column `sculpted`, if there is one, says that it varies beyond what the background fit absorbs.
    """
    figure, axes = panel((10.5, 7.0))
    looks = {fpr: look for fpr, look in working_point_looks(table["fpr"]).items() if fpr < 1}
    for fpr, look in looks.items():
        part = table[(table["fpr"] == fpr) & (table["n_before"] > 0)]
        centre, kept = (part["bin_low"] + part["bin_high"]) / 2, part["efficiency"]
        errors = np.array([kept - part["efficiency_low"], part["efficiency_high"] - kept]).clip(0)
        flagged = "sculpted" in part and part["sculpted"].any()
        label = f"{fpr_name(fpr)}, FLAGGED" if flagged else fpr_name(fpr)
        axes.errorbar(centre, kept, yerr=errors, fmt=look.marker, color=look.colour, elinewidth=1.2, label=label)
        axes.axhline(fpr, color=look.colour, linestyle=look.line, linewidth=1)
    axes.set(yscale="log", xlabel=data.mass.axis_label, ylabel="Fraction of events kept")
    axes.set_xlim(window.sb_low, window.sb_high)
    axes.set_ylim(min(looks) / 5, 1)
    mark_signal_region(axes, window)
    legend_beside(axes, f"{data.describe(train, test)}\nFPR", fontsize=14)
    say_origin(figure, axes, data.origin)
    return figure
