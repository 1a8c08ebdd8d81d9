"""A Dask cluster at the service of a step: found or started, looked at before work begins, ended with the step."""

import asyncio
import importlib
import logging
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
import distributed

from dimuon.errors import UserError
from dimuon.workflow import dask_pool, machine
from dimuon.workflow.dask_pool import DaskPool
from dimuon.workflow.execution import QUEUES, Cluster, Execution
from dimuon.workflow.executor import undisturbed

log = logging.getLogger("dimuon")

DASK: Any = distributed  # few of its functions have types, and not the same ones in every version

CONNECTING = 10.0  # s that a scheduler has to answer; one that is there answers at once
DEATHS = 3  # workers that may die at a task before it is given up, of a cluster that is started here
CHOSEN = {  # of such a cluster. Dask's profile and its early giving back of memory cost a training a third of its time
    "distributed.scheduler.allowed-failures": DEATHS - 1,
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}
JOB_CLUSTERS = {"slurm": "SLURMCluster", "htcondor": "HTCondorCluster", "pbs": "PBSCluster"}
LISTS = {"slurm": "squeue", "htcondor": "condor_q", "pbs": "qstat"}
OTHERS = ("distributed", "dask", "tornado", "asyncio")  # whose messages are for the log file


@contextmanager
def connected(settings: Execution, shared: Sequence[Path] | None = None) -> Iterator[Executor]:
    """The workers of the cluster that the settings name, as an executor; a cluster that was started here is ended.

    shared: as of `executor.of`. Raises `UserError` for a cluster that is not there, or cannot be started, has no
    worker for `timeout` seconds, or has workers that compute with several threads, have other code or do not see what
    is shared.
    """
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        if settings.cluster is not None:
            address, remedy = stack.enter_context(_started(settings.cluster, settings.workers))
        else:
            address = str(settings.scheduler)
            remedy = (
                f"start some with `dask worker {address} --nworkers 4 --nthreads 1` where this package is installed"
            )
            _require_answer(address)
        client = stack.enter_context(_client(address))
        _wait_for_a_worker(client, settings.timeout, remedy)
        _require_one_thread(client)
        _require_same_code(client)
        if shared is not None:
            _require_seen(client, shared)
        log.info("Dask: %d workers at %s, dashboard %s", len(client.nthreads()), address, client.dashboard_link)
        pool = DaskPool(client, settings.timeout, remedy, None if shared is None else Path.cwd())
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _require_answer(address: str) -> None:
    """`UserError` where nothing listens at an address, or what is no scheduler: at once, not after minutes."""
    place = urlsplit(address)
    try:
        socket.create_connection((str(place.hostname), place.port or 8786), timeout=CONNECTING).close()
        with ThreadPoolExecutor(1) as apart:  # this thread may have an event loop of its own, as in a notebook
            kind = apart.submit(asyncio.run, _kind(address)).result()
    except Exception as error:  # what speaks another language can lead to anything
        raise _no_scheduler(address, error) from error
    if kind != "Scheduler":
        raise _no_scheduler(address, ValueError(f"but a {kind}"))


async def _kind(address: str) -> str:
    """What answers at an address: "Scheduler", "Worker"."""

    async def asked() -> str:
        comm = await DASK.comm.connect(address, **DASK.Security().get_connection_args("client"))
        try:
            answer: dict[str, Any] = await DASK.core.send_recv(comm, op="identity")
        finally:
            comm.abort()
        return str(answer["type"])

    return await asyncio.wait_for(asked(), CONNECTING)


def _no_scheduler(address: str, error: BaseException) -> UserError:
    why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return UserError(
        f"execution.scheduler = {address}: no Dask scheduler answers there ({why[:200]}); start one with "
        "`dask scheduler`, which says its address, or leave the key out to compute on this machine"
    )


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        client = DASK.Client(address, timeout=CONNECTING, set_as_default=False)
    except Exception as error:  # what speaks another language can lead to anything
        raise _no_scheduler(address, error) from error
    try:
        yield client
    finally:
        with suppress(Exception):
            client.close(timeout=CONNECTING)


def _wait_for_a_worker(client: Any, timeout: float, remedy: str) -> None:
    try:
        client.wait_for_workers(1, timeout=timeout)
    except TimeoutError as error:
        raise dask_pool.no_worker(timeout, remedy) from error
    except Exception as error:
        raise UserError(
            f"the Dask scheduler was lost while workers were waited for ({type(error).__name__})"
        ) from error


def _require_one_thread(client: Any) -> None:
    for worker, n_threads in client.nthreads().items():
        if n_threads != 1:
            raise UserError(
                f"Dask worker {worker} does {n_threads} tasks at once in one process, which would change results; "
                f"start it with `--nworkers {n_threads} --nthreads 1`"
            )


def _require_same_code(client: Any) -> None:
    """`UserError` for a worker with another Python, Dask, package version or source file."""
    remedy = "install the same there, or start the workers in this environment"
    told = client.get_versions()
    mine = told["client"]["packages"]
    for worker, theirs in told["workers"].items():
        for name in ("python", "dask", "distributed", "cloudpickle"):
            there, here = (theirs["packages"] or {}).get(name), mine.get(name)
            if there != here:
                raise UserError(f"Dask worker {worker}: {name} is {there}, here it is {here}; {remedy}")
    try:
        answers = client.run(dask_pool.difference, dask_pool.code(), on_error="return")
    except Exception as error:
        raise UserError(f"the Dask workers cannot be asked for their versions ({error}); {remedy}") from error
    for worker, answer in answers.items():
        if isinstance(answer, BaseException):
            raise UserError(f"Dask worker {worker}: has not the package dimuon ({answer}); {remedy}")
        if answer is not None:
            raise UserError(f"Dask worker {worker}: {answer}; {remedy}")


