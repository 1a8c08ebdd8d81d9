"""Study: simultaneous classical cuts on dimuon pT and both muons' IP3D (paper, "Scan Over Multiple Cuts").

The best of a hundred cuts is worth less than it says; how much less is counted in null datasets
(`dimuon.studies.nulls`), which have the correlations of the features with each other and with the mass that the
background estimator learned.

Writes, under results/<name>/studies/: cut_scan.parquet (every cut on the data), cut_scan_toys.parquet (the best cut of
every null dataset) and cut_scan.json (best cut, local and corrected significance).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import pandas as pd

from dimuon.arrays import FloatArray
from dimuon.errors import UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.records import Record
from dimuon.statistics import model_choice
from dimuon.statistics.calibration import Calibrated
from dimuon.statistics.likelihood_ratio import MIN_BACKGROUND
from dimuon.statistics.significance import discoveries
from dimuon.statistics.spectra import Spectra
from dimuon.statistics.trials import LEVELS, GlobalSignificance, euler_characteristic, euler_tail
from dimuon.studies import scenarios
from dimuon.studies.nulls import Null, NullModel
from dimuon.studies.registry import study
from dimuon.studies.scenarios import Outcome, Row, Scenario
from dimuon.studies.study import Study
from dimuon.workflow.config import Config
from dimuon.workflow.products import FOUND, PRODUCTS, Product, study_maker

PT, IP3D = "dimu_pt", ("mu0_ip3d", "mu1_ip3d")
TOO_FEW_EVENTS = "no cut of the scan leaves enough events: loosen studies.scan_pt and studies.scan_ip3d"
FITTED = ("n_bkg", "n_bkg_err", "n_sig", "z0")
SOURCE = "null datasets, scanned as the data"
EULER = "euler"  # not in the table: the Euler characteristic of the region of cuts above each of `LEVELS`

MAKER = study_maker("cut_scan", "studies.pseudoexperiments", "studies.scan_pt", "studies.scan_ip3d")
CUTS = PRODUCTS.declare(
    Product(
        "cut_scan",
        "results/{name}/studies/cut_scan.parquet",
        MAKER,
        "the significance after every pair of classical cuts",
        ("charge", "pt_cut", "ip3d_cut", *FOUND, "n_bkg_err"),
    )
)
TOYS = PRODUCTS.declare(
    Product(
        "cut_scan_toys",
        "results/{name}/studies/cut_scan_toys.parquet",
        MAKER,
        "the best pair of cuts of every null dataset",
        ("charge", "experiment", "seed", "pt_cut", "ip3d_cut", "z0"),
    )
)
BEST = PRODUCTS.declare(
    Product("cut_scan_best", "results/{name}/studies/cut_scan.json", MAKER, "the best cut, local and corrected")
)


@study(MAKER, "what do simultaneous classical cuts find, and what is the best of many cuts worth?")
def run(study: Study) -> str:
    """Do the study."""
    config = study.config
    missing = [name for name in (PT, *IP3D) if name not in config.features.names]
    if missing:
        raise UserError(f"features.set: {missing[0]} is not among the features, so there is nothing to scan")
    scans, best, listed = {}, {}, list[Scenario]()
    for charge, events in study.events.items():
        scans[charge] = scan(config, events)
        best[charge] = BestCut.of(scans[charge])  # a scan that leaves nothing is said before the toys
        listed += of_nulls(config, NullModel.of(config, charge, events, study.background(charge)))
    outcomes = scenarios.run(study, listed, best_cut, ["studies.pseudoexperiments"])
    summary = {charge: summarise(cut, charge, outcomes) for charge, cut in best.items()}
    cuts = [frame.assign(charge=charge.upper()) for charge, frame in scans.items()]
    study.write_table(CUTS, pd.concat(cuts, ignore_index=True))
    study.write_table(TOYS, scenarios.table(outcomes, "null dataset").drop(columns=EULER, errors="ignore"))
    study.write_json(BEST, {charge: part.to_json() for charge, part in summary.items()})
    return report(summary)


def of_nulls(config: Config, null: NullModel) -> Iterator[Scenario]:
    """The null datasets of one charge, each with a stream of its own."""
    for number in range(config.studies.pseudoexperiments):
        stream = Stream(config.seed).child("cut scan", null.charge, number).rooted()
        labels: dict[str, str | int] = {"charge": null.charge.upper(), "experiment": number, "seed": stream.seed}
        yield Scenario(f"{null.charge}/{number}", null.charge, config, stream, Null(null, number), labels)


def scan(config: Config, events: Events) -> pd.DataFrame:
    """Every pair of cuts: a DataFrame with pt_cut [GeV], ip3d_cut [cm], n_obs, n_bkg, n_bkg_err, n_sig, z0, valid.

    Kept are events with dimuon pT at or above the one and both IP3D at or below the other. Where fewer than
    `MIN_BACKGROUND` events are left in the sidebands there is no fit (NaN, not valid).
    """
    pt = events.columns[PT]
    ip3d = np.abs(np.column_stack([events.columns[name] for name in IP3D]))  # a few samples of the flows are negative
    cuts = [(p, d) for p in config.studies.scan_pt for d in config.studies.scan_ip3d]
    kept = np.array([(pt >= p) & (ip3d <= d).all(axis=1) for p, d in cuts])
    model = model_choice.model_of(config.significance, config.window)
    spectra = Spectra.of(events.mass, model.bins, selections=kept)
    enough = spectra.counts[:, :-1].sum(axis=1) >= MIN_BACKGROUND
    frame = pd.DataFrame(cuts, columns=["pt_cut", "ip3d_cut"]).assign(n_obs=spectra.counts[:, -1], valid=False)
    frame[list(FITTED)] = np.nan
    if enough.any():
        fitted = discoveries(spectra[enough], model)
        frame.loc[enough, list(FITTED)] = np.column_stack([getattr(fitted, name) for name in FITTED])
        frame.loc[enough, "valid"] = fitted.valid
    return frame


@dataclass(frozen=True)
class BestCut(Record):
    """The most significant of the valid cuts. pt_cut: GeV, ip3d_cut: cm."""

    pt_cut: float
    ip3d_cut: float
    n_obs: float
    n_bkg: float
    n_bkg_err: float
    n_sig: float
    z0: float
    valid: bool

    @classmethod
    def of(cls, cuts: pd.DataFrame) -> Self:
        """From the cuts of `scan`. Raises `UserError` where none is valid."""
        valid = cuts[cuts["valid"]]
        if valid.empty:
            raise UserError(TOO_FEW_EVENTS)
        best = valid.to_dict("records")[valid["z0"].to_numpy().argmax()]
        return cls(**{field.name: best[field.name] for field in fields(cls)})


def best_cut(scenario: Scenario) -> list[Row]:
    """The reading: the best cut of a null dataset, one row of pt_cut, ip3d_cut, z0 and `EULER`."""
    cuts = scan(scenario.config, scenario.source.events(scenario))
    best, field = BestCut.of(cuts).to_json(), plane(cuts)[None]
    characteristics = [euler_characteristic(field, level).item() for level in LEVELS]
    return [{name: best[name] for name in ("pt_cut", "ip3d_cut", "z0")} | {EULER: characteristics}]


def plane(cuts: pd.DataFrame) -> FloatArray:
    """(n_pt, n_ip3d) Z0 of the valid cuts in the plane of both, NaN of the others. cuts: of `scan`."""
    valid = cuts.assign(z0=cuts["z0"].where(cuts["valid"]))
    return valid.groupby(["pt_cut", "ip3d_cut"])["z0"].first().unstack().to_numpy(dtype=float)


@dataclass(frozen=True)
class Corrected(Record):
    """The best cut of one charge and its p-value, corrected for the number of cuts ("global" in JSON).

    n: null datasets, n_failed of them without a value.
    """

    best: BestCut
    corrected: GlobalSignificance
    n: int
    n_failed: int

    def to_json(self) -> dict[str, Any]:
        content = super().to_json()
        return content | {"global": content.pop("corrected")}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        corrected = content["global"]
        if "observed" in corrected:  # of an earlier version
            corrected = GlobalSignificance.of_counts(Calibrated.from_json(corrected), SOURCE).to_json()
        return super().from_json({**content, "corrected": corrected})


def summarise(best: BestCut, charge: str, outcomes: Sequence[Outcome]) -> Corrected:
    """The best cut on the data of one charge, corrected by its null datasets."""
    nulls = [outcome for outcome in outcomes if outcome.scenario.charge == charge]
    done = scenarios.succeeded(nulls)
    n_failed = len(nulls) - len(done)
    rows = [outcome.rows[0] for outcome in done]
    kept = [row[EULER] for row in rows if EULER in row]  # all, but for a study begun with an earlier version
    tail = None
    if kept and len(kept) == len(rows):
        tail = euler_tail(dict(zip(LEVELS, np.array(kept, dtype=float).T, strict=True)), best.z0)
    largest = np.array([row["z0"] for row in rows])
    return Corrected(best, GlobalSignificance.of(best.z0, largest, SOURCE, tail, n_failed), len(nulls), n_failed)


def report(summary: Mapping[str, Corrected]) -> str:
    """The summary, for the screen."""
    return "\n".join(
        f"{charge}: best of the cuts pT > {part.best.pt_cut:g} GeV, IP3D < {part.best.ip3d_cut:g} cm: "
        f"local Z0 = {part.best.z0:.2f}; corrected for the number of cuts: {part.corrected}; {part.n_failed} failed"
        for charge, part in summary.items()
    )
