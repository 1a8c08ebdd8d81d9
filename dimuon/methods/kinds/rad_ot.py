"""RAD-OT: each event of the low sideband moved towards its partner in the high one (arXiv:2407.19818).

The partners are those of the optimal transport between both sidebands, by the squared distance in prepared features;
what is at mass m lies on the straight line between them, as far along it as m lies between their masses. Nothing is
trained. It departs from the paper in that the transport is exact, between equal numbers of events drawn anew for each
copy of the template, and that partners are of one fold, so that an event is never scored by what was made from it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from dimuon.arrays import FloatArray, IntArray
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.methods.protocol import METHODS, Given, Needs, Scores, against

LARGEST = 600  # events of each sideband that are matched at once: the time grows as their third power


def partners(low: FloatArray, high: FloatArray) -> IntArray:
    """For each of `low` the one of `high` that the optimal transport gives it: (n,). low, high: (n, n_features)."""
    centred = [side - side.mean(axis=0) for side in (low, high)]  # the same partners, found sooner
    matched: IntArray = linear_sum_assignment(cdist(*centred, "sqeuclidean"))[1]
    return matched


@dataclass(frozen=True)
class RadOT:
    """Transport between the sidebands."""

    title: str = "RAD-OT"
    needs: Needs = Needs.EVENTS
    paper: str = "arXiv:2407.19818"

    def learn(self, given: Given) -> None:
        """Nothing: the template is made of the events' own sidebands."""

    def score(self, given: Given, learned: None) -> Scores:
        """SR events against what was moved there, in the number that other methods sample."""
        share, parts, folds = -(-given.n_sampled // given.chain.folds), [], []
        for test in range(given.chain.folds):
            moved = self._moved(given, test, share)
            parts.append(moved)
            folds.append(np.full(len(moved), test))
        template = Events.of(
            np.concatenate([part.mass for part in parts]),
            np.concatenate([part.features for part in parts]),
            given.events.names,
        )
        return against(given, template, np.concatenate(folds))

    def _moved(self, given: Given, test: int, n_events: int) -> Events:
        """`n_events` in the SR, made of the sideband events of one fold."""
        own, window = given.events[given.folds == test], given.window
        sides = own[window.in_sbl(own.mass)], own[window.in_sbh(own.mass)]
        size = min(len(sides[0]), len(sides[1]), LARGEST)
        if size < 2:
            raise AnalysisError(f"{size} events of a fold in a sideband: too few to match the sidebands")
        stream = given.stream.child("transport", test)
        rng, mass = stream.generator(), given.sr_masses(n_events, stream.child("mass"))
        prepared, made = [given.prepared(side) for side in sides], []
        for first in range(0, n_events, size):
            target = mass[first : first + size]
            low, high = (rng.permutation(len(side))[:size] for side in sides)
            high = high[partners(prepared[0][low], prepared[1][high])]
            low, high = low[: len(target)], high[: len(target)]
            m_low, m_high = sides[0].mass[low], sides[1].mass[high]
            along = ((target - m_low) / (m_high - m_low))[:, None]
            made.append(prepared[0][low] + along * (prepared[1][high] - prepared[0][low]))
        return Events.of(mass, given.scaler.inverse(np.concatenate(made)), own.names)


METHODS.register("rad_ot", RadOT())
