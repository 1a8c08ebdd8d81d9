"""Where messages go: to the screen, and with their times to a log file beside the results."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dimuon import progress

log = logging.getLogger("dimuon")

LOG_FILE = "log.txt"  # in results/<name>/


def start(arguments: argparse.Namespace) -> None:
    """Messages to standard output, as many as the options of `cli.add_common` ask for."""
    form = "%(asctime)s %(levelname)s %(message)s" if arguments.verbose else "%(message)s"
    level = logging.WARNING if arguments.quiet else logging.INFO
    screen = _Screen(sys.stdout)
    screen.setLevel(logging.DEBUG if arguments.verbose else level)
    logging.basicConfig(level=level, format=form, handlers=[screen])
    log.setLevel(logging.DEBUG)


@contextmanager
def log_file(folder: Path, who: str) -> Iterator[None]:
    """Inside, all messages stand in a file of a folder, too, with their times. who: at work."""
    handler = _LogFile(folder / LOG_FILE, who)
    log.addHandler(handler)
    try:
        log.debug("begins: %s", " ".join(sys.argv))
        yield
    except BaseException as error:
        log.debug("ends with %s: %s", type(error).__name__, error)
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


def flush() -> None:
    """What is still to be said on standard output; where it cannot be, it is dropped and OSError raised."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _drop_output()
        raise


def _drop_output() -> None:
    """Write to nowhere from now on, so that the end of the process does not complain again."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class _LogFile(logging.FileHandler):
    """Messages for the log file, that is begun with the first; a disk that refuses them stops no step."""

    def __init__(self, path: Path, who: str) -> None:
        super().__init__(path, delay=True, encoding="utf-8")
        self.setLevel(logging.DEBUG)
        self.setFormatter(logging.Formatter(f"%(asctime)s {who} %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, where that can be: the screen has the message, too."""
        with suppress(OSError):
            Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Go on."""


class _Screen(logging.StreamHandler[Any]):
    """Messages for the screen; where they cannot be written, that is an error of the step and not of its messages."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, above the bars."""
        with progress.aside():
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise what went wrong."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            _drop_output()
            raise error
        super().handleError(record)
