"""What does the classifier lean on?"""

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
from dimuon.figures.style import COLOURS, panel, say_origin, styled
from dimuon.workflow import products

CAPTION = (
    "Loss of separation (AUC) between data and sampled background when one feature is shuffled among the "
    "events: the larger, the more the classifier leans on it."
)


@figure("importance", section=Section.CLASSIFIER, order=110, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each charge."""
    for charge in saved.charges:
        path = saved.run.path(products.IMPORTANCE, charge=charge)
        content, title = saved.json(path), f"What the {saved.data.named('classifier', charge)} leans on"
        if content is not None:
            table = pd.DataFrame([{"feature": name} | values for name, values in content["features"].items()])
            yield Drawing(f"importance_{charge}", title, [path], table, partial(importance, charge=charge))


@styled
def importance(table: pd.DataFrame, charge: str, data: Dataset) -> Figure:
    """Loss of separation when one feature is shuffled. table: feature, auc_loss, auc_loss_err."""
    figure, axes = panel((9.0, 2.2 + 0.7 * len(table)))
    place = np.arange(len(table))
    axes.barh(place, table["auc_loss"], 0.6, xerr=table["auc_loss_err"], color=COLOURS[0], capsize=4)
    axes.set_yticks(place, [data.feature(name).label for name in table["feature"]], fontsize=16)
    axes.tick_params(axis="y", which="both", length=0)
    axes.axvline(0, color="black", linewidth=1)
    axes.set(xlabel="AUC lost when the feature is shuffled", ylim=(len(table) - 0.4, -1.0))
    say_origin(figure, axes, data.origin, data.named("classifier", charge))
    return figure
