"""The cells of the bench as tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from dimuon.errors import UserError
from dimuon.studies.bench import products
from dimuon.studies.scenarios import Outcome, succeeded
from dimuon.workflow.products import Product

Row = Mapping[str, Any]


def cells(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """A row for each cell that did not fail; `UserError` where all did."""
    frame = _frame(products.CELLS, outcomes, lambda row: [row["cell"]])
    if frame.empty:
        raise UserError(f"every cell of the bench failed, the first with: {outcomes[0].failed}")
    return frame.astype({"sculpted": "boolean"})


def curves(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """The improvement of each cell, point by point."""
    return _frame(products.CURVES, outcomes, lambda row: row["curve"])


def nulls(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """The significances of further samples without signal."""
    return _frame(
        products.NULLS, outcomes, lambda row: [null | {"experiment": i} for i, null in enumerate(row["nulls"])]
    )


def costs(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Time and memory of each cell."""
    return _frame(products.COSTS, outcomes, lambda row: [row["cost"]])


def _frame(product: Product, outcomes: Sequence[Outcome], read: Callable[[Row], Sequence[Row]]) -> pd.DataFrame:
    """The columns of a product; a number that is not defined is missing."""
    rows = [{**each.scenario.labels, **values} for each in succeeded(outcomes) for values in read(each.rows[0])]
    frame = pd.DataFrame(rows, columns=list(product.column_names))
    texts = {"method", "sample", "features", "sculpted", "seed", "repeat", "n_injected", "noise", "experiment"}
    return frame.astype({name: "float64" for name in frame if name not in texts})
