"""What a mass scan found: the largest excess of each method, and what it is worth."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any, Self

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.bumphunt.scan_windows import ScanWindow, searched
from dimuon.records import Record
from dimuon.statistics import bump_scan
from dimuon.statistics.calibration import ROUNDING, Uniformity, p_value, uniformity
from dimuon.statistics.range_fit import RangeFit
from dimuon.statistics.trials import LEVELS, GlobalSignificance, Tail, euler_characteristic, euler_tail
from dimuon.studies.mass_scan import ClassicalScan
from dimuon.studies.scan_nulls import NullResults
from dimuon.studies.scan_tables import CLASSICAL, described, learned_columns
from dimuon.studies.scenarios import Outcome
from dimuon.workflow.products import PRODUCTS, SCAN_MAKER, Product

CUT, LIKELIHOOD, ALL = "cut", "likelihood", "all"
METHODS = {
    CLASSICAL: "classical scan",
    CUT: "CATHODE, best cut of the window",
    LIKELIHOOD: "likelihood reweighting",
    ALL: "the largest of all methods",
}
NULLS = "null datasets through the whole scan"
GLOBAL = (1.0, 2.0, 3.0, 5.0)  # sigma, of which the local ones are given
SAID = 3.0  # local Z0 from which on a window is named

SCAN = PRODUCTS.declare(
    Product(
        "scan",
        "results/{name}/scan/scan.json",
        SCAN_MAKER,
        "the largest excesses of the mass scan with their global significances, the trials factor, the background",
    )
)


@dataclass(frozen=True)
class Found(Record):
    """The largest excess of one method. window: its SR in words. known: resonances that it overlaps. fpr: of the cut.

    local: Z0. overall: what it is worth ("global" in JSON); None where no spectrum without a signal was scanned.
    """

    method: str
    window: str
    sr_low: float
    sr_high: float
    known: tuple[str, ...]
    fpr: float
    local: float
    overall: GlobalSignificance | None

    def to_json(self) -> dict[str, Any]:
        content = super().to_json()
        return content | {"global": content.pop("overall")}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return super().from_json({**content, "overall": content["global"]})


@dataclass(frozen=True)
class Background(Record):
    """The background of the whole range: see `range_fit.RangeFit`."""

    degree: int
    n_events: int
    n_bins: int
    deviance: float
    p_value: float

    @classmethod
    def of(cls, fit: RangeFit) -> Self:
        """From the fit."""
        return cls(fit.degree, fit.n_events, fit.n_bins, fit.deviance, fit.p_value)


@dataclass(frozen=True)
class Summary(Record):
    """The mass scan of one charge.

    n_windows, of them n_searched. largest: of each method over all windows; elsewhere: over those that overlap no known
    resonance. above: classical windows of a local Z0 above `SAID`. trials: what a local Z0 is worth in the classical
    scan; levels: the local Z0 there whose global significance is 1, 2, 3 and 5 (the keys). n_nulls: null datasets
    through the whole scan; uniformity: of the global p-values of one half of them by the other, by method.
    """

    n_windows: int
    n_searched: int
    background: Background
    largest: dict[str, Found]
    elsewhere: dict[str, Found]
    above: tuple[Found, ...]
    trials: tuple[bump_scan.Trials, ...]
    levels: dict[str, float]
    n_nulls: int
    uniformity: dict[str, Uniformity]


def summarise(
    scan: ClassicalScan, outcomes: Sequence[Outcome], nulls: NullResults | None, rng: np.random.Generator
) -> Summary:
    """What the scan of one charge found."""
    kept = searched(scan.windows)
    local = _local(scan, outcomes)
    largest = {method: found for method in local if (found := _largest(scan, local, method, kept, nulls)) is not None}
    free = [each for each in kept if not each.known]
    elsewhere = {method: found for method in local if (found := _largest(scan, local, method, free, nulls)) is not None}
    above = [
        _found(scan, CLASSICAL, each, 1.0, z0, nulls)
        for each in kept
        if (z0 := local[CLASSICAL].get(each.label, (0.0, 1.0))[0]) >= SAID
    ]
    return Summary(
        n_windows=len(scan.windows),
        n_searched=len(kept),
        background=Background.of(scan.background),
        largest=largest,
        elsewhere=elsewhere,
        above=tuple(above),
        trials=tuple(bump_scan.trials(scan.toys)) if len(scan.toys) else (),
        levels=_levels(scan.toys),
        n_nulls=0 if nulls is None else len(nulls.classical),
        uniformity={} if nulls is None else uniformity_of(nulls, rng),
    )


def _levels(toys: FloatArray) -> dict[str, float]:
    """{global significance: the local Z0 that it takes in the classical scan}."""
    local = {f"{z:g}": bump_scan.worth(toys, z) for z in GLOBAL} if len(toys) else {}
    return {name: value for name, value in local.items() if value is not None}


Local = Mapping[str, Mapping[str, tuple[float, float]]]  # {method: {label: (Z0, FPR of its cut)}}


def _local(scan: ClassicalScan, outcomes: Sequence[Outcome]) -> Local:
    """The largest Z0 of each method in each window whose sidebands are described."""
    tests = {label: scan.largest(label).outcome for label in scan.tests}
    usable = {label: each for label, each in tests.items() if described(each.p_saturated)}
    local: dict[str, dict[str, tuple[float, float]]] = {
        CLASSICAL: {label: (each.z0, 1.0) for label, each in usable.items()}
    }
    for each in outcomes:
        label = str(each.scenario.labels["window"])
        if each.failed is None and label in usable:
            columns = learned_columns(each)
            local.setdefault(CUT, {})[label] = (columns["z0_cut"] or 0.0, columns["fpr_cut"])
            local.setdefault(LIKELIHOOD, {})[label] = (columns["z0_likelihood"] or 0.0, 1.0)
    if len(local) > 1:
        local[ALL] = {
            label: max(local[method][label] for method in (CLASSICAL, CUT, LIKELIHOOD) if label in local[method])
            for label in usable
        }
    return local


def _largest(
    scan: ClassicalScan, local: Local, method: str, windows: Iterable[ScanWindow], nulls: NullResults | None
) -> Found | None:
    of_method = {each.label: (each, *local[method][each.label]) for each in windows if each.label in local[method]}
    if not of_method:
        return None
    placed, z0, fpr = max(of_method.values(), key=lambda entry: entry[1])
    return _found(scan, method, placed, fpr, z0, nulls)


def _found(
    scan: ClassicalScan, method: str, placed: ScanWindow, fpr: float, z0: float, nulls: NullResults | None
) -> Found:
    window = placed.window
    overall = global_of(method, z0, scan.toys, nulls)
    return Found(method, placed.label, window.sr_low, window.sr_high, placed.known, fpr, z0, overall)


def global_of(method: str, z0: float, toys: FloatArray, nulls: NullResults | None) -> GlobalSignificance | None:
    """What the largest Z0 of a method is worth: by the toys of the classical scan, of the others by null datasets."""
    if method == CLASSICAL:
        return bump_scan.global_significance(z0, toys) if len(toys) else None
    if nulls is None:
        return None
    return GlobalSignificance.of(
        z0, _highest(nulls)[method] + ROUNDING, NULLS, _tail(method, z0, nulls), nulls.n_failed
    )


def _tail(method: str, z0: float, nulls: NullResults) -> Tail | None:
    """Of the likelihood and the classical test by upcrossings from window to window, of the cuts by the Euler
    characteristic over windows and cuts; None where all are taken together."""
    if method == CUT:
        characteristics = {level: euler_characteristic(nulls.cuts, level).astype(float) for level in LEVELS}
        return euler_tail(characteristics, z0)
    by_window = {CLASSICAL: nulls.classical, LIKELIHOOD: nulls.likelihood}
    return bump_scan.tail_of(by_window[method], z0) if method in by_window else None


def both_ways(method: str, z0: float, nulls: NullResults) -> dict[str, float | None]:
    """The global p-value of a largest Z0 in null datasets, counted and by their upcrossings, with its 68 % ends."""
    counted, tail = p_value(z0, _highest(nulls)[method], nulls.n_failed), _tail(method, z0, nulls)
    middle, low, high = (None, None, None) if tail is None else map(exp, tail.log_p(z0))
    return {
        "counted": counted.p,
        "counted_low": counted.p_low,
        "counted_high": counted.p_high,
        "upcrossings": middle,
        "upcrossings_low": low,
        "upcrossings_high": high,
    }


def _highest(nulls: NullResults) -> dict[str, FloatArray]:
    """(n,) the largest Z0 of each method in each null dataset."""
    highest = {
        CLASSICAL: bump_scan.largest(nulls.classical),
        CUT: nulls.cuts.max(axis=(1, 2)),
        LIKELIHOOD: bump_scan.largest(nulls.likelihood),
    }
    return highest | {ALL: np.max(list(highest.values()), axis=0)}


def uniformity_of(nulls: NullResults, rng: np.random.Generator) -> dict[str, Uniformity]:
    """Of the global p-values of one half of the null datasets by the other: {method: test}."""
    half = len(nulls.classical) // 2
    if not half:
        return {}
    return {method: uniformity(z[:half], z[half:], rng) for method, z in _highest(nulls).items()}


def report(summary: Mapping[str, Summary]) -> str:
    """The scan in words, for the screen."""
    lines = []
    for charge, part in summary.items():
        fit = part.background
        lines.append(
            f"{charge}: {part.n_searched} of {part.n_windows} windows searched; background of the whole range: degree "
            f"{fit.degree}, p = {fit.p_value:.2g}"
            + ("" if fit.p_value > 0.01 else " (not described: declare scan.known)")
        )
        for where, of_methods in (("largest", part.largest), ("beside known resonances", part.elsewhere)):
            for method, found in of_methods.items():
                if where == "largest" or found.known != part.largest[method].known:
                    lines.append(f"{charge}: {METHODS[method]}, {where}: {_in_words(found)}")
        if not part.largest:
            lines.append(f"{charge}: no fit describes its sidebands in any window: declare scan.known")
        named = [f"{each.window} ({', '.join(each.known) or 'unknown'}) {each.local:.1f}" for each in part.above]
        lines.append(f"{charge}: classical windows above {SAID:g} sigma: {', '.join(named) or 'none'}")
    return "\n".join(lines)


def _in_words(found: Found) -> str:
    cut = f" at FPR {found.fpr:.3g}" if found.fpr < 1 else ""
    known = f" ({', '.join(found.known)})" if found.known else ""
    worth = "no global significance: scan.toys or scan.nulls is 0" if found.overall is None else str(found.overall)
    return f"{found.window}{known}, local Z0 = {found.local:.2f}{cut}; {worth}"
