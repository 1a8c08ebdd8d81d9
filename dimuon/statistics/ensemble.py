"""Study: how the significance settles with the number of members: `python -m dimuon study convergence CONFIG.yaml`.

Writes results/<name>/convergence.parquet for every train-test combination whose members step 5 kept
(`bdt.keep_members: true`).
"""

import pandas as pd

from dimuon.data import dimuons, scores
from dimuon.statistics import model_choice
from dimuon.statistics.convergence import convergence
from dimuon.statistics.working_points import rates
from dimuon.workflow import cli, products
from dimuon.workflow.executor import generator


def main(run):
    """Write the convergence of every train-test combination."""
    files, settings = dimuons.paths(run), run.config.significance
    model = model_choice.model_of(settings, run.config.window)
    fprs = rates(settings.n_working_points, settings.fpr_min)
    frames, sources = [], []
    for test in files:
        table = dimuons.read(run, test, [])
        for train in files:
            members = scores.read_members(run, train, test, table["row"])
            rng = generator(run.config.seed, "convergence", train, test)
            frame = convergence(table["dimu_mass"].to_numpy(dtype=float), members, fprs, model, rng)
            frames.append(frame.assign(train=train, test=test))
            sources.append(scores.members_path(run, train, test))
    run.write_table(run.path(products.CONVERGENCE), pd.concat(frames, ignore_index=True), sources)


def command():
    """The command."""
    cli.run("-m dimuon study convergence", main)
