"""Work on a Dask cluster: as on one machine, whatever happens to its workers; what cannot be is said in a line."""

import contextlib
import hashlib
import logging
import os
import runpy
import signal
import socket
import sys
import threading
import time
from concurrent.futures import as_completed
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from dask import config as dask_config
from distributed import LocalCluster
from threadpoolctl import threadpool_limits

from dimuon import progress
from dimuon.errors import UserError
from dimuon.studies import study
from dimuon.workflow import cluster, config, dask_pool, executor, provenance
from dimuon.workflow.execution import Cluster, Execution
from tests.conftest import ROOT
from tests.test_execution import draw, process

SMALL = {"threads_per_worker": 1, "dashboard_address": ":0", "host": "127.0.0.1", "silence_logs": logging.CRITICAL}


@pytest.fixture(scope="module")
def dask():
    """The address of a scheduler in this process with two workers in processes of their own."""
    with LocalCluster(n_workers=2, **SMALL) as running:
        yield running.scheduler_address


@pytest.fixture
def pool(dask):
    with executor.of(Execution(scheduler=dask, timeout=20.0)) as pool:
        yield pool


def total(values, factor, wait=0.0):
    values *= factor  # a task may change what it was given
    time.sleep(wait)
    return float(values.sum())


def runs_as(pid):
    return os.getpid() == int(pid) if pid.isdigit() else False


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def dies_once(flag, function, *arguments):
    """The first to begin takes its worker with it, half a second later."""
    try:
        Path(flag).touch(exist_ok=False)
    except FileExistsError:
        return function(*arguments)
    threading.Timer(0.5, die).start()
    function(*arguments)
    time.sleep(60)


def said(n):
    for _ in progress.follow(range(n), "toys", "batches"):
        pass
    logging.getLogger("dimuon").info("the worker says so")


def asks_for_workers():
    with executor.executor(1) as pool:
        return pool.submit(process, 0).result()


def refused(settings, shared=None):
    """The one line in which a cluster is refused."""
    with pytest.raises(UserError) as caught, executor.of(Execution(**settings), shared=shared):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_cluster_returns_what_one_process_does(pool):
    assert list(pool.map(draw, range(5))) == [draw(seed) for seed in range(5)]
    futures = [pool.submit(draw, seed=seed) for seed in range(5)]
    assert {future.result() for future in as_completed(futures)} == {draw(seed) for seed in range(5)}
    assert os.getpid() not in set(pool.map(process, range(20)))


def test_an_error_of_a_task_comes_out_of_its_result(pool):
    with pytest.raises(TypeError):
        pool.submit(draw, {"no": "seed"}).result()


def test_tasks_for_some_workers_are_done_by_these_alone(pool):
    one, other = sorted(set(pool.map(process, range(20))))
    some = pool.where(runs_as, str(other))
    assert set(some.map(process, range(20))) == {other}
    assert [some.submit(draw, seed=seed).result() for seed in range(3)] == [draw(seed) for seed in range(3)]
    assert pool.where(runs_as, "no process") is None
    assert one in set(pool.map(process, range(20)))  # the pool itself takes all of them


def test_workers_started_here_keep_their_memory_and_no_profile(monkeypatch):
    """Both of Dask's habits slow a training down by a third."""
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    with executor.of(Execution(cluster=Cluster(kind="local", workers=1))) as pool:
        assert pool.submit(os.getenv, "MALLOC_TRIM_THRESHOLD_").result() is None
        assert pool.submit(dask_config.get, "distributed.worker.profile.enabled").result() is False


@pytest.mark.slow
def test_the_only_worker_that_can_do_a_task_is_lost(monkeypatch):
    monkeypatch.setattr(dask_pool, "LOOKS", 0.1)
    with (
        LocalCluster(n_workers=2, **SMALL) as running,
        executor.of(Execution(scheduler=running.scheduler_address, timeout=2.0)) as pool,
    ):
        chosen = pool.submit(process, 0).result()
        waiting = pool.where(runs_as, str(chosen)).submit(time.sleep, 60)
        os.kill(chosen, signal.SIGKILL)
        with pytest.raises(UserError, match="no Dask worker for 2 s"):
            waiting.result(timeout=30)


