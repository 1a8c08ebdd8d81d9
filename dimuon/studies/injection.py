"""Study: what is found of a known number of signal events? (the discovery sensitivity of arXiv:2412.03747)

Prompt Upsilons of the simulation are added to null datasets (`dimuon.studies.nulls`), which then go through steps 4 to 6. The
methods compared: no cut, the best cut on a single feature, the classifier cut (best, and at a fixed working point), the
likelihood reweighting, and as the ideal a classifier trained with truth labels on the same features, cut in the same
two ways. The best of many cuts is local: its trials are for `dimuon.studies.pseudoexperiments` to count. The signal is
SIMULATED; so are the numbers here.

Writes, under results/<name>/studies/: injection.parquet (every significance) and injection.json (medians and bands,
where learning sets in, linearity of the fitted signal, events needed for 3 and 5 sigma).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dimuon.background.conditional import ConditionalBackground, sample_masses
from dimuon.bumphunt import cut_and_count, steps
from dimuon.classifiers.protocol import CLASSIFIERS, Split, TrainingSet, make
from dimuon.columns import Column
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.simulation.nanoaod_files import upsilon_events
from dimuon.statistics import model_choice
from dimuon.statistics.working_points import CutVariable, nearest, rates
from dimuon.studies import ledger
from dimuon.studies.ledger import work_off
from dimuon.studies.nulls import NullModel
from dimuon.workflow.executor import AtOnce, generator, integer_seed
from dimuon.workflow.products import PRODUCTS, Product, study_maker

METHODS = ("no_cut", "best_feature", "cathode_fixed", "cathode_max", "likelihood", "supervised_fixed", "supervised")
FIXED_FPR = 0.1
N_TRUTH = 20_000  # labelled events of each kind for the ideal classifier
N_TRUTH_MEMBERS = 5
BAND = (0.16, 0.84)
TARGETS = (3.0, 5.0)  # sigma

MAKER = study_maker("injection", "studies.members", "studies.injected", "studies.repeats", "studies.retrain_flows")
TABLE = PRODUCTS.declare(
    Product(
        "injection",
        "results/{name}/studies/injection.parquet",
        MAKER,
        "the significances with signal events injected. SIMULATED",
        ("seed", "fpr", "z0", "n_obs", "n_bkg"),
        own={
            "n_injected": Column("events", "signal events added to the null dataset"),
            "repeat": Column("", "number of the null dataset for one injected number, from 0"),
            "method": Column("text", "how the significance was obtained"),
            "n_kept": Column("events", "of them, in the SR after the cut"),
        },
    )
)
SUMMARY = PRODUCTS.declare(
    Product(
        "injection_summary",
        "results/{name}/studies/injection.json",
        MAKER,
        "medians and bands by number of signal events, where learning sets in, events for 3 and 5 sigma. SIMULATED",
    )
)


def run(study):
    """Do the study; `study` is a `dimuon.studies.study.Study`."""
    config = study.config
    if "os" not in study.events:
        raise UserError("selection.charges: there are no os dimuons, and the signal to inject has opposite charges")
    model = NullModel.of(config, "os", study.events["os"], study.background("os"))
    ideal = ideal_classifier(config, model)
    tasks = {
        f"{n_injected}/{repeat}": (
            search,
            config,
            model,
            ideal,
            n_injected,
            place * config.studies.repeats + repeat,
        )
        for place, n_injected in enumerate(config.studies.injected)
        for repeat in range(config.studies.repeats)
    }
    records = work_off(study.ledger(), tasks, study.pool, "injection")
    frame = table(records)
    summary = summarise(frame, records)
    study.write_table(TABLE, frame, origin="simulated")
    study.write_json(SUMMARY, summary, origin="simulated")
    return report(summary)


@dataclass(frozen=True)
class Ideal:
    """A classifier trained with truth labels, as bytes. kind: of `CLASSIFIERS`; members: models."""

    kind: str
    members: tuple

    def score(self, features):
        """(n_events,) mean score. features: (n_events, n_features)."""
        return CLASSIFIERS[self.kind].from_bytes(self.members).score(features).mean(axis=1, dtype=float)


def ideal_classifier(config, model):
    """The `Ideal` that knows signal from background in the SR: what any method could reach with these features."""
    rng = generator(config.seed, "injection", "truth")
    window, flows = config.window, ConditionalBackground.from_bytes(model.flows)
    mass = sample_masses(model.fit, window.sr_low, window.sr_high, N_TRUTH, rng)
    background = flows.sample(mass, integer_seed(config.seed, "injection", "truth features"))
    signal = upsilon_events(N_TRUTH, rng)[config.features.names].to_numpy(dtype=float)
    half = N_TRUTH // 2
    seeds = [integer_seed(config.seed, "injection", "truth", member) for member in range(N_TRUTH_MEMBERS)]
    truth = (Events.of(np.full(N_TRUTH, np.nan), features, config.features.names) for features in (signal, background))
    training = TrainingSet.of(*(Split(events[:half], events[half:]) for events in truth))
    classifier = make(config.bdt.classifier).fit(training, seeds)
    return Ideal(config.bdt.classifier.kind, tuple(classifier.to_bytes()))


def search(config, model, ideal, n_injected, index):
    """One null dataset with signal, in a worker: {"seed", "rows"}, a row for each of `METHODS`."""
    seed = integer_seed(config.seed, "injection", n_injected, index)
    config = steps.vary(config, {"seed": seed, "bdt.members": config.studies.members})
    null = model.sample(config, index, seed)
    drawn = upsilon_events(n_injected, generator(seed, "signal")) if n_injected else pd.DataFrame()
    signal = Events.of(
        drawn.get("dimu_mass", pd.Series(dtype=float)).to_numpy(dtype=float),
        drawn.reindex(columns=config.features.names).to_numpy(dtype=float),
        config.features.names,
    )
    signal = signal[config.window.in_window(signal.mass)]
    events = null + signal
    in_sr = config.window.in_sr(events.mass) & (np.arange(len(events)) >= len(null))
    outcome = steps.search(config, "os", events, model.background(config, index, events), Stream(seed), AtOnce())
    return {
        "seed": seed,
        "rows": [cut_and_count.plain(row) for row in _rows(config, events, in_sr, outcome, ideal)],
    }


def _rows(config, events, is_signal, outcome, ideal):
    """The outcome of every method. is_signal: (n_events,) True for injected events in the SR."""
    cathode = outcome.curves[outcome.curves["variable"] == "cathode"]
    fixed = cathode.iloc[nearest(cathode["fpr"], FIXED_FPR)]
    by_mean = config.bdt.combination == "mean"  # otherwise no single cut says which events are kept
    truth = CutVariable("supervised", ideal.score(events.features))
    fprs = rates(config.significance.n_working_points, config.significance.fpr_min)
    curve, _ = cut_and_count.cut_and_count(
        events.mass, [truth], fprs, model_choice.model_of(config.significance, config.window)
    )
    best, ideal_fixed = curve.loc[curve["z0"].idxmax()], curve.iloc[nearest(curve["fpr"], FIXED_FPR)]
    found = {
        "no_cut": (outcome.summary["no_cut"], is_signal.sum()),
        "best_feature": (outcome.summary["best_feature"], None),
        "cathode_fixed": (fixed, (is_signal & (outcome.score >= fixed["cut"])).sum() if by_mean else None),
        "cathode_max": (outcome.summary["cathode_max"], None),
        "likelihood": (outcome.summary["likelihood"], None),
        "supervised_fixed": (ideal_fixed, (is_signal & (truth.values >= ideal_fixed["cut"])).sum()),
        "supervised": (best, (is_signal & (truth.values >= best["cut"])).sum()),
    }
    for method, (record, n_kept) in found.items():
        record = dict.fromkeys(("z0", "n_obs", "n_bkg")) if record is None else record
        yield {"method": method, "fpr": record.get("fpr", 1.0), "n_kept": n_kept} | {
            name: record[name] for name in ("z0", "n_obs", "n_bkg")
        }


def table(records):
    """Every significance: n_injected, repeat, seed, method, fpr, z0, n_obs, n_bkg, n_kept."""

    def labels(key, record):
        n_injected, repeat = map(int, key.split("/"))
        return {"n_injected": n_injected, "repeat": repeat, "seed": record["seed"]}

    return ledger.table(records, labels, "injection")


def summarise(frame, records):
    """Medians and bands of each method, events needed, where learning sets in, linearity; as JSON values."""
    failures = {key: record["failed"] for key, record in records.items() if "failed" in record}
    methods = {}
    for method in METHODS:
        z0 = frame[frame["method"] == method].assign(z0=lambda part: part["z0"].fillna(0.0)).groupby("n_injected")["z0"]
        curve = pd.DataFrame({"median": z0.median(), "low": z0.quantile(BAND[0]), "high": z0.quantile(BAND[1])})
        needed = {f"{target:g}": needed_events(curve.index, curve["median"], target) for target in TARGETS}
        methods[method] = {"curve": curve.reset_index().to_dict("records"), "events_needed": needed}
    return {
        "methods": methods,
        "n_failed": len(failures),
        "failures": failures,
        "learning_from": onset(methods["cathode_max"]["curve"]),
        "linearity": {
            "no_cut": linearity(frame[frame["method"] == "no_cut"]),
            "cathode_fixed": linearity(frame[frame["method"] == "cathode_fixed"]),
        },
    }


def needed_events(n_injected, median, target):
    """Injected events from which the median Z0 stays at or above a target, interpolated; None where it never does."""
    n_injected, median = np.asarray(n_injected, dtype=float), np.asarray(median, dtype=float)
    below = np.flatnonzero(median < target)
    if not below.size:
        return float(n_injected[0])
    last = below[-1]
    if last + 1 == len(median):
        return None
    share = (target - median[last]) / (median[last + 1] - median[last])
    return float(n_injected[last] + share * (n_injected[last + 1] - n_injected[last]))


def onset(curve):
    """Smallest number of injected events from which on the median Z0 of the best classifier cut lies above the band
    that it has with nothing injected; None where it never does, or nothing was injected nowhere."""
    nothing = [point for point in curve if point["n_injected"] == 0]
    if not nothing:
        return None
    above = [point["n_injected"] for point in curve if point["n_injected"] > 0]
    for point in reversed(curve):
        if point["n_injected"] > 0 and point["median"] <= nothing[0]["high"]:
            above = [n for n in above if n > point["n_injected"]]
    return min(above, default=None)


def linearity(frame):
    """Straight line of the excess n_obs - n_bkg (not cut off at zero) against the signal events kept in the SR.

    {"slope", "slope_err", "offset", "offset_err"}: one and zero where the fitted signal is unbiased; errors from the
    scatter. None with fewer than four values. frame: with n_obs, n_bkg, n_kept (missing: left out).
    """
    frame = frame.dropna(subset=["n_kept"])
    if len(frame) < 4:
        return None
    line, covariance = np.polyfit(frame["n_kept"], frame["n_obs"] - frame["n_bkg"], 1, cov=True)
    errors = np.sqrt(np.diag(covariance))
    return {"slope": float(line[0]), "slope_err": float(errors[0]),
            "offset": float(line[1]), "offset_err": float(errors[1])}  # fmt: skip


def report(summary):
    """The summary in words, for the screen."""
    numbers = [point["n_injected"] for point in summary["methods"]["no_cut"]["curve"]]
    lines = [f"{'median Z0 at injected events':<30}" + "".join(f"{n:>8}" for n in numbers) + "   for 3, 5 sigma"]
    for method, found in summary["methods"].items():
        needed = ", ".join("-" if n is None else f"{n:.0f}" for n in found["events_needed"].values())
        lines.append(f"{method:<30}" + "".join(f"{point['median']:>8.2f}" for point in found["curve"]) + f"   {needed}")
    lines.append(f"learning sets in at {summary['learning_from']} injected events; {summary['n_failed']} failed")
    if line := summary["linearity"]["no_cut"]:
        lines.append(
            f"fitted signal without a cut = ({line['slope']:.2f} +- {line['slope_err']:.2f}) n + "
            f"({line['offset']:.0f} +- {line['offset_err']:.0f})"
        )
    return "\n".join(lines)
