"""Kernel NPLM: a logistic regression on random features of a kernel, in place of trees (arXiv:2204.02317, 2501.01778).

The New Physics Learning Machine models the log of the ratio of data to reference as a weighted sum of Gaussian kernels
around some of the events (Nystroem, about the root of their number); the width is the 90 % quantile of the distances
between reference events, as in the papers. The reference is the configured background model. What is scored is the
ratio, in folds. Wide kernels do not resolve a signal that is much narrower than the background.

The method's own test of the whole SR (`dimuon.methods.nplm`) departs from the papers in that it takes the number of
events for known: how many there are is what the fit to the mass tests. It finds faults of the model as it finds a
signal.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import pdist

from dimuon.arrays import FloatArray
from dimuon.background.protocol import BackgroundModel
from dimuon.classifiers.cross_validation import assign_folds
from dimuon.classifiers.protocol import balanced
from dimuon.events import Events
from dimuon.methods.nplm import Nplm
from dimuon.methods.protocol import METHODS, Given, Needs, Scores, background_model, sampled

N_CENTRES = 300
N_TOYS = 50  # of the own test
PENALTY = 1.0  # scikit-learn's C of the logistic regression
WIDTH_QUANTILE = 0.9
N_DISTANCES = 2000  # reference events whose distances give the width


@dataclass(frozen=True, eq=False)
class Learned:
    """The background model, the width of the kernels [prepared features], and the method's own test."""

    model: BackgroundModel
    width: float
    test: Nplm


@dataclass(frozen=True)
class Kernel:
    """The configured background and a kernel method."""

    title: str = "kernel NPLM"
    needs: Needs = Needs.EVENTS
    paper: str = "arXiv:2204.02317"

    def learn(self, given: Given) -> Learned:
        """The background model of the sidebands, and what its own samples give in the method's test."""
        model, own = background_model(given), given.stream.child("own test")
        reference = given.prepared(sampled(given, model).sr)
        width = float(np.quantile(pdist(reference[:N_DISTANCES]), WIDTH_QUANTILE))
        n_data = round(given.n_sampled / given.chain.oversampling)
        drawn = model.sample(given.sr_masses(N_TOYS * n_data, own.child("mass")), own.rooted())
        order = own.child("order").generator().permutation(len(drawn))  # members take turns
        toys = np.array_split(given.prepared(drawn[order]), N_TOYS)
        return Learned(model, width, Nplm.of(reference, toys, width, own.child("centres").generator()))

    def score(self, given: Given, learned: Learned) -> Scores:
        """SR events against what the model samples there, and the method's own significance."""
        own, fold = given.stream.child("sample"), given.folds
        template = sampled(given, learned.model).sr
        prepared = replace(template, features=given.prepared(template))
        events = replace(given.events, features=given.prepared(given.events))
        of_template = assign_folds(len(template), given.chain.folds, own.child("folds").generator())
        score, further = np.empty(len(events)), []
        for test in range(given.chain.folds):
            data, reference = events[given.in_sr & (fold != test)], prepared[of_template != test]
            model = _regression(data, reference, learned.width, own.child("centres", test).integer())
            score[fold == test] = model(events.features[fold == test])
            further.append(model(given.prepared(given.further)))
        mean, own_z = np.asarray(np.mean(further, axis=0)), learned.test.significance(events.features[given.in_sr])
        return Scores(score, mean, probability=True, template=template, own_z=own_z)


class _regression:
    """p_data / (p_data + p_reference), learned."""

    def __init__(self, data: Events, reference: Events, width: float, seed: int) -> None:
        from sklearn.kernel_approximation import Nystroem
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        together = balanced(data, reference)
        kernels = Nystroem(gamma=0.5 / width**2, n_components=N_CENTRES, random_state=seed)
        self.model = make_pipeline(kernels, LogisticRegression(C=PENALTY, max_iter=500))
        self.model.fit(together.x, together.label, logisticregression__sample_weight=together.weight)

    def __call__(self, x: FloatArray) -> FloatArray:
        return np.asarray(self.model.predict_proba(x)[:, 1], dtype=float)


METHODS.register("kernel", Kernel())
