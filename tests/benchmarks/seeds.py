"""How much the headline numbers depend on the seed: the significance over ten seeds, all four train-test combinations.

python -m tests.benchmarks.seeds CONFIG.yaml [--seeds 10]

Needs the dimuons and the trained flows of the configuration (steps 1-3); the flows are shared by all seeds. Each seed
draws its own background sample from them, its own folds and its own classifiers. Prints and writes mean and standard
deviation over the seeds of the largest Z0 over the working points and of the likelihood Z0, beside the published
values, to results/<name>/seeds.json. Nothing is tuned here: it is the spread of the published recipe.
"""

import argparse
import json

import numpy as np
from tqdm import tqdm

from dimuon.bumphunt import steps
from dimuon.classifiers import cross_validation
from dimuon.data.dimuons import Dimuons
from dimuon.random import Stream
from dimuon.statistics.families import Polynomial
from dimuon.statistics.significance import discoveries, likelihood_weights
from dimuon.statistics.spectra import Spectra
from dimuon.statistics.working_points import CutVariable, rates
from dimuon.workflow import config, executor, products, provenance

PUBLISHED = {"os_on_os": (5.7, 6.4), "ss_on_ss": (2.4, 1.6), "os_on_ss": (1.3, 1.0), "ss_on_os": (2.1, 1.9)}


def z0(mass, score, model, fprs):
    """(largest Z0 over the working points, its FPR, likelihood Z0 or nan) of one scored sample."""
    kept = CutVariable("cathode", score).scan(model.bins.window.in_sidebands(mass), fprs).kept
    cut = discoveries(Spectra.of(mass, model.bins, selections=kept), model)
    likelihood = np.nan
    if cut.n_sig[0] > 0:
        weights = likelihood_weights(score, cut.n_sig[0], cut.n_bkg[0])
        likelihood = discoveries(Spectra.of(mass, model.bins, weights), model).z0[0]
    return cut.z0.max(), fprs[cut.z0.argmax()], likelihood


def one_seed(run, seed, events, flows, model, pool):
    """{test name: `z0`} of a background sample and classifiers drawn with this seed. events: {charge: `Events`}."""
    config, stream, found = run.config, Stream(seed), {}
    fprs = rates(config.significance.n_working_points, config.significance.fpr_min)
    for train, flow in flows.items():
        own, others = events[train], {test: table for test, table in events.items() if test != train}
        sampled = steps.sample_background(config, train, steps.fit_masses(config, own), flow, stream)
        ensemble = steps.classify(config, train, own, sampled.events, stream, pool, others)
        for test, of_test in {train: ensemble.data, **ensemble.others}.items():
            found[f"{train}_on_{test}"] = z0(events[test].mass, of_test.mean, model, fprs)
    return found


def main():
    """Run the seeds and report their spread."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.seeds")
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    run = provenance.Run(config.load(arguments.config), "05_train_bdts.py", arguments.config)
    dimuons = Dimuons(run)
    events = {charge: dimuons.events(charge) for charge in dimuons.charges}
    trained = [charge for charge in events if run.path(products.FLOWS, charge=charge).exists()]
    flows = {charge: steps.read_model(run, charge) for charge in trained}
    settings = run.config.significance
    model = Polynomial(run.config.window.binning(settings.n_bins_sr), settings.degree)
    modules = cross_validation.worker_modules(run.config.bdt.classifier)
    with executor.executor(run.config.execution.workers, preload=modules) as pool:
        seeds = tqdm(range(1, arguments.seeds + 1), desc="seeds")
        found = [one_seed(run, seed, events, flows, model, pool) for seed in seeds]
    report = {}
    print(
        f"{'':<10}{'max Z0':>16}{'published':>11}{'likelihood Z0':>18}{'published':>11}   (flows shared by all seeds)"
    )
    for name in found[0]:
        values = np.array([by_name[name] for by_name in found])
        mean, std = np.nanmean(values, axis=0), np.nanstd(values, axis=0, ddof=1)
        cut, likelihood = PUBLISHED[name]
        print(
            f"{name:<10}{mean[0]:>9.2f} +- {std[0]:.2f}{cut:>11}{mean[2]:>11.2f} +- {std[2]:.2f}{likelihood:>11}"
            f"   FPR of the maximum {np.median(values[:, 1]):.3f}"
        )
        report[name] = {"max": values[:, 0].tolist(), "fpr": values[:, 1].tolist(), "likelihood": values[:, 2].tolist()}
    run.results.mkdir(parents=True, exist_ok=True)
    (run.results / "seeds.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
