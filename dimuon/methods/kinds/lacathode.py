"""LaCATHODE: CATHODE in the latent space of its flow, where no feature knows the mass (arXiv:2210.14924).

The flow that learned the sidebands carries every event, at its own mass, to the noise it stands for; background of any
mass is standard normal there. Classifiers tell the SR events from normal noise. It departs from the paper in that each
member of the flows has classifiers of its own, the analysis's members shared out among them; the mean is the score.
"""

from dataclasses import dataclass, replace

import numpy as np

from dimuon.background.conditional import ConditionalBackground
from dimuon.background.protocol import BackgroundModel
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.methods.protocol import METHODS, Given, Needs, Scores, against, background_model


@dataclass(frozen=True)
class LaCathode:
    """Latent CATHODE."""

    title: str = "LaCATHODE"
    needs: Needs = Needs.EVENTS
    paper: str = "arXiv:2210.14924"

    def learn(self, given: Given) -> BackgroundModel:
        """The flows of the sidebands."""
        return background_model(given)

    def score(self, given: Given, learned: BackgroundModel) -> Scores:
        """The mean over the flows. `AnalysisError` for an estimator that is no flow, or one without an inverse."""
        if not isinstance(learned, ConditionalBackground):
            raise AnalysisError(f"an estimator of kind {learned.kind} has no latent space; take a flow", setting="kind")
        latent, further = (learned.to_noise(given.within(events)) for events in (given.events, given.further))
        members = max(1, given.chain.members // learned.members)
        scores = []
        for member in range(learned.members):
            own = given.stream.child("latent", member)
            noise = own.generator().normal(size=(given.n_sampled, latent.shape[2]))
            there = replace(
                given,
                events=Events.of(given.events.mass, latent[member], given.events.names),
                further=Events.of(given.further.mass, further[member], given.events.names),
                chain=replace(given.chain, members=members),
                stream=own,
            )
            scores.append(against(there, Events.of(np.full(len(noise), np.nan), noise, given.events.names)))
        own_score, of_further = (
            np.mean([getattr(each, name) for each in scores], axis=0) for name in ("events", "further")
        )
        return Scores(own_score, of_further, probability=True)


METHODS.register("lacathode", LaCathode())
