"""Every file of an analysis, declared once: where it lies, who makes it from which settings, what it means.

Paths, staleness, remedies, `inspect` and the pages `data/README.md` and `results/README.md` (written by
`python -m dimuon.workflow.pages`) all derive from these declarations. The files of the seven steps are declared
here, those of a study in the study's own file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dimuon.columns import COLUMNS, Column
from dimuon.data import schema
from dimuon.registry import Registry


@dataclass(frozen=True)
class Maker:
    """A script or command. command: what stands after `python`. settings: sections (or single keys) of the YAML that
    its files depend on, beside those that the files it reads depend on."""

    command: str
    settings: tuple[str, ...]

    @property
    def is_step(self) -> bool:
        """Whether it is one of the seven numbered scripts."""
        return self.command.endswith(".py")

    @property
    def is_study(self) -> bool:
        """Whether it is a study."""
        return self.command.startswith("-m dimuon study ")

    @property
    def name(self) -> str:
        """Its last word: "05_train_bdts.py", or of a study "controls"."""
        return self.command.split()[-1]


# what steps 3 to 6 depend on, for the studies that repeat them
CHAIN = ("name", "seed", "input", "window", "features", "estimator", "background", "bdt", "significance")

STEP_1 = Maker("01_skim_nanoaod.py", ("name", "seed", "input", "selection.muon_id", "selection.trigger"))
STEP_2 = Maker("02_select_dimuons.py", ("name", "selection", "window"))
STEP_3 = Maker("03_train_flows.py", ("name", "seed", "input", "window", "features", "estimator"))
STEP_4 = Maker("04_sample_background.py", ("name", "seed", "input", "window", "features", "background"))
STEP_5 = Maker("05_train_bdts.py", ("name", "seed", "bdt"))
STEP_6 = Maker("06_significance.py", ("name", "seed", "input.scores", "window", "significance"))
STEP_7 = Maker("07_plots.py", ("name", "figures"))
STEPS = (STEP_1, STEP_2, STEP_3, STEP_4, STEP_5, STEP_6, STEP_7)
EXPORT = Maker("-m dimuon export", ("name",))
LIMITS_MAKER = Maker("-m dimuon limits", ("name", "window", "significance"))
SCAN_MAKER = Maker("-m dimuon scan", (*CHAIN, "studies.members", "studies.retrain_flows", "scan"))
BENCH_MAKER = Maker("-m dimuon bench", (*CHAIN, "bench"))


def study_maker(name: str, *settings: str) -> Maker:
    """The `Maker` of a study that repeats steps 3 to 6. settings: what it depends on beside them."""
    return Maker(f"-m dimuon study {name}", (*CHAIN, *settings))


@dataclass(frozen=True, eq=False)
class Product:
    """A kind of file.

    path: its template, "data/{name}/scores_{train}_on_{test}.parquet"; it starts with data/{name}/ or results/{name}/.
    meaning: in a sentence. columns: of a table, those that `dimuon.columns` knows. own: those that no other table has.
    further: of `pages.FURTHER`, what a table has beside them. optional: only made where the YAML asks for it.
    """

    name: str
    path: str
    maker: Maker
    meaning: str
    columns: tuple[str, ...] = ()
    further: str = ""
    own: Mapping[str, Column] = field(default_factory=dict)
    optional: bool = False

    @property
    def folder(self) -> str:
        """The folder of the repository that it lies in: "data" or "results"."""
        return self.path.partition("/")[0]

    @property
    def inside(self) -> str:
        """The template inside the folder of the analysis."""
        return self.path.partition("/{name}/")[2]

    @property
    def fields(self) -> tuple[str, ...]:
        """What is to be filled in beside the name: ("train", "test")."""
        return tuple(re.findall(r"{(\w+)}", self.inside))

    @property
    def shown(self) -> str:
        """The template as the pages show it: "scores_<train>_on_<test>.parquet"."""
        return self.inside.replace("{", "<").replace("}", ">")

    @property
    def column_names(self) -> tuple[str, ...]:
        """All columns that every such table has."""
        return (*self.columns, *self.own)

    def at(self, folder: Path, **fields: str) -> Path:
        """The path in an analysis's folder. KeyError for a field left out."""
        return folder / self.inside.format(**fields)

    def names(self, path: Path | str) -> bool:
        """Whether a path is one of this kind, judged by its name and the folder it lies in."""
        return self._pattern.fullmatch(str(path)) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        inside = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(self.inside))
        return re.compile(f"(?:.*/)?{inside}")


