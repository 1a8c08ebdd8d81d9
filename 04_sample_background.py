"""Step 4: background in the SR, sampled (paper, step 2), and how well it closes in the sidebands.

Reads the dimuons and flows_<charge>.pt. The masses of the SR come from a polynomial fitted to the sideband masses, the
features from the flows at these masses. Closure: features sampled at the sidebands' own masses against the real ones;
on demand (`background.half_split`, `background.shifted_windows`) with flows trained without the events compared.

Writes, under data/<name>/: background_<charge>.parquet, mass_fit_<charge>.json, closure_<charge>.json.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from dimuon.background import closure, held_out
from dimuon.background.conditional import fit_record
from dimuon.background.flow_ensemble import make_estimator
from dimuon.bumphunt import steps
from dimuon.data import dimuons
from dimuon.workflow import cli, executor, products
from dimuon.workflow.executor import integer_seed

log = logging.getLogger("dimuon")


def main(run):
    """Sample the background of every charge and compare it with the sidebands."""
    config, settings, window = run.config, run.config.background, run.config.window
    names = config.features.names
    with executor.executor(
        config.execution.workers, config.execution.scheduler, preload=["dimuon.bumphunt.steps"]
    ) as pool:
        for charge, path in dimuons.paths(run).items():
            events, background = steps.read_events(run, charge), steps.read_flows(run, charge)
            sources = [steps.flows_path(run, charge), path]
            fit = steps.fit_masses(config, events)
            fitted = fit_record(fit, window, settings.n_bins_sr)
            run.write_json(run.path(products.MASS_FIT, charge=charge), fitted, [path])
            sampled = steps.sample_background(config, charge, fit, background)
            log.info("%s", beyond_the_data(sampled["features"], events.features, charge))

            sidebands = events[window.in_sidebands(events.mass)]
            copies, seed = max(1, round(settings.oversampling)), integer_seed(config.seed, "background", charge)
            closure_seed = integer_seed(seed, "closure")
            at_real_masses = closure_samples(background, sidebands.mass, copies, closure_seed)
            frame = pd.concat([background_table(part, names, window) for part in (sampled, at_real_masses)])
            run.write_table(run.path(products.BACKGROUND, charge=charge), frame, sources)

            by_copy = at_real_masses["features"].reshape(copies, *sidebands.features.shape)
            records = {
                "sidebands": closure.in_sidebands(
                    sidebands.features, by_copy, sidebands.mass, window, names, closure_seed, pool
                ),
                **held_out_records(config, sidebands, copies, seed, pool),
            }
            run.write_json(run.path(products.CLOSURE, charge=charge), records, sources)


def held_out_records(config, sidebands, copies, seed, pool):
    """The checks with flows trained without the events compared, those that the configuration asks for."""
    settings, names, records = config.background, config.features.names, {}
    common = {"copies": copies, "pool": pool}

    def make():
        return make_estimator(config.flow)

    if settings.half_split:
        split_seed = integer_seed(seed, "half split")
        records["half_split"] = held_out.half_split(
            make, sidebands.features, sidebands.mass, names, config.window, seed=split_seed, **common
        )
    for low, high in settings.shifted_windows:
        place = f"{low:g}-{high:g} GeV"
        records.setdefault("shifted_windows", {})[place] = held_out.shifted_window(
            make, sidebands.features, sidebands.mass, names, config.window, (low, high),
            seed=integer_seed(seed, place), **common,
        )  # fmt: skip
    return records


def closure_samples(background, mass, copies, seed):
    """Features sampled `copies` times at each sideband mass, as `sample_signal_region` returns them."""
    mass = np.tile(mass, copies)
    return {
        "mass": mass,
        "features": background.sample(mass, seed),
        "member": background.estimator.member_of(len(mass)),
        "use": "closure",
    }


def beyond_the_data(sampled, features, charge):
    """In words: how many sampled events lie outside the range of the dimuons, where the scaler's inverse still goes."""
    outside = ((sampled < features.min(axis=0)) | (sampled > features.max(axis=0))).any(axis=1)
    return f"{charge}: {outside.sum():,} of {len(sampled):,} sampled SR events have a feature beyond all dimuons"


def background_table(sampled, names, window):
    """Sampled events as a table."""
    frame = pd.DataFrame(sampled["features"], columns=names)
    return frame.assign(
        dimu_mass=sampled["mass"],
        region=window.region(sampled["mass"]),
        member=sampled["member"],
        use=sampled["use"],
    )


if __name__ == "__main__":
    cli.run(Path(__file__).name, main)
