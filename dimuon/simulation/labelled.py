"""Dimuons of known origin, as features: to inject, to test a method on, to see what a wrong simulation does. SIMULATED.

The same processes as in the files of `dimuon.simulation.nanoaod_files`, without trigger and luminosity: what is drawn
here passes the muon cuts and the anti-isolation of the paper, in the charge that is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dimuon.arrays import FloatArray
from dimuon.regions import MassWindow
from dimuon.simulation.nanoaod_files import features_of
from dimuon.simulation.processes import (
    DRELL_YAN_IN_JETS,
    DRELL_YAN_ISOLATED,
    HADRON_DECAYS,
    HADRON_PAIRS,
    UPSILON_IN_JETS,
    Process,
    Spectrum,
    generate,
)

BACKGROUNDS = (DRELL_YAN_ISOLATED, DRELL_YAN_IN_JETS, HADRON_DECAYS, HADRON_PAIRS)
CHUNK = 4000  # dimuons drawn at a time
WRONG_PT, WRONG_FLIGHT = 1.15, 0.8  # factors on the scale of the pT spectra and on the decays' impact parameters
SIGNAL_PT = 0.5, 2.0  # factors on the scale of the pT spectrum of the Upsilons
SIGNAL_FLIGHT = ((1.0, 0.005),)  # cm; the decays of b hadrons are six times as far


@dataclass(frozen=True)
class Part:
    """The part of a mass spectrum that lies in a mass window."""

    whole: Spectrum
    window: MassWindow

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n,) masses, GeV."""
        masses = np.empty(0)
        while len(masses) < n:
            drawn = self.whole.sample(4 * n + 1000, rng)
            masses = np.append(masses, drawn[self.window.in_window(drawn)])
        return masses[:n]


def mismodelled(process: Process) -> Process:
    """A process as a simulation may have it wrong: harder in pT, its decays closer to the vertex."""
    flight = tuple((share, WRONG_FLIGHT * mean) for share, mean in process.flight)
    return replace(process, pt=replace(process.pt, scale=WRONG_PT * process.pt.scale), flight=flight)


def other_signals(n: int, rng: np.random.Generator, anti_isolation: float = 0.55) -> pd.DataFrame:
    """`n` dimuons of signals that there may be: resonances at the mass of the Upsilon, from fragmentation.

    None is the Upsilon: they are softer and harder than it, in equal parts, and some fly. Columns as of
    `background_events`.
    """
    kinds = [
        replace(UPSILON_IN_JETS, pt=replace(UPSILON_IN_JETS.pt, scale=factor * UPSILON_IN_JETS.pt.scale), flight=flight)
        for factor in SIGNAL_PT
        for flight in ((), SIGNAL_FLIGHT)
    ]
    parts: list[pd.DataFrame] = []
    for kind in kinds:
        events: list[pd.DataFrame] = []
        while sum(map(len, events)) * len(kinds) < n:
            drawn = features_of(generate(kind, CHUNK, "os", rng))
            events.append(drawn[(drawn[["mu0_iso04", "mu1_iso04"]] > anti_isolation).all(axis=1)])
        parts.append(pd.concat(events)[: n // len(kinds)])
    return pd.concat(parts, ignore_index=True)


def background_events(
    n: int,
    window: MassWindow,
    rng: np.random.Generator,
    charge: str = "os",
    processes: Sequence[Process] = BACKGROUNDS,
    anti_isolation: float = 0.55,
) -> pd.DataFrame:
    """`n` dimuons without a resonance inside a mass window: `dimu_mass` and every feature, units of `dimuon.columns`.

    processes: in the proportions of their yields before the isolation; a process loses none of its masses to the muon
    cuts, so the part of a spectrum in the window is drawn alone.
    """
    yields = np.array([getattr(process, charge) for process in processes], dtype=float)
    processes = [replace(process, mass=Part(process.mass, window)) for process in processes]
    parts: list[pd.DataFrame] = []
    while sum(map(len, parts)) < n:
        drawn = rng.multinomial(CHUNK, yields / yields.sum())
        for process, number in zip(processes, drawn, strict=True):
            events = features_of(generate(process, int(number), charge, rng))
            loud = (events[["mu0_iso04", "mu1_iso04"]] > anti_isolation).all(axis=1)
            parts.append(events[loud & window.in_window(events["dimu_mass"])])  # rounding may lead out of it
    return pd.concat(parts).sample(n, random_state=rng, ignore_index=True)
