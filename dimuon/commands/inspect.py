"""Looking between the steps: `python -m dimuon inspect FILE [--config CONFIG.yaml] [--plot]`.

Says of any file of an analysis what it is, which step made it from what and with which settings, whether it is stale,
and what is in it: columns with unit, range and missing values, first rows, headline numbers, parts of an archive.
"""

import argparse
import json
import logging
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dimuon import columns
from dimuon.arrays import FloatArray
from dimuon.bumphunt.headlines import headline_rows
from dimuon.bumphunt.result import TestResult
from dimuon.data import schema, sources
from dimuon.errors import UserError
from dimuon.features import FEATURES
from dimuon.figures.style import COLOURS, LINES, legend_beside, panels, save, say_origin, styled
from dimuon.origin import Origin
from dimuon.studies import standing
from dimuon.workflow import config, products, provenance
from dimuon.workflow.config import Config

log = logging.getLogger("dimuon")
N_ROWS = 5  # first rows shown
N_VALUES = 3  # events of a ROOT file shown
MAX_COLUMNS = 48  # histograms on a page
OVERLAYS = ("region", "charge")
MAX_OVERLAYS = 4  # values of one of them that are drawn apart


def describe(path: Path | str, chosen: Config | None = None) -> str:
    """All there is to say about a file, as lines of text. chosen: to judge it by."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a file of data/<name>/ or results/<name>/")
    readers: dict[str, Callable[[Path], list[str]]] = {
        ".parquet": _table,
        ".json": _json,
        ".pt": _weights,
        ".zip": _archive,
        ".root": _root,
        ".html": _page,
    }
    if path.suffix not in readers:
        raise UserError(f"{path}: files of kind {path.suffix!r} are not known; known: {', '.join(readers)}")
    product = products.PRODUCTS.find(path)
    title = f"{path}: {product.meaning if product else 'not a file of the seven steps'}"
    content = readers[path.suffix](path)  # first of all: it names a damaged file
    return "\n".join([title, *origin_lines(path, chosen), "", *content])


CHANGED = "the program has changed since: its source files are not those that made this file"


def origin_lines(path: Path, chosen: Config | None = None) -> list[str]:
    """Lines that say who made a file from what, and whether it is still what its sidecar says."""
    meta = provenance.sidecar(path)
    if not meta:
        return [
            f"origin: {provenance.origin_of(path).label}",
            "no sidecar: not made by one of the steps",
        ]
    inputs = [f"  {name} {digest[:12]}" for name, digest in meta["inputs"].items()]
    return [
        f"origin: {Origin.read(meta['origin']).label}",
        f"made by {meta['step']} on {meta['written']} in {meta['wall_time_s']:.1f} s, seed {meta['seed']}, "
        f"commit {meta['git_commit'] or 'unknown'}",
        *([CHANGED] if meta.get("sources_sha256") not in (None, provenance.sources_hash()) else []),
        *([f"shared with {meta['shared_with']}, which was made first"] if "shared_with" in meta else []),
        f"state: {state(path, meta, chosen)}",
        "settings: " + ", ".join(f"{key} = {value}" for key, value in meta["settings"].items() if value is not None),
        *(["made from:", *inputs] if inputs else ["made from no other file"]),
    ]


def state(path: Path, meta: dict[str, Any], chosen: Config | None = None) -> str:
    """Whether a file is stale, in words. meta: its sidecar. chosen: the configuration to compare with, or None."""
    if chosen is not None:
        reason = provenance.Run(chosen, meta["step"]).stale(path)
        return f"STALE: {reason}" if reason else "as this configuration and these inputs would make it"
    if meta["sha256"] != provenance.file_hash(path):
        return f"STALE: its content is not what {meta['step']} wrote"
    for name, digest in meta["inputs"].items():
        place = next((folder / name for folder in path.resolve().parents if (folder / name).exists()), None)
        if place is not None and provenance.file_hash(place) != digest:
            return f"STALE: {name} has changed since it was made"
    return "as written, from inputs as they are now (give --config to compare the settings)"


def _table(path: Path) -> list[str]:
    """Lines on a parquet file: its columns and first rows."""
    frame = provenance.load_whole(path)
    head = frame.head(N_ROWS).to_string(max_cols=12, float_format=lambda value: f"{value:.5g}")
    table = column_table(frame).to_string(index=False, justify="left")
    return [
        f"{len(frame):,} rows, {len(frame.columns)} columns",
        "",
        table,
        "",
        f"first {N_ROWS} rows:",
        head,
    ]


def column_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per column of a table: column, unit, type, missing (values), values (range or names), meaning."""
    rows = []
    for name, values in frame.items():  # two columns may have one name
        known = columns.find(str(name))
        row: dict[str, str | int] = {
            "column": str(name),
            "unit": known.unit if known else "?",
            "type": str(values.dtype),
        }
        row |= {"missing": int(values.isna().sum()), "values": _range(values)}
        rows.append(row | {"meaning": known.meaning if known else "not a column of the seven steps"})
    return pd.DataFrame(rows)


