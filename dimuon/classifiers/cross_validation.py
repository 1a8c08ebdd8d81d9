"""The classifier ensemble: cross-validation folds, training in parallel, application (the paper's step 3).

Every event of the training charge has a fold. The models of fold k never see an event of fold k: they train on the
other folds but one and stop early on that one. An event is scored by the models of its own fold, an event of the other
charge by the models of all folds. Members differ by their seed alone, so the result does not depend on the workers.
"""

import io
import json
import logging
import zipfile
from concurrent.futures import as_completed
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from dimuon.classifiers.members import CLASSIFIERS, Split
from dimuon.errors import UserError
from dimuon.workflow import executor, products

log = logging.getLogger("dimuon")

MEMBERS_PER_TASK = 20  # members that share one quantised matrix; small enough to keep every worker busy to the end


@dataclass(frozen=True)
class Scores:
    """Scores of one table of events.

    fold: (n_events,), whose models scored the event, -1 for all folds. members: (n_events, n_members), the score of
    each member (of its mean over the folds where fold is -1). spread: (n_events,), standard deviation over the models.
    """

    fold: np.ndarray
    members: np.ndarray
    spread: np.ndarray

    @property
    def mean(self):
        """(n_events,) score of the ensemble, 0 to 1."""
        return self.members.mean(axis=1, dtype=float)


@dataclass(frozen=True)
class Ensemble:
    """A trained ensemble and what it says.

    models: {fold: [bytes of each member]}. data: `Scores` of the training charge's events. background: those of the
    sampled events, each by models that did not see it. others: {name: `Scores`} of the tables it was applied to.
    """

    models: dict
    data: Scores
    background: Scores
    others: dict


def background_path(run, charge):
    """Where step 4 writes the sampled background of a charge."""
    return run.path(products.BACKGROUND, charge=charge)


def read_background(run, charge, names):
    """The sampled SR events to train against, as a DataFrame: `row` of the file, `dimu_mass` [GeV], named features.

    Raises `UserError` for a missing file or column, a value that is not finite, or no SR event.
    """
    path = background_path(run, charge)
    columns = ["dimu_mass", *names]
    frame = run.read_table(path, [*columns, "region", "use"])
    frame = frame[(frame["region"] == "SR") & frame["use"].isin(["train", "validation"])][columns]
    if frame.empty:
        raise UserError(f"{path}: no SR event for training; run 04_sample_background.py again")
    bad = ~np.isfinite(frame.to_numpy(dtype=float))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise UserError(
            f"{path}: {columns[column]} is {frame.iat[row, column]} in row {frame.index[row]} ({bad.sum()} such "
            "values); run 04_sample_background.py again"
        )
    return frame.rename_axis("row").reset_index()


def assign_folds(n_events, n_folds, rng):
    """Fold of each event, 0 to n_folds - 1, at random and of equal size within one: (n_events,)."""
    return rng.permutation(n_events) % n_folds


def roles(fold, test):
    """Masks (train, validation, test) of the events where fold `test` is held out for testing.

    fold: (n_events,). The fold before it (cyclically) is for early stopping, all others are for training.
    """
    n_folds = fold.max() + 1
    is_test, is_validation = fold == test, fold == (test - 1) % n_folds
    return ~(is_test | is_validation), is_validation, is_test


def train(data, in_sr, background, *, kind="xgboost", settings=None, n_members, n_folds, seed, pool, others=None):
    """Train an ensemble on the SR events against sampled background and score everything; returns an `Ensemble`.

    data: (n_events, n_features), all dimuons of one charge, physical units. in_sr: (n_events,) bool.
    background: (n_background, n_features), sampled SR events. kind: of `CLASSIFIERS`; settings: its keywords.
    seed: tuple (seed, names...) of the random streams. pool: `concurrent.futures.Executor`.
    others: {name: (n, n_features)} further tables, scored by every model.

    SR and sideband events are split over the folds separately, so every fold has its share of both.
    Raises `UserError` with fewer SR or background events than folds, and for values that are not finite.
    """
    others = others or {}
    in_sr = np.asarray(in_sr, dtype=bool)
    tables = {"SR dimuons": data[in_sr], "sampled background events": background}
    for name, table in {**tables, "dimuons": data, **others}.items():
        if not np.isfinite(table).all():
            row, column = np.argwhere(~np.isfinite(table))[0]
            raise UserError(f"{name}: feature {column} of event {row} is {table[row, column]}; mend the table")
    for name, table in tables.items():
        if len(table) < n_folds:
            raise UserError(f"{len(table)} {name} for bdt.folds = {n_folds}: at least one per fold is needed")
    fold = np.empty(len(data), dtype=int)
    for name, mask in (("sr", in_sr), ("sidebands", ~in_sr)):
        fold[mask] = assign_folds(mask.sum(), n_folds, executor.generator(*seed, "folds", name))
    background_fold = assign_folds(len(background), n_folds, executor.generator(*seed, "folds", "background"))

    tasks = []
    for test in range(n_folds):
        sr_train, sr_validation, _ = roles(fold, test)
        background_train, background_validation, background_test = roles(background_fold, test)
        samples = (
            Split(data[sr_train & in_sr], data[sr_validation & in_sr]),
            Split(background[background_train], background[background_validation]),
        )
        to_score = {"data": data[fold == test], "background": background[background_test], **others}
        for first in range(0, n_members, MEMBERS_PER_TASK):
            members = range(first, min(first + MEMBERS_PER_TASK, n_members))
            seeds = [executor.integer_seed(*seed, test, member) for member in members]
            tasks.append((test, members, (kind, settings or {}, *samples, seeds, to_score)))
    results = _run(tasks, pool)
    return _assemble(results, fold, background_fold, n_members, {name: len(table) for name, table in others.items()})


