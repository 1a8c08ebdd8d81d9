"""ANODE: the density of the data in the SR over that of the background, interpolated from the sidebands (2001.04990).

Both are the configured estimator. It departs from the paper in three ways, so that what is scored never trained what
scores it and the mass does not enter: densities are trained in folds, in the sidebands, too; both are those of the
features alone, averaged over the masses of the background in the SR; and the score, p_data / (p_data + p_background),
is that function of the ratio which a classifier would estimate.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from dimuon.arrays import FloatArray
from dimuon.background.protocol import BackgroundModel
from dimuon.events import Events
from dimuon.methods.densities import background_densities, log_density, masses_of_sr, trained_density
from dimuon.methods.protocol import METHODS, Given, Needs, Scores

BELOW_ONE = 1 - 1e-12  # a likelihood divides by what the score leaves to one


@dataclass(frozen=True)
class Anode:
    """Two densities."""

    title: str = "ANODE"
    needs: Needs = Needs.EVENTS
    paper: str = "arXiv:2001.04990"

    def learn(self, given: Given) -> list[BackgroundModel]:
        """The background's densities, one for each fold."""
        return background_densities(given)

    def score(self, given: Given, learned: list[BackgroundModel]) -> Scores:
        """The ratio of both. Raises `AnalysisError` for too few events in the SR to train a density on."""
        masses, in_sr, fold = masses_of_sr(given), given.in_sr, given.folds

        def ratio(test: int, of_data: BackgroundModel, events: Events) -> FloatArray:
            log_ratio = log_density(of_data, given, events, masses) - log_density(learned[test], given, events, masses)
            return np.asarray(np.minimum(expit(log_ratio), BELOW_ONE), dtype=float)

        score, further = np.empty(len(in_sr)), []
        for test in range(given.chain.folds):
            own = given.stream.child("SR", test).rooted()
            of_data = trained_density(given, given.events[in_sr & (fold != test)], own)
            score[fold == test] = ratio(test, of_data, given.events[fold == test])
            further.append(ratio(test, of_data, given.further))
        return Scores(score, np.asarray(np.mean(further, axis=0)), probability=True)


METHODS.register("anode", Anode())
