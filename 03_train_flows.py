"""Step 3: the features' density given the mass, learned in the sidebands (paper, step 2, first half).

Reads the dimuons. For each charge it trains a background estimator (`estimator` in the YAML) on the sidebands,
SBL and SBH, with the SR left out (two kinds, `sigma` and `interpolated`, see it and take it out of their model). The
features are prepared by one transform, fitted on the OS data alone where there are any. An interrupted training goes
on from its last finished epoch when the step is run again.

Writes, under data/<name>/: flows_<charge>.pt, flow_losses_<charge>.parquet.
"""

import logging
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dimuon.background import losses, saved
from dimuon.background.protocol import BackgroundModel
from dimuon.bumphunt import steps
from dimuon.data.dimuons import Dimuons
from dimuon.random import Stream
from dimuon.workflow import cli, executor, products
from dimuon.workflow.checkpoint import FileCheckpoint
from dimuon.workflow.provenance import Run

log = logging.getLogger("dimuon")


def main(run: Run, arguments: Namespace | None = None) -> None:
    """Train the flows of every charge, all charges side by side: their stacks of members fill the cores."""
    config, dimuons = run.config, Dimuons(run)
    files = dimuons.paths
    again = arguments is not None and arguments.again
    untrained = [charge for charge in files if again or not is_trained(run, charge)]
    if not untrained:
        return
    events = {charge: dimuons.events(charge) for charge in files}
    with cli.explained(section="features"):
        scaler = steps.scaler_of(config, events)
    stream = Stream(config.seed)
    for charge, own in events.items():
        with cli.explained(what=files[charge]):
            steps.require_enough(config, own)
        for doubt in steps.feature_doubts(config, charge, own, scaler, stream):
            log.info("%s: %s", charge, doubt)

    def train(charge: str) -> BackgroundModel:
        checkpoint = FileCheckpoint(run.path(products.FLOWS, charge=charge).with_suffix(".checkpoint"))
        with cli.explained(section="estimator", what=files[charge]):
            return steps.train_background(config, charge, events[charge], scaler, stream, pool, checkpoint)

    with (
        # the first in is the last out: an interrupt ends the workers, for which these threads wait
        ThreadPoolExecutor(len(untrained)) as side_by_side,
        executor.of(config.execution, config.estimator.worker_modules, shared=[run.data]) as pool,
    ):
        for charge, model in zip(untrained, side_by_side.map(train, untrained), strict=True):
            log.info("%s", steps.capacity(charge, events[charge], config, model))
            sources = sorted({files[charge], files.get("os", files[charge])})  # the scaler is the OS dimuons'
            run.write_bytes(run.path(products.FLOWS, charge=charge), saved.to_bytes(model), sources)
            run.write_table(run.path(products.FLOW_LOSSES, charge=charge), losses.frame(model.losses), sources)


def is_trained(run: Run, charge: str) -> bool:
    """Whether the flows of a charge are as this configuration and these dimuons make them."""
    kept = [run.path(product, charge=charge) for product in (products.FLOWS, products.FLOW_LOSSES)]
    if not all(path.exists() and run.stale(path) is None for path in kept):
        return False
    log.info("%s: trained from these dimuons with these settings already; --again trains anew", kept[0])
    return True


if __name__ == "__main__":
    again = ("--again", {"action": "store_true", "help": "train what is trained already, too"})
    cli.run(Path(__file__).name, main, [again])
