"""The mass scan on the report page: what it found in sentences, and its strongest windows as a table."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from dimuon.figures.saved import Saved
from dimuon.figures.style import fpr_name
from dimuon.figures.verdicts import AUC_CLOSED, N_FLAGGED, P_DEPENDENT
from dimuon.figures.wording import capital, events_text, z_text
from dimuon.studies.scan_results import METHODS, SAID, Found, Summary
from dimuon.studies.scan_tables import CLASSICAL
from dimuon.workflow.products import PRODUCTS

N_SHOWN = 12  # windows of each sample
CONTROL = "ss"
NOTHING = "–"
HEADER = (
    *("Sample", "SR", "Known", "Events", "Expected", "Classical", "CATHODE", "Likelihood"),
    *("Sidebands", "Closure", "Sculpting", "Control"),
)


@dataclass(frozen=True)
class ScanPage:
    """The part of the page. sentences: what was found. header, rows: of the strongest windows."""

    sentences: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def scan_page(saved: Saved) -> ScanPage | None:
    """What the page says of the scan; None where there is none."""
    if saved.config.scan is None:
        return None
    content = saved.optional_json(saved.run.path(PRODUCTS["scan"]))
    windows = saved.optional_table(saved.run.path(PRODUCTS["scan_windows"]))
    if content is None or windows is None:
        return None
    sentences, rows = list[str](), list[tuple[str, ...]]()
    for charge, part in content.items():
        sentences += _sentences(saved, charge, Summary.from_json(part))
        of_charge = windows[windows["charge"] == charge.upper()]
        columns = [name for name in ("z0", "z0_cut", "z0_likelihood") if of_charge[name].notna().any()]
        strongest = of_charge.assign(largest=of_charge[columns].max(axis=1)).dropna(subset="z0")
        for row in strongest.nlargest(N_SHOWN, "largest").sort_values("sr_low").to_dict("records"):
            rows.append(_cells(saved, charge, row, windows))
    header = (HEADER[0], f"SR [{saved.data.mass.unit}]", *HEADER[2:])
    filled = [i for i in range(len(header)) if any(row[i] != NOTHING for row in rows)]
    return ScanPage(
        tuple(sentences), tuple(header[i] for i in filled), tuple(tuple(row[i] for i in filled) for row in rows)
    )


def _sentences(saved: Saved, charge: str, summary: Summary) -> list[str]:
    sample, fit = capital(saved.data.sample(charge)), summary.background
    described = "describes" if fit.p_value > 0.01 else "does not describe"
    said = [
        f"{sample}: {summary.n_searched} of {summary.n_windows} windows searched. The background of the whole range "
        f"(degree {fit.degree}) {described} the spectrum beside known resonances (p = {fit.p_value:.2g})."
    ]
    for method, found in summary.largest.items():
        said.append(f"{sample}, {METHODS[method]}: largest excess {_found(saved, found)}.")
        other = summary.elsewhere.get(method)
        if other is not None and other.window != found.window:
            said.append(f"{sample}, {METHODS[method]}, beside known resonances: {_found(saved, other)}.")
    unknown = [each.window for each in summary.above if not each.known]
    n_nulls = f" {summary.n_nulls} null datasets went through the whole scan." if summary.n_nulls else ""
    said.append(
        f"{sample}: {len(unknown) or 'no'} window{'' if len(unknown) == 1 else 's'} above {SAID:g}σ local beside known "
        f"resonances{': ' + ', '.join(unknown) if unknown else ''} ({METHODS[CLASSICAL]}).{n_nulls}"
    )
    return said


def _found(saved: Saved, found: Found) -> str:
    cut = f" at FPR {fpr_name(found.fpr)}" if found.fpr < 1 else ""
    known = f" ({', '.join(found.known)})" if found.known else ""
    worth = "" if found.overall is None else f", {found.overall}"
    place = saved.data.mass.between(round(found.sr_low, 3), round(found.sr_high, 3))
    return f"{place}{known}, {z_text(found.local)} local{cut}{worth}"


def _cells(saved: Saved, charge: str, row: dict[str, Any], windows: pd.DataFrame) -> tuple[str, ...]:
    learned = pd.notna(row["z0_cut"])
    cut = f"{z_text(row['z0_cut'])} at FPR {fpr_name(row['fpr_cut'])}" if learned else NOTHING
    control = windows[(windows["charge"] == CONTROL.upper()) & (windows["window"] == row["window"])]["z0"]
    return (
        saved.data.short(charge),
        f"{row['sr_low']:.3f}–{row['sr_high']:.3f}",
        row["known"] or NOTHING,
        events_text(row["n_obs"]),
        f"{row['n_bkg']:.1f}\u00a0±\u00a0{row['n_bkg_err']:.1f}",
        z_text(row["z0"]) + ("" if row["valid"] else " (!)"),
        cut,
        z_text(row["z0_likelihood"]) if learned else NOTHING,
        "described" if row["described"] else "NOT described",
        _closure(row) if learned else NOTHING,
        _sculpting(row) if learned else NOTHING,
        NOTHING if charge == CONTROL or control.isna().all() else z_text(float(control.iloc[0])),
    )


def _closure(row: dict[str, Any]) -> str:
    word = "passes" if row["closure_auc"] < AUC_CLOSED else "FAILS"
    return f"{word}, AUC {row['closure_auc']:.3f} ± {row['closure_auc_err']:.3f}"


def _sculpting(row: dict[str, Any]) -> str:
    passed = row["n_sculpted"] <= N_FLAGGED and row["p_knows_mass"] >= P_DEPENDENT
    return f"{'passes' if passed else 'FAILS'}, {row['n_sculpted']} of {row['n_cuts']} cuts"
