"""A figure with what is said of it and the numbers behind it, and how a set of them becomes files."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
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

Files = dict[str, dict[str, Path]]  # {name of a drawing: {suffix: path}}
Look = Callable[[Files], None]


class Plot(Protocol):
    """Draws a table; `functools.partial` of a figure function that has further arguments."""

    def __call__(self, table: pd.DataFrame, /, *, data: Dataset) -> Figure:
        """The figure. data: what the events are."""


@dataclass(frozen=True)
class Drawing:
    """One figure: files `<name>.pdf`, `.png` and `.csv`, and what the report says of it.

    inputs: the files it was drawn from. table: the numbers it shows. section, caption: empty where those of its kind
    (`dimuon.figures.registry.figure`) hold; the caption says what is seen and how to read it. data: what the events
    are, their origin that of the inputs. place: on the page, rising. first: one of those that are looked at first.
    """

    name: str
    title: str
    inputs: Sequence[Path]
    table: pd.DataFrame = field(repr=False)
    plot: Plot = field(repr=False)
    section: str = ""
    caption: str = ""
    data: Dataset = Dataset()
    place: int = 0
    first: bool = False

    def draw(self) -> Figure:
        """The figure itself."""
        return self.plot(self.table, data=self.data)


Begun = list[tuple[Drawing, Future[dict[str, Path]]]]


def begin(drawings: Iterable[Drawing], folder: Path, pool: Executor) -> Begun:
    """Have every drawing written into `folder` by the processes of a pool, the first while others are still read."""
    return [(drawing, pool.submit(write, drawing, folder)) for drawing in drawings]


def finish(begun: Begun, look: Look | None = None) -> Files:
    """The files of all drawings, those that are looked at first before others (`registry.read`). look: is called with
    the files of these when they are there and others are not."""
    n_first = sum(drawing.first for drawing, _ in begun)
    files: Files = {}
    for drawing, future in follow(begun, "drawing", "figures"):
        files[drawing.name] = future.result()
        if look is not None and len(files) == n_first < len(begun):
            look(dict(files))
    return files


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


def index(drawings: Iterable[Drawing], files: Files) -> dict[str, dict[str, object]]:
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
