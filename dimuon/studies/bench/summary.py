"""What the bench says: which method gains how much, how often it raises a false alarm, which say the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dimuon.methods.protocol import METHODS, Needs
from dimuon.records import Record
from dimuon.statistics.intervals import clopper_pearson
from dimuon.studies.bench import detection
from dimuon.studies.bench.detection import Detection
from dimuon.studies.bench.tables import cells
from dimuon.studies.scenarios import Outcome, failures, succeeded

PLACE = ("sample", "features", "leak", "noise", "n_injected")
BAND = (0.16, 0.84)
ALARM = 2.0  # sigma
OF_EVERY = ("z0_loose", "z0_tight", "z0_max", "z0_likelihood")  # method
ALARMS = (*OF_EVERY, "z0_loose_median", "z0_tight_median", "z0_own")
MEASURES = (
    *("improvement_max", "improvement_loose", "improvement_tight", "argos"),
    *ALARMS,
)
LITERATURE = ("supervised", "idealised", "cathode", "cwola", "anode")  # best first, features correlated with the mass


@dataclass(frozen=True)
class Band(Record):
    """Median over the seeds, and the 68 % band from low to high; n: of how many cells it is defined."""

    n: int
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Standing(Record):
    """One method at one place of the matrix. bands: {measure: `Band`} of `MEASURES`, where any cell has it.

    n_sculpted: of n cells, those in which a fixed cut shapes the mass.
    """

    sample: str
    features: str
    leak: float
    noise: int
    n_injected: int
    method: str
    title: str
    is_bound: bool
    n: int
    n_sculpted: int
    bands: dict[str, Band]

    @property
    def measure(self) -> str:
        """What it is ranked by: the largest improvement of labelled events, ARGOS where nothing is labelled."""
        return "improvement_max" if "improvement_max" in self.bands else "argos"

    @property
    def gain(self) -> float:
        """The median of what it is ranked by."""
        return self.bands[self.measure].median


@dataclass(frozen=True)
class FalseAlarm(Record):
    """How often a method sees `ALARM` sigma without a signal, by one statistic: k of n samples, 68 % interval.

    0.023 are expected of a fixed cut. further: the samples were searched with what had been learned from another.
    """

    method: str
    statistic: str
    further: bool
    n: int
    k: int
    low: float
    high: float


@dataclass(frozen=True)
class Alike(Record):
    """Spearman's correlation of the methods' scores of the same events, mean over the seeds: (n, n)."""

    sample: str
    features: str
    leak: float
    noise: int
    n_injected: int
    methods: tuple[str, ...]
    correlation: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Pair(Record):
    """Two methods of which the literature has the first as the better one, on the same samples.

    difference: of the largest improvement, mean over n samples, and its standard error (None of one sample).
    """

    sample: str
    features: str
    n_injected: int
    better: str
    worse: str
    n: int
    difference: float
    error: float | None

    @property
    def words(self) -> str:
        """What was seen."""
        error = f" +- {self.error:.2f}" if self.error is not None else ""
        if self.error is not None and abs(self.difference) > self.error:
            seen = "as reported" if self.difference > 0 else "NOT as reported"
        else:
            seen = "not told apart"
        where = f"{self.features}, {self.n_injected} signal events"
        return f"{where}: {self.better} less {self.worse} = {self.difference:+.2f}{error} ({seen})"


@dataclass(frozen=True)
class BenchSummary(Record):
    """All of it. detections: at the same rate of false alarms. words: what to take from it."""

    n_cells: int
    n_failed: int
    failures: dict[str, str]
    ranking: tuple[Standing, ...]
    false_alarms: tuple[FalseAlarm, ...]
    correlations: tuple[Alike, ...]
    order: tuple[Pair, ...]
    detections: tuple[Detection, ...]
    words: tuple[str, ...]


def summarise(outcomes: Sequence[Outcome], nulls: pd.DataFrame) -> BenchSummary:
    """The summary of all cells. nulls: of `tables.nulls`."""
    frame, failed = cells(outcomes), failures(outcomes)
    ranking = tuple(standings(frame))
    alarms = (*_false_alarms(frame[frame["n_injected"] == 0], False), *_false_alarms(nulls, True))
    order, seen = tuple(pairs(frame)), list(detection.detections(frame, nulls))
    return BenchSummary(
        len(frame),
        len(failed),
        failed,
        ranking,
        alarms,
        tuple(_alike(outcomes)),
        order,
        tuple(seen),
        (*words(ranking), *detection.words(seen), *(pair.words for pair in order)),
    )


def standings(frame: pd.DataFrame) -> Iterator[Standing]:
    """Every method at every place, the largest gain first. frame: of `tables.cells`."""
    for _, at_place in frame.groupby(list(PLACE), sort=False):
        first = at_place.iloc[0]
        found = [
            Standing(
                str(first["sample"]),
                str(first["features"]),
                float(first["leak"]),
                int(first["noise"]),
                int(first["n_injected"]),
                str(name),
                METHODS[str(name)].title,
                METHODS[str(name)].needs == Needs.TRUTH,
                len(rows),
                int(rows["sculpted"].fillna(False).sum()),
                {measure: band for measure in MEASURES if (band := _band(rows[measure]))},
            )
            for name, rows in at_place.groupby("method", sort=False)
        ]
        yield from sorted(found, key=lambda standing: -standing.gain)


def _band(values: "pd.Series[float]") -> Band | None:
    known = values.dropna().to_numpy(dtype=float)
    if not len(known):
        return None
    median, low, high = np.quantile(known, (0.5, *BAND))
    return Band(len(known), float(median), float(low), float(high))


def _false_alarms(frame: pd.DataFrame, further: bool) -> Iterator[FalseAlarm]:
    """frame: samples without signal; those of the data are no such."""
    simulated = frame[frame["sample"] == "simulated"]
    for name, rows in simulated.groupby("method", sort=False):
        for statistic in ALARMS:
            if statistic not in OF_EVERY and rows[statistic].isna().all():
                continue
            known = rows[statistic].fillna(0.0)  # a likelihood without an excess has none
            k, n = int((known >= ALARM).sum()), len(known)
            low, high = clopper_pearson(np.array([k]), np.array([n]))
            yield FalseAlarm(str(name), statistic, further, n, k, float(low[0]), float(high[0]))


def _alike(outcomes: Sequence[Outcome]) -> Iterator[Alike]:
    """The correlations at each place."""
    probes: dict[tuple[object, ...], dict[int, dict[str, list[float]]]] = {}
    for each in succeeded(outcomes):
        labels = each.scenario.labels
        place = tuple(labels[name] for name in PLACE)
        by_method = probes.setdefault(place, {}).setdefault(int(labels["repeat"]), {})
        by_method[str(labels["method"])] = each.rows[0]["probe"]
    for where, repeats in probes.items():
        tables = [pd.DataFrame(by_method).corr(method="spearman") for by_method in repeats.values()]
        names = list(dict.fromkeys(name for table in tables for name in table))
        stacked = np.array([table.reindex(index=names, columns=names).to_numpy(dtype=float) for table in tables])
        mean = pd.DataFrame(stacked.reshape(len(tables), -1)).mean().to_numpy().reshape(len(names), -1)
        rows = tuple(tuple(None if np.isnan(value) else float(value) for value in row) for row in mean)
        yield Alike(**dict(zip(PLACE, where, strict=True)), methods=tuple(names), correlation=rows)  # type: ignore[arg-type]


def pairs(frame: pd.DataFrame) -> Iterator[Pair]:
    """The order of the literature, pair by pair, wherever there is a signal and both were done on the same samples."""
    labelled = frame[(frame["n_injected"] > 0) & (frame["leak"] == 0) & (frame["noise"] == 0)]
    for _, rows in labelled.groupby(["sample", "features", "n_injected"], sort=False):
        first = rows.iloc[0]
        table = rows.pivot_table(index="repeat", columns="method", values="improvement_max")
        known = [name for name in LITERATURE if name in table]
        for better, worse in zip(known[:-1], known[1:], strict=True):
            difference = (table[better] - table[worse]).dropna()
            if len(difference):
                error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else None
                yield Pair(
                    str(first["sample"]),
                    str(first["features"]),
                    int(first["n_injected"]),
                    better,
                    worse,
                    len(difference),
                    float(difference.mean()),
                    error,
                )


def words(ranking: Sequence[Standing]) -> Iterator[str]:
    """Which method for how many events and features, of the numbers; the bounds are what it is measured against."""
    places = dict.fromkeys(tuple(getattr(standing, name) for name in PLACE) for standing in ranking)
    for place in places:
        here = [each for each in ranking if tuple(getattr(each, name) for name in PLACE) == place]
        searched = [each for each in here if not each.is_bound]
        if not searched or (searched[0].sample == "simulated" and not searched[0].n_injected):
            continue
        best = searched[0]
        band = best.bands[best.measure]
        alike = [each.title for each in searched[1:] if each.bands[each.measure].high >= band.low]
        what = "significance improvement" if best.measure == "improvement_max" else "ARGOS"
        interval = f"{band.median:.2f} ({band.low:.2f} to {band.high:.2f})"
        sentence = f"{_where(best)}: {best.title} has the largest {what}, {interval}"
        bound = next((each for each in here if each.method == "idealised"), None)
        if bound is not None:
            sentence += f", {100 * best.gain / bound.gain:.0f} % of the idealised method's"
        if alike:
            sentence += f"; with bands that reach it: {', '.join(alike)}"
        yield sentence + "."


def _where(standing: Standing) -> str:
    events = f"{standing.n_injected} signal events" if standing.sample == "simulated" else f"data ({standing.sample})"
    further = [f"{standing.noise} features of noise"] * bool(standing.noise)
    further += [f"{100 * standing.leak:.0f} % of the signal in the sidebands"] * bool(standing.leak)
    return ", ".join([events, f"features {standing.features}", *further])
