"""Step 4: background in the SR, sampled (paper, step 2), and how well it closes in the sidebands.

Reads the dimuons and flows_<charge>.pt. The masses of the SR come from a polynomial fitted to the sideband masses, the
features from the flows at these masses. Closure: features sampled at the sidebands' own masses against the real ones;
on demand (`background.half_split`, `background.shifted_windows`) with flows trained without the events compared.

Writes, under data/<name>/: background_<charge>.parquet, mass_fit_<charge>.json, closure_<charge>.json,
closure_histograms_<charge>.parquet.
"""

import logging
from pathlib import Path

import pandas as pd

from dimuon.background.closure import WORKER_MODULES
from dimuon.background.mass_model import MassFitRecord
from dimuon.bumphunt import steps
from dimuon.data.dimuons import Dimuons
from dimuon.random import Stream
from dimuon.workflow import cli, executor, products
from dimuon.workflow.provenance import Run

log = logging.getLogger("dimuon")


def main(run: Run) -> None:
    """Sample the background of every charge and compare it with the sidebands."""
    config, dimuons, stream = run.config, Dimuons(run), Stream(run.config.seed)
    modules = [*WORKER_MODULES, *config.estimator.worker_modules]
    with executor.of(config.execution, modules) as pool:
        for charge, path in dimuons.paths.items():
            events, model = dimuons.events(charge), steps.read_model(run, charge)
            with cli.explained(section=("background", "estimator"), what=path, chosen=config):
                fit = steps.fit_masses(config, events)
                sampled = steps.sample_background(config, charge, fit, model, stream)
                closure = steps.close(config, charge, events, model, stream, pool)
            beyond, n = sampled.n_beyond(events), len(sampled.events)
            log.info(
                "%s: %s of %s sampled SR events have a feature beyond all real ones", charge, f"{beyond:,}", f"{n:,}"
            )

            sources = [run.path(products.FLOWS, charge=charge), path]
            record = MassFitRecord.of(fit, config.window, config.background.n_bins_sr).to_json()
            parts, mass = (sampled, closure.sampled), config.mass_axis.column
            frame = pd.concat([part.frame(config.window, mass) for part in parts])
            run.write_json(run.path(products.MASS_FIT, charge=charge), record, [path])
            run.write_table(run.path(products.BACKGROUND, charge=charge), frame, sources)
            run.write_json(run.path(products.CLOSURE, charge=charge), closure.to_json(), sources)
            run.write_table(run.path(products.CLOSURE_HISTOGRAMS, charge=charge), closure.histograms, sources)


if __name__ == "__main__":
    cli.run(Path(__file__).name, main)
