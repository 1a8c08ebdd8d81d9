"""A script as a user runs it in a shell, and the same in this process, which takes a tenth of the time."""

import contextlib
import io
import logging
import os
import runpy
import subprocess
import sys
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from dimuon.workflow import executor
from tests.conftest import ROOT


@dataclass(frozen=True)
class Done:
    """How a script ended."""

    returncode: int
    stdout: str
    stderr: str


def in_shell(folder: Path, script: str, config: str, *options: str) -> Done:
    """As a user runs it."""
    done = subprocess.run(
        [sys.executable, str(ROOT / script), config, *options],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def here(folder: Path, script: str, config: str, *options: str, pool: Executor | None = None) -> Done:
    """In this process. pool: in place of its workers (None: each task at once)."""
    out, err = io.StringIO(), io.StringIO()
    handler, log, root = logging.StreamHandler(out), logging.getLogger("dimuon"), logging.getLogger()
    handler.setLevel(logging.INFO)
    log.addHandler(handler)
    before = log.level, root.level
    root.setLevel(logging.INFO)  # what a shell's first handler would bring
    try:
        with (
            contextlib.chdir(folder),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "argv", [script, config, *options]),
            mock.patch.object(executor, "executor", return_value=contextlib.nullcontext(pool or executor.AtOnce())),
            pytest.raises(SystemExit) as ended,
        ):
            runpy.run_path(str(ROOT / script), run_name="__main__")
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        root.setLevel(before[1])
    return Done(ended.value.code, out.getvalue(), err.getvalue())
