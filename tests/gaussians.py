"""Events of which the exact likelihood ratio is known: two Gaussians in two features, the signal narrow in the mass."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from dimuon import Events, MassWindow, Stream
from dimuon.background.estimators.flows import Maf
from dimuon.background.kinds import EstimatorSettings
from dimuon.background.scaler import LogitScaler
from dimuon.classifiers.kinds.xgboost import XGBoostSettings
from dimuon.methods.protocol import METHODS, Chain, Given, Truth
from dimuon.methods.shared import Shared
from dimuon.statistics.improvement import improvement
from dimuon.statistics.significance import fit_sidebands
from dimuon.workflow.executor import AtOnce

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
N_BACKGROUND, N_SIGNAL = 16_000, 500  # in the window; about 2,300 of the background are in the SR
N_FURTHER = 10_000
FLOW = Maf(members=1, blocks=3, hidden=12, epochs=8, batch_size=256, learning_rate=2e-3)


class MixtureSettings(EstimatorSettings):
    """A density that takes no time: a few Gaussians in the prepared features, whatever the mass."""

    kind: Literal["a few gaussians"] = "a few gaussians"

    def estimator(self, scaler):
        return FewGaussians(scaler)

    @classmethod
    def restored(cls, state):
        raise NotImplementedError


@dataclass(eq=False)
class FewGaussians:
    """Both the estimator and, once fitted, its model."""

    scaler: LogitScaler
    kind = "a few gaussians"
    members = 1

    def fit(self, events, stream, *, pool=None, checkpoint=None):
        model = FewGaussians(self.scaler)
        inside = self.scaler.transform(self.scaler.within(events.features))
        model.mixture = GaussianMixture(3, random_state=stream.integer()).fit(inside)
        return model

    def sample(self, mass, stream):
        chosen = GaussianMixture.sample  # in the order of its components: shuffled here
        self.mixture.random_state = stream.integer()
        x = stream.generator().permutation(chosen(self.mixture, len(mass))[0])
        return Events.of(mass, self.scaler.inverse(x))

    def log_prob(self, events):
        return self.mixture.score_samples(self.scaler.transform(events.features)) + self.scaler.log_jacobian(
            events.features
        )


@dataclass(frozen=True)
class Gaussians:
    """Background of mean 0 and covariance 1, but for a `slope` in the mass; mean and std of the signal."""

    mean: float = 1.5
    std: float = 0.4
    slope: float = 0.0

    def background(self, n, rng, low=WINDOW.sb_low, high=WINDOW.sb_high):
        mass = rng.uniform(low, high, n)
        return Events.of(mass, rng.normal(size=(n, 2)) + self.slope * (mass[:, None] - 9.8))

    def signal(self, n, rng):
        return Events.of(rng.normal(9.8, 0.15, n), rng.normal(self.mean, self.std, (n, 2)))

    def ratio(self, events):
        """(n_events,) p_signal / p_background, exact, at mass 9.8."""
        signal = multivariate_normal([self.mean] * 2, self.std**2).pdf(events.features)
        return signal / multivariate_normal([0, 0]).pdf(events.features)


def given(truth=Gaussians(), n_signal=N_SIGNAL, seed=1, **chain):
    """What a method is given of such events: (Given, (n_further,) True for the signal)."""
    rng = np.random.default_rng(seed)
    signal = truth.signal(n_signal, rng)
    events = truth.background(N_BACKGROUND, rng) + signal[WINDOW.in_window(signal.mass)]
    in_sr = (WINDOW.sr_low, WINDOW.sr_high)
    further = truth.signal(N_FURTHER // 5, rng) + truth.background(N_FURTHER, rng, *in_sr)
    settings = {
        "estimator": FLOW,
        "classifier": XGBoostSettings(),
        "members": 4,
        "folds": 3,
        "oversampling": 4.0,
    } | chain
    known = Given(
        events,
        further,
        WINDOW,
        fit_sidebands(events.mass, WINDOW, degree=3),
        LogitScaler().fit(events.features, WINDOW.in_sidebands(events.mass)),
        Chain(**settings),
        Stream(seed),
        Shared(Stream(seed)),
        AtOnce(),
        Truth(truth.signal(5000, rng), truth.background(N_FURTHER, rng, *in_sr)),
        truth.background(N_BACKGROUND, rng),
    )
    return known, np.arange(len(further)) < N_FURTHER // 5


def scored(name, known):
    """The scores of a method by its name."""
    method = METHODS[name]
    return method.score(known, method.learn(known))


def share_of_ideal(score, exact, is_signal):
    """The largest significance improvement of a score over that of the exact ratio, on the same labelled events."""
    best = [improvement(values[is_signal], values[~is_signal]).best for values in (score, exact)]
    return best[0] / best[1]
