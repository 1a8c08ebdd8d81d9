"""How far work is: said now and then without a terminal, from workers too, and in the log file with times."""

import logging
import re

import pytest

from dimuon import progress
from dimuon.errors import UserError
from dimuon.workflow import executor, messages


@pytest.fixture
def often(monkeypatch):
    """Every step is said."""
    monkeypatch.setattr(progress, "EVERY", 0.0)


def trained(n):
    """As a worker trains."""
    logging.getLogger("dimuon").info("worker: begins with %d epochs", n)
    with progress.Progress("flows os", n, "epochs") as steps:
        for epoch in range(n):
            steps.step(loss=1 / (1 + epoch))
    return n


def silently(n):
    """As a task of many."""
    with progress.silent():
        return trained(n)


def test_work_is_said_with_what_is_left(often, caplog):
    with caplog.at_level("INFO"):
        assert list(progress.follow(range(4), "toys", "batches")) == [0, 1, 2, 3]
    assert [message.partition(", about")[0] for message in caplog.messages] == [
        f"toys: {n} of 4 batches" for n in (1, 2, 3)
    ]
    assert all(re.search(r"about \d+ s left$", message) for message in caplog.messages)


def test_short_work_says_nothing_and_work_that_ends_early_is_no_longer_at_work(often, caplog):
    def until(last):
        for each in progress.follow(range(4), "toys", "batches"):
            if each == last:
                raise UserError("the end")

    with caplog.at_level("INFO"), pytest.raises(UserError):
        until(1)
    assert progress._BOARD._shown == {}
    caplog.clear()
    progress.EVERY = 30.0
    with caplog.at_level("INFO"):
        list(progress.follow(range(3), "toys", "batches"))
    assert caplog.text == ""


def test_an_interrupted_work_counts_from_where_it_went_on(often, caplog, monkeypatch):
    clock = iter([0.0, 0.0, 10.0, 10.0, 10.0, 20.0, 20.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock, 20.0))
    with caplog.at_level("INFO"), progress.Progress("flows", 100, "epochs", begun=90) as steps:
        steps.step()
    assert "flows: 91 of 100 epochs, about 90 s left" in caplog.text


def test_workers_report_to_their_parent(often, caplog):
    with caplog.at_level("INFO"), executor.executor(1) as pool:
        assert pool.submit(trained, 3).result() == 3
        assert pool.submit(silently, 5).result() == 5
    assert caplog.messages[0] == "worker: begins with 3 epochs"
    assert "flows os: 2 of 3 epochs, loss 0.5000" in caplog.text
    assert "of 5" not in caplog.text
    assert "5 epochs" not in caplog.text


def test_the_log_file_has_all_with_its_time(tmp_path, caplog):
    log = logging.getLogger("dimuon")
    caplog.set_level("DEBUG", "dimuon")

    @messages.log_file(tmp_path / "results" / "a", "03_train_flows.py")
    def step():
        log.debug("for the file alone")
        log.info("for all")
        raise UserError("no events")

    with pytest.raises(UserError):
        step()
    log.info("afterwards")
    lines = (tmp_path / "results" / "a" / messages.LOG_FILE).read_text().splitlines()
    assert [line.split(" ", 2)[2].split(" ", 2)[2] for line in lines[1:]] == [
        "for the file alone", "for all", "ends with UserError: no events"
    ]  # fmt: skip
    assert all(
        re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} 03_train_flows.py (DEBUG|INFO) ", line) for line in lines
    )


def test_a_log_file_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "results").write_text("no folder")
    with messages.log_file(tmp_path / "results", "step"):
        logging.getLogger("dimuon").warning("goes on")
