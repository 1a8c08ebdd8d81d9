"""Several methods together: the mean of an event's ranks, where methods that are wrong in ways of their own cancel.

A rank is the fraction of the sideband events with a lower score by the same method, so that no method's scale counts
for more. The methods are fixed beforehand, one of each family: samples of a density, moved events, a fitted signal.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.methods.protocol import METHODS, Given, Needs, Scores, learned_by, scores_by

PARTS = ("cathode", "rad_ot", "residual_anode")
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")


@dataclass(frozen=True)
class MeanRank:
    """Methods by their names in the registry."""

    parts: tuple[str, ...] = PARTS
    title: str = "mean rank of three"
    needs: Needs = Needs.EVENTS
    paper: str = "no paper's"

    def learn(self, given: Given) -> dict[str, Any]:
        """What each of them learns."""
        return {name: learned_by(given, name) for name in self.parts}

    def score(self, given: Given, learned: dict[str, Any]) -> Scores:
        """The mean rank of the very scores that they have by themselves, 0 to 1; no probability."""
        ranks = [self._ranked(given, scores_by(given, name, learned[name])) for name in self.parts]
        events, further = (np.mean(each, axis=0) for each in zip(*ranks, strict=True))
        return Scores(events, further)

    def _ranked(self, given: Given, scores: Scores) -> tuple[FloatArray, FloatArray]:
        """(of the events, of the further events): between the sideband events, ties in the middle."""
        ordered = np.sort(scores.events[~given.in_sr])

        def rank(score: FloatArray) -> FloatArray:
            sides = [np.searchsorted(ordered, score, side) for side in SIDES]
            middle: FloatArray = np.mean(sides, axis=0) / len(ordered)
            return middle

        return rank(scores.events), rank(scores.further)


METHODS.register("mean_rank", MeanRank())
