"""Upper limits on the number of signal events in the SR, after step 6: without a cut and at each working point.

Observed, and the median and bands of what background alone would give, by CLs (arXiv:1007.1727). A limit after a cut is
on the events that pass it. How many signal events that is in all depends on how well the classifiers learn them, which
depends on how many there are: where `dimuon study injection` was done, its injected numbers translate a limit into
events before the cut (ATLAS 2025, arXiv:2502.09770, section V D 5).

Writes results/<name>/limits.parquet.
"""

import argparse
import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dimuon.arrays import FloatArray
from dimuon.bumphunt.result import Statistic
from dimuon.errors import UserError
from dimuon.screen import aligned
from dimuon.statistics import limits, model_choice
from dimuon.statistics.limits import UpperLimit
from dimuon.statistics.spectra import Spectra
from dimuon.studies import injection
from dimuon.workflow import cli, config, products
from dimuon.workflow.provenance import Run

log = logging.getLogger("dimuon")

BANDS = ("minus_2", "minus_1", "expected", "plus_1", "plus_2")
OF_METHOD = (Statistic.NO_CUT, Statistic.FIXED_CUT)  # whose cut the injection study knows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands after `limits`."""
    parser.add_argument("config", metavar="CONFIG.yaml", help="the analysis, e.g. configs/demo.yaml")
    parser.add_argument(
        "--confidence", type=float, default=limits.CONFIDENCE, help="of the limits (default: %(default)s)"
    )


def main(arguments: argparse.Namespace) -> None:
    """Read, compute, show and write."""
    if not 0.5 < arguments.confidence < 1:
        raise UserError(f"--confidence {arguments.confidence:g}: it lies above 0.5 and below 1, such as 0.95")
    run = Run(config.load(arguments.config), products.LIMITS_MAKER.command, arguments.config)
    sources = [run.path(product) for product in (products.MASS_HISTOGRAMS, products.MASS_POINTS)]
    histograms, points = (_of_cuts(run.read_table(path)) for path in sources)
    with cli.explained(section="significance", what=sources[0]):
        frame = _table(run.config, histograms, points, arguments.confidence)
    injected = run.path(injection.TABLE)
    efficiency = None
    if not injected.exists():
        log.info("events before the cut are not known; run `python -m dimuon study injection %s`", run.config_path)
    else:
        efficiency = SignalEfficiency(run.read_table(injected))
        sources.append(injected)
    frame = frame.assign(
        **{
            f"injected_{name}": _injected(efficiency, frame, column)
            for name, column in (("limit", "limit"), ("expected", "limit_expected"))
        }
    )
    for line in report(frame, arguments.confidence):
        log.info("%s", line)
    path = run.write_table(run.path(products.LIMITS), frame, sources)
    log.info("wrote %s", path)


def report(frame: pd.DataFrame, confidence: float) -> list[str]:
    """The limits as lines for the screen."""
    rows = [["sample", "FPR", "observed", "expected", "68 %", "95 %", "before the cut"]]
    for row in frame.to_dict("records"):
        known = np.isfinite(row["injected_limit"])
        rows.append([
            f"{row['train']} on {row['test']}",
            f"{row['fpr']:.3g}" + ("" if row['valid'] else " (!)"),
            f"{row['limit']:.1f}",
            f"{row['limit_expected']:.1f}",
            f"{row['limit_minus_1']:.1f} to {row['limit_plus_1']:.1f}",
            f"{row['limit_minus_2']:.1f} to {row['limit_plus_2']:.1f}",
            f"{row['injected_limit']:.0f} ({row['injected_expected']:.0f} expected)" if known else "not known",
        ])  # fmt: skip
    lines = [f"upper limits on the signal events in the SR, {100 * confidence:.3g} % confidence (CLs)"]
    lines += aligned(rows, "<<>>>>>")
    if not frame["valid"].all():
        lines.append("(!) too few events for the asymptotic form")
    return lines


@dataclass(frozen=True)
class SignalEfficiency:
    """How many signal events pass a cut, by how many there are. table: of the study `injection`."""

    table: pd.DataFrame

    def injected(self, train: str, test: str, fpr: float, passing: float) -> float:
        """The number of injected events of which so many pass on the mean; NaN where the study does not reach it.

        The mean number that pass is taken as linear between the numbers that were injected.
        """
        if (train, test) != ("os", "os"):  # the study's sample
            return np.nan
        for method in OF_METHOD:
            of_method = self.table[(self.table["method"] == method.value) & np.isclose(self.table["fpr"], fpr)]
            mean = of_method.dropna(subset="n_kept").groupby("n_injected")["n_kept"].mean()
            if len(mean) > 1:
                return crossing(mean.index.to_numpy(dtype=float), mean.to_numpy(), passing)
        return np.nan


def crossing(x: FloatArray, y: FloatArray, level: float) -> float:
    """Where a line through points (x, y) first reaches a level; NaN where it does not. x: (n,), rising; y: (n,)."""
    above = np.flatnonzero(y >= level)
    if not above.size:
        return np.nan
    last = above[0]
    if last == 0:
        return float(x[0]) if y[0] == level else np.nan
    share = (level - y[last - 1]) / (y[last] - y[last - 1])
    return float(x[last - 1] + share * (x[last] - x[last - 1]))


def _of_cuts(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the classifier's cuts."""
    return frame[frame["variable"] == Statistic.WORKING_POINT.value]


def _table(chosen: config.Config, histograms: pd.DataFrame, points: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """A row for each working point of each test."""
    model = model_choice.model_of(chosen.significance, chosen.window)
    bins = chosen.window.binning(chosen.significance.n_bins_sr)
    rows = []
    for (train, test, fpr), of_point in histograms.groupby(["train", "test", "fpr"], sort=False):
        counts = bins.sr_as_one(of_point.sort_values("bin_low")["n_obs"].to_numpy(dtype=float))[None]
        [limit] = limits.upper_limits(Spectra(bins, counts, np.ones_like(counts)), model, confidence)
        same = (points["train"] == train) & (points["test"] == test) & (points["fpr"] == fpr)
        tested = points[same].iloc[0]
        rows.append(
            {"train": train, "test": test, "fpr": fpr}
            | {name: tested[name] for name in ("n_obs", "n_bkg", "valid")}
            | _columns(limit)
        )
    return pd.DataFrame(rows)


def _columns(limit: UpperLimit) -> dict[str, float]:
    bands = {f"limit_{name}": getattr(limit, name) for name in BANDS}
    return {"confidence": limit.confidence, "limit": limit.observed} | bands


def _injected(efficiency: SignalEfficiency | None, frame: pd.DataFrame, column: str) -> list[float]:
    if efficiency is None:
        return [np.nan] * len(frame)
    rows = zip(frame["train"], frame["test"], frame["fpr"], frame[column], strict=True)
    return [efficiency.injected(train, test, fpr, passing) for train, test, fpr, passing in rows]
