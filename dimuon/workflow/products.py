"""What every file of an analysis is, and the pages that say so: `python -m dimuon.workflow.products` writes both READMEs.

`data/README.md` and `results/README.md` are made from this table, from the columns' and from who makes what, so that
they cannot say anything else than the code.
"""

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from dimuon.bumphunt.cut_and_count import CURVE_FIELDS
from dimuon.columns import COLUMNS
from dimuon.workflow.provenance import MADE_BY


@dataclass(frozen=True)
class File:
    """A kind of file. folder: "data" or "results". meaning: in a sentence.

    columns: of a table. further: of `FURTHER`, what a table has beside them.
    """

    folder: str
    meaning: str
    columns: tuple = ()
    further: str = ""


MUON = tuple(
    f"{muon}_{name}"
    for muon in ("mu0", "mu1")
    for name in ("pt", "eta", "phi", "charge", "ip3d", "dxy", "dz", "iso03", "iso04", "jetiso")
)
SKIM = ("run", "luminosityBlock", "event", "n_muons", "n_jets", *MUON)
DIMUONS = (
    "run", "luminosityBlock", "event", "charge", "region", "anti_isolated", "dimu_mass", "dimu_pt", "dimu_eta",
    "dimu_phi", "mumu_deltaR", "mumu_deltapT", *MUON, "n_muons", "n_jets",
)  # fmt: skip
TEST = ("train", "test")
FOUND = ("z0", "n_obs", "n_bkg", "n_sig", "valid")
TOYS = ("p0_toys", "p0_toys_err", "z0_toys", "n_toys", "toys_bound")

FILES = {
    "skim/spectrum.parquet": File("data", "inclusive dimuon mass spectrum", ("bin_low", "bin_high", "n_os", "n_ss")),
    "skim/*.parquet": File("data", "events with two muons that pass the ID", SKIM, "triggers"),
    "skim/processed_luminosity.json": File("data", "the certified luminosity sections that were read, as CMS JSON"),
    "skim/manifest.json": File("data", "what was read, file by file: size, checksum, events, sections, failures"),
    "simulated/*": File("data", "simulated NanoAOD files with their certified luminosity sections. SIMULATED"),
    "dimuons.parquet": File("data", "selected dimuons in the mass window, before the anti-isolation cut", DIMUONS),
    "cutflow.json": File("data", "events left after each step of the selection, by charge"),
    "flows_*.pt": File("data", "the trained flows of one charge, with scaler and settings (weights only)"),
    "flow_losses_*.parquet": File(
        "data", "the training of the flows", ("member", "epoch", "train_loss", "validation_loss")
    ),
    "background_*.parquet": File(
        "data", "sampled background", ("dimu_mass", "region", "member", "use"), "features"
    ),
    "mass_fit_*.json": File("data", "the polynomial of the sideband mass spectrum"),
    "closure_*.json": File("data", "how well sampled events agree with real ones: KS distances, AUC"),
    "bdts_*.zip": File("data", "the classifiers of one charge as JSON models, with a manifest"),
    "scores_*.parquet": File(
        "data", "the classifiers' scores of one charge's dimuons, or of the sampled background",
        ("row", "fold", "score", "score_std"),
    ),
    "members_*.parquet": File(
        "data", "the scores of every member of an ensemble, where the YAML asks for them",
        ("member", "row", "fold", "score"),
    ),
    "sculpting_*.json": File("data", "dependence of the score on the mass in the sidebands, against permutations"),
    "sculpting_*.parquet": File(
        "data", "efficiency of every cut against the mass, with a smooth fit and a flag",
        ("fpr", "cut", "sculpted", "bin_low", "bin_high", "region", "n_before", "n_after", "efficiency",
         "efficiency_low", "efficiency_high", "efficiency_fit", "efficiency_fit_err"),
    ),
    "importance_*.json": File("data", "what each feature is worth to the classifier"),
    "significance.json": File("results", "the headline numbers of every train-test combination"),
    "significance_curves.parquet": File(
        "results", "the significance at every working point of every variable",
        (*TEST, "variable", "baseline", "family", "degree", "n_bins_sr", "fpr", "cut", *CURVE_FIELDS, *TOYS,
         "sculpted"),
    ),
    "mass_histograms.parquet": File(
        "results", "mass spectra with their sideband fits after the figure's working points",
        (*TEST, "variable", "fpr", "bin_low", "bin_high", "region", "n_obs", "n_obs_err", "n_bkg", "n_bkg_err"),
    ),
    "feature_histograms.parquet": File(
        "results", "features in the SR after the figure's working points (fpr NaN: before anti-isolation)",
        (*TEST, "feature", "fpr", "bin_low", "bin_high", "n_obs"),
    ),
    "convergence.parquet": File(
        "results", "Z0 of ensembles drawn again from their members, by their number",
        (*TEST, "n_members", "draw", "z0_max", "z0_likelihood"),
    ),
    "studies/variations.parquet": File(
        "results", "the significances after every systematic variation",
        ("charge", "kind", "variation", "seed", "degree", "n_bins_sr", "variable", "fpr", "p0", *FOUND),
    ),
    "studies/pseudoexperiments.parquet": File(
        "results", "the significances of every null dataset",
        ("charge", "experiment", "seed", "member", "variable", "fpr", *FOUND),
    ),
    "studies/controls.parquet": File(
        "results", "the significances where there is no signal", ("control", "seed", "variable", "fpr", *FOUND)
    ),
    "studies/injection.parquet": File(
        "results", "the significances with signal events injected. SIMULATED",
        ("n_injected", "repeat", "seed", "method", "fpr", "z0", "n_obs", "n_bkg", "n_kept"),
    ),
    "studies/cut_scan.parquet": File(
        "results", "the significance after every pair of classical cuts",
        ("charge", "pt_cut", "ip3d_cut", *FOUND, "n_bkg_err"),
    ),
    "studies/cut_scan_toys.parquet": File(
        "results", "the best pair of cuts of every null dataset",
        ("charge", "experiment", "seed", "pt_cut", "ip3d_cut", "z0"),
    ),
    "studies/*": File("results", "of each study made, its verdicts (JSON) and the ledger of what is done"),
    "figures/index.json": File("results", "title, caption, inputs and SHA-256 of every figure"),
    "figures/*": File("results", "the figures: PDF, PNG, and the numbers behind each as CSV"),
    "report.html": File("results", "the whole story on one page, self-contained"),
}  # fmt: skip


