"""Step 6 on one scored sample: cut and count at every working point, and the spectrum reweighted by the likelihood."""

import numpy as np
import pandas as pd

from dimuon.features import FEATURES
from dimuon.statistics import sculpting, toys
from dimuon.statistics.ensemble import MedianCut
from dimuon.statistics.families import Polynomial
from dimuon.statistics.significance import Spectra, discoveries, likelihood_weights, sideband_fits
from dimuon.statistics.working_points import CutVariable

CURVE_FIELDS = (
    "n_obs", "n_bkg", "n_bkg_err", "n_sig", "n_sidebands", "q0", "z0", "p0", "valid",
    "chi2", "ndf", "p_chi2", "p_saturated", "at_boundary",
)  # fmt: skip

SCULPTING_TOYS = 200  # enough for a p-value at the level of the flag, 1 %


def cut_variables(score, features, rng, members=None):
    """What is cut on: the classifier ("cathode"), each feature on its signal side, and a random number.

    score: (n_events,). features: {name: (n_events,)}. rng: `numpy.random.Generator` of the random cut. members:
    (n_events, n_members) scores to combine by the median of their histograms; None: the score is cut on.
    """
    classifier = CutVariable("cathode", score) if members is None else MedianCut("cathode", score, members=members)
    classical = [CutVariable(name, values, FEATURES[name].signal_side) for name, values in features.items()]
    return [classifier, *classical, CutVariable("random", rng.uniform(size=len(score)))]


def cut_and_count(mass, variables, fprs, model):
    """The significance at every working point of every variable (paper, step 4a): (DataFrame, `Spectra`), row for row.

    mass: (n_events,), GeV. variables: list of `CutVariable`. fprs: (n,). model: of the background, in its own
    bins. Columns: variable, family, degree, n_bins_sr, fpr, cut and the fields of `Discovery`.
    """
    by_variable, cuts = zip(*(variable.spectra(mass, model.bins, fprs) for variable in variables), strict=True)
    spectra = Spectra.joined(by_variable)
    found, chosen = discoveries(spectra, model), model.chosen(spectra)
    labels = {
        "variable": np.repeat([variable.name for variable in variables], len(fprs)),
        "family": [family.name for family in chosen],
        "degree": [family.degree for family in chosen],
        "n_bins_sr": model.bins.n_bins_sr,
        "fpr": np.tile(fprs, len(variables)),
        "cut": np.concatenate(cuts),
    }
    no_toys = {"p0_toys": np.nan, "p0_toys_err": np.nan, "z0_toys": np.nan, "n_toys": 0, "toys_bound": False}
    return pd.DataFrame(labels | {name: getattr(found, name) for name in CURVE_FIELDS} | no_toys), spectra


def add_toys(curves, spectra, model, n_toys, rng):
    """`curves` with toy values where the asymptotic form does not hold, for all but the random cut.

    curves, spectra: of `cut_and_count`. Columns filled: p0_toys, p0_toys_err, z0_toys, n_toys, toys_bound.
    """
    chosen = np.flatnonzero(~curves["valid"] & (curves["variable"] != "random") & (n_toys > 0))
    curves = curves.copy()
    if chosen.size:
        values = pd.DataFrame([value.asdict() for value in toys.local(spectra[chosen], model, n_toys, rng)])
        names = {"p0_toys": "p0", "p0_toys_err": "p0_err", "z0_toys": "z0", "n_toys": "n_toys", "toys_bound": "bound"}
        for column, name in names.items():
            curves.loc[curves.index[chosen], column] = values[name].to_numpy()
    return curves


def add_sculpting(curves, mass, variables, fprs, bins, degree, rng):
    """`curves` of the same variables and fprs with a column sculpted: see `dimuon.statistics.sculpting.flags`."""
    sideband = bins.window.in_sidebands(mass)
    kept = np.concatenate([variable.scan(sideband, fprs).kept for variable in variables])
    fits = sculpting.flags(mass, kept, bins, degree, rng, n_toys=SCULPTING_TOYS)
    return curves.assign(sculpted=pd.array(fits.sculpted, dtype="boolean"))


