"""Step 6 on one scored sample: cut and count at every working point, and the spectrum reweighted by the likelihood."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from dimuon.arrays import FloatArray, IntArray
from dimuon.bumphunt.result import (
    CutResult,
    HeadlineToys,
    LikelihoodResult,
    ScanPoint,
    SidebandQuality,
    Statistic,
    WeightCalibration,
)
from dimuon.dataset import Dataset
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.regions import MassBins, MassWindow
from dimuon.statistics import conformal, sculpting, toys
from dimuon.statistics.families import Polynomial
from dimuon.statistics.intervals import clopper_pearson
from dimuon.statistics.likelihood_ratio import Discovery
from dimuon.statistics.member_median import MedianCut
from dimuon.statistics.settings import Toys
from dimuon.statistics.significance import SpectrumModel, discoveries, likelihood_weights, sideband_fits
from dimuon.statistics.spectra import Spectra
from dimuon.statistics.trials import GlobalSignificance
from dimuon.statistics.working_points import CutVariable, nearest

CURVE_FIELDS = (
    *("n_obs", "n_bkg", "n_bkg_err", "n_sig", "n_sidebands", "q0", "z0", "p0", "valid"),
    *("chi2", "ndf", "p_chi2", "p_saturated", "at_boundary", "z_signed"),
)
POINT_FIELDS = ("n_obs", "n_bkg", "n_bkg_err", "z0", "p0", "valid")
DIMUONS = Dataset()  # what the events are where nothing else is said
RANDOM = "random"  # the cut on a random number, which must find nothing

SCULPTING_TOYS = 200  # enough for a p-value at the level of the flag, 1 %
N_MERGED = 5  # mass bins to one in the efficiency, so that each holds enough events


def cut_variables(
    score: FloatArray,
    features: Mapping[str, FloatArray],
    rng: np.random.Generator,
    members: FloatArray | None = None,
    data: Dataset = DIMUONS,
) -> list[CutVariable]:
    """What is cut on: the classifier ("cathode"), each feature on its signal side, and a random number.

    score: (n_events,). features: {name: (n_events,)}. rng: of the random cut. members: (n_events, n_members) scores to
    combine by the median of their histograms; None: the score is cut on. data: what the events are, for the sides.
    """
    name = Statistic.WORKING_POINT.value
    classifier = CutVariable(name, score) if members is None else MedianCut(name, score, members=members)
    classical = [CutVariable(name, values, data.feature(name).signal_side) for name, values in features.items()]
    return [classifier, *classical, CutVariable(RANDOM, rng.uniform(size=len(score)))]


def cut_and_count(
    mass: FloatArray, variables: Sequence[CutVariable], fprs: FloatArray, model: SpectrumModel
) -> tuple[pd.DataFrame, Spectra]:
    """The significance at every working point of every variable (paper, step 4a), and its spectra, row for row.

    mass: (n_events,), GeV. fprs: (n,). Columns: variable, family, degree, n_bins_sr, fpr, cut, `CURVE_FIELDS` (as in
    `Discovery`), and those of `add_toys`, empty.
    """
    by_variable, cuts = zip(*(variable.spectra(mass, model.bins, fprs) for variable in variables), strict=True)
    spectra = Spectra.joined(by_variable)
    outcomes, chosen = discoveries(spectra, model), model.chosen(spectra)
    labels = {
        "variable": np.repeat([variable.name for variable in variables], len(fprs)),
        "family": [family.name for family in chosen],
        "degree": [family.degree for family in chosen],
        "n_bins_sr": model.bins.n_bins_sr,
        "fpr": np.tile(fprs, len(variables)),
        "cut": np.concatenate(cuts),
    }
    no_toys = {"p0_toys": np.nan, "p0_toys_err": np.nan, "z0_toys": np.nan, "n_toys": 0, "toys_bound": False}
    return pd.DataFrame(labels | {name: getattr(outcomes, name) for name in CURVE_FIELDS} | no_toys), spectra


def add_toys(
    curves: pd.DataFrame, spectra: Spectra, model: SpectrumModel, n_toys: int, rng: np.random.Generator
) -> pd.DataFrame:
    """`curves` with toy values where the asymptotic form does not hold, for all but the random cut.

    curves, spectra: of `cut_and_count`. Columns filled: p0_toys, p0_toys_err, z0_toys, n_toys, toys_bound.
    """
    chosen = np.flatnonzero(~curves["valid"] & (curves["variable"] != RANDOM) & (n_toys > 0))
    curves = curves.copy()
    if chosen.size:
        values = pd.DataFrame([vars(value) for value in toys.local(spectra[chosen], model, n_toys, rng)])
        names = {"p0_toys": "p0", "p0_toys_err": "p0_err", "z0_toys": "z0", "n_toys": "n_toys", "toys_bound": "bound"}
        for column, name in names.items():
            curves.loc[curves.index[chosen], column] = values[name].to_numpy()
    return curves


def add_sculpting(
    curves: pd.DataFrame,
    mass: FloatArray,
    variables: Sequence[CutVariable],
    fprs: FloatArray,
    bins: MassBins,
    degree: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """`curves` of the same variables and fprs with a column sculpted: see `dimuon.statistics.sculpting.flags`."""
    sideband = bins.window.in_sidebands(mass)
    kept = np.concatenate([variable.scan(sideband, fprs).kept for variable in variables])
    fits = sculpting.flags(mass, kept, bins, degree, rng, n_toys=SCULPTING_TOYS)
    return curves.assign(sculpted=pd.array(fits.sculpted, dtype="boolean"))


def variations(
    mass: FloatArray,
    variables: Sequence[CutVariable],
    fprs: FloatArray,
    baseline: SpectrumModel,
    degrees: Sequence[int],
    binnings: Sequence[int],
) -> pd.DataFrame | None:
    """`cut_and_count` with other degrees and numbers of SR bins than the baseline's (paper, Fig. 4), None for none."""
    window = baseline.bins.window
    families = [Polynomial(window.binning(n_bins_sr), degree) for degree in degrees for n_bins_sr in binnings]
    frames = [cut_and_count(mass, variables, fprs, family)[0] for family in families if family != baseline]
    return pd.concat(frames, ignore_index=True) if frames else None


