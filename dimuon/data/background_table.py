"""The table of sampled background between step 4 and step 5."""

from collections.abc import Sequence
from pathlib import Path

from dimuon.data.finite import require_finite
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.workflow import products
from dimuon.workflow.provenance import Run, table_columns


def path(run: Run, charge: str) -> Path:
    """Where step 4 writes the sampled background of a charge."""
    return run.path(products.BACKGROUND, charge=charge)


def read(run: Run, charge: str, names: Sequence[str]) -> Events:
    """The sampled SR events to train against, with the named features; rows of the file.

    Their weight is 1 where the file has none. Raises `UserError` for a missing file or column, a value that is not
    finite, or no SR event.
    """
    file = run.require(path(run, charge))
    mass = run.config.mass_axis.column
    columns = [mass, *names, *(["weight"] if "weight" in table_columns(file) else [])]
    frame = run.read_table(file, [*columns, "region", "use"])
    frame = frame[(frame["region"] == "SR") & frame["use"].isin(["train", "validation"])][columns]
    if frame.empty:
        raise UserError(f"{file}: no SR event for training; run 04_sample_background.py again")
    values = {name: frame[name].to_numpy(dtype=float) for name in columns}
    require_finite(file, values, frame.index.to_numpy(), "run 04_sample_background.py again")
    return Events.of(
        values[mass],
        frame[list(names)].to_numpy(dtype=float),
        names,
        weight=values.get("weight"),
        row=frame.index.to_numpy(),
    )
