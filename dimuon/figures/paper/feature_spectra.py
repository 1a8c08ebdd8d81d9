"""Fig. 3: the features of the events in the SR after each cut on the classifier."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dimuon.dataset import Dataset
from dimuon.features import Feature
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure
from dimuon.figures.saved import Saved
from dimuon.figures.sections import figure_name, section_of
from dimuon.figures.style import fpr_name, has_log_bins, panels, say_origin, step_line, styled, working_point_looks
from dimuon.workflow import products

CAPTION = "What the classifier keeps: the features of the events in the signal region after each cut."
BEFORE = " Dashed: before the anti-isolation cut."


@figure("feature_spectra", section=None, order=30, caption=CAPTION)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each train-test combination; none where scores were given without features."""
    if saved.curves is not None and set(saved.curves["variable"]) <= {"cathode", "random"}:
        return
    path = saved.run.path(products.FEATURE_HISTOGRAMS)
    for train, test, part in saved.by_test(saved.table(path)):
        number = "fig3" if saved.is_the_papers and train == test == "os" else ""
        yield Drawing(
            figure_name("features", train, test, number),
            f"Features in the signal region, {saved.data.describe(train, test)}",
            [path],
            part,
            feature_spectra,
            section=section_of(train, test),
            caption=CAPTION + (BEFORE if part["fpr"].isna().any() else ""),
        )


@styled
def feature_spectra(histograms: pd.DataFrame, data: Dataset) -> Figure:
    """The features in the SR after each working point; dashed, before the anti-isolation cut.

    histograms: feature, fpr (NaN: before anti-isolation), bin_low, bin_high, n_obs; one train-test combination.
    """
    names = list(dict.fromkeys(histograms["feature"]))
    figure, axes = panels(1, len(names), (6.2 * len(names), 6.6), squeeze=False)
    for name, frame in zip(names, axes[0], strict=True):
        _feature(frame, data.feature(name), histograms[histograms["feature"] == name])
    axes[0, 0].set_ylabel("Events in the SR / bin")
    axes[0, -1].legend(fontsize=13, loc="upper right", ncol=2)
    note = f"{data.describe(*histograms[['train', 'test']].iloc[0])}, signal region"
    say_origin(figure, axes[0, 0], data.origin, note, last=axes[0, -1])
    return figure


def _feature(axes: Axes, feature: Feature, part: pd.DataFrame) -> None:
    def outline(rows: pd.DataFrame, **look: object) -> None:
        step_line(axes, rows["bin_low"], rows["bin_high"], rows["n_obs"], **look)

    before = part[part["fpr"].isna()]
    if len(before):
        outline(before, color="black", linestyle="--", linewidth=1.3, label="before anti-isolation")
    for fpr, look in working_point_looks(part["fpr"].dropna()).items():
        style = {"color": look.colour, "linestyle": look.line, "linewidth": 2}
        outline(part[part["fpr"] == fpr], **style, label=f"FPR {fpr_name(fpr)}")
    axes.set(xlabel=feature.axis_label, xscale="log" if has_log_bins(part) else "linear", yscale="log")
    axes.set_xlim(part["bin_low"].min(), part["bin_high"].max())
    axes.set_ylim(0.5, 60 * max(part["n_obs"].max(), 1))