class Products(Registry[Product]):
    """All products by name; the studies are imported when one is asked for that none of the seven steps makes."""

    def declare(self, product: Product) -> Product:
        """Enter a product and the columns of its own; ValueError where a name is taken."""
        for name, column in product.own.items():
            if COLUMNS.setdefault(name, column) != column:
                raise ValueError(
                    f"{product.name}: column {name} is another table's, too: it belongs into dimuon.columns"
                )
        return self.register(product.name, product)

    def find(self, path: Path | str) -> Product | None:
        """The product that a path is, the most exactly named first; None for any other path."""
        for look in (list(self._parts.values()), self.values()):
            if candidates := [product for product in look if product.names(path)]:
                return max(candidates, key=lambda product: len(re.sub(r"{\w+}", "", product.inside)))
        return None

    def of(self, maker: Maker) -> list[Product]:
        """All that a script or command makes; the studies are not asked for what a step makes."""
        declared = list(self._parts.values()) if maker.is_step else self.values()
        return [product for product in declared if product.maker == maker]

    def maker(self, command: str | None) -> Maker | None:
        """The `Maker` of a command as sidecars give it; None for none that is known."""
        for look in (list(self._parts.values()), self.values()):
            if makers := [product.maker for product in look if product.maker.command == command]:
                return makers[0]
        return None

    def studies(self) -> list[Maker]:
        """The makers that are a study."""
        makers = dict.fromkeys(product.maker for product in self.values() if product.maker.is_study)
        return sorted(makers, key=lambda maker: maker.name)


PRODUCTS = Products("dimuon.studies")

_TEST = ("train", "test")
FOUND = ("z0", "n_obs", "n_bkg", "n_sig", "valid")  # of every test, in the tables of the studies

