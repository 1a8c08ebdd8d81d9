"""Which of the seven steps an analysis still needs: what is missing or stale, and what another analysis has already.

Analyses that differ in a few settings share the steps before the first difference: there the settings are the same
but for the name and so, from one seed, are the files. They are linked, each with a sidecar of its own.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product as combinations
from pathlib import Path
from typing import Any

from dimuon.data import dimuons
from dimuon.errors import UserError
from dimuon.workflow import config, products, provenance
from dimuon.workflow.products import PRODUCTS, STEPS, Maker, Product

Settings = dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """A step of one analysis as it stands: why it is to be done (None: it is up to date), or whose files it takes."""

    step: Maker
    reason: str | None
    shared: "Analysis | None" = None

    @property
    def state(self) -> str:
        """In words."""
        if self.shared is not None:
            return f"shared with {self.shared.config.name}"
        return self.reason or "up to date"


@dataclass(frozen=True)
class Analysis:
    """One configuration and the file that it was read from."""

    config: config.Config
    path: str

    @classmethod
    def load(cls, path: str) -> "Analysis":
        """The analysis of a YAML file; `UserError` as `config.load`."""
        return cls(config.load(path), path)

    @property
    def steps(self) -> tuple[Maker, ...]:
        """The steps that its input needs."""
        return STEPS[self.config.input.first_step - 1 :]

    def run(self, step: Maker) -> provenance.Run:
        """The `Run` of a step."""
        return provenance.Run(self.config, step.command, self.path)

    def expected(self, step: Maker) -> Iterator[Path]:
        """The files that a step always writes, but for those that are named by its input."""
        run = self.run(step)
        charges = list(dimuons.paths(run))
        values = {"charge": charges, "train": charges, "test": charges}
        for product in PRODUCTS.of(step):
            if not product.optional and set(product.fields) <= values.keys():
                for chosen in combinations(*(values[name] for name in product.fields)):
                    yield run.path(product, **dict(zip(product.fields, chosen, strict=True)))

    def written(self, step: Maker) -> Iterator[tuple[Product, Path]]:
        """The files of a step that there are, with what they are."""
        run = self.run(step)
        for product in PRODUCTS.of(step):
            pattern = run.path(product, **dict.fromkeys(product.fields, "*"))
            for path in sorted(pattern.parent.glob(pattern.name)):
                if PRODUCTS.find(path) is product and provenance.sidecar(path).get("step") == step.command:
                    yield product, path

    def reason(self, step: Maker) -> str | None:
        """Why a step is to be done: a file that is missing or stale; None where all are as it would make them."""
        run, fresh = self.run(step), set[Path]()
        for path in self.expected(step):
            if not path.exists():
                return f"missing: {path}"
            if reason := run.stale(path, fresh):
                return f"stale: {reason}"
        if step is products.STEP_1:
            return self._changed_input(run)
        return self._not_shown(run) if step is products.STEP_7 else None

    def shares(self, step: Maker, other: "Analysis") -> bool:
        """Whether a step and all before it have the same settings in another analysis, but for the name."""
        if step is products.STEP_7 or self.steps != other.steps:  # the page carries the name
            return False
        keys = [key for maker in self.steps[: self.steps.index(step) + 1] for key in maker.settings if key != "name"]
        return provenance.chosen_settings(self.config, keys) == provenance.chosen_settings(other.config, keys)

    def _changed_input(self, run: provenance.Run) -> str | None:
        """An input file on disk that is not what was skimmed, or was not, if there is one."""
        given = self.config.input
        if given.files is None and given.published_skim is None:
            return None
        from dimuon.data import inputs

        manifest = run.path(products.MANIFEST)
        entries = {entry["input"]: entry for entry in provenance.load_json(manifest)["inputs"]}
        for source in inputs.resolve(run):
            entry = entries.pop(source.name, None)
            if entry is None or any(entry[key] != value for key, value in source.identity.items()):
                return f"stale: {source.address} is {'new' if entry is None else 'not what it was'}"
        return next((f"stale: {entry['address']} is no longer an input" for entry in entries.values()), None)

    def _not_shown(self, run: provenance.Run) -> str | None:
        """A study that was made after the report, if there is one."""
        page = provenance.sidecar(run.path(products.REPORT))
        for path in sorted(run.results.glob("**/*.meta.json")):
            meta = json.loads(path.read_text())
            file = path.with_name(meta["file"])
            if meta["step"].startswith("-m ") and str(file) not in page["inputs"] and meta["written"] > page["written"]:
                return f"stale: {file} is not in the report yet"
        return None


def plan(
    analysis: Analysis, steps: Sequence[Maker], before: Sequence[Analysis] = (), after: Sequence[Analysis] = ()
) -> list[Planned]:
    """What would be done for an analysis. steps: those asked for. before, after: analyses done before and after it."""
    planned: list[Planned] = []
    first = None  # step that is to be done
    for step in (step for step in analysis.steps if step in steps):
        reason = analysis.reason(step)
        if first is not None and not (reason or "").startswith("missing"):
            reason = f"follows {first.command}"
        able = [other for other in (*before, *after) if reason is not None and analysis.shares(step, other)]
        shared = next((other for other in able if other in before or other.reason(step) is None), None)
        planned.append(Planned(step, reason, shared))
        if reason and first is None:
            first = step
    return planned


def share(step: Maker, source: Analysis, target: Analysis) -> list[Path]:
    """Give one analysis the files of a step that another has up to date; returns them, none where that cannot be.

    Raises `UserError` for a file that cannot be written.
    """
    if source.reason(step) is not None or not target.shares(step, source):
        return []
    pairs = [(product, path, _moved(path, source, target)) for product, path in source.written(step)]
    own = {str(path) for _, path, _ in pairs}
    for _, path, _ in pairs:
        for name, digest in provenance.sidecar(path)["inputs"].items():
            moved = _moved(Path(name), source, target)
            if name in own or PRODUCTS.find(name) is products.MANIFEST and moved.exists():
                continue  # the manifest tells where files lie and how long reading took, which may differ
            if not moved.exists() or provenance.file_hash(moved) != digest:
                return []
    for product, path, place in pairs:
        _link(product, path, place, source, target)
    for _, path, place in pairs:
        _write_sidecar(path, place, source, target)
    return [place for _, _, place in pairs]


def _moved(path: Path, source: Analysis, target: Analysis) -> Path:
    """Where a file of one analysis lies in another; a file from elsewhere stays where it is."""
    for folder in ("data", "results"):
        if path.is_relative_to(home := Path(folder, source.config.name)):
            return Path(folder, target.config.name) / path.relative_to(home)
    return path


def _link(product: Product, path: Path, place: Path, source: Analysis, target: Analysis) -> None:
    if product is not products.MANIFEST:
        provenance.link(path, place)
        return
    with provenance.atomic(place) as temporary:  # simulated files are named by where they lie
        text = path.read_text()
        temporary.write_text(text.replace(f'"data/{source.config.name}/', f'"data/{target.config.name}/'))


def _write_sidecar(path: Path, place: Path, source: Analysis, target: Analysis) -> None:
    meta = provenance.sidecar(path)
    settings = meta["settings"] | {"name": target.config.name}
    inputs = [_moved(Path(name), source, target) for name in meta["inputs"]]
    changed = {
        "sha256": provenance.file_hash(place),
        "inputs": {str(item): provenance.file_hash(item) for item in inputs},
        "settings": settings,
        "settings_sha256": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        "shared_with": str(path),
    }
    with provenance.atomic(provenance.sidecar_path(place)) as temporary:
        temporary.write_text(json.dumps(meta | changed, indent=1) + "\n")


def chosen(first: str | None, last: str | None) -> list[Maker]:
    """The steps from one to another, each named by its number ("03", "3") or script; None: from or to the end."""
    low, high = (_index(name, end) for name, end in ((first, 0), (last, len(STEPS) - 1)))
    if low > high:
        raise UserError(f"--from {first} comes after --to {last}: no step is left")
    return list(STEPS[low : high + 1])


def _index(name: str | None, default: int) -> int:
    if name is None:
        return default
    for index, step in enumerate(STEPS):
        if name in (step.command, step.command.removesuffix(".py")) or name.lstrip("0") == str(index + 1):
            return index
    raise UserError(f"{name}: no such step; the steps are {', '.join(step.command for step in STEPS)}")
