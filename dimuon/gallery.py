"""Which figures an analysis has: from its saved files to drawings with title, caption and the numbers behind them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from dimuon import artifacts, checks, dimuons, figures, plotting
from dimuon.errors import UserError

log = logging.getLogger("dimuon")


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

    A file that is there but stale or damaged is an error that names it (`artifacts.Run.require`).
    """

    def __init__(self, run):
        self.run = run
        self.missing = []  # (path, remedy) of every file asked for in vain
        self.used = {}  # path: content

    def table(self, path):
        """A parquet file as a DataFrame, or None where it does not exist."""
        return self._content(path, self.run.read_table)

    def json(self, path):
        """The content of a JSON file, or None where it does not exist."""
        return self._content(path, self.run.read_json)

    def _content(self, path, read):
        if path not in self.used and path.exists():
            self.used[path] = read(path)
        if path not in self.used and path not in dict(self.missing):
            try:
                self.run.require(path)
            except UserError as reason:  # the way to get the file is part of the reason
                self.missing.append((path, str(reason).partition("; ")[2]))
        return self.used.get(path)

    def origin(self, *paths):
        """What must be said of numbers from these files, and of the dimuons behind them."""
        return artifacts.origin_of(*paths)


def drawings(saved):
    """Every figure that the saved files of an analysis give, in the order of the report; fills `saved.missing`."""
    makers = (_mass_spectra, _p_values, _features, _losses)
    return [drawing for make in makers for drawing in make(saved)]


def write(drawing, folder):
    """Write one drawing as PDF, PNG and CSV into `folder`; returns {suffix: path}."""
    pdf, png = plotting.save(drawing.draw(), folder / drawing.name)
    csv = folder / f"{drawing.name}.csv"
    with artifacts.atomic(csv) as temporary:
        drawing.table.to_csv(temporary, index=False, float_format="%.8g")
    return {"pdf": pdf, "png": png, "csv": csv}


def _tests(saved):
    """(train, test) of every combination that the charges of this analysis allow, the matched ones first."""
    charges = saved.run.config.selection.charges
    matched = [(charge, charge) for charge in charges]
    return matched + [(train, test) for train in charges for test in charges if train != test]


def _of_test(table, train, test):
    return table[(table["train"] == train) & (table["test"] == test)].reset_index(drop=True)


def _section(train, test):
    if train != test:
        return "Cross-applications"
    return {"os": "Opposite-sign search", "ss": "Same-sign control"}[test]


def _stem(train, test, letter):
    """The paper's figure number in a file name: fig1 for the control, fig2 for the search."""
    number = {("os", "os"): "fig2", ("ss", "ss"): "fig1"}.get((train, test))
    return f"{number}{letter}" if number else "cross"


def _mass_spectra(saved):
    run = saved.run
    paths = run.results / "mass_histograms.parquet", run.results / "significance_curves.parquet"
    spectra, curves = (saved.table(path) for path in paths)
    if spectra is None or curves is None:
        return
    for train, test in _tests(saved):
        for variable in ("cathode", "likelihood"):
            part = _of_test(spectra, train, test)
            part = part[part["variable"] == variable].reset_index(drop=True)
            if part.empty:
                continue
            points = _baseline(_of_test(curves, train, test), run.config)
            points = points[points["variable"] == variable]
            origin = saved.origin(*paths)
            weighted = variable == "likelihood"
            yield Drawing(
                name=f"{_stem(train, test, 'a')}_mass_{variable}_{train}_on_{test}",
                section=_section(train, test),
                title=f"Dimuon mass, {figures.describe_test(train, test)}"
                + (", likelihood weights" if weighted else ""),
                caption=MASS_CAPTIONS[variable],
                origin=origin,
                inputs=paths,
                table=part,
                draw=lambda part=part, points=points, origin=origin: figures.mass_spectra(
                    part, points, run.config.window, origin
                ),
            )


