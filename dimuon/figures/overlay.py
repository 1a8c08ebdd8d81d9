"""Published or own curves to be drawn beside ours, from CSV files that users bring: `figures.overlay`.

Columns: `fpr` and one of `z0` and `p0`; where wanted `label` (of the legend), `test` and `train` (the samples, such as
"os"). A header may say a unit: `fpr [%]`, `z0 [sigma]`. Lines that begin with # are not read.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from dimuon.arrays import FloatArray
from dimuon.errors import UserError

UNITS = {"fpr": {"": 1.0, "%": 0.01}, "z0": {"": 1.0, "sigma": 1.0, "σ": 1.0}, "p0": {"": 1.0}}
WORDS = ("label", "train", "test")
COLUMNS = f"columns: fpr, one of z0 and p0; {', '.join(WORDS)} where wanted"


@dataclass(frozen=True, eq=False)
class Overlay:
    """A curve of others. test: the sample that it is of, None for all; train: of its classifier. fpr, p0: (n,)."""

    label: str
    fpr: FloatArray
    p0: FloatArray
    train: str | None = None
    test: str | None = None

    def is_of(self, train: str, test: str) -> bool:
        """Whether it belongs into the figure of a train-test combination; those of no sample, of each matched one."""
        if self.test is None:
            return train == test
        return (self.train or self.test, self.test) == (train, test)


def read(path: Path) -> list[Overlay]:
    """The curves in a file, in their order; `UserError` names file, row, what was found and what is expected."""
    try:
        table = pd.read_csv(path, comment="#", skipinitialspace=True, skip_blank_lines=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; figures.overlay names CSV files with the {COLUMNS}") from None
    except (OSError, ValueError) as error:  # pandas' own errors and those of the encoding are ValueErrors
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a CSV table ({reason}); figures.overlay needs the {COLUMNS}") from error
    numbers = dict(_numbers(table, path))
    if "fpr" not in numbers or len(numbers) != 2:
        found = ", ".join(map(str, table.columns))
        raise UserError(f"{path}: found the columns {found}; figures.overlay needs the {COLUMNS}")
    unknown = [name for name in table.columns if _split(name)[0] not in (*numbers, *WORDS)]
    if unknown:
        raise UserError(f"{path}: unknown column {unknown[0]!r}; figures.overlay needs the {COLUMNS}")
    if table.empty:
        raise UserError(f"{path}: no row under the header; give one for each point of a curve")
    p0 = numbers["p0"] if "p0" in numbers else norm.sf(numbers["z0"])
    words = pd.DataFrame({name: table[name] if name in table else "" for name in WORDS}, index=table.index)
    words = words.fillna("").astype(str)
    curves = []
    for label, train, test in words.drop_duplicates().to_numpy().tolist():
        chosen = np.flatnonzero((words == [label, train, test]).all(axis=1))
        order = chosen[np.argsort(numbers["fpr"][chosen])]
        samples = (train.lower() or None, test.lower() or None)
        curves.append(Overlay(label or path.stem, numbers["fpr"][order], p0[order], *samples))
    return curves


def of_test(curves: Iterable[Overlay], train: str, test: str) -> list[Overlay]:
    """Those that belong to a train-test combination."""
    return [curve for curve in curves if curve.is_of(train, test)]


def _split(column: object) -> tuple[str, str]:
    """(name, unit) of a header."""
    name, _, unit = str(column).partition("[")
    return name.strip(), unit.strip().removesuffix("]")


def _numbers(table: pd.DataFrame, path: Path) -> Iterator[tuple[str, FloatArray]]:
    """The columns with numbers, each checked and in the unit of our tables."""
    for column in table.columns:
        name, unit = _split(column)
        if name not in UNITS:
            continue
        if unit not in UNITS[name]:
            known = ", ".join(each or "none" for each in UNITS[name])
            raise UserError(f"{path}: unknown unit {unit!r} of column {name}; known: {known}")
        values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float) * UNITS[name][unit]
        low_enough = values >= 0 if name == "z0" else (values > 0) & (values <= 1)
        wrong = ~(np.isfinite(values) & low_enough)
        if wrong.any():
            row, asked = int(np.argmax(wrong)), "of at least 0" if name == "z0" else "above 0 and at most 1"
            raise UserError(f"{path}: {column} is {table[column].iloc[row]} in row {row + 1}; give a number {asked}")
        yield name, values
