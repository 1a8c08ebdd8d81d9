"""Does the sampled background look like the data? Kolmogorov-Smirnov distances and a classifier, in the sidebands.

Sampled events carry the masses of real ones, several each, so that only p(features | mass) is tested. One classifier
sees the features, as that of the search does; a second one sees the mass too and may find what is right on average and
wrong at some masses. Sampled events count by their weights.
"""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, kstwobign, nbinom

from dimuon.arrays import BoolArray, FloatArray
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.records import Record
from dimuon.regions import MassWindow

N_FOLDS = 5
WORKER_MODULES = (__name__, "xgboost", "sklearn.metrics")  # for workers to import once, before they start
MOST_COMPARED = 100_000  # real events of a place: its AUC is known to 0.001 then, and more take gigabytes and minutes
MIN_EVENTS = 50  # fewer real events say nothing; such a slice is left out by name
KS_TAIL = 0.05
SPREADS = ("low_95", "low_68", "high_68", "high_95")
SPREAD_QUANTILES = (0.025, 0.16, 0.84, 0.975)
TREES = {
    "max_depth": 3,
    "learning_rate": 0.1,
    "subsample": 0.7,
    "n_estimators": 300,
    "early_stopping_rounds": 10,
}


@dataclass(frozen=True)
class ClosureRecord(Record):
    """How far sampled events are from real ones, at one place in mass.

    n_train: real events that the estimator was trained on, where they are not those compared. log_likelihood: their
    mean, nats per event in inverse physical units, where the estimator has a density. mass_low, mass_high: of the
    place, GeV. ks: {feature: {distance, p_value}}. auc: of a classifier that sees the features alone. reason: why
    there is no value.
    """

    n_real: int
    n_train: int | None = None
    mass_low: float | None = None
    mass_high: float | None = None
    n_sampled: int | None = None
    log_likelihood: float | None = None
    ks: dict[str, dict[str, float]] | None = None
    auc: float | None = None
    auc_err: float | None = None
    auc_with_mass: float | None = None
    auc_with_mass_err: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """{field: value} of those that have one; where the events come from before what they say."""
        order = ("n_train", "mass_low", "mass_high")
        content = super().to_json()
        return {
            name: content[name]
            for name in (*order, *(name for name in content if name not in order))
            if content[name] is not None
        }


def compare(real: Events, sampled: Events, stream: Stream) -> ClosureRecord:
    """How far sampled events are from real ones. sampled: copy after copy at the masses of the real ones."""
    ks = {}
    for name, values in real.columns.items():
        distance, p_value = _kolmogorov_smirnov(values, sampled.columns[name], sampled.weight)
        level = ks_level(len(real), effective_size(sampled.weight))
        ks[name] = {"distance": distance, "p_value": p_value, "level": level}
    auc, auc_err = classifier_auc(real, sampled, stream)
    auc_with_mass, auc_with_mass_err = classifier_auc(real, sampled, stream, with_mass=True)
    return ClosureRecord(
        n_real=len(real),
        n_sampled=len(sampled),
        ks=ks,
        auc=auc,
        auc_err=auc_err,
        auc_with_mass=auc_with_mass,
        auc_with_mass_err=auc_with_mass_err,
    )


