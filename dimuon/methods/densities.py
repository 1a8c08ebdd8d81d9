"""Densities of the features alone in the SR, for the methods that compare densities and train no classifier."""

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from dimuon.arrays import FloatArray
from dimuon.background.estimators.flows import Flow
from dimuon.background.protocol import BackgroundModel, HasDensity
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.methods.protocol import Given, background_model
from dimuon.random import Stream

SMALLEST_BATCH = 32  # of which a batch norm still knows mean and variance
N_MASSES = 5  # at which a density given the mass is looked at, of equal shares of the background in the SR


def trained_density(given: Given, events: Events, stream: Stream) -> HasDensity:
    """The configured estimator, trained on some events. `AnalysisError` where it has no density, or for too few.

    A flow of fewer events than the sidebands has batches as many times smaller: its training has as many steps.
    """
    settings = given.chain.estimator
    if isinstance(settings, Flow):
        batch = round(settings.batch_size * min(1.0, len(events) / len(given.sidebands)))
        settings = settings.model_copy(update={"batch_size": max(SMALLEST_BATCH, batch)})
    return with_density(settings.estimator(given.scaler).fit(events, stream, pool=given.pool))


def background_density(given: Given) -> HasDensity:
    """The density given the mass that the sideband events have. `AnalysisError` where the estimator has none."""
    return with_density(background_model(given))


def with_density(model: BackgroundModel) -> HasDensity:
    """The model, where it has a density; `AnalysisError` where it has none."""
    if not isinstance(model, HasDensity):
        raise AnalysisError(f"an estimator of kind {model.kind} has no density; take a flow", setting="kind")
    return model


def masses_of_sr(given: Given) -> FloatArray:
    """(N_MASSES,) masses of the SR, each for an equal share of the background; the same for all methods."""

    def make() -> FloatArray:
        drawn = given.sr_masses(4000, given.shared.stream.child("masses of the SR"))
        masses: FloatArray = np.quantile(drawn, (np.arange(N_MASSES) + 0.5) / N_MASSES)
        return masses

    return given.shared.once("masses of the SR", make)


def log_background(model: HasDensity, given: Given, events: Events) -> FloatArray:
    """`log_density` of the background's density; of the further events, that all folds ask for, shared by methods."""
    masses = masses_of_sr(given)
    if events is not given.further:
        return log_density(model, given, events, masses)
    return given.shared.once(("log density", model), lambda: log_density(model, given, events, masses))


def log_density(model: HasDensity, given: Given, events: Events, masses: FloatArray) -> FloatArray:
    """log p(features) of the SR: (n_events,), the mean of p(features | mass) over its masses.

    In prepared features (`Given.prepared`), dimensionless. The mass of the events themselves does not enter.
    """
    inside = given.within(events)
    parts: Sequence[FloatArray] = [
        model.log_prob(Events.of(np.full(len(inside), mass), inside.features, inside.names)) for mass in masses
    ]
    mean: FloatArray = logsumexp(parts, axis=0) - np.log(len(parts))
    return mean - given.scaler.log_jacobian(inside.features)