def variations(mass, variables, fprs, baseline, degrees, binnings):
    """`cut_and_count` with other degrees and numbers of SR bins than the baseline's (paper, Fig. 4), None for none."""
    window = baseline.bins.window
    families = [Polynomial(window.binning(n_bins_sr), degree) for degree in degrees for n_bins_sr in binnings]
    frames = [cut_and_count(mass, variables, fprs, family)[0] for family in families if family != baseline]
    return pd.concat(frames, ignore_index=True) if frames else None


def marked(own, others):
    """The curves of the analysis's own background function and, after them, of `variations` (None: none).

    The column baseline tells them apart: neither family nor degree does where the function is chosen by the data.
    """
    return pd.concat([own.assign(baseline=True), *([] if others is None else [others.assign(baseline=False)])])


def reweighted(mass, score, model, weights=None):
    """The test on the spectrum weighted by the likelihood (paper, step 4b): (`Discovery`, weights), or (reason, None)
    where it is not defined.

    weights: (n_events,) to use in place of those from the score; None: from the score.
    """
    if weights is None:
        bare = discoveries(Spectra.of(mass, model.bins), model).one(0)
        try:
            weights = likelihood_weights(score, bare.n_sig, bare.n_bkg)
        except ValueError as error:
            return str(error), None
    return discoveries(Spectra.of(mass, model.bins, weights), model).one(0), weights


def mass_histogram(mass, model, weights=None):
    """The mass spectrum with its sideband fit, for a figure: a DataFrame, one row per bin.

    Columns: bin_low, bin_high [GeV], region, n_obs (sum of weights), n_obs_err, n_bkg, n_bkg_err.
    """
    bins = model.bins
    low, high = bins.edges[:-1], bins.edges[1:]
    fit = sideband_fits(Spectra.of(mass, bins, weights), model)[0]
    squares = None if weights is None else np.square(weights)
    return pd.DataFrame({
        "bin_low": low, "bin_high": high, "region": bins.window.region((low + high) / 2),
        "n_obs": bins.counts(mass, weights), "n_obs_err": np.sqrt(bins.counts(mass, squares)),
        "n_bkg": fit.expected(bins.edges), "n_bkg_err": fit.expected_err(bins.edges),
    })  # fmt: skip


def mass_histograms(mass, variable, fprs, model, weights=None):
    """`mass_histogram` after each cut on `variable`, and of the reweighted spectrum where there are weights.

    fprs: (n,). Further columns: variable (its name, or "likelihood") and fpr (1 for "likelihood").
    """
    scan = variable.scan(model.bins.window.in_sidebands(mass), fprs)
    frames = [
        mass_histogram(mass[kept], model).assign(variable=variable.name, fpr=fpr)
        for fpr, kept in zip(scan.fpr, scan.kept, strict=True)
    ]
    if weights is not None:
        frames.append(mass_histogram(mass, model, weights).assign(variable="likelihood", fpr=1.0))
    return pd.concat(frames, ignore_index=True)


def feature_histograms(mass, features, variable, fprs, window, before=None):
    """The features in the SR after each cut on `variable`: a DataFrame with feature, fpr, bin_low, bin_high, n_obs.

    features: {name: (n_events,)}. before: {name: values} with "dimu_mass", of the events before the anti-isolation;
    they have fpr NaN. Values outside the histogram's range (`FEATURES`) are in none of its bins.
    """
    scan = variable.scan(window.in_sidebands(mass), fprs)
    in_sr = window.in_sr(mass)
    frames = []
    for name, values in features.items():
        samples = [(fpr, values[kept & in_sr]) for fpr, kept in zip(scan.fpr, scan.kept, strict=True)]
        if before is not None:
            samples.insert(0, (np.nan, before[name][window.in_sr(before["dimu_mass"])]))
        edges = FEATURES[name].edges
        for fpr, sample in samples:
            n_obs = np.histogram(sample, edges)[0].astype(float)
            bins = {"bin_low": edges[:-1], "bin_high": edges[1:], "n_obs": n_obs}
            frames.append(pd.DataFrame({"feature": name, "fpr": fpr} | bins))
    return pd.concat(frames, ignore_index=True) if frames else None


