"""What a mass scan found as tables: every window, every significance, the spectra."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from dimuon.bumphunt.result import Statistic, shown_likelihood
from dimuon.columns import Column
from dimuon.studies.mass_scan import UNDESCRIBED, ClassicalScan
from dimuon.studies.scenarios import Outcome
from dimuon.workflow.products import PRODUCTS, SCAN_MAKER, Product

CLASSICAL = "classical"

EDGES = {
    "window": Column("text", "signal region of the window, in words"),
    "sb_low": Column("unit of the mass", "lower end of the low sideband"),
    "sr_low": Column("unit of the mass", "lower end of the SR"),
    "sr_high": Column("unit of the mass", "upper end of the SR"),
    "sb_high": Column("unit of the mass", "upper end of the high sideband"),
}
VERDICTS = {
    "known": Column("text", "known resonances that the SR overlaps, by name"),
    "skipped": Column("text", "why the window is not searched; empty where it is"),
    "described": Column("flag", f"the classical fit describes its sidebands (p_saturated of {UNDESCRIBED:g} or more)"),
    "z0_cut": Column("sigma", "CATHODE's largest Z0 over the cuts"),
    "fpr_cut": Column("", "false-positive rate of that cut"),
    "closure_auc": Column("", "of a classifier that tells real from sampled sideband events; 0.5 is perfect closure"),
    "closure_auc_err": Column("", "its standard error"),
    "closure_auc_with_mass": Column("", "of one that sees the mass, too"),
    "n_sculpted": Column("", "cuts that shape the mass in the sidebands"),
    "n_cuts": Column("", "cuts looked at"),
    "p_knows_mass": Column("", "p-value of the score not depending on the mass in the sidebands"),
    "train_s": Column("s", "time that the background model took, if trained for this window alone"),
    "search_s": Column("s", "time that the search with it took"),
}
WINDOWS = PRODUCTS.declare(
    Product(
        "scan_windows",
        "results/{name}/scan/windows.parquet",
        SCAN_MAKER,
        "every window of the mass scan: edges, counts, Z0 of each method, closure, sculpting, why it is skipped",
        (
            *("charge", "n_obs", "n_bkg", "n_bkg_err", "z0", "z_signed", "valid", "n_bins_sr", "family", "degree"),
            *("p_saturated", "z0_likelihood"),
        ),
        own=EDGES | VERDICTS,
    )
)
SIGNIFICANCES = PRODUCTS.declare(
    Product(
        "scan_significances",
        "results/{name}/scan/significances.parquet",
        SCAN_MAKER,
        "the significance of every method in every window at every cut and binning (fpr 1: no cut)",
        ("charge", "variable", "fpr", "n_bins_sr", "z0", "z_signed", "n_obs", "n_bkg", "n_sig", "valid"),
        own={name: EDGES[name] for name in ("window", "sr_low", "sr_high")},
    )
)
SPECTRA = PRODUCTS.declare(
    Product(
        "scan_spectra",
        "results/{name}/scan/spectra.parquet",
        SCAN_MAKER,
        "the mass spectrum of every window with its sideband fit, without a cut",
        ("charge", "bin_low", "bin_high", "region", "n_obs", "n_bkg", "n_bkg_err"),
        own={"window": EDGES["window"]},
    )
)


def windows_table(scan: ClassicalScan, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """A row for every window of one charge."""
    rows, of_learned = [], {str(each.scenario.labels["window"]): each for each in outcomes}
    for placed in scan.windows:
        row: dict[str, Any] = {"charge": scan.charge.upper(), "window": placed.label, **vars(placed.window)}
        row |= {"known": ", ".join(placed.known), "skipped": placed.skipped or ""}
        if placed.skipped is None:
            test = scan.largest(placed.label)
            row |= {name: getattr(test, name) for name in ("n_bins_sr", "family", "degree")}
            row |= {
                name: getattr(test.outcome, name)
                for name in ("n_obs", "n_bkg", "n_bkg_err", "z0", "z_signed", "valid", "p_saturated")
            }
            row["described"] = described(test.outcome.p_saturated)
        found = of_learned.get(placed.label)
        if found is not None and found.failed is not None:
            row["skipped"] = f"learned: {found.failed}"
        elif found is not None:
            row |= learned_columns(found)
        rows.append(row)
    frame = pd.DataFrame(rows).reindex(columns=list(WINDOWS.column_names))
    texts = {name: "string" for name in ("family",)} | dict.fromkeys(("valid", "described"), "boolean")
    whole = dict.fromkeys(("n_bins_sr", "degree", "n_sculpted", "n_cuts"), "Int64")
    numbers = {name: "float64" for name in frame.columns if frame[name].dtype == object and name not in _TEXTS}
    return frame.astype(numbers | texts | whole)


_TEXTS = (
    "charge",
    "window",
    "known",
    "skipped",
    "family",
    "valid",
    "described",
    "n_bins_sr",
    "degree",
    "n_sculpted",
    "n_cuts",
)


def described(p_saturated: float) -> bool:
    """Whether a fit with this p-value describes its sidebands."""
    return p_saturated >= UNDESCRIBED


def learned_columns(outcome: Outcome) -> dict[str, Any]:
    """What a window's row says of the learned search."""
    cuts = [row for row in outcome.rows if row["variable"] == Statistic.WORKING_POINT]
    best = max(cuts, key=lambda row: row["z0"] or 0.0)
    verdict = next(row for row in outcome.rows if row["variable"] == "window")
    likelihood = _likelihood(outcome)
    own = {name: value for name, value in verdict.items() if name != "variable"}
    return {"z0_cut": best["z0"], "fpr_cut": best["fpr"], "z0_likelihood": likelihood, **own}


