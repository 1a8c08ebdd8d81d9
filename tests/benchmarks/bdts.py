"""The paper's classifier ensemble, 5 folds of 100 members, against the same ensemble trained one by one.

python -m tests.benchmarks.bdts

Events: the real OS dimuons (12,332, of which 1,692 in the SR) and 7,900 background events. Where no sampled background
is at hand they are drawn from the sidebands, which costs the same time. The peer is `XGBClassifier.fit` in a plain
loop over the same events, seeds and settings, with its default threads, and `predict_proba` of the test events. It is
timed twice: watching the training loss as well, as the published code does, and (a fifth of the members, scaled) the
validation loss alone. The peer finds xgboost loaded; ours is timed with its workers loading it, and once more
without. Without the reference data the events are a toy of the same size.

Then a few members of the other kinds of classifier, each against the plain use of its library on the same events of
one fold: `HistGradientBoostingClassifier.fit` member by member, and a loop over `torch.nn.Sequential` with `Dropout`
and Adam, with the same settings, for as many epochs.
"""

import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xgboost
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from dimuon.background.training import one_thread
from dimuon.classifiers import archive, cross_validation
from dimuon.classifiers.kinds.dense import N_QUANTILES, DenseSettings, to_normal
from dimuon.classifiers.kinds.hist_gradient_boosting import HistGradientBoostingSettings
from dimuon.classifiers.kinds.xgboost import XGBoostSettings
from dimuon.classifiers.protocol import Split, TrainingSet, make
from dimuon.events import Events
from dimuon.features import FEATURE_SETS
from dimuon.random import Stream
from dimuon.regions import MassWindow
from dimuon.workflow import executor
from tests.benchmarks import common

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
STREAM, SETTINGS = Stream(2016).child("bdt", "os"), XGBoostSettings()
PAPER = {
    "n_estimators": 300, "max_depth": 3, "learning_rate": 0.1, "subsample": 0.7, "early_stopping_rounds": 10,
    "objective": "binary:logistic", "eval_metric": "logloss",
}  # fmt: skip
N_BACKGROUND, N_MEMBERS, N_FOLDS = 7900, 100, 5


def events():
    """The real OS dimuons (12332), or a toy of their size."""
    folder = Path(os.environ.get("DIMUON_REFERENCE", "../shared"))
    rng = np.random.default_rng(0)
    if (folder / "real" / "upsilon_os.parquet").exists():
        table = pd.read_parquet(folder / "real" / "upsilon_os.parquet")
        features, mass = table[list(FEATURE_SETS["paper"])].to_numpy(), table["dimu_mass"].to_numpy()
    else:
        print("no reference data (DIMUON_REFERENCE): a toy of the same size instead")
        features = np.exp(rng.normal([3.7, -4.3, -4.2], [0.4, 1.1, 1.1], (12332, 3)))
        regions = (9, 10.6, 1692), (5, 9, 6924), (10.7, 16, 3716)
        mass = rng.permutation(np.concatenate([rng.uniform(*region) for region in regions]))
    return Events.of(mass, features, FEATURE_SETS["paper"])


def sample():
    """(`Events`, in_sr, 7900 background `Events`); the background is drawn from the sidebands."""
    dimuons = events()
    in_sr = WINDOW.in_sr(dimuons.mass)
    drawn = np.random.default_rng(1).integers(0, (~in_sr).sum(), N_BACKGROUND)
    return dimuons, in_sr, dimuons[~in_sr][drawn]


def ensemble(dimuons, in_sr, background):
    """(seconds, of them after the workers have loaded xgboost, mean score of every dimuon, the `Ensemble`)."""
    start = time.perf_counter()
    with executor.executor(preload=cross_validation.worker_modules(SETTINGS)) as pool:
        pool.submit(os.getpid).result()
        loaded = time.perf_counter()
        result = cross_validation.train(
            dimuons,
            in_sr,
            background,
            settings=SETTINGS,
            n_members=N_MEMBERS,
            n_folds=N_FOLDS,
            stream=STREAM,
            pool=pool,
        )
    end = time.perf_counter()
    return end - start, end - loaded, result.data.mean, result


def one_by_one(dimuons, in_sr, background, result, *, n_members=N_MEMBERS, watch_training):
    """(seconds, mean score) of the plain loop; `result` gives only the folds. watch_training: as published."""
    features, background = dimuons.features, background.features
    start, score = time.perf_counter(), np.zeros(len(features))
    fold, background_fold = result.data.fold, result.background.fold
    watched = slice(0 if watch_training else 1, None)
    for test in range(N_FOLDS):
        masks = zip(*(cross_validation.roles(each, test, STREAM)[:2] for each in (fold, background_fold)), strict=True)
        samples = [_labelled(features[a & in_sr], background[b]) for a, b in masks]
        (x, y, w), watched_samples = samples[0], samples[watched]
        watch = {
            "eval_set": [sample[:2] for sample in watched_samples],
            "sample_weight_eval_set": [sample[2] for sample in watched_samples],
        }
        for member in range(n_members):
            model = xgboost.XGBClassifier(**PAPER, random_state=STREAM.child(test, member).integer())
            model.fit(x, y, sample_weight=w, verbose=False, **watch)
            trees = (0, model.best_iteration + 1)
            score[fold == test] += model.predict_proba(features[fold == test], iteration_range=trees)[:, 1]
    return time.perf_counter() - start, score / n_members


def _labelled(data, background):
    label = np.repeat([1, 0], [len(data), len(background)])
    return np.concatenate([data, background]), label, np.where(label, len(background) / len(data), 1)


