"""A complete small set of saved results, as the seven steps would leave them, from a toy: all SIMULATED.

For tests of what reads results (figures, report, inspection, comparison); no flow and no classifier is trained.
"""

import atexit
import contextlib
import json
import shutil
import tempfile
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from dimuon.background import closure
from dimuon.bumphunt import cut_and_count, excess
from dimuon.bumphunt.result import ScanPoint, SidebandQuality, TestResult
from dimuon.events import Events
from dimuon.features import FEATURES
from dimuon.random import Stream
from dimuon.statistics import model_choice
from dimuon.statistics.likelihood_ratio import Discovery
from dimuon.statistics.settings import Peaks
from dimuon.statistics.significance import discoveries
from dimuon.statistics.spectra import Spectra
from dimuon.statistics.trials import GlobalSignificance
from dimuon.statistics.working_points import CutVariable, rates
from dimuon.studies import null_origins, splits
from dimuon.workflow import config, products, provenance

NAME = "small"
CONFIG = """\
name: {name}
seed: 7
input:
  simulation: {{n_files: 1, scale: {scale}}}
selection:
  charges: [{charges}]
flow: {{members: 2, hidden: 20, epochs: 12}}
bdt: {{members: 4}}
"""
N_EVENTS = {"os": {"peak": 60, "rest": 5000}, "ss": {"peak": 0, "rest": 3000}}
FIGURE_FPRS = (1.0, 0.25, 0.1, 0.05, 0.01, 0.005, 0.001)
TRAINING = ("dimu_pt", "mu0_ip3d", "mu1_ip3d")


def build(folder, name=NAME, charges=("os", "ss"), scale=0.1, events=1.0):
    """Write `data/<name>/`, `results/<name>/` and `<name>.yaml` under `folder`; returns the loaded configuration.

    scale: what the configuration says of the simulation. events: how many there are, in the usual number. What was
    asked for before is copied.
    """
    shutil.copytree(_built(name, charges, scale, events), folder, dirs_exist_ok=True)
    return config.load(Path(folder, f"{name}.yaml"))


