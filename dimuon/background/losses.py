"""The training of a background model, epoch by epoch, as a table."""

import numpy as np
import pandas as pd

from dimuon.arrays import FloatArray


def frame(losses: FloatArray) -> pd.DataFrame:
    """One row per member and epoch: member, epoch (from 1), train_loss, validation_loss [nats].

    losses: (members, epochs, 2), NaN after a member has stopped.
    """
    members, epochs, _ = losses.shape
    by_epoch = {
        "member": np.repeat(np.arange(members), epochs),
        "epoch": np.tile(np.arange(1, epochs + 1), members),
        "train_loss": losses[..., 0].ravel(),
        "validation_loss": losses[..., 1].ravel(),
    }
    return pd.DataFrame(by_epoch).dropna(ignore_index=True)
