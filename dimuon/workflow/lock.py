"""One at a time: who is at work on an analysis, so that two runs do not write each other's files."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dimuon.errors import UserError

log = logging.getLogger("dimuon")


@contextmanager
def locked(folder: Path, who: str, name: str = "running") -> Iterator[None]:
    """Hold the lock `.<name>` of a folder; `UserError` where another process holds it.

    who: at work, for the others' message. The lock of a process of this machine that is gone is taken over.
    """
    path = folder / f".{name}"
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    own = {"host": socket.gethostname(), "process": os.getpid(), "who": who}
    own["since"] = datetime.now(UTC).isoformat(timespec="seconds")
    while True:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            _take_over(path)
        else:
            break
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(own, file)
        yield
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # where nothing came of it, nothing is left
            for each in new:
                each.rmdir()


def _take_over(path: Path) -> None:
    """Remove the lock of a process that is gone, or raise `UserError`."""
    owner = _owner(path)
    words = f"{owner.get('who', 'another process')} (process {owner.get('process')} on {owner.get('host')}"
    words += f", since {owner.get('since')})"
    gone = owner.get("host") == socket.gethostname() and not _is_alive(owner.get("process"))
    if not gone:
        raise UserError(f"{path}: {words} is at work on this analysis; wait for it, or delete this file if it is gone")
    log.warning("%s: left behind by %s, which is gone: taken over", path, words)
    path.unlink(missing_ok=True)


def _owner(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):  # just being written, or removed
        return {}
    return content if isinstance(content, dict) else {}


def _is_alive(process: Any) -> bool:
    if not isinstance(process, int):
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