def marked(own: pd.DataFrame, others: pd.DataFrame | None) -> pd.DataFrame:
    """The curves of the analysis's own background function and, after them, of `variations` (None: none).

    The column baseline tells them apart: neither family nor degree does where the function is chosen by the data.
    """
    varied = [] if others is None else [others.assign(baseline=False)]
    return pd.concat([own.assign(baseline=True), *varied])


@dataclass(frozen=True, eq=False)
class Reweighting:
    """The spectrum weighted by the likelihood (paper, step 4b).

    outcome: of its test with a scale of the weights for each bin, and weights: (n_events,); both None where reason says
    why they are not defined. pooled: whether its headline has one scale for all sidebands instead.
    """

    outcome: Discovery | None
    weights: FloatArray | None
    reason: str | None = None
    pooled: bool = True


def reweighting(
    mass: FloatArray, score: FloatArray, model: SpectrumModel, weights: FloatArray | None = None, pooled: bool = True
) -> Reweighting:
    """The test on the spectrum weighted by the likelihood. weights: (n_events,); None: from the score. pooled: of the
    headline, see `Reweighting`."""
    if weights is None:
        bare = discoveries(Spectra.of(mass, model.bins), model).one(0)
        try:
            weights = likelihood_weights(score, bare.n_sig, bare.n_bkg)
        except ValueError as error:
            return Reweighting(None, None, str(error), pooled)
    outcome = discoveries(Spectra.of(mass, model.bins, weights), model).one(0)
    return Reweighting(outcome, weights, None, pooled)


