"""Resonances planted at random masses, found by the classical and the learned scan or not.

python -m tests.benchmarks.scan_planted [--seeds 10] [--sigma 3] [--config configs/demo.yaml] [--workers N] [MODE ...]
[--samples FOLDER: where samples are kept, for a machine without awkward and uproot]

Each seed has SIMULATED OS dimuons without a resonance, as many as the published sample, and Upsilons of the simulation
moved to a mass drawn at random between the first and the last SR: as many as are 3 sigma of the background under them,
before any cut. The flows and classifiers are those of the configuration; the windows (24, of 5.4 resolutions, each half
a width after the one before) cover all masses twice. Printed and saved: for each mode, how often the SR of the largest
Z0 of all windows holds the resonance (classical, best cut, likelihood), with what the largest elsewhere was.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from dimuon.bumphunt import learned_scan
from dimuon.bumphunt.result import Statistic, shown_likelihood
from dimuon.bumphunt.scan_windows import ScanSettings, scan_windows, searched
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.regions import MassWindow
from dimuon.studies.mass_scan import bump_scan_of
from dimuon.workflow import config as configuration
from dimuon.workflow.executor import AtOnce, executor
from tests.benchmarks import common

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
MODES = ("retrain", "fine_tune", "one_model", "sigma")
N_EVENTS, JOINT = 12_000, 6
RANGE = MassWindow(5.0, 9.0, 10.6, 16.0)
SCAN = {"range": [5.0, 16.0], "resolution": 0.015, "width": 5.4, "step": 0.5, "methods": ["learned"]}
STATISTICS = ("classical", "cut", "likelihood")


def sample(seed, features, sigmas, settings):
    """(events, mass of the resonance, number of its events)."""
    from dimuon.simulation.labelled import background_events
    from dimuon.simulation.nanoaod_files import upsilon_events

    rng = np.random.default_rng([41, seed])
    background = background_events(rng.poisson(N_EVENTS), RANGE, rng, "os")
    windows = scan_windows(settings)
    place = rng.uniform(windows[0].window.sr_low, windows[-1].window.sr_high)
    mass, (width,) = background["dimu_mass"].to_numpy(), settings.width_at([place])
    n = rng.poisson(sigmas * np.sqrt(np.sum(np.abs(mass - place) < width / 2)))
    signal = upsilon_events(n, rng)
    planted = rng.normal(place, settings.resolution_at([place])[0], n)
    x = pd.concat([background, signal])[features].to_numpy(dtype=float)
    return Events.of(np.append(mass, planted), x, features), place, n


def models(config, mode, events, windows, stream):
    """A background model for each window, as the scan makes them."""
    if mode == "retrain":
        own = [stream.child(each.label).rooted() for each in windows]
        for first in range(0, len(windows), JOINT):
            chosen = slice(first, first + JOINT)
            yield from learned_scan.train_windows(config, "os", events, windows[chosen], own[chosen])
        return
    shared = learned_scan.train_shared(config, "os", events, stream, AtOnce())
    for each in windows:
        yield learned_scan.put_under(config, events, each, shared, stream.child(each.label))


def kept(folder, seed, features, sigmas, settings):
    """`sample`, kept in a folder."""
    path = folder / f"sample_{seed}_{sigmas:g}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        events, place, n = sample(seed, features, sigmas, settings)
        np.savez_compressed(path, mass=events.mass, features=events.features, place=place, n=n)
    saved = np.load(path)
    return Events.of(saved["mass"], saved["features"], features), float(saved["place"]), int(saved["n"])


def scanned(config, mode, seed, sigmas, folder):
    """A row for each window of one sample in one mode, in a worker."""
    settings = ScanSettings.model_validate(SCAN | {"mode": mode})
    config = config.model_copy(update={"scan": settings})
    events, place, n = kept(folder, seed, config.features.names, sigmas, settings)
    windows, stream, rows = searched(scan_windows(settings, events.mass)), Stream(2016).child("planted", seed), []
    tests = bump_scan_of(settings, windows).tests(events.mass)
    trained = models(config, mode, events, windows, stream.child(mode).rooted())
    for placed, model, test in zip(windows, trained, tests, strict=True):
        found = learned_scan.search_window(config, "os", events, placed, model, stream.child("search", placed.label))
        headlines = found.headlines()
        likelihood = shown_likelihood([each.variable for each in headlines], config.significance.weight_scales)
        z0 = {each.variable: each.z0 or 0.0 for each in headlines}
        cuts = {each.fpr: each.z0 or 0.0 for each in headlines if each.variable == Statistic.WORKING_POINT}
        fpr = max(cuts, key=cuts.get)
        row = {"mode": mode, "seed": seed, "place": place, "n_signal": n, "window": placed.label}
        row |= {"sr_low": placed.window.sr_low, "sr_high": placed.window.sr_high}
        row |= {"classical": test[0].outcome.z0, "cut": cuts[fpr], "fpr": fpr, "likelihood": z0[likelihood]}
        rows.append(row)
    return rows


def summarised(rows):
    """A row for each mode, seed and statistic: the largest Z0 in the windows of the resonance and elsewhere."""
    table, summary = pd.DataFrame(rows), []
    for (mode, seed), own in table.groupby(["mode", "seed"]):
        inside = (own["sr_low"] <= own["place"]) & (own["place"] <= own["sr_high"])
        for name in STATISTICS:
            there, elsewhere = own.loc[inside, name].max(), own.loc[~inside, name].max()
            at = own.loc[own.loc[~inside, name].idxmax()]
            row = {"mode": mode, "seed": seed, "statistic": name, "place": own["place"].iloc[0]}
            row |= {"n_signal": own["n_signal"].iloc[0], "there": there, "elsewhere": elsewhere}
            summary.append(row | {"window": at["window"], "fpr": at["fpr"], "hit": there > elsewhere})
    return pd.DataFrame(summary)


def main():
    """Plant, scan, count and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", default=list(MODES), metavar="MODE")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sigma", type=float, default=3.0)
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--samples", default=common.FOLDER / "scan_planted", type=Path)
    parser.add_argument("--out", default=common.FOLDER / "scan_planted.csv", type=Path)
    arguments = parser.parse_args()
    config, rows = configuration.load(arguments.config), []
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    settings = ScanSettings.model_validate(SCAN)
    for seed in range(arguments.seeds):
        kept(arguments.samples, seed, config.features.names, arguments.sigma, settings)
    with executor(arguments.workers, preload=["torch", "xgboost", "dimuon.background.flow_ensemble"]) as pool:
        tasks = [
            pool.submit(scanned, config, mode, seed, arguments.sigma, arguments.samples)
            for mode in arguments.modes
            for seed in range(arguments.seeds)
        ]
        for task in tasks:
            rows += task.result()
            pd.DataFrame(rows).to_csv(arguments.out, index=False)
            print(summarised(task.result()).round(2).to_string(index=False, header=False), flush=True)
    summary = summarised(rows)
    found = summary.groupby(["mode", "statistic"])["hit"].sum()
    print(found.unstack())
    common.save(
        "scan_planted",
        [
            {"name": f"scan_planted_{mode}_{name}", "value": int(n), "unit": f"of {arguments.seeds}"}
            for (mode, name), n in found.items()
        ],
    )


if __name__ == "__main__":
    main()
