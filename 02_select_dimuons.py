"""Step 2: dimuons in the mass window (paper, "Anti-Isolated Upsilon Selection" and step 1 of the procedure).

Reads the skim. Asks for the trigger, the named cuts in the order of the configuration, and the mass window; computes
the dimuon kinematics; sorts the dimuons into opposite sign (OS) and same sign (SS) and into SBL, SR and SBH; drops
events that were read twice. The anti-isolation is marked (`anti_isolated`), not applied: the paper's figure 3 needs
the events before it, too.

Writes data/<name>/dimuons.parquet, one row per dimuon, and cutflow.json, the events left after each step by charge.
"""

import logging
from pathlib import Path

from dimuon.data import manifest, selection, skim
from dimuon.data.cutflow import Cutflow
from dimuon.workflow import cli, products

log = logging.getLogger("dimuon")


def main(run):
    """Select the dimuons and count them after each cut."""
    chosen, window = run.config.selection, run.config.window
    skimmed = manifest.read(run)
    selection.check_columns(chosen.cuts, "selection.cuts", (chosen.trigger, *run.config.input.triggers))
    selection.check_columns(chosen.anti_isolation, "selection.anti_isolation")

    cutflow = Cutflow.of_skim(skimmed.totals, chosen.charges)
    batches = [selection.select(pairs, chosen, window, cutflow) for pairs in skim.batches(skimmed.skims)]
    table = selection.table(batches)
    table, n_repeated = selection.without_repeated(table, cutflow)
    table["anti_isolated"] = selection.anti_isolated(table, chosen.anti_isolation, cutflow)
    log.info("%s\n%d events were read more than once and dropped", cutflow.text(), n_repeated)
    cutflow.require_events()

    run.write_table(run.path(products.DIMUONS), table, skimmed.files)
    steps = [step.to_json() for step in cutflow.steps()]
    run.write_json(run.path(products.CUTFLOW), {"steps": steps, "n_repeated": n_repeated}, skimmed.files)


if __name__ == "__main__":
    cli.run(Path(__file__).name, main)