def _range(column: "pd.Series[Any]") -> str:
    values = column.dropna()
    if values.empty:
        return "none"
    if pd.api.types.is_bool_dtype(values):
        return f"{100 * values.mean():.1f} % true"
    if pd.api.types.is_numeric_dtype(values):
        return f"{values.min():.5g} ... {values.max():.5g}"
    names = sorted(set(map(str, values)))  # lists and mappings, too
    return ", ".join(names[:4]) + (f", ... ({len(names)})" if len(names) > 4 else "")


def _json(path: Path) -> list[str]:
    """Lines on a JSON file: the headline numbers of a significance, else the content, long parts cut."""
    content = provenance.load_json(path)
    if products.PRODUCTS.find(path) is products.SIGNIFICANCE and isinstance(content, dict) and "tests" in content:
        return [
            headline_table(tests(content, path)).to_string(index=False),
            *standing.lines(path.parent, tests=tests(content, path)),
        ]
    text = json.dumps(content, indent=1).splitlines()
    return text[:120] + ([f"... {len(text) - 120} more lines"] if len(text) > 120 else [])


def tests(content: dict[str, Any], path: Path) -> list[TestResult]:
    """The tests in the content of `significance.json`; `UserError` where it is of a step 6 too old to be read."""
    try:
        return [TestResult.from_json(test) for test in content["tests"].values()]
    except KeyError as error:
        raise UserError(f"{path}: {error} is missing; an older step 6 wrote it: run it again") from error


def headline_table(results: Sequence[TestResult]) -> pd.DataFrame:
    """The headline numbers as a table, one row per train-test combination."""
    rows = []
    for test in results:
        feature, cut, scanned = test.best_feature, test.cathode_max, test.global_
        row = {"trained on": test.train.upper(), "applied to": test.test.upper(), "events": test.n_events}
        row["no cut"] = f"{test.no_cut.z0:.2f}"
        row["best feature"] = f"{feature.z0:.2f} {feature.variable}" if feature else "-"
        row["CATHODE"] = f"{cut.z0:.2f} at FPR {cut.fpr:.3g}"
        row["likelihood"] = headline_rows([test])[0].likelihood.text
        row["global"] = scanned.text if scanned else "-"
        rows.append(row)
    return pd.DataFrame(rows)


def _weights(path: Path) -> list[str]:
    """Lines on saved flows: what the file holds, tensors by shape. Loaded as weights only: no code in it is run."""
    import torch

    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except (*sources.READ_ERRORS, UnpicklingError) as error:
        reason = str(error).partition(".")[0]
        raise UserError(f"{path}: not readable as saved weights ({reason}); make it again") from error
    lines = list(_leaves(content, ""))
    return lines[:60] + ([f"... {len(lines) - 60} more"] if len(lines) > 60 else [])


