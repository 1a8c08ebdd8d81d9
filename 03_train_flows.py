"""Step 3: the features' density given the mass, learned in the sidebands (paper, step 2, first half).

Reads the dimuons. For each charge it trains an ensemble of density estimators (`flow` in the YAML) on the sidebands,
SBL and SBH, with the SR left out. The features are prepared by one transform, fitted on the OS data alone where there
are any. An interrupted training goes on from its last finished epoch when the step is run again.

Writes, under data/<name>/: flows_<charge>.pt, flow_losses_<charge>.parquet.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from dimuon import cli, dimuons, execution
from dimuon.background import ConditionalBackground, fit_scaler
from dimuon.flows import make_estimator


def main(run):
    """Train the flows of every charge."""
    config = run.config
    names, files = config.features.names, dimuons.paths(run)
    tables = {charge: dimuons.read(run, charge, names) for charge in files}
    scaler_charge = "os" if "os" in tables else next(iter(tables))
    scaler = scaler_of(tables[scaler_charge], names, config.features.limits_from)

    with execution.executor(config.execution.workers, config.execution.scheduler) as pool:
        for charge, table in tables.items():
            sidebands = table[table["region"] != "SR"]
            path = run.data / f"flows_{charge}.pt"
            background = ConditionalBackground.train(
                make_estimator(config.flow),
                scaler,
                sidebands[names].to_numpy(dtype=float),
                sidebands["dimu_mass"].to_numpy(dtype=float),
                execution.integer_seed(config.seed, "flows", charge),
                pool,
                path.with_suffix(".checkpoint"),
            )
            sources = sorted({files[charge], files[scaler_charge]})
            run.write_bytes(path, background.to_bytes(), sources)
            losses = losses_table(background.estimator.losses)
            run.write_table(run.data / f"flow_losses_{charge}.parquet", losses, sources)


def scaler_of(table, names, limits_from):
    """The feature transform fitted to the dimuons of one charge."""
    features, in_sidebands = table[names].to_numpy(dtype=float), (table["region"] != "SR").to_numpy()
    return fit_scaler(features, in_sidebands, names, limits_from == "sidebands")


def losses_table(losses):
    """One row per member and epoch. losses: (members, epochs, 2), NaN after a member has stopped."""
    members, epochs, _ = losses.shape
    table = pd.DataFrame({
        "member": np.repeat(np.arange(members), epochs),
        "epoch": np.tile(np.arange(1, epochs + 1), members),
        "train_loss": losses[..., 0].ravel(),
        "validation_loss": losses[..., 1].ravel(),
    })  # fmt: skip
    return table.dropna(ignore_index=True)


if __name__ == "__main__":
    cli.run(Path(__file__).name, main)