@cache
def _built(name, charges, scale, events):
    """A folder with the results, removed when the process ends."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with contextlib.chdir(folder):
        path = Path(f"{name}.yaml")
        path.write_text(CONFIG.format(name=name, charges=", ".join(charges), scale=scale))
        chosen = config.load(path)

        def step(script):
            return provenance.Run(chosen, script, path)

        frames = {charge: _dimuons(chosen, charge, events) for charge in charges}
        dimuons = _write_selection(step("02_select_dimuons.py"), frames)
        _write_cutflow(step("02_select_dimuons.py"), frames)
        tests = [(train, test) for train in charges for test in charges]
        for charge in charges:
            _write_flows(step("03_train_flows.py"), charge, dimuons)
            _write_background(step("04_sample_background.py"), charge, frames[charge], dimuons)
        table = pd.read_parquet(dimuons)
        for train, test in tests:
            if train == test:
                _write_background_scores(step("05_train_bdts.py"), train, dimuons)
            _write_scores(step("05_train_bdts.py"), train, test, table, dimuons)
            _write_sculpting(step("05_train_bdts.py"), train, test, dimuons)
        _write_significance(step("06_significance.py"), tests, table, dimuons)
    return folder


def _dimuons(chosen, charge, events):
    rng = Stream(chosen.seed).child("toy", charge).generator()
    n_peak, n_rest = (round(2 * events * count) for count in N_EVENTS[charge].values())
    mass = 5 + 11 * rng.beta(1.0, 1.6, n_rest)
    peak = rng.normal(rng.choice([9.46, 10.02, 10.36], n_peak, p=[0.7, 0.2, 0.1]), 0.095)
    signal = np.r_[np.ones(n_peak, bool), np.zeros(n_rest, bool)]
    n = n_peak + n_rest
    frame = pd.DataFrame({
        "run": 1, "luminosityBlock": rng.integers(1, 90, n), "event": np.arange(n), "charge": charge.upper(),
        "dimu_mass": np.r_[peak, mass], "dimu_pt": 20 + rng.exponential(np.where(signal, 35, 18)),
        "dimu_eta": rng.normal(0, 1.2, n).clip(-2.4, 2.4), "dimu_phi": rng.uniform(-np.pi, np.pi, n),
        "mumu_deltaR": rng.gamma(4, 0.08, n), "mumu_deltapT": rng.exponential(15, n),
    })  # fmt: skip
    for muon, hardness in (("mu0", 17), ("mu1", 8)):
        frame[f"{muon}_pt"] = hardness + rng.exponential(10, n)
        frame[f"{muon}_ip3d"] = np.exp(rng.normal(np.where(signal, -6.8, -4.6), np.where(signal, 0.6, 1.3)))
        frame[f"{muon}_iso04"] = np.exp(rng.normal(0.0, 1.2, n))
    frame["anti_isolated"] = (frame["mu0_iso04"] > 0.55) & (frame["mu1_iso04"] > 0.55)
    frame = frame[chosen.window.in_window(frame["dimu_mass"])].sample(frac=1, random_state=1)
    frame.insert(4, "region", chosen.window.region(frame["dimu_mass"]))
    return frame.astype({name: "float32" for name in frame.columns if frame[name].dtype == "float64"})


def _write_selection(run, frames):
    path = run.data / "dimuons.parquet"
    run.write_table(path, pd.concat(frames.values(), ignore_index=True), origin="simulated")
    return path


def _write_cutflow(run, frames):
    """The cutflow, and the spectrum of the skim, with invented numbers before the mass window."""
    counts = {"os": (60_000, 31_000), "ss": (25_000, 17_000)}
    rows = {
        "events in the files": None,
        "two tight muons": 0,
        "trigger": 1,
        "mass window": "window",
        "anti-isolation": "last",
    }
    steps, before = [], {}
    for name, which in rows.items():
        events = {"all": 2_000_000, "os": None, "ss": None}
        if which is not None:
            events = {charge: _cutflow_count(frames[charge], counts[charge], which) for charge in frames}
            events = {"all": sum(events.values()), "os": events.get("os"), "ss": events.get("ss")}
        efficiency = {
            key: events[key] / before[key] if before.get(key) and events[key] is not None else None for key in events
        }
        steps.append({"name": name, "events": events, "efficiency": efficiency, "cumulative": efficiency})
        before = events
    run.write_json(run.data / "cutflow.json", {"steps": steps, "n_repeated": 0}, origin="simulated")
    edges = np.geomspace(0.25, 200, 401)
    rng = Stream(run.config.seed).child("toy spectrum").generator()
    mass = np.r_[np.exp(rng.normal(2.3, 1.2, 80_000)), rng.normal(9.46, 0.1, 4_000), rng.normal(91.2, 2.5, 5_000)]
    table = {
        "bin_low": edges[:-1],
        "bin_high": edges[1:],
        "n_os": np.histogram(mass, edges)[0],
        "n_ss": np.histogram(mass[::3], edges)[0],
    }
    run.write_table(run.data / "skim" / "spectrum.parquet", pd.DataFrame(table), origin="simulated")


def _cutflow_count(frame, counts, which):
    if isinstance(which, int):
        return counts[which]
    return int(len(frame) if which == "window" else frame["anti_isolated"].sum())


def _write_flows(run, charge, dimuons):
    epoch = np.arange(1, 13)
    frames = [
        pd.DataFrame({
            "member": member, "epoch": epoch, "train_loss": 3.4 + 0.8 * np.exp(-epoch / 3) + 0.01 * member,
            "validation_loss": 3.45 + 0.8 * np.exp(-epoch / 3) + 0.02 * np.cos(epoch + member),
        })
        for member in range(2)
    ]  # fmt: skip
    run.write_table(run.data / f"flow_losses_{charge}.parquet", pd.concat(frames, ignore_index=True), [dimuons])


def _write_background(run, charge, frame, dimuons):
    rng = Stream(run.config.seed).child("toy background", charge).generator()
    data = frame[frame["anti_isolated"]]
    drawn = data[data["region"] != "SR"].sample(n=6000, replace=True, random_state=2)[["dimu_mass", *TRAINING]]
    drawn = drawn.assign(dimu_mass=5 + 11 * rng.beta(1.0, 1.6, len(drawn)))
    drawn["region"] = run.config.window.region(drawn["dimu_mass"])
    drawn["member"] = np.arange(len(drawn)) % 2
    drawn["weight"] = 1.0
    drawn["use"] = np.where(drawn["region"] == "SR", np.array(["train", "validation"])[drawn["member"]], "closure")
    run.write_table(run.data / f"background_{charge}.parquet", drawn.reset_index(drop=True), [dimuons])
    places = {
        "sidebands": (5.0, 16.0),
        "SBL": (5.0, 9.0),
        "SBL 1/2": (5.0, 7.0),
        "SBL 2/2": (7.0, 9.0),
        "SBH": (10.6, 16.0),
    }
    records = {
        place: {
            "mass_low": low, "mass_high": high, "n_real": 1000, "n_sampled": 5000,
            "ks": {name: {"distance": float(rng.uniform(0.005, 0.02)), "p_value": 0.4, "level": 0.047}
                   for name in TRAINING},
            "auc": float(rng.normal(0.505, 0.005)), "auc_err": 0.006,
        }
        for place, (low, high) in places.items()
    }  # fmt: skip
    held_out = {place: records["SBL"] | {"mass_low": low, "mass_high": low + 1, "auc": auc, "n_train": 900}
                for place, low, auc in (("7-8 GeV", 7.0, 0.53), ("12-13 GeV", 12.0, 0.54))}  # fmt: skip
    content = {
        "sidebands": records,
        "half_split": {
            **{place: record | {"auc": 0.515, "n_train": 500} for place, record in records.items()},
            "SBH 1/1": {"n_train": 500, "n_real": 12, "reason": "fewer than 50 events"},
        },
        "shifted_windows": held_out,
    }
    run.write_json(run.data / f"closure_{charge}.json", content, [dimuons])
    real, sampled = (_events(part) for part in (data, drawn))
    edges = {name: FEATURES[name].edges[::2] for name in TRAINING}
    histograms = closure.histograms(real, sampled, run.config.window, edges)
    run.write_table(run.path(products.CLOSURE_HISTOGRAMS, charge=charge), histograms, [dimuons])


def _events(frame):
    values = frame[["dimu_mass", *TRAINING]].to_numpy(dtype=float)
    return Events.of(values[:, 0], values[:, 1:], TRAINING)


def _score(table, rng):
    """A stand-in for the classifier: prompt and boosted scores high."""
    prompt = 4.0 * rng.normal(size=len(table)) - np.log(table["mu0_ip3d"]) - np.log(table["mu1_ip3d"])
    score = 1 / (1 + np.exp(-(0.45 * (prompt - 9.2) + 0.01 * (table["dimu_pt"] - 38) - 1)))
    return (0.75 * score + 0.05 * rng.uniform(size=len(table))).to_numpy(dtype=float)


def _write_background_scores(run, train, dimuons):
    rng = Stream(run.config.seed).child("toy background scores", train).generator()
    drawn = pd.read_parquet(run.data / f"background_{train}.parquet")
    chosen = drawn[drawn["region"] == "SR"]
    fold = np.arange(len(chosen)) % 5
    scores = pd.DataFrame({"row": chosen.index, "fold": fold, "score": _score(chosen, rng), "score_std": 0.02})
    run.write_table(run.data / f"scores_{train}_on_background.parquet", scores, [dimuons])


def _write_scores(run, train, test, table, dimuons):
    rng = Stream(run.config.seed).child("toy scores", train, test).generator()
    chosen = table[(table["charge"] == test.upper()) & table["anti_isolated"]]
    fold = np.arange(len(chosen)) % 5 if train == test else np.full(len(chosen), -1)
    scores = pd.DataFrame({"row": chosen.index, "fold": fold, "score": _score(chosen, rng), "score_std": 0.02})
    run.write_table(run.data / f"scores_{train}_on_{test}.parquet", scores, [dimuons])


def _write_sculpting(run, train, test, dimuons):
    """Sculpting of every test, and the importance of the features of the matched ones."""
    bins = run.config.window.binning(11)
    fprs = np.geomspace(1, 1e-3, 25)
    n_bins = len(bins.is_sr)
    table = pd.DataFrame({
        "fpr": np.repeat(fprs, n_bins), "cut": 0.5, "sculpted": np.repeat(fprs < 1.2e-3, n_bins),
        "bin_low": np.tile(bins.edges[:-1], 25), "bin_high": np.tile(bins.edges[1:], 25),
        "region": "SBL", "n_before": 100, "n_after": 50, "efficiency": 0.5, "efficiency_low": 0.45,
        "efficiency_high": 0.55, "efficiency_fit": 0.5, "efficiency_fit_err": 0.02,
    })  # fmt: skip
    run.write_table(run.data / f"sculpting_{train}_on_{test}.parquet", table, [dimuons])
    dependence = {"value": 0.01, "p_value": 0.4, "null_mean": 0.0, "null_std": 0.01, "n_permutations": 500}
    record = {name: dependence for name in ("spearman", "distance_correlation")}
    run.write_json(run.data / f"sculpting_{train}_on_{test}.json", record, [dimuons])
    if train == test:
        features = {name: {"auc_loss": 0.01 * i, "auc_loss_err": 0.003} for i, name in enumerate(TRAINING, 1)}
        run.write_json(run.data / f"importance_{train}.json", {"train": train, "features": features}, [dimuons])


def write_studies(chosen, folder, charges=("os", "ss")):
    """The results of the studies and of the ensemble's convergence, of invented numbers, under `folder`."""
    rng = Stream(chosen.seed).child("toy studies").generator()
    with contextlib.chdir(folder):
        run = provenance.Run(chosen, "06_significance.py", f"{chosen.name}.yaml")
        studies, inputs = run.results / "studies", [run.data / "dimuons.parquet"]
        for name, frame in _study_tables(charges, rng).items():
            run.write_table(studies / f"{name}.parquet", frame, inputs)
        for name, content in _study_summaries(charges, rng).items():
            run.write_json(studies / f"{name}.json", content, inputs)
        run.write_table(run.results / "convergence.parquet", _convergence(rng), inputs)


