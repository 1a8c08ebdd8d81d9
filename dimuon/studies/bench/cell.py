"""One cell of the bench: a method, a sample, a feature set and a seed; what is read off it."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dimuon.arrays import BoolArray, FloatArray
from dimuon.background import closure
from dimuon.background.scaler import LogitScaler
from dimuon.bumphunt import steps
from dimuon.bumphunt.result import ScanPoint, Statistic
from dimuon.data.samples import Sample
from dimuon.events import Events
from dimuon.methods.protocol import METHODS, Chain, Given, Scores
from dimuon.random import Stream
from dimuon.statistics import sculpting
from dimuon.statistics.improvement import argos, improvement
from dimuon.statistics.working_points import CutVariable, nearest, rates
from dimuon.studies.bench.samples import N_PROBE, BenchSource, Drawn
from dimuon.studies.scenarios import Row, Scenario
from dimuon.workflow.config import Config
from dimuon.workflow.executor import AtOnce

FIXED = {"z0_loose": 0.1, "z0_tight": 0.01}  # false-positive rates of the cuts that are fixed beforehand
SCULPTING_TOYS = 200
HIGH_WATER = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of the memory, and what sets it back


def read(scenario: Scenario) -> list[Row]:
    """The reading of a cell, its method by its label: a row of "cell", "curve", "nulls", "cost", "probe"."""
    config, source, name = scenario.config, scenario.source, str(scenario.labels["method"])
    if not isinstance(source, BenchSource):
        raise TypeError(f"{scenario.key}: no sample of the bench")
    drawn, method, own = source.drawn(scenario), METHODS[name], scenario.stream.child("method", name)
    given = given_of(config, drawn, own)
    with_memory, start = _reset_memory(), (time.perf_counter(), time.process_time())
    learned = method.learn(given)
    scores = method.score(given, learned)
    spent = {"seconds": time.perf_counter() - start[0], "cpu_seconds": time.process_time() - start[1]}
    cost = {**spent, "peak_mb": _peak_memory() if with_memory else None}
    nulls = []
    for number in range(config.bench.nulls if scenario.labels["n_injected"] == 0 else 0):
        events = source.null(scenario, number)
        if events is not None:
            again = own.child("null", number)
            null = given_of(config, replace(drawn, events=events), again, given.scaler)
            nulls.append(significances(config, events, method.score(null, learned), again))
    found = significances(config, given.events, scores, own)
    return [
        {
            "cell": {"n_events": len(given.events), **found, **quality(config, given, scores, drawn)},
            "curve": _curve(scores, drawn),
            "nulls": nulls,
            "cost": cost,
            "probe": _probe(scores, drawn),
        }
    ]


def quality(config: Config, given: Given, scores: Scores, drawn: Drawn) -> dict[str, float | bool | None]:
    """What is said of the scores beside their significance."""
    fprs = rates(config.significance.n_working_points, config.significance.fpr_min)
    gain = argos(scores.events, given.in_sr, fprs)
    said: dict[str, float | bool | None] = {
        "argos": gain.value,
        "argos_fpr": gain.eps_background,
        "sculpted": _sculpted(config, given, scores.events),
    }
    if drawn.is_signal is not None:
        curve = improvement(scores.further[drawn.is_signal], scores.further[~drawn.is_signal])
        said |= {"auc": _auc(scores.further, drawn.is_signal), "improvement_max": curve.best}
        said |= {f"improvement_{name[3:]}": curve.at(fpr) for name, fpr in FIXED.items()}
    compared = {"sideband": (given.sidebands, scores.closure)}
    if drawn.truth is not None:
        compared["template"] = (drawn.truth.background, scores.template)
    for name, (real, sampled) in compared.items():
        if sampled is not None:
            n_events = min(len(real), len(sampled))
            auc, error = closure.classifier_auc(real[:n_events], sampled[:n_events], given.stream.child(name).rooted())
            said |= {f"{name}_auc": auc, f"{name}_auc_err": error}
    return said


def given_of(config: Config, drawn: Drawn, stream: Stream, scaler: LogitScaler | None = None) -> Given:
    """What a method is given of a sample. scaler: how the features are prepared; None: as these events say."""
    events = drawn.events
    steps.require_enough(config, events)
    scaler = steps.scaler_of(config, {"os": events}) if scaler is None else scaler
    chain = Chain(
        config.estimator, config.bdt.classifier, config.bdt.members, config.bdt.folds, config.background.oversampling
    )
    masses = steps.fit_masses(config, events)
    return Given(
        events, drawn.further, config.window, masses, scaler, chain, stream, AtOnce(), drawn.truth, drawn.simulation
    )


def significances(config: Config, events: Events, scores: Scores, stream: Stream) -> dict[str, float | None]:
    """Z0 at the fixed cuts, at the best one, and of the likelihood where the score is a probability."""
    result = steps.measure(config, Sample("bench", "bench", events, scores.events), stream.child("measure"))
    cuts = result.curves[result.curves["variable"] == Statistic.WORKING_POINT]
    points = {name: ScanPoint.of(cuts.iloc[nearest(cuts["fpr"], fpr)]) for name, fpr in FIXED.items()}
    likelihood = getattr(result.found, result.found.quoted_likelihood) if scores.probability else None
    return {
        **{name: point.z0 for name, point in points.items()},
        "z0_max": result.found.cathode_max.z0,
        "z0_likelihood": None if likelihood is None else likelihood.z0,
    }


def _sculpted(config: Config, given: Given, score: FloatArray) -> bool:
    """Whether one of the fixed cuts shapes the mass in the sidebands."""
    bins = config.window.binning(config.significance.n_bins_sr)
    fprs = np.array([*FIXED.values()])
    kept = CutVariable("score", score).scan(~given.in_sr, fprs).kept
    rng = given.stream.child("sculpting").generator()
    fits = sculpting.flags(given.events.mass, kept, bins, config.significance.degree, rng, n_toys=SCULPTING_TOYS)
    return bool(fits.sculpted.any())


def _auc(score: FloatArray, is_signal: BoolArray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(is_signal, score))


def _curve(scores: Scores, drawn: Drawn) -> list[Mapping[str, Any]]:
    """The improvement as rows; none where nothing is labelled."""
    if drawn.is_signal is None:
        return []
    curve = improvement(scores.further[drawn.is_signal], scores.further[~drawn.is_signal])
    names = ("eps_signal", "eps_background", "improvement", "low", "high")
    rows = zip(*(getattr(curve, name).tolist() for name in names), strict=True)
    return [dict(zip((*names[:3], "improvement_low", "improvement_high"), row, strict=True)) for row in rows]


def _probe(scores: Scores, drawn: Drawn) -> list[float]:
    """The scores of a few events, the same for every method: half of them signal, or what there is."""
    if drawn.is_signal is None:
        return [float(score) for score in scores.further[: 2 * N_PROBE]]
    chosen = [np.flatnonzero(drawn.is_signal == signal)[:N_PROBE] for signal in (True, False)]
    return [float(score) for score in scores.further[np.concatenate(chosen)]]


def _reset_memory() -> bool:
    """Begin to count the largest memory of this process anew; whether this system can."""
    try:
        HIGH_WATER[1].write_text("5")
    except OSError:
        return False
    return True


def _peak_memory() -> float | None:
    """Largest memory since, MB."""
    for line in HIGH_WATER[0].read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024
    return None
