"""Steps 3 to 6 in memory: arrays of dimuons in, significances out, with the seeds of the scripts.

The scripts of steps 3 and 4 call these functions themselves. The studies repeat the analysis hundreds of times with
something changed; here it is without files. On the same events and configuration the outcome is that of the scripts,
to the last bit.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from dimuon import events as events_module
from dimuon.background.conditional import ConditionalBackground, fit_scaler, sample_signal_region
from dimuon.background.flow_ensemble import FlowEnsemble, make_estimator
from dimuon.bumphunt import cut_and_count
from dimuon.classifiers import cross_validation
from dimuon.data import dimuons
from dimuon.errors import UserError
from dimuon.random import Stream
from dimuon.statistics import model_choice, significance
from dimuon.statistics.working_points import rates
from dimuon.workflow import products
from dimuon.workflow.config import Toys
from dimuon.workflow.executor import generator, integer_seed

HEADLINES = ("no_cut", "cathode_max", "best_feature", "likelihood", "likelihood_pooled")


@dataclass(frozen=True)
class Events:
    """Dimuons of one charge inside the mass window. mass: (n_events,), GeV. features: (n_events, n_features)."""

    mass: np.ndarray
    features: np.ndarray

    def __len__(self):
        return len(self.mass)

    def __add__(self, other):
        """These events followed by others."""
        return Events(np.concatenate([self.mass, other.mass]), np.concatenate([self.features, other.features]))

    def __getitem__(self, chosen):
        """The events that an index or a mask chooses."""
        return Events(self.mass[chosen], self.features[chosen])


@dataclass(frozen=True)
class Outcome:
    """What step 6 says of one sample.

    curves: of `bumphunt.cut_and_count`. summary: of `bumphunt.summary` and `bumphunt.summary_of_weights`. score:
    (n_events,), mean of the classifiers.
    """

    curves: pd.DataFrame
    summary: dict
    score: np.ndarray


def vary(config, changes):
    """The configuration with some settings changed. changes: {"section.key" or "key": value}."""
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if name:
            value = getattr(config, section).model_copy(update={name: value})
        config = config.model_copy(update={section: value})
    return config


def read_events(run, charge, names=None):
    """The `Events` of one charge, as step 3 reads them. names: of the features (None: the configuration's)."""
    names = names or run.config.features.names
    table = dimuons.read(run, charge, names)
    return Events(table["dimu_mass"].to_numpy(dtype=float), table[names].to_numpy(dtype=float))


def scaler_of(config, events):
    """The feature transform of all charges: fitted to the OS events alone, where there are any. events: {charge:
    `Events`}."""
    fitted_to = events["os"] if "os" in events else next(iter(events.values()))
    in_sidebands = ~config.window.in_sr(fitted_to.mass)
    limits_from_sidebands = config.features.limits_from == "sidebands"
    return fit_scaler(fitted_to.features, in_sidebands, config.features.names, limits_from_sidebands)


def train_flows(config, charge, events, scaler, pool=None, checkpoint=None):
    """Step 3: the `ConditionalBackground` of the events' sidebands. scaler: a fitted `LogitScaler`."""
    sidebands = events[~config.window.in_sr(events.mass)]
    seed = integer_seed(config.seed, "flows", charge)
    estimator = make_estimator(config.flow)
    return ConditionalBackground.train(estimator, scaler, sidebands.features, sidebands.mass, seed, pool, checkpoint)


def fit_masses(config, events):
    """Step 4a: the `SidebandFit` that feeds the sampled masses."""
    settings = config.background
    return significance.fit_sidebands(events.mass, config.window, n_bins_sr=settings.n_bins_sr, degree=settings.degree)


def flows_path(run, charge):
    """Where step 3 writes the flows of one charge."""
    return run.path(products.FLOWS, charge=charge)


def read_flows(run, charge):
    """The `ConditionalBackground` that step 3 trained; `UserError` where it has not, or with other settings."""
    path = run.require(flows_path(run, charge))
    try:
        return ConditionalBackground.from_bytes(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: {error}; run 03_train_flows.py again") from error


def sample_background(config, charge, fit, background):
    """Step 4b: sampled SR background (`background.sample_signal_region`). fit: of `fit_masses`; background:
    `ConditionalBackground`."""
    seed = integer_seed(config.seed, "background", charge)
    return sample_signal_region(background, fit, config.window, config.background.oversampling, seed)


def classify(config, charge, events, sampled, pool):
    """Step 5: the `bdt.Scores` of every event by models that never saw it."""
    ensemble = cross_validation.train(
        events_module.Events.of(events.mass, events.features),
        config.window.in_sr(events.mass),
        events_module.Events.of(np.full(len(sampled), np.nan), sampled),
        settings=config.bdt.classifier,
        n_members=config.bdt.members,
        n_folds=config.bdt.folds,
        stream=Stream(config.seed).child("bdt", charge),
        pool=pool,
    )
    return ensemble.data


def test(config, charge, events, scores):
    """Step 6: the `Outcome` of cut and count and of the likelihood reweighting, without toys. scores: `bdt.Scores`."""
    settings, model = config.significance, model_choice.model_of(config.significance, config.window)
    stream, no_toys = partial(generator, config.seed, f"{charge}_on_{charge}"), Toys(local=0, scan=0, weights=0)
    features = dict(zip(config.features.names, events.features.T, strict=True))
    members = scores.members if config.bdt.combination == "median" else None
    variables = cut_and_count.cut_variables(scores.mean, features, stream("random cut"), members)
    fprs = rates(settings.n_working_points, settings.fpr_min)
    curves, spectra = cut_and_count.cut_and_count(events.mass, variables, fprs, model)
    likelihood, weights = cut_and_count.reweighted(events.mass, scores.mean, model)
    summary = cut_and_count.summary(curves, spectra, model, no_toys, stream)
    summary |= cut_and_count.summary_of_weights(likelihood, events.mass, weights, model, no_toys, stream("weights"))
    return Outcome(curves, summary, scores.mean)


def search(config, charge, events, background, pool):
    """Steps 4 to 6 on one sample. background: `ConditionalBackground`; pool: `concurrent.futures.Executor`."""
    sampled = sample_background(config, charge, fit_masses(config, events), background)
    return test(config, charge, events, classify(config, charge, events, sampled["features"], pool))


def with_members(background, members):
    """A `ConditionalBackground` of some members of the ensemble alone. members: list of their numbers."""
    state = background.estimator.state()
    chosen = {
        "settings": state["settings"] | {"members": len(members)},
        "n_features": state["n_features"],
        "model": {name: value[members] for name, value in state["model"].items()},
        "best_epoch": state["best_epoch"][members],
    }
    estimator = FlowEnsemble.from_state(chosen)
    return ConditionalBackground(background.scaler, background.mass_mean, background.mass_std, estimator)


def headline(outcome):
    """The significances of an `Outcome` as rows of a table: [{variable, fpr, z0, n_obs, n_bkg, n_sig, valid}].

    variable: "cathode" (one row per working point) and those of `HEADLINES`. A likelihood value that is not defined (no
    excess without a cut) has z0 None.
    """
    fields = ("z0", "n_obs", "n_bkg", "n_sig", "valid")
    curve = outcome.curves[outcome.curves["variable"] == "cathode"]
    rows = [{"variable": "cathode", "fpr": row["fpr"]} | {name: row[name] for name in fields}
            for row in curve.to_dict("records")]  # fmt: skip
    for variable in HEADLINES:
        record = outcome.summary[variable] or dict.fromkeys(fields)
        rows.append({"variable": variable, "fpr": record.get("fpr", 1.0)} | {name: record[name] for name in fields})
    return [cut_and_count.plain(row) for row in rows]