def _train_members(kind, settings, data, background, seeds, tables):
    """The work of one task, in a worker: (models as bytes, {table: (n_events, n_members) scores})."""
    classifier = CLASSIFIERS[kind](**settings).fit(data, background, seeds)
    return classifier.to_bytes(), {name: classifier.score(table) for name, table in tables.items()}


def _run(tasks, pool):
    """[(fold, members, result)] of every task, in the order of the tasks."""
    futures = {pool.submit(_train_members, *arguments): index for index, (_, _, arguments) in enumerate(tasks)}
    results = [None] * len(tasks)
    with tqdm(total=sum(len(members) for _, members, _ in tasks), desc="classifiers", disable=None) as bar:
        try:
            for future in as_completed(futures):
                test, members, _ = tasks[futures[future]]
                results[futures[future]] = (test, members, future.result())
                bar.update(len(members))
        finally:
            for future in futures:
                future.cancel()
    return results


def _assemble(results, fold, background_fold, n_members, others):
    n_folds = fold.max() + 1
    models = {test: [] for test in range(n_folds)}
    own = {"data": fold, "background": background_fold}
    by_fold = {name: np.empty((len(of), n_members), dtype=np.float32) for name, of in own.items()}
    by_all = {name: np.empty((n_folds, n, n_members), dtype=np.float32) for name, n in others.items()}
    for test, members, (trained, scores) in results:
        models[test].extend(trained)
        columns = slice(members.start, members.stop)
        for name, of in own.items():
            by_fold[name][of == test, columns] = scores[name]
        for name in others:
            by_all[name][test, :, columns] = scores[name]
    return Ensemble(
        models=models,
        **{name: Scores(of, by_fold[name], by_fold[name].std(axis=1, dtype=float)) for name, of in own.items()},
        others={
            name: Scores(np.full(others[name], -1), table.mean(axis=0), table.std(axis=(0, 2), dtype=float))
            for name, table in by_all.items()
        },
    )


def importance(ensemble, data, in_sr, background, *, kind="xgboost", seed, pool):
    """Permutation importance of each feature (Breiman 2001), each event scored by models that never saw it.

    In each fold's test events (SR dimuons and sampled background) one feature is shuffled. Returns {"auc", "auc_err",
    "features": [{"auc_loss", "auc_loss_err", "score_change"}]}: the area under the ROC curve of data against
    background, what the shuffling takes from it (mean over the folds and its standard error), and the root mean square
    change of the score in units of the score's standard deviation. arguments as for `train`.
    """
    tasks = []
    for test, models in sorted(ensemble.models.items()):
        events = [data[in_sr & (ensemble.data.fold == test)], background[ensemble.background.fold == test]]
        label, x = np.repeat([1, 0], [len(part) for part in events]), np.concatenate(events)
        shuffled = []
        for column in range(x.shape[1]):
            changed = x.copy()
            changed[:, column] = executor.generator(*seed, "shuffle", test, column).permutation(x[:, column])
            shuffled.append(changed)
        tasks.append((label, pool.submit(_score_again, kind, models, [x, *shuffled])))
    aucs, changes = [], []
    for label, future in tasks:
        plain, *shuffled = future.result()
        aucs.append([roc_auc_score(label, score) for score in (plain, *shuffled)])
        changes.append([np.mean((score - plain) ** 2) / plain.var() for score in shuffled])
    aucs = np.array(aucs)
    losses = aucs[:, :1] - aucs[:, 1:]
    return {
        "auc": float(aucs[:, 0].mean()),
        "auc_err": float(_standard_error(aucs[:, 0])),
        "features": [
            {
                "auc_loss": float(losses[:, column].mean()),
                "auc_loss_err": float(_standard_error(losses[:, column])),
                "score_change": float(np.sqrt(np.mean(changes, axis=0)[column])),
            }
            for column in range(losses.shape[1])
        ],
    }


def _score_again(kind, models, tables):
    classifier = CLASSIFIERS[kind]().from_bytes(models)
    return [classifier.score(table).mean(axis=1, dtype=float) for table in tables]


def _standard_error(values):
    return np.std(values, ddof=1) / np.sqrt(len(values))


def pack(models, manifest):
    """A zip of the models and a manifest.json, as bytes; the same models give the same bytes.

    models: {fold: [bytes]}. manifest: dict with "classifier", "features" and whatever else is worth keeping.
    """
    suffix = CLASSIFIERS[manifest["classifier"]].suffix
    content = {"manifest.json": (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()}
    for fold, members in sorted(models.items()):
        content |= {f"fold{fold}/member{index:04d}.{suffix}": model for index, model in enumerate(members)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in content.items():
            entry = zipfile.ZipInfo(name)  # its date stays at 1980-01-01
            archive.writestr(entry, value, zipfile.ZIP_DEFLATED, compresslevel=1)
    return buffer.getvalue()


def unpack(path):
    """(manifest, [classifier of each fold]) of a zip that `pack` made; path: file or file-like object."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            members = [name for name in sorted(archive.namelist()) if name.startswith("fold")]
            by_fold = {}
            for name in members:
                by_fold.setdefault(int(name.split("/")[0].removeprefix("fold")), []).append(archive.read(name))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not an archive of classifiers ({error}); run 05_train_bdts.py again") from error
    kind = CLASSIFIERS[manifest["classifier"]]
    return manifest, [kind().from_bytes(by_fold[fold]) for fold in sorted(by_fold)]