def _require_seen(client: Any, shared: Sequence[Path]) -> None:
    """`UserError` for a file, or a folder, that is here and that a worker does not see as it is here."""
    with ExitStack() as beacons:
        sizes = dict[str, int | None]()
        for path in [Path.cwd(), *shared]:
            place = path.absolute()
            if place.is_file():
                sizes[str(place)] = place.stat().st_size
                continue
            if not place.is_dir():
                continue
            beacon = place / f".{uuid.uuid4().hex}"  # a folder of this name may be there and be another
            beacon.touch()
            beacons.callback(beacon.unlink)
            sizes[str(beacon)] = 0
        for worker, unseen in client.run(_unseen, sizes).items():
            if unseen is not None:
                path = Path(unseen).parent if Path(unseen).name.startswith(".") else Path(unseen)
                raise UserError(
                    f"{path}: Dask worker {worker} does not see it as it is here; put it where all workers see it, or "
                    "leave execution.scheduler and execution.cluster out for this step"
                )


def _unseen(sizes: Mapping[str, int]) -> str | None:
    """In a worker: the first file that is not there with its size, None where all are."""
    for path, size in sizes.items():
        try:
            if os.stat(path).st_size != size:
                return path
        except OSError:
            return path
    return None


@contextmanager
def _started(settings: Cluster, cores: int | None) -> Iterator[tuple[str, str]]:
    """(address, how to get workers) of a cluster that is started. cores: workers of kind local, where none are said."""
    with dask.config.set(CHOSEN):  # to the end: an adaptive cluster starts workers when they are needed
        cluster = _jobs(settings) if settings.is_queue else _local(settings, cores)
        try:
            if settings.is_queue:
                cluster.sync(_submit, cluster, settings)
            if settings.adaptive:
                cluster.adapt(minimum=1, maximum=settings.workers or cores or machine.cores())
            remedy = (
                f"look at `{LISTS[settings.kind]}` and at the logs of its jobs"
                if settings.is_queue
                else "look at the memory of this machine"
            )
            yield cluster.scheduler_address, remedy
        finally:
            with suppress(Exception):
                cluster.close(timeout=CONNECTING)


def _local(settings: Cluster, cores: int | None) -> Any:
    with undisturbed():
        return DASK.LocalCluster(
            n_workers=1 if settings.adaptive else settings.workers or cores or machine.cores(),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )


def _jobs(settings: Cluster) -> Any:
    """A cluster whose workers are jobs of a queue; none is submitted yet."""
    try:
        jobqueue = importlib.import_module("dask_jobqueue")
    except ImportError as error:
        raise UserError(
            f"execution.cluster.kind is {settings.kind!r} but dask-jobqueue is not installed: "
            "pip install 'dimuon[cluster]'"
        ) from error
    submit = QUEUES[settings.kind]
    if shutil.which(submit) is None:
        raise UserError(
            f"execution.cluster.kind is {settings.kind!r} but there is no command {submit} on this machine; run it "
            "where jobs can be submitted"
        )
    own: dict[str, dict[str, Any]] = {
        "slurm": {"queue": settings.queue, "account": settings.account, "walltime": settings.walltime},
        "pbs": {"queue": settings.queue, "account": settings.account, "walltime": settings.walltime},
        "htcondor": {"disk": settings.disk},
    }
    try:
        return getattr(jobqueue, JOB_CLUSTERS[settings.kind])(
            cores=settings.per_job,
            processes=settings.per_job,
            memory=settings.memory,
            job_extra_directives=settings.directives,
            job_script_prologue=settings.prologue,
            interface=settings.interface,
            python=sys.executable,
            scheduler_options={"dashboard_address": ":0"},
            **own[settings.kind],
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(f"execution.cluster: {error}; check memory, interface and directives") from error


async def _submit(cluster: Any, settings: Cluster) -> None:
    """Submit the jobs, the first alone where more come with the work; `UserError` where the queue refuses."""
    n_jobs = 1 if settings.adaptive else -(-(settings.workers or 1) // settings.per_job)
    try:
        cluster.scale(jobs=n_jobs)
        await asyncio.wait_for(asyncio.shield(cluster._correct_state()), timeout=None)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[lines.index("stderr:") + 1 :] if "stderr:" in lines else lines[-1:]
        raise UserError(
            f"execution.cluster: {settings.kind} refuses the job ({' '.join(why)[:300]}); check queue, account, "
            "walltime, memory and directives"
        ) from error


class _ToLogFile(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            log.debug("%s: %s", record.name, record.getMessage())


@contextmanager
def _quiet() -> Iterator[None]:
    """Messages of Dask go to the log file: what the user needs of them is said in a line."""
    names = [*logging.root.manager.loggerDict, *OTHERS]
    loggers = {name: logging.getLogger(name) for name in names if name.partition(".")[0] in OTHERS}
    before = {name: (logger.handlers[:], logger.propagate) for name, logger in loggers.items()}
    for name, logger in loggers.items():
        logger.handlers, logger.propagate = ([_ToLogFile()], False) if name in OTHERS else ([], True)
    try:
        yield
    finally:
        for name, (handlers, propagate) in before.items():
            loggers[name].handlers, loggers[name].propagate = handlers, propagate
