"""A `concurrent.futures.Executor` whose tasks are done by the workers of a Dask cluster.

A task travels pickled. Large arrays and byte strings in its arguments are taken out and sent once, however many tasks
have them: workers pass them on among themselves, and the scheduler can give them again where the worker that held them
is lost. A task whose worker is lost is done by another. Before a task begins, its worker shows that it has the
package and the versions of the one who asks.
"""

import hashlib
import io
import os
import pickle
import reprlib
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import cloudpickle
import numpy as np
from distributed import KilledWorker, get_worker

import dimuon
from dimuon import progress
from dimuon.errors import UserError
from dimuon.workflow import executor, provenance

P = ParamSpec("P")
T = TypeVar("T")

LARGE = 50_000  # bytes of an argument that travels once for all tasks
BETWEEN_REPORTS = 0.5  # s, at least, between two of one work
LOOKS = 1.0  # s between two looks at the cluster
PACKAGE = "dimuon"


@cache
def code() -> dict[str, str]:
    """What must be the same for results to be: {package: version}, with this package's own and its source files."""
    own = {PACKAGE: dimuon.__version__, "source files of dimuon": provenance.sources_hash()[:12]}
    return provenance.versions() | own


def difference(asked: Mapping[str, str]) -> str | None:
    """In a worker: the first difference from the `code` of who asks, in words; None where there is none."""
    for name, theirs in asked.items():
        if code().get(name) != theirs:
            return f"{name} is {code().get(name, 'missing')}, where the work comes from it is {theirs}"
    return None


@dataclass(frozen=True, eq=False)
class _Order:
    """What a worker is told. task: pickled function and arguments, without the large ones, that come beside it.

    names: of the large ones in `task`, in their order. code: of who asks. folder: to work in, None: its own.
    topic: under which it reports.
    """

    task: bytes
    names: tuple[str, ...]
    code: Mapping[str, str]
    folder: str | None
    topic: str


