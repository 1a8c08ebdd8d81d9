"""The processes of the simulation: each is a small record of spectra, and `generate` turns a record into muons.

The numbers in the records are calibrated to the published sample: yields, mass spectra, and the distributions of
dimuon pT, 3D impact parameters and isolation of the mixture come out like those of the paper's OS and SS dimuons.
They are not a measurement of anything, and how the mixture divides into processes is in part a choice.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import vector

from dimuon.arrays import FloatArray
from dimuon.kinematics import MUON_MASS

TRIGGER_PT = (15.0, 5.0)  # GeV; harder and softer muon, as in the name of the trigger
SELECTED_PT = (17.0, 8.0)  # GeV; cuts of the paper, beyond the trigger turn-on
MAX_ETA = 2.4  # the muon chambers' reach
MASS_RANGE = (4.5, 16.5)  # GeV; a little wider than the paper's window, so that the window cut has work to do
MIN_PT = 18.0  # GeV; no dimuon below passes the muon cuts in this mass range

Muons = dict[str, FloatArray]  # {column: (n, 2)} of the harder and the softer muon of n dimuons


class Spectrum(Protocol):
    """Masses of a process."""

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n,) masses, GeV."""
        ...


@dataclass(frozen=True)
class Resonances:
    """Narrow states: `lines` of (mass [GeV], share), each smeared by the relative `resolution`."""

    lines: tuple[tuple[float, float], ...]
    resolution: float

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n,) masses, GeV."""
        masses, shares = np.array(self.lines).T
        return rng.choice(masses, size=n, p=shares / shares.sum()) * rng.normal(1, self.resolution, n)


@dataclass(frozen=True)
class Continuum:
    """Smooth mass spectrum exp(c1 t + c2 t^2 + ...), t = (mass - 10 GeV) / 5 GeV, over `MASS_RANGE`."""

    coefficients: tuple[float, ...]

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n,) masses, GeV."""
        mass = np.linspace(*MASS_RANGE, 4001)
        density = np.exp(np.polynomial.Polynomial((0, *self.coefficients))((mass - 10) / 5))
        cumulative = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
        return np.interp(rng.random(n), cumulative / cumulative[-1], mass)


