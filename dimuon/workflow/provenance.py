"""Files between the steps: written whole or not at all, each with a sidecar that says what it was made from.

The sidecar `<file>.meta.json` holds the settings that the file depends on (its own step's and those of everything
it was made from), the hashes of its inputs and of itself, seed, rows, units, versions, commit and wall time. A step
that is handed a file made with other settings, or from inputs that have changed since, refuses it and says what to run.
"""

import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dimuon import columns
from dimuon.errors import UserError
from dimuon.origin import Origin, merged, of_kind
from dimuon.workflow.config import Config
from dimuon.workflow.products import PRODUCTS, Maker, Product

log = logging.getLogger("dimuon")

Paths = Iterable[Path | str]
Filters = Any  # as pyarrow's, which has no types

NOT_STATED = Origin()
DEVICE = "device"  # a setting that changes no result beyond rounding, so that files move between machines
SIDECAR_KEYS = {"step", "origin", "sha256", "inputs", "settings"}
ORIGIN_KEY = b"dimuon.origin"  # in the metadata of a parquet file, so that what is copied alone tells it still
PACKAGES = ("numpy", "scipy", "pandas", "pyarrow", "torch", "nflows", "xgboost", "uproot", "awkward")


class Run:
    """One step at work on one analysis: its folders, and reading and writing with provenance.

    config: of `dimuon.config`. step: file name of the script. config_path: as the user gave it, for remedies.
    window: label of the mass window ("9-10.6") where an analysis searches in several: its files lie in folders of their
    own. None: the one window of the configuration.
    """

    def __init__(
        self, config: Config, step: str, config_path: Path | str = "CONFIG.yaml", window: str | None = None
    ) -> None:
        self.config, self.step, self.config_path = config, step, str(config_path)
        place = Path(config.name) if window is None else Path(config.name, "windows", window)
        self.data, self.results = Path("data") / place, Path("results") / place
        self.start = time.perf_counter()
        self.written: list[tuple[Path, int | None]] = []
        self.tables = dict[Path, Any]()  # opened in this step by those who read them, so that no one opens them again
        self._opened: dict[Path, tuple[str, dict[str, Any]]] = {}  # hash and sidecar of an input as it was when opened
        self._fresh: set[Path] = set()  # inputs that are what the configuration would make: looked at once

    def path(self, product: Product, **fields: str) -> Path:
        """Where a file of this analysis lies. fields: of the product's template, beside the name."""
        return product.at(self.data if product.folder == "data" else self.results, **fields)

    def require(self, path: Path | str) -> Path:
        """The path of an input, after checking that it exists and is neither stale nor damaged."""
        path = Path(path)
        if not path.exists():
            raise UserError(f"{path}: not found; {self._remedy(path)}")
        self._refuse_if_stale(path)
        self._opened.setdefault(path, (file_hash(path), sidecar(path)))
        return path

    def read_table(self, path: Path | str, names: Iterable[str] | None = None, filters: Filters = None) -> pd.DataFrame:
        """A parquet table as a DataFrame. names: columns to read (None: all); filters: as pyarrow's."""
        return load_table(self.require(path), names, filters)

    def read_json(self, path: Path | str) -> Any:
        """The content of a JSON artifact."""
        return load_json(self.require(path))

    def write_table(self, path: Path | str, frame: pd.DataFrame, inputs: Paths = (), origin: str | None = None) -> Path:
        """Write a DataFrame as parquet. inputs: paths it was made from.

        Every column must be in `dimuon.columns` or declared, but for a product that holds all columns of a table.
        """
        product, declared = PRODUCTS.find(path), self.config.declared_columns
        if product is not None and product.further == "table":
            declared = {str(name): columns.NOT_STATED for name in frame.columns if not columns.find(name)} | declared
        units, inputs = columns.units(frame.columns, declared), list(inputs)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        self._require_unchanged(inputs)
        said = json.dumps(self.origin(inputs, origin).to_json()).encode()
        with atomic(path) as temporary:
            marked = table.replace_schema_metadata({**(table.schema.metadata or {}), ORIGIN_KEY: said})
            pq.write_table(marked, temporary, compression="zstd")
        return self.seal(path, inputs, origin, rows=len(frame), units=units)

    def write_json(self, path: Path | str, content: Any, inputs: Paths = (), origin: str | None = None) -> Path:
        """Write a JSON artifact. Numbers that are not finite are refused: they would not be JSON."""
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
        return self.write_bytes(path, text.encode(), inputs, origin)

    def write_bytes(self, path: Path | str, content: bytes, inputs: Paths = (), origin: str | None = None) -> Path:
        """Write an artifact of any other kind."""
        self._require_unchanged(inputs := list(inputs))
        with atomic(path) as temporary:
            temporary.write_bytes(content)
        return self.seal(path, inputs, origin)

    def seal(
        self,
        path: Path | str,
        inputs: Paths = (),
        origin: str | None = None,
        rows: int | None = None,
        units: dict[str, str] | None = None,
    ) -> Path:
        """Write the sidecar of a finished file; returns the file's path.

        inputs: paths it was made from. origin: a kind of `dimuon.origin.KINDS` that must be said at least.
        """
        path, inputs, settings = Path(path), list(inputs), dict[str, Any]()
        read = {str(item): self._as_opened(Path(item)) for item in inputs}
        for _, meta in read.values():
            if not self._is_of_another(meta):
                settings.update(without_device(meta.get("settings", {})))
        settings.update(_chosen(self._settings, settings_of(self.step)))
        content = {
            "file": path.name,
            "step": self.step,
            "origin": self.origin(inputs, origin).to_json(),
            "sha256": file_hash(path),
            "inputs": {item: digest for item, (digest, _) in read.items()},
            "settings": settings,
            "settings_sha256": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
            "seed": self.config.seed,
            "rows": rows,
            "units": units,
            "versions": versions(),
            "git_commit": git_commit(),
            "sources_sha256": sources_hash(),
            "wall_time_s": round(time.perf_counter() - self.start, 3),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with atomic(sidecar_path(path)) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")
        self.written.append((path, rows))
        return path

    def _require_unchanged(self, inputs: Paths) -> None:
        for item in inputs:
            self._as_opened(Path(item))

    def _as_opened(self, item: Path) -> tuple[str, dict[str, Any]]:
        """Hash and sidecar of an input; `UserError` where it has changed since it was opened."""
        opened = self._opened.get(item)
        now = file_hash(item) if item.exists() else None
        if opened is None and now is not None:
            return now, sidecar(item)
        if opened is None or now != opened[0]:
            raise UserError(f"{item}: changed while {self.step} was at work; nothing is written of it, run it again")
        return opened

    def origin(self, paths: Paths, at_least: str | None = None) -> Origin:
        """Where the events of some files come from: what the configuration states, of the kind that the files say.

        at_least: a kind of `dimuon.origin.KINDS` that must be said. Of files from elsewhere that say nothing themselves
        it is what the configuration says.
        """
        stated = self.config.stated_origin
        own = merged(origin_of(path, stated=stated) for path in paths) if (paths := list(paths)) else stated
        texts = stated if self.config.origin is not None else own
        return of_kind(replace(texts, kind=own.kind), at_least or own.kind)

    def summary(self) -> str:
        """What was written, in words, for the last line of a step."""
        names = [f"{path} ({rows:,} rows)" if rows is not None else str(path) for path, rows in self.written]
        return ", ".join(names) or "nothing"

    def stale(self, path: Path | str, fresh: set[Path] | None = None) -> str | None:
        """Why a file is not what the current configuration and inputs would make, or None where it is.

        fresh: files known to be; those that are found to be are added.
        """
        reason = self._staleness(Path(path), set() if fresh is None else fresh)
        return None if reason is None else f"{reason[0]}: {reason[1]}"

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return _flatten(self.config.model_dump(mode="json"))

    @cached_property
    def _not_default(self) -> Collection[str]:
        return _flatten(self.config.model_dump(mode="json", exclude_defaults=True)).keys()

    def _staleness(self, path: Path, fresh: set[Path]) -> tuple[Path, str] | None:
        """(file, reason) of the first stale file among `path` and what it was made from, or None."""
        if path in fresh:
            return None
        meta = sidecar(path)
        if not meta:
            return path, f"its sidecar {sidecar_path(path).name} is missing"
        if meta["sha256"] != file_hash(path):
            return path, f"its content is not what {meta['step']} wrote"
        if changed := self._changed_setting(meta):
            return path, changed
        for name, digest in meta["inputs"].items():
            if Path(name).exists():
                if file_hash(name) != digest:
                    return path, f"{name} has changed since it was made"
                if sidecar(name) and (reason := self._staleness(Path(name), fresh)):
                    return reason
        fresh.add(path)
        return None

    def _changed_setting(self, meta: Mapping[str, Any]) -> str | None:
        """The first setting that a file was made with and that is another now; none of another analysis's file.

        One that the file's program did not know yet is another where it is not at its default.
        """
        if self._is_of_another(meta):
            return None
        now, then = self._settings, without_device(meta["settings"])
        own = _chosen(now, settings_of(meta["step"]))
        for key in sorted(then.keys() | own.keys()):
            if key in then:
                if then[key] != now.get(key):
                    return f"made with {key} = {then[key]}, the configuration now says {now.get(key)}"
            elif key in self._not_default:
                return f"made without {key}, the configuration now says {now[key]}"
        return None

    def _is_of_another(self, meta: Mapping[str, Any]) -> bool:
        """Whether a file with this sidecar was made by another analysis: there it is what its settings say."""
        return bool(meta.get("settings", {}).get("name", self.config.name) != self.config.name)

    def _refuse_if_stale(self, path: Path) -> None:
        if sidecar_path(path).exists() or self._maker_of(path):
            if reason := self._staleness(path, self._fresh):
                raise UserError(f"{reason[0]}: {reason[1]}; {self._remedy(reason[0])}")

    def _remedy(self, path: Path) -> str:
        maker = self._maker_of(path)
        step: str | None = sidecar(path).get("step") or (maker.command if maker else None)
        if step is None:
            return "check the path in the configuration"
        if self._is_of_another(sidecar(path)):
            return (
                f"it is the analysis {sidecar(path)['settings']['name']}'s: run `python {step}` with its configuration"
            )
        later = step.endswith(".py") and step < self.step
        return f"run `python {step} {self.config_path}`" + (" and the steps after it" if later else "")

    def _maker_of(self, path: Path) -> Maker | None:
        """Who makes a file of this analysis; None for a file from elsewhere."""
        if not any(path.is_relative_to(Path(folder, self.config.name)) for folder in ("data", "results")):
            return None
        product = PRODUCTS.find(path)
        return product.maker if product else None


def settings_of(step: str) -> tuple[str, ...]:
    """The sections or keys of the YAML that the files of a script or command depend on; none for one not known."""
    maker = PRODUCTS.maker(step)
    return maker.settings if maker else ()


def chosen_settings(config: Config, keys: Collection[str]) -> dict[str, Any]:
    """{dotted key: value} of the sections (or single keys) of a configuration, as JSON values."""
    return _chosen(_flatten(config.model_dump(mode="json")), keys)


def _chosen(flat: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {
        name: value for name, value in flat.items() if any(name == key or name.startswith(f"{key}.") for key in keys)
    }


def without_device(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without where something was trained: earlier versions wrote it down."""
    return {key: value for key, value in settings.items() if key.rpartition(".")[2] != DEVICE}


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, list):
        value = [without_device(item) if isinstance(item, dict) else item for item in value]
    if isinstance(value, dict) and value:
        return {
            name: leaf
            for key, item in without_device(value).items()
            for name, leaf in _flatten(item, f"{prefix}.{key}" if prefix else key).items()
        }
    return {prefix: value}


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path`; on success it takes the name of `path`, on failure it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def link(path: Path, place: Path) -> None:
    """Give a file a second place: linked, or copied on a file system without links."""
    with atomic(place) as temporary:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copy2(path, temporary)


def load_table(path: Path | str, names: Iterable[str] | None = None, filters: Filters = None) -> pd.DataFrame:
    """A parquet file as a DataFrame; `UserError` where it cannot be read or lacks a column."""
    try:
        available = pq.read_schema(path).names
        wanted = None if names is None else list(names)
        if repeated := [name for name in wanted or available if available.count(name) > 1]:
            raise UserError(f"{path}: two columns are called {repeated[0]!r}; rename one")
        missing = [name for name in wanted or () if name not in available]
        if missing:
            step = sidecar(path).get("step")
            remedy = f"; an older {step} wrote it: run it again" if step else ""
            raise UserError(f"{path}: column {missing[0]} is missing; found {', '.join(available)}{remedy}")
        return pd.read_parquet(path, columns=wanted, filters=filters)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a readable parquet file ({error})") from error


def load_whole(path: Path | str) -> pd.DataFrame:
    """All columns of a parquet file as they lie in it, those of one name and of an index, too."""
    try:
        frame: pd.DataFrame = pq.ParquetFile(path).read().to_pandas(ignore_metadata=True)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a readable parquet file ({error})") from error
    return frame


def table_columns(path: Path | str) -> list[str]:
    """The names of the columns of a parquet file; `UserError` where it cannot be read."""
    return list(_schema(path).names)


def _schema(path: Path | str) -> Any:
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a readable parquet file ({error})") from error


def load_json(path: Path | str) -> Any:
    """The content of a JSON file; `UserError` where it cannot be read."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable JSON file ({error})") from error


def sidecar_path(path: Path | str) -> Path:
    """Where the sidecar of a file lies."""
    path = Path(path)
    return path.with_name(f"{path.name}.meta.json")


def sidecar(path: Path | str) -> dict[str, Any]:
    """The sidecar of a file, {} where there is none."""
    place = sidecar_path(path)
    if not place.exists():
        return {}
    content = load_json(place)
    if not (isinstance(content, dict) and content.keys() >= SIDECAR_KEYS):
        raise UserError(f"{place}: not a sidecar of this project; delete it and make {Path(path).name} again")
    return content


def origin_of(*paths: Path | str, stated: Origin = NOT_STATED) -> Origin:
    """What must be said of the numbers in these files. stated: of a file that says nothing itself."""
    return merged(_origin(Path(path), stated) for path in paths) if paths else stated


def _origin(path: Path, stated: Origin) -> Origin:
    if meta := sidecar(path):
        return Origin.read(meta["origin"])
    if path.suffix != ".parquet":
        return stated
    schema = _schema(path)
    own = (schema.metadata or {}).get(ORIGIN_KEY)
    origin = Origin.from_json(json.loads(own)) if own is not None else stated
    if "features_measured" in schema.names and not load_table(path, ["features_measured"])["features_measured"].all():
        return of_kind(origin, "rebuilt")
    return origin


def file_hash(path: Path | str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    stat = Path(path).stat()
    return _file_hash(str(path), stat.st_size, stat.st_mtime_ns)


@cache
def _file_hash(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@cache
def versions() -> dict[str, str]:
    """{package: version} of what the results depend on, with Python's own."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


@cache
def sources_hash() -> str:
    """SHA-256 of the package's source files, by which a changed program is known where no repository tells."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@cache
def git_commit() -> str | None:
    """The commit of this source tree, with "+changes" where files differ from it; None outside a repository."""
    try:
        command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
        place = Path(__file__).parent
        answer = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
