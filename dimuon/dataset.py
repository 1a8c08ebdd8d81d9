"""What the events of an analysis are: their mass, features, samples and origin, as every figure and page names them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dimuon.features import FEATURES, Feature
from dimuon.origin import Origin
from dimuon.records import Record

DIMUON_MASS = "dimu_mass"
WHOLE = "all"  # name of the sample where a table is not split
SAMPLES = {"os": "OS", "ss": "SS", WHOLE: ""}  # how samples are called


@dataclass(frozen=True)
class MassAxis(Record):
    """The quantity that a resonance is looked for in.

    column: its name in the tables. label: LaTeX, as on an axis, without unit. title: as in a heading, without LaTeX.

    >>> MassAxis("mjj", "$m_{jj}$", "TeV", "mjj").axis_label
    '$m_{jj}$ [TeV]'
    """

    column: str = DIMUON_MASS
    label: str = r"Dimuon mass $m_{\mu\mu}$"
    unit: str = "GeV"
    title: str = "Dimuon mass"

    @property
    def axis_label(self) -> str:
        """Label with unit."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label

    def value(self, mass: float) -> str:
        """A mass with its unit: "9.46 GeV"."""
        return f"{mass:g} {self.unit}".strip()

    def between(self, low: float, high: float) -> str:
        """A range of mass: "9-10.6 GeV"."""
        return f"{low:g}-{high:g} {self.unit}".strip()


@dataclass(frozen=True)
class Dataset:
    """What the events at hand are.

    events: what one of them is called, in the plural. features: those that are declared, by their column; others are
    called by the name of their column.

    >>> Dataset().named("sidebands", "os"), Dataset().named("sidebands", WHOLE)
    ('OS sidebands', 'sidebands')
    >>> Dataset().titled("Training of the flows", "os"), Dataset().titled("Training of the flows", WHOLE)
    ('Training of the flows, OS', 'Training of the flows')
    """

    origin: Origin = Origin()
    mass: MassAxis = MassAxis()
    events: str = "dimuons"
    features: Mapping[str, Feature] = field(default_factory=lambda: FEATURES)

    def of(self, origin: Origin) -> "Dataset":
        """The same of another origin."""
        return replace(self, origin=origin)

    def feature(self, name: str) -> Feature:
        """The declaration of a column; only its name where it was not declared."""
        return self.features.get(name) or Feature(name)

    def sample(self, name: str) -> str:
        """A sample in words: "OS dimuons", "events", "events of the sample leading"."""
        short = SAMPLES.get(name)
        return f"{self.events} of the sample {name}" if short is None else f"{short} {self.events}".strip()

    def short(self, name: str) -> str:
        """A sample in a word: "OS", "all"."""
        return SAMPLES.get(name, name) or name

    def titled(self, title: str, name: str) -> str:
        """A title of one sample: "Training of the flows, OS"; alone where the table is not split."""
        return title if name == WHOLE else f"{title}, {self.short(name)}"

    def named(self, what: str, name: str) -> str:
        """Something of a sample: "OS sidebands"; "sidebands" where the table is not split."""
        return what if name == WHOLE else f"{self.short(name)} {what}"

    def describe(self, train: str, test: str) -> str:
        """A train-test combination in words."""
        if train == test:
            return self.sample(test)
        return f"{SAMPLES.get(train, train)} classifier on {self.sample(test)}"
