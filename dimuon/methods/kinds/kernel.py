"""Kernel NPLM: a logistic regression on random features of a kernel, in place of trees (arXiv:2204.02317, 2501.01778).

The New Physics Learning Machine models the log of the ratio of data to reference as a weighted sum of Gaussian kernels
around some of the events (Nystroem); its width is the 90 % quantile of the distances between reference events, as in
the papers. The reference is the configured background model, and what is scored is the ratio, in folds. The method's
own test of the whole SR is not made here: every method of the bench is judged by the same cuts. So wide kernels do not
resolve a signal that is much narrower than the background.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import pdist

from dimuon.arrays import FloatArray
from dimuon.background.protocol import BackgroundModel
from dimuon.classifiers.cross_validation import assign_folds
from dimuon.classifiers.protocol import balanced
from dimuon.events import Events
from dimuon.methods.protocol import METHODS, Given, Needs, Scores, background_model

N_CENTRES = 300
PENALTY = 1.0  # scikit-learn's C of the logistic regression
WIDTH_QUANTILE = 0.9
N_DISTANCES = 2000  # reference events whose distances give the width


@dataclass(frozen=True)
class Kernel:
    """The configured background and a kernel method."""

    title: str = "kernel NPLM"
    needs: Needs = Needs.EVENTS
    paper: str = "arXiv:2204.02317"

    def learn(self, given: Given) -> BackgroundModel:
        """The background model of the sidebands."""
        return background_model(given)

    def score(self, given: Given, learned: BackgroundModel) -> Scores:
        """SR events against what the model samples there."""
        own, fold = given.stream.child("sample"), given.folds
        template = learned.sample(given.sr_masses(given.n_sampled, own.child("mass")), own.rooted())
        template = replace(template, features=given.prepared(template))
        events = replace(given.events, features=given.prepared(given.events))
        rng = own.child("folds").generator()
        of_template = assign_folds(len(template), given.chain.folds, rng)
        width = float(np.quantile(pdist(template.features[:N_DISTANCES]), WIDTH_QUANTILE))
        score, further = np.empty(len(events)), []
        for test in range(given.chain.folds):
            data, reference = events[given.in_sr & (fold != test)], template[of_template != test]
            model = _regression(data, reference, width, own.child("centres", test).integer())
            score[fold == test] = model(events.features[fold == test])
            further.append(model(given.prepared(given.further)))
        shown = replace(template, features=given.scaler.inverse(template.features))
        return Scores(score, np.asarray(np.mean(further, axis=0)), probability=True, template=shown)


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
