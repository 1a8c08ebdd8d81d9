"""Which figures an analysis has: from its saved files to drawings with title, caption and the numbers behind them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from dimuon.data import dimuons, scores
from dimuon.errors import UserError
from dimuon.figures import checks, paper, studies, style
from dimuon.figures.captions import CAPTIONS
from dimuon.figures.style import CHARGE_NAMES, describe_test
from dimuon.statistics import model_choice
from dimuon.statistics.significance import Spectra, discoveries
from dimuon.statistics.working_points import nearest
from dimuon.workflow import executor, products, provenance


@dataclass(frozen=True)
class Drawing:
    """One figure: files `<name>.pdf`, `.png` and `.csv`, and what the report says of it.

    section: heading under which it stands. caption: what is seen and how to read it. origin: of `artifacts.ORIGINS`.
    inputs: the files it was drawn from. table: the numbers it shows. draw: makes the figure.
    """

    name: str
    section: str
    title: str
    caption: str
    origin: str
    inputs: tuple
    table: pd.DataFrame = field(repr=False)
    draw: Callable[[], Figure] = field(repr=False)


class Saved:
    """The saved files of one analysis, each read once; what was asked for and is not there is in `missing`.

    A file that is there but stale or damaged is an error that names it (`artifacts.Run.require`). What not every
    analysis has is in `not_made`, and in `missing` where it is out of date: nothing rests on it, the rest is shown.
    """

    def __init__(self, run):
        self.run, self.config = run, run.config
        self.missing = {}  # {path: how to get it} of every file asked for in vain
        self.not_made = {}  # {path: how to get it} of optional files
        self.used = {}  # {path: content}

    def table(self, path):
        """A parquet file as a DataFrame, or None where it does not exist."""
        return self._content(path, self.run.read_table)

    def json(self, path):
        """The content of a JSON file, or None where it does not exist."""
        return self._content(path, self.run.read_json)

    def optional(self, path):
        """As `table` or `json`, for what not every analysis makes: None where it was not made or is out of date."""
        if not path.exists():
            self.not_made[path] = self._refusal(path).partition("; ")[2]  # it ends with how to get the file
            return None
        whole = provenance.sidecar(path).get("sha256") == provenance.file_hash(path)
        if whole and self.run.stale(path):
            self.missing[path] = "left out: " + self._refusal(path).removeprefix(f"{path}: ")
            return None
        return self.json(path) if path.suffix == ".json" else self.table(path)

    def events(self, test, names=()):
        """The dimuons of one charge (`dimuons.read`) with the named columns, or None where there are none."""
        path = dimuons.paths(self.run)[test]
        if self._content(path, self.run.require) is None:
            return None
        return dimuons.read(self.run, test, names)

    def scored(self, train, test):
        """`events(test)` with the column score of the classifier of `train`, or None where either is not there."""
        path, events = scores.path(self.run, train, test), self.events(test)
        table = self.table(path)
        if table is None or events is None:
            return None
        return events.assign(score=scores.match(table, events, path)["score"].to_numpy())

    @property
    def charges(self):
        """The charges of this analysis that have dimuons."""
        return list(dimuons.paths(self.run))

    @property
    def tests(self):
        """(train, test) of every combination of the charges, the matched ones first."""
        matched = [(charge, charge) for charge in self.charges]
        return matched + [(train, test) for train in self.charges for test in self.charges if train != test]

    @property
    def origin(self):
        """What must be said of the headline (of `artifacts.ORIGINS`): that of `significance.json` and of the dimuons.

        Studies with simulated signal say SIMULATED themselves; they do not make the data so. Where neither file was
        read, that of all that were.
        """
        headline = {self.run.path(products.SIGNIFICANCE), *dimuons.paths(self.run).values()}
        return provenance.origin_of(*([path for path in self.used if path in headline] or self.used))

    @cached_property
    def curves(self):
        """The significance curves, or None."""
        names = products.CURVES.column_names
        path = self.run.path(products.CURVES)
        return self._content(path, partial(self.run.read_table, names=names))

    @cached_property
    def summary(self):
        """The content of `significance.json`, or None."""
        return self.json(self.run.path(products.SIGNIFICANCE))

    def _content(self, path, read):
        if path in self.used:
            return self.used[path]
        if not path.exists():
            self.missing[path] = self._refusal(path).partition("; ")[2]
            return None
        self.used[path] = read(path)
        return self.used[path]

    def _refusal(self, path):
        """Why a file cannot be used, and how to get it, in the words of `artifacts.Run.require`."""
        try:
            self.run.require(path)
        except UserError as reason:
            return str(reason)


def drawings(saved):
    """Every figure that the saved files of an analysis give, in the order of the report; fills `saved.missing`."""
    makers = [_mass_spectra, _p_values, _features, _variations]
    if saved.config.input.scores is None:
        makers += [_convergence, _studies, _scores, _efficiency, _importance, _losses, _closure, _agreement]
        if saved.config.input.dimuons is None:
            makers += [_cutflow, _spectrum]
    model = model_choice.describe(saved.config.significance)
    found = [drawing for make in makers for drawing in make(saved)]
    return [replace(drawing, caption=drawing.caption.format(model=model)) for drawing in found]


def write_all(drawings, folder, workers=None):
    """Write every drawing into `folder`, in parallel processes; returns {name: {suffix: path}}. workers: None: all.

    Figures of an earlier run that are no longer made are removed: those that its `index.json` names.
    """
    before = folder / "index.json"
    earlier = provenance.load_json(before).values() if before.exists() else ()
    with executor.executor(workers) as pool:
        pending = [pool.submit(write, drawing, folder) for drawing in drawings]
        files = [future.result() for future in tqdm(pending, unit="figure", disable=None)]
    current = {path.name for paths in files for path in paths.values()}
    for name in {name for entry in earlier for name in entry["sha256"]} - current:
        (folder / name).unlink(missing_ok=True)
    return {drawing.name: paths for drawing, paths in zip(drawings, files, strict=True)}


def write(drawing, folder):
    """Write one drawing as PDF, PNG and CSV into `folder`; returns {suffix: path}."""
    pdf, png = style.save(drawing.draw(), folder / drawing.name)
    csv = folder / f"{drawing.name}.csv"
    with provenance.atomic(csv) as temporary:
        drawing.table.to_csv(temporary, index=False, float_format="%.8g")
    return {"pdf": pdf, "png": png, "csv": csv}


def index(drawings, files):
    """What `figures/index.json` says: {name: title, caption, origin, inputs and SHA-256 of each file}."""
    return {
        drawing.name: {
            "title": drawing.title,
            "section": drawing.section,
            "caption": drawing.caption,
            "origin": drawing.origin,
            "inputs": [str(path) for path in drawing.inputs],
            "sha256": {path.name: provenance.file_hash(path) for path in files[drawing.name].values()},
        }
        for drawing in drawings
    }


def _drawing(kind, name, section, title, paths, table, draw, *arguments):
    """A `Drawing` of draw(table, *arguments, origin); kind: its caption's key."""
    origin = provenance.origin_of(*paths)
    call = partial(draw, table, *arguments, origin)
    return Drawing(name, section, title, CAPTIONS[kind], origin, tuple(paths), table, call)


