"""Null datasets: what the analysis would see if there were only background.

The masses follow the sideband fit of the data over the whole window, SR included, the number of events is Poisson
around what the fit expects. The features come from one member of the flow ensemble, and the analysis of that null
dataset samples its background from the other members. The truth of a null dataset is therefore not the model that it
is searched with: the two differ as much as two trainings on the same sidebands do, which is what the data and a model
trained on them must be expected to differ by at least. (A bias that all members share does not show; the controls are
there for that.) With retraining, the members' place is taken by flows trained on the null dataset's own sidebands.
"""

from dataclasses import dataclass
from functools import lru_cache

from dimuon.background.conditional import ConditionalBackground, sample_masses
from dimuon.bumphunt import steps
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.statistics.significance import SidebandFit
from dimuon.workflow.executor import AtOnce, generator, integer_seed


@dataclass(frozen=True)
class NullModel:
    """Where the null datasets of one charge come from; small, and sent to every worker.

    charge: "os" or "ss". fit: `SidebandFit` of the data's masses. flows: `ConditionalBackground.to_bytes()`.
    """

    charge: str
    fit: SidebandFit
    flows: bytes

    @classmethod
    def of(cls, config, charge, events, background):
        """The model for given data. background: `ConditionalBackground`. Raises `UserError` for a single flow."""
        if config.estimator.members < 2:
            raise UserError(
                "estimator.members = 1: null datasets take their features from one flow and are searched with the others; "
                "at least 2 are needed"
            )
        return cls(charge, steps.fit_masses(config, events), background.to_bytes())

    def member(self, index):
        """The flow that null dataset number `index` takes its features from."""
        return index % _members(self.flows)

    def sample(self, config, index, seed):
        """The `Events` of null dataset number `index`. seed: its own, a whole number."""
        window = config.window
        rng = generator(seed, "null")
        n_events = rng.poisson(self.fit.expected([window.sb_low, window.sb_high]).sum())
        mass = sample_masses(self.fit, window.sb_low, window.sb_high, n_events, rng)
        truth = _some_members(self.flows, (self.member(index),))
        return Events.of(mass, truth.sample(mass, integer_seed(seed, "null features")), config.features.names)

    def background(self, config, index, events):
        """The `ConditionalBackground` that null dataset number `index` (`events`) is searched with."""
        if config.studies.retrain_flows:
            scaler = _some_members(self.flows, (self.member(index),)).scaler
            return steps.train_background(config, self.charge, events, scaler, Stream(config.seed), AtOnce())
        others = tuple(member for member in range(_members(self.flows)) if member != self.member(index))
        return _some_members(self.flows, others)


@lru_cache(maxsize=4)
def _loaded(flows):
    return ConditionalBackground.from_bytes(flows)


def _members(flows):
    return _loaded(flows).estimator.settings.members


@lru_cache(maxsize=32)
def _some_members(flows, members):
    return steps.with_members(_loaded(flows), list(members))
