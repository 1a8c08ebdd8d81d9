"""A figure with what is said of it and the numbers behind it, and how a set of them becomes files."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

import pandas as pd
from matplotlib.figure import Figure

from dimuon.dataset import Dataset
from dimuon.errors import UserError
from dimuon.figures import style
from dimuon.progress import follow
from dimuon.workflow import provenance
from dimuon.workflow.yaml_file import nearest

WORKER_MODULES = (
    __name__,
    "dimuon.figures.paper.mass_spectra",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
)

Look = Callable[[dict[str, dict[str, Path]]], None]


class Plot(Protocol):
    """Draws a table; `functools.partial` of a figure function that has further arguments."""

    def __call__(self, table: pd.DataFrame, /, *, data: Dataset) -> Figure:
        """The figure. data: what the events are."""


@dataclass(frozen=True)
class Drawing:
    """One figure: files `<name>.pdf`, `.png` and `.csv`, and what the report says of it.

    inputs: the files it was drawn from. table: the numbers it shows. section, caption: empty where those of its kind
    (`dimuon.figures.registry.figure`) hold; the caption says what is seen and how to read it. data: what the events
    are, their origin that of the inputs. first: one of those that are looked at first.
    """

    name: str
    title: str
    inputs: Sequence[Path]
    table: pd.DataFrame = field(repr=False)
    plot: Plot = field(repr=False)
    section: str = ""
    caption: str = ""
    data: Dataset = Dataset()
    first: bool = False

    def draw(self) -> Figure:
        """The figure itself."""
        return self.plot(self.table, data=self.data)


def write_all(
    drawings: Sequence[Drawing], folder: Path, pool: Executor, look: Look | None = None
) -> dict[str, dict[str, Path]]:
    """Write every drawing into `folder`, in the processes of a pool: {name: {suffix: path}}.

    Those that are looked at first are the first to be made; look: is then called with their files.
    """
    ranked = sorted(drawings, key=lambda drawing: not drawing.first)
    n_first = sum(drawing.first for drawing in ranked)
    files = dict[str, dict[str, Path]]()
    pending = [pool.submit(write, drawing, folder) for drawing in ranked]
    for drawing, future in zip(ranked, follow(pending, "drawing", "figures"), strict=True):
        files[drawing.name] = future.result()
        if look is not None and len(files) == n_first < len(ranked):
            look(dict(files))
    return {drawing.name: files[drawing.name] for drawing in drawings}


def remove_earlier(files: Mapping[str, Mapping[str, Path]], folder: Path) -> None:
    """Remove the figures of an earlier run that are no longer made: those that its `index.json` names."""
    before = folder / "index.json"
    earlier = provenance.load_json(before).values() if before.exists() else ()
    current = {path.name for paths in files.values() for path in paths.values()}
    for name in {name for entry in earlier for name in entry["sha256"]} - current:
        (folder / name).unlink(missing_ok=True)


def chosen(drawings: Sequence[Drawing], names: Sequence[str]) -> list[Drawing]:
    """The drawings of some names, each a whole name, its beginning or a pattern: "fig2a", "*_os". `UserError` for a
    name that none has."""
    for name in names:
        if not any(_is_called(drawing, name) for drawing in drawings):
            raise UserError(f"--only {name}: no such figure{nearest(name, [drawing.name for drawing in drawings])}")
    return [drawing for drawing in drawings if any(_is_called(drawing, name) for name in names)]


def _is_called(drawing: Drawing, name: str) -> bool:
    return drawing.name.startswith(name) or fnmatchcase(drawing.name, name)


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
