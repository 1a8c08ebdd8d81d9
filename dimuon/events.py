"""The one event record, from the table of dimuons to the test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dimuon.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Events:
    """Events in the mass window. Made by `Events.of`, which fills in what is left out.

    mass: (n_events,), GeV. features: (n_events, n_features), physical units; names: (n_features,) of them, columns of
    the dimuon table. weight: (n_events,), 1 for data. row: (n_events,), of the table they come from.

    >>> events = Events.of([9.4, 12.0], [[31.0], [45.0]], ["dimu_pt"])
    >>> events[events.mass < 10].features.tolist(), (events + events).weight.tolist()
    ([[31.0]], [1.0, 1.0, 1.0, 1.0])
    """

    mass: FloatArray
    features: FloatArray
    weight: FloatArray
    row: IntArray
    names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        mass: Sequence[float] | FloatArray,
        features: Sequence[Sequence[float]] | FloatArray,
        names: Sequence[str] | None = None,
        weight: Sequence[float] | FloatArray | None = None,
        row: Sequence[int] | IntArray | None = None,
    ) -> "Events":
        """Events from arrays; weight 1, rows 0, 1, 2 ... and names "feature_0" ... where not given.

        Raises ValueError where the shapes do not agree.
        """
        x, m = np.asarray(features, dtype=float), np.asarray(mass, dtype=float)
        if m.ndim != 1 or x.ndim != 2 or len(m) != len(x):
            raise ValueError(f"mass {m.shape} and features {x.shape} must be (n_events,) and (n_events, n_features)")
        known = tuple(f"feature_{column}" for column in range(x.shape[1])) if names is None else tuple(names)
        w = np.ones(len(m)) if weight is None else np.asarray(weight, dtype=float)
        rows = np.arange(len(m)) if row is None else np.asarray(row)
        lengths = {"names": (len(known), x.shape[1]), "weight": (len(w), len(m)), "row": (len(rows), len(m))}
        for what, (found, due) in lengths.items():
            if found != due:
                raise ValueError(f"{found} {what} where {due} are due")
        return cls(m, x, w, rows, known)

    def __len__(self) -> int:
        return len(self.mass)

    def __getitem__(self, chosen: BoolArray | IntArray | slice) -> "Events":
        """The events that an index, a slice or a mask chooses."""
        return Events(self.mass[chosen], self.features[chosen], self.weight[chosen], self.row[chosen], self.names)

    def __add__(self, other: "Events") -> "Events":
        """These events followed by others with the same features."""
        if self.names != other.names:
            raise ValueError(f"features {self.names} and {other.names} differ")
        return Events(
            np.concatenate([self.mass, other.mass]),
            np.concatenate([self.features, other.features]),
            np.concatenate([self.weight, other.weight]),
            np.concatenate([self.row, other.row]),
            self.names,
        )

    @property
    def columns(self) -> dict[str, FloatArray]:
        """{name: (n_events,)} of the features."""
        return dict(zip(self.names, self.features.T, strict=True))
