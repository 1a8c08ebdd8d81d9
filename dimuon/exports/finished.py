"""The finished results of an analysis, as the exports read them: whole, of this configuration, or not at all."""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from dimuon import columns
from dimuon.bumphunt.headlines import headline_rows
from dimuon.bumphunt.result import TestResult
from dimuon.columns import Column
from dimuon.errors import UserError
from dimuon.origin import Origin
from dimuon.workflow import products, provenance
from dimuon.workflow.products import PRODUCTS, Product
from dimuon.workflow.provenance import Run

log = logging.getLogger("dimuon")

MAX_ROWS = 200_000  # a larger table is a sample of events, to be read where it lies
COUNTS = ("n_obs", "n_bkg", "n_bkg_err", "n_sig", "q0")  # of a test, beside its significance
REQUIRED = (products.SIGNIFICANCE, products.CURVES, products.FIGURE_INDEX)


HEADLINE_COLUMNS = {  # of the headline numbers alone
    "statistic": Column("text", "what the significance is of"),
    "z0_err": Column("sigma", "half of the 68 % interval of a global significance"),
    "bound": Column("sigma", "where there is no value, but z0 is known to be above this (84 % confidence)"),
    "reason": Column("text", "where a global value comes from, or why there is no value"),
}


@dataclass(frozen=True, eq=False)
class ResultTable:
    """A table of results. path: where it lies. columns: with the units that it was written with."""

    product: Product
    path: Path
    frame: pd.DataFrame
    columns: dict[str, Column]


@dataclass(frozen=True, eq=False)
class FigureNumbers:
    """The numbers of one figure, with what is said of it. path: of its CSV. product: that it was drawn from."""

    name: str
    title: str
    section: str
    caption: str
    origin: Origin
    path: Path
    frame: pd.DataFrame
    product: Product | None


class Finished:
    """The results in `results/<name>/`.

    `UserError` says which step to run where one is missing, stale or damaged. What a study left is exported where it is
    there and up to date, and named where it is not up to date.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def require(self) -> None:
        """Check that steps 6 and 7 are done, in their order, and all they rest on is up to date."""
        for product in REQUIRED:
            self.run.require(self.run.path(product))

    @cached_property
    def significance(self) -> dict[str, Any]:
        """The content of `significance.json`."""
        content: dict[str, Any] = provenance.load_json(self.significance_path)
        return content

    @property
    def significance_path(self) -> Path:
        """Where it lies."""
        return self.run.path(products.SIGNIFICANCE)

    @property
    def origin(self) -> Origin:
        """Where the events of the headline numbers come from."""
        return self.run.origin([self.significance_path])

    @cached_property
    def results(self) -> list[TestResult]:
        """The headline numbers of every test."""
        return [TestResult.from_json(test) for test in self.significance["tests"].values()]

    def headlines(self) -> pd.DataFrame:
        """The headline numbers as a table, one row for each test and statistic."""
        rows = []
        for row in headline_rows(self.results):
            for statistic, cell in row.cells.items():
                labels = {"train": row.result.train, "test": row.result.test, "statistic": statistic.value}
                cut = {"variable": cell.variable, "fpr": cell.fpr, "cut": getattr(cell.outcome, "cut", None)}
                counts = {name: getattr(cell.outcome, name, None) for name in COUNTS}
                numbers = {"z0": cell.z0, "p0": cell.p0, "valid": cell.valid if cell.z0 is not None else None}
                known = {"z0_err": cell.z0_err, "bound": cell.bound, "reason": cell.reason}
                rows.append(labels | cut | counts | numbers | known)
        return pd.DataFrame(rows)

    def tables(self) -> Iterator[ResultTable]:
        """Every table of results that there is."""
        for product in PRODUCTS.values():
            if product.folder != "results" or not product.path.endswith(".parquet"):
                continue
            for path in sorted(self.run.results.glob(re.sub(r"{\w+}", "*", product.inside))):
                if self._is_current(product, path):
                    frame = self.run.read_table(path)
                    if len(frame) > MAX_ROWS:
                        log.info("%s: %s rows are not exported, read them there", path, f"{len(frame):,}")
                        continue
                    yield ResultTable(product, path, frame, self._as_written(path))

    def figures(self) -> Iterator[FigureNumbers]:
        """The numbers of every figure, as step 7 wrote them."""
        index = self.run.path(products.FIGURE_INDEX)
        for name, said in provenance.load_json(index).items():
            path = index.parent / f"{name}.csv"
            if not path.exists() or provenance.file_hash(path) != said["sha256"].get(path.name):
                raise UserError(f"{path}: not as 07_plots.py wrote it; run `python 07_plots.py {self.run.config_path}`")
            product = PRODUCTS.find(said["inputs"][0]) if said["inputs"] else None
            yield FigureNumbers(
                name,
                said["title"],
                said["section"],
                said["caption"],
                Origin.read(said["origin"]),
                path,
                pd.read_csv(path),
                product,
            )

    def _is_current(self, product: Product, path: Path) -> bool:
        """Whether a table is of this configuration; a study's that is not is left out and named."""
        reason = self.run.stale(path) if product.maker.is_study else None
        if reason:
            log.warning("left out: %s", reason)
            return False
        return True

    def _as_written(self, path: Path) -> dict[str, Column]:
        """The columns of a table that are known, with the units that its sidecar gives."""
        units: dict[str, str] = provenance.sidecar(path).get("units") or {}
        declared = self.run.config.declared_columns
        known = {name: declared.get(name) or columns.find(name) for name in units}
        return {name: Column(units[name], column.meaning) for name, column in known.items() if column}