def summary(curves, spectra, model, n_toys, stream):
    """The headline numbers of cut and count on one sample, for `significance.json`.

    curves, spectra: of `cut_and_count`, the classifier first. n_toys: with `local` and `scan`, the numbers of toys.
    stream: gives the random generator of a name. Where several working points share the largest Z0, the loosest is
    named.
    """
    cathode = curves[curves["variable"] == "cathode"]
    single = curves[~curves["variable"].isin(["cathode", "random"])]
    best = cathode["z0"].to_numpy().argmax()
    bare = plain(discoveries(spectra[0], model).one(0).asdict())
    local, scan = None, None
    if n_toys.local:
        values = toys.local(spectra[[0, best]], model, n_toys.local, stream("headline toys"))
        local = dict(zip(("no_cut", "cathode_max"), (value.asdict() for value in values), strict=True))
    if n_toys.scan:
        nested = spectra[: len(cathode)]
        scan = toys.best_of_scan(nested, model, n_toys.scan, stream("scan toys")).asdict()
    return {
        "no_cut": bare,
        "cathode_max": plain(cathode.iloc[best].to_dict()),
        "best_feature": plain(single.loc[single["z0"].idxmax()].to_dict()) if len(single) else None,
        "sidebands": {name: bare[name] for name in ("chi2", "ndf", "p_chi2", "p_saturated")},
        "toys": local,
        "global": scan,
    }


def summary_of_weights(likelihood, mass, weights, model, n_toys, rng):
    """The headline numbers of the reweighted spectrum. likelihood, weights: of `reweighted`; n_toys: with `weights`."""
    if weights is None:
        absent = ("likelihood", "likelihood_pooled", "likelihood_calibration")
        return {"likelihood_reason": likelihood} | dict.fromkeys(absent)
    behaviour = None
    if n_toys.weights:
        calibrated, value = toys.weighted_calibration(mass, weights, model, n_toys.weights, rng)
        behaviour = calibrated.asdict() | {"toys": value.asdict()}
    pooled = discoveries(Spectra.of(mass, model.bins, weights, pooled=True), model).one(0)
    return {
        "likelihood": plain(likelihood.asdict()),
        "likelihood_pooled": plain(pooled.asdict()),
        "likelihood_reason": None,
        "likelihood_calibration": behaviour,
    }


def headlines(tests):
    """The headline numbers of every test as a table, for the screen. tests: {name: summary}."""
    lines = [f"{'Z0':<12}{'no cut':>10}{'best classifier cut':>24}{'best feature cut':>28}{'likelihood':>14}"]
    lines[0] += f"{'one scale':>12}{'bias':>8}"
    for name, test in tests.items():
        cut, single, weighted = test["cathode_max"], test["best_feature"], test["likelihood"]
        lines.append(
            f"{name:<12}{_z(test['no_cut']):>10}"
            f"{_z(cut) + ' at FPR {:.3g}'.format(cut['fpr']):>24}"
            + (f"{_z(single) + ' on ' + single['variable']:>28}" if single else f"{'none':>28}")
            + (
                f"{_z(weighted):>14}{_of_weights(test)}"
                if weighted
                else f"{'absent':>14}  ({test['likelihood_reason']})"
            )
        )
    return "\n".join([
        *lines,
        "(!) too few events for the asymptotic formula",
        "one scale: the likelihood with one scale of the weights for all sidebands",
        "bias: what the likelihood reads on background alone, on the mean",
    ])  # fmt: skip


def _of_weights(test):
    """What to read beside a likelihood value: the one with a common scale, and the bias on background alone."""
    pooled, behaviour = test.get("likelihood_pooled"), test.get("likelihood_calibration")
    return f"{_z(pooled) if pooled else '-':>12}" + (f"{behaviour['mean']:>+8.2f}" if behaviour else f"{'-':>8}")


def _z(record):
    return f"{record['z0']:.2f}" + ("" if record["valid"] else " (!)")


def plain(record):
    """The record with Python's own types; a number that is not defined becomes None."""
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in record.items()}
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in values.items()
    }
