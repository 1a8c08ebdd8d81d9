"""QUAK: how badly a model of the background describes an event, and how well one of signals does (arXiv:2011.03550).

Two autoencoders, one of the sidebands and one of simulated signals that there may be, none of which is the one that
there is (`Given.prior`): the losses of both are the "quasi-anomalous knowledge" of an event. It departs from the paper
in the networks (those of `dimuon.methods.kinds.autoencoder`, one for all signals together) and in the selection: the
score is the loss of the background less that of the signals, an estimate of the log of their ratio, where the paper
searches the plane of both.
"""

from dataclasses import dataclass

from dimuon.arrays import FloatArray
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.methods.kinds.autoencoder import Vae
from dimuon.methods.protocol import METHODS, Given, Needs, Scorer, Scores, cross_fitted
from dimuon.random import Stream


@dataclass(frozen=True)
class Quak:
    """Two losses."""

    title: str = "QUAK"
    needs: Needs = Needs.SIMULATION
    paper: str = "arXiv:2011.03550"

    def learn(self, given: Given) -> Vae:
        """The autoencoder of the signals. Raises `AnalysisError` where there are none."""
        if given.prior is None:
            raise AnalysisError("no simulation of signals that there may be")
        return Vae.trained(given.prepared(given.prior), given.stream.child("prior"))

    def score(self, given: Given, learned: Vae) -> Scores:
        """How much better the signals' autoencoder describes an event than the background's [nats]."""

        def train(events: Events, stream: Stream) -> Scorer:
            sidebands = events[given.window.in_sidebands(events.mass)]
            background, looked = Vae.trained(given.prepared(sidebands), stream.child("train")), stream.child("look")

            def score(asked: Events) -> FloatArray:
                x = given.prepared(asked)
                return background.loss(x, looked) - learned.loss(x, looked)

            return score

        return Scores(*cross_fitted(given, train))


METHODS.register("quak", Quak())
