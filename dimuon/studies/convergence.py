"""Study: how many classifiers are enough? The spread of the significance against the number of members.

Writes results/<name>/convergence.parquet, for every train-test combination whose members step 5 kept
(`bdt.keep_members: true`).
"""

from pathlib import Path

import pandas as pd

from dimuon.data import scores
from dimuon.random import Stream
from dimuon.statistics import model_choice
from dimuon.statistics.convergence import convergence
from dimuon.statistics.working_points import rates
from dimuon.studies.registry import study
from dimuon.studies.study import Study
from dimuon.workflow.products import PRODUCTS, Maker, Product

MAKER = Maker("-m dimuon study convergence", ("name", "seed", "window", "significance"))
TABLE = PRODUCTS.declare(
    Product(
        "convergence",
        "results/{name}/convergence.parquet",
        MAKER,
        "Z0 of ensembles drawn again from their members, by their number",
        ("train", "test", "n_members", "draw", "z0_max", "z0_likelihood"),
    )
)


@study(MAKER, "how many classifiers are enough? Ensembles drawn again from their members")
def run(study: Study) -> str:
    """Do the study."""
    config, frames, sources = study.config, list[pd.DataFrame](), list[Path]()
    model = model_choice.model_of(config.significance, config.window)
    fprs = rates(config.significance.n_working_points, config.significance.fpr_min)
    for test in study.dimuons.charges:
        table = study.dimuons.frame(test)
        mass = table[study.config.mass_axis.column].to_numpy(dtype=float)
        for train in study.dimuons.charges:
            members = scores.read_members(study.run, train, test, table["row"])
            fold = scores.read(study.run, train, test, table["row"])["fold"].to_numpy()
            searched = config.bdt.searches(fold)
            rng = Stream(config.seed).child("convergence", train, test).generator()
            frame = convergence(mass[searched], members[searched], fprs, model, rng)
            frames.append(frame.assign(train=train, test=test))
            sources.append(scores.members_path(study.run, train, test))
    spread = pd.concat(frames, ignore_index=True)
    study.write_table(TABLE, spread, inputs=sources)
    return report(spread)


def report(spread: pd.DataFrame) -> str:
    """The spread of the best cut's Z0 at the full size of every ensemble, for the screen."""
    lines = []
    for (train, test), part in spread.groupby(["train", "test"], sort=False):
        whole = part[part["n_members"] == part["n_members"].max()]
        lines.append(
            f"{train} on {test}: best cut {whole['z0_max'].median():.2f} +- {whole['z0_max'].std():.2f} sigma over "
            f"ensembles of {whole['n_members'].iloc[0]} members"
        )
    return "\n".join(lines)
