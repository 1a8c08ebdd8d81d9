"""CWoLa hunting: the SR against the sideband events next to it, as they are (arXiv:1805.02664, arXiv:1902.02634).

No model of the background: the features must not change with the mass. The near sidebands are together as wide as the
SR, half of it on each side, as in the paper, and each side weighs the same. It departs from the paper in the
classifiers (the analysis's own, in cross-validation; an event of the near sidebands is scored by models that were not
trained on it, either) and in that no best of several trainings is picked.
"""

from dataclasses import dataclass

import numpy as np

from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.methods.protocol import METHODS, Given, Needs, Scores, against


@dataclass(frozen=True)
class CWoLa:
    """Near sidebands for a template. weighted: so that both sides weigh the same; else every event as it is."""

    weighted: bool = True
    needs: Needs = Needs.EVENTS
    paper: str = "arXiv:1902.02634"

    @property
    def title(self) -> str:
        """With the weights, where there are none."""
        return "CWoLa hunting" if self.weighted else "CWoLa hunting, unweighted"

    def learn(self, given: Given) -> None:
        """Nothing: the template is data."""

    def score(self, given: Given, learned: None) -> Scores:
        """SR events against those next to it. Raises `AnalysisError` where a side has fewer events than folds."""
        window, mass = given.window, given.events.mass
        reach = (window.sr_high - window.sr_low) / 2
        sides = {
            "below": window.in_sbl(mass) & (mass >= window.sr_low - reach),
            "above": window.in_sbh(mass) & (mass <= window.sr_high + reach),
        }
        for name, near in sides.items():
            if near.sum() < given.chain.folds:
                raise AnalysisError(
                    f"{near.sum()} events {name} the SR within {reach:g}: too few for {given.chain.folds} folds"
                )
        near = sides["below"] | sides["above"]
        weight = np.ones(len(mass))
        if self.weighted:
            for side in sides.values():
                weight[side] = near.sum() / (2 * side.sum())
        events = given.events
        template = Events(mass, events.features, weight, events.row, events.names)[near]
        return against(given, template, given.folds[near])


METHODS.register("cwola", CWoLa())
METHODS.register("cwola_unweighted", CWoLa(weighted=False))