class DaskPool(Executor):
    """Hands tasks to the workers of a connected client. It must be closed by `shutdown`.

    folder: that the workers are to work in, seen by all of them; None: each in its own. timeout: seconds that tasks
    wait while there is no worker. remedy: how to start some, for the message.
    """

    def __init__(self, client: Any, timeout: float, remedy: str, folder: Path | None = None) -> None:
        self.client, self.timeout, self.remedy = client, timeout, remedy
        self.folder = None if folder is None else str(folder.absolute())
        self.topic = f"{PACKAGE}-{uuid.uuid4().hex}"
        self._lock = threading.RLock()
        self._pending: dict[_Task, tuple[str, ...]] = {}  # tasks with the names of their large inputs
        self._inputs: dict[str, Any] = {}  # futures of those
        self._uses: Counter[str] = Counter()  # tasks that need each
        self._failure: UserError | None = None
        self._ended = threading.Event()
        self._numbers = iter(range(10**12))
        client.subscribe_topic(self.topic, _show)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def submit(self, function: Callable[P, T], /, *arguments: P.args, **keywords: P.kwargs) -> Future[T]:
        """As with any executor; `UserError` comes out of `result()` where the cluster cannot do the task."""
        return self.hand(None, function, arguments, keywords)

    def where(self, able: Callable[[str], bool], what: str) -> "_Some | None":
        """The workers that are there now and at which `able(what)` holds, as a pool; None where there is none."""
        answers = self.client.run(able, what)
        workers = tuple(worker for worker, holds in answers.items() if holds)
        return _Some(self, workers) if workers else None

    def hand(
        self,
        workers: tuple[str, ...] | None,
        function: Callable[..., T],
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
    ) -> Future[T]:
        """`submit`, to certain workers; None: to any."""
        task, parts = packed((function, arguments, keywords))
        order = _Order(task, tuple(parts), code(), self.folder, self.topic)
        future: _Task = _Task(description(function, arguments), workers)
        with self._lock:
            if self._failure is not None:
                future.set_exception(self._failure)
                return future
            inputs = [self._input(name, part) for name, part in parts.items()]
            self._pending[future] = order.names
            self._uses.update(order.names)
            name = f"{getattr(function, '__name__', 'task')}-{self.topic}-{next(self._numbers)}"
            with _quiet_about_size():
                future.remote = self.client.submit(_perform, order, *inputs, key=name, pure=False, workers=workers)
        future.remote.add_done_callback(lambda remote: self._finish(future, remote))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End: tasks that are not done are given up where they are not waited for."""
        if wait and not cancel_futures:
            for future in list(self._pending):
                with suppress(BaseException):
                    future.exception()
        self._ended.set()
        with self._lock:
            undone = [future.remote for future in self._pending if future.remote is not None]
            self._pending.clear()
            self._inputs.clear()
        if self.client.status == "running":
            with suppress(Exception):
                self.client.cancel(undone, force=True)
                self.client.unsubscribe_topic(self.topic)

    def _input(self, name: str, content: bytes) -> Any:
        """The future of a large argument, sent when it is first needed."""
        if name not in self._inputs:
            key = f"input-{name}-{self.topic}-{next(self._numbers)}"
            with _quiet_about_size():
                self._inputs[name] = self.client.submit(_same, content, key=key, pure=False)
        return self._inputs[name]

    def _finish(self, future: "_Task", remote: Any) -> None:
        """Take over what came of a task; large arguments that no task needs any more are let go."""
        try:
            if remote.status == "finished":
                outcome, error = remote.result(), None
            elif remote.status == "error":
                outcome, error = None, self._told(future, remote.exception())
            else:
                outcome, error = None, self._failure or self._lost()
        except Exception as lost:  # the connection ends while the result travels
            outcome, error = None, self._failure or self._lost(lost)
        with self._lock:
            for name in self._pending.pop(future, ()):
                self._uses[name] -= 1
                if not self._uses[name]:
                    self._inputs.pop(name, None)
        future.end(outcome, error)

    def _told(self, future: "_Task", error: BaseException) -> BaseException:
        if isinstance(error, KilledWorker):
            return UserError(
                f"{future.what}: {self._deaths()} workers died at this task, out of memory perhaps; give them more, "
                "or look at what the task reads"
            )
        return error

    def _deaths(self) -> str:
        try:
            return str(self.client.run_on_scheduler(_allowed_failures) + 1)
        except Exception:
            return "several"

    def _lost(self, why: BaseException | None = None) -> UserError:
        reason = f" ({type(why).__name__})" if why is not None else ""
        return UserError(f"the Dask scheduler was lost{reason}; what is finished is kept, run it again to go on")

    def _watch(self) -> None:
        """Give all tasks up where the scheduler is lost, or where there is no worker for too long."""
        alone_since: float | None = None
        while not self._ended.wait(LOOKS):
            if self.client.status != "running":
                return self._fail(self._lost())
            if not self._pending:
                alone_since = None
                continue
            try:
                alone = self._alone()
            except Exception as error:
                if not self._ended.is_set():
                    self._fail(self._lost(error))
                return None
            now = time.monotonic()
            alone_since = (alone_since or now) if alone else None
            if alone_since is not None and now - alone_since >= self.timeout:
                return self._fail(no_worker(self.timeout, self.remedy))
        return None

    def _alone(self) -> bool:
        """Whether there is a task that none of the workers may do."""
        workers = self.client.sync(self.client.scheduler.ncores, callback_timeout=self.timeout)
        with self._lock:
            return any(workers.keys().isdisjoint(task.workers or workers) for task in self._pending)

    def _fail(self, error: UserError) -> None:
        with self._lock:
            self._failure, undone = error, list(self._pending)
            self._pending.clear()
        for future in undone:
            future.end(None, error)


class _Some(Executor):
    """Hands tasks to some workers of a pool alone; the pool is closed by who made it."""

    def __init__(self, pool: DaskPool, workers: tuple[str, ...]) -> None:
        self.pool, self.workers = pool, workers

    def submit(self, function: Callable[P, T], /, *arguments: P.args, **keywords: P.kwargs) -> Future[T]:
        """As `DaskPool.submit`."""
        return self.pool.hand(self.workers, function, arguments, keywords)


class _Task(Future[Any]):
    """The future of a task. what: it does, in words. workers: that may do it; None: any. remote: Dask's future."""

    def __init__(self, what: str, workers: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.what, self.workers = what, workers
        self.remote: Any = None
        self._ending = threading.Lock()

    def cancel(self) -> bool:
        """Give the task up, also where it is at work already."""
        cancelled = super().cancel()
        if cancelled and self.remote is not None and self.remote.client.status == "running":
            with suppress(Exception):
                self.remote.cancel()
        return cancelled

    def end(self, outcome: Any, error: BaseException | None) -> None:
        """Set what came of it, once."""
        with self._ending:
            if self.done() or not self.set_running_or_notify_cancel():
                return
            if error is not None:
                self.set_exception(error)
            else:
                self.set_result(outcome)


def no_worker(timeout: float, remedy: str) -> UserError:
    """The error where there is no worker for so many seconds."""
    return UserError(
        f"no Dask worker for {timeout:g} s: {remedy}; execution.timeout says how long they are waited for, what is "
        "finished is kept"
    )


def packed(task: Any) -> tuple[bytes, dict[str, bytes]]:
    """A task as bytes, and what is large in it: {name: pickled}; `unpacked` makes it whole again."""
    buffer = io.BytesIO()
    packer = _Packer(buffer)
    packer.dump(task)
    return buffer.getvalue(), packer.parts


def unpacked(task: bytes, parts: Mapping[str, bytes]) -> Any:
    """What `packed` was given; everything large in it anew, so that one task may change it and no other sees that."""
    unpacker = _Unpacker(io.BytesIO(task))
    unpacker.parts = parts
    return unpacker.load()


class _Packer(cloudpickle.CloudPickler):  # type: ignore[misc]  # it has no types
    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__(buffer, protocol=5)
        self.parts: dict[str, bytes] = {}

    def persistent_id(self, item: Any) -> str | None:
        """The name of what is large: that of its content."""
        is_array = type(item) is np.ndarray and item.dtype != object and item.nbytes >= LARGE
        if not is_array and not (type(item) is bytes and len(item) >= LARGE):
            return None
        content = pickle.dumps(item, protocol=5)
        name = hashlib.sha256(content).hexdigest()[:32]
        self.parts[name] = content
        return name


class _Unpacker(pickle.Unpickler):
    parts: Mapping[str, bytes] = {}

    def persistent_load(self, name: str) -> Any:
        return pickle.loads(self.parts[name])


def description(function: Callable[..., Any], arguments: Sequence[Any]) -> str:
    """What a task does and to what, for a message: "skim (address data/x.root)".

    The short texts, numbers and ranges among its arguments, and among the fields of the records there.
    """
    named = [part for argument in arguments for part in _named(argument)]
    inside = f" ({', '.join(named[:4])})" if named else ""
    return f"{getattr(function, '__name__', 'task').lstrip('_')}{inside}"


def _named(value: Any, name: str = "", depth: int = 0) -> Iterator[str]:
    if callable(value) and hasattr(value, "__name__"):
        yield value.__name__.lstrip("_")
    elif isinstance(value, str | int | range | Path) or (
        isinstance(value, list | tuple) and value and all(isinstance(item, str | int) for item in value)
    ):
        shown = str(value) if isinstance(value, str | Path) else reprlib.repr(value)
        yield f"{name} {shown}".strip()[:200]
    elif is_dataclass(value) and depth < 2:
        for field in fields(value):
            yield from _named(getattr(value, field.name), field.name, depth + 1)


def _same(content: bytes) -> bytes:
    return content


def _perform(order: _Order, *parts: bytes) -> Any:
    """A task, in a worker."""
    if other := difference(order.code):
        raise UserError(f"worker {get_worker().address}: {other}")
    if order.folder is not None and os.getcwd() != order.folder:
        os.chdir(order.folder)
    executor.become_worker()
    _report_to(order.topic)
    function, arguments, keywords = unpacked(order.task, dict(zip(order.names, parts, strict=True)))
    return function(*arguments, **keywords)


@cache
def _report_to(topic: str) -> None:
    """From now on, this worker says under a topic how far it is."""
    progress.send_to(_Events(topic))


class _Events:
    """What reports go to, as to a queue."""

    def __init__(self, topic: str) -> None:
        self.topic, self.said = topic, dict[str, float]()

    def put(self, sent: Any) -> None:
        """Send a report, or a message; of reports of one work not more than a few a second."""
        if isinstance(sent, progress.Report):
            now = time.monotonic()
            if sent.done < sent.total and now - self.said.get(sent.what, -BETWEEN_REPORTS) < BETWEEN_REPORTS:
                return
            self.said[sent.what] = now
        get_worker().log_event(self.topic, pickle.dumps(sent))


def _show(event: tuple[float, bytes]) -> None:
    progress.show(pickle.loads(event[1]))


def _allowed_failures(dask_scheduler: Any) -> int:
    return int(dask_scheduler.allowed_failures)


@contextmanager
def _quiet_about_size() -> Iterator[None]:
    """Dask warns of large arguments, that is what they are sent apart for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")
        yield
