"""The settings of steps 1 and 2: where the events come from, and which are selected."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

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


class Input(Section):
    """Where the events come from: exactly one of the first six."""

    simulation: Simulation | None = None
    files: list[str] | None = None  # NanoAOD: local paths, globs, root:// or https:// addresses
    record: Positive | None = None  # NanoAOD: a CERN Open Data record
    published_skim: str | None = None  # folder of the published skim (Zenodo record 14618719)
    dimuons: str | DimuonTables | None = None  # selected dimuons: start at step 3
    scores: str | None = None  # table with dimu_mass and score: run step 6 alone
    portal: str = "https://opendata.cern.ch"  # where records are looked up
    certified_luminosity: str | Positive | None = None  # CMS JSON file, or the record that holds it; None: no mask
    triggers: list[Trigger] = []  # further trigger branches kept in the skim

    @model_validator(mode="after")
    def _one_source(self) -> "Input":
        sources = ("simulation", "files", "record", "published_skim", "dimuons", "scores")
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of {', '.join(sources)}; found {found}")
        return self


class Selection(Section):
    """The dimuon selection (paper, "Anti-Isolated Upsilon Selection")."""

    trigger: Trigger = "HLT_TrkMu15_DoubleTrkMu5NoFiltersNoVtx"
    muon_id: str = "Muon_tightId"
    cuts: dict[str, Range] = {"mu0_pt": Range(min=17.0), "mu1_pt": Range(min=8.0)}  # beyond the trigger turn-on
    anti_isolation: dict[str, Range] = {"mu0_iso04": Range(min=0.55), "mu1_iso04": Range(min=0.55)}
    charges: Annotated[list[Charge], Field(min_length=1)] = ["os", "ss"]
