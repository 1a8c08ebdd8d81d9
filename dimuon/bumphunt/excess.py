"""What was found: the events behind an excess, the columns in which they differ, and the peaks that they make.

All of it is at the cut with the largest significance, and the peaks without a cut, too. Selecting on the score shapes
every feature by itself: what passes looks alike, signal or not. So the signal's spectra are compared with those of the
background after the same cut, from the sidebands and, where events were sampled, from those (see
`dimuon.statistics.characterise`). Where the test finds no excess there is nothing to describe, and the result says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dimuon.arrays import BoolArray, FloatArray
from dimuon.bumphunt.result import ScanPoint, Statistic, TestResult
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.records import Record
from dimuon.statistics import characterise
from dimuon.statistics.characterise import MOST_VALUES, ColumnDifference, ColumnSpectrum, Excess, Sampled
from dimuon.statistics.mass_scale import MassScale, mass_scale, matched
from dimuon.statistics.peaks import FittedPeaks, PeakFit, find_peaks
from dimuon.statistics.settings import Peaks
from dimuon.statistics.significance import SpectrumModel, sideband_fits
from dimuon.statistics.spectra import Spectra
from dimuon.statistics.working_points import CutVariable

NO_EXCESS = "no excess: Z0 is zero"
IDENTITY = ("run", "luminosityBlock", "event")  # first among the columns of an event, where a table has them
NOT_DESCRIBED = ("luminosityBlock", "event", "row", "region", "charge", "anti_isolated", "score", "score_std", "weight")


@dataclass(frozen=True)
class PeakResult(Record):
    """The peaks of one spectrum in the SR.

    variable: "cathode_max" after the best cut on the classifier, "no_cut" without. fpr, z0: of the test. fit: None
    where `reason` says why. names: of each peak, that of the known mass that it is matched with, or None. scale: the
    common factor of the matched masses over the known ones; None where none is matched.
    """

    variable: Statistic
    fpr: float
    z0: float
    fit: PeakFit | None = None
    names: tuple[str | None, ...] = ()
    scale: MassScale | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Found(Record):
    """What was found in one sample.

    cut: on the score, of the largest significance; fpr, z0 there. n_obs, n_bkg, n_bkg_err: events and background in the
    SR after it. peaks: of the spectra without a cut and after it. n_columns: compared; reason: why none is.
    """

    train: str
    test: str
    cut: float
    fpr: float
    z0: float
    n_obs: float
    n_bkg: float
    n_bkg_err: float
    peaks: tuple[PeakResult, ...]
    n_columns: int
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class WhatWasFound:
    """`Found` with its tables; each is empty where there is nothing to say.

    events: those of the SR that pass the best cut, the most signal-like first. columns, spectra: of
    `ColumnDifference` and `ColumnSpectrum`, the most different column first. masses: fitted spectra of `found.peaks`.
    """

    found: Found
    events: pd.DataFrame
    columns: pd.DataFrame
    spectra: pd.DataFrame
    masses: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Scored:
    """Scored events, as `describe` looks at them.

    score: (n_events,). weight: (n_events,) likelihood weights, None where they are not defined. table: all columns of
    the events, row by row. sampled, sampled_score: background sampled in the SR and its scores, or None.
    """

    mass: FloatArray
    score: FloatArray
    weight: FloatArray | None
    table: pd.DataFrame
    sampled: Events | None = None
    sampled_score: FloatArray | None = None

    def passing(self, cut: ScanPoint, model: SpectrumModel) -> BoolArray:
        """(n_events,) True where an event passes the cut on the score at that rate."""
        variable = CutVariable(Statistic.WORKING_POINT.value, self.score)
        kept: BoolArray = variable.scan(model.bins.window.in_sidebands(self.mass), [cut.fpr]).kept[0]
        return kept

    def background(self, kept: BoolArray) -> Sampled | None:
        """The sampled events that pass, where there are any."""
        if self.sampled is None or self.sampled_score is None or not kept.any():
            return None
        return Sampled(self.sampled.columns, self.sampled.weight * (self.sampled_score >= self.score[kept].min()))


def describe(
    scored: Scored, test: TestResult, model: SpectrumModel, settings: Peaks, trained: Sequence[str], mass_column: str
) -> WhatWasFound:
    """What was found in one sample. test: of the same. trained: columns that the classifier knows."""
    best = test.cathode_max
    kept = scored.passing(best, model)
    cuts = {
        Statistic.NO_CUT: (1.0, test.no_cut.z0, np.ones(len(kept), dtype=bool)),
        Statistic.BEST_CUT: (best.fpr, best.z0, kept),
    }
    fits = [peaks_of(scored.mass[chosen], name, fpr, z0, model, settings) for name, (fpr, z0, chosen) in cuts.items()]
    pairs, reason = _columns(scored, kept, best.z0, model, trained, mass_column)
    found = Found(
        train=test.train,
        test=test.test,
        cut=best.cut,
        fpr=best.fpr,
        z0=best.z0,
        n_obs=best.n_obs,
        n_bkg=best.n_bkg,
        n_bkg_err=best.n_bkg_err,
        peaks=tuple(result for result, _ in fits),
        n_columns=len(pairs),
        reason=reason,
    )
    chosen = kept & model.bins.window.in_sr(scored.mass) & (best.z0 > 0)
    tables = (
        _events(scored, chosen, mass_column),
        _differences([difference for difference, _ in pairs]),
        _spectra([spectrum for _, spectrum in pairs]),
        pd.concat([table for _, table in fits], ignore_index=True),
    )
    return WhatWasFound(found, *(_labelled(table, test) for table in tables))


def peaks_of(
    mass: FloatArray, variable: Statistic, fpr: float, z0: float, model: SpectrumModel, settings: Peaks
) -> tuple[PeakResult, pd.DataFrame]:
    """The peaks of one spectrum and its fit, bin by bin; a reason in their place where there is no excess or no fit."""
    if not z0 > 0:
        return PeakResult(variable, fpr, z0, reason=NO_EXCESS), _fitted(None, variable, fpr, model)
    family = model.chosen(Spectra.of(mass, model.bins))[0]
    try:
        fitted = find_peaks(mass, family, most=settings.max)
    except AnalysisError as error:  # a `FitError`, too
        return PeakResult(variable, fpr, z0, reason=str(error)), _fitted(None, variable, fpr, model)
    names = matched(fitted.fit, settings.known)
    result = PeakResult(
        variable,
        fpr,
        z0,
        fitted.fit,
        tuple(names.get(i) for i in range(len(fitted.fit.peaks))),
        _scale(fitted.fit, names, settings.known),
    )
    return result, _fitted(fitted, variable, fpr, model)


def with_error(value: float, error: float) -> str:
    """A value with its error, to two significant digits of it.

    >>> with_error(9.44731, 0.00306), with_error(912.4, 74.3), with_error(1.5, float("nan"))
    ('9.4473 ± 0.0031', '912 ± 74', '1.5')
    """
    if not np.isfinite(error) or error <= 0:
        return f"{value:.4g}"
    digits = max(0, 1 - int(np.floor(np.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def lines(described: WhatWasFound, unit: str) -> list[str]:
    """What was found in one sample, a line for each spectrum and one for the columns. unit: of the mass."""
    found, said = described.found, []
    for result in found.peaks:
        what = f"{found.train}_on_{found.test}, {result.variable.label}"
        if result.fit is None:
            said.append(f"{what}: peaks not fitted ({result.reason})")
            continue
        each = [
            f"{name + ' ' if name else ''}{with_error(peak.mass, peak.mass_err)} {unit} ({peak.n_events:.0f} events)"
            for peak, name in zip(result.fit.peaks, result.names, strict=True)
        ]
        scale = result.scale
        common = f"; mass scale {with_error(scale.scale, scale.scale_err)}" if scale is not None else ""
        said.append(f"{what}: {', '.join(each) or 'no peak'}{common}")
    if found.reason is None:
        said.append(f"{found.train}_on_{found.test}: {_difference(described.columns)}")
    return said


def _difference(columns: pd.DataFrame) -> str:
    """In which columns an excess differs from the background, in words."""
    tested = columns[columns["p_any"].notna()]
    if tested.empty:
        return f"none of {len(columns)} columns can be compared: too few events in the sidebands pass the cut"
    differing = tested["feature"][(tested["p_any"] < 0.05) & ~tested["doubtful"].astype(bool)]
    words = f"most in {', '.join(differing[:3])}" if len(differing) else "in none"
    return f"of {len(tested)} columns the excess differs {words}"


def _scale(fit: PeakFit, names: Mapping[int, str], known: Mapping[str, float]) -> MassScale | None:
    """Of the matched peaks whose masses have an error."""
    chosen = [i for i in names if np.isfinite(fit.peaks[i].mass_err)]
    if not chosen:
        return None
    covariance = np.array(fit.mass_covariance)[np.ix_(chosen, chosen)]
    return mass_scale([fit.peaks[i].mass for i in chosen], covariance, {names[i]: known[names[i]] for i in chosen})


def _columns(
    scored: Scored, kept: BoolArray, z0: float, model: SpectrumModel, trained: Sequence[str], mass_column: str
) -> tuple[list[tuple[ColumnDifference, ColumnSpectrum]], str | None]:
    """The columns compared, and the reason where none is."""
    if not z0 > 0:
        return [], NO_EXCESS
    names = [
        name for name in scored.table if name not in (mass_column, *NOT_DESCRIBED) and _is_told(scored.table[name])
    ]
    excesses = []
    for chosen in (kept, np.ones_like(kept)):
        fit = sideband_fits(Spectra.of(scored.mass[chosen], model.bins), model)[0]
        try:
            excesses.append(Excess.of(scored.mass, chosen, model.bins.window, fit))
        except AnalysisError as error:
            return [], str(error)
    columns = {str(name): scored.table[name].to_numpy() for name in names}
    sampled = scored.background(kept)
    return characterise.characterise(columns, *excesses, trained=trained, sampled=sampled), None


def _is_told(values: "pd.Series[Any]") -> bool:
    """Whether a column can be compared: numbers and flags, and texts of a few kinds."""
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return not pd.api.types.is_complex_dtype(values)
    return bool(values.map(str).nunique() <= MOST_VALUES)


def _labelled(table: pd.DataFrame, test: TestResult) -> pd.DataFrame:
    table.insert(0, "train", test.train)
    table.insert(1, "test", test.test)
    return table


def _events(scored: Scored, chosen: BoolArray, mass_column: str) -> pd.DataFrame:
    """The chosen events: row, score, weight, mass, then all columns of their table; the largest score first."""
    own = {
        "row": scored.table["row"].to_numpy(),
        "score": scored.score,
        "weight": np.full(len(scored.mass), np.nan) if scored.weight is None else scored.weight,
        mass_column: scored.mass,
    }
    others = [name for name in scored.table if name not in own]
    first = [name for name in IDENTITY if name in others]
    table = pd.DataFrame(own).join(scored.table[[*first, *(name for name in others if name not in first)]])
    narrow = table.select_dtypes("float32").columns  # written as text, they would not read back as they are
    table = table[chosen].astype(dict.fromkeys(narrow, "float64"))
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


DIFFERENCES = {  # columns of a table: fields of `ColumnDifference`
    "feature": "column",
    "chi2_same": "chi2",
    "ndf_same": "ndf",
    "p_same": "p_chi2",
    **{
        name: name
        for name in (
            *("trained", "discrete", "n_bins", "n_missing", "p_any", "z", "auc", "auc_err"),
            *(
                "mean_signal",
                "mean_signal_err",
                "mean_background",
                "mean_background_err",
                "p_sampled",
                "p_linear",
                "doubtful",
            ),
        )
    },
}
SPECTRA = {  # columns of a table: fields of `ColumnSpectrum`
    "bin_low": "low",
    "bin_high": "high",
    "n_obs": "n_obs",
    "n_bkg": "background",
    "n_bkg_err": "background_err",
    "n_excess": "signal",
    "n_excess_err": "signal_err",
    "n_sampled": "sampled",
    "n_sampled_err": "sampled_err",
    "n_obs_before": "before_obs",
    "n_bkg_before": "before_background",
}


def _differences(differences: Sequence[ColumnDifference]) -> pd.DataFrame:
    rows = {name: [getattr(difference, of) for difference in differences] for name, of in DIFFERENCES.items()}
    return pd.DataFrame({"rank": np.arange(1, len(differences) + 1)} | rows)


def _spectra(spectra: Sequence[ColumnSpectrum]) -> pd.DataFrame:
    """A row for each bin of each column that has more than one."""
    frames = []
    for spectrum in spectra:
        if len(spectrum.low) > 1:
            values: dict[str, Any] = {name: getattr(spectrum, of) for name, of in SPECTRA.items()}
            ends = zip(spectrum.low, spectrum.high, strict=True)
            labels = spectrum.labels or [
                f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}" for low, high in ends
            ]
            told = {"feature": spectrum.column, "of_text": bool(spectrum.labels), "values": labels}
            frames.append(pd.DataFrame(told | values))
    if not frames:
        words: dict[str, Any] = {"feature": pd.Series(dtype="str"), "of_text": pd.Series(dtype="bool")}
        words["values"] = pd.Series(dtype="str")
        return pd.DataFrame(words | {name: np.zeros(0) for name in SPECTRA})
    return pd.concat(frames, ignore_index=True)


def _fitted(fitted: FittedPeaks | None, variable: Statistic, fpr: float, model: SpectrumModel) -> pd.DataFrame:
    """A row for each bin of the fit of the peaks; none where there is no fit."""
    edges = np.zeros(1) if fitted is None else fitted.edges
    nothing = np.zeros(0)
    centre = (edges[1:] + edges[:-1]) / 2
    return pd.DataFrame(
        {
            "variable": variable.value,
            "fpr": fpr,
            "bin_low": edges[:-1],
            "bin_high": edges[1:],
            "region": model.bins.window.region(centre),
            "n_obs": nothing if fitted is None else fitted.counts,
            "n_bkg": nothing if fitted is None else fitted.background,
            "n_fit": nothing if fitted is None else fitted.expected,
        }
    )
