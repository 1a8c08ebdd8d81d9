"""Densities of the features alone in the SR, for the methods that compare densities and train no classifier."""

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from dimuon.arrays import FloatArray
from dimuon.background.estimators.flows import Flow
from dimuon.background.protocol import BackgroundModel, HasDensity
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.methods.protocol import Given
from dimuon.random import Stream

N_MASSES = 5  # at which a density given the mass is looked at, of equal shares of the background in the SR


def trained_density(given: Given, events: Events, stream: Stream) -> BackgroundModel:
    """The configured estimator, trained on some events. `AnalysisError` where it has no density, or for too few.

    A flow sees fewer events than the sidebands as many times more often: its training has as many steps.
    """
    settings = given.chain.estimator
    if isinstance(settings, Flow):
        epochs = round(settings.epochs * max(1.0, len(given.sidebands) / max(len(events), 1)))
        settings = settings.model_copy(update={"epochs": epochs})
    model = settings.estimator(given.scaler).fit(events, stream, pool=given.pool)
    if not isinstance(model, HasDensity):
        raise AnalysisError(f"an estimator of kind {model.kind} has no density; take a flow", setting="kind")
    return model


def background_densities(given: Given) -> list[BackgroundModel]:
    """Of each fold, the density given the mass that the sideband events of the other folds have."""
    outside, fold = ~given.in_sr, given.folds
    return [
        trained_density(given, given.events[outside & (fold != test)], given.stream.child("sidebands", test).rooted())
        for test in range(given.chain.folds)
    ]


def masses_of_sr(given: Given) -> FloatArray:
    """(N_MASSES,) masses of the SR, each for an equal share of the background."""
    drawn = given.sr_masses(4000, given.stream.child("masses of the SR"))
    masses: FloatArray = np.quantile(drawn, (np.arange(N_MASSES) + 0.5) / N_MASSES)
    return masses


def log_density(model: BackgroundModel, given: Given, events: Events, masses: FloatArray) -> FloatArray:
    """log p(features) of the SR: (n_events,), the mean of p(features | mass) over its masses.

    In prepared features (`Given.prepared`), dimensionless. The mass of the events themselves does not enter.
    """
    inside = given.within(events)
    parts: Sequence[FloatArray] = [
        model.log_prob(Events.of(np.full(len(inside), mass), inside.features, inside.names))  # type: ignore[attr-defined]
        for mass in masses
    ]
    mean: FloatArray = logsumexp(parts, axis=0) - np.log(len(parts))
    return mean - given.scaler.log_jacobian(inside.features)
