"""A score that the user brings along (`input.scores`), by the same statistics as the methods that are built in."""

from dataclasses import dataclass

import numpy as np

from dimuon.errors import AnalysisError
from dimuon.methods.protocol import METHODS, Given, Needs, Scores


@dataclass(frozen=True)
class HandedIn:
    """Nothing is learned. The score is a probability of being data, as step 6 asks of such tables."""

    title: str = "scores handed in"
    needs: Needs = Needs.SCORES
    paper: str = "the user's"

    def learn(self, given: Given) -> None:
        """Nothing."""

    def score(self, given: Given, learned: None) -> Scores:
        """The scores as they are, found by the rows of the table. `AnalysisError` where there are none."""
        if given.handed_in is None:
            raise AnalysisError("no scores were handed in; give input.scores")
        order = np.argsort(given.events.row)
        place = np.searchsorted(given.events.row, given.further.row, sorter=order)
        return Scores(given.handed_in, given.handed_in[order[place]], probability=True)


METHODS.register("handed_in", HandedIn())
