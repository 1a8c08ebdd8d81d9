"""A table of simulated events as a background model: at a given mass, an event of a mass nearby. SIMULATED.

As the prior of `estimators.reweighting.reweight` it makes SALAD (arXiv:2001.05001) of it. Real events without a signal,
as the same-sign ones, do as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dimuon.arrays import FloatArray, IntArray
from dimuon.background.scaler import LogitScaler
from dimuon.events import Events
from dimuon.random import Stream

N_NEIGHBOURS = 50  # in mass, on both sides together


@dataclass(frozen=True, eq=False)
class SimulatedTable:
    """Simulated events of every mass of the window, the SR among them; a `BackgroundModel`.

    table: the events, their weights honoured. scaler: of the analysis, which this model does not need.
    """

    table: Events
    scaler: LogitScaler
    n_neighbours: int = N_NEIGHBOURS

    kind = "simulated_table"
    members = 1
    n_parameters = 0

    @property
    def losses(self) -> FloatArray:
        """Nothing was trained: (0, 0, 2)."""
        return np.empty((0, 0, 2))

    def member_of(self, n_events: int) -> IntArray:
        """(n_events,) zeros: it is no ensemble."""
        return np.zeros(n_events, dtype=int)

    def with_members(self, members: Sequence[int]) -> "SimulatedTable":
        """Itself."""
        return self

    def sample(self, mass: FloatArray, stream: Stream) -> Events:
        """At each mass [GeV] the features and the weight of one of the events nearest to it, drawn at random."""
        order = np.argsort(self.table.mass, kind="stable")
        rng, mass = stream.generator(), np.asarray(mass, dtype=float)
        size = min(self.n_neighbours, len(order))
        first = np.searchsorted(self.table.mass[order], mass) - size // 2
        first = np.clip(first, 0, len(order) - size)
        chosen = order[first + rng.integers(0, size, len(mass))]
        drawn = self.table[chosen]
        return Events(mass, drawn.features, drawn.weight, np.arange(len(mass)), drawn.names)

    def state(self) -> dict[str, Any]:
        """Tensors, numbers and texts for `from_state`."""
        import torch

        arrays = {"mass": self.table.mass, "features": self.table.features, "weight": self.table.weight}
        return {
            "table": {name: torch.tensor(values) for name, values in arrays.items()},
            "names": list(self.table.names),
            "scaler": self.scaler.state(),
            "n_neighbours": self.n_neighbours,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "SimulatedTable":
        """The table that `state()` described."""
        arrays = {name: values.numpy() for name, values in state["table"].items()}
        table = Events.of(arrays["mass"], arrays["features"], state["names"], arrays["weight"])
        return cls(table, LogitScaler.from_state(state["scaler"]), state["n_neighbours"])
