"""What the seven scripts share at the shell: `NN_step.py CONFIG.yaml`, logging, exit codes."""

import argparse
import logging
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from threadpoolctl import threadpool_limits

import dimuon
from dimuon.errors import AnalysisError, UserError
from dimuon.workflow import config, lock, machine, messages, provenance
from dimuon.workflow.products import STEPS

log = logging.getLogger("dimuon")

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Ctrl-C first


@contextmanager
def explained(
    section: str | Sequence[str] | None = None,
    what: Path | str | None = None,
    remedy: str | None = None,
    chosen: config.Config | None = None,
) -> Iterator[None]:
    """Say of what goes wrong inside where it happened and what to change: `UserError` for any ValueError.

    section: of the YAML that holds the settings, for an `AnalysisError` that names one; of several the first that has
    it in the `chosen` configuration. what: the file or sample at work. remedy: what to do where no setting is named,
    "run `python 03_train_flows.py CONFIG.yaml`".
    """
    try:
        yield
    except ValueError as error:
        setting = error.setting if isinstance(error, AnalysisError) else None
        if setting is not None:
            sections = [section] if isinstance(section, str) else list(section or ())
            known = [name for name in sections if hasattr(getattr(chosen, name, None), setting)]
            remedy = "the setting is " + ".".join([*(known or sections)[:1], setting])
        where = "" if what is None else f"{what}: "
        raise UserError(f"{where}{error}" + (f"; {remedy}" if remedy else "")) from error


def run(step: str, main: Callable[..., None], options: Sequence[tuple[str, dict[str, Any]]] = ()) -> NoReturn:
    """Run one step as a script and exit: 0 done, 2 a user's mistake (one line on standard error), 1 anything else.

    step: the script's file name. main: called with a `provenance.Run` and, where `options` has any, the parsed
    arguments. options: pairs (flag, keywords) for `argparse.ArgumentParser.add_argument`.
    """
    parser = argparse.ArgumentParser(prog=f"python {step}", description=main.__doc__ or sys.modules["__main__"].__doc__)
    parser.add_argument("config", metavar="CONFIG.yaml", help="the analysis, e.g. configs/demo.yaml")
    for flag, keywords in options:
        parser.add_argument(flag, **keywords)
    add_common(parser)
    arguments = parsed(parser)
    messages.start(arguments)
    start = time.perf_counter()

    def call() -> None:
        current = provenance.Run(config.load(arguments.config), step, arguments.config)
        say_folder(arguments.config)
        _require_needed(current)
        for folder in (current.data, current.results):
            machine.require_folder(folder)
        with lock.locked(current.data, step), messages.log_file(current.results, step):
            main(current, *([arguments] if options else []))
            log.info("%s: done in %.1f s, wrote %s", step, time.perf_counter() - start, current.summary())

    sys.exit(guarded(step, call))


def _require_needed(run: provenance.Run) -> None:
    """`UserError` for a step before that which the analysis begins with."""
    given, commands = run.config.input, [maker.command for maker in STEPS]
    if run.step in commands[: given.first_step - 1]:
        first = commands[given.first_step - 1]
        raise UserError(
            f"{run.config_path}: begins with {first}, since input.{given.source} is given; run "
            f"`python {first} {run.config_path}`, or all that is left with `python -m dimuon run {run.config_path}`"
        )


def say_folder(config_path: str) -> None:
    """One line where a configuration lies outside the current folder: relative paths are not those of its folder."""
    here = Path.cwd()
    if not Path(config_path).resolve().is_relative_to(here):
        log.info("relative paths, data/ and results/ are those of the current folder, %s", here)


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options that every script and command has."""
    parser.add_argument("--version", action="version", version=f"dimuon {dimuon.__version__}")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--quiet", action="store_true", help="say only what went wrong")
    loudness.add_argument("--verbose", action="store_true", help="say more, each line with its time")


def _heed() -> None:
    for number in ENDING:
        signal.signal(number, _end)


def _end(number: int, _frame: Any) -> NoReturn:
    """End what is at work. A second Ctrl-C must not stop that in the middle, and leave workers with all that waits."""
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt("" if number == signal.SIGINT else signal.Signals(number).name)


def guarded(name: str, call: Callable[[], int | None]) -> int:
    """Do `call()`; returns the exit code: 2 a user's mistake (one line on standard error), 1 anything else that went
    wrong, otherwise what `call` returns, 0 for None."""
    _heed()
    try:
        # the workers are what computes on every core, and numbers must not depend on how many cores there are
        with threadpool_limits(1):
            code = call() or 0
        messages.flush()
        return code
    except (UserError, AnalysisError) as error:
        return _refused(name, " ".join(str(error).split()))
    except KeyboardInterrupt as reason:
        how = f"ended by {reason}" if str(reason) else "interrupted"
        _say(f"{name}: {how}; finished files are whole, run it again")
        _heed()
        return 1
    except Exception as error:  # the one place where anything unforeseen ends: with its traceback and exit code 1
        if refusal := machine.refusal(error):
            return _refused(name, refusal)
        with suppress(OSError):
            traceback.print_exc()
        return 1


def _refused(name: str, why: str) -> int:
    _say(f"{name}: {why}")
    with suppress(OSError):
        log.debug("this is where", exc_info=True)
        messages.flush()
    return 2


def _say(line: str) -> None:
    with suppress(OSError):  # nobody listens
        print(line, file=sys.stderr, flush=True)


def parsed(parser: argparse.ArgumentParser, line: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of a command line (None: that of the process); ends the program where it asks for help."""
    try:
        return parser.parse_args(line)
    except SystemExit as end:
        try:
            messages.flush()
        except OSError as error:
            raise SystemExit(_refused(parser.prog, str(machine.refusal(error)))) from end
        raise
