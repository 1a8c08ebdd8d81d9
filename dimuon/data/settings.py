"""The settings of steps 1 and 2: where the events come from, and which are selected."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dimuon.dataset import WHOLE
from dimuon.origin import Origin
from dimuon.settings import Positive, Section
from dimuon.simulation.settings import Simulation

Charge = Literal["os", "ss"]
Trigger = Annotated[str, Field(pattern=r"^HLT_\w+$")]  # a flag of the event in NanoAOD


class Range(Section):
    """A cut min < value < max; either end may be left out."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _has_an_end(self) -> "Range":
        if self.min is None and self.max is None:
            raise ValueError("a cut needs min, max or both")
        if self.min is not None and self.max is not None and not self.min < self.max:
            raise ValueError(f"min {self.min} is not below max {self.max}")
        return self


class DimuonTables(Section):
    """One dimuon table per charge."""

    os: str
    ss: str | None = None


MOMENTA = ({"E", "px", "py", "pz"}, {"pt", "eta", "phi", "mass"}, {"pt", "eta", "phi"})  # the last: of a muon
Expression = Annotated[str, Field(min_length=1)]  # a column of the file, or a formula of its columns
Sample = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$")]  # part of file names
Column = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]


class Table(Section):
    """A table of events that begins the analysis at step 3: CSV, parquet or a flat ROOT tree.

    The mass is a column, or a formula of columns, or that of the pair of `muons`, from whose momenta the columns of a
    dimuon are computed (dimu_pt, mumu_deltaR, mu0_pt of the harder, ...).
    """

    file: str | None = None  # a path, an https:// or root:// address, or with `record` the name of one of its files
    record: Positive | None = None  # a CERN Open Data record
    tree: str | None = None  # of a ROOT file; None: the only one in it
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None  # of a CSV; None: by its header
    decimal: Literal[".", ","] = "."  # of a CSV
    mass: Expression | None = None
    muons: Annotated[list[dict[str, Expression]], Field(min_length=2, max_length=2)] | None = None
    columns: dict[Column, Expression] = {}  # further columns of the analysis; run, luminosityBlock, event among them
    split: Annotated[dict[Sample, Expression], Field(min_length=1)] | None = None  # {sample: which events are of it}
    cuts: dict[Column, Range] = {}  # on any column
    weight: Expression | None = None  # events that a row stands for, at most one: with this probability it is drawn

    @field_validator("muons")
    @classmethod
    def _with_momenta(cls, muons: list[dict[str, str]] | None) -> list[dict[str, str]] | None:
        for muon in muons or ():
            if not any(momenta <= muon.keys() for momenta in MOMENTA):
                raise ValueError(f"a muon needs E, px, py, pz, or pt, eta, phi; found {', '.join(muon) or 'nothing'}")
        if muons is not None and muons[0].keys() != muons[1].keys():
            raise ValueError("both muons need the same columns")
        return muons

    @field_validator("split")
    @classmethod
    def _not_background(cls, split: dict[str, str] | None) -> dict[str, str] | None:
        if split is not None and "background" in split:
            raise ValueError("a sample cannot be called background: the sampled one is")
        return split

    @model_validator(mode="after")
    def _complete(self) -> "Table":
        if self.file is None:
            raise ValueError("name the file" + (" of the record" if self.record else ""))
        if (self.mass is None) == (self.muons is None):
            raise ValueError("give either mass, a column or formula, or the two muons whose mass it is")
        return self

    @property
    def samples(self) -> list[str]:
        """The names of the samples that it is split into."""
        return list(self.split or (WHOLE,))


class OriginSettings(Section):
    """What the input says of where the events come from; what is left out is shown nowhere."""

    experiment: str = ""  # "CMS Open Data"
    year: str | int = ""
    energy: str = ""  # of the collisions, "13 TeV"
    luminosity: str = ""  # "8.7 fb-1"
    simulated: bool = False

    @property
    def origin(self) -> Origin:
        """As a record."""
        kind = "simulated" if self.simulated else "measured"
        return Origin(kind, self.experiment, str(self.year), self.energy, self.luminosity)


SOURCES = ("simulation", "files", "record", "published_skim", "dimuons", "table", "scores")


class Input(Section):
    """Where the events come from: exactly one of the first seven."""

    simulation: Simulation | None = None
    files: list[str] | None = None  # NanoAOD: local paths, globs, root:// or https:// addresses
    record: Positive | None = None  # NanoAOD: a CERN Open Data record
    published_skim: str | None = None  # folder of the published skim (Zenodo record 14618719)
    dimuons: str | DimuonTables | None = None  # selected dimuons: start at step 3
    table: Table | None = None  # any table of events: start at step 3
    scores: str | None = None  # table with dimu_mass and score: run step 6 alone
    portal: str = "https://opendata.cern.ch"  # where records are looked up
    certified_luminosity: str | Positive | None = None  # CMS JSON file, or the record that holds it; None: no mask
    triggers: list[Trigger] = []  # further trigger branches kept in the skim

    @model_validator(mode="after")
    def _one_source(self) -> "Input":
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of {', '.join(SOURCES)}; found {found}")
        return self

    @property
    def source(self) -> str:
        """Which of `SOURCES` it is."""
        return next(name for name in SOURCES if getattr(self, name) is not None)

    @property
    def first_step(self) -> int:
        """The number of the step that the analysis begins with."""
        return {"dimuons": 3, "table": 3, "scores": 6}.get(self.source, 1)


class Selection(Section):
    """The dimuon selection (paper, "Anti-Isolated Upsilon Selection")."""

    trigger: Trigger = "HLT_TrkMu15_DoubleTrkMu5NoFiltersNoVtx"
    muon_id: str = "Muon_tightId"
    cuts: dict[str, Range] = {"mu0_pt": Range(min=17.0), "mu1_pt": Range(min=8.0)}  # beyond the trigger turn-on
    anti_isolation: dict[str, Range] = {"mu0_iso04": Range(min=0.55), "mu1_iso04": Range(min=0.55)}
    charges: Annotated[list[Charge], Field(min_length=1)] = ["os", "ss"]