def training_set(dimuons, in_sr, background):
    """The `TrainingSet` of one fold."""
    splits = []
    for events, name in ((dimuons[in_sr], "sr"), (background, "background")):
        fold = cross_validation.assign_folds(len(events), N_FOLDS, STREAM.child(name).generator())
        train, validation, _ = cross_validation.roles(fold, 0, STREAM)
        splits.append(Split(events[train], events[validation]))
    return TrainingSet.of(*splits)


def seconds_of(fit):
    start = time.process_time()
    result = fit()
    return time.process_time() - start, result


def plain_trees(training, seeds):
    """(n_events, n_members) validation scores of scikit-learn's own trees."""
    train, validation, settings = training.train, training.validation, HistGradientBoostingSettings()
    held_out = {"X_val": validation.x, "y_val": validation.label, "sample_weight_val": validation.weight}
    scores = []
    for seed in seeds:
        used = np.random.default_rng(seed).permutation(len(train.x))[: round(settings.subsample * len(train.x))]
        model = HistGradientBoostingClassifier(
            max_depth=settings.max_depth, learning_rate=settings.learning_rate, max_iter=settings.n_trees,
            early_stopping=True, n_iter_no_change=settings.early_stopping, tol=0.0, random_state=seed,
        )  # fmt: skip
        model.fit(train.x[used], train.label[used], train.weight[used], **held_out)
        scores.append(model.predict_proba(validation.x)[:, 1])
    return np.column_stack(scores)


def plain_network(training, seeds):
    """(n_events, n_members) validation scores of the dense network as torch's modules make it."""
    settings, train, validation = DenseSettings(), training.train, training.validation
    quantiles = np.quantile(train.x, np.linspace(0, 1, N_QUANTILES), axis=0)
    x, held_out = (torch.as_tensor(to_normal(part.x, quantiles), dtype=torch.float32) for part in (train, validation))
    (y, w), (held_y, held_w) = (
        (torch.as_tensor(values, dtype=torch.float32) for values in (part.label, part.weight))
        for part in (train, validation)
    )
    loss, scores = torch.nn.functional.binary_cross_entropy_with_logits, []
    for seed in seeds:
        torch.manual_seed(seed)
        sizes, layers = (x.shape[1], *settings.hidden), []
        for n_in, n_out in pairwise(sizes):
            layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU(), torch.nn.Dropout(settings.dropout)]
        network = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], 1))
        adam, best, waited, kept = torch.optim.Adam(network.parameters(), lr=settings.learning_rate), np.inf, 0, None
        for _ in range(settings.epochs):
            network.train()
            for batch in torch.randperm(len(x)).split(settings.batch_size):
                adam.zero_grad()
                loss(network(x[batch])[:, 0], y[batch], w[batch]).backward()
                adam.step()
            network.eval()
            with torch.no_grad():
                logit = network(held_out)[:, 0]
                now = loss(logit, held_y, held_w).item()
            best, waited, kept = (now, 0, logit) if now < best else (best, waited + 1, kept)
            if waited >= settings.patience:
                break
        scores.append(torch.sigmoid(kept).numpy())
    return np.column_stack(scores)


def other_kinds(tables, n_members=6):
    """Figures of the other kinds of classifier against their libraries, by the time of the processor, one thread."""
    training, seeds = training_set(*tables), list(range(n_members))
    x = training.validation.x
    for name, settings, plain in (
        ("hist_gradient_boosting", HistGradientBoostingSettings(), plain_trees),
        ("dense", DenseSettings(), plain_network),
    ):
        with one_thread(), threadpool_limits(1):
            make(settings).fit(training, seeds[:1])  # loads the library
            ours_s, ours = seconds_of(lambda settings=settings: make(settings).fit(training, seeds))
            peer_s, peer = seconds_of(lambda plain=plain: plain(training, seeds))
        of_ours, of_peer = ours.score(x).mean(axis=1), peer.mean(axis=1)
        yield {
            "name": f"{name}_vs_plain", "value": ours_s, "unit": "s", "peer": f"{n_members} members, plain library",
            "ratio": peer_s / ours_s, "correlation": float(np.corrcoef(of_ours, of_peer)[0, 1]),
        }  # fmt: skip


def main():
    """Time all, compare their scores, save the figures."""
    tables = sample()
    seconds, loaded_s, score, result = ensemble(*tables)
    published_s, published_score = one_by_one(*tables, result, watch_training=True)
    validation_s = 5 * one_by_one(*tables, result, n_members=N_MEMBERS // 5, watch_training=False)[0]
    models = archive.pack(result.models, {"classifier": "xgboost", "features": []})
    threads = f"{os.cpu_count()} threads"

    def against(name, peer, peer_s, seconds=seconds):
        return {"name": name, "value": seconds, "unit": "s", "peer": peer, "ratio": peer_s / seconds}

    figures = [
        {"name": "ensemble_s", "value": seconds, "unit": "s"},
        {"name": "xgbclassifier_s", "value": published_s, "unit": "s"},
        {"name": "xgbclassifier_validation_s", "value": validation_s, "unit": "s"},
        against("ensemble_vs_xgbclassifier", f"XGBClassifier.fit one by one, {threads}", published_s),
        against("workers_up_vs_xgbclassifier", "the same; neither side's loading of xgboost", published_s, loaded_s),
        against("vs_validation_loss_alone", f"the same without the training loss, {threads}", validation_s),
        {"name": "score_correlation", "value": np.corrcoef(score, published_score)[0, 1], "unit": ""},
        {"name": "largest_score_difference", "value": np.abs(score - published_score).max(), "unit": ""},
        {"name": "models_mb", "value": len(models) / 1e6, "unit": "MB"},
    ]
    common.save("bdts", [*figures, *other_kinds(tables)])


if __name__ == "__main__":
    main()