def _study_tables(charges, rng):
    """As in the studies themselves, the classifier has a row "cathode" for each working point beside the headline
    numbers."""
    labels = [
        ("baseline", "baseline"),
        *((f"degree {d}, {n} bins", "fits") for d in (3, 5, 7) for n in (7, 11, 15)),
    ]
    headlines = [(v, 1.0) for v in ("no_cut", "cathode_max", "best_feature", "likelihood")]
    points = [("cathode", fpr) for fpr in np.geomspace(1, 1e-3, 5)]
    rows = {
        "variations": [(c.upper(), name, kind, *v, 1 + abs(rng.normal(2, 0.4))) for c in charges
                       for name, kind in labels for v in [*headlines, *points]],
        "pseudoexperiments": [(c.upper(), i, *v, abs(rng.normal())) for c in charges for i in range(300)
                              for v in [*headlines, *points]],
        "controls": [(c, i, *v, abs(rng.normal(0, 0.5))) for c in ("ss", "os_low_sideband")
                     for i in range(4) for v in [*headlines, *points]],
        "injection": [(n, i, method, 0.02 * n + abs(rng.normal())) for n in (0, 50, 100, 200) for i in range(5)
                      for method in ("no_cut", "cathode_max", "supervised")],
        "cut_scan": [(c.upper(), pt, ip3d, rng.uniform(0, 4), pt < 60) for c in charges for pt in (20.0, 45.0, 70.0)
                     for ip3d in (0.01, 0.1)],
    }  # fmt: skip
    columns = {
        "variations": ["charge", "variation", "kind", "variable", "fpr", "z0"],
        "pseudoexperiments": ["charge", "experiment", "variable", "fpr", "z0"],
        "controls": ["control", "seed", "variable", "fpr", "z0"],
        "injection": ["n_injected", "repeat", "method", "z0"],
        "cut_scan": ["charge", "pt_cut", "ip3d_cut", "z0", "valid"],
    }
    frames = {name: pd.DataFrame(rows[name], columns=columns[name]) for name in rows}
    for name, frame in frames.items():
        if "z_signed" in products.PRODUCTS[name].column_names:
            frame["z_signed"] = frame["z0"]
        for column in products.PRODUCTS[name].column_names:
            if column not in frame:
                frame[column] = 0
    return frames