def test_large_arguments_travel_once_and_no_task_sees_what_another_did_to_them(pool):
    values = np.ones(100_000)
    with mock.patch.object(pool.client, "submit", wraps=pool.client.submit) as submitted:
        futures = [pool.submit(total, values, factor) for factor in range(6)]
        assert [future.result() for future in futures] == [100_000.0 * factor for factor in range(6)]
    sent = [call.args for call in submitted.call_args_list]
    assert sum(len(argument) > values.nbytes for _, argument, *_ in sent if isinstance(argument, bytes)) == 1
    assert all(len(order.task) < 1000 for _, order, *_ in sent if not isinstance(order, bytes))
    assert len(sent) == 7
    assert pool._inputs == {}  # let go when nobody needs them any more


def test_a_task_is_named_by_its_short_arguments():
    named = dask_pool.description(total, [np.ones(3), "os", range(2), [1, 2]])
    assert named == "total (os, range(0, 2), [1, 2])"


def test_a_killed_worker_loses_nothing(pool, tmp_path):
    values = np.arange(20_000.0)  # the worker that is lost may be the one that held them
    futures = [pool.submit(dies_once, tmp_path / "flag", total, values.copy(), factor) for factor in range(4)]
    assert [future.result() for future in futures] == [values.sum() * factor for factor in range(4)]
    assert (tmp_path / "flag").exists()


@pytest.mark.slow
def test_a_task_that_kills_its_workers_stops_with_its_name():
    with (
        executor.of(Execution(cluster=Cluster(kind="local", workers=2))) as pool,
        pytest.raises(UserError, match=r"^die \(data/x\.root\): 3 workers died at this task"),
    ):
        pool.submit(die, "data/x.root").result(timeout=60)


def test_workers_say_how_far_they_are(pool, monkeypatch, caplog):
    shown = []
    monkeypatch.setattr(progress._BOARD, "show", shown.append)
    with caplog.at_level("INFO"):
        pool.submit(said, 3).result()
        deadline = time.monotonic() + 10
        while "the worker says so" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.05)
    assert (shown[0].done, shown[-1].done) == (0, 3)
    assert "the worker says so" in caplog.messages


def test_a_worker_starts_no_workers(pool, monkeypatch):
    with pytest.raises(UserError, match="cannot start workers of its own"):
        pool.submit(asks_for_workers).result()
    monkeypatch.setattr(executor, "_is_worker", True)  # as in every worker of this machine
    with pytest.raises(UserError, match="cannot start workers of its own"):
        asks_for_workers()


def test_no_scheduler_is_said_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    assert f"execution.scheduler = tcp://127.0.0.1:{port}: no Dask scheduler answers there" in refused(
        {"scheduler": f"tcp://127.0.0.1:{port}"}
    )
    assert time.monotonic() - start < 5


def test_what_is_no_scheduler_is_said(monkeypatch, pool):
    worker = next(iter(pool.client.nthreads()))
    assert "(but a Worker)" in refused({"scheduler": worker})
    monkeypatch.setattr(cluster, "CONNECTING", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes the connection and says nothing
        line = refused({"scheduler": f"tcp://127.0.0.1:{mute.getsockname()[1]}"})
    assert "no Dask scheduler answers there" in line


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("{scheduler: 'http://127.0.0.1:8787/status'}", "the address of a dashboard"),
        ("{scheduler: 127.0.0.1:8786}", "like tcp://HOST:8786"),
        ("{cluster: {kind: slurmm, workers: 2}}", "slurm"),
        ("{cluster: {kind: slurm}}", "workers is missing"),
        ("{scheduler: 'tcp://a:1', cluster: {kind: local}}", "not both"),
    ],
)
def test_settings_that_name_no_cluster(tmp_path, given, line):
    path = tmp_path / "a.yaml"
    path.write_text(f"name: a\nseed: 1\ninput: {{simulation: {{}}}}\nexecution: {given}\n")
    with pytest.raises(UserError, match=f"a.yaml:4: execution.*{line}"):
        config.load(path)


def test_no_worker_is_said_after_the_timeout():
    with LocalCluster(n_workers=0, **SMALL) as empty:
        line = refused({"scheduler": empty.scheduler_address, "timeout": 0.5})
    assert line.startswith("no Dask worker for 0.5 s: start some with `dask worker tcp://127.0.0.1:")


