"""The search for a background that closes: every estimator that was tried, on the sidebands of several samples.

python -m tests.benchmarks.closure [--data ymumu,os,ss] [--workers N] [--device cuda] [ESTIMATOR ...]

Judged where the training did not look, and on nothing else: never on a significance. Of each estimator and sample

- the log-likelihood of the half of the sideband events that it was not trained on (nats per event, the higher the
  better; of those that have a density), and the AUC of `dimuon.background.closure` there, by thirds of each sideband;
- the AUC in windows of masses that it was not trained on, as the SR is not (0.5 is perfect);
- the same in the sidebands that it was trained on, where it flatters, and how long the training takes.

`ymumu` is fully measured (record 545 of the portal), `os` and `ss` are the paper's samples: their sideband features
are REBUILT from the 1,692 measured events of the SR, each used about six times and smeared by 12 %. That alone is told
from any smooth density: `os_floor_auc` is the AUC between samples of a trained flow and events made from 1,692 samples
of the same flow in that way. Every figure in results/bench/closure.json, written after each comparison.
"""

import argparse
import os
import time
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import vector

from dimuon.background import closure
from dimuon.background.estimators import flows
from dimuon.background.estimators.mixture import Mixture
from dimuon.background.estimators.reweighting import Reweighting
from dimuon.background.held_out import HeldOut
from dimuon.background.kinds import EstimatorSettings
from dimuon.background.scaler import Preparation
from dimuon.events import Events
from dimuon.features import FEATURE_SETS
from dimuon.random import Stream
from dimuon.regions import MassWindow
from dimuon.workflow.executor import AtOnce, executor
from tests.benchmarks import common

COPIES, STREAM = 5, Stream(2016)
N_PARENTS, SMEARING = 1692, 0.12  # of the rebuilt features (README of the reference data)
POSITIVE = {name: (0.0, None) for name in ("dimu_pt", "mu0_ip3d", "mu1_ip3d")}

MAF = flows.Maf(hidden=20, epochs=400)  # the published file's
COUPLING = flows.SplineCoupling(hidden=64, blocks=4, epochs=150, patience=40)
AUTOREGRESSIVE = flows.SplineAutoregressive(hidden=64, blocks=3, epochs=150, patience=40)
ESTIMATORS: dict[str, EstimatorSettings] = {
    "maf_20": MAF,
    "maf_128": flows.Maf(hidden=128, epochs=1000, patience=100),  # the slides'; the state kept lies well before the end
    "coupling": COUPLING,
    "coupling_16_bins": COUPLING.model_copy(update={"bins": 16}),
    "coupling_128": COUPLING.model_copy(update={"hidden": 128, "blocks": 6}),
    "autoregressive": AUTOREGRESSIVE,
    "autoregressive_16_bins": AUTOREGRESSIVE.model_copy(update={"bins": 16}),
    "autoregressive_32": AUTOREGRESSIVE.model_copy(update={"hidden": 32}),
    "autoregressive_slow": AUTOREGRESSIVE.model_copy(
        update={"learning_rate": 2.5e-4, "epochs": 300, "weight_decay": 1e-4}
    ),
    "flow_matching": flows.FlowMatching(hidden=128, blocks=4, epochs=400, patience=100),
    "mixture": Mixture(parts=[COUPLING, AUTOREGRESSIVE]),
    "maf_20_reweighted": Reweighting(prior=MAF),
    "coupling_reweighted": Reweighting(prior=COUPLING),
    "autoregressive_reweighted": Reweighting(prior=AUTOREGRESSIVE),
    "mixture_reweighted": Reweighting(prior=Mixture(parts=[COUPLING, AUTOREGRESSIVE])),
    "autoregressive_reweighted_deep": Reweighting(prior=AUTOREGRESSIVE, max_depth=5, classifiers=8, learning_rate=0.05),
}
BOUNDED = ("maf_20", "coupling", "autoregressive", "autoregressive_reweighted")  # tried with hard bounds, too


@dataclass(frozen=True)
class SidebandData:
    """Events of both sidebands, and the windows inside them that are hidden in turn. hidden: (low, high), GeV."""

    events: Events
    window: MassWindow
    hidden: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, events: Events, window: MassWindow, *hidden: tuple[float, float]) -> "SidebandData":
        """Of the events of a whole window."""
        return cls(events[window.in_sidebands(events.mass)], window, hidden)


def reference() -> Path:
    """The folder of the reference data."""
    return Path(os.environ.get("DIMUON_REFERENCE", "../shared"))


def paper(charge: str) -> SidebandData:
    """The paper's sample; hidden windows as wide as the SR, in the middle of each sideband."""
    table, names = pd.read_parquet(reference() / "real" / f"upsilon_{charge}.parquet"), list(FEATURE_SETS["paper"])
    events = Events.of(table["dimu_mass"].to_numpy(), table[names].to_numpy(), names)
    return SidebandData.of(events, MassWindow(5.0, 9.0, 10.6, 16.0), (6.2, 7.8), (12.5, 14.1))


