"""Did the background model learn? Losses of the training, epoch by epoch."""

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
from dimuon.figures.style import COLOURS, LINES, panel, say_origin, styled
from dimuon.workflow import products

CAPTION = (
    "Mean negative log-density of the sideband events that the flows were trained on (dotted) and of those "
    "held out, epoch by epoch. The circle is the state kept, that of the lowest validation loss. A validation "
    "loss that rises while the training loss falls is overtraining."
)


@figure("flow_losses", section=Section.BACKGROUND, order=120, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each charge."""
    for charge in saved.charges:
        path = saved.run.path(products.FLOW_LOSSES, charge=charge)
        losses, title = saved.table(path), saved.data.titled("Training of the flows", charge)
        if losses is not None:
            yield Drawing(f"flow_losses_{charge}", title, [path], losses, partial(flow_losses, charge=charge))


@styled
def flow_losses(losses: pd.DataFrame, charge: str, data: Dataset) -> Figure:
    """Training and validation loss of each member of the flow ensemble against the epoch.

    losses: member, epoch, train_loss, validation_loss [nats]. The marker is the epoch whose state is kept.
    """
    figure, axes = panel()
    for index, (member, part) in enumerate(losses.sort_values("epoch").groupby("member")):
        colour, line = COLOURS[index % len(COLOURS)], LINES[index % len(LINES)]
        epoch, held_out = part["epoch"], part["validation_loss"]
        axes.plot(epoch, part["train_loss"], color=colour, linestyle=":", linewidth=0.8)
        axes.plot(epoch, held_out, color=colour, linestyle=line, linewidth=1.3, label=f"{member}")
        best = part.iloc[int(np.nanargmin(held_out))]
        axes.plot(best["epoch"], best["validation_loss"], "o", color=colour, markeredgecolor="black", zorder=5)
    values = losses[["train_loss", "validation_loss"]].to_numpy()
    low, high = values.min(), np.quantile(values, 0.98)  # the first epochs may start far above
    axes.set_ylim(low - 0.1 * (high - low), high + 0.45 * (high - low))
    axes.plot([], [], color="black", linestyle=":", linewidth=1, label="training")
    axes.plot([], [], "o", color="white", markeredgecolor="black", label="state kept")
    axes.set(xlabel="Epoch", ylabel="Mean negative log-density [nats]")
    title = "validation loss of member"
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0.93), ncol=3, title=title, title_fontsize=14)
    say_origin(figure, axes, data.origin, data.named("sidebands", charge))
    return figure