def test_all_workers_lost(dask, monkeypatch):
    monkeypatch.setattr(dask_pool, "LOOKS", 0.1)
    with executor.of(Execution(scheduler=dask, timeout=1.0)) as pool:
        monkeypatch.setattr(pool, "_alone", lambda: True)
        with pytest.raises(UserError, match="no Dask worker for 1 s: start some with"):
            pool.submit(time.sleep, 5).result(timeout=30)
        with pytest.raises(UserError, match="no Dask worker"):  # nothing is handed out any more
            pool.submit(draw, 1).result(timeout=5)


@pytest.mark.slow
def test_the_scheduler_lost():
    running = LocalCluster(n_workers=1, **SMALL)
    with executor.of(Execution(scheduler=running.scheduler_address, timeout=20.0)) as pool:
        assert pool.submit(draw, 1).result() == draw(1)
        waiting = pool.submit(time.sleep, 60)
        running.sync(running.scheduler.close)
        with pytest.raises(UserError, match="scheduler was lost.*what is finished is kept"):
            waiting.result(timeout=30)
    with contextlib.suppress(Exception):
        running.close(timeout=1)


def test_workers_with_several_threads_are_refused(dask, monkeypatch):
    monkeypatch.setattr(cluster.DASK.Client, "nthreads", lambda _: {"tcp://far:1": 2})
    assert "tcp://far:1 does 2 tasks at once" in (line := refused({"scheduler": dask}))
    assert "--nworkers 2 --nthreads 1" in line


def test_workers_with_other_code_are_refused(dask, pool, monkeypatch):
    here = {**dask_pool.code(), "torch": "9.9"}
    monkeypatch.setattr(dask_pool, "code", lambda: here)
    line = refused({"scheduler": dask})
    assert "torch is" in line
    assert "here it is" in line or "it is 9.9" in line
    with pytest.raises(UserError, match="torch is .*it is 9.9"):  # a worker that joins later, too
        pool.submit(draw, 1).result()


def test_workers_of_another_python_are_refused(dask, monkeypatch):
    whole = cluster.DASK.Client.get_versions
    monkeypatch.setattr(
        cluster.DASK.Client,
        "get_versions",
        lambda client: (told := whole(client)) and told["client"]["packages"].update(python="2.7") or told,
    )
    assert "python is 3." in refused({"scheduler": dask})


def test_a_file_that_only_the_driver_sees_is_refused(dask, tmp_path, monkeypatch):
    seen = tmp_path / "seen.root"
    seen.write_bytes(b"x")
    (tmp_path / "data").mkdir()
    with executor.of(Execution(scheduler=dask), shared=[seen, tmp_path / "data"]) as pool:
        assert pool.submit(os.getcwd).result() == os.getcwd()
    assert list((tmp_path / "data").iterdir()) == []
    monkeypatch.setattr(cluster, "_unseen", _without(seen))
    assert f"{seen}: Dask worker tcp://" in refused({"scheduler": dask}, [seen])
    monkeypatch.setattr(cluster, "_unseen", _without(tmp_path / "data"))
    assert f"{tmp_path / 'data'}: Dask worker tcp://" in refused({"scheduler": dask}, [tmp_path / "data"])


class _without:
    """What a worker does not see that has no such file or folder."""

    def __init__(self, missing):
        self.missing = str(missing)

    def __call__(self, sizes):
        return next((path for path in sizes if path.startswith(self.missing)), None)


def test_without_dask_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)  # as where it is not installed
    assert "dimuon[dask]" in refused({"scheduler": "tcp://127.0.0.1:1"})


def test_a_queue_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for kind, command in {"slurm": "sbatch", "pbs": "qsub", "htcondor": "condor_submit"}.items():
        assert f"no command {command}" in refused({"cluster": Cluster(kind=kind, workers=1)})
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    assert "dimuon[cluster]" in refused({"cluster": Cluster(kind="slurm", workers=1)})


