"""Null datasets: what the analysis would see if there were only background.

The masses follow the sideband fit of the data over the whole window, SR included, the number of events is Poisson
around what the fit expects. The features come from one member of the background estimator, and the analysis of that
null dataset samples its background from the other members. The truth of a null dataset is therefore not the model that
it is searched with: the two differ as much as two trainings on the same sidebands do, which is what the data and a
model trained on them must be expected to differ by at least. (A bias that all members share does not show; the
controls are there for that.) With retraining, the members' place is taken by an estimator trained on the null
dataset's own sidebands.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

from dimuon.background import saved
from dimuon.background.mass_model import sample_data, sample_masses
from dimuon.background.protocol import BackgroundModel
from dimuon.bumphunt import steps
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.statistics.significance import SidebandFit
from dimuon.studies.scenarios import Scenario, Source
from dimuon.studies.study import Study
from dimuon.workflow.config import Config
from dimuon.workflow.executor import AtOnce


@dataclass(frozen=True)
class NullModel:
    """Where the null datasets of one charge come from; small, and sent to every worker.

    fit: of the data's masses. trained: bytes of the background model.
    """

    charge: str
    fit: SidebandFit
    trained: bytes

    @classmethod
    def of(cls, config: Config, charge: str, events: Events, background: BackgroundModel) -> "NullModel":
        """The model for given data and a background trained on them. Raises `UserError` for one of a single member."""
        if background.members < 2:
            raise UserError(
                "estimator.members = 1: null datasets take their features from one member and are searched with the "
                "others; at least 2 are needed"
            )
        return cls(charge, steps.fit_masses(config, events), saved.to_bytes(background))

    @property
    def background(self) -> BackgroundModel:
        """The background model with all its members."""
        return loaded(self.trained)

    @property
    def members(self) -> int:
        """Members of the background model."""
        return self.background.members

    def truth(self, number: int) -> int:
        """The member that null dataset `number` takes its features from."""
        return number % self.members

    def only(self, *members: int) -> BackgroundModel:
        """The background of some members alone."""
        return _some_members(self.trained, members)


@dataclass(frozen=True)
class Null(Source):
    """Null dataset `number` as the source of a scenario: the stream says which one of all possible it is."""

    null: NullModel
    number: int

    def events(self, scenario: Scenario) -> Events:
        """Background alone: masses of the fit, features of one member."""
        window, stream = scenario.config.window, scenario.stream
        rng = stream.child("null").generator()
        n_events = rng.poisson(self.null.fit.expected([window.sb_low, window.sb_high]).sum())
        mass = sample_masses(self.null.fit, window.sb_low, window.sb_high, n_events, rng)
        return sample_data(self.truth, mass, stream.child("null features").rooted())

    @property
    def truth(self) -> BackgroundModel:
        """The model that the features come from."""
        return self.null.only(self.null.truth(self.number))

    def model(self, scenario: Scenario, events: Events) -> BackgroundModel:
        """The other members; with `studies.retrain_flows` a background trained on these events."""
        truth = self.null.truth(self.number)
        if scenario.config.studies.retrain_flows:
            scaler = self.null.only(truth).scaler
            config, stream = scenario.config, scenario.stream
            return steps.train_background(config, scenario.charge, events, scaler, stream, AtOnce())
        return self.null.only(*(member for member in range(self.null.members) if member != truth))


@dataclass(frozen=True)
class LikeNull(Null):
    """The data themselves, searched as null dataset `number` is: without the member that is its truth."""

    observed: Events | None = None  # filled in by `prepared`

    def prepared(self, study: Study, scenario: Scenario) -> "LikeNull":
        """With the data as the scenario sees them."""
        return replace(self, observed=study.read(scenario.config, scenario.charge))

    def events(self, scenario: Scenario) -> Events:
        """The data. ValueError before `prepared`."""
        if self.observed is None:
            raise ValueError(f"{scenario.key}: the data were not read")
        return self.observed


@lru_cache(maxsize=4)
def loaded(trained: bytes) -> BackgroundModel:
    """A background model from its bytes, kept for the next time."""
    return saved.from_bytes(trained)


@lru_cache(maxsize=32)
def _some_members(trained: bytes, members: tuple[int, ...]) -> BackgroundModel:
    return loaded(trained).with_members(list(members))
