"""Two sets of results side by side: `python -m dimuon compare results/a results/b [--plot]`.

Prints the headline numbers of both with their difference, where their curves differ most, and every setting that
differs; `--plot` draws the
significance curves of both over each other.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dimuon.bumphunt.headlines import SHOWN, HeadlineCell, headline_rows
from dimuon.bumphunt.result import TestResult
from dimuon.commands import inspect
from dimuon.dataset import Dataset, MassAxis
from dimuon.errors import UserError
from dimuon.figures.p_value_axes import FLOOR, curve, p_value_axes, variable_label
from dimuon.figures.style import COLOURS, LINES, MARKERS, Look, legend_beside, panels, save, say_origin, styled
from dimuon.origin import Origin, merged
from dimuon.studies import standing
from dimuon.workflow import products, provenance

log = logging.getLogger("dimuon")


@dataclass(frozen=True)
class Results:
    """The results of one analysis. data: what its events are. curves: as their table. sidecar: of the tests."""

    data: Dataset
    tests: list[TestResult]
    curves: pd.DataFrame
    sidecar: dict[str, Any]


def read(folder: Path | str) -> Results:
    """What step 6 left in a folder; `UserError` names what is missing or damaged."""
    folder = Path(folder)
    paths = products.SIGNIFICANCE.at(folder), products.CURVES.at(folder)
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: not found; give a folder results/<name>/ in which step 6 has written")
    curves = provenance.load_table(paths[1], products.CURVES.column_names)
    content = provenance.load_json(paths[0])
    mass = MassAxis.from_json(content["mass"]) if "mass" in content else MassAxis()
    data = Dataset(Origin.read(content["origin"]), mass, content.get("events", "dimuons"))
    return Results(data, inspect.tests(content, paths[0]), curves, provenance.sidecar(paths[0]))


def headlines(first: Sequence[TestResult], second: Sequence[TestResult]) -> pd.DataFrame:
    """The Z0 of two sets of tests side by side: test, quantity, first and second in words, difference (NaN where one
    has none: a bound is no value)."""
    sides = [{row.result.name: row for row in headline_rows(tests)} for tests in (first, second)]
    rows = []
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        for statistic in SHOWN:
            cells = [side[name][statistic] if name in side else HeadlineCell(statistic) for side in sides]
            if any(cell.z0 is not None or cell.bound is not None for cell in cells):
                before, after = (float("nan") if cell.z0 is None else cell.z0 for cell in cells)
                scope = "" if cells[0].is_global else "local: "
                rows.append([name, scope + statistic.label, *(cell.text for cell in cells), after - before])
    return pd.DataFrame(rows, columns=["test", "quantity", "first", "second", "difference"])


def largest_differences(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Where the curves differ most in Z0, one row per test: test, variable, fpr, first, second, difference.

    first, second: as `significance_curves.parquet`. Compared are the analyses' own functions at the false-positive
    rates that both have, for the classifier and the features.
    """
    keys = ["train", "test", "variable", "fpr"]
    own = [table[table["baseline"] & (table["variable"] != "random")] for table in (first, second)]
    sides = [table[keys].assign(fpr=table["fpr"].round(9), z0=table["z0"]) for table in own]
    both = sides[0].merge(sides[1], on=keys, suffixes=("_a", "_b")).rename(columns={"z0_a": "first", "z0_b": "second"})
    both = both.assign(test=both["train"] + "_on_" + both["test"], difference=both["second"] - both["first"])
    largest = both["difference"].abs().groupby(both["test"], sort=False).idxmax()
    return both.loc[largest, ["test", "variable", "fpr", "first", "second", "difference"]].reset_index(drop=True)


def labels(folders: Sequence[Path | str]) -> list[str]:
    """What to call two folders: the ends of their paths, as long as it takes to tell them apart."""
    parts = [Path(folder).resolve().parts for folder in folders]
    ends = (["/".join(part[-depth:]) for part in parts] for depth in range(1, max(map(len, parts)) + 1))
    return next((pair for pair in ends if pair[0] != pair[1]), [parts[0][-1], parts[1][-1]])