def _of_test(table, train, test):
    return table[(table["train"] == train) & (table["test"] == test)].reset_index(drop=True)


def _section(train, test):
    if train != test:
        return "Cross-applications"
    return {"os": "Opposite-sign search", "ss": "Same-sign control"}[test]


def _name(letter, words, train, test):
    """A file name with the paper's figure number where it has one: fig1 the control, fig2 and fig3 the search."""
    number = {("os", "os"): "fig3" if letter == "3" else f"fig2{letter}", ("ss", "ss"): f"fig1{letter}"}
    prefix = number.get((train, test), "cross") if letter != "3" or (train, test) == ("os", "os") else "like_fig3"
    return f"{prefix}_{words}_{train}_on_{test}"


def _mass_spectra(saved):
    path = saved.run.path(products.MASS_HISTOGRAMS)
    spectra = saved.table(path)
    for train, test in saved.tests if spectra is not None else ():
        for variable, part in _of_test(spectra, train, test).groupby("variable"):
            weighted, points = variable == "likelihood", histogram_points(part, saved.config)
            title = f"Dimuon mass, {describe_test(train, test)}" + (", likelihood weights" if weighted else "")
            name = _name("a", f"mass_{variable}", train, test)
            yield _drawing(
                f"mass_{variable}", name, _section(train, test), title, [path], part.reset_index(drop=True),
                paper.mass_spectra, points, saved.config.window,
            )  # fmt: skip