def _study_summaries(charges, rng):
    points = [{"what": "likelihood", "gate": True, "median": 0.52, "spread": 0.31, "passed": True}]
    verdict = {"passed": True, "n_seeds": 4, "n_failed": 0, "failures": [], "points": points}
    interval = {"p_low": 0.005, "p_high": 0.018, "z0_low": 2.1, "z0_high": 2.58}
    above = {"observed": 3.0, "n": 300, "n_above": 3, "p": 0.01, "z0": 2.33, "reach": 2.71} | interval
    found = {name: {"asymptotic": z0, "fpr": 1.0, "local": above, "global": above}
             for name, z0 in (("no_cut", 1.4), ("cathode_max", 3.3), ("likelihood", 3.9))}  # fmt: skip
    nulls = {"n": 300, "n_failed": 0, "failures": [], "members": {"analysis": 100, "like_nulls": 20}, "reach": 2.71,
             "data": {"analysis": found, "like_nulls": found}, "coverage": {}, "uniformity": {},
             "by_truth": None}  # fmt: skip
    best = {"pt_cut": 45.5, "ip3d_cut": 0.01, "n_obs": 90, "n_bkg": 50.0, "n_bkg_err": 3.0, "n_sig": 40.0,
            "z0": 5.3, "valid": True}  # fmt: skip
    seeds = {"baseline": 5.0, "seeds": {"n": 10, "low": 4.6, "median": 5.0, "high": 5.7}}
    of_splits = {name: [_of_statistic(each, rng) for each in ("no_cut", "cathode_max", "likelihood", 1.0, 0.1, 0.01)]
                 for name in splits.SPLITS}  # fmt: skip
    of_origins = {
        str(name): {
            origin: null_origins.OfOrigin.of(np.abs(rng.normal(0.1 * number, 1, 120)), 0)
            for number, origin in enumerate(null_origins.ORIGINS)
        }
        for name in null_origins.STATISTICS
    }
    by_charge = {
        "pseudoexperiments": nulls,
        "cut_scan": {"best": best, "global": above, "n": 300, "n_failed": 0},
        "variations": {"cathode_max": seeds, "failures": {}},
        "splits": splits.content(of_splits),
        "null_origins": null_origins.content(of_origins),
    }
    controls = {"passed": True, "criterion": "median and spread below 1", "controls": {"ss": verdict}}
    return {"controls": controls} | {name: dict.fromkeys(charges, content) for name, content in by_charge.items()}


