"""A figure with what is said of it and the numbers behind it, and how a set of them becomes files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pandas as pd
from matplotlib.figure import Figure

from dimuon.dataset import Dataset
from dimuon.figures import style
from dimuon.progress import follow
from dimuon.workflow import executor, provenance


class Plot(Protocol):
    """Draws a table; `functools.partial` of a figure function that has further arguments."""

    def __call__(self, table: pd.DataFrame, /, *, data: Dataset) -> Figure:
        """The figure. data: what the events are."""


@dataclass(frozen=True)
class Drawing:
    """One figure: files `<name>.pdf`, `.png` and `.csv`, and what the report says of it.

    inputs: the files it was drawn from. table: the numbers it shows. section, caption: empty where those of its kind
    (`dimuon.figures.registry.figure`) hold; the caption says what is seen and how to read it. data: what the events
    are, their origin that of the inputs.
    """

    name: str
    title: str
    inputs: Sequence[Path]
    table: pd.DataFrame = field(repr=False)
    plot: Plot = field(repr=False)
    section: str = ""
    caption: str = ""
    data: Dataset = Dataset()

    def draw(self) -> Figure:
        """The figure itself."""
        return self.plot(self.table, data=self.data)


def write_all(drawings: Sequence[Drawing], folder: Path, workers: int | None = None) -> dict[str, dict[str, Path]]:
    """Write every drawing into `folder`, in parallel processes: {name: {suffix: path}}. workers: None: all.

    Figures of an earlier run that are no longer made are removed: those that its `index.json` names.
    """
    before = folder / "index.json"
    earlier = provenance.load_json(before).values() if before.exists() else ()
    with executor.executor(workers) as pool:
        pending = [pool.submit(write, drawing, folder) for drawing in drawings]
        files = [future.result() for future in follow(pending, "drawing", "figures")]
    current = {path.name for paths in files for path in paths.values()}
    for name in {name for entry in earlier for name in entry["sha256"]} - current:
        (folder / name).unlink(missing_ok=True)
    return {drawing.name: paths for drawing, paths in zip(drawings, files, strict=True)}


def write(drawing: Drawing, folder: Path) -> dict[str, Path]:
    """Write one drawing as PDF, PNG and CSV into `folder`: {suffix: path}."""
    pdf, png = style.save(drawing.draw(), folder / drawing.name)
    csv = folder / f"{drawing.name}.csv"
    with provenance.atomic(csv) as temporary:
        drawing.table.to_csv(temporary, index=False, float_format="%.8g")
    return {"pdf": pdf, "png": png, "csv": csv}


def index(drawings: Iterable[Drawing], files: dict[str, dict[str, Path]]) -> dict[str, dict[str, object]]:
    """What `figures/index.json` says: {name: title, caption, origin, inputs and SHA-256 of each file}."""
    return {
        drawing.name: {
            "title": drawing.title,
            "section": drawing.section,
            "caption": drawing.caption,
            "origin": drawing.data.origin.to_json(),
            "inputs": [str(path) for path in drawing.inputs],
            "sha256": {path.name: provenance.file_hash(path) for path in files[drawing.name].values()},
        }
        for drawing in drawings
    }