def mass_histogram(
    mass: FloatArray, model: SpectrumModel, weights: FloatArray | None = None, pooled: bool = True
) -> pd.DataFrame:
    """The mass spectrum with its sideband fit, for a figure: one row per bin. pooled: as in `Reweighting`.

    Columns: bin_low, bin_high [GeV], region, n_obs (sum of weights), n_obs_err, n_bkg, n_bkg_err.
    """
    bins = model.bins
    low, high = bins.edges[:-1], bins.edges[1:]
    fit = sideband_fits(Spectra.of(mass, bins, weights, pooled=pooled), model)[0]
    squares = None if weights is None else np.square(weights)
    return pd.DataFrame(
        {
            "bin_low": low,
            "bin_high": high,
            "region": bins.window.region((low + high) / 2),
            "n_obs": bins.counts(mass, weights),
            "n_obs_err": np.sqrt(bins.counts(mass, squares)),
            "n_bkg": fit.expected(bins.edges),
            "n_bkg_err": fit.expected_err(bins.edges),
        }
    )


def mass_histograms(
    mass: FloatArray,
    variable: CutVariable,
    fprs: Sequence[float],
    model: SpectrumModel,
    weighted: Reweighting | None = None,
) -> pd.DataFrame:
    """`mass_histogram` after each cut on `variable`, and of the reweighted spectrum where there are weights.

    fprs: (n,). Further columns: variable (its name, or "likelihood") and fpr (1 for "likelihood").
    """
    scan = variable.scan(model.bins.window.in_sidebands(mass), fprs)
    frames = [
        mass_histogram(mass[kept], model).assign(variable=variable.name, fpr=fpr)
        for fpr, kept in zip(scan.fpr, scan.kept, strict=True)
    ]
    if weighted is not None and weighted.weights is not None:
        spectrum = mass_histogram(mass, model, weighted.weights, weighted.pooled)
        frames.append(spectrum.assign(variable=Statistic.LIKELIHOOD.value, fpr=1.0))
    return pd.concat(frames, ignore_index=True)


def figure_points(
    mass: FloatArray,
    variable: CutVariable,
    fprs: Sequence[float],
    model: SpectrumModel,
    weighted: Reweighting | None = None,
) -> pd.DataFrame:
    """The test on exactly the spectra of `mass_histograms`, for `mass_points.parquet`: one row per spectrum.

    Arguments as there. Columns: variable (its name, or "likelihood"), fpr, cut (NaN for "likelihood"), n_obs, n_bkg,
    n_bkg_err, z0, p0, valid.
    """
    scan = variable.scan(model.bins.window.in_sidebands(mass), fprs)
    spectra = [Spectra.of(mass, model.bins, selections=scan.kept)]
    labels = {"variable": [variable.name] * len(scan.fpr), "fpr": [*scan.fpr], "cut": [*scan.cut]}
    if weighted is not None and weighted.weights is not None:
        spectra.append(Spectra.of(mass, model.bins, weighted.weights, pooled=weighted.pooled))
        for column, value in (("variable", Statistic.LIKELIHOOD.value), ("fpr", 1.0), ("cut", np.nan)):
            labels[column].append(value)
    outcomes = discoveries(Spectra.joined(spectra), model)
    return pd.DataFrame(labels | {name: getattr(outcomes, name) for name in POINT_FIELDS})


