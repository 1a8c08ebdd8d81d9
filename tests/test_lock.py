"""Two runs at once, and ends by signal: nobody writes another's files, and nobody is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dimuon.errors import UserError
from dimuon.workflow import cli
from dimuon.workflow.lock import locked
from tests.conftest import ROOT

STEP = """
import sys, time
from pathlib import Path
from dimuon.workflow import cli, executor
from tests.test_lock import beat

def main(run):
    with executor.executor(2) as pool:
        futures = [pool.submit(beat, str(Path.cwd()), worker) for worker in range(4)]
        for future in futures:
            future.result()

if __name__ == "__main__":
    cli.run("06_significance.py", main)
"""
# step 3, which waits for its workers in threads, with other work for them
TRAINING = """
import runpy, sys
from pathlib import Path
from dimuon.bumphunt import steps
from tests.test_lock import beat

def train(config, charge, events, scaler, stream, pool, checkpoint):
    pool.submit(beat, str(Path.cwd()), ("os", "ss").index(charge)).result()

if __name__ == "__main__":
    steps.train_background, steps.feature_doubts = train, lambda *_: []
    sys.argv[0] = "03_train_flows.py"
    runpy.run_path("SCRIPT", run_name="__main__")
"""


def beat(folder, worker):
    """A worker that shows for half a minute that it is alive."""
    for _ in range(300):
        (Path(folder) / f"beat_{worker}").write_text(str(time.monotonic()))
        time.sleep(0.1)


def gone():
    """The number of a process that has ended."""
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    return int(done.stdout)


def test_a_second_run_is_refused_and_the_lock_is_free_afterwards(tmp_path):
    with locked(tmp_path, "03_train_flows.py"):
        content = json.loads((tmp_path / ".running").read_text())
        assert (content["process"], content["who"]) == (os.getpid(), "03_train_flows.py")
        with (
            pytest.raises(
                UserError, match=rf"03_train_flows.py .process {os.getpid()} on .* is at work on this analysis"
            ),
            locked(tmp_path, "04_sample_background.py"),
        ):
            pass
    with locked(tmp_path, "04_sample_background.py"):
        pass
    assert not (tmp_path / ".running").exists()


def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path, caplog):
    with locked(tmp_path, "03_train_flows.py"):
        left = json.loads((tmp_path / ".running").read_text())
    (tmp_path / ".running").write_text(json.dumps(left | {"process": gone()}))
    with locked(tmp_path, "04_sample_background.py"):
        assert json.loads((tmp_path / ".running").read_text())["who"] == "04_sample_background.py"
    assert "left behind by 03_train_flows.py" in caplog.text
    (tmp_path / ".running").write_text(json.dumps(left | {"process": gone(), "host": "elsewhere"}))
    with pytest.raises(UserError, match="on elsewhere"), locked(tmp_path, "04_sample_background.py"):
        pass


@pytest.fixture
def step(tmp_path, request):
    """A step at work with two workers, once both of them are; killed in the end."""
    (tmp_path / "a.yaml").write_text("name: a\nseed: 1\ninput: {dimuons: d.parquet}\nfeatures: {set: [dimu_pt]}\n")
    mass = np.linspace(5, 16, 400)
    pd.DataFrame({"dimu_mass": mass, "dimu_pt": mass % 3, "charge": ["OS", "SS"] * 200}).to_parquet(
        tmp_path / "d.parquet"
    )
    program = TRAINING.replace("SCRIPT", str(ROOT / "03_train_flows.py")) if request.param == "training" else STEP
    (tmp_path / "step.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "step.py", "a.yaml"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not all((tmp_path / f"beat_{worker}").exists() for worker in (0, 1)):
        assert time.monotonic() < deadline, "the workers did not begin"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    yield process
    process.kill()
    process.wait()


def beats(folder):
    return [(folder / f"beat_{worker}").read_text() for worker in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "name"),
    [("training", "SIGINT"), ("test", "SIGTERM"), ("test", "SIGHUP"), ("test", "SIGKILL")],
    indirect=["step"],
)
def test_workers_end_with_their_step(step, tmp_path, name):
    step.send_signal(getattr(signal, name))
    code = step.wait(timeout=20)
    time.sleep(1.0)
    before = beats(tmp_path)
    time.sleep(1.0)
    assert beats(tmp_path) == before, "a worker is still at work"
    if name != "SIGKILL":
        said = step.stderr.read().splitlines()
        how = "interrupted" if name == "SIGINT" else f"ended by {name}"
        script = "03_train_flows.py" if name == "SIGINT" else "06_significance.py"
        assert said == [f"{script}: {how}; finished files are whole, run it again"]
        assert code == 1
        assert not (tmp_path / "data" / "a" / ".running").exists()


@pytest.mark.parametrize(("first", "how"), [("SIGINT", "interrupted"), ("SIGTERM", "ended by SIGTERM")])
def test_a_second_interrupt_does_not_stop_the_ending(capsys, first, how):
    """It would leave workers with all that waits for them, and this process waiting for these."""
    ended, before = [], {number: signal.getsignal(number) for number in cli.ENDING}

    def call():
        try:
            os.kill(os.getpid(), getattr(signal, first))
            time.sleep(5)
        finally:
            for number in cli.ENDING:
                os.kill(os.getpid(), number)
                time.sleep(0.05)
            ended.append(True)

    try:
        assert cli.guarded("06_significance.py", call) == 1
        assert all(signal.getsignal(number) is cli._end for number in cli.ENDING)  # the next one is heard again
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended
    assert capsys.readouterr().err == f"06_significance.py: {how}; finished files are whole, run it again\n"
