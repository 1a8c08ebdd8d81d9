"""The trained models of an analysis, for use outside it: `trained("data/demo", "os")`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from dimuon.arrays import FloatArray
from dimuon.background import saved
from dimuon.background.protocol import BackgroundModel
from dimuon.classifiers import archive
from dimuon.classifiers.protocol import Classifier
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.workflow import products, provenance
from dimuon.workflow.products import Product


@dataclass(frozen=True, eq=False)
class TrainedModels:
    """The models that steps 3 and 5 trained on one sample.

    features: their names, in the order of the columns. background: the density of the features given the mass, learned
    in the sidebands. classifiers: one of each fold, with all its members.
    """

    features: tuple[str, ...]
    background: BackgroundModel
    classifiers: tuple[Classifier, ...]

    def score(self, x: Events | pd.DataFrame | Mapping[str, ArrayLike] | ArrayLike) -> FloatArray:
        """(n_events,) mean score over all folds and members, 0 (background-like) to 1.

        x: columns by name, or (n_events, n_features) in the order of `features`, in physical units. This is how step 5
        scores a sample that it did not train on. Of the events that it did train on, `scores_<train>_on_<test>.parquet`
        has the scores by models that never saw them; those given here are not. Raises ValueError for a feature that is
        missing.
        """
        table = self._matrix(x)
        return np.asarray(np.mean([model.score(table) for model in self.classifiers], axis=0).mean(axis=1, dtype=float))

    def sample(self, mass: ArrayLike, seed: int = 1) -> Events:
        """Background events at given masses: (n_events,), in the unit of the table; weights as the estimator gives."""
        return self.background.sample(np.asarray(mass, dtype=float), Stream(seed).child("trained models"))

    def _matrix(self, x: Events | pd.DataFrame | Mapping[str, ArrayLike] | ArrayLike) -> FloatArray:
        named = x.columns if isinstance(x, Events) else x
        if isinstance(named, (pd.DataFrame, Mapping)):
            if missing := [name for name in self.features if name not in named]:
                raise ValueError(f"feature {missing[0]} is missing; the models know {', '.join(self.features)}")
            return np.column_stack([np.asarray(named[name], dtype=float) for name in self.features])
        table = np.asarray(named, dtype=float)
        if table.ndim != 2 or table.shape[1] != len(self.features):
            raise ValueError(f"x of shape {table.shape}, expected (n_events, {len(self.features)}): {self.features}")
        return table


def trained(folder: Path | str, sample: str | None = None) -> TrainedModels:
    """The models that an analysis trained on one sample.

    folder: data/<name>/, or results/<name>/ beside it. sample: "os" or "ss"; may be left out where there is but one.
    Nothing in the files is run: they hold numbers and texts alone. `UserError` names a file that is missing or damaged,
    and the step that makes it.
    """
    folder = _data_folder(Path(folder))
    chosen = _sample(folder, sample)
    flows, classifiers = (_content(product, folder, chosen) for product in (products.FLOWS, products.CLASSIFIERS))
    try:
        background = saved.from_bytes(flows)
        manifest, models = archive.unpack(classifiers)
    except ValueError as error:
        raise UserError(f"{folder}: the models of {chosen}: {error}; run steps 3 to 5 again") from error
    return TrainedModels(tuple(manifest["features"]), background, tuple(models))


def _data_folder(folder: Path) -> Path:
    """The folder of the models: the same, or of a folder of results the one of its data."""
    parts = list(folder.resolve().parts)
    if "results" in parts and not _samples(folder):
        last = len(parts) - 1 - parts[::-1].index("results")
        parts[last] = "data"
        return Path(*parts)
    return folder


def _sample(folder: Path, sample: str | None) -> str:
    known = _samples(folder)
    if not known:
        raise UserError(f"{folder}: no trained models; give data/<name>/ of an analysis after 05_train_bdts.py")
    if sample in known:
        return str(sample)
    if sample is None and len(known) == 1:
        return known[0]
    which = "several samples, name one" if sample is None else f"unknown sample {sample!r}"
    raise UserError(f"{folder}: {which}; there are models of {', '.join(known)}")


def _samples(folder: Path) -> list[str]:
    """The samples that a folder has a background model of."""
    before, _, after = products.FLOWS.inside.partition("{" + products.FLOWS.fields[0] + "}")
    return sorted(path.name[len(before) : -len(after)] for path in folder.glob(f"{before}*{after}"))


def _content(product: Product, folder: Path, sample: str) -> bytes:
    """The bytes of a file, as whole as its sidecar says."""
    path = product.at(folder, **{product.fields[0]: sample})
    if not path.exists():
        raise UserError(f"{path}: not found; run `python {product.maker.command} CONFIG.yaml`")
    if provenance.sidecar(path).get("sha256", provenance.file_hash(path)) != provenance.file_hash(path):
        raise UserError(f"{path}: damaged, its SHA-256 is not what {product.maker.command} wrote; run it again")
    return path.read_bytes()