def efficiencies(
    mass: FloatArray, variable: CutVariable, fprs: Sequence[float], bins: MassBins, curves: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Fraction of events that pass each cut against the mass, for `efficiencies.parquet`: a row per cut and mass bin.

    mass: (n_events,), GeV. fprs: (n,). The mass bins are `bins`, merged by `N_MERGED` outward from the SR, which is
    one. curves: with the column sculpted of `add_sculpting`.

    Columns: fpr, cut, bin_low, bin_high [GeV], region, n_before, n_after, efficiency (0 where the bin is empty),
    efficiency_low, efficiency_high (68 % Clopper-Pearson interval), and where `curves` are given, sculpted: of the
    working point of `variable` that is nearest to fpr.
    """
    scan = variable.scan(bins.window.in_sidebands(mass), fprs)
    merged = bins.merged(N_MERGED)
    edges, index = bins.edges[merged], bins.index(mass)
    before = _merged_counts(bins, index, merged)
    frames = []
    for fpr, cut, kept in zip(scan.fpr, scan.cut, scan.kept, strict=True):
        after = _merged_counts(bins, index[kept], merged)
        low, high = clopper_pearson(after, before)
        frame = pd.DataFrame(
            {
                "fpr": fpr,
                "cut": cut,
                "bin_low": edges[:-1],
                "bin_high": edges[1:],
                "region": bins.window.region((edges[:-1] + edges[1:]) / 2),
                "n_before": before,
                "n_after": after,
                "efficiency": after / np.maximum(before, 1),
                "efficiency_low": low,
                "efficiency_high": high,
            }
        )
        frames.append(frame)
    table = pd.concat(frames, ignore_index=True)
    if curves is None:
        return table
    own = curves[curves["variable"] == variable.name]
    flags = {fpr: bool(own["sculpted"].iloc[nearest(own["fpr"], fpr)]) for fpr in scan.fpr}
    return table.assign(sculpted=table["fpr"].map(flags))


def conformal_points(mass: FloatArray, variable: CutVariable, fprs: ArrayLike, window: MassWindow) -> pd.DataFrame:
    """`conformal.tests` of every cut that does not keep all, for `conformal.parquet`. fprs: (n,)."""
    scan = variable.scan(window.in_sidebands(mass), fprs)
    cutting = scan.fpr < 1
    frames = [
        pd.DataFrame(
            {
                "fpr": scan.fpr[cutting],
                "cut": scan.cut[cutting],
                "n_obs": of_kind.n_obs,
                "calibration": of_kind.calibration,
                "n_sr": of_kind.n_sr,
                "rate": of_kind.rate,
                "p_conformal": of_kind.p_value,
                "z_conformal": of_kind.z,
                "p_smallest": of_kind.smallest,
            }
        )
        for of_kind in conformal.tests(mass, scan.kept[cutting], window)
    ]
    return pd.concat(frames, ignore_index=True)


def _merged_counts(bins: MassBins, index: IntArray, merged: IntArray) -> FloatArray:
    """Events in the wider bins whose ends in `bins.edges` are `merged`."""
    return np.add.reduceat(bins.counts_at(index)[: merged[-1]], merged[:-1])


def feature_histograms(
    mass: FloatArray,
    features: Mapping[str, FloatArray],
    variable: CutVariable,
    fprs: Sequence[float],
    window: MassWindow,
    before: Events | None = None,
    data: Dataset = DIMUONS,
) -> pd.DataFrame | None:
    """The features in the SR after each cut on `variable`; None where there are none.

    features: {name: (n_events,)}. before: the events before the anti-isolation; they have fpr NaN. Values outside the
    histogram's range are in none of its bins. data: what the events are.

    Columns: feature, fpr, bin_low, bin_high, n_obs.
    """
    scan = variable.scan(window.in_sidebands(mass), fprs)
    in_sr = window.in_sr(mass)
    frames = []
    for name, values in features.items():
        samples = [(fpr, values[kept & in_sr]) for fpr, kept in zip(scan.fpr, scan.kept, strict=True)]
        if before is not None:
            samples.insert(0, (np.nan, before.columns[name][window.in_sr(before.mass)]))
        edges = data.feature(name).completed(values).edges
        for fpr, sample in samples:
            n_obs = np.histogram(sample, edges)[0].astype(float)
            bins = {"bin_low": edges[:-1], "bin_high": edges[1:], "n_obs": n_obs}
            frames.append(pd.DataFrame({"feature": name, "fpr": fpr} | bins))
    return pd.concat(frames, ignore_index=True) if frames else None


def add_sampled(
    histograms: pd.DataFrame, sampled: tuple[Events, FloatArray] | None, points: pd.DataFrame
) -> pd.DataFrame:
    """`feature_histograms` with the background after the same cuts: columns n_sampled and n_sampled_err.

    sampled: background sampled in the SR and its scores, (n_sampled,); None leaves the columns empty. points: of
    `figure_points`; after each cut the sampled events are scaled to the background expected from the sidebands.
    n_sampled_err: from the number of sampled events alone. Missing where nothing was sampled, or passes.
    """
    histograms = histograms.assign(n_sampled=np.nan, n_sampled_err=np.nan)
    if sampled is None:
        return histograms
    (events, score), own = sampled, points[points["variable"] == Statistic.WORKING_POINT]
    for (name, _), part in histograms.dropna(subset=["fpr"]).groupby(["feature", "fpr"]):
        point = own.iloc[nearest(own["fpr"], part["fpr"].iloc[0])]
        passing = np.full(len(score), True) if point["fpr"] >= 1 else score >= point["cut"]
        weight, values = events.weight[passing], events.columns[str(name)][passing]
        if weight.sum() > 0:
            scale, edges = point["n_bkg"] / weight.sum(), np.append(part["bin_low"], part["bin_high"].iloc[-1])
            histograms.loc[part.index, "n_sampled"] = scale * np.histogram(values, edges, weights=weight)[0]
            squares = np.histogram(values, edges, weights=weight**2)[0]
            histograms.loc[part.index, "n_sampled_err"] = scale * np.sqrt(squares)
    return histograms


def cut_result(curves: pd.DataFrame, spectra: Spectra, model: SpectrumModel, n_toys: Toys, stream: Stream) -> CutResult:
    """The headline numbers of cut and count on one sample.

    curves, spectra: of `cut_and_count`, the classifier first. Where several working points share the largest Z0, the
    loosest is named.
    """
    cathode = curves[curves["variable"] == Statistic.WORKING_POINT]
    single = curves[~curves["variable"].isin([Statistic.WORKING_POINT, RANDOM])]
    best = int(cathode["z0"].to_numpy().argmax())
    bare = discoveries(spectra[0], model).one(0)
    local, scan = None, None
    if n_toys.local:
        rng = stream.child("headline toys").generator()
        local = HeadlineToys(*toys.local(spectra[[0, best]], model, n_toys.local, rng))
    if n_toys.scan:
        nested = spectra[: len(cathode)]
        scan = toys.best_of_scan(nested, model, n_toys.scan, stream.child("scan toys").generator())
    return CutResult(
        no_cut=bare,
        cathode_max=ScanPoint.of(cathode.iloc[best]),
        best_feature=ScanPoint.of(single.iloc[int(single["z0"].to_numpy().argmax())]) if len(single) else None,
        sidebands=SidebandQuality(bare.chi2, bare.ndf, bare.p_chi2, bare.p_saturated),
        toys=local,
        global_=scan,
    )


def feature_trials(
    curves: pd.DataFrame, spectra: Spectra, model: SpectrumModel, n_toys: int, rng: np.random.Generator
) -> GlobalSignificance | None:
    """What the best cut on any one feature is worth; None for no feature, or no toys.

    curves, spectra: as for `add_toys`.
    """
    variables = curves["variable"].to_numpy()
    features = [name for name in dict.fromkeys(variables) if name not in (Statistic.WORKING_POINT, RANDOM)]
    if not features or not n_toys:
        return None
    return toys.best_of_scans([spectra[variables == name] for name in features], model, n_toys, rng)


def likelihood_result(
    weighted: Reweighting, mass: FloatArray, model: SpectrumModel, n_toys: Toys, stream: Stream
) -> LikelihoodResult:
    """The headline numbers of the reweighted spectrum. mass: (n_events,), GeV."""
    weights, scales = weighted.weights, "pooled" if weighted.pooled else "per_bin"
    if weights is None:
        return LikelihoodResult(likelihood_reason=weighted.reason, weight_scales=scales)
    behaviour = None
    if n_toys.weights:
        rng = stream.child("weights").generator()
        calibrated, value = toys.weighted_calibration(mass, weights, model, n_toys.weights, rng, weighted.pooled)
        behaviour = WeightCalibration(**vars(calibrated), toys=value)
    pooled = discoveries(Spectra.of(mass, model.bins, weights, pooled=True), model).one(0)
    return LikelihoodResult(
        likelihood=weighted.outcome,
        likelihood_pooled=pooled,
        likelihood_calibration=behaviour,
        weight_scales=scales,
    )