def queue(folder, monkeypatch, **commands):
    """Commands of a queue that are scripts here."""
    for name, text in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_queue_that_refuses(tmp_path, monkeypatch, adaptive):
    queue(tmp_path, monkeypatch, sbatch="echo 'sbatch: error: Invalid account' >&2; exit 1", scancel="")
    line = refused({"cluster": Cluster(kind="slurm", workers=2, account="nobody", adaptive=adaptive)})
    assert line.startswith("execution.cluster: slurm refuses the job (sbatch: error: Invalid account)")


@pytest.mark.slow
def test_the_jobs_of_a_queue_do_the_work(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    submit = "cp $1 job.sh; sh job.sh > job.log 2>&1 & echo Submitted batch job 17"
    queue(tmp_path, monkeypatch, sbatch=submit, scancel="echo $1 > cancelled")
    cluster_of_jobs = Cluster(kind="slurm", workers=2, per_job=2, account="physics", memory="2GB")
    with executor.of(Execution(cluster=cluster_of_jobs)) as pool:
        assert list(pool.map(draw, range(4))) == [draw(seed) for seed in range(4)]
    assert "#SBATCH -A physics" in (tmp_path / "job.sh").read_text()
    assert (tmp_path / "cancelled").read_text() == "17\n"


@pytest.mark.slow
def test_an_adaptive_cluster_grows_with_the_work():
    with executor.of(Execution(cluster=Cluster(kind="local", workers=2, adaptive=True))) as pool:
        values = np.ones(10)
        futures = [pool.submit(total, values, 1, wait=0.3) for _ in range(12)]
        assert [future.result() for future in futures] == [10.0] * 12
        assert len(pool.client.nthreads()) >= 1


CHAIN = """
name: small
seed: 7
input: {{simulation: {{n_files: 2, scale: 0.08}}}}
selection: {{charges: [os]}}
estimator: {{members: 2, blocks: 2, hidden: 8, epochs: 20}}
bdt: {{members: 4, folds: 3, n_trees: 10}}
significance: {{degree: 3, degrees: [3], binnings: [7, 11], toys: {{local: 0, scan: 0, weights: 0}}}}
background: {{degree: 3}}
studies: {{members: 1, pseudoexperiments: 2, held_out: 1}}
execution: {execution}
"""


def outcome(folder, execution, between):
    """{file: SHA-256} of what steps 1 to 5 and a study make in a folder; `between` is called before each."""
    (folder / "small.yaml").write_text(CHAIN.format(execution=execution))
    with contextlib.chdir(folder), threadpool_limits(1):  # as in every script
        chosen = config.load("small.yaml")
        for script in sorted(path.name for path in ROOT.glob("0[1-5]_*.py")):
            between(script)
            arguments = [mock.Mock(retry_failed=False, again=False)] if script[:2] in ("01", "03") else []
            runpy.run_path(str(ROOT / script))["main"](provenance.Run(chosen, script, "small.yaml"), *arguments)
        between("study")
        study.do("pseudoexperiments", "small.yaml")
    kinds = (".parquet", ".pt", ".zip")
    made = [path for path in folder.rglob("*") if path.suffix in kinds and ".meta" not in path.name]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in made}


@pytest.mark.slow
def test_a_worker_killed_in_each_step_changes_no_byte(dask, tmp_path, monkeypatch):
    (here := tmp_path / "here").mkdir()
    (there := tmp_path / "there").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(executor, "executor", lambda *_: contextlib.nullcontext(executor.AtOnce()))
        expected = outcome(here, "{workers: 1}", lambda _: None)
    flags = [tmp_path / "none"]
    submit = dask_pool.DaskPool.submit

    def sabotaged(pool, *task):  # but for step 4, which is like step 5
        return (
            submit(pool, *task) if flags[-1].name.startswith("04") else submit(pool, dies_once, str(flags[-1]), *task)
        )

    monkeypatch.setattr(dask_pool.DaskPool, "submit", sabotaged)
    found = outcome(there, f"{{scheduler: '{dask}'}}", lambda step: flags.append(tmp_path / step))
    assert found == expected
    assert {"data/small/flows_os.pt", "data/small/bdts_os.zip"} < found.keys()
    killed = {flag.name[:2] for flag in flags if flag.exists()}
    assert killed == {"01", "03", "05", "st"}