def _convergence(rng):
    sizes = [
        (n, i, rng.normal(4, 1 / np.sqrt(n)), rng.normal(4.5, 1 / np.sqrt(n))) for n in (1, 5, 20) for i in range(30)
    ]
    frame = pd.DataFrame(sizes, columns=["n_members", "draw", "z0_max", "z0_likelihood"])
    return frame.assign(train="os", test="os")


def _of_statistic(name, rng):
    """A statistic of one split: 300 null datasets, and 40 with each number of signal events."""
    with_signal = {n: np.abs(rng.normal(0.02 * n, 1, 40)) for n in (50, 100)}
    return splits.OfStatistic.of(name, np.abs(rng.normal(0, 1, 300)), 0, with_signal)


def _write_significance(run, tests, table, dimuons):
    summary, curves, spectra, points, efficiencies, features, conformal = {}, [], [], [], [], [], []
    for train, test in tests:
        name = f"{train}_on_{test}"
        scores = pd.read_parquet(run.data / f"scores_{name}.parquet")
        events = table.loc[scores["row"]].assign(cathode=scores["score"].to_numpy())
        curve = _curves(run.config, events, train, test)
        curves.append(curve)
        spectra.append(_spectra(run.config, events, train, test))
        points.append(_points(run.config, events, train, test))
        efficiencies.append(_efficiencies(run.config, events, curve, train, test))
        conformal.append(_conformal(run.config, events, train, test))
        features.append(_feature_histograms(events, table[table["charge"] == test.upper()], train, test))
        summary[name] = _summary(curve, train, test, len(events))
    inputs = [dimuons, *(run.data / f"scores_{train}_on_{test}.parquet" for train, test in tests)]
    content = {"origin": {"kind": "simulated"}, "settings": {"degree": 5, "n_bins_sr": 11}, "tests": summary}
    run.write_json(run.results / "significance.json", json.loads(json.dumps(content)), inputs)
    run.write_table(run.results / "significance_curves.parquet", pd.concat(curves, ignore_index=True), inputs)
    run.write_table(run.results / "mass_histograms.parquet", pd.concat(spectra, ignore_index=True), inputs)
    run.write_table(run.path(products.MASS_POINTS), pd.concat(points, ignore_index=True), inputs)
    run.write_table(run.path(products.CONFORMAL), pd.concat(conformal, ignore_index=True), inputs)
    run.write_table(run.path(products.EFFICIENCIES), pd.concat(efficiencies, ignore_index=True), inputs)
    run.write_table(run.results / "feature_histograms.parquet", pd.concat(features, ignore_index=True), inputs)
    _write_found(run, [train for train, test in tests if train == test], table, summary, inputs)