FURTHER = {
    "": "",
    "features": "and the features of the configuration",
    "triggers": "and a flag named as each trigger",
}


def find(path):
    """The `File` that a path of an analysis is, or None for any other path."""
    path = Path(path)
    names = {path.name, f"{path.parent.name}/{path.name}"}
    return next((FILES[pattern] for pattern in FILES if any(fnmatch(name, pattern) for name in names)), None)


def meaning(path):
    """What a path of an analysis is, in a sentence, or None for any other path."""
    file = find(path)
    return file.meaning if file else None


def step(pattern):
    """The script or command that makes the files of a pattern of `FILES`."""
    if pattern == "studies/*":
        return "-m dimuon study"
    return next(script for made, script in MADE_BY.items() if fnmatch(pattern, made))


INTRODUCTIONS = {
    "data": """# data/

One folder per analysis, `data/<name>/`, holds what the steps hand to each other. Nothing here is under version control;
every file can be made again with the step named. A charge in a file name is `os` or `ss`.
""",
    "results": """# results/

One folder per analysis, `results/<name>/`, holds its results. Nothing here is under version control; every file can be
made again with the step named.
""",
}
SIDECAR = """
Beside each file lies `<file>.meta.json`: the step that made it, the settings and the SHA-256 of the inputs it was made
from, its own SHA-256, seed, rows, units, package versions, commit, time.
`python -m dimuon inspect FILE` shows all of it
in words. The figures share `figures/index.json` instead.
"""


def page(folder):
    """The text of `data/README.md` or `results/README.md`."""
    chosen = {pattern: file for pattern, file in FILES.items() if file.folder == folder}
    lines = [INTRODUCTIONS[folder], "| file | made by | what |", "|---|---|---|"]
    lines += [f"| `{pattern}` | `{step(pattern)}` | {file.meaning} |" for pattern, file in chosen.items()]
    lines.append(SIDECAR)
    for pattern, file in chosen.items():
        if file.columns:
            lines += [f"## `{pattern}`", "", "| column | unit | meaning |", "|---|---|---|"]
            lines += [f"| `{name}` | {COLUMNS[name].unit} | {COLUMNS[name].meaning} |" for name in file.columns]
            lines += ["", *([FURTHER[file.further], ""] if file.further else [])]
    lines.append("<!-- written by python -m dimuon.workflow.products -->")
    return "\n".join(lines) + "\n"


def main():
    """Write both pages, in the folder the command is given in."""
    for folder in INTRODUCTIONS:
        (Path(folder) / "README.md").write_text(page(folder), encoding="utf-8")


if __name__ == "__main__":
    main()
