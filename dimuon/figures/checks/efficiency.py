"""Do the cuts on the classifier follow the mass? The fraction of events that each keeps, against the mass."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import cycle

import numpy as np
import pandas as pd
from hist.intervals import clopper_pearson_interval
from matplotlib.figure import Figure

from dimuon.arrays import FloatArray
from dimuon.data import scores
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import (
    MARKERS,
    MASS_LABEL,
    describe_test,
    fpr_name,
    mark_signal_region,
    panel,
    say_origin,
    shades,
    styled,
)
from dimuon.regions import MassBins, MassWindow
from dimuon.statistics.working_points import nearest
from dimuon.workflow import products

CAPTION = (
    "Fraction of events kept by each cut on the classifier in slices of the mass, with 68 % Clopper-Pearson "
    "intervals; dashed, the working point itself. A cut that does not know the mass is flat across the "
    "sidebands; a resonance lifts the signal region alone."
)


@figure("efficiency", section=Section.CLASSIFIER, order=100, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each train-test combination; with the flags of step 5 where they are there."""
    config = saved.config
    for train, test in saved.tests:
        events = saved.scored(train, test)
        if events is None:
            continue
        sideband = events.loc[events["region"] != "SR", "score"]
        cuts = {fpr: sideband.quantile(1 - fpr, "higher") for fpr in config.significance.figure_fprs}
        bins = config.window.binning(config.significance.n_bins_sr)
        table = efficiency_table(events["dimu_mass"].to_numpy(), events["score"].to_numpy(), cuts, bins)
        paths = [scores.path(saved.run, train, test), saved.dimuons_path(test)]
        path = saved.run.path(products.SCULPTING, train=train, test=test)
        flagged = saved.table(path)
        if flagged is not None:
            paths.append(path)
            table["sculpted"] = [bool(flagged["sculpted"].iloc[nearest(flagged["fpr"], fpr)]) for fpr in table["fpr"]]
        yield Drawing(
            f"efficiency_{train}_on_{test}",
            f"Efficiency against mass, {describe_test(train, test)}",
            paths,
            table,
            partial(efficiency, window=config.window, train=train, test=test),
        )


def efficiency_table(mass: FloatArray, score: FloatArray, cuts: Mapping[float, float], bins: MassBins) -> pd.DataFrame:
    """Fraction of events that pass each cut against the mass, for `efficiency`.

    mass: (n_events,), GeV. score: (n_events,). cuts: {fpr: cut on the score}. bins: merged by five outward so that a
    bin holds enough events. Columns: fpr, bin_low, bin_high [GeV], region, n_all, n_pass, efficiency, low, high (68 %
    Clopper-Pearson interval).
    """
    edges = np.union1d(bins.edges[bins.n_bins_sbl :: 5], bins.edges[bins.n_bins_sbl :: -5])
    edges = np.union1d(edges[(edges <= bins.window.sr_low) | (edges >= bins.window.sr_high)], bins.window.sr_high)
    n_all = np.histogram(mass, edges)[0]
    rows = []
    for fpr, cut in cuts.items():
        n_pass = np.histogram(mass[score >= cut], edges)[0]
        low, high = clopper_pearson_interval(n_pass, n_all)
        rows.append(pd.DataFrame({
            "fpr": fpr, "bin_low": edges[:-1], "bin_high": edges[1:],
            "region": bins.window.region((edges[:-1] + edges[1:]) / 2), "n_all": n_all, "n_pass": n_pass,
            "efficiency": n_pass / np.maximum(n_all, 1), "low": low, "high": high,
        }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


@styled
def efficiency(table: pd.DataFrame, window: MassWindow, train: str, test: str, origin: str) -> Figure:
    """Efficiency of each cut on the classifier against the dimuon mass. table: of `efficiency_table`.

    Dashed: the false-positive rate itself. A cut that does not know the mass is flat in the sidebands; FLAGGED where
    the column `sculpted`, if there is one, says that it varies beyond what the background fit absorbs.
    """
    figure, axes = panel()
    fprs = [fpr for fpr in sorted(table["fpr"].unique(), reverse=True) if fpr < 1]
    for fpr, colour, marker in zip(fprs, shades(len(fprs)), cycle(MARKERS), strict=False):
        part = table[(table["fpr"] == fpr) & (table["n_all"] > 0)]
        centre, kept = (part["bin_low"] + part["bin_high"]) / 2, part["efficiency"]
        errors = np.array([kept - part["low"], part["high"] - kept]).clip(0)
        flagged = "sculpted" in part and part["sculpted"].any()
        label = f"{fpr_name(fpr)}, FLAGGED" if flagged else fpr_name(fpr)
        axes.errorbar(centre, kept, yerr=errors, fmt=marker, color=colour, elinewidth=1.2, label=label)
        axes.axhline(fpr, color=colour, linestyle="--", linewidth=1)
    axes.set(yscale="log", xlabel=MASS_LABEL, ylabel="Fraction of events kept")
    axes.set_xlim(window.sb_low, window.sb_high)
    axes.set_ylim(min(fprs) / 5, 12)
    mark_signal_region(axes, window)
    axes.legend(title="FPR", ncol=3, loc="upper right", bbox_to_anchor=(1, 0.93), fontsize=13, title_fontsize=13)
    say_origin(figure, axes, origin, describe_test(train, test))
    return figure