def _write_found(run, charges, table, summary, inputs):
    """What was found in the samples that their own classifier scored; one peak at most, for speed."""
    model, described = model_choice.model_of(run.config.significance, run.config.window), []
    for charge in charges:
        scores = pd.read_parquet(run.data / f"scores_{charge}_on_{charge}.parquet")
        events = table.loc[scores["row"]].assign(row=scores["row"].to_numpy()).reset_index(drop=True)
        scored = excess.Scored(events["dimu_mass"].to_numpy(dtype=float), scores["score"].to_numpy(), None, events)
        test = TestResult.from_json(summary[f"{charge}_on_{charge}"])
        described.append(excess.describe(scored, test, model, Peaks(max=1), TRAINING, "dimu_mass"))
    found = {f"{one.found.train}_on_{one.found.test}": one.found.to_json() for one in described}
    run.write_json(run.path(products.PEAKS), {"tests": found}, inputs)
    tables = {
        products.EVENTS: [one.events for one in described],
        products.FOUND_COLUMNS: [one.columns for one in described],
        products.FOUND_SPECTRA: [one.spectra for one in described],
        products.PEAK_SPECTRA: [one.masses for one in described],
    }
    for product, frames in tables.items():
        run.write_table(run.path(product), pd.concat(frames, ignore_index=True), inputs)


def _count(chosen, mass):
    """(bins, counts, fit): a least-squares cubic of the sideband counts in place of the likelihood fit."""
    bins = chosen.window.binning(11)
    counts = bins.counts(mass)
    centres = (bins.edges[1:] + bins.edges[:-1]) / 2
    fit = np.poly1d(np.polyfit(centres[~bins.is_sr], counts[~bins.is_sr], 3))(centres).clip(0.02)
    return bins, counts, fit


def _working_points(events, name, rng):
    """Values that rise towards the signal for the variable called `name`."""
    if name == "random":
        return rng.uniform(size=len(events))
    sign = 1 if name == "cathode" or FEATURES[name].signal_side == "above" else -1
    return sign * events[name].to_numpy(dtype=float)


def _curves(chosen, events, train, test):
    rng, rows = Stream(chosen.seed).child("toy random", train, test).generator(), []
    sideband = (events["region"] != "SR").to_numpy()
    for name in ("cathode", *TRAINING, "random"):
        values = _working_points(events, name, rng)
        for fpr in np.unique(np.r_[np.geomspace(1, 1e-3, 25), FIGURE_FPRS].round(12))[::-1]:
            cut = np.quantile(values[sideband], 1 - fpr)
            bins, counts, fit = _count(chosen, events["dimu_mass"].to_numpy()[values >= cut])
            n_obs, n_bkg = counts[bins.is_sr].sum(), fit[bins.is_sr].sum()
            error = 0.35 * np.sqrt(n_bkg)
            z0 = max(n_obs - n_bkg, 0) / np.sqrt(n_bkg + error**2)
            rows.append({
                "train": train, "test": test, "variable": name, "baseline": True, "family": "polynomial", "degree": 5,
                "n_bins_sr": 11, "fpr": fpr, "cut": cut, "n_sidebands": counts[~bins.is_sr].sum(),
                "n_obs": n_obs, "n_bkg": n_bkg, "n_bkg_err": error, "n_sig": max(n_obs - n_bkg, 0), "q0": z0**2,
                "z0": z0, "p0": norm.sf(z0), "valid": bool(n_bkg > 10), "chi2": 61.0, "ndf": 58, "p_chi2": 0.37,
                "p_saturated": 0.35, "at_boundary": 0, "p0_toys": np.nan, "p0_toys_err": np.nan, "z0_toys": np.nan,
                "n_toys": 0, "toys_bound": False, "sculpted": False,
            })  # fmt: skip
    return pd.DataFrame(rows)


def _spectra(chosen, events, train, test):
    frames = []
    for fpr in FIGURE_FPRS:
        cut = np.quantile(events["cathode"][events["region"] != "SR"], 1 - fpr)
        bins, counts, fit = _count(chosen, events["dimu_mass"].to_numpy()[events["cathode"] >= cut])
        frames.append(pd.DataFrame({
            "train": train, "test": test, "variable": "cathode", "fpr": fpr,
            "bin_low": bins.edges[:-1], "bin_high": bins.edges[1:],
            "region": chosen.window.region((bins.edges[1:] + bins.edges[:-1]) / 2),
            "n_obs": counts, "n_obs_err": np.sqrt(counts), "n_bkg": fit, "n_bkg_err": 0.1 * np.sqrt(fit),
        }))  # fmt: skip
    return pd.concat(frames)


