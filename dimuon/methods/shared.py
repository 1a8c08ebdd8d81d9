"""What the methods of one sample learn but once: by the first that asks, for all that want the same.

Each method is charged with all that it used, whoever was the first: its cost is what it would take alone.
"""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.random import Stream

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Kept:
    """Something learned. own: wall and processor seconds of it alone. used: the names of all that it rests on."""

    value: Any
    own: FloatArray
    used: frozenset[Hashable]


@dataclass(eq=False)
class _Making:
    """Something in the making. inside: seconds of what was made on the way, which is kept by itself."""

    inside: FloatArray = field(default_factory=lambda: np.zeros(2))
    used: set[Hashable] = field(default_factory=set)


class Shared:
    """The memory of the methods of one sample.

    stream: of what they share. A name must say all that what is learned depends on, but for the sample.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._kept: dict[Hashable, Kept] = {}
        self._making: list[_Making] = []

    def once(self, name: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, called where nothing of this name is there yet."""
        if name not in self._kept:
            self._keep(name, make)
        kept = self._kept[name]
        if self._making:
            self._making[-1].used |= kept.used
        value: T = kept.value
        return value

    def seconds(self, name: Hashable) -> tuple[float, float]:
        """(wall, processor) seconds that something kept took, with all that it rests on."""
        wall, cpu = sum((self._kept[each].own for each in self._kept[name].used), np.zeros(2))
        return float(wall), float(cpu)

    def _keep(self, name: Hashable, make: Callable[[], Any]) -> None:
        making, start = _Making(), _now()
        self._making.append(making)
        try:
            value = make()
        finally:
            self._making.pop()
        elapsed = _now() - start
        self._kept[name] = Kept(value, elapsed - making.inside, frozenset({name, *making.used}))
        if self._making:
            self._making[-1].inside += elapsed


def _now() -> FloatArray:
    return np.array([time.perf_counter(), time.process_time()])