def histogram_points(histograms, config):
    """The test on saved mass histograms themselves, for a legend: fpr, n_obs, n_bkg, z0, valid, one row per FPR.

    histograms: fpr, bin_low, n_obs, n_obs_err in the bins of the analysis. config: of the analysis.
    """
    model = model_choice.model_of(config.significance, config.window)
    bins = model.bins
    parts = [part.sort_values("bin_low") for _, part in histograms.groupby("fpr")]
    counts = np.array([_sr_merged(part["n_obs"], bins) for part in parts])
    squares = np.array([_sr_merged(part["n_obs_err"] ** 2, bins) for part in parts])
    whole = squares.sum(axis=1, keepdims=True) / counts.sum(axis=1, keepdims=True)
    scales = np.where(counts > 0, squares / np.where(counts > 0, counts, 1.0), whole)
    found = discoveries(Spectra(bins, counts, scales), model)
    fprs = [part["fpr"].iloc[0] for part in parts]
    return pd.DataFrame({"fpr": fprs} | {name: getattr(found, name) for name in ("n_obs", "n_bkg", "z0", "valid")})


def _sr_merged(values, bins):
    values = values.to_numpy()
    return np.append(values[~bins.is_sr], values[bins.is_sr].sum())


def _p_values(saved):
    paths = saved.run.path(products.CURVES), saved.run.path(products.SIGNIFICANCE)
    curves, summary = saved.curves, saved.summary
    if curves is None or summary is None:
        return
    for train, test in saved.tests:
        part = _of_test(curves[curves["baseline"]], train, test)
        headline = summary["tests"].get(f"{train}_on_{test}")
        if len(part) and headline is not None:
            title = f"p-value against false-positive rate, {describe_test(train, test)}"
            name = _name("b", "p_values", train, test)
            yield _drawing("p_values", name, _section(train, test), title, paths, part, paper.p_values, headline)


def _features(saved):
    path = saved.run.path(products.FEATURE_HISTOGRAMS)
    if saved.curves is not None and set(saved.curves["variable"]) <= {"cathode", "random"}:
        return  # a table of scores without features has none
    histograms = saved.table(path)
    for train, test in saved.tests if histograms is not None else ():
        part = _of_test(histograms, train, test)
        if len(part):
            title = f"Features in the signal region, {describe_test(train, test)}"
            name = _name("3", "features", train, test)
            yield _drawing("features", name, _section(train, test), title, [path], part, paper.feature_spectra)


def _variations(saved):
    path = saved.run.path(products.CURVES)
    chosen = model_choice.describe(saved.config.significance)
    for train, test in saved.tests if saved.curves is not None else ():
        part = _of_test(saved.curves, train, test)
        part = part[part["variable"] == "cathode"].reset_index(drop=True)
        if not part["baseline"].all():
            title, name = f"Other fits, {describe_test(train, test)}", f"fig4_variations_{train}_on_{test}"
            yield _drawing("variations", name, "Robustness", title, [path], part, paper.variations, chosen)


def _score_paths(saved, train, test):
    return [scores.path(saved.run, train, test), dimuons.paths(saved.run)[test]]


def _scores(saved):
    for train, test in saved.tests:
        events, paths = saved.scored(train, test), _score_paths(saved, train, test)
        if events is None:
            continue
        samples = [events[["score", "region"]]]
        if train == test:
            paths.append(scores.path(saved.run, train, "background"))
            if (sampled := saved.table(paths[-1])) is None:
                paths.pop()
            else:
                samples.insert(0, sampled[["score"]].assign(region=checks.SAMPLED))
        table, title = checks.score_table(pd.concat(samples)), f"Classifier scores, {describe_test(train, test)}"
        name = f"scores_{train}_on_{test}"
        yield _drawing("scores", name, "Classifier", title, paths, table, checks.scores, train, test)


def _efficiency(saved):
    config = saved.config
    for train, test in saved.tests:
        events = saved.scored(train, test)
        if events is None:
            continue
        sideband = events.loc[events["region"] != "SR", "score"]
        cuts = {fpr: sideband.quantile(1 - fpr, "higher") for fpr in config.significance.figure_fprs}
        bins = config.window.binning(config.significance.n_bins_sr)
        table = checks.efficiency_table(events["dimu_mass"].to_numpy(), events["score"].to_numpy(), cuts, bins)
        paths, path = _score_paths(saved, train, test), saved.run.path(products.SCULPTING, train=train, test=test)
        flagged = saved.table(path)
        if flagged is not None:
            paths.append(path)
            table["sculpted"] = [_nearest_flag(flagged, fpr) for fpr in table["fpr"]]
        yield _drawing(
            "efficiency", f"efficiency_{train}_on_{test}", "Classifier",
            f"Efficiency against mass, {describe_test(train, test)}", paths, table,
            checks.efficiency, config.window, train, test,
        )  # fmt: skip


def _nearest_flag(flagged, fpr):
    """Whether the working point of step 5 nearest to a false-positive rate is flagged."""
    return bool(flagged["sculpted"].iloc[nearest(flagged["fpr"], fpr)])