def ymumu() -> SidebandData:
    """20,000 dimuons of 2011, masses 8 to 12 GeV."""
    table = pd.read_csv(reference() / "real" / "portal_csv" / "Ymumu.csv")
    muons = [
        vector.array({name: table[f"{name.lower() if name != 'E' else name}{i}"] for name in ("px", "py", "pz", "E")})
        for i in (1, 2)
    ]
    pair = muons[0] + muons[1]
    events = Events.of(pair.mass, np.column_stack([pair.pt, pair.eta]), ["dimu_pt", "dimu_eta"])
    return SidebandData.of(events, MassWindow(8.0, 9.0, 10.6, 12.0), (8.25, 8.75), (10.95, 11.65))


SAMPLES = {"ymumu": ymumu, "os": lambda: paper("os"), "ss": lambda: paper("ss")}


def compared(sample: str, name: str, bounded: bool, check: str, device: str = "cpu") -> list[dict]:
    """The figures of one check of an estimator: "training", "half", or the number of a hidden window."""
    data, settings = SAMPLES[sample](), ESTIMATORS[name]
    if isinstance(settings, flows.Flow):
        settings = settings.model_copy(update={"device": device})
    preparation = Preparation(bounds={key: POSITIVE[key] for key in data.events.names if key in POSITIVE and bounded})
    held_out = HeldOut(settings.estimator, preparation, data.events, data.window, COPIES, AtOnce())
    label, start = f"{sample}_{name}{'_bounded' * bounded}", time.perf_counter()
    if check == "training":
        everything = np.ones(len(data.events), dtype=bool)
        model = settings.estimator(preparation.scaler(data.events, everything)).fit(data.events, STREAM)
        seconds = time.perf_counter() - start
        sampled = model.sample(np.tile(data.events.mass, COPIES), STREAM)
        records = closure.in_sidebands(data.events, sampled, data.window, STREAM, AtOnce())
        figures = [{"name": f"{label}_train_s", "value": seconds, "unit": "s"}]
    elif check == "half":
        records, figures = held_out.half_split(STREAM), []
        likelihood = records["sidebands"].log_likelihood
        if likelihood is not None:
            figures.append({"name": f"{label}_half_log_likelihood", "value": likelihood, "unit": "nats"})
    else:
        low, high = data.hidden[int(check)]
        records, figures = {f"{low:g}-{high:g}": held_out.shifted_window(low, high, STREAM)}, []
        check = "hidden"
    for place, record in records.items():
        if record.auc is not None:
            at = f"{label}_{check}_{place.replace(' ', '_').replace('/', '_of_')}"
            figures += [
                {"name": f"{at}_auc", "value": record.auc, "unit": ""},
                {"name": f"{at}_auc_err", "value": record.auc_err, "unit": ""},
                {"name": f"{at}_auc_with_mass", "value": record.auc_with_mass, "unit": ""},
                {"name": f"{at}_ks", "value": max(value["distance"] for value in record.ks.values()), "unit": ""},
                {"name": f"{at}_events", "value": record.n_real, "unit": ""},
            ]
    return figures


def floor() -> list[dict]:
    """The AUC that rebuilt features have for want of independent events, where the density is exactly the flow's."""
    data = paper("os")
    scaler = Preparation().scaler(data.events, np.ones(len(data.events), dtype=bool))
    model = MAF.estimator(scaler).fit(data.events, STREAM)
    sampled, rng = model.sample(np.tile(data.events.mass, COPIES), STREAM), np.random.default_rng(2016)
    parents = model.sample(rng.choice(data.events.mass, N_PARENTS), Stream(2017)).features
    copies = parents[rng.integers(0, N_PARENTS, len(data.events))]
    copies = copies * (1 + SMEARING * rng.standard_normal(copies.shape))
    auc, error = closure.classifier_auc(replace(data.events, features=copies), sampled, STREAM)
    return [
        {"name": "os_floor_auc", "value": auc, "unit": ""},
        {"name": "os_floor_auc_err", "value": error, "unit": ""},
    ]


def main() -> None:
    """Compare the estimators named, all of them where none is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("estimators", nargs="*", metavar="ESTIMATOR", help="default: all")
    parser.add_argument("--data", default="ymumu,os,ss", help="samples, comma-separated")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--device", default="cpu", help="where flows are trained: cpu or cuda")
    options = parser.parse_args()
    samples, measured = options.data.split(","), []
    with executor(options.workers, preload=["torch", *closure.WORKER_MODULES]) as pool:
        pending = [
            pool.submit(compared, sample, name, bounded, check, options.device)
            for sample in samples
            for name in options.estimators or ESTIMATORS
            for bounded in (False, True)
            for check in ("half", "0", "1", "training")
            if not bounded or name in BOUNDED
        ]
        pending += [pool.submit(floor)] if "os" in samples else []
        for done in as_completed(pending):
            measured += done.result()
            common.save("closure", sorted(measured, key=lambda figure: figure["name"]))


if __name__ == "__main__":
    main()
