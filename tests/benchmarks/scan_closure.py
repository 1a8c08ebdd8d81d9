"""How far the background models of a scan's modes are from events that they were not trained on.

python -m tests.benchmarks.scan_closure [--members 3] [--windows 1 4 7 10] [--set hidden=64 epochs=1600] [MODE ...]

SIMULATED OS dimuons without a resonance: 11,500 to train on, about as many as the published sample, and 60,000 others
to compare with, so that neither what a model remembers of its own events flatters it, nor the number of events limits
what is seen. Flows of `configs/upsilon_published_flow.yaml`, with what `--set` changes (settings of the estimator,
`frequencies` and `margin` of SIGMA, `tuning_epochs` of the scan). Printed for each window and saved as means: AUC of a
classifier between real and sampled events (0.5 is perfect; error about 0.002), of the window's sidebands and of its SR,
of the events trained on and of the others, for these with a classifier that sees the mass, too.
"""

import argparse
import json
import time

import numpy as np
import pandas as pd

from dimuon.background import closure, mass_model
from dimuon.bumphunt import learned_scan
from dimuon.bumphunt.scan_windows import ScanSettings, scan_windows, searched
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.regions import MassWindow
from dimuon.workflow import config as configuration
from dimuon.workflow.executor import AtOnce
from tests.benchmarks import common
from tests.benchmarks.scan_modes import MODES, PUBLISHED, SCAN

STREAM, RANGE = Stream(2016), MassWindow(5.0, 9.0, 10.6, 16.0)
N_TRAINED, N_OTHERS, N_COMPARED = 11_500, 60_000, 12_000  # N_COMPARED: of the others, at most, in a place
OF_MODE, OF_SCAN = ("frequencies", "margin"), ("tuning_epochs",)


def sample(n, seed, features):
    """Events without a resonance."""
    from dimuon.simulation.labelled import background_events

    table = background_events(n, RANGE, np.random.default_rng(seed))
    return Events.of(table["dimu_mass"].to_numpy(), table[features].to_numpy(), features)


def configured(mode, members, changes):
    """The configuration of a mode with some settings changed."""
    config = configuration.load(PUBLISHED)
    of_scan = {name: value for name, value in changes.items() if name in OF_SCAN}
    of_mode = {name: value for name, value in changes.items() if name in OF_MODE}
    of_flows = {name: value for name, value in changes.items() if name not in {*OF_SCAN, *OF_MODE}}
    estimator = config.estimator.model_copy(update={"members": members} | of_flows)
    if of_mode:
        estimator = learned_scan.shared_estimator(estimator, mode).model_copy(update=of_mode)
    scan = ScanSettings.model_validate(SCAN | {"mode": mode} | of_scan)
    return config.model_copy(update={"scan": scan, "estimator": estimator})


def models(config, mode, events, windows):
    """The background model of each window."""
    if mode == "retrain":
        return learned_scan.train_windows(
            config, "os", events, windows, [STREAM.child(w.label).rooted() for w in windows]
        )
    shared = learned_scan.train_shared(config, "os", events, STREAM.child(mode), AtOnce())
    return [learned_scan.put_under(config, events, each, shared, STREAM.child(each.label)) for each in windows]


def compared(model, events, inside, copies, with_mass):
    """AUC of the events in one place against samples at their masses."""
    real = events[inside(events.mass)]
    real = real[np.arange(len(real)) < N_COMPARED]
    sampled = mass_model.sample_at(model, real.mass, copies, STREAM.child("closure").rooted()).events
    return closure.classifier_auc(real, sampled, STREAM.child("compared"), with_mass=with_mass)[0]


def main():
    """Train, compare and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", default=list(MODES), metavar="MODE")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--windows", nargs="+", type=int, default=[1, 4, 7, 10])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    changes = {name: json.loads(value) for name, _, value in (each.partition("=") for each in arguments.set)}
    figures = []
    for mode in arguments.modes:
        config = configured(mode, arguments.members, changes)
        trained, others = (sample(n, seed, config.features.names) for n, seed in ((N_TRAINED, 1), (N_OTHERS, 2)))
        windows = [searched(scan_windows(config.scan, trained.mass))[number] for number in arguments.windows]
        start, rows = time.process_time(), []
        each_model = models(config, mode, trained, windows)
        cpu = time.process_time() - start
        for placed, model in zip(windows, each_model, strict=True):
            row = {"mode": mode, "SR": placed.label}
            for place, inside in (("sidebands", placed.window.in_sidebands), ("sr", placed.window.in_sr)):
                row[f"{place}_trained"] = compared(model, trained, inside, 5, False)
                row[f"{place}_others"] = compared(model, others, inside, 2, False)
                row[f"{place}_others_with_mass"] = compared(model, others, inside, 2, True)
            rows.append(row)
        table = pd.DataFrame(rows).drop(columns="mode").set_index("SR")
        print(f"{mode} {changes}: training {cpu:.0f} s of CPU\n{table.round(4).to_string()}", flush=True)
        figures += [{"name": f"{mode}_{name}_auc", "value": value, "unit": ""} for name, value in table.mean().items()]
    common.save("scan_closure", figures)


if __name__ == "__main__":
    main()
