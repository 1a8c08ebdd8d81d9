"""The cells of the bench at one place, a sample with a feature set and a seed: what is read off each method there."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dimuon.arrays import BoolArray, FloatArray
from dimuon.background import closure
from dimuon.background.scaler import LogitScaler
from dimuon.bumphunt import steps
from dimuon.bumphunt.result import ScanPoint, Statistic
from dimuon.data.samples import Sample
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.methods.protocol import Chain, Given, Scores, learned_by, scores_by
from dimuon.methods.shared import Shared
from dimuon.random import Stream
from dimuon.statistics import model_choice, sculpting
from dimuon.statistics.improvement import argos, improvement
from dimuon.statistics.member_median import median_spectra
from dimuon.statistics.working_points import CutVariable, nearest, rates
from dimuon.studies.bench.samples import N_PROBE, BenchSource, Drawn
from dimuon.studies.ledger import FAILURES, Record, attempt, fail
from dimuon.studies.scenarios import Scenario
from dimuon.workflow.config import Config
from dimuon.workflow.executor import AtOnce

FIXED = {"z0_loose": 0.1, "z0_tight": 0.01}  # false-positive rates of the cuts that are fixed beforehand
SCULPTING_TOYS = 200
HIGH_WATER = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of the memory, and what sets it back


def read(scenarios: Sequence[Scenario]) -> dict[str, Record]:
    """The records of the cells of one sample, {key: record}, their methods by their labels; what they share is done
    once. A record has a row of "cell", "curve", "nulls", "cost", "probe".
    """
    first = scenarios[0]
    try:
        place = Place.of(first)
    except FAILURES as error:
        return {each.key: attempt(fail, error) for each in scenarios}
    records = {each.key: attempt(_record, each, place) for each in scenarios}
    for number in range(first.config.bench.nulls if first.labels["n_injected"] == 0 else 0):
        null = place.null(number)
        for each in scenarios:
            if null is not None and "failed" not in records[each.key]:
                found = attempt(_of_null, each, place, null)
                if "failed" in found:
                    records[each.key] = found
                else:
                    records[each.key]["rows"][0]["nulls"].append(found)
    return records


@dataclass(frozen=True, eq=False)
class Place:
    """A sample of a scenario at work."""

    scenario: Scenario
    drawn: Drawn
    given: Given

    @classmethod
    def of(cls, scenario: Scenario) -> "Place":
        """Raises TypeError for a scenario that is none of the bench, `UserError` for a sample that cannot be used."""
        if not isinstance(scenario.source, BenchSource):
            raise TypeError(f"{scenario.key}: no sample of the bench")
        drawn = scenario.source.drawn(scenario)
        return cls(scenario, drawn, given_of(scenario.config, drawn, scenario.stream))

    def null(self, number: int) -> Given | None:
        """A further sample without a signal, its features prepared as those of this one; None where there is none."""
        events = self.scenario.source.null(self.scenario, number)  # type: ignore[attr-defined]  # see `of`
        if events is None:
            return None
        stream = self.scenario.stream.child("null", number)
        return given_of(self.scenario.config, replace(self.drawn, events=events), stream, self.given.scaler)


def _record(scenario: Scenario, place: Place) -> Record:
    name, given, drawn, shared = str(scenario.labels["method"]), place.given, place.drawn, place.given.shared
    with_memory = _reset_memory()
    done = "learned and scored", name
    scores = shared.once(done, lambda: scores_by(given, name, learned_by(given, name)))
    seconds, cpu_seconds = shared.seconds(done)
    peak = _peak_memory() if with_memory else None
    found = significances(scenario.config, given.events, scores, shared.stream.child("method", name))
    row = {
        "cell": {"n_events": len(given.events), **found, **quality(scenario.config, given, scores, drawn)},
        "curve": _curve(scores, drawn),
        "nulls": [],
        "cost": {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak},
        "probe": _probe(scores, drawn),
    }
    return {"seed": scenario.stream.seed, "rows": [row]}


def _of_null(scenario: Scenario, place: Place, null: Given) -> Record:
    """The significances of a sample without signal, by what was learned from another."""
    name = str(scenario.labels["method"])
    scores = scores_by(null, name, learned_by(place.given, name))
    return dict(significances(scenario.config, null.events, scores, null.shared.stream.child("method", name)))


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
            pair, stream = (real[:n_events], sampled[:n_events]), given.shared.stream.child("closure", name).rooted()
            auc, error = given.shared.once(
                ("closure", name, id(sampled)),
                partial(closure.classifier_auc, *pair, stream),  # kept with the scores
            )
            said |= {f"{name}_auc": auc, f"{name}_auc_err": error}
    return said


def given_of(config: Config, drawn: Drawn, stream: Stream, scaler: LogitScaler | None = None) -> Given:
    """What methods are given of a sample. scaler: how the features are prepared; None: as these events say."""
    events = drawn.events
    steps.require_enough(config, events)
    return Given(
        events,
        drawn.further,
        config.window,
        steps.fit_masses(config, events),
        steps.scaler_of(config, {"os": events}) if scaler is None else scaler,
        Chain(
            config.estimator,
            config.bdt.classifier,
            config.bdt.members,
            config.bdt.folds,
            config.background.oversampling,
        ),
        stream,
        Shared(stream),
        AtOnce(),
        drawn.truth,
        drawn.simulation,
        drawn.prior,
        drawn.handed_in,
    )


def significances(config: Config, events: Events, scores: Scores, stream: Stream) -> dict[str, float | None]:
    """Z0 at the fixed cuts (of an ensemble by the median of its members' histograms, too), at the best one, of the
    likelihood where the score is a probability, and by the method's own test where it has one."""
    result = steps.measure(config, Sample("bench", "bench", events, scores.events), stream.child("measure"))
    cuts = result.curves[result.curves["variable"] == Statistic.WORKING_POINT]
    points = {name: ScanPoint.of(cuts.iloc[nearest(cuts["fpr"], fpr)]) for name, fpr in FIXED.items()}
    likelihood = getattr(result.found, result.found.quoted_likelihood) if scores.probability else None
    return {
        **{name: point.z0 for name, point in points.items()},
        **_by_median(config, events, scores),
        "z0_max": result.found.cathode_max.z0,
        "z0_likelihood": None if likelihood is None else likelihood.z0,
        "z0_own": scores.own_z,
    }


def _by_median(config: Config, events: Events, scores: Scores) -> dict[str, float | None]:
    """Of each fixed cut, by the median of the histograms; None without members, and where it is empty."""
    model, found = model_choice.model_of(config.significance, config.window), dict[str, float | None]()
    for name, fpr in FIXED.items():
        found[f"{name}_median"] = None
        if scores.members is not None:
            with contextlib.suppress(AnalysisError):  # of an empty median
                spectra, _ = median_spectra(events.mass, scores.members, [fpr], model.bins)
                found[f"{name}_median"] = float(model.discoveries(spectra).z0[0])
    return found


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
