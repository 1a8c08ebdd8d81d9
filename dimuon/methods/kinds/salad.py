"""SALAD: a simulation, reweighted to the data in the sidebands given the mass (arXiv:2001.05001).

What learns the weights is `dimuon.background.estimators.reweighting`: boosted trees in place of the paper's network,
several of them on splits of their own, their log odds averaged. Weights are bounded, and normalised on events that the
trees did not see.
"""

from dataclasses import dataclass, replace

from dimuon.background.estimators.reweighting import Reweighted, Reweighting, reweight
from dimuon.background.simulated_table import SimulatedTable
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.methods.protocol import METHODS, Given, Needs, Scores, against


@dataclass(frozen=True)
class Salad:
    """A reweighted simulation for a template."""

    title: str = "SALAD"
    needs: Needs = Needs.SIMULATION
    paper: str = "arXiv:2001.05001"

    def learn(self, given: Given) -> Reweighted:
        """The simulation with its weights."""
        table = SimulatedTable(simulation_of(given), given.scaler)
        return reweight(table, given.sidebands, Reweighting(), given.stream.child("background").rooted())

    def score(self, given: Given, learned: Reweighted) -> Scores:
        """SR events against the weighted simulation there, each of its events once: copies would be known again."""
        simulation = simulation_of(given)
        template = simulation[given.window.in_sr(simulation.mass)]
        (weights,) = learned.weights
        template = replace(template, weight=template.weight * weights.of(template, learned.settings.max_weight))
        return against(given, template)


def simulation_of(given: Given) -> Events:
    """The simulation. Raises `AnalysisError` where there is none."""
    if given.simulation is None:
        raise AnalysisError("no simulation of the background of these events")
    return given.simulation


METHODS.register("salad", Salad())