@dataclass(frozen=True)
class PtSpectrum:
    """Dimuon pT before any cut: dN/dpT ~ pT (1 + (pT/scale)^2)^-power above `MIN_PT`; scale in GeV."""

    scale: float
    power: float

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n,) transverse momenta, GeV, by the inverse of the cumulative distribution."""
        start = 1 + (MIN_PT / self.scale) ** 2
        return self.scale * np.sqrt(start * rng.random(n) ** (1 / (1 - self.power)) - 1)


@dataclass(frozen=True)
class Activity:
    """Particles around the muons, which make their isolation.

    median: of the relative pT sum around a muon that carries half the dimuon pT and is 0.5 in eta and phi away from the
    other one, before pile-up is subtracted. width: of its logarithm. shared: correlation of the two logarithms.
    collimation: power with which the sum rises as the muons get closer, deep in the core of a jet.
    """

    median: float
    width: float
    shared: float
    collimation: float = 0.0


@dataclass(frozen=True)
class Process:
    """One way to make two muons.

    os, ss: dimuons of each charge over `MASS_RANGE` that pass the muon pT cuts, before isolation, at scale 1.
    mass: a `Spectrum`: `Resonances`, `Continuum`. rapidity: width of the dimuon rapidity distribution.
    flight: shares and mean impact parameters [cm] of the decays that a muon comes from; () where it is prompt.
    """

    name: str
    os: float
    ss: float
    mass: Spectrum
    pt: PtSpectrum
    activity: Activity
    rapidity: float
    flight: tuple[tuple[float, float], ...] = ()


# Masses: world averages (Particle Data Group 2024). Everything else is calibrated to the published sample: pT, impact
# parameters and isolation to the SR (OS before and after the anti-isolation, SS after it), mass spectra to all masses.
UPSILONS = Resonances(lines=((9.4604, 0.54), (10.0234, 0.27), (10.3551, 0.19)), resolution=0.01)
FALLING = Continuum((-0.399, 0.188))  # OS and SS fall alike
ISOLATED = Activity(median=0.279, width=0.61, shared=0.26)  # pile-up and underlying event alone
IN_JETS = Activity(median=1.15, width=0.78, shared=0.43, collimation=0.60)
PILE_UP = 0.169  # relative pT subtracted for pile-up; isolation never falls below zero
SHARE_POWER = 0.60  # isolation ~ (share of the dimuon pT)^-power: the softer muon is the less isolated one
TRACKER_RESOLUTION = (0.00103, 0.0192)  # cm, cm GeV; constant, and over the pT (multiple scattering)
TRACKER_SPREAD = 0.60  # of its logarithm from muon to muon
FLIGHT_POWER = 0.23  # softer muons leave their parent at larger angles: impact parameter ~ pT^-power

UPSILON_ISOLATED = Process(
    name="Upsilon, isolated",
    os=2850,
    ss=0,
    mass=UPSILONS,
    pt=PtSpectrum(scale=13.1, power=2.88),
    activity=ISOLATED,
    rapidity=1.8,
)
# From fragmentation, harder than what it hides in (paper, Fig. 3). The published SR holds about a hundred anti-isolated
# Upsilons: half of the events of the prompt peak lie above 45 GeV.
UPSILON_IN_JETS = Process(
    name="Upsilon, in jets",
    os=115,
    ss=0,
    mass=UPSILONS,
    pt=PtSpectrum(scale=150.0, power=11.0),
    activity=IN_JETS,
    rapidity=1.38,
)
DRELL_YAN_ISOLATED = Process(
    name="Drell-Yan, isolated",
    os=4456,
    ss=0,
    mass=Continuum((-0.405, -0.403)),
    pt=PtSpectrum(scale=12.4, power=2.60),
    activity=ISOLATED,
    rapidity=1.8,
)
DRELL_YAN_IN_JETS = Process(
    name="Drell-Yan, in jets",
    os=2290,
    ss=0,
    mass=FALLING,
    pt=PtSpectrum(scale=54.6, power=4.48),
    activity=IN_JETS,
    rapidity=1.38,
)
HADRON_DECAYS = Process(
    name="uncorrelated hadron decays",
    os=14_030,
    ss=14_030,
    mass=FALLING,
    pt=PtSpectrum(scale=25.6, power=3.33),
    activity=IN_JETS,
    rapidity=1.38,
    flight=((0.132, 0.001), (0.868, 0.0296)),
)
# The published OS sample holds about 1.4 times as many displaced dimuons as the SS sample: there are more decays than
# those that are OS and SS alike. Pairs of b hadrons that both decay to a muon prefer opposite charges; their spectra
# are taken to be those of the uncorrelated decays.
HADRON_PAIRS = replace(HADRON_DECAYS, name="pairs of b hadrons", os=7050, ss=0)

PROCESSES = (
    UPSILON_ISOLATED,
    UPSILON_IN_JETS,
    DRELL_YAN_ISOLATED,
    DRELL_YAN_IN_JETS,
    HADRON_DECAYS,
    HADRON_PAIRS,
)


def generate(process: Process, n: int, charge: str, rng: np.random.Generator, soft: bool = False) -> Muons:
    """`n` dimuons of one process.

    charge: "os" or "ss". soft: muons that pass the trigger's thresholds but not the paper's cuts, instead of both.
    Columns: pt [GeV], eta, phi, charge, ip3d, ip3d_err, dxy, dz [cm], iso03, iso04, jetiso.
    """
    mass = process.mass.sample(n, rng)
    muons = _decay(process, mass, rng, soft)
    sign = rng.choice([-1, 1], size=(n, 1))
    muons["charge"] = sign * np.array([1, -1 if charge == "os" else 1])
    muons |= impact(process.flight, muons["pt"], muons["eta"], rng)
    muons |= _isolation(process.activity, muons, rng)
    return muons


def _decay(process: Process, mass: FloatArray, rng: np.random.Generator, soft: bool) -> Muons:
    """Isotropic two-body decays; pT, rapidity and angles are drawn again until both muons pass."""
    muons: Muons = {name: np.empty((len(mass), 2)) for name in ("pt", "eta", "phi")}
    waiting = np.arange(len(mass))
    while waiting.size:
        pair = _two_body(mass[waiting], process, rng)
        hard, loose = ((pair["pt"] > np.array(cut)).all(axis=1) for cut in (SELECTED_PT, TRIGGER_PT))
        passes = (abs(pair["eta"]) < MAX_ETA).all(axis=1) & (loose & ~hard if soft else hard)
        for name, values in pair.items():
            muons[name][waiting[passes]] = values[passes]
        waiting = waiting[~passes]
    return muons


def _two_body(mass: FloatArray, process: Process, rng: np.random.Generator) -> Muons:
    """{pt, eta, phi: (n, 2)} of the two muons, the harder first."""
    n = len(mass)
    pt = process.pt.sample(n, rng)
    rapidity = process.rapidity * rng.standard_normal(n)
    parent = vector.array(
        {
            "px": pt,
            "py": np.zeros(n),
            "pz": np.hypot(mass, pt) * np.sinh(rapidity),
            "E": np.hypot(mass, pt) * np.cosh(rapidity),
        }
    )
    energy = mass / 2
    momentum, cosine = np.sqrt(energy**2 - MUON_MASS**2), rng.uniform(-1, 1, n)
    around, turn = rng.uniform(-np.pi, np.pi, (2, n))
    transverse = momentum * np.sqrt(1 - cosine**2)
    at_rest = {"px": transverse * np.cos(around), "py": transverse * np.sin(around), "pz": momentum * cosine}
    decay: Any = vector.array({**at_rest, "E": energy})
    first = decay.boost_p4(parent)
    pair = [first, parent - first]
    columns = {name: np.stack([getattr(muon, name) for muon in pair], axis=1) for name in ("pt", "eta", "phi")}
    columns["phi"] = (columns["phi"] + turn[:, None] + np.pi) % (2 * np.pi) - np.pi
    order = np.argsort(-columns["pt"], axis=1)
    return {name: np.take_along_axis(values, order, axis=1) for name, values in columns.items()}


def impact(flight: tuple[tuple[float, float], ...], pt: FloatArray, eta: FloatArray, rng: np.random.Generator) -> Muons:
    """Impact parameters of muons: the tracker's resolution, and the flight of the parent.

    flight: as in `Process`. pt [GeV], eta: (n, 2). Returns {ip3d, ip3d_err, dxy, dz: (n, 2)}, cm.
    """
    spread = np.exp(TRACKER_SPREAD * rng.standard_normal(pt.shape))
    error = (TRACKER_RESOLUTION[0] + TRACKER_RESOLUTION[1] / pt) * spread
    ip3d = error * np.sqrt(rng.chisquare(2, pt.shape))
    if flight:
        shares, means = np.array(flight).T
        mean = rng.choice(means, pt.shape, p=shares / shares.sum()) * (pt / 20) ** -FLIGHT_POWER
        ip3d = np.hypot(ip3d, mean * rng.exponential(size=pt.shape))
    angle = rng.uniform(0, 2 * np.pi, pt.shape)
    dxy = np.clip(ip3d * np.cos(angle), -0.19, 0.19)  # tight muons have |dxy| < 0.2 cm, |dz| < 0.5 cm
    dz = np.clip(np.sign(np.sin(angle)) * np.sqrt(ip3d**2 - dxy**2) * np.cosh(eta), -0.49, 0.49)
    return {"ip3d": ip3d, "ip3d_err": error, "dxy": dxy, "dz": dz}


def _isolation(activity: Activity, muons: Muons, rng: np.random.Generator) -> Muons:
    """{iso03, iso04, jetiso: (n, 2)}, relative to the muon's pT."""
    pt, eta, phi = muons["pt"], muons["eta"], muons["phi"]
    distance = np.hypot(eta[:, 0] - eta[:, 1], (phi[:, 0] - phi[:, 1] + np.pi) % (2 * np.pi) - np.pi)[:, None]
    common, own = rng.standard_normal((len(pt), 1)), rng.standard_normal(pt.shape)
    noise = np.sqrt(activity.shared) * common + np.sqrt(1 - activity.shared) * own
    median = activity.median * (distance / 0.5) ** -activity.collimation
    share = 2 * pt / pt.sum(axis=1, keepdims=True)
    iso04 = np.maximum(median * np.exp(activity.width * noise) - PILE_UP, 0) * share**-SHARE_POWER
    iso03 = iso04 * rng.beta(4, 1.5, pt.shape)
    one_jet = rng.random((len(pt), 1)) < 0.25  # the other muon is part of the muon's jet
    jetiso = 1.35 * iso04 + one_jet * pt[:, ::-1] / pt + rng.normal(0.08, 0.12, pt.shape)
    return {"iso03": iso03, "iso04": iso04, "jetiso": jetiso}
