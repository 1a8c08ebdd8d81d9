"""SALAD: a simulation, reweighted to the data in the sidebands given the mass (arXiv:2001.05001).

What learns the weights is `dimuon.background.estimators.reweighting`: boosted trees in place of the paper's network,
several of them on splits of their own, their log odds averaged. Weights are bounded, and normalised on events that the
trees did not see.
"""

from dataclasses import dataclass

from dimuon.background.estimators.reweighting import Reweighted, Reweighting, reweight
from dimuon.background.simulated_table import SimulatedTable
from dimuon.errors import AnalysisError
from dimuon.methods.protocol import METHODS, Given, Needs, Scores, against_model


@dataclass(frozen=True)
class Salad:
    """A reweighted simulation for a template."""

    title: str = "SALAD"
    needs: Needs = Needs.SIMULATION
    paper: str = "arXiv:2001.05001"

    def learn(self, given: Given) -> Reweighted:
        """The simulation with its weights."""
        if given.simulation is None:
            raise AnalysisError("no simulation of the background of these events")
        table = SimulatedTable(given.simulation, given.scaler)
        return reweight(table, given.sidebands, Reweighting(), given.stream.child("background").rooted())

    def score(self, given: Given, learned: Reweighted) -> Scores:
        """SR events against the weighted simulation there."""
        return against_model(given, learned)


METHODS.register("salad", Salad())