def classifier_auc(real: Events, sampled: Events, stream: Stream, with_mass: bool = False) -> tuple[float, float]:
    """(AUC, its standard error) of boosted trees that tell real from sampled events; 0.5 is perfect closure.

    Five folds: three train, one stops the training, one is tested; the AUC is the mean over the tested folds, the
    error theirs over sqrt(5). A real event and the samples at its mass share a fold, so that equal masses give
    nothing away. sampled: copy after copy at the masses of the real ones. with_mass: the classifier sees it, too.
    """
    import xgboost as xgb  # here and not above: steps that compare nothing need not wait for it
    from sklearn.metrics import roc_auc_score

    n_events, n_copies = len(real), len(sampled) // len(real)
    x = np.concatenate([real.features, sampled.features])
    if with_mass:
        x = np.column_stack([x, np.tile(real.mass, n_copies + 1)])
    is_real = np.repeat([1, 0], [n_events, n_copies * n_events])
    counted = np.concatenate([real.weight, sampled.weight])
    weight = np.where(is_real == 1, n_copies, 1.0) * counted
    fold = np.tile(stream.child("folds").generator().permutation(n_events) % N_FOLDS, n_copies + 1)
    aucs = []
    for test in range(N_FOLDS):
        stop = (test + 1) % N_FOLDS
        train, stopping, tested = (fold != test) & (fold != stop), fold == stop, fold == test
        trees = xgb.XGBClassifier(
            **TREES,
            tree_method="hist",
            n_jobs=1,
            eval_metric="logloss",
            random_state=stream.child("trees", test).integer(),
        )
        trees.fit(
            x[train],
            is_real[train],
            sample_weight=weight[train],
            eval_set=[(x[stopping], is_real[stopping])],
            sample_weight_eval_set=[weight[stopping]],
            verbose=False,
        )
        scores = trees.predict_proba(x[tested])[:, 1]
        aucs.append(roc_auc_score(is_real[tested], scores, sample_weight=_unless_equal(counted[tested])))
    return float(np.mean(aucs)), float(np.std(aucs, ddof=1) / np.sqrt(N_FOLDS))


def in_sidebands(
    real: Events, sampled: Events, window: MassWindow, stream: Stream, pool: Executor, n_slices: int = 3
) -> dict[str, ClosureRecord]:
    """`compare` over both sidebands, each sideband, and slices of equal numbers of events in each: {place: record}.

    real, sampled: of the sidebands, as for `compare`. Of a place with more than `MOST_COMPARED` events so many are
    compared, at random.
    """
    mass, n_copies = real.mass, len(sampled) // len(real)
    low, high = window.in_sbl(mass), window.in_sbh(mass)
    places = {"sidebands": low | high, "SBL": low, "SBH": high}
    for name, region in (("SBL", low), ("SBH", high)):
        edges = np.quantile(mass[region], np.linspace(0, 1, n_slices + 1))
        slices = np.clip(np.searchsorted(edges, mass, side="right") - 1, 0, n_slices - 1)
        places |= {f"{name} {index + 1}/{n_slices}": region & (slices == index) for index in range(n_slices)}
    compared = {
        place: at_most(MOST_COMPARED, chosen, stream.child(place, "compared")) for place, chosen in places.items()
    }
    pending = {
        place: pool.submit(compare, real[chosen], sampled[np.tile(chosen, n_copies)], stream.child(place).rooted())
        for place, chosen in compared.items()
        if chosen.sum() >= MIN_EVENTS
    }
    records = {}
    for place, chosen in places.items():
        if place not in pending:
            records[place] = ClosureRecord(int(chosen.sum()), reason=f"fewer than {MIN_EVENTS} events")
            continue
        mass_low, mass_high = float(mass[chosen].min()), float(mass[chosen].max())
        records[place] = replace(pending[place].result(), mass_low=mass_low, mass_high=mass_high)
    return records


def at_most(n: int, chosen: BoolArray, stream: Stream) -> BoolArray:
    """Which events are chosen, or at random so many of them. chosen: (n_events,)."""
    places = np.flatnonzero(chosen)
    if len(places) <= n:
        return chosen
    kept = np.zeros(len(chosen), dtype=bool)
    kept[stream.generator().choice(places, n, replace=False)] = True
    return kept


