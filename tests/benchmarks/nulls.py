"""What null datasets of real size say of the whole chain: `python -m tests.benchmarks.nulls STUDY`.

The published configuration (`configs/upsilon_published_flow.yaml`: flows of 20 hidden features and 400 epochs) on the
real OS dimuons. Its background is trained once, then null datasets go through steps 4 to 6 as in the study of the same
name, as many as asked for, or as the time allows. Every outcome is kept in a file: the benchmark goes on where it was
stopped. STUDY:

- `pseudoexperiments`: fractions above 1, 2, 3 sigma, uniformity of held-out p-values.
- `null_origins`: the same for null datasets of other origins (--origins: of these alone); the p-values of those by the
  nulls of the study.
- `retrained`: the same null datasets searched with flows trained on their own sidebands, and with the other members of
  the flows behind them: what not training them again hides (with --epochs, as it takes a training a dataset).
- `splits`: half and half, five folds, their median histogram; with signal injected, too.

Writes results/bench/nulls_STUDY.json, and the report of the study to the screen.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from dimuon.background import saved
from dimuon.background.protocol import BackgroundModel
from dimuon.bumphunt import steps
from dimuon.data.dimuons import Dimuons
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.statistics import calibration
from dimuon.statistics.calibration import Coverage
from dimuon.studies import null_origins, pseudoexperiments, scenarios, splits
from dimuon.studies.nulls import NullModel
from dimuon.studies.scenarios import Outcome, Row, Scenario, vary
from dimuon.workflow import config, executor, provenance
from dimuon.workflow.config import Config
from tests.benchmarks.common import FOLDER
from tests.conftest import ROOT

CONFIG = ROOT / "configs" / "upsilon_published_flow.yaml"
CHARGE = "os"
ORIGINS = (null_origins.MEMBER, null_origins.OTHER, null_origins.DOWN_UP)
REPEATS = 250  # datasets of the splits with so many signal events


def main() -> None:
    """Do one study, for so many seconds at most; print and write what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--n", type=int, default=1000, help="null datasets (of each origin)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no dataset is begun after so many")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--injected", type=int, nargs="*", default=[100, 200], help="signal events, of splits")
    parser.add_argument("--origins", nargs="*", default=[*ORIGINS], choices=ORIGINS, help="of null_origins")
    parser.add_argument("--epochs", type=int, help="of the flows, for a trial")
    chosen = parser.parse_args()
    start = time.perf_counter()
    varied = vary(config.load(CONFIG), {"studies.pseudoexperiments": chosen.n, "studies.null_origins": chosen.n})
    varied = vary(varied, {"studies.held_out": max(1, 3 * chosen.n // 10), "studies.repeats": REPEATS})
    varied = vary(varied, {"studies.injected": [0, *chosen.injected]})
    if chosen.epochs:
        varied = vary(varied, {"estimator.epochs": chosen.epochs})
    events = Dimuons(provenance.Run(varied, "-m tests.benchmarks.nulls", str(CONFIG))).events(CHARGE)
    with executor.executor(chosen.workers, preload=[__name__, "torch", "xgboost"]) as pool:
        model = background(varied, events, pool)
        print(f"background after {time.perf_counter() - start:.0f} s")
        STUDIES[chosen.study](Work(varied, events, model, pool, start + chosen.seconds, chosen.origins))


@dataclass
class Work:
    """What a study is done with; `outcomes` does its scenarios until the time is up."""

    config: Config
    events: Events
    model: BackgroundModel
    pool: Executor
    end: float  # time.perf_counter() at which the time is up
    origins: Sequence[str]  # of null datasets

    @cached_property
    def null(self) -> NullModel:
        return NullModel.of(self.config, CHARGE, self.events, self.model)

    def outcomes(self, name: str, listed: Iterable[Scenario], read: Callable[[Scenario], list[Row]]) -> list[Outcome]:
        """The outcomes there are, in the order of the scenarios: of earlier calls, and as many more as time allows."""
        path, scenarios_ = FOLDER / f"nulls_{name}.jsonl", list(listed)
        path.parent.mkdir(parents=True, exist_ok=True)
        records = {record["key"]: record for record in map(json.loads, path.open())} if path.exists() else {}
        begun, start = 0, time.perf_counter()
        todo = (each for each in scenarios_ if each.key not in records)
        with path.open("a") as file:
            for record in self._done(todo, read):
                begun += 1
                records[record["key"]] = record
                file.write(json.dumps(record) + "\n")
                file.flush()
        print(f"{name}: {begun} datasets in {time.perf_counter() - start:.0f} s, {len(records)} in all")
        if not records:
            raise SystemExit("the time was up before the first dataset was done")
        return [
            Outcome(each, records[each.key]["rows"], records[each.key]["failed"])
            for each in scenarios_
            if each.key in records
        ]

    def _done(self, todo: Iterator[Scenario], read: Callable[[Scenario], list[Row]]) -> Iterator[dict[str, Any]]:
        """Records as they come; a few more scenarios than workers are handed out at a time."""
        pending = set()
        while True:
            while len(pending) < 2 * (os.cpu_count() or 1) and time.perf_counter() < self.end:
                following = next(todo, None)
                if following is None:
                    break
                pending.add(self.pool.submit(partial(done, read), following))
            if not pending:
                return
            finished, pending = wait(pending, return_when="FIRST_COMPLETED")
            yield from (future.result() for future in finished)


def done(read: Callable[[Scenario], list[Row]], scenario: Scenario) -> dict[str, Any]:
    """What is kept of one scenario, in a worker."""
    try:
        return {"key": scenario.key, "rows": read(scenario), "failed": None}
    except scenarios.FAILURES as error:
        return {"key": scenario.key, "rows": [], "failed": f"{type(error).__name__}: {error}"}


def background(varied: Config, events: Events, pool: Executor) -> BackgroundModel:
    """The background of step 3, trained or of an earlier call."""
    path = FOLDER / f"nulls_flows_{varied.estimator.epochs}.pt"
    if not path.exists():
        scaler = steps.scaler_of(varied, {CHARGE: events})
        model = steps.train_background(varied, CHARGE, events, scaler, Stream(varied.seed), pool)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved.to_bytes(model))
    return saved.from_bytes(path.read_bytes())


def write(name: str, content: Any, report: Iterable[str]) -> None:
    """What a study says, to the screen and as JSON."""
    print("\n".join(report), flush=True)
    (FOLDER / f"nulls_{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def pseudo(work: Work) -> None:
    """The study `pseudoexperiments`, the data themselves left out."""
    outcomes = of_the_search(work)
    columns, n_failed = by_statistic(outcomes)
    rng, n_held_out = np.random.default_rng(0), 3 * len(outcomes) // 10
    content, report = {}, [f"{len(outcomes)} null datasets, {n_failed} failed"]
    for name, z0 in columns.items():
        covered = calibration.coverage(z0, n_failed)
        uniform = calibration.uniformity(z0[-n_held_out:], z0[:-n_held_out], rng)
        content[str(name)] = {"coverage": [row.to_json() for row in covered], "uniformity": uniform.to_json()}
        report.append(f"{above(name, covered)}; KS p {uniform.p:.3f}")
    write("pseudoexperiments", content, report)


def of_the_search(work: Work) -> list[Outcome]:
    """The null datasets of the search's own model, as many as asked for."""
    listed = pseudoexperiments.of_nulls(work.config, work.null, work.config.studies.pseudoexperiments)
    return work.outcomes("pseudoexperiments", listed, scenarios.significances)


def above(name: str | float, covered: Iterable[Coverage]) -> str:
    """The fractions above 1, 2, 3 sigma of a statistic or of a cut, with their 68 % intervals."""
    fractions = ", ".join(f"{row.fraction:.4f} [{row.low:.4f}, {row.high:.4f}]" for row in covered)
    return f"{name if isinstance(name, str) else f'FPR {name:.3g}':<20} {fractions}"


def retrained(work: Work) -> None:
    """The study `pseudoexperiments` on the same null datasets with and without `studies.retrain_flows`."""
    both = []
    for again in (False, True):
        varied = vary(work.config, {"studies.retrain_flows": again})
        for each in pseudoexperiments.of_nulls(varied, work.null, work.config.studies.pseudoexperiments):
            key, labels = f"{again}/{each.key}", {**each.labels, "retrained": again}
            both.append(replace(each, key=key, labels=labels))
    by_number = sorted(both, key=lambda each: int(each.labels["experiment"]))  # as many of both, where time ends
    outcomes = work.outcomes("retrained", by_number, scenarios.significances)
    columns = {
        again: by_statistic([each for each in outcomes if each.scenario.labels["retrained"] is again])
        for again in (False, True)
    }
    content, report = {}, []
    for again, (z0, n_failed) in columns.items():
        report.append(f"{'trained again' if again else 'not trained again'}, {n_failed} failed")
        for name, values in z0.items():
            covered = calibration.coverage(values, n_failed)
            content[f"{again}/{name}"] = [row.to_json() for row in covered]
            report.append(f"{above(name, covered)}; mean {values.mean():.3f}")
    write("retrained", content, report)


def by_statistic(outcomes: Sequence[Outcome]) -> tuple[dict[str | float, np.ndarray], int]:
    """{statistic: (n,) Z0} of the null datasets that did not fail, and how many did."""
    values = [pseudoexperiments.statistics(each.rows) for each in scenarios.succeeded(outcomes)]
    return {name: np.array([one[name] for one in values]) for name in values[0]}, len(outcomes) - len(values)


def origins(work: Work) -> None:
    """The study `null_origins`, and the p-values of each other origin by the search's own nulls."""
    scaler, other = work.model.scaler, vary(work.config, {"estimator": work.config.studies.null_estimator})
    sidebands = steps.train_background(other, CHARGE, work.events, scaler, Stream(work.config.seed), work.pool)
    trained = {
        null_origins.OTHER: saved.to_bytes(sidebands),
        null_origins.DOWN_UP: null_origins.share_of(work.config, CHARGE, work.events, scaler, work.pool),
    }
    every = null_origins.of_models(work.config, work.null, trained)
    listed = [each for each in every if each.labels["origin"] in work.origins]
    by_number = sorted(listed, key=lambda each: int(each.labels["experiment"]))  # alike of all, where time ends
    outcomes = work.outcomes("null_origins", by_number, scenarios.significances)
    summary = null_origins.summarise(CHARGE, outcomes)
    nulls, rng = by_statistic(of_the_search(work))[0], np.random.default_rng(0)
    uniform: dict[str, dict[str, Any]] = {}
    report = list(null_origins.report(CHARGE, summary))
    for origin in work.origins:
        others, n_failed = by_statistic([each for each in outcomes if each.scenario.labels["origin"] == origin])
        report.extend(f"{origin}: {above(name, calibration.coverage(z0, n_failed))}" for name, z0 in others.items())
        tests = {str(name): calibration.uniformity(others[name], nulls[name], rng) for name in null_origins.STATISTICS}
        uniform[origin] = {name: each.to_json() for name, each in tests.items()}
        report.append(f"{origin}: KS p by the search's: " + ", ".join(f"{k} {v.p:.3f}" for k, v in tests.items()))
    write("null_origins", {"origins": null_origins.content(summary), "uniformity": uniform}, report)


def split(work: Work) -> None:
    """The study `splits`."""
    listed = list(splits.of_null_model(work.config, work.null))
    share = {n: len([each for each in listed if each.labels["n_injected"] == n]) for n in work.config.studies.injected}
    by_share = sorted(listed, key=lambda each: int(each.labels["experiment"]) / share[int(each.labels["n_injected"])])
    outcomes = work.outcomes("splits", by_share, splits.by_split)
    summary = splits.summarise(CHARGE, outcomes)
    write("splits", splits.content(summary), splits.report(CHARGE, summary))


STUDIES = {"pseudoexperiments": pseudo, "retrained": retrained, "null_origins": origins, "splits": split}


if __name__ == "__main__":
    main()
