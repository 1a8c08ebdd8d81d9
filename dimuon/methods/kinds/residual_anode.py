"""R-ANODE: the data in the SR as a frozen background density and a signal that is fitted (arXiv:2312.11629).

p_data = w p_signal + (1 - w) p_background, by maximum likelihood in the signal and its fraction w together. The
background is as in ANODE here (`dimuon.methods.kinds.anode`), the signal is fitted in folds. It is a few Gaussians in
the prepared features in place of a flow, so that the likelihood is raised by expectation maximisation, with no step
size and no validation set; several starts are averaged, as the paper averages its trainings. Gaussians
cannot become narrower than `NARROWEST`, which keeps them from single events.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from dimuon.arrays import FloatArray
from dimuon.background.protocol import HasDensity
from dimuon.events import Events
from dimuon.methods.densities import background_density, log_background
from dimuon.methods.kinds.anode import probability
from dimuon.methods.protocol import METHODS, Given, Needs, Scorer, Scores, cross_fitted
from dimuon.random import Stream

N_GAUSSIANS, N_STARTS, N_KEPT = 2, 10, 5  # of the starts, those of the largest likelihood
FIRST_FRACTION = 0.05
NARROWEST = 0.1  # standard deviation, in units of the background's
MAX_STEPS, GAIN = 300, 1e-7  # of the mean log-likelihood, at which it is done


@dataclass(frozen=True, eq=False)
class Excess:
    """A fraction of signal and its Gaussians: share (k,), mean (k, d), covariance (k, d, d)."""

    fraction: float
    share: FloatArray
    mean: FloatArray
    covariance: FloatArray

    def log_parts(self, x: FloatArray) -> FloatArray:
        """log of share times density of each Gaussian: (k, n_events)."""
        away = x[None] - self.mean[:, None]
        distance = np.sum((away @ np.linalg.inv(self.covariance)) * away, axis=-1)
        _, log_volume = np.linalg.slogdet(2 * np.pi * self.covariance)
        parts: FloatArray = np.log(self.share)[:, None] - (distance + log_volume[:, None]) / 2
        return parts

    def log_ratio(self, x: FloatArray, log_background: FloatArray) -> FloatArray:
        """log p_data / p_background: (n_events,)."""
        log_signal = logsumexp(self.log_parts(x), axis=0) + np.log(self.fraction)
        ratio: FloatArray = np.logaddexp(log_signal - log_background, np.log1p(-self.fraction))
        return ratio


def fit_excess(x: FloatArray, log_background: FloatArray, stream: Stream) -> list[Excess]:
    """The excesses of the largest likelihood over a known background, best first.

    x: (n_events, d). log_background: (n_events,), its density at these.
    """
    fitted = [_climbed(x, log_background, stream.child(start).generator()) for start in range(N_STARTS)]
    fitted.sort(key=lambda pair: -pair[0])
    return [excess for _, excess in fitted[:N_KEPT]]


def _climbed(x: FloatArray, log_background: FloatArray, rng: np.random.Generator) -> tuple[float, Excess]:
    """(mean log p_data / p_background, excess) where the likelihood no longer rises from a random start."""
    k, d = N_GAUSSIANS, x.shape[1]
    floor = NARROWEST**2 * np.eye(d)
    excess = Excess(
        FIRST_FRACTION, np.full(k, 1 / k), x[rng.integers(0, len(x), k)], np.tile(0.5 * np.eye(d), (k, 1, 1))
    )
    before = -np.inf
    for _ in range(MAX_STEPS):
        log_parts = excess.log_parts(x) + np.log(excess.fraction)
        log_total = np.logaddexp(logsumexp(log_parts, axis=0), log_background + np.log1p(-excess.fraction))
        now = float((log_total - log_background).mean())
        if now - before < GAIN:
            break
        before, chance = now, np.exp(log_parts - log_total)
        n = chance.sum(axis=1) + 1e-9
        mean = chance @ x / n[:, None]
        away = x[None] - mean[:, None]
        covariance = (chance[..., None] * away).swapaxes(1, 2) @ away / n[:, None, None] + floor
        fraction = float(np.clip(n.sum() / len(x), 1e-4, 0.5))
        excess = Excess(fraction, n / n.sum(), mean, covariance)
    return before, excess


@dataclass(frozen=True)
class ResidualAnode:
    """A frozen background and a fitted signal."""

    title: str = "R-ANODE"
    needs: Needs = Needs.EVENTS
    paper: str = "arXiv:2312.11629"

    def learn(self, given: Given) -> HasDensity:
        """The background's density."""
        return background_density(given)

    def score(self, given: Given, learned: HasDensity) -> Scores:
        """p_data / (p_data + p_background), the log of the ratio a mean over the fits."""

        def known(events: Events) -> tuple[FloatArray, FloatArray]:
            return given.prepared(events), log_background(learned, given, events)

        def train(events: Events, stream: Stream) -> Scorer:
            fits = fit_excess(*known(events[given.window.in_sr(events.mass)]), stream)

            def score(asked: Events) -> FloatArray:
                at = known(asked)
                return probability(np.mean([fit.log_ratio(*at) for fit in fits], axis=0))

            return score

        return Scores(*cross_fitted(given, train), probability=True)


METHODS.register("residual_anode", ResidualAnode())
