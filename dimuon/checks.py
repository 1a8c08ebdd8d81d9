"""Figures that answer a referee: did the flows learn, do samples match data, do cuts follow the mass, who was cut."""

import numpy as np

from dimuon.plotting import (
    CHARGE_NAMES,
    COLOURS,
    LINES,
    panels,
    say_origin,
    styled,
)


@styled
def flow_losses(losses, charge, origin):
    """Training and validation loss of each member of the flow ensemble against the epoch.

    losses: member, epoch, train_loss, validation_loss [nats]. The marker is the epoch whose state is kept.
    """
    figure, axes = panels()
    members = sorted(losses["member"].unique())
    for index, member in enumerate(members):
        part = losses[losses["member"] == member].sort_values("epoch")
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(part["epoch"], part["train_loss"], color=colour, linestyle=":", linewidth=1)
        axes.plot(part["epoch"], part["validation_loss"], color=colour, linewidth=1.5, linestyle=LINES[index % len(LINES)],
                  label=f"member {member}")  # fmt: skip
        best = part.loc[part["validation_loss"].idxmin()]
        axes.plot(
            best["epoch"], best["validation_loss"], "o", color=colour, markeredgecolor="black", zorder=5
        )
    values = losses[["train_loss", "validation_loss"]].to_numpy()
    low, high = values.min(), np.quantile(values, 0.98)
    axes.set_ylim(
        low - 0.1 * (high - low), high + 0.35 * (high - low)
    )  # the first epochs may start far above
    axes.plot([], [], color="black", linestyle=":", linewidth=1, label="training")
    axes.plot([], [], "o", color="white", markeredgecolor="black", label="state kept")
    axes.set(xlabel="Epoch", ylabel="Mean negative log-density [nats]")
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0.93), ncol=2)
    say_origin(figure, axes, origin, f"{CHARGE_NAMES[charge]} sidebands, validation loss")
    return figure