def _points(chosen, events, train, test):
    """The test on the spectra of `_spectra`."""
    model = model_choice.model_of(chosen.significance, chosen.window)
    cuts = np.quantile(events["cathode"][events["region"] != "SR"], 1 - np.array(FIGURE_FPRS))
    kept = events["cathode"].to_numpy() >= cuts[:, None]
    outcomes = discoveries(Spectra.of(events["dimu_mass"].to_numpy(dtype=float), model.bins, selections=kept), model)
    labels = {"train": train, "test": test, "variable": "cathode", "fpr": FIGURE_FPRS, "cut": cuts}
    return pd.DataFrame(labels | {name: getattr(outcomes, name) for name in cut_and_count.POINT_FIELDS})


def _efficiencies(chosen, events, curve, train, test):
    mass, score = (events[name].to_numpy(dtype=float) for name in ("dimu_mass", "cathode"))
    bins = chosen.window.binning(11)
    table = cut_and_count.efficiencies(mass, CutVariable("cathode", score), FIGURE_FPRS, bins, curve)
    return table.assign(train=train, test=test)


def _conformal(chosen, events, train, test):
    mass, score = (events[name].to_numpy(dtype=float) for name in ("dimu_mass", "cathode"))
    table = cut_and_count.conformal_points(mass, CutVariable("cathode", score), rates(), chosen.window)
    return table.assign(train=train, test=test)


def _feature_histograms(events, before, train, test):
    frames = []
    cuts = [(fpr, np.quantile(events["cathode"][events["region"] != "SR"], 1 - fpr)) for fpr in FIGURE_FPRS]
    for name in TRAINING:
        edges = FEATURES[name].edges
        samples = [(np.nan, before), *((fpr, events[events["cathode"] >= cut]) for fpr, cut in cuts)]
        for fpr, sample in samples:
            counts = np.histogram(sample.loc[sample["region"] == "SR", name], edges)[0]
            frames.append(pd.DataFrame({
                "train": train, "test": test, "feature": name, "fpr": fpr,
                "bin_low": edges[:-1], "bin_high": edges[1:], "n_obs": counts.astype(float),
                "n_sampled": np.nan if train != test or np.isnan(fpr) else 0.8 * counts,
                "n_sampled_err": np.nan if train != test or np.isnan(fpr) else 0.4 * np.sqrt(counts),
            }))  # fmt: skip
    return pd.concat(frames)


def _summary(curve, train, test, n_events):
    grouped = {name: part.reset_index(drop=True) for name, part in curve.groupby("variable")}
    best = grouped["cathode"].loc[grouped["cathode"]["z0"].idxmax()]
    single = curve[curve["variable"].isin(TRAINING)]
    single = single.loc[single["z0"].idxmax()]
    likelihood = float(best["z0"]) + 0.4
    found = train == test == "os"
    reweighted = {"z0": likelihood, "p0": float(norm.sf(likelihood)), "n_obs": 90.0, "valid": True}
    nulls = np.array([likelihood + 0.1] * 10 + [0.5] * 9990)
    scanned = GlobalSignificance.of(float(best["z0"]), nulls, "toys of the nested cuts")
    return TestResult(
        train=train,
        test=test,
        n_events=n_events,
        no_cut=_discovery(grouped["cathode"].loc[0].to_dict()),
        cathode_max=ScanPoint.of(best),
        best_feature=ScanPoint.of(single),
        sidebands=SidebandQuality(chi2=61.0, ndf=58, p_chi2=0.37, p_saturated=0.35),
        likelihood=_discovery(reweighted) if found else None,
        likelihood_reason=None if found else "the unweighted fit finds no excess",
        global_=scanned if found else None,
    ).to_json()


def _discovery(numbers):
    """A `Discovery` with what a toy says of it; the rest is zero."""
    names = [item.name for item in fields(Discovery)]
    return Discovery(**dict.fromkeys(names, 0.0) | {name: numbers[name] for name in names if name in numbers})
