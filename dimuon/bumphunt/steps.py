"""Steps 3 to 6 of the analysis, each once: the scripts call these functions, and so does every study.

Arrays of events in, records and tables out; only `read_model` knows where a file lies. Every function takes the
`Stream` of the whole analysis and names its own part of it, so the same events, settings and stream give the same
outcome to the last bit, wherever the step is done.
"""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from dimuon.arrays import BoolArray, FloatArray
from dimuon.background import closure, mass_model, protocol, saved
from dimuon.background.closure import ClosureRecord
from dimuon.background.held_out import HeldOut
from dimuon.background.mass_model import Sampled
from dimuon.background.protocol import BackgroundModel, Checkpoint
from dimuon.background.scaler import LogitScaler, Preparation
from dimuon.bumphunt import cut_and_count, excess
from dimuon.bumphunt.cut_and_count import Reweighting
from dimuon.bumphunt.excess import Scored, WhatWasFound
from dimuon.bumphunt.result import Headline, ScanPoint, Statistic, TestResult
from dimuon.classifiers import cross_validation, importance
from dimuon.classifiers.cross_validation import Ensemble, Scores
from dimuon.classifiers.importance import Importance
from dimuon.data.samples import Sample
from dimuon.errors import AnalysisError, UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.statistics import model_choice, reweighted_null, sculpting, significance
from dimuon.statistics.settings import Toys
from dimuon.statistics.working_points import CutVariable, rates
from dimuon.workflow import products
from dimuon.workflow.config import Config
from dimuon.workflow.products import Product
from dimuon.workflow.provenance import Run

KNOWS_THE_MASS = 0.2  # distance correlation with the mass in the sidebands
N_PERMUTATIONS = 20  # their p-value is not asked for
MANY_ALIKE = 0.05  # share of events with one and the same value of a feature that is taken for continuous
RESOLVED = (
    0.5  # width of 90 % of the events on the transformed axis, below which a feature is one place and few outliers
)
SINGLE = 100 * float(np.finfo(np.float32).eps)  # relative spread that single precision shows in a hundred steps
NO_TOYS = Toys(local=0, scan=0, weights=0)


# what the steps read from the files of those before


