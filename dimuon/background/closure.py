"""Does the sampled background look like the data? Kolmogorov-Smirnov distances and a classifier, in the sidebands.

Sampled events carry the masses of real ones, several each, so that only p(features | mass) is tested. One classifier
sees the features, as that of the search does; a second one sees the mass too and may find what is right on average and
wrong at some masses.
"""

import numpy as np
import xgboost as xgb
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from dimuon.workflow.executor import generator, integer_seed

N_FOLDS = 5
MIN_EVENTS = 50  # fewer real events say nothing; such a slice is left out by name
TREES = {
    "max_depth": 3,
    "learning_rate": 0.1,
    "subsample": 0.7,
    "n_estimators": 300,
    "early_stopping_rounds": 10,
}


def compare(real, sampled, mass, names, seed):
    """How far sampled events are from real ones, as a record ready for JSON.

    real: (n_events, n_features); sampled: (n_copies, n_events, n_features), at the same masses; mass: (n_events,),
    GeV. names: of the features. Returns n_real, n_sampled, ks {name: {distance, p_value}}, auc and auc_err of the
    features alone, auc_with_mass and auc_with_mass_err.
    """
    ks = {}
    for index, name in enumerate(names):
        test = ks_2samp(real[:, index], sampled[..., index].ravel(), method="asymp")
        ks[name] = {"distance": float(test.statistic), "p_value": float(test.pvalue)}
    n_sampled = sampled.shape[0] * sampled.shape[1]
    record = {"n_real": len(real), "n_sampled": n_sampled, "ks": ks}
    record["auc"], record["auc_err"] = classifier_auc(real, sampled, seed)
    record["auc_with_mass"], record["auc_with_mass_err"] = classifier_auc(real, sampled, seed, mass)
    return record


def classifier_auc(real, sampled, seed, mass=None):
    """(AUC, its standard error) of boosted trees that tell real from sampled events; 0.5 is perfect closure.

    Five folds: three train, one stops the training, one is tested; the AUC is the mean over the tested folds, the
    error theirs over sqrt(5). A real event and the samples at its mass share a fold, so that equal masses give
    nothing away. mass: a further input of the classifier, None: left out. Arguments as for `compare`.
    """
    n_copies, n_events = sampled.shape[:2]
    x = np.concatenate([real, sampled.reshape(-1, real.shape[1])])
    if mass is not None:
        x = np.column_stack([x, np.tile(mass, n_copies + 1)])
    is_real = np.repeat([1, 0], [n_events, n_copies * n_events])
    weight = np.where(is_real == 1, n_copies, 1.0)
    fold = np.tile(generator(seed, "folds").permutation(n_events) % N_FOLDS, n_copies + 1)
    aucs = []
    for test in range(N_FOLDS):
        stop = (test + 1) % N_FOLDS
        train, stopping, tested = (fold != test) & (fold != stop), fold == stop, fold == test
        trees = xgb.XGBClassifier(
            **TREES,
            tree_method="hist",
            n_jobs=1,
            eval_metric="logloss",
            random_state=integer_seed(seed, "trees", test),
        )
        evaluation = [(x[stopping], is_real[stopping])]
        trees.fit(
            x[train], is_real[train], sample_weight=weight[train],
            eval_set=evaluation, sample_weight_eval_set=[weight[stopping]], verbose=False,
        )  # fmt: skip
        aucs.append(roc_auc_score(is_real[tested], trees.predict_proba(x[tested])[:, 1]))
    return float(np.mean(aucs)), float(np.std(aucs, ddof=1) / np.sqrt(N_FOLDS))


def in_sidebands(real, sampled, mass, window, names, seed, pool, n_slices=3):
    """`compare` over both sidebands, each sideband, and slices of equal numbers of events in each: {place: record}.

    Arguments as for `compare`, for sideband events. pool: `concurrent.futures.Executor`. Every record also says its
    mass range [GeV].
    """
    low, high = window.in_sbl(mass), window.in_sbh(mass)
    places = {"sidebands": low | high, "SBL": low, "SBH": high}
    for name, region in (("SBL", low), ("SBH", high)):
        edges = np.quantile(mass[region], np.linspace(0, 1, n_slices + 1))
        slices = np.clip(np.searchsorted(edges, mass, side="right") - 1, 0, n_slices - 1)
        places |= {f"{name} {index + 1}/{n_slices}": region & (slices == index) for index in range(n_slices)}
    pending = {
        place: pool.submit(compare, real[chosen], sampled[:, chosen], mass[chosen], names, integer_seed(seed, place))
        for place, chosen in places.items()
        if chosen.sum() >= MIN_EVENTS
    }
    records = {}
    for place, chosen in places.items():
        if place not in pending:
            records[place] = {"n_real": int(chosen.sum()), "reason": f"fewer than {MIN_EVENTS} events"}
            continue
        mass_range = {"mass_low": float(mass[chosen].min()), "mass_high": float(mass[chosen].max())}
        records[place] = mass_range | pending[place].result()
    return records
