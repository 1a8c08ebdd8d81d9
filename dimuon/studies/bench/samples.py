"""What the methods are tried on: simulated samples of known content, and the data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from dimuon.arrays import BoolArray, FloatArray
from dimuon.data.samples import Sample
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.methods.protocol import Truth
from dimuon.random import Stream
from dimuon.regions import MassWindow
from dimuon.simulation.labelled import BACKGROUNDS, background_events, mismodelled, other_signals
from dimuon.simulation.nanoaod_files import upsilon_events
from dimuon.studies.scenarios import Scenario, Source
from dimuon.studies.study import Study
from dimuon.workflow.config import Config

MASS = "dimu_mass"  # of the simulation
N_FURTHER = {"signal": 3000, "background": 10_000}  # labelled events of the SR that show the improvement
N_TRUTH = {"signal": 5000, "background": 10_000}  # the same for the bounds
N_PRIOR = 5000  # events of signals that there are not
SIMULATED = 3  # events of the simulation for each of the sample
EDGE = 1e-6  # GeV: a window has sidebands
N_PROBE = 200  # signal and background events, or SR events, of which the scores are kept to compare methods


@dataclass(frozen=True, eq=False)
class Drawn:
    """A sample with all that is known of it.

    events: searched. further: scored too. is_signal: (n_further,); None where nothing is labelled. The others: as of
    `dimuon.methods.protocol.Given`.
    """

    events: Events
    further: Events
    is_signal: BoolArray | None = None
    truth: Truth | None = None
    simulation: Events | None = None
    prior: Events | None = None
    handed_in: FloatArray | None = None


class BenchSource(Source):
    """Where the events of a cell come from."""

    def drawn(self, scenario: Scenario) -> Drawn:
        """The sample. The same for every method."""
        raise NotImplementedError

    def null(self, scenario: Scenario, number: int) -> Events | None:
        """Another sample of the same background without a signal; None where there is none to be had."""
        return None

    def events(self, scenario: Scenario) -> Events:
        """The events that are searched."""
        return self.drawn(scenario).events


@dataclass(frozen=True, eq=False)
class Frames:
    """The tables behind a simulated sample, with every feature. further, truth: of the SR, {"signal", "background"}."""

    background: pd.DataFrame
    simulation: pd.DataFrame
    prior: pd.DataFrame
    further: dict[str, pd.DataFrame]
    truth: dict[str, pd.DataFrame]


@lru_cache(maxsize=2)  # a worker goes through the methods of one sample
def _frames(stream: Stream, window: MassWindow, n_events: int) -> Frames:
    rng = stream.child("simulation").generator()
    wrong = background_events(
        SIMULATED * n_events, window, rng, processes=[mismodelled(process) for process in BACKGROUNDS]
    )
    labelled = {
        use: {kind: _in_sr(kind, n, window, stream.child(use, kind)) for kind, n in sizes.items()}
        for use, sizes in (("further", N_FURTHER), ("truth", N_TRUTH))
    }
    background = _background(window, n_events, stream.child("background"))
    prior = other_signals(N_PRIOR, stream.child("prior").generator())
    return Frames(background, wrong, prior, labelled["further"], labelled["truth"])


def _background(window: MassWindow, n_events: int, stream: Stream) -> pd.DataFrame:
    rng = stream.generator()
    return background_events(int(rng.poisson(n_events)), window, rng)


def _in_sr(kind: str, n: int, window: MassWindow, stream: Stream) -> pd.DataFrame:
    """`n` events of the SR, "signal" or "background"."""
    rng = stream.generator()
    if kind == "background":
        return background_events(n, replace(window, sb_low=window.sr_low - EDGE, sb_high=window.sr_high + EDGE), rng)
    frame = upsilon_events(n, rng)
    return frame[window.in_sr(frame[MASS])]


@dataclass(frozen=True)
class Simulated(BenchSource):
    """Background of the simulation with some Upsilons. SIMULATED.

    leak: fraction of them that get a mass of the sidebands. noise: features of pure noise that are added. Of the same
    repeat, samples with more signal have the same background.
    """

    n_injected: int
    leak: float
    noise: int

    def drawn(self, scenario: Scenario) -> Drawn:
        """With its truth, and with a simulation that has spectra wrong."""
        config, own = scenario.config, scenario.stream.child("simulated")
        frames = _frames(own, config.window, config.bench.events)
        background = self._of(config, frames.background, own.child("noise"))
        further, truth = (
            {kind: self._of(config, frame, own.child("noise", use, kind)) for kind, frame in by_kind.items()}
            for use, by_kind in (("further", frames.further), ("truth", frames.truth))
        )
        return Drawn(
            background + self._signal(config, own.child("signal", self.n_injected)),
            further["signal"] + further["background"],
            np.repeat([True, False], [len(further["signal"]), len(further["background"])]),
            Truth(truth["signal"], truth["background"]),
            self._of(config, frames.simulation, own.child("noise", "simulation")),
            self._of(config, frames.prior, own.child("noise", "prior")),
        )

    def null(self, scenario: Scenario, number: int) -> Events:
        """Background alone."""
        config, own = scenario.config, scenario.stream.child("simulated", "null", number)
        return self._of(config, _background(config.window, config.bench.events, own), own.child("noise"))

    def _signal(self, config: Config, stream: Stream) -> Events:
        """Signal events in the window, a fraction of them moved into the sidebands."""
        rng, window = stream.generator(), config.window
        signal = self._of(config, upsilon_events(max(self.n_injected, 1), rng), stream.child("noise"))
        n_moved, mass = round(self.leak * self.n_injected), signal.mass.copy()
        mass[:n_moved] = _sideband_masses(window, n_moved, rng)
        return replace(signal, mass=mass)[: self.n_injected][window.in_window(mass[: self.n_injected])]

    def _of(self, config: Config, frame: pd.DataFrame, stream: Stream) -> Events:
        names = config.features.names
        noise = stream.generator().normal(size=(len(frame), self.noise))
        features = np.column_stack([frame[names].to_numpy(dtype=float), noise])
        return Events.of(frame[MASS].to_numpy(dtype=float), features, [*names, *noise_names(self.noise)])


def _sideband_masses(window: MassWindow, n: int, rng: np.random.Generator) -> FloatArray:
    """(n,) masses anywhere in the sidebands, each as likely."""
    low, high = window.sr_low - window.sb_low, window.sb_high - window.sr_high
    place = rng.uniform(0, low + high, n)
    return np.where(place < low, window.sb_low + place, window.sr_high + (place - low))


@dataclass(frozen=True)
class Data(BenchSource):
    """The events of the analysis; noise: features of pure noise that are added."""

    noise: int
    observed: Events | None = None  # filled in by `prepared`
    handed_in: FloatArray | None = None  # by `with_scores`

    def prepared(self, study: Study, scenario: Scenario) -> "Data":
        """With the data as the scenario sees them."""
        return replace(self, observed=study.read(scenario.config, scenario.charge))

    def with_scores(self, sample: Sample, config: Config) -> "Data":
        """With events whose scores the user brings along. `UserError` where they lack a feature."""
        names, known = config.features.names, sample.events.columns
        if missing := [name for name in names if name not in known]:
            raise UserError(f"{config.input.scores}: no column {missing[0]}, which the methods of the bench train on")
        features = np.column_stack([known[name] for name in names])
        events = Events.of(sample.mass, features, names, row=sample.events.row)
        inside = config.window.in_window(sample.mass)
        return replace(self, observed=events[inside], handed_in=sample.score[inside])

    def drawn(self, scenario: Scenario) -> Drawn:
        """The data; of those in the SR the first are what methods are compared on. ValueError before `prepared`."""
        if self.observed is None:
            raise ValueError(f"{scenario.key}: the data were not read")
        events = self.observed
        noise = scenario.stream.child("noise").generator().normal(size=(len(events), self.noise))
        names = [*events.names, *noise_names(self.noise)]
        events = Events.of(events.mass, np.column_stack([events.features, noise]), names, row=events.row)
        in_sr = np.flatnonzero(scenario.config.window.in_sr(events.mass))
        return Drawn(events, events[in_sr[: 2 * N_PROBE]], handed_in=self.handed_in)


def noise_names(n: int) -> list[str]:
    """The names of features of pure noise."""
    return [f"noise_{number}" for number in range(n)]


def require_simulated(sets: Sequence[Sequence[str]]) -> None:
    """`UserError` for a feature that the simulation does not have."""
    known = upsilon_events(1, np.random.default_rng(0)).columns
    for names in sets:
        if missing := [name for name in names if name not in known]:
            raise UserError(
                f"bench.features: the simulation has no {missing[0]}; it has {', '.join(known)}; "
                "or leave simulated out of bench.samples"
            )