def read_model(run: Run, charge: str) -> BackgroundModel:
    """The background model that step 3 trained; `UserError` where it has not, or with other settings."""
    path = run.require(run.path(products.FLOWS, charge=charge))
    try:
        return saved.from_bytes(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: {error}; run 03_train_flows.py again") from error


# step 3: the features' density given the mass, learned in the sidebands


def scaler_of(config: Config, events: Mapping[str, Events]) -> LogitScaler:
    """The feature transform of all charges: fitted to the OS events alone, where there are any."""
    fitted_to = events["os"] if "os" in events else next(iter(events.values()))
    return preparation_of(config, fitted_to).scaler(fitted_to, ~config.window.in_sr(fitted_to.mass))


def preparation_of(config: Config, events: Events) -> Preparation:
    """How the features are prepared, as declared and, where nothing is, as the values of the events are."""
    complete = {name: config.dataset.feature(name).completed(values) for name, values in events.columns.items()}
    return Preparation(
        limits_from_sidebands=config.features.limits_from == "sidebands",
        discrete=frozenset(name for name, feature in complete.items() if feature.discrete),
        bounds={name: feature.bounds for name, feature in complete.items() if feature.bounds != (None, None)},
    )


def require_enough(config: Config, events: Events) -> None:
    """`AnalysisError` where a later step could not do its work with so few events: said before anything is trained."""
    bins, n_sr = config.window.binning(config.background.n_bins_sr), int(config.window.in_sr(events.mass).sum())
    if n_sr < (n_least := cross_validation.least_events(config.bdt.folds)):
        raise AnalysisError(
            f"{n_sr} events in the SR for {config.bdt.folds} folds: at least {n_least} are needed; widen the window, "
            "loosen the selection or lower bdt.folds"
        )
    counts = bins.counts(events.mass)
    sidebands = {"low": counts[: bins.n_bins_sbl], "high": counts[bins.n_bins_sbl + bins.n_bins_sr :]}
    for name, in_bins in sidebands.items():
        if not in_bins.any():
            raise AnalysisError(
                f"no event in the {len(in_bins)} whole bins of the {name} sideband, so nothing holds the fit there; "
                "widen the window, or take more bins (background.n_bins_sr)"
            )


def feature_doubts(config: Config, charge: str, events: Events, scaler: LogitScaler, stream: Stream) -> list[str]:
    """What to know of the features before anything is trained on them, one sentence each.

    What was chosen from the data because it was not declared; a feature that knows the mass in the sidebands; values
    that many events share, where a density makes no sense; nearly all events in one place, which nothing resolves.
    scaler: how the features are prepared.
    """
    in_sidebands, data = ~config.window.in_sr(events.mass), config.dataset
    own = stream.child("feature doubts", charge)
    resolvable = events.features[in_sidebands & ~scaler.outside(events.features)]
    prepared = dict(zip(events.names, scaler.transform(resolvable).T, strict=True))
    sentences = []
    for name, values in events.columns.items():
        declared, sidebands = data.feature(name), values[in_sidebands]
        feature = declared.completed(values)
        if not declared.is_complete:
            kind = "discrete" if feature.discrete else "on a logarithmic axis" if feature.log else "on a linear axis"
            sentences.append(
                f"{name}: drawn from {feature.low:.4g} to {feature.high:.4g} {feature.unit}, {kind}; the signal is "
                f"taken to lie {feature.signal_side} a cut; features.define can say otherwise"
            )
        rng = own.child(name).generator()
        known = sculpting.distance_correlation(events.mass[in_sidebands], sidebands, rng, N_PERMUTATIONS).value
        if known > KNOWS_THE_MASS:
            sentences.append(
                f"WARNING: {name} knows the mass: their distance correlation in the sidebands is {known:.2f} (above "
                f"{KNOWS_THE_MASS:g} is said); a classifier that sees it can shape the spectrum"
            )
        alike, counts = np.unique(sidebands, return_counts=True)
        share = counts.max() / len(sidebands)
        if not feature.discrete and share > MANY_ALIKE:
            sentences.append(
                f"WARNING: {name} is {alike[counts.argmax()]:g} in {100 * share:.0f} % of the sideband events, where a "
                "density makes no sense; declare it discrete, or leave it out"
            )
        if not feature.discrete and (where := _one_place(sidebands, prepared[name])):
            place = "input.table" if config.input.table is not None else "selection"
            formula = f" as log({name}) (input.table.columns)" if config.input.table is not None else ""
            sentences.append(
                f"WARNING: {name}: {where}; little can be learned from it: train on it{formula or ' on another scale'}"
                f", cut far values away ({place}.cuts), or leave it out"
            )
    return sentences


def _one_place(values: FloatArray, prepared: FloatArray) -> str | None:
    """Where nearly all values of a feature are taken for one, in words; None where they are told apart.

    values, prepared: (n_events,), in physical units and as the estimators get them.
    """
    width = np.subtract(*np.quantile(prepared, [0.95, 0.05]))
    if width < RESOLVED:
        return (
            f"90 % of the sideband events lie within {width:.2g} standard deviations of the transformed axis (of a "
            f"Gaussian 3.3), which the values from {values.min():.4g} to {values.max():.4g} span"
        )
    spread, size = np.subtract(*np.quantile(values, [0.75, 0.25])), np.abs(np.median(values))
    if spread < SINGLE * size:
        return (
            f"half of the sideband events lie within {spread:.2g} around {np.median(values):.8g}, which the single "
            "precision of the classifiers hardly tells apart"
        )
    return None


def train_background(
    config: Config,
    charge: str,
    events: Events,
    scaler: LogitScaler,
    stream: Stream,
    pool: Executor | None = None,
    checkpoint: Checkpoint | None = None,
) -> BackgroundModel:
    """Step 3: the background model, trained on the sidebands of the events (and see `protocol.trained`)."""
    estimator, own = config.estimator.estimator(scaler), stream.child("flows", charge).rooted()
    return protocol.trained(estimator, events, config.window, own, pool=pool, checkpoint=checkpoint)


def capacity(charge: str, events: Events, config: Config, model: BackgroundModel) -> str:
    """Whether the sidebands hold enough events for a trained model, in a sentence."""
    n_events = int((~config.window.in_sr(events.mass)).sum())
    sentence = f"{charge}: {n_events:,} sideband events for {model.n_parameters:,} parameters of each member"
    if n_events < model.n_parameters:
        sentence += "; the state of the lowest validation loss is all that guards against overtraining"
    return sentence


# step 4: background in the SR, sampled, and how well it closes in the sidebands


def fit_masses(config: Config, events: Events) -> significance.SidebandFit:
    """Step 4: the fit to the sideband masses, from which the masses in the SR are sampled."""
    settings = config.background
    return significance.fit_sidebands(events.mass, config.window, n_bins_sr=settings.n_bins_sr, degree=settings.degree)


def sample_background(
    config: Config, charge: str, fit: significance.SidebandFit, model: BackgroundModel, stream: Stream
) -> Sampled:
    """Step 4: sampled SR background. fit: of `fit_masses`."""
    own = stream.child("background", charge).rooted()
    return mass_model.sample_signal_region(model, fit, config.window, config.background.oversampling, own)


@dataclass(frozen=True, eq=False)
class Closure:
    """How well the model agrees with the real sidebands.

    sampled: events at the masses of the real ones, several at each, as `sample_background` gives them. histograms: of
    both, feature by feature (`closure.histograms`). sidebands: the comparison by place. half_split, shifted_windows:
    those with models that did not see the events, where asked for.
    """

    sampled: Sampled
    histograms: pd.DataFrame
    sidebands: dict[str, ClosureRecord]
    half_split: dict[str, ClosureRecord]
    shifted_windows: dict[str, ClosureRecord]

    def to_json(self) -> dict[str, Any]:
        """{test: {place: record}} of the tests that were made."""
        tests = {"sidebands": self.sidebands, "half_split": self.half_split, "shifted_windows": self.shifted_windows}
        return {
            name: {place: record.to_json() for place, record in places.items()}
            for name, places in tests.items()
            if places
        }


def close(
    config: Config, charge: str, events: Events, model: BackgroundModel, stream: Stream, pool: Executor
) -> Closure:
    """Step 4: the `Closure` in the sidebands, with the checks of held-out events that the settings ask for."""
    window, settings = config.window, config.background
    sidebands = events[window.in_sidebands(events.mass)]
    copies = max(1, round(settings.oversampling))
    own = stream.child("background", charge).rooted()
    at_real = own.child("closure").rooted()
    held_out = HeldOut(config.estimator.estimator, preparation_of(config, events), sidebands, window, copies, pool)
    for low, high in settings.shifted_windows:
        held_out.require_window(low, high)
    sampled = mass_model.sample_at(model, sidebands.mass, copies, at_real)
    by_place = closure.in_sidebands(sidebands, sampled.events, window, at_real, pool)
    half_split = held_out.half_split(own.child("half split").rooted()) if settings.half_split else {}
    shifted = {config.mass_axis.between(low, high): (low, high) for low, high in settings.shifted_windows}
    windows = {
        place: held_out.shifted_window(low, high, own.child(place).rooted()) for place, (low, high) in shifted.items()
    }
    histograms = closure.histograms(sidebands, sampled.events, window, _histogram_edges(config, sidebands))
    return Closure(sampled, histograms, by_place, half_split, windows)


def _histogram_edges(config: Config, events: Events) -> dict[str, FloatArray]:
    """{feature: edges} of the closure's histograms: every value of a discrete feature, else two bins to one."""
    features = {name: config.dataset.feature(name).completed(values) for name, values in events.columns.items()}
    return {name: feature.edges if feature.discrete else feature.edges[::2] for name, feature in features.items()}


# step 5: classifiers that tell data from sampled background


def classify(
    config: Config,
    charge: str,
    events: Events,
    background: Events,
    stream: Stream,
    pool: Executor,
    others: Mapping[str, Events] | None = None,
    whole: bool = True,
) -> Ensemble:
    """Step 5: the classifiers of one charge, and the score of every event by models that never saw it.

    background: sampled SR events. others: events of other charges, scored by every model. whole: as of
    `cross_validation.train`.
    """
    return cross_validation.train(
        events,
        config.window.in_sr(events.mass),
        background,
        settings=config.bdt.classifier,
        n_members=config.bdt.members,
        n_folds=config.bdt.folds,
        stream=stream.child("bdt", charge),
        pool=pool,
        others=others or {},
        whole=whole,
    )


def weigh_features(
    config: Config,
    charge: str,
    ensemble: Ensemble,
    events: Events,
    background: Events,
    stream: Stream,
    pool: Executor,
) -> Importance:
    """Step 5: what each feature is worth to the classifiers, by permutation."""
    in_sr = config.window.in_sr(events.mass)
    return importance.importance(ensemble, events, in_sr, background, stream=stream.child("bdt", charge), pool=pool)


def check_sculpting(
    config: Config,
    train: str,
    test: str,
    events: Events,
    scores: Scores,
    stream: Stream,
    background: tuple[Events, FloatArray] | None = None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Step 5: how a score and its cuts depend on the mass, in the bins of the background fit: `sculpting.report`.

    background: the sampled SR events that the classifiers were trained against, and their scores, or None.
    """
    bins, degree = config.window.binning(config.background.n_bins_sr), config.background.degree
    rng = stream.child("sculpting", train, test).generator()
    if background is None:
        return sculpting.report(events.mass, scores.mean, rates(), bins, degree, rng)
    sampled, of_sampled = background
    compared = (sampled.mass, of_sampled)
    return sculpting.report(events.mass, scores.mean, rates(), bins, degree, rng, compared, sampled.weight)


# step 6: how significant is the excess in the SR?


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What step 6 says of one scored sample.

    curves: of `cut_and_count.cut_and_count`. found: the headline numbers. score: (n_events,), mean of the classifiers.
    tables: {product: DataFrame} for the figures, where they were asked for. weights: (n_events,) of the likelihood,
    None where they are not defined. searched: of the events handed to `search`, those that were searched; (n_events,)
    are their number.
    """

    curves: pd.DataFrame
    found: TestResult
    score: FloatArray
    tables: Mapping[Product, pd.DataFrame] = field(default_factory=dict)
    weights: FloatArray | None = None
    searched: BoolArray | slice = field(default_factory=lambda: slice(None))

    @property
    def summary(self) -> dict[str, Any]:
        """The headline numbers as in `significance.json`."""
        return self.found.to_json()

    def headlines(self) -> list[Headline]:
        """The significances as rows of a table: the classifier at every working point, then the headline numbers."""
        points = self.curves[self.curves["variable"] == Statistic.WORKING_POINT]
        return [Headline.of(Statistic.WORKING_POINT, ScanPoint.of(row)) for _, row in points.iterrows()] + (
            self.found.headlines()
        )


def measure(
    config: Config, sample: Sample, stream: Stream, toys: Toys = NO_TOYS, for_figures: bool = False
) -> SearchResult:
    """Step 6: cut and count at every working point, and the likelihood reweighting, on one scored sample.

    toys: numbers of pseudo-data. for_figures: with the tables behind the figures, and the flags of sculpting.
    """
    settings, mass = config.significance, sample.mass
    model = model_choice.model_of(settings, config.window)
    own, fprs = stream.child(sample.name), rates(settings.n_working_points, settings.fpr_min)
    rng = own.child("random cut").generator()
    variables = cut_and_count.cut_variables(sample.score, sample.features, rng, sample.members, config.dataset)
    curves, spectra = cut_and_count.cut_and_count(mass, variables, fprs, model)
    curves = cut_and_count.add_toys(curves, spectra, model, toys.local, own.child("toys").generator())
    if for_figures:
        rng = own.child("sculpting").generator()
        curves = cut_and_count.add_sculpting(curves, mass, variables, fprs, model.bins, settings.degree, rng)
    weighted = cut_and_count.reweighting(
        mass, sample.score, model, sample.weight, pooled=settings.weight_scales == "pooled"
    )
    cuts = cut_and_count.cut_result(curves, spectra, model, toys, own)
    if sample.train == sample.test:
        rng = own.child("feature scan toys").generator()
        cuts = replace(cuts, global_feature=cut_and_count.feature_trials(curves, spectra, model, toys.scan, rng))
    likelihood = cut_and_count.likelihood_result(weighted, mass, model, toys, own)
    if toys.weights and sample.weight is None and likelihood.likelihood_pooled is not None:
        z0, background = likelihood.likelihood_pooled.z0, sample.score[config.window.in_sidebands(mass)]
        calibrated = reweighted_null.calibrated(z0, background, cuts.no_cut.n_bkg, cuts.no_cut.n_bkg_err)
        likelihood = replace(likelihood, likelihood_calibrated=calibrated)
    found = TestResult.of(sample.train, sample.test, len(mass), cuts, likelihood)
    tables = _figure_tables(config, sample, curves, variables[0], weighted) if for_figures else {}
    return SearchResult(curves, found, sample.score, tables, weighted.weights)


def describe(
    config: Config,
    sample: Sample,
    result: SearchResult,
    table: pd.DataFrame,
) -> WhatWasFound:
    """Step 6: the events behind an excess, the columns in which they differ, and the peaks that they make.

    result: of `measure` on the same sample. table: all columns of its events, with their row.
    """
    sampled, of_sampled = sample.sampled or (None, None)
    scored = Scored(sample.mass, sample.score, result.weights, table, sampled, of_sampled)
    model, trained = model_choice.model_of(config.significance, config.window), config.features.names
    return excess.describe(scored, result.found, model, config.significance.peaks, trained, config.mass_axis.column)


def _figure_tables(
    config: Config, sample: Sample, curves: pd.DataFrame, classifier: CutVariable, weighted: Reweighting
) -> dict[Product, pd.DataFrame]:
    """What step 7 draws of one sample, by product."""
    settings, mass, shown = config.significance, sample.mass, config.significance.figure_fprs
    model = model_choice.model_of(settings, config.window)
    fprs = rates(settings.n_working_points, settings.fpr_min)
    others = cut_and_count.variations(mass, [classifier], fprs, model, settings.degrees, settings.binnings)
    points = cut_and_count.figure_points(mass, classifier, shown, model, weighted)
    features = cut_and_count.feature_histograms(
        mass, sample.features, classifier, shown, config.window, sample.before, config.dataset
    )
    if features is not None:
        features = cut_and_count.add_sampled(features, sample.sampled, points)
    tables = {
        products.CURVES: cut_and_count.marked(curves, others).drop(columns="z_signed"),
        products.MASS_HISTOGRAMS: cut_and_count.mass_histograms(mass, classifier, shown, model, weighted),
        products.MASS_POINTS: points,
        products.CONFORMAL: cut_and_count.conformal_points(mass, classifier, fprs, config.window),
        products.EFFICIENCIES: cut_and_count.efficiencies(mass, classifier, shown, model.bins, curves),
        products.FEATURE_HISTOGRAMS: features,
    }
    labels = {"train": sample.train, "test": sample.test}
    return {product: table.assign(**labels) for product, table in tables.items() if table is not None}


# steps 4 to 6 on one sample


def search(
    config: Config, charge: str, events: Events, model: BackgroundModel, stream: Stream, pool: Executor
) -> SearchResult:
    """Steps 4 to 6 in memory, without toys: on the same events the outcome is that of the scripts, to the last bit."""
    sampled = sample_background(config, charge, fit_masses(config, events), model, stream)
    scores = classify(config, charge, events, sampled.events, stream, pool, whole=False).data
    return measure_scored(config, charge, events, scores, stream)


def measure_scored(config: Config, charge: str, events: Events, scores: Scores, stream: Stream) -> SearchResult:
    """Step 6 without toys on events as step 5 scored them, combined and restricted as the settings say."""
    members = scores.members if config.bdt.combination == "median" else None
    searched = config.bdt.searches(scores.fold)
    sample = Sample(charge, charge, events, scores.mean, members=members).only(searched)
    return replace(measure(config, sample, stream), searched=searched)


def headline(result: SearchResult) -> list[dict[str, Any]]:
    """`SearchResult.headlines` as JSON values."""
    return [row.to_json() for row in result.headlines()]
