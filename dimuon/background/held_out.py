"""Honest checks of the interpolation: train without some sideband events, then compare samples with exactly these.

The closure of `dimuon.background.closure` looks where the estimator was trained. These look where it was not: at one
half of the sidebands, or at a window of masses that, like the SR, the training never sees.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from dimuon.arrays import BoolArray
from dimuon.background import closure
from dimuon.background.closure import ClosureRecord
from dimuon.background.protocol import (
    BackgroundEstimator,
    BackgroundModel,
    HasDensity,
    WholeWindowEstimator,
    trained,
)
from dimuon.background.scaler import LogitScaler, Preparation
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.regions import MassWindow


@dataclass(frozen=True)
class HeldOut:
    """The checks of one estimator on sideband events.

    make: an untrained estimator of features that a scaler prepares. preparation: of the features; the range of all
    events is taken, mean and spread of those trained on. copies: samples per event compared.
    """

    make: Callable[[LogitScaler], BackgroundEstimator]
    preparation: Preparation
    events: Events
    window: MassWindow
    copies: int
    pool: Executor

    def half_split(self, stream: Stream) -> dict[str, ClosureRecord]:
        """Train on a random half of the events, compare samples with the other half: `closure.in_sidebands`."""
        n_events = len(self.events)
        first = stream.child("half").generator().permutation(n_events) < n_events // 2
        train = stream.child("train").rooted()
        model = trained(self._estimator(first), self.events[first], self.window, train, pool=self.pool)
        other = self.events[~first]
        compare = stream.child("compare").rooted()
        records = closure.in_sidebands(other, self._sampled(model, other, stream), self.window, compare, self.pool)
        if isinstance(model, HasDensity):
            records["sidebands"] = replace(records["sidebands"], log_likelihood=float(model.log_prob(other).mean()))
        return {place: replace(record, n_train=int(first.sum())) for place, record in records.items()}

    def shifted_window(self, low: float, high: float, stream: Stream) -> ClosureRecord:
        """Train without the masses low to high, GeV, compare samples with the real events there.

        An estimator that sees the SR, too, and takes it out of its model (`protocol.WholeWindowEstimator`) has to do
        so with these masses. The window's SR stays out of the training too, since a signal may be there. Raises
        `AnalysisError` as `require_window` does.
        """
        tested = self.require_window(low, high)
        estimator, train = self._estimator(~tested), stream.child("train").rooted()
        model = trained(estimator, self.events, self._hidden(low, high), train, pool=self.pool)
        compared = self.events[closure.at_most(closure.MOST_COMPARED, tested, stream.child("compared"))]
        record = closure.compare(compared, self._sampled(model, compared, stream), stream.child("compare").rooted())
        n_train = len(self.events) if isinstance(estimator, WholeWindowEstimator) else int((~tested).sum())
        return replace(record, n_train=n_train, mass_low=float(low), mass_high=float(high))

    def require_window(self, low: float, high: float) -> BoolArray:
        """(n_events,): the events from low to high, GeV.

        Raises `AnalysisError` where these masses are not inside a sideband or hold too few events.
        """
        window, mass = self.window, self.events.mass
        if not (window.sb_low <= low < high <= window.sr_low or window.sr_high <= low < high <= window.sb_high):
            raise AnalysisError(f"[{low:g}, {high:g}] is not inside a sideband of {window}", "shifted_windows")
        tested: BoolArray = (mass >= low) & (mass <= high)
        if tested.sum() < closure.MIN_EVENTS:
            raise AnalysisError(
                f"[{low:g}, {high:g}] holds {tested.sum()} events, at least {closure.MIN_EVENTS} are needed; widen it",
                "shifted_windows",
            )
        return tested

    def _estimator(self, chosen: BoolArray) -> BackgroundEstimator:
        """An untrained one, its scaler fitted to some events."""
        return self.make(replace(self.preparation, limits_from_sidebands=False).scaler(self.events, chosen))

    def _hidden(self, low: float, high: float) -> MassWindow:
        """The window with these masses for its SR; beyond an end of the sidebands it is as wide again as they are."""
        ends, width = self.window, high - low
        sb_low = ends.sb_low if ends.sb_low < low else low - width
        return MassWindow(sb_low, low, high, ends.sb_high if high < ends.sb_high else high + width)

    def _sampled(self, model: BackgroundModel, events: Events, stream: Stream) -> Events:
        """Samples, copy after copy, at the masses of events."""
        return model.sample(np.tile(events.mass, self.copies), stream.child("sample").rooted())
