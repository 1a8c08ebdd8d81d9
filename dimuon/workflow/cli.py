"""What the seven scripts share at the shell: `NN_step.py CONFIG.yaml`, logging, exit codes."""

import argparse
import errno
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dimuon.errors import AnalysisError, UserError
from dimuon.workflow import config, provenance

log = logging.getLogger("dimuon")


@contextmanager
def explained(section: str | None = None, what: Path | str | None = None, remedy: str | None = None) -> Iterator[None]:
    """Say of what goes wrong inside where it happened and what to change: `UserError` for any ValueError.

    section: of the YAML that holds the settings, for an `AnalysisError` that names one. what: the file or sample at
    work. remedy: what to do where no setting is named, "run `python 03_train_flows.py CONFIG.yaml`".
    """
    try:
        yield
    except ValueError as error:
        setting = error.setting if isinstance(error, AnalysisError) else None
        if setting is not None:
            remedy = f"the setting is {section}.{setting}" if section else f"the setting is {setting}"
        where = "" if what is None else f"{what}: "
        raise UserError(f"{where}{error}" + (f"; {remedy}" if remedy else "")) from error


def run(step, main, options=()):
    """Run one step as a script and exit: 0 done, 2 a user's mistake (one line on standard error), 1 anything else.

    step: the script's file name. main: called with an `artifacts.Run` and, where `options` has any, the parsed
    arguments. options: pairs (flag, keywords) for `argparse.ArgumentParser.add_argument`.
    """
    parser = argparse.ArgumentParser(prog=step, description=main.__doc__ or sys.modules["__main__"].__doc__)
    parser.add_argument("config", metavar="CONFIG.yaml", help="the analysis, e.g. configs/demo.yaml")
    for flag, keywords in options:
        parser.add_argument(flag, **keywords)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    sys.exit(_exit_code(step, main, arguments, bool(options)))


def _exit_code(step, main, arguments, with_arguments):
    start = time.perf_counter()

    def call():
        current = provenance.Run(config.load(arguments.config), step, arguments.config)
        main(current, *([arguments] if with_arguments else []))
        log.info("%s: done in %.1f s, wrote %s", step, time.perf_counter() - start, current.summary())

    return guarded(step, call)


def guarded(name, call):
    """Do `call()`; returns the exit code: 0 done, 2 a user's mistake (one line on standard error), 1 anything else."""
    try:
        call()
    except UserError as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted; finished files are whole, run it again", file=sys.stderr)
        return 1
    except Exception as error:  # the one place where anything unforeseen ends: with its traceback and exit code 1
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            print(f"{name}: no space left on the disk; free some, run it again", file=sys.stderr)
            return 2
        traceback.print_exc()
        return 1
    return 0