def _losses(saved):
    for charge in saved.charges:
        path = saved.run.path(products.FLOW_LOSSES, charge=charge)
        losses, title = saved.table(path), f"Training of the flows, {CHARGE_NAMES[charge]}"
        if losses is not None:
            name = f"flow_losses_{charge}"
            yield _drawing("flow_losses", name, "Background model", title, [path], losses, checks.flow_losses, charge)


def _closure(saved):
    names = saved.config.features.names
    for charge in saved.charges:
        path = saved.run.path(products.BACKGROUND, charge=charge)
        sampled, events = saved.table(path), saved.events(charge, names)
        if sampled is None or events is None:
            continue
        table = checks.closure_table(events, sampled[sampled["use"] == "closure"], names)
        if len(table):
            paths = [path, dimuons.paths(saved.run)[charge]]
            title = f"Sampled against real sidebands, {CHARGE_NAMES[charge]}"
            name = f"closure_{charge}"
            yield _drawing("closure", name, "Background model", title, paths, table, checks.closure, charge)


def _importance(saved):
    for charge in saved.charges:
        path = saved.run.path(products.IMPORTANCE, charge=charge)
        content = saved.json(path)
        if content is not None:
            rows = [{"feature": name} | values for name, values in content["features"].items()]
            title, name = f"What the {CHARGE_NAMES[charge]} classifier leans on", f"importance_{charge}"
            yield _drawing(
                "importance",
                name,
                "Classifier",
                title,
                [path],
                pd.DataFrame(rows),
                studies.importance,
                charge,
            )


def _convergence(saved):
    path = saved.run.path(products.CONVERGENCE)
    table = saved.optional(path)
    for train, test in saved.tests if table is not None else ():
        part = _of_test(table, train, test)
        if len(part):
            title = f"Ensemble convergence, {describe_test(train, test)}"
            yield _drawing(
                "convergence", f"convergence_{train}_on_{test}", "Robustness", title, [path], part,
                studies.convergence, train, test,
            )  # fmt: skip


def _studies(saved):
    """Figures of the studies that were made and are up to date."""
    for file, kind, draw, by_charge in (
        ("variations", "variation_points", studies.variation_points, True),
        ("pseudoexperiments", "null_distributions", studies.null_distributions, True),
        ("controls", "controls", studies.controls, False),
        ("injection", "injection", studies.injection, False),
        ("cut_scan", "cut_scan", studies.cut_scan, True),
    ):
        path = saved.run.path(products.PRODUCTS[file])
        table = saved.optional(path)
        title = file.replace("_", " ").capitalize()
        if table is None:
            continue
        if not by_charge:
            arguments = [saved.config.studies.gate_fprs] if kind == "controls" else []
            yield _drawing(kind, f"study_{file}", "Robustness", title, [path], table, draw, *arguments)
            continue
        for charge, part in table.groupby("charge"):
            arguments, paths = [charge.lower()], [path]
            if kind == "null_distributions":
                paths.append(path.with_suffix(".json"))
                arguments.insert(0, _observed(saved.optional(paths[-1]), charge.lower()))
            yield _drawing(
                kind, f"study_{file}_{charge.lower()}", "Robustness", f"{title}, {charge}", paths,
                part.reset_index(drop=True), draw, *arguments,
            )  # fmt: skip


def _observed(content, charge):
    """{variable: Z0 of the data, searched as the null datasets are}. content: of `pseudoexperiments.json`, or None."""
    found = content[charge]["data"]["like_nulls"] if content else {}
    return {name: found[name]["asymptotic"] for name in ("no_cut", "cathode_max", "likelihood") if found.get(name)}


def _agreement(saved):
    for charge in saved.charges:
        path = saved.run.path(products.CLOSURE, charge=charge)
        table = checks.agreement_table(saved.json(path) or {})
        if len(table):
            yield _drawing(
                "agreement", f"agreement_{charge}", "Background model",
                f"Agreement of sampled and real events, {CHARGE_NAMES[charge]}", [path], table, checks.agreement,
                saved.config.window, charge,
            )  # fmt: skip


def _cutflow(saved):
    path = saved.run.path(products.CUTFLOW)
    content = saved.json(path)
    if content is not None:
        table = checks.cutflow_table(content["steps"])
        yield _drawing("cutflow", "cutflow", "Data", "Cutflow", [path], table, checks.cutflow)


def _spectrum(saved):
    path = saved.run.path(products.SPECTRUM)
    table = saved.table(path)
    if table is not None:
        yield _drawing("spectrum", "spectrum", "Data", "Inclusive dimuon mass", [path], table, checks.spectrum)