SIMULATED = Product(
    "simulated",
    "data/{name}/simulated/{file}",
    STEP_1,
    "simulated NanoAOD files with their certified luminosity sections. SIMULATED",
    optional=True,
)
RECORD = Product(
    "record",
    "data/{name}/record_{record}.json",
    STEP_1,
    "the files of a record of the CERN Open Data portal, as the portal listed them",
    optional=True,
)
CERTIFIED_LUMINOSITY = Product(
    "certified_luminosity",
    "data/{name}/certified_luminosity_{record}.json",
    STEP_1,
    "the certified luminosity sections of a record of the portal, as CMS JSON",
    optional=True,
)
SPECTRUM = Product(
    "spectrum",
    "data/{name}/skim/spectrum.parquet",
    STEP_1,
    "inclusive dimuon mass spectrum",
    ("bin_low", "bin_high", "n_os", "n_ss"),
)
SKIM = Product(
    "skim",
    "data/{name}/skim/{input}.parquet",
    STEP_1,
    "events with two muons that pass the ID",
    schema.SKIM,
    "triggers",
)
PROCESSED_LUMINOSITY = Product(
    "processed_luminosity",
    "data/{name}/skim/processed_luminosity.json",
    STEP_1,
    "the certified luminosity sections that were read, as CMS JSON",
)
MANIFEST = Product(
    "manifest",
    "data/{name}/skim/manifest.json",
    STEP_1,
    "what was read, file by file: size, checksum, events, sections, failures",
)
DIMUONS = Product(
    "dimuons",
    "data/{name}/dimuons.parquet",
    STEP_2,
    "selected dimuons in the mass window, before the anti-isolation cut",
    schema.DIMUONS,
)
CUTFLOW = Product(
    "cutflow", "data/{name}/cutflow.json", STEP_2, "events left after each step of the selection, by charge"
)
FLOWS = Product(
    "flows",
    "data/{name}/flows_{charge}.pt",
    STEP_3,
    "the trained flows of one charge, with scaler and settings (weights only)",
)
FLOW_LOSSES = Product(
    "flow_losses",
    "data/{name}/flow_losses_{charge}.parquet",
    STEP_3,
    "the training of the flows",
    ("member", "epoch", "train_loss", "validation_loss"),
)
KEPT_FLOWS = Product(
    "kept_flows",
    "data/{name}/studies/flows_{charge}_{digest}.pt",
    STEP_3,
    "flows that a study trained with other settings, under windows/<sr>/ where the window is another",
    optional=True,
)
BACKGROUND = Product(
    "background",
    "data/{name}/background_{charge}.parquet",
    STEP_4,
    "sampled background",
    ("region", "member", "use", "weight"),
    "mass and features",
)
MASS_FIT = Product(
    "mass_fit", "data/{name}/mass_fit_{charge}.json", STEP_4, "the polynomial of the sideband mass spectrum"
)
CLOSURE = Product(
    "closure",
    "data/{name}/closure_{charge}.json",
    STEP_4,
    "how well sampled events agree with real ones: KS distances, AUC",
)
CLOSURE_HISTOGRAMS = Product(
    "closure_histograms",
    "data/{name}/closure_histograms_{charge}.parquet",
    STEP_4,
    "real and sampled events in the sidebands, feature by feature, with the spread expected where they agree",
    ("region", "feature", "bin_low", "bin_high", "n_sampled", "n_sampled_err"),
    own={
        "n_real": Column("events", "real events"),
        **{
            f"{end}_{level}": Column(
                "events", f"{which} end of the central {level} % interval of n_real where both agree"
            )
            for level in (68, 95)
            for end, which in (("low", "lower"), ("high", "upper"))
        },
    },
)
CLASSIFIERS = Product(
    "classifiers",
    "data/{name}/bdts_{charge}.zip",
    STEP_5,
    "the classifiers of one charge, a file each in the form of their kind, with a manifest",
)
SCORES = Product(
    "scores",
    "data/{name}/scores_{train}_on_{test}.parquet",
    STEP_5,
    "the classifiers' scores of one charge's dimuons, or of the sampled background",
    ("row", "fold", "score", "score_std"),
)
MEMBERS = Product(
    "members",
    "data/{name}/members_{train}_on_{test}.parquet",
    STEP_5,
    "the scores of every member of an ensemble, where the YAML asks for them",
    ("member", "row", "fold", "score"),
    optional=True,
)
SCULPTING_TEST = Product(
    "sculpting_test",
    "data/{name}/sculpting_{train}_on_{test}.json",
    STEP_5,
    "dependence of the score on the mass in the sidebands, against permutations",
)
SCULPTING = Product(
    "sculpting",
    "data/{name}/sculpting_{train}_on_{test}.parquet",
    STEP_5,
    "efficiency of every cut against the mass, with a smooth fit and a flag",
    (
        *("fpr", "cut", "sculpted", "bin_low", "bin_high", "region", "n_before", "n_after"),
        *("efficiency", "efficiency_low", "efficiency_high", "efficiency_fit", "efficiency_fit_err"),
    ),
)
IMPORTANCE = Product(
    "importance", "data/{name}/importance_{charge}.json", STEP_5, "what each feature is worth to the classifier"
)
SIGNIFICANCE = Product(
    "significance",
    "results/{name}/significance.json",
    STEP_6,
    "the headline numbers of every train-test combination",
)
CURVES = Product(
    "significance_curves",
    "results/{name}/significance_curves.parquet",
    STEP_6,
    "the significance at every working point of every variable",
    (
        *_TEST,
        *("variable", "baseline", "family", "degree", "n_bins_sr", "fpr", "cut"),
        *("n_obs", "n_bkg", "n_bkg_err", "n_sig", "n_sidebands", "q0", "z0", "p0", "valid"),
        *("chi2", "ndf", "p_chi2", "p_saturated", "at_boundary"),
        *("p0_toys", "p0_toys_err", "z0_toys", "n_toys", "toys_bound"),
        "sculpted",
    ),
)
MASS_HISTOGRAMS = Product(
    "mass_histograms",
    "results/{name}/mass_histograms.parquet",
    STEP_6,
    "mass spectra with their sideband fits after the figure's working points",
    (
        *_TEST,
        *("variable", "fpr", "bin_low", "bin_high", "region", "n_obs", "n_obs_err", "n_bkg", "n_bkg_err"),
    ),
)
MASS_POINTS = Product(
    "mass_points",
    "results/{name}/mass_points.parquet",
    STEP_6,
    "the test on exactly the spectra of mass_histograms.parquet",
    ("train", "test", "variable", "fpr", "cut", "n_obs", "n_bkg", "n_bkg_err", "z0", "p0", "valid"),
)
EFFICIENCIES = Product(
    "efficiencies",
    "results/{name}/efficiencies.parquet",
    STEP_6,
    "fraction of events that pass the figure's working points against the mass",
    (
        *("train", "test", "fpr", "cut", "bin_low", "bin_high", "region", "n_before", "n_after"),
        *("efficiency", "efficiency_low", "efficiency_high", "sculpted"),
    ),
)
CONFORMAL = Product(
    "conformal",
    "results/{name}/conformal.parquet",
    STEP_6,
    "each working point of the classifier by conformal p-values, without a fit to the mass",
    (*_TEST, "fpr", "cut", "n_obs"),
    own={
        "calibration": Column("text", "the sideband events that the SR is compared with"),
        "n_sr": Column("events", "events in the SR before the cut"),
        "rate": Column("", "fraction of SR events that pass without a signal, by the calibration events"),
        "p_conformal": Column("", "p-value of so many or more SR events that pass"),
        "z_conformal": Column("sigma", "its significance, with the sign of the excess"),
        "p_smallest": Column("", "smallest p-value that one event can have against these calibration events"),
    },
)
FEATURE_HISTOGRAMS = Product(
    "feature_histograms",
    "results/{name}/feature_histograms.parquet",
    STEP_6,
    "features in the SR after the figure's working points (fpr NaN: before anti-isolation)",
    (*_TEST, "feature", "fpr", "bin_low", "bin_high", "n_obs", "n_sampled", "n_sampled_err"),
    optional=True,
)
EVENTS = Product(
    "events",
    "results/{name}/events.parquet",
    STEP_6,
    "the events that made the excess: those of the SR that pass the best cut, the most signal-like first",
    (*_TEST, "row", "score", "weight"),
    "table",
)
FOUND_COLUMNS = Product(
    "found_columns",
    "results/{name}/found_columns.parquet",
    STEP_6,
    "how the excess differs from the background in each column of the table, ranked",
    (*_TEST, "rank", "feature"),
    own={
        "chi2_same": Column("", "chi2 of SR and sidebands having one spectrum after the cut"),
        "ndf_same": Column("", "its degrees of freedom"),
        "p_same": Column("", "its p-value"),
        "trained": Column("flag", "the classifier knows the column"),
        "discrete": Column("flag", "few values, a bin to each"),
        "n_bins": Column("bins", "compared"),
        "n_missing": Column("events", "that pass the cut and have no number in the column"),
        "p_any": Column("", "p_same times the columns compared, at most 1"),
        "z": Column("sigma", "significance that p_same stands for"),
        "auc": Column("", "probability that a signal event has a larger value than a background event"),
        "auc_err": Column("", "its standard error"),
        "mean_signal": Column("of the variable", "mean of the signal, the background subtracted"),
        "mean_signal_err": Column("of the variable", "its standard error"),
        "mean_background": Column("of the variable", "mean of the background"),
        "mean_background_err": Column("of the variable", "its standard error"),
        "p_sampled": Column("", "p-value of sampled background and sidebands having one spectrum"),
        "p_linear": Column("", "p-value of a spectrum that varies linearly with the mass in the sidebands"),
        "doubtful": Column("flag", "it does not, so that the sidebands do not tell the background of the column"),
    },
)
FOUND_SPECTRA = Product(
    "found_spectra",
    "results/{name}/found_spectra.parquet",
    STEP_6,
    "spectra of signal and background in each column of the table, after the best cut and before",
    (*_TEST, "feature", "bin_low", "bin_high", "n_obs", "n_bkg", "n_bkg_err", "n_sampled", "n_sampled_err"),
    own={
        "of_text": Column("flag", "the column holds text; bin_low and bin_high count its values in their order"),
        "values": Column("text", "values in the bin"),
        "n_excess": Column("events", "n_obs - n_bkg"),
        "n_excess_err": Column("events", "its standard error"),
        "n_obs_before": Column("events", "events in the SR before the cut"),
        "n_bkg_before": Column("events", "expected background in the SR before the cut"),
    },
)
PEAKS = Product(
    "peaks",
    "results/{name}/peaks.json",
    STEP_6,
    "the peaks in the SR: how many, masses, widths, events, and the mass scale they imply",
)
PEAK_SPECTRA = Product(
    "peak_spectra",
    "results/{name}/peak_spectra.parquet",
    STEP_6,
    "the mass spectra that peaks were fitted to, with the fit",
    (*_TEST, "variable", "fpr", "bin_low", "bin_high", "region", "n_obs", "n_bkg"),
    own={"n_fit": Column("events", "background and peaks of the fit")},
)
FIGURE_INDEX = Product(
    "figure_index",
    "results/{name}/figures/index.json",
    STEP_7,
    "title, caption, inputs and SHA-256 of every figure",
)
FIGURES = Product(
    "figures",
    "results/{name}/figures/{file}",
    STEP_7,
    "the figures: PDF, PNG, and the numbers behind each as CSV",
    optional=True,
)
REPORT = Product("report", "results/{name}/report.html", STEP_7, "the whole story on one page, self-contained")
REFERENCES = Product(
    "references", "results/{name}/references.bib", STEP_7, "what to cite: paper, data, methods, this software (BibTeX)"
)
_IN_SR = "signal events in the SR that pass the cut, with 95 % confidence (CLs) unless said otherwise"
LIMITS = Product(
    "limits",
    "results/{name}/limits.parquet",
    LIMITS_MAKER,
    "upper limits on the number of signal events, at the working points of mass_histograms.parquet",
    ("train", "test", "fpr", "n_obs", "n_bkg", "valid"),
    own={
        "confidence": Column("", "of the limits"),
        "limit": Column("events", f"observed upper limit: {_IN_SR}"),
        "limit_minus_2": Column("events", "of datasets with background alone: 2.3 % have a lower limit"),
        "limit_minus_1": Column("events", "of datasets with background alone: 16 % have a lower limit"),
        "limit_expected": Column("events", "of datasets with background alone: the median"),
        "limit_plus_1": Column("events", "of datasets with background alone: 84 % have a lower limit"),
        "limit_plus_2": Column("events", "of datasets with background alone: 97.7 % have a lower limit"),
        "injected_limit": Column("events", "injected signal events of which so many pass the cut; NaN: not known"),
        "injected_expected": Column("events", "the same of limit_expected; NaN: not known"),
    },
)
RANGE_FLOWS = Product(
    "range_flows",
    "data/{name}/scan/range_{charge}.pt",
    SCAN_MAKER,
    "the background model of the whole range of the mass scan, from which its null datasets come",
    optional=True,
)
SHARED_FLOWS = Product(
    "shared_flows",
    "data/{name}/scan/shared_{charge}.pt",
    SCAN_MAKER,
    "the background model of the mass scan that is put across each window, where `scan.mode` has one",
    optional=True,
)
WINDOW_FLOWS = Product(
    "window_flows",
    "data/{name}/scan/window_{charge}_{window}.pt",
    SCAN_MAKER,
    "the background model of one window of the mass scan, of those that were trained together with others",
    optional=True,
)
EXPORT_MANIFEST = Product(
    "export_manifest",
    "results/{name}/export/manifest.json",
    EXPORT,
    "what was exported, file by file: meaning, columns with units, sources and SHA-256",
)
EXPORTS = Product(
    "exports",
    "results/{name}/export/{kind}/{file}",
    EXPORT,
    "HEPData tables (`hepdata`), pyhf workspaces (`pyhf`), tables as CSV and JSON (`tables`, `figures`)",
    optional=True,
)

for _product in [value for value in globals().values() if isinstance(value, Product)]:
    PRODUCTS.declare(_product)
