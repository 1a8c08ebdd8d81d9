"""How often a method sees a signal at the same rate of false alarms: what a gain is worth, whatever its Z0 means."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dimuon.methods.kinds.combined import PARTS
from dimuon.records import Record
from dimuon.statistics.intervals import clopper_pearson

FALSE_ALARMS = 0.05  # of samples without a signal
BEST = "best_of_three"  # whichever of the methods in `PARTS` says most
STATISTICS = ("z0_loose", "z0_tight", "z0_max")
SAMPLE = ["sample", "features", "leak", "noise"]
ONE = ["repeat", "experiment"]  # of the samples without a signal


@dataclass(frozen=True)
class Detection(Record):
    """Of n samples with a signal, the k that a method sees, by one statistic; 68 % interval of the fraction.

    threshold: the significance that `FALSE_ALARMS` of the n_nulls samples without a signal exceed.
    """

    features: str
    leak: float
    noise: int
    n_injected: int
    method: str
    statistic: str
    threshold: float
    n_nulls: int
    n: int
    k: int
    low: float
    high: float


def detections(cells: pd.DataFrame, nulls: pd.DataFrame) -> Iterator[Detection]:
    """For every place with a signal for which there are enough samples without one. cells, nulls: of `tables`."""
    simulated = cells[cells["sample"] == "simulated"]
    empty = simulated[simulated["n_injected"] == 0].assign(experiment=-1)
    without = pd.concat([empty, nulls], ignore_index=True) if len(nulls) else empty
    of_features = {key: rows for key, rows in without.groupby(["features", "noise"], sort=False)}
    signals = simulated[simulated["n_injected"] > 0]
    for _, rows in signals.groupby([*SAMPLE, "n_injected"], sort=False):
        first = rows.iloc[0]
        known = of_features.get((first["features"], first["noise"]))
        if known is None:
            continue
        for statistic in STATISTICS:
            null, found = _by_method(known, statistic, ONE), _by_method(rows, statistic, ["repeat"])
            for name in found:
                if name not in null or null[name].count() * FALSE_ALARMS < 1:
                    continue
                values, seen = null[name].dropna().to_numpy(dtype=float), found[name].dropna().to_numpy(dtype=float)
                threshold = float(np.sort(values)[::-1][int(len(values) * FALSE_ALARMS)])
                k, n = int((seen > threshold).sum()), len(seen)
                low, high = clopper_pearson(np.array([k]), np.array([n]))
                yield Detection(
                    str(first["features"]),
                    float(first["leak"]),
                    int(first["noise"]),
                    int(first["n_injected"]),
                    str(name),
                    statistic,
                    threshold,
                    len(values),
                    n,
                    k,
                    float(low[0]),
                    float(high[0]),
                )


def _by_method(rows: pd.DataFrame, statistic: str, one: list[str]) -> pd.DataFrame:
    """The significances, a column for each method and one for the best of three where all of these are there."""
    table = rows.pivot_table(index=one, columns="method", values=statistic, sort=False)
    if all(name in table for name in PARTS):
        table[BEST] = table[list(PARTS)].max(axis=1, skipna=False)
    return table


def words(found: list[Detection]) -> Iterator[str]:
    """What is seen most often, by the cut that keeps 10 %, at each place."""
    loose = [each for each in found if each.statistic == "z0_loose"]
    for place in dict.fromkeys((each.features, each.noise, each.leak, each.n_injected) for each in loose):
        here = [each for each in loose if (each.features, each.noise, each.leak, each.n_injected) == place]
        here.sort(key=lambda each: -each.k / each.n)
        shares = ", ".join(f"{each.method} {each.k} of {each.n}" for each in here[:5])
        yield (
            f"{place[3]} signal events, features {place[0]}"
            + f", {place[1]} features of noise" * bool(place[1])
            + f", {100 * place[2]:.0f} % of the signal in the sidebands" * bool(place[2])
            + f", cut that keeps 10 %: at a false-alarm rate of {100 * FALSE_ALARMS:.0f} % seen most often by {shares}."
        )
