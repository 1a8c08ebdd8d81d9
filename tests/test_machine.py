"""The machine around a step: what it refuses is one line and exit code 2, and nothing is half-written."""

import errno
import logging
import os
import resource
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from pathlib import Path

import pandas as pd
import pytest

from dimuon.errors import UserError
from dimuon.workflow import cli, config, executor, lock, machine, messages, provenance
from tests.conftest import ROOT

YAML = "name: test\nseed: 1\ninput: {dimuons: mine.parquet}\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(YAML)
    return provenance.Run(config.load("a.yaml"), "03_train_flows.py", "a.yaml")


def ended(capsys, call):
    """(exit code, what was said on standard error) of a step that does `call`."""
    code = cli.guarded("03_train_flows.py", call)
    return code, capsys.readouterr().err


def raising(error):
    def call():
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EROFS, "Read-only file system", "data/a"), "data/a: cannot be written: the file system is read"),
        (PermissionError(errno.EACCES, "Permission denied", "data"), "data: permission denied; check who may read"),
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on the disk; free some, run it again"),
        (OSError(errno.EFBIG, "File too large", b"a.parquet"), "a.parquet: larger than this shell allows a file to be"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), "x: not found, or removed while it was at work"),
        (OSError(errno.EIO, "Input/output error", "x"), "x: Input/output error"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "the output was closed before the end"),
        (MemoryError(), "out of memory; lower execution.workers"),
        (BrokenProcessPool("abruptly"), "a worker process was killed, out of memory perhaps"),
    ],
)
def test_what_the_machine_refuses_is_one_line(capsys, error, words):
    code, said = ended(capsys, raising(error))
    assert code == 2
    assert said.startswith(f"03_train_flows.py: {words}")
    assert said.count("\n") == 1


def test_what_is_unforeseen_keeps_its_traceback(capsys):
    code, said = ended(capsys, raising(ZeroDivisionError("ours")))
    assert code == 1
    assert "Traceback" in said


@pytest.mark.parametrize("folder", ["data", "results"])
@pytest.mark.parametrize("kind", ["a file", "a dead link", "a file within", "not writable"])
def test_folders_that_are_none_are_refused_before_work_begins(run, monkeypatch, folder, kind):
    if kind == "a file":
        Path(folder).write_text("mine")
    elif kind == "a dead link":
        Path(folder).symlink_to("nowhere")
    elif kind == "a file within":
        Path(folder).mkdir()
        Path(folder, "test").write_text("mine")
    else:
        Path(folder).mkdir()
        monkeypatch.setattr(os, "access", lambda place, mode: str(place) != folder)  # root may write everywhere
    words = "permission denied" if kind == "not writable" else "is no folder, but a file or a link that leads nowhere"
    other, own = sorted([run.data, run.results], key=lambda each: folder in each.parts)
    machine.require_folder(other)
    with pytest.raises(UserError, match=rf"^{folder}(/test)?: {words}"):
        machine.require_folder(own)
    if kind == "a file":
        assert Path(folder).read_text() == "mine"


def test_a_folder_that_becomes_a_file_is_one_line(run, capsys):
    Path("data").write_text("mine")

    def call():
        with lock.locked(run.data, "03_train_flows.py"):
            pass

    code, said = ended(capsys, call)
    assert (code, said.count("\n")) == (2, 1)
    assert "data/test: a part of this path is no folder, but a file; move it away" in said


def test_a_file_size_limit_leaves_the_old_file(run, capsys):
    path = run.write_bytes(run.data / "flows_os.pt", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        code, said = ended(capsys, lambda: run.write_bytes(path, bytes(10_000)) and None)
        table = run.data / "background_os.parquet"
        frame = pd.DataFrame({"dimu_mass": [float(i) ** 1.1 for i in range(5000)]})
        of_table = ended(capsys, lambda: run.write_table(table, frame) and None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for each, words in ((code, said), of_table):
        assert each == 2
        assert "larger than this shell allows a file to be (ulimit -f)" in words
    assert path.read_bytes() == b"old"
    assert {each.name for each in run.data.iterdir()} == {"flows_os.pt", "flows_os.pt.meta.json"}


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file or directory"), OSError(38, "Not implemented"),
                                   ImportError("This platform lacks a functioning sem_open")])  # fmt: skip
def test_without_shared_memory_workers_are_refused(monkeypatch, error):
    monkeypatch.setattr(executor, "ProcessPoolExecutor", lambda *_, **__: raising(error)())
    with pytest.raises(UserError, match=r"no worker process can be started .*; is there a folder /dev/shm"):
        with executor.executor(1):
            pass


class Closed:
    """A stream whose reader is gone."""

    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def flush(self):
        pass

    def fileno(self):
        raise OSError("no file")


def test_an_output_that_was_closed_ends_the_step_in_a_line(capsys, monkeypatch):
    log = logging.Logger("test")
    log.addHandler(messages._Screen(Closed()))
    code, said = ended(capsys, lambda: log.warning("of many lines"))
    assert (code, said) == (2, "03_train_flows.py: the output was closed before the end; finished files are whole, "
                               "run it again\n")  # fmt: skip


def test_other_modules_of_the_current_folder_and_a_full_output(tmp_path):
    """`python -m` puts the current folder first; a shadowed library and an output that is full ended in tracebacks."""
    for name in ("numpy", "random", "socket", "argparse", "pathlib", "concurrent", "inspect", "logging", "pydantic"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "a.yaml").write_text(YAML)
    command = [sys.executable, "-m", "dimuon", "run", "--dry-run", "a.yaml"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "dimuon run: no space left on the disk; free some, run it again\n")


def test_an_interrupt_while_libraries_are_loaded_is_one_line():
    """In a program of ours, whose figures need no screen either."""
    program = "import sys, os, time; sys.argv = ['03_train_flows.py']; import dimuon; "
    program += "print(os.environ['MPLBACKEND'], flush=True); time.sleep(60)"
    command, environment = [sys.executable, "-c", program], os.environ | {"MPLBACKEND": "nonsense"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as process:
        assert process.stdout.readline() == "agg\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 1
        assert process.stderr.read() == "03_train_flows.py: interrupted before it began\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_workers_leave_an_interrupt_to_their_parent_from_birth():
    with executor.executor(1) as pool:
        assert pool.submit(abs, -1).result() == 1
        status = Path(f"/proc/{forkserver._forkserver._forkserver_pid}/status").read_text()
        ignored = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
        assert int(ignored, 16) >> (signal.SIGINT - 1) & 1
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    assert "PYTHONSAFEPATH" not in os.environ
