"""Every column of every table: its unit and its meaning. One place, so that files and documentation agree."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dimuon.features import FEATURES


@dataclass(frozen=True)
class Column:
    """Unit ("" for a pure number, "flag" for true/false, "text" for words) and meaning of a column."""

    unit: str
    meaning: str


def _of_each_muon(column: str, unit: str, meaning: str) -> dict[str, Column]:
    return {
        f"mu0_{column}": Column(unit, meaning.format("the harder muon")),
        f"mu1_{column}": Column(unit, meaning.format("the softer muon")),
    }


COLUMNS: dict[str, Column] = {
    # skim and dimuon tables
    **{name: Column(feature.unit, feature.meaning) for name, feature in FEATURES.items()},
    "run": Column("", "run number"),
    "luminosityBlock": Column("", "luminosity section in the run"),
    "event": Column("", "event number"),
    "charge": Column("text", '"OS" opposite charges, "SS" same charges'),
    "region": Column("text", '"SBL" low sideband, "SR" signal region, "SBH" high sideband'),
    "anti_isolated": Column("flag", "both muons pass the anti-isolation cuts"),
    "dimu_mass": Column("GeV", "dimuon invariant mass"),
    "dimu_phi": Column("rad", "dimuon azimuth"),
    **_of_each_muon("phi", "rad", "azimuth of {}"),
    **_of_each_muon("charge", "e", "charge of {}"),
    **_of_each_muon("dxy", "cm", "transverse impact parameter of {} (signed)"),
    **_of_each_muon("dz", "cm", "longitudinal impact parameter of {} (signed)"),
    "n_muons": Column("", "muons in the event that pass the identification"),
    "n_jets": Column("", "jets in the event"),
    "n_os": Column("events", "opposite-sign dimuons in the bin"),
    "n_ss": Column("events", "same-sign dimuons in the bin"),
    "features_measured": Column("flag", "the features are measured (false: rebuilt)"),
    # flows and background
    "epoch": Column("", "training epoch, from 1"),
    "member": Column("", "member of the ensemble, from 0"),
    "train_loss": Column("nats", "mean negative log-density of training events (flow matching: squared error)"),
    "validation_loss": Column("nats", "mean negative log-density of validation events (flow matching: squared error)"),
    "use": Column("text", 'what a sampled event is for: "train", "validation" or "closure"'),
    # scores
    "row": Column("", "row of the table that was scored"),
    "fold": Column("", "fold whose models scored the event; -1 where the mean of all folds did"),
    "score": Column("", "mean score of the ensemble, 0 (background-like) to 1"),
    "score_std": Column("", "standard deviation of the score over the ensemble"),
    "weight": Column("", "likelihood weight of a dimuon, or the weight that its estimator gives a sampled event"),
    # sculpting and ensemble size
    "n_before": Column("events", "events in the mass bin before the cut"),
    "n_after": Column("events", "events in the mass bin after the cut"),
    "efficiency": Column("", "fraction of the events that pass the cut"),
    "efficiency_low": Column("", "lower end of its 68 % Clopper-Pearson interval"),
    "efficiency_high": Column("", "upper end of its 68 % Clopper-Pearson interval"),
    "efficiency_fit": Column("", "polynomial fitted to the efficiency in the sidebands, interpolated in the SR"),
    "efficiency_fit_err": Column("", "its standard error"),
    "sculpted": Column("flag", "the efficiency in the sidebands varies with the mass beyond what the fit absorbs"),
    "n_members": Column("", "members drawn for the ensemble"),
    "draw": Column("", "bootstrap draw of the members, from 0"),
    "z0_max": Column("sigma", "largest significance over the working points"),
    "z0_likelihood": Column("sigma", "significance of the likelihood reweighting (missing where not defined)"),
    # significance
    "train": Column("text", "charge the classifier was trained on"),
    "test": Column("text", "charge it is applied to"),
    "variable": Column("text", 'what is cut on: "cathode", a feature, or "random"'),
    "baseline": Column("flag", "the analysis's own background function (false: one of its variations, Fig. 4)"),
    "family": Column("text", "family of the background function"),
    "degree": Column("", "degree of the background function: its coefficients less one"),
    "n_bins_sr": Column("", "mass bins over the SR"),
    "fpr": Column("", "fraction of the sideband events that pass the cut"),
    "cut": Column("of the variable", "value of the cut (order statistic of the sideband events)"),
    "n_obs": Column("events", "events observed in the SR"),
    "n_bkg": Column("events", "expected background in the SR from the sideband fit"),
    "n_bkg_err": Column("events", "its standard error"),
    "n_sidebands": Column("events", "events that pass in the sideband bins"),
    "n_sig": Column("events", "fitted signal, n_obs - n_bkg (zero where negative)"),
    "q0": Column("", "discovery test statistic (arXiv:1007.1727, Eq. 12)"),
    "z0": Column("sigma", "asymptotic significance"),
    "z_signed": Column("sigma", "asymptotic significance with the sign of the excess, negative for a deficit"),
    "p0": Column("", "asymptotic p-value of the background-only hypothesis"),
    "valid": Column("flag", "the asymptotic form holds at this count"),
    "chi2": Column("", "Pearson's chi2 of the sideband fit"),
    "ndf": Column("", "sideband bins less free coefficients"),
    "p_chi2": Column("", "p-value of chi2"),
    "p_saturated": Column("", "p-value of the sideband fit by the saturated likelihood"),
    "at_boundary": Column("bins", "bins whose fitted background is held at zero"),
    # studies
    "experiment": Column("", "number of the null dataset, from 0"),
    "seed": Column("", "seed of everything random in the row"),
    "n_injected": Column("events", "signal events added to the sample"),
    "repeat": Column("", "number of the sample among those alike, from 0"),
    "method": Column("text", "how the significance was obtained"),
    "pt_cut": Column("GeV", "dimuon pT at or above which events are kept"),
    "ip3d_cut": Column("cm", "3D impact parameter of both muons at or below which events are kept"),
    "p0_toys": Column("", "p-value from background-only toys; NaN where none were drawn"),
    "p0_toys_err": Column("", "its binomial error"),
    "z0_toys": Column("sigma", "significance that p0_toys stands for"),
    "n_toys": Column("", "toys drawn"),
    "toys_bound": Column("flag", "too few extreme toys: p0_toys is an upper and z0_toys a lower bound"),
    # histograms of step 6
    "bin_low": Column("of the variable", "lower edge of the bin (GeV in the mass histograms)"),
    "bin_high": Column("of the variable", "upper edge of the bin (GeV in the mass histograms)"),
    "n_obs_err": Column("events", "standard error of n_obs"),
    "n_sampled": Column("events", "sampled background, scaled to the expected or to the real events (missing: none)"),
    "n_sampled_err": Column("events", "its standard error"),
    "feature": Column("text", "name of the feature, a column of the dimuon table"),
    "rank": Column("", "place in a ranking, from 1"),
}


NOT_STATED = Column("not stated", "a column of the table of events")


def find(name: str) -> Column | None:
    """The `Column` of that name, a trigger's flag among them; None for any other."""
    return Column("flag", "the event passed this trigger") if name.startswith("HLT_") else COLUMNS.get(name)


def units(names: Iterable[str], declared: Mapping[str, Column] | None = None) -> dict[str, str]:
    """{column: unit} for the named columns. declared: of the analysis at hand, before those that all have.

    KeyError names one that is neither declared, nor in `COLUMNS`, nor a trigger flag.
    """
    own = declared or {}
    return {name: (own.get(name) or find(name) or COLUMNS[name]).unit for name in names}
