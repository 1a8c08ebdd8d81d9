"""Where all randomness comes from: one named stream, spawned from the one seed of an analysis.

A stream is named by what it is for, so results do not depend on the number of workers or on the order in which they
finish.
"""

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stream:
    """A named stream of random numbers. The same seed and names give the same numbers, other names independent ones.

    >>> Stream(2016).child("bdt", "os") == Stream(2016).child("bdt").child("os")
    True
    """

    seed: int
    names: tuple[str | int, ...] = ()

    def child(self, *names: str | int) -> "Stream":
        """The stream with these names added: independent of this one and of every other child."""
        return Stream(self.seed, self.names + names)

    def rooted(self) -> "Stream":
        """A stream of no name whose seed is drawn from this one: the seed of a repetition, shown where one is shown."""
        return Stream(self.integer())

    def sequence(self) -> np.random.SeedSequence:
        """The `numpy.random.SeedSequence` of this stream."""
        key = tuple(name if isinstance(name, int) else zlib.crc32(str(name).encode()) for name in self.names)
        return np.random.SeedSequence(self.seed, spawn_key=key)

    def generator(self) -> np.random.Generator:
        """A new `numpy.random.Generator` at the stream's beginning."""
        return np.random.default_rng(self.sequence())

    def integer(self) -> int:
        """A 31-bit seed, for libraries that take a whole number (torch, XGBoost)."""
        return int(self.sequence().generate_state(1)[0] >> 1)
