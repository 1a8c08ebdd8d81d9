"""Where the work runs: in worker processes of this machine, on a Dask cluster, or at once in this process."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import threadpoolctl

from dimuon import progress
from dimuon.errors import UserError
from dimuon.workflow import machine
from dimuon.workflow.execution import Execution

P = ParamSpec("P")
T = TypeVar("T")


_is_worker = False  # whether this process does the work of another


def of(
    settings: Execution, preload: Sequence[str] = (), shared: Sequence[Path] | None = None
) -> AbstractContextManager[Executor]:
    """The executor that a configuration asks for. preload: as of `executor`.

    shared: files that its tasks read, and folders that they write to, by their paths; None: neither. Workers of a
    cluster must see them.
    """
    if settings.scheduler is None and settings.cluster is None:
        return executor(settings.workers, None, preload)
    _require_no_worker()
    connected: AbstractContextManager[Executor] = _cluster().connected(settings, shared)
    return connected


@contextmanager
def executor(
    workers: int | None = None, scheduler: str | None = None, preload: Sequence[str] = ()
) -> Iterator[Executor]:
    """A `concurrent.futures.Executor`: local processes, or a Dask cluster where `scheduler` names its address.

    workers: processes (None: every core that this process may use). Each computes with one thread, so results do not
    depend on the machine's thread count. preload: modules to import once, before the first local worker starts, instead
    of in each of them.
    """
    _require_no_worker()
    if scheduler is not None:
        with _cluster().connected(Execution(scheduler=scheduler)) as pool:
            yield pool
        return
    pool, reports = _local(workers or machine.cores(), preload)
    with progress.receive(reports), pool:
        try:
            yield pool
        except BaseException:  # nobody will ask for what is still being done
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _cluster() -> Any:
    """The module of Dask clusters, which not every installation can import."""
    try:
        import distributed  # noqa: F401  # what can be missing of what the next line imports
    except ImportError as error:
        raise UserError("execution asks for Dask but it is not installed: pip install 'dimuon[dask]'") from error
    from dimuon.workflow import cluster

    return cluster


def _require_no_worker() -> None:
    """`UserError` in a worker: more processes than cores would be at work."""
    if _is_worker:
        raise UserError("work that a worker does cannot start workers of its own; give it one worker (workers=1)")


def _local(workers: int, preload: Sequence[str]) -> tuple[ProcessPoolExecutor, Any]:
    """Worker processes of this machine, and the queue of what they report; `UserError` where it has no room for what
    they share."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    try:
        with undisturbed():
            resource_tracker.ensure_running()
            forkserver.ensure_running()
        reports = context.SimpleQueue()
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(reports,)), reports
    except (OSError, ImportError, NotImplementedError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"no worker process can be started ({why}); is there a folder /dev/shm that may be written to, with room?"
        ) from error


@contextmanager
def undisturbed() -> Iterator[None]:
    """Processes begun inside leave Ctrl-C to this one from their first moment on, and know the libraries alone.

    Not the modules of the current folder, which may be called alike.
    """
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main else None
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        if in_main:
            signal.signal(signal.SIGINT, handler)


class AtOnce(Executor):
    """An executor that does each task when it is submitted, in this process: for work inside a worker."""

    def submit(self, function: Callable[P, T], /, *arguments: P.args, **keywords: P.kwargs) -> Future[T]:
        """A finished `Future`; an exception of the task comes out of its `result()`, as with any executor."""
        future: Future[T] = Future()
        try:
            future.set_result(function(*arguments, **keywords))
        except Exception as error:
            future.set_exception(error)
        return future


def _begin(reports: Any) -> None:
    """What a worker does first: it leaves Ctrl-C to its parent, ends with it, says to it how far it is, and computes
    with one thread."""
    progress.send_to(reports)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    become_worker()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def become_worker() -> None:
    """This process does the work of another from now on: with one thread, and without workers of its own."""
    global _is_worker
    if _is_worker:
        return
    _is_worker = True
    # read by OpenMP and BLAS when they are first loaded in the worker; those loaded before are told directly
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    threadpoolctl.threadpool_limits(1)