def _leaves(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)) and len(value) and isinstance(value[0], (dict, list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{name}[{index}]")
    elif hasattr(value, "shape"):
        yield f"{name}: {tuple(value.shape)} {value.dtype}"
    else:
        yield f"{name}: {str(value)[:100]}"


def _archive(path: Path) -> list[str]:
    """Lines on a ZIP archive of classifiers: its manifest, its parts and their sizes."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            names = [part.filename for part in parts if part.filename.endswith("manifest.json")]
            manifest = json.loads(archive.read(names[0])) if names else {}
        lines = [f"{key}: {value}" for key, value in manifest.items()]
    except (*sources.READ_ERRORS, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a readable ZIP archive ({error})") from error
    size = sum(part.file_size for part in parts)
    shown = [f"  {part.filename} {part.file_size:,} bytes" for part in parts[:10]]
    rest = [f"  ... {len(parts) - 10} more"] if len(parts) > 10 else []
    return [*lines, f"{len(parts)} parts, {size:,} bytes:", *shown, *rest]


def _root(path: Path) -> list[str]:
    """Lines on a ROOT file: its trees, and of `Events` the branches that the skim reads, with type and first events."""
    import uproot

    try:
        with uproot.open(path) as file:
            kinds = ["TTree", "*RNTuple*"]
            trees = {name: file[name] for name in file.keys(cycle=False, filter_classname=kinds)}
            lines = [
                f"tree {name}: {tree.num_entries:,} entries, {len(tree.keys())} branches"
                for name, tree in trees.items()
            ]
            branches = list(_branches(trees["Events"])) if "Events" in trees else []
    except sources.READ_ERRORS as error:
        raise UserError(f"{path}: not a readable ROOT file ({sources.reason(error)})") from error
    return lines + branches


def _branches(tree: Any) -> Iterator[str]:
    """Lines on the tree `Events`: what the skim reads of it, and how many more there are."""
    usual = Config.model_fields["selection"].default
    asked = (*schema.EVENT, *schema.MUON_BRANCHES.values(), usual.muon_id, "nJet", usual.trigger)
    present = [name for name in asked if name in tree]
    for name in present:
        yield f"  {name}: {tree[name].typename}, first {tree[name].array(entry_stop=N_VALUES)}"
    yield from (f"  {name}: missing" for name in asked if name not in present)
    yield f"  ... {len(tree.keys()) - len(present)} more"


def _page(path: Path) -> list[str]:
    return [f"{path.stat().st_size:,} bytes; open it in a browser"]


def histogram_page(path: Path) -> Figure:
    """Draw every numeric column of a parquet file, per region and charge, on one page."""
    frame = provenance.load_table(path)
    names = [n for n in frame.columns if pd.api.types.is_numeric_dtype(frame[n]) and _drawn(frame[n]).nunique() > 1]
    if not names:
        raise UserError(f"{path}: no column with numbers that differ; nothing to draw")
    if len(names) > MAX_COLUMNS:
        log.warning("%s: the first %d of %d columns are drawn", path, MAX_COLUMNS, len(names))
    return draw_columns(frame, names[:MAX_COLUMNS], provenance.origin_of(path))


@styled
def draw_columns(frame: pd.DataFrame, names: Sequence[str], origin: Origin) -> Figure:
    """One small histogram per named column, overlaid per charge and region where the table has them."""
    keys = [key for key in OVERLAYS if key in frame and 1 < len(set(map(str, frame[key]))) <= MAX_OVERLAYS]
    groups = list(frame.groupby([frame[key].map(str) for key in keys])) if keys else [((), frame)]
    n_across = min(4, len(names))
    n_rows = -(-len(names) // n_across)
    size = 4.3 * n_across + (2.0 if keys else 0.4), 3.5 * n_rows + 0.6
    figure, axes = panels(n_rows, n_across, size=size, squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        edges, is_log = _edges(_drawn(frame[name]), name)
        for index, (key, part) in enumerate(groups):
            counts = np.histogram(_drawn(part[name]), edges)[0]
            look = {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index // 3 % len(LINES)]}
            axis.stairs(counts, edges, linewidth=1.5, label=" ".join(map(str, key)), **look)
        axis.set_xlabel(_axis_label(name), fontsize=14)
        axis.set(xscale="log" if is_log else "linear", yscale="log", xlim=(edges[0], edges[-1]))
        axis.set_ylim(0.5, 2 * axis.get_ylim()[1])
        axis.tick_params(labelsize=12)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for row in axes:
        row[0].set_ylabel("Rows / bin", fontsize=14)
    if keys:
        legend_beside(axes[0, -1], ", ".join(keys))
    say_origin(figure, axes[0, 0], origin, last=axes[0, -1])
    return figure


def _axis_label(name: str) -> str:
    """A column with its unit; the label of a feature, with the name of its column."""
    known = columns.find(name)
    unit = known.unit if known and known.unit not in ("flag", "of the variable", "not stated") else ""
    label = f"{FEATURES[name].label}, {name}" if name in FEATURES else name
    return f"{label} [{unit}]" if unit else label


def _drawn(column: "pd.Series[Any]") -> "pd.Series[float]":
    """What of a column can be drawn: finite numbers, whose differences are finite, too."""
    values = column.dropna().astype(float)
    return values[values.abs() < np.finfo(float).max / 4]


def _edges(values: "pd.Series[float]", name: str) -> tuple[FloatArray, bool]:
    """(edges, whether the axis is logarithmic): over the range of the values."""
    low, high = values.min(), values.max()
    if low > 0 and high / low > (10 if name in FEATURES and FEATURES[name].log else 1000):
        return np.geomspace(low, high, 51), True
    if (values == values.round()).all() and high - low <= 60:
        return np.arange(low - 0.5, high + 1), False
    return np.linspace(low, high, 51), False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands after `inspect`."""
    parser.add_argument("file", type=Path, help="any file of data/<name>/ or results/<name>/, or a NanoAOD file")
    parser.add_argument("--config", help="the configuration to judge by whether the file is stale")
    parser.add_argument(
        "--plot", action="store_true", help="write <file>_columns.{png,pdf}: a histogram of every column"
    )


def main(arguments: argparse.Namespace) -> None:
    """Print it."""
    chosen = config.load(arguments.config) if arguments.config else None
    log.info("%s", describe(arguments.file, chosen))
    if arguments.plot:
        if arguments.file.suffix != ".parquet":
            raise UserError(f"{arguments.file}: --plot draws the columns of parquet files only")
        stem = arguments.file.with_name(f"{arguments.file.stem}_columns")
        log.info("wrote %s", ", ".join(map(str, save(histogram_page(arguments.file), stem))))