def _kolmogorov_smirnov(real: FloatArray, sampled: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """(distance, p-value) of two samples, the second one weighted; asymptotic.

    Weighted events count as (sum w)^2 / sum w^2 of them in the p-value.
    """
    if _unless_equal(weight) is None:
        test = ks_2samp(real, sampled, method="asymp")
        return float(test.statistic), float(test.pvalue)
    order = np.argsort(sampled)
    cumulative = np.concatenate([[0.0], np.cumsum(weight[order])]) / weight.sum()
    real, sampled = np.sort(real), sampled[order]
    values = np.concatenate([real, sampled])
    of_real = np.searchsorted(real, values, side="right") / len(real)
    distance = float(np.abs(of_real - cumulative[np.searchsorted(sampled, values, side="right")]).max())
    return distance, float(kstwobign.sf(distance * np.sqrt(_pooled(len(real), effective_size(weight)))))


def effective_size(weight: FloatArray) -> float:
    """The number of unweighted events that weighted ones are worth: (sum w)^2 / sum w^2. weight: (n_events,)."""
    return float(weight.sum() ** 2 / np.square(weight).sum())


def ks_level(n: float, m: float) -> float:
    """The distance that two samples of n and m events of one distribution exceed once in 20 times; asymptotic.

    >>> f"{ks_level(1000, 1000):.4f}"  # 1.358 sqrt(2 / 1000), as in every table
    '0.0607'
    """
    return float(kstwobign.isf(KS_TAIL) / np.sqrt(_pooled(n, m)))


def _pooled(n: float, m: float) -> float:
    return n * m / (n + m)


def histograms(real: Events, sampled: Events, window: MassWindow, edges: Mapping[str, FloatArray]) -> pd.DataFrame:
    """Real and sampled events of each sideband in bins of every feature, and how far the real ones may be away.

    real, sampled: of the sidebands, as for `compare`. edges: {feature: (n_bins + 1,)}. Columns: region, feature,
    bin_low, bin_high, n_real, n_sampled, n_sampled_err (scaled to the number of real events of the region), and
    `SPREADS`: ends of the central intervals of the real count where both are of one distribution. The count is
    Poisson, and its mean known as well as the sampled events tell it (a gamma distribution of their mean and error),
    so that it is negative binomial. Missing where nothing was sampled.
    """
    frames = []
    for region, inside in (("SBL", window.in_sbl), ("SBH", window.in_sbh)):
        in_real, in_sampled = inside(real.mass), inside(sampled.mass)
        if not in_real.any() or not in_sampled.any():
            continue
        weight = sampled.weight[in_sampled]
        scale = real.weight[in_real].sum() / weight.sum()
        for name, ends in edges.items():
            counts = np.histogram(real.columns[name][in_real], ends, weights=real.weight[in_real])[0]
            values = sampled.columns[name][in_sampled]
            expected = scale * np.histogram(values, ends, weights=weight)[0]
            error = scale * np.sqrt(np.histogram(values, ends, weights=weight**2)[0])
            labels = {"region": region, "feature": name, "bin_low": ends[:-1], "bin_high": ends[1:]}
            numbers = {"n_real": counts.astype(float), "n_sampled": expected, "n_sampled_err": error}
            frames.append(pd.DataFrame(labels | numbers | spread(expected, error)))
    columns = ["region", "feature", "bin_low", "bin_high", "n_real", "n_sampled", "n_sampled_err", *SPREADS]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def spread(expected: FloatArray, error: FloatArray) -> dict[str, FloatArray]:
    """The `SPREADS` of Poisson counts whose mean is known with an error: (n,) each. NaN where nothing is expected."""
    known = (expected > 0) & (error > 0)
    mean, variance = np.where(known, expected, 1.0), np.where(known, np.square(error), 1.0)
    number, chance = mean**2 / variance, mean / (mean + variance)
    return {
        name: np.where(known, nbinom.ppf(quantile, number, chance), np.nan)
        for name, quantile in zip(SPREADS, SPREAD_QUANTILES, strict=True)
    }


def _unless_equal(weight: FloatArray) -> FloatArray | None:
    """The weights, None where all are 1: unweighted events keep to the exact arithmetic of counts."""
    return None if (weight == 1).all() else weight
