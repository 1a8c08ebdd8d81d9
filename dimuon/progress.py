"""How far long work is: a bar on a terminal, elsewhere a line now and then. Workers report to their parent.

`follow` goes through anything while saying how far it is; `Progress` is told. Whoever starts workers gives them where
to report (`send_to`) and shows what comes from there (`receive`).
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tqdm import tqdm

log = logging.getLogger("dimuon")

T = TypeVar("T")

EVERY = 30.0  # s between two lines of the same work


@dataclass(frozen=True)
class Report:
    """How far some work is. begun: steps that were done before it began here, as by an interrupted run."""

    what: str
    unit: str
    done: int
    total: int
    begun: int = 0
    values: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """In words: "flows os 0-2: 120 of 1,000 epochs, train 3.1415"."""
        values = "".join(f", {name} {value}" for name, value in self.values.items())
        return f"{self.what}: {self.done:,} of {self.total:,} {self.unit}{values}"


class Progress:
    """Work of a known number of steps, as a context. unit: what a step is, in the plural."""

    def __init__(self, what: str, total: int, unit: str, begun: int = 0) -> None:
        self.what, self.total, self.unit, self.begun, self.done = what, total, unit, begun, begun

    def step(self, n: int = 1, **values: float) -> None:
        """Some steps are done. values: to be shown, as the loss of the last one."""
        self.done += n
        self._tell(values)

    def __enter__(self) -> "Progress":
        self._tell({})
        return self

    def __exit__(self, *_: object) -> None:
        if self.done < self.total:  # it ends early
            self.total = self.done
            self._tell({})

    def _tell(self, values: dict[str, float]) -> None:
        said = {name: f"{value:.4f}" for name, value in values.items()}
        _tell(Report(self.what, self.unit, self.done, self.total, self.begun, said))


def follow(work: Iterable[T], what: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Go through work while saying how far it is. total: where it has no length."""
    n = total if total is not None else len(work)  # type: ignore[arg-type]  # it has one
    with Progress(what, n, unit) as progress:
        for each in work:
            yield each
            progress.step()


@dataclass
class _Shown:
    """One work at work: its bar in its line of the terminal, when it began here and when it was last said."""

    bar: "tqdm[Any]"
    place: int
    began: float
    said: float


class _Board:
    """All that is at work, by what it is."""

    def __init__(self) -> None:
        self._shown: dict[str, _Shown] = {}
        self._lock = threading.Lock()

    def show(self, report: Report) -> None:
        """Move the bar of some work, say now and then how far it is, and take it away where it is done."""
        with self._lock:
            shown = self._shown.get(report.what)
            if shown is None and report.done < report.total:
                shown = self._shown[report.what] = self._begun(report)
            if shown is None:
                return
            if not shown.bar.disable:
                shown.bar.set_postfix(report.values, refresh=False)
                shown.bar.update(report.done - shown.bar.n)
            if report.done >= report.total:
                self._shown.pop(report.what).bar.close()
            elif report.done > report.begun and time.monotonic() - shown.said >= EVERY:
                self._say(report, shown)

    def _begun(self, report: Report) -> _Shown:
        places = {shown.place for shown in self._shown.values()}
        place = min({*range(len(places) + 1)} - places)
        bar: tqdm[Any] = tqdm(
            total=report.total,
            initial=report.done,
            desc=report.what,
            unit=f" {report.unit}",
            leave=False,
            disable=None,  # but on a terminal
            position=place,
        )
        now = time.monotonic()
        return _Shown(bar, place, now, now)

    def _say(self, report: Report, shown: _Shown) -> None:
        """A line for the screen, or where a bar shows it, for the log file alone."""
        shown.said = time.monotonic()
        left = (shown.said - shown.began) / (report.done - report.begun) * (report.total - report.done)
        level = logging.INFO if shown.bar.disable else logging.DEBUG
        log.log(level, "%s, about %s left", report.text, _duration(left))


_BOARD = _Board()
_tell: Callable[[Any], None] = _BOARD.show


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Nothing is said inside: of the steps of a task that is itself one of many."""
    global _tell
    before, _tell = _tell, lambda _: None
    level = log.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        _tell = before
        logging.disable(level)


def aside() -> contextlib.AbstractContextManager[None]:
    """Bars make room for a line inside."""
    return tqdm.external_write_mode()


class _ToParent(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), None, None  # as can be sent
        _tell(record)


def send_to(queue: Any) -> None:
    """In a worker: reports and messages go to a queue, anything with `put`, while somebody takes them from it."""
    global _tell

    def put(sent: Any) -> None:
        with contextlib.suppress(OSError):  # nobody does any more
            queue.put(sent)

    _tell = put
    log.handlers, log.propagate = [_ToParent(logging.DEBUG)], False
    log.setLevel(logging.INFO)


def show(sent: Any) -> None:
    """Show what a worker sent: how far it is, or a message."""
    if isinstance(sent, Report):
        _BOARD.show(sent)
    else:
        log.handle(sent)


@contextlib.contextmanager
def receive(queue: Any) -> Iterator[None]:
    """Show what workers send, anything with `get`, until the end of the context."""

    def listen() -> None:
        while (sent := queue.get()) is not None:
            show(sent)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        queue.put(None)
        listener.join(timeout=10)


def _duration(seconds: float) -> str:
    """In words: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