MASS_CAPTIONS = {
    "cathode": "Dimuon mass after cuts on the classifier, one colour and marker per false-positive rate (FPR: the "
    "fraction of sideband events kept). The dashed polynomial is fitted to the sidebands alone, outside the two "
    "vertical lines, and interpolated between them; its band there is the error of the fit. A resonance stands above "
    "the dashed line between the lines and nowhere else. Below, the pulls of each cut: signed square root of the "
    "Poisson deviance, grey within one. (!) marks points where the asymptotic significance does not hold.",
    "likelihood": "Dimuon mass with every event weighted by its estimated signal-to-background likelihood ratio. The "
    "dashed polynomial is fitted to the sidebands alone; the band is its error in the signal region.",
}


def _baseline(curves, config):
    """The curves of the analysis's own degree and binning."""
    own = (curves["degree"] == config.significance.degree) & (
        curves["n_bins_sr"] == config.significance.n_bins_sr
    )
    return curves[own]


def _p_values(saved):
    run = saved.run
    paths = run.results / "significance_curves.parquet", run.results / "significance.json"
    curves, summary = saved.table(paths[0]), saved.json(paths[1])
    if curves is None or summary is None:
        return
    for train, test in _tests(saved):
        part = _baseline(_of_test(curves, train, test), run.config).reset_index(drop=True)
        headline = summary["tests"].get(f"{train}_on_{test}")
        if part.empty or headline is None:
            continue
        origin = saved.origin(*paths)
        yield Drawing(
            name=f"{_stem(train, test, 'b')}_p_values_{train}_on_{test}",
            section=_section(train, test),
            title=f"p-value against false-positive rate, {figures.describe_test(train, test)}",
            caption="Local p-value (left) and significance (right) of the excess in the signal region against the fraction "
            "of sideband events kept, for the classifier, for a cut on each feature alone and for a random cut. Lower is "
            "more significant. Open markers: too few events for the asymptotic formula. The horizontal lines are the "
            "likelihood-reweighted value and, where toys were run, the value after correction for the cuts scanned.",
            origin=origin,
            inputs=paths,
            table=part,
            draw=lambda part=part, headline=headline, origin=origin: figures.p_values(part, headline, origin),
        )


def _features(saved):
    path = saved.run.results / "feature_histograms.parquet"
    histograms = saved.table(path)
    if histograms is None:
        return
    for train, test in _tests(saved):
        part = _of_test(histograms, train, test)
        if part.empty:
            continue
        origin = saved.origin(path)
        number = "fig3" if train == test == "os" else _stem(train, test, "c")
        yield Drawing(
            name=f"{number}_features_{train}_on_{test}",
            section=_section(train, test),
            title=f"Features in the signal region, {figures.describe_test(train, test)}",
            caption="What the classifier keeps: the features of the events in the signal region after each cut. Dashed: "
            "before the anti-isolation cut, where that is known.",
            origin=origin,
            inputs=(path,),
            table=part,
            draw=lambda part=part, origin=origin: figures.feature_spectra(part, origin),
        )


def _losses(saved):
    for charge in dimuons.paths(saved.run):
        path = saved.run.data / f"flow_losses_{charge}.parquet"
        losses = saved.table(path)
        if losses is None:
            continue
        origin = saved.origin(path)
        yield Drawing(
            name=f"flow_losses_{charge}",
            section="Background model",
            title=f"Training of the flows, {plotting.CHARGE_NAMES[charge]}",
            caption="Mean negative log-density of the sideband events that the flows were trained on (dotted) and of those "
            "held out, epoch by epoch. The circle is the state kept, the lowest validation loss. A validation loss that "
            "rises while the training loss falls is overtraining.",
            origin=origin,
            inputs=(path,),
            table=losses,
            draw=lambda losses=losses, charge=charge, origin=origin: checks.flow_losses(
                losses, charge, origin
            ),
        )


def index(drawings, files):
    """What `figures/index.json` says: {name: title, caption, origin, inputs and SHA-256 of each file}."""
    return {
        drawing.name: {
            "title": drawing.title,
            "section": drawing.section,
            "caption": drawing.caption,
            "origin": drawing.origin,
            "inputs": [str(path) for path in drawing.inputs],
            "sha256": {path.name: artifacts.file_hash(path) for path in files[drawing.name].values()},
        }
        for drawing in drawings
    }