def settings(first: dict[str, Any], second: dict[str, Any]) -> pd.DataFrame:
    """The settings that differ between two sidecars: setting, first, second ("–" where one does not have it)."""
    made = [meta.get("settings", {}) for meta in (first, second)]
    rows = [
        [key, *(str(values.get(key, "–")) for values in made)]
        for key in sorted(made[0].keys() | made[1].keys())
        if made[0].get(key) != made[1].get(key) and key != "name"
    ]
    for key in ("git_commit", "origin"):
        if first.get(key) != second.get(key):
            rows.append([key, str(first.get(key)), str(second.get(key))])
    return pd.DataFrame(rows, columns=["setting", "first", "second"])


def text(folders: Sequence[Path | str]) -> str:
    """Everything there is to say about two results folders, as lines of text."""
    first, second = (read(folder) for folder in folders)
    numbers, differing = headlines(first.tests, second.tests), settings(first.sidecar, second.sidecar)
    named = dict(zip(("first", "second"), labels(folders), strict=True))
    said = []
    for folder, results in zip(folders, (first, second), strict=True):
        said += [f"{folder}: {results.data.origin.label}"]
        said += [f"  {line}" for line in standing.lines(Path(folder), tests=results.tests)]
    changed = differing.rename(columns=named).to_string(index=False) if len(differing) else "no setting differs"
    table = numbers.rename(columns=named).to_string(index=False, float_format="%.2f", na_rep="–")
    apart = largest_differences(first.curves, second.curves).rename(columns=named)
    most = apart.to_string(index=False, float_format="%.3g") if len(apart) else "no working point in common"
    parts = {"Z0": table, "where the curves differ most in Z0": most, "settings that differ": changed}
    return "\n".join([*said, *(f"\n{heading}:\n{part}" for heading, part in parts.items())])


@styled
def curves(tables: Sequence[pd.DataFrame], names: Sequence[str], data: Dataset) -> Figure:
    """The classifier's p-value against the false-positive rate in two results, one panel per train-test combination.

    tables: two DataFrames as `significance_curves.parquet`. names: of the two, for the legend. Faint: their variations.
    """
    chosen = [table[table["variable"] == "cathode"] for table in tables]
    tests = list(dict.fromkeys(key for table in chosen for key in zip(table["train"], table["test"], strict=True)))
    n_across = min(2, len(tests))
    n_rows = -(-len(tests) // n_across)
    size = 6.2 * n_across + 3.4, 4.9 * n_rows + 0.8
    figure, axes = panels(n_rows, n_across, size=size, squeeze=False, sharex=True, sharey=True)
    lowest = min(table["p0"].min() for table in chosen)
    varied = False
    for axis, (train, test) in zip(axes.flat, tests, strict=False):
        for table, name, colour, line, marker in zip(chosen, names, COLOURS, LINES, MARKERS, strict=False):
            part = table[(table["train"] == train) & (table["test"] == test)].sort_values("fpr")
            look = Look(line, marker, colour, strong=True)
            for _, other in part[~part["baseline"]].groupby(["degree", "n_bins_sr"]):
                axis.plot(other["fpr"], other["p0"].clip(lower=FLOOR), color=colour, linestyle=line, alpha=0.3)
                varied = True
            curve(axis, part[part["baseline"]], look, name)
        p_value_axes(axis, lowest, with_sigma=axis in axes[:, -1])
        axis.set_xlabel("False-positive rate" if axis in axes[-1] else "")
        axis.text(0.04, 0.04, data.describe(train, test), transform=axis.transAxes, fontsize=16)
        if axis not in axes[:, 0]:
            axis.set_ylabel("")
    for axis in axes.flat[len(tests) :]:
        axis.set_visible(False)
    if varied:
        axes[0, -1].plot([], [], color="black", alpha=0.3, label="other fits of each")
    legend_beside(axes[0, -1], variable_label("cathode", data), 1.14)
    say_origin(figure, axes[0, 0], data.origin, last=axes[0, -1])
    return figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands after `compare`."""
    parser.add_argument("folders", nargs=2, type=Path, metavar="results/NAME", help="two results folders")
    parser.add_argument("--plot", action="store_true", help="write compare_A_B.{pdf,png} beside the two folders")


def main(arguments: argparse.Namespace) -> None:
    """Print and, where asked for, draw."""
    log.info("%s", text(arguments.folders))
    if arguments.plot:
        names = labels(arguments.folders)
        both = [read(folder) for folder in arguments.folders]
        data = both[0].data.of(merged(results.data.origin for results in both))
        stem = arguments.folders[0].parent / f"compare_{'_'.join(names).replace('/', '_')}"
        log.info("wrote %s", ", ".join(map(str, save(curves([results.curves for results in both], names, data), stem))))
