"""The cells of the bench: which there are, in which order, done one by one and kept in a ledger."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from dimuon.data import samples
from dimuon.data.samples import Sample
from dimuon.errors import UserError
from dimuon.methods.kinds.cathode import Cathode
from dimuon.methods.protocol import METHODS, Needs
from dimuon.methods.settings import Bench as Settings
from dimuon.methods.settings import FeatureSet, label_of
from dimuon.random import Stream
from dimuon.studies.bench.cell import read
from dimuon.studies.bench.samples import BenchSource, Data, Simulated, require_simulated
from dimuon.studies.ledger import FAILURES, Ledger, Record, Task, attempt, fail, settings_of, work_off_together
from dimuon.studies.scenarios import Outcome, Scenario, Source, vary
from dimuon.studies.study import Study
from dimuon.workflow import machine
from dimuon.workflow.config import Config

WHICH = ("methods", "features", "samples", "injected", "leak", "noise", "seeds")  # say which cells, not what is in one
SMALL_SEEDS = 2


class Bench(Study):
    """The bench at work on one analysis. small: the first sample and feature set alone, and two seeds."""

    small: bool = False

    @property
    def inputs(self) -> list[Path]:
        """The tables of the data, where they are searched."""
        if "data" not in self.config.bench.samples:
            return []
        scores = self.config.input.scores
        return self.files if scores is None else [Path(scores)]

    @cached_property
    def handed_in(self) -> dict[str, Sample]:
        """The events with scores that the user brings along, by charge; none where there are no such."""
        if self.config.input.scores is None or "data" not in self.config.bench.samples:
            return {}
        return {sample.train: sample for sample in samples.read(self.run)}

    def ledger(self, leave_out: Sequence[str] = ()) -> Ledger:
        """The cells that are done. More methods, samples or seeds may be asked for at any time."""
        for path in self.inputs:
            self.run.require(path)
        free = [*leave_out, *(f"bench.{name}" for name in WHICH)]
        return Ledger(self.run.results / "bench" / "bench.ledger.jsonl", settings_of(self.run, self.inputs, free), free)


@dataclass(frozen=True)
class Place:
    """Where a cell stands in the matrix, but for its method. charge: of the data, "os" of what is simulated."""

    sample: str
    charge: str
    features: FeatureSet
    n_injected: int
    leak: float
    noise: int
    repeat: int

    @property
    def source(self) -> BenchSource:
        """Its events."""
        if self.sample == "simulated":
            return Simulated(self.n_injected, self.leak, self.noise)
        return Data(self.noise)

    @property
    def labels(self) -> dict[str, Any]:
        """Columns of its rows."""
        names = ("sample", "n_injected", "leak", "noise", "repeat")
        return {name: getattr(self, name) for name in names} | {"features": label_of(self.features)}


def places(bench: Bench) -> Iterator[Place]:
    """Every place, sample by sample, so that methods meet the same events one after the other."""
    settings = bench.config.bench
    charges = {"simulated": ["os"], "data": [*bench.handed_in] or bench.dimuons.charges}
    searched = [(kind, charge) for kind in settings.samples for charge in charges[kind]]
    sets: list[FeatureSet] = settings.features or [bench.config.features.set]
    seeds = settings.seeds
    if bench.small:
        searched, sets, seeds = searched[:1], sets[:1], min(seeds, SMALL_SEEDS)
    for kind, charge in searched:
        name = kind if kind == "simulated" else charge
        for repeat in range(seeds):
            for features in sets:
                for n_injected, leak, noise in contents(settings, kind, bench.small):
                    yield Place(name, charge, features, n_injected, leak, noise, repeat)


def contents(settings: Settings, kind: str, small: bool) -> Iterator[tuple[int, float, int]]:
    """(signal events, leak, features of noise) of the samples of a kind.

    One thing is varied at a time: the signal with the first leak and noise, and these at the middle number of signal
    events, where it is known what is gained without them. small: that one alone.
    """
    simulated = kind == "simulated"
    injected, leak, noise = (settings.injected if simulated else [0]), settings.leak, settings.noise
    middle = injected[len(injected) // 2]
    plain = (leak[0] if simulated else 0.0, noise[0])
    yield from ((n, *plain) for n in ([middle] if small else injected))
    if not small:
        yield from ((middle, plain[0], n) for n in noise[1:])
        yield from ((middle, each, plain[1]) for each in leak[1:] if middle)


def methods(config: Config, sample: str) -> list[str]:
    """The methods that a sample allows. The configured estimator and classifier stand for their kinds."""
    handed_in = [Needs.SCORES] if config.input.scores is not None else []
    known = {Needs.EVENTS, *([Needs.SIMULATION, Needs.TRUTH] if sample == "simulated" else handed_in)}
    of_config = {(config.estimator.kind, ""), ("", config.bdt.classifier.kind)}
    same = [
        name
        for name, method in METHODS.items()
        if isinstance(method, Cathode) and (method.kind, method.classifier) in of_config
    ]
    chosen = [name for name in config.bench.chosen if not (name in same and "cathode" in config.bench.chosen)]
    return [name for name in chosen if METHODS[name].needs in known]


def cells(bench: Bench) -> Iterator[Scenario]:
    """Every cell."""
    config = bench.config
    for place in places(bench):
        varied = vary(config, {"features.set": place.features})
        stream = Stream(config.seed).child("bench", place.repeat).rooted()
        for method in methods(config, place.sample):
            labels = {**place.labels, "method": method, "seed": stream.seed}
            key = "/".join(str(labels[name]) for name in (*place.labels, "method"))
            yield Scenario(key, place.charge, varied, stream, place.source, labels)


def run(bench: Bench) -> list[Outcome]:
    """Do the cells that the ledger does not hold yet; returns the outcomes of all, in their order.

    Raises `UserError` where nothing is to be done, and for features that the simulation does not have.
    """
    config = bench.config
    if "simulated" in config.bench.samples:
        sets = config.bench.features or [config.features.set]
        require_simulated([vary(config, {"features.set": names}).features.names for names in sets])
    listed = list(cells(bench))
    if not listed:
        raise UserError("bench.methods: none of them can be done on data alone; add simulated to bench.samples")
    ledger = bench.ledger()
    missing = [each for each in listed if each.key not in ledger.records]
    tasks = [_task(bench, part) for part in parts(missing, config.execution.workers or machine.cores())]
    work_off_together(ledger, dict(tasks), bench.pool, bench.name)
    records = [ledger.records[each.key] for each in listed]
    return [
        Outcome(each, record.get("rows", ()), record.get("failed"))
        for each, record in zip(listed, records, strict=True)
    ]


def parts(listed: Sequence[Scenario], n_workers: int) -> Iterator[Sequence[Scenario]]:
    """The cells that one worker does one after the other: all of a sample, whose methods share what they learn.

    Where there are fewer samples than workers, the methods of each are dealt out.
    """
    samples = [list(group) for _, group in groupby(listed, lambda each: each.key.rpartition("/")[0])]
    hands = max(1, n_workers // max(len(samples), 1))
    for sample in samples:
        yield from filter(None, (sample[hand::hands] for hand in range(hands)))


def _task(bench: Bench, part: Sequence[Scenario]) -> tuple[tuple[str, ...], Task]:
    keys = tuple(each.key for each in part)
    try:
        source = _source(bench, part[0])
    except FAILURES as error:
        return keys, (_failed, keys, error)
    return keys, (read, [replace(each, source=source) for each in part])


def _source(bench: Bench, scenario: Scenario) -> Source:
    if scenario.charge in bench.handed_in and isinstance(scenario.source, Data):
        return scenario.source.with_scores(bench.handed_in[scenario.charge], scenario.config)
    return scenario.source.prepared(bench, scenario)


def _failed(keys: Sequence[str], error: Exception) -> dict[str, Record]:
    return {key: attempt(fail, error) for key in keys}
