"""One place that refuses a value that is not finite where a number counts."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dimuon.arrays import FloatArray, IntArray
from dimuon.errors import UserError


def require_finite(path: Path | str, columns: Mapping[str, FloatArray], rows: IntArray, remedy: str) -> None:
    """`UserError` with file, column and row of the first value that is not finite.

    columns: {name: (n_events,)}. rows: (n_events,), of the file. remedy: what to do.
    """
    for name, values in columns.items():
        bad = ~np.isfinite(values)
        if bad.any():
            first, found = rows[np.argmax(bad)], values[np.argmax(bad)]
            raise UserError(f"{path}: {name} is not finite in row {first} ({found}; {bad.sum()} such values); {remedy}")