def _likelihood(outcome: Outcome) -> float | None:
    """The likelihood value that the settings show; None where it is not defined."""
    by_name = {row["variable"]: row for row in outcome.rows}
    shown = shown_likelihood(by_name, outcome.scenario.config.significance.weight_scales)
    value: float | None = by_name[shown]["z0"]
    return value


def significances_table(scan: ClassicalScan, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """A row for every significance of one charge."""
    names = ("z0", "z_signed", "n_obs", "n_bkg", "n_sig", "valid")
    rows, placed = [], {each.label: each for each in scan.windows}
    for label, tests in scan.tests.items():
        for test in tests:
            values = {name: getattr(test.outcome, name) for name in names}
            rows.append({"window": label, "variable": CLASSICAL, "fpr": 1.0, "n_bins_sr": test.n_bins_sr, **values})
    for each in outcomes:
        settings, own = each.scenario.config.scan, placed[str(each.scenario.labels["window"])]
        n_bins_sr = settings.binnings_of(own)[0] if settings else None
        for row in each.rows:
            if row["variable"] != "window":
                label = str(each.scenario.labels["window"])
                values = {name: row[name] for name in ("variable", "fpr", *names)}
                rows.append({"window": label, "n_bins_sr": n_bins_sr, **values})
    frame = pd.DataFrame(rows).assign(charge=scan.charge.upper())
    frame["sr_low"] = [placed[label].window.sr_low for label in frame["window"]]
    frame["sr_high"] = [placed[label].window.sr_high for label in frame["window"]]
    numbers = dict.fromkeys(("fpr", "z0", "z_signed", "n_obs", "n_bkg", "n_sig"), "float64")
    return frame[list(SIGNIFICANCES.column_names)].astype(numbers | {"valid": "boolean"})


def spectra_table(scan: ClassicalScan) -> pd.DataFrame:
    """The spectra of all windows of one charge."""
    placed, frames = {each.label: each.window for each in scan.windows}, []
    for label, spectrum in scan.spectra.items():
        frame = pd.DataFrame(spectrum)
        region = placed[label].region((frame["bin_low"] + frame["bin_high"]) / 2)
        frames.append(frame.assign(region=region, window=label, charge=scan.charge.upper()))
    return pd.concat(frames, ignore_index=True)[list(SPECTRA.column_names)]
