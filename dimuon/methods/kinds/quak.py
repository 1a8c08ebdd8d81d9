"""QUAK: how badly a model of the background describes an event, and how well one of signals does (arXiv:2011.03550).

Two autoencoders, one of the sidebands and one of simulated signals that there may be, none of which is the one that
there is (`Given.prior`): the losses of both are the "quasi-anomalous knowledge" of an event. It departs from the paper
in the networks (those of `dimuon.methods.kinds.autoencoder`, one for all signals together) and in the selection: the
score is the loss of the background less that of the signals, an estimate of the log of their ratio, where the paper
searches the plane of both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dimuon.arrays import FloatArray
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.methods.kinds.autoencoder import Vae
from dimuon.methods.protocol import METHODS, Given, Needs, Scorer, Scores, jointly_cross_fitted
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
        (vae,) = Vae.trained([given.prepared(given.prior)], [given.stream.child("prior")])
        return vae

    def score(self, given: Given, learned: Vae) -> Scores:
        """How much better the signals' autoencoder describes an event than the background's [nats]."""

        def scorer(background: Vae, looked: Stream) -> Scorer:
            def score(asked: Events) -> FloatArray:
                x = given.prepared(asked)
                return background.loss(x, looked) - learned.loss(x, looked)

            return score

        def train(parts: Sequence[Events], streams: Sequence[Stream]) -> list[Scorer]:
            sidebands = [given.prepared(events[given.window.in_sidebands(events.mass)]) for events in parts]
            vaes = Vae.trained(sidebands, [stream.child("train") for stream in streams])
            return list(map(scorer, vaes, [stream.child("look") for stream in streams]))

        return Scores(*jointly_cross_fitted(given, train))


METHODS.register("quak", Quak())
