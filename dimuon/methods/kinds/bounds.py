"""What no method of its kind can beat: the idealised one and the supervised one. Both need events of known origin.

Idealised (arXiv:2109.00546): true background of the SR in place of a template, as much of it as methods sample; what is
lost against it is lost by the template. Supervised: a classifier that was trained on signal and background events by
name; what is lost against it is lost because data are few and their signal is not marked.
"""

from dataclasses import dataclass, replace

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.classifiers.protocol import Classifier, Split, TrainingSet, make
from dimuon.errors import AnalysisError
from dimuon.methods.protocol import METHODS, Given, Needs, Scores, Truth, against


@dataclass(frozen=True)
class Idealised:
    """True background for a template."""

    title: str = "idealised"
    needs: Needs = Needs.TRUTH
    paper: str = "arXiv:2109.00546"

    def learn(self, given: Given) -> None:
        """Nothing: the template is known."""

    def score(self, given: Given, learned: None) -> Scores:
        """SR events against true background: `Given.n_sampled` of it, or all that there is."""
        return replace(against(given, known(given).background[: given.n_sampled]), template=None)


@dataclass(frozen=True)
class Supervised:
    """Classifiers of the analysis's kind that know what is signal: the first 80 % train, the rest stops early."""

    title: str = "supervised"
    needs: Needs = Needs.TRUTH
    paper: str = "arXiv:2109.00546"

    def learn(self, given: Given) -> Classifier:
        """A classifier of true signal and true background, neither of them among the events that will be scored."""
        splits = [
            Split(events[: (4 * len(events)) // 5], events[(4 * len(events)) // 5 :])
            for events in (known(given).signal, known(given).background)
        ]
        seeds = [given.stream.child("supervised", member).integer() for member in range(given.chain.members)]
        return make(given.chain.classifier).fit(TrainingSet.of(*splits), seeds)

    def score(self, given: Given, learned: Classifier) -> Scores:
        """The mean of the members. It is no probability of being data: no likelihood can be made of it."""

        def mean(features: FloatArray) -> FloatArray:
            return np.asarray(learned.score(features).mean(axis=1, dtype=float))

        return Scores(mean(given.events.features), mean(given.further.features))


def known(given: Given) -> Truth:
    """The truth. Raises `AnalysisError` where there is none."""
    if given.truth is None:
        raise AnalysisError("no event of known origin: this bound is for simulated samples")
    return given.truth


METHODS.register("idealised", Idealised())
METHODS.register("supervised", Supervised())
