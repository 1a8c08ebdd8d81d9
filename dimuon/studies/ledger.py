"""Studies of many equal tasks that can be interrupted: every finished task is a line in a file, none is repeated."""

import contextlib
import io
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path
from typing import Any

import dimuon
from dimuon import progress
from dimuon.errors import UserError
from dimuon.progress import follow
from dimuon.workflow import provenance

log = logging.getLogger("dimuon")

FAILURES = (UserError, ValueError)  # of one task: counted; anything else is a bug and stops the study

Record = dict[str, Any]  # of JSON values
Task = tuple[Any, ...]  # (function, *arguments)


class Ledger:
    """Finished tasks of a study, one JSON line each, after a first line with what they depend on.

    The first line names the code, too, and where other code goes on a line before its tasks does: that is said, and
    nothing refused, for most changes of the code change no result.

    path: made where absent. settings: {name: value}, JSON values; a ledger begun with others is refused. leave_out:
    names that earlier versions wrote among them and that may change.
    records: {key: record} of the finished tasks.
    """

    def __init__(self, path: Path | str, settings: Mapping[str, Any], leave_out: Sequence[str] = ()) -> None:
        self.path, self.records = Path(path), dict[str, Record]()
        if self.path.exists():
            self._read(json.loads(json.dumps(settings)), leave_out)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append({"settings": settings, "code": code()})

    def add(self, key: str, record: Record) -> None:
        """Keep the record of a finished task; on disk when this returns."""
        self._append({"key": key, "record": record})
        self.records[key] = record

    def _append(self, content: Mapping[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(content, allow_nan=False) + "\n")
            handle.flush()
            os.fsync(handle.fileno())

    def _read(self, settings: Mapping[str, Any], leave_out: Sequence[str]) -> None:
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]  # a line cut short by a kill is a task not finished
        try:
            first, *lines = [json.loads(line) for line in whole.splitlines()] or [{"settings": None}]
            begun = first["settings"]
            self.records = {line["key"]: line["record"] for line in lines if "code" not in line}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path}: not a readable ledger ({error}); delete it to begin anew") from error
        if begun is None:
            self.path.unlink()
            self._append({"settings": settings, "code": code()})
            return
        for name in sorted((provenance.without_device(begun).keys() | settings.keys()) - {*leave_out}):
            if begun.get(name) != settings.get(name):
                raise UserError(
                    f"{self.path}: begun with {name} = {begun.get(name)}, which is now {settings.get(name)}; "
                    "restore it to go on, or delete this file to begin anew"
                )
        if len(whole) < len(text):
            os.truncate(self.path, len(whole))
        codes = [line["code"] for line in (first, *lines) if "code" in line]
        if self.records and (not codes or codes[-1] != code()):
            log.warning(
                "%s: %d finished tasks were done with other source files of dimuon (%s, now %s) and are kept; delete "
                "it where the change concerns them",
                self.path,
                len(self.records),
                _in_words(codes[-1]) if codes else "of an earlier version",
                _in_words(code()),
            )
            self._append({"code": code()})


def code() -> dict[str, str]:
    """By what the code that does a task is known: its version, and the hash of its source files."""
    return {"version": dimuon.__version__, "sources_sha256": provenance.sources_hash()}


def _in_words(known: Mapping[str, str]) -> str:
    return f"{known['version']}, {known['sources_sha256'][:8]}"


def settings_of(run: provenance.Run, inputs: Sequence[Path], leave_out: Sequence[str] = ()) -> dict[str, Any]:
    """What the tasks of a study depend on: {setting: value, input: hash}, for a `Ledger`.

    leave_out: settings that may change while the study is unfinished, such as the number of tasks.
    """
    settings: dict[str, Any] = {}
    for path in inputs:
        settings |= provenance.sidecar(path).get("settings", {})
    settings |= provenance.chosen_settings(run.config, provenance.settings_of(run.step))
    settings = {name: value for name, value in settings.items() if name not in leave_out}
    return settings | {f"the hash of {path}": provenance.file_hash(path) for path in inputs}


def work_off(ledger: Ledger, tasks: Mapping[str, Task], pool: Executor, label: str) -> dict[str, Record]:
    """Do the tasks that the ledger does not hold yet; returns {key: record} of all, in the order of `tasks`.

    A task is (function, *arguments); the function returns its record, of JSON values. The record of a task that failed
    is {"failed": reason}.
    """
    return work_off_together(ledger, {(key,): (_alone, key, task) for key, task in tasks.items()}, pool, label)


def work_off_together(
    ledger: Ledger, tasks: Mapping[tuple[str, ...], Task], pool: Executor, label: str
) -> dict[str, Record]:
    """As `work_off`, for tasks that have several keys and return a record for each of them: {key: record}."""
    missing = {keys: task for keys, task in tasks.items() if not all(key in ledger.records for key in keys)}
    if len(missing) < len(tasks):
        log.info("%s: %d of %d were done before", label, len(tasks) - len(missing), len(tasks))
    futures = {pool.submit(_quietly, *task): keys for keys, task in missing.items()}
    try:
        for future in follow(as_completed(futures), label, "searches", len(futures)):
            for key, record in future.result().items():
                ledger.add(key, record)
    finally:
        for future in futures:
            future.cancel()
    records = {key: ledger.records[key] for keys in tasks for key in keys}
    reasons = [record["failed"] for record in records.values() if "failed" in record]
    if reasons:
        log.warning("%s: %d of %d failed, the first with: %s", label, len(reasons), len(records), reasons[0])
    return records


def fail(error: Exception) -> Record:
    """A task that cannot be begun: it fails with this error, and is counted."""
    raise error


def attempt(function: Callable[..., Record], *arguments: Any) -> Record:
    """The record of a task, or why there is none."""
    try:
        return function(*arguments)
    except FAILURES as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def _alone(key: str, task: Task) -> dict[str, Record]:
    return {key: attempt(*task)}


def _quietly(function: Callable[..., dict[str, Record]], *arguments: Any) -> dict[str, Record]:
    """Work in a worker. The progress bars of the steps inside are not for the terminal."""
    with progress.silent(), contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments)
