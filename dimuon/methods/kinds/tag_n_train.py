"""Tag N' Train: either muon tags events for the training of a classifier of the other one (arXiv:2002.12376).

An autoencoder of one object's features tags: what it describes badly in the SR is rich in signal, what it describes
well in the sidebands is background. A classifier learns to tell both by the features of the other object, which in the
background do not depend on the first one's. It departs from the paper in the objects (features of the one and the
other muon; those of the pair go to whichever has fewer), in that the autoencoders are those of
`dimuon.methods.kinds.autoencoder`, in the tagging once and not again, and in the score: the sum of both classifiers'
log odds, the best there is of two objects that know nothing of each other, where the paper cuts on both alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logit

from dimuon.arrays import FloatArray, IntArray
from dimuon.classifiers.protocol import Classifier, Split, TrainingSet, make
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.methods.kinds.autoencoder import Vae
from dimuon.methods.protocol import METHODS, Given, Needs, Scorer, Scores, jointly_cross_fitted
from dimuon.random import Stream

SIGNAL_RICH, BACKGROUND = 0.2, 0.4  # fractions of the events, of the largest and of the smallest loss
STOPPING = 4  # one event in so many stops the training
SHORTEST = 20  # events to train on


def objects(names: Sequence[str]) -> tuple[IntArray, IntArray]:
    """The features of the first and of the second object, by their places. `AnalysisError` for less than two."""
    if len(names) < 2:
        raise AnalysisError(f"two objects need at least two features, found {', '.join(names)}")
    sides: tuple[list[int], list[int]] = ([], [])
    for place, name in enumerate(names):
        for number, side in enumerate(sides):
            if name.startswith(f"mu{number}_"):
                side.append(place)
    for place in range(len(names)):
        if place not in sides[0] + sides[1]:
            min(sides, key=len).append(place)
    return np.array(sorted(sides[0])), np.array(sorted(sides[1]))


@dataclass(frozen=True)
class TagNTrain:
    """Two taggers, two classifiers."""

    title: str = "Tag N' Train"
    needs: Needs = Needs.EVENTS
    paper: str = "arXiv:2002.12376"

    def learn(self, given: Given) -> None:
        """Nothing that is not learned for each fold."""

    def score(self, given: Given, learned: None) -> Scores:
        """The sum of the log odds of both objects. `AnalysisError` for too few events to train on."""
        both = objects(given.events.names)

        def train(parts: Sequence[Events], streams: Sequence[Stream]) -> list[Scorer]:
            each = [
                (other, _classifiers(given, parts, tagging, other, [stream.child(number) for stream in streams]))
                for number, (tagging, other) in enumerate((both, both[::-1]))
            ]
            return [
                _scorer([(other, classifiers[number]) for other, classifiers in each]) for number in range(len(parts))
            ]

        return Scores(*jointly_cross_fitted(given, train))


def _scorer(trained: Sequence[tuple[IntArray, Classifier]]) -> Scorer:
    """The sum of the log odds of classifiers, each of some of the features."""

    def score(asked: Events) -> FloatArray:
        each = [classifier.score(asked.features[:, which]).mean(axis=1) for which, classifier in trained]
        return np.asarray(logit(np.clip(each, 1e-6, 1 - 1e-6)).sum(axis=0))

    return score


def _classifiers(
    given: Given, parts: Sequence[Events], tagging: IntArray, other: IntArray, streams: Sequence[Stream]
) -> list[Classifier]:
    """For each part, trained on the features `other` of events that are tagged by the features `tagging`."""
    prepared = [given.prepared(events)[:, tagging] for events in parts]
    sidebands = [x[~given.window.in_sr(events.mass)] for events, x in zip(parts, prepared, strict=True)]
    vaes = Vae.trained(sidebands, [stream.child("train") for stream in streams])
    return [
        _classifier(given, events, vae.loss(x, stream.child("look")), other, stream)
        for events, x, vae, stream in zip(parts, prepared, vaes, streams, strict=True)
    ]


def _classifier(given: Given, events: Events, loss: FloatArray, other: IntArray, stream: Stream) -> Classifier:
    """Trained on the features `other` of events tagged by their loss: (n_events,)."""
    in_sr = given.window.in_sr(events.mass)
    low, high = np.quantile(loss[~in_sr], (BACKGROUND, 1 - SIGNAL_RICH))
    splits: list[Split] = []
    for tagged in (in_sr & (loss >= high), ~in_sr & (loss <= low)):
        if tagged.sum() < SHORTEST:
            raise AnalysisError(f"{tagged.sum()} events are tagged: at least {SHORTEST} are needed to train on")
        chosen = stream.child("order", len(splits)).generator().permutation(np.flatnonzero(tagged))
        seen = replace(events, features=events.features[:, other], names=tuple(events.names[i] for i in other))
        splits.append(Split(seen[chosen[len(chosen) // STOPPING :]], seen[chosen[: len(chosen) // STOPPING]]))
    seeds = [stream.child("classifier", member).integer() for member in range(given.chain.members)]
    return make(given.chain.classifier).fit(TrainingSet.of(*splits), seeds)


METHODS.register("tag_n_train", TagNTrain())
