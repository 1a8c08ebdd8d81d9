"""The trained classifiers as one zip archive, in bytes."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from dimuon.classifiers.protocol import CLASSIFIERS, Classifier
from dimuon.errors import DAMAGED


def pack(models: Mapping[int, Sequence[bytes]], manifest: Mapping[str, Any]) -> bytes:
    """A zip of the models and a manifest.json; the same models give the same bytes.

    models: {fold: of each member}. manifest: JSON values, "classifier" (the kind) among them.
    """
    suffix = CLASSIFIERS[manifest["classifier"]].suffix
    content = {"manifest.json": (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()}
    for fold, members in sorted(models.items()):
        content |= {f"fold{fold}/member{index:04d}.{suffix}": model for index, model in enumerate(members)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in content.items():
            entry = zipfile.ZipInfo(name)  # its date stays at 1980-01-01
            archive.writestr(entry, value, zipfile.ZIP_DEFLATED, compresslevel=1)
    return buffer.getvalue()


def unpack(content: bytes) -> tuple[dict[str, Any], list[Classifier]]:
    """(manifest, classifier of each fold) of a zip that `pack` made; ValueError for anything else."""
    by_fold: dict[int, list[bytes]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            for name in sorted(name for name in archive.namelist() if name.startswith("fold")):
                by_fold.setdefault(int(name.split("/")[0].removeprefix("fold")), []).append(archive.read(name))
        kind = CLASSIFIERS[manifest["classifier"]]
        return manifest, [kind.from_bytes(by_fold[fold]) for fold in sorted(by_fold)]
    except (*DAMAGED, zipfile.BadZipFile) as error:
        raise ValueError(f"not an archive of classifiers ({type(error).__name__})") from error
