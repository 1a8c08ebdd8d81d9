"""How well each density estimator closes on the real OS sidebands, and what its training takes.

python -m tests.benchmarks.closure [NAME ...]

For each estimator: seconds to train five members; KS distances and the AUC of `dimuon.background.closure` in the
sidebands it was trained on; the same in windows inside the sidebands that the training left out. A line per estimator;
every figure in results/bench/closure.json. Without the reference data the events are a toy of the same size.

The sideband features of the reference data are rebuilt from the 1,692 measured events of the SR, each used about six
times and smeared by 12 %. That alone is told from any smooth density: `rebuilt_features_auc` is the AUC between samples
of a trained flow and events made from 1,692 samples of the same flow in that way.
"""

import sys
import time

import numpy as np

from dimuon.background import closure
from dimuon.background.estimators import flows
from dimuon.background.held_out import HeldOut
from dimuon.background.scaler import Preparation
from dimuon.events import Events
from dimuon.features import FEATURE_SETS
from dimuon.random import Stream
from dimuon.workflow import executor
from tests.benchmarks import common
from tests.benchmarks.bdts import WINDOW, events

NAMES, COPIES, SEED = list(FEATURE_SETS["paper"]), 5, 2016
STREAM = Stream(SEED)
WINDOWS = ((6.2, 7.8), (12.5, 14.1))  # GeV; as wide as the SR, in the middle of each sideband
N_PARENTS, SMEARING = 1692, 0.12  # of the rebuilt features (README of the reference data)
ESTIMATORS = {
    "maf_20": flows.Maf(hidden=20, epochs=400),  # the published file's
    "maf_128": flows.Maf(hidden=128, epochs=1000, patience=100),  # the slides'; the state kept lies well before the end
    "spline_coupling": flows.SplineCoupling(hidden=64, blocks=4, epochs=100, patience=30),
    "spline_autoregressive": flows.SplineAutoregressive(hidden=64, blocks=3, epochs=100, patience=30),
    "flow_matching": flows.FlowMatching(hidden=128, blocks=4, epochs=400, patience=100),
}


def sidebands():
    """The `Events` of the OS sidebands."""
    features, mass = events()
    chosen = WINDOW.in_sidebands(mass)
    return Events.of(mass[chosen], features[chosen], NAMES)


def study(name, settings, real, pool):
    """(figures, `BackgroundModel`) of one estimator."""
    start = time.perf_counter()
    scaler = Preparation().scaler(real, np.ones(len(real), bool))
    model = settings.estimator(scaler).fit(real, STREAM, pool=pool)
    seconds = time.perf_counter() - start
    records = {"sidebands": closure.compare(real, model.sample(np.tile(real.mass, COPIES), STREAM), STREAM)}
    held_out = HeldOut(settings.estimator, Preparation(), real, WINDOW, COPIES, pool)
    for low, high in WINDOWS:
        records[f"{low:g}-{high:g}_GeV"] = held_out.shifted_window(low, high, STREAM)
    return [
        {"name": f"{name}_train_s", "value": seconds, "unit": "s"},
        {"name": f"{name}_epochs", "value": float(model.losses.shape[1]), "unit": ""},
        *(figure for place, record in records.items() for figure in figures(f"{name}_{place}", record)),
    ], model


def figures(name, record):
    """The figures of one record of `closure.compare`."""
    largest = max(value["distance"] for value in record.ks.values())
    return [
        {"name": f"{name}_auc", "value": record.auc, "unit": ""},
        {"name": f"{name}_auc_err", "value": record.auc_err, "unit": ""},
        {"name": f"{name}_ks", "value": largest, "unit": ""},
    ]


def rebuilt_features(model, mass):
    """The AUC that rebuilt features have for want of independent events, where the density is exactly the flow's."""
    sampled = model.sample(np.tile(mass, COPIES), STREAM)
    rng = np.random.default_rng(SEED)
    parents = model.sample(rng.choice(mass, N_PARENTS), Stream(SEED + 1)).features
    copies = parents[rng.integers(0, N_PARENTS, len(mass))]
    copies = copies * (1 + SMEARING * rng.standard_normal(copies.shape))
    auc, error = closure.classifier_auc(Events.of(mass, copies, NAMES), sampled, STREAM)
    return [
        {"name": "rebuilt_features_auc", "value": auc, "unit": ""},
        {"name": "rebuilt_features_auc_err", "value": error, "unit": ""},
    ]


def main():
    """Study the estimators named, all of them where none is."""
    chosen = {name: ESTIMATORS[name] for name in sys.argv[1:] or ESTIMATORS}
    real, measured = sidebands(), []
    with executor.executor(preload=["torch", *closure.WORKER_MODULES]) as pool:
        for name, settings in chosen.items():
            figures_of_one, model = study(name, settings, real, pool)
            measured += figures_of_one
            if name == "maf_20":
                measured += rebuilt_features(model, real.mass)
            common.save("closure", measured)


if __name__ == "__main__":
    main()
