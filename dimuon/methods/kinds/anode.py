"""ANODE: the density of the data in the SR over that of the background, interpolated from the sidebands (2001.04990).

Both are the configured estimator, trained on all sidebands and on the SR, as in the paper. It departs from it in three
ways: the SR's density is trained in folds, so that no event of the SR is scored by what it trained; both are those of
the features alone, averaged over the masses of the background in the SR, so that the mass does not enter; and the
score, p_data / (p_data + p_background), is that function of the ratio which a classifier would estimate, kept from
certainty: in its tails a density may be wrong by any factor, and one event would weigh more than all others.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from dimuon.arrays import FloatArray
from dimuon.background.protocol import HasDensity
from dimuon.events import Events
from dimuon.methods.densities import background_density, log_background, log_density, masses_of_sr, trained_density
from dimuon.methods.protocol import METHODS, Given, Needs, Scorer, Scores, cross_fitted
from dimuon.random import Stream

DOUBT = 0.01  # the share of either density that may be the other's: no ratio beyond 99 is claimed, nor below 1 / 99


def probability(log_ratio: FloatArray) -> FloatArray:
    """p_data / (p_data + p_background) of the log of their ratio, `DOUBT` to 1 - `DOUBT` in the ratio's order."""
    return np.asarray(DOUBT + (1 - 2 * DOUBT) * expit(log_ratio), dtype=float)


@dataclass(frozen=True)
class Anode:
    """Two densities."""

    title: str = "ANODE"
    needs: Needs = Needs.EVENTS
    paper: str = "arXiv:2001.04990"

    def learn(self, given: Given) -> HasDensity:
        """The background's density."""
        return background_density(given)

    def score(self, given: Given, learned: HasDensity) -> Scores:
        """The ratio of both. Raises `AnalysisError` for too few events in the SR to train a density on."""
        masses = masses_of_sr(given)

        def train(events: Events, stream: Stream) -> Scorer:
            of_data = trained_density(given, events[given.window.in_sr(events.mass)], stream)

            def score(asked: Events) -> FloatArray:
                return probability(log_density(of_data, given, asked, masses) - log_background(learned, given, asked))

            return score

        return Scores(*cross_fitted(given, train), probability=True)


METHODS.register("anode", Anode())
