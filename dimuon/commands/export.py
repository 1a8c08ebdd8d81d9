"""Write the results for others: HEPData tables, pyhf workspaces, CSV and JSON.

After step 7. Under results/<name>/export/, or in another folder:

  manifest.json  every file: meaning, columns with units, sources and their SHA-256; what could not be written, and why
  tables/        headline numbers and every table of results, as CSV and JSON
  figures/       the numbers of every figure, as CSV and JSON
  hepdata/       the same for HEPData, with errors and qualifiers; submission.tar.gz is what is uploaded
  pyhf/          the test of a working point and the likelihood test, as workspaces; workspaces.json says what each is
                 of and how far pyhf agrees

HEPData tables and workspaces need the extra `export`: pip install 'dimuon[export]'.
"""

import argparse
import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path

from dimuon.data import samples
from dimuon.data.samples import Sample
from dimuon.errors import UserError
from dimuon.exports import hepdata, stated
from dimuon.exports.finished import HEADLINE_COLUMNS, FigureNumbers, Finished
from dimuon.exports.folder import Folder, as_json
from dimuon.exports.layout import layouts
from dimuon.exports.workspaces import Workspaces
from dimuon.statistics import model_choice
from dimuon.workflow import cli, config, products, provenance
from dimuon.workflow.provenance import Run

log = logging.getLogger("dimuon")

HEADLINES = "Headline numbers of every test"
INSTALL = "pip install 'dimuon[export]'"
LIBRARIES = {"hepdata_lib": "HEPData tables", "pyhf": "pyhf workspaces"}  # of the extra `export`, and what needs them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands after `export`."""
    parser.add_argument("config", metavar="CONFIG.yaml", help="the analysis, e.g. configs/demo.yaml")
    parser.add_argument("--to", metavar="FOLDER", type=Path, help="where to write (default: results/<name>/export/)")
    parser.add_argument(
        "--fpr", type=float, help="working point of the pyhf workspaces, above 0 and at most 1 (default: the best cut)"
    )
    parser.add_argument("--sample", help="pyhf workspaces of the tests on this sample alone, e.g. os (default: of all)")


def main(arguments: argparse.Namespace) -> None:
    """Read, check and write."""
    run = Run(config.load(arguments.config), products.EXPORT.command, arguments.config)
    if arguments.fpr is not None and not 0 < arguments.fpr <= 1:
        raise UserError(f"--fpr {arguments.fpr:g}: a false-positive rate lies above 0 and is at most 1")
    finished = Finished(run)
    finished.require()
    tested = _tested(run, finished, arguments.sample)
    folder = Folder(arguments.to or run.path(products.EXPORT_MANIFEST).parent)
    folder.require_writable()

    figures = list(finished.figures())
    write_tables(finished, folder)
    write_figures(run, figures, folder)
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    for name in missing:
        folder.absent[LIBRARIES[name]] = f"{name} is not installed: {INSTALL}"
    if missing:
        what, which = (" and ".join(words) for words in ([LIBRARIES[name] for name in missing], missing))
        log.warning("%s are left out, %s is not installed: %s", what, which, INSTALL)
    if "hepdata_lib" not in missing:
        write_hepdata(run, finished, figures, folder)
    if "pyhf" not in missing:
        write_workspaces(Workspaces(run.config, finished.results, arguments.fpr, folder.absent), tested, folder)

    path = folder.finish(run, about(run, finished), [finished.significance_path, run.path(products.FIGURE_INDEX)])
    for what, reason in folder.absent.items():
        log.info("not written: %s: %s", what, reason)
    log.info("%d files in %s, listed in %s", len(folder.entries), folder.place, path.name)


def write_tables(finished: Finished, folder: Folder) -> None:
    """The headline numbers and every table of results."""
    source = finished.significance_path
    folder.write_table("tables/headlines", finished.headlines(), HEADLINES, [source], HEADLINE_COLUMNS)
    meaning = products.SIGNIFICANCE.meaning
    folder.write("tables/significance.json", as_json(finished.significance), f"{meaning}, in full", [source])
    for table in finished.tables():
        inside = table.path.relative_to(finished.run.results).with_suffix("")
        stem = "tables/" + "_".join(inside.parts)
        folder.write_table(stem, table.frame, table.product.meaning, [table.path], table.columns)


def write_figures(run: Run, figures: list[FigureNumbers], folder: Folder) -> None:
    """The numbers of every figure."""
    own = run.config.declared_columns
    for figure in figures:
        meaning = f"numbers of the figure: {figure.title}"
        folder.write_table(f"figures/{figure.name}", figure.frame, meaning, [figure.path], own)


def write_hepdata(run: Run, finished: Finished, figures: list[FigureNumbers], folder: Folder) -> None:
    """The headline numbers and those of every figure for HEPData."""
    text = stated.summary(run.config, model_choice.describe(run.config.significance))
    entries = list(hepdata_entries(run, finished, figures))
    submission = hepdata.Submission(f"{text} Data: {finished.origin.label}.", entries)
    with cli.explained(what=folder.place / "hepdata"):
        files = submission.files()
    tables, sources = {entry.file: entry for entry in entries}, [figure.path for figure in figures]
    for name, content in files.items():
        entry = tables.get(name)
        if entry:
            folder.write(f"hepdata/{name}", content, f"HEPData table {entry.name}", [entry.source])
        else:
            meaning = "all of it, to be uploaded" if name == hepdata.ARCHIVE else "what is in the submission"
            folder.write(f"hepdata/{name}", content, meaning, sources)


def hepdata_entries(run: Run, finished: Finished, figures: list[FigureNumbers]) -> Iterator[hepdata.Entry]:
    """The table of the headline numbers, and those of every figure."""
    yield headline_entry(run, finished)
    parts = []
    for figure in figures:
        variables = tuple(figure.frame["variable"].unique()) if "variable" in figure.frame else ()
        terms = stated.terms(run.config, figure.product, variables)
        parts += [(figure, layout) for layout in layouts(figure.frame, terms)]
    names = hepdata.names([f"{figure.name} {layout.part}" for figure, layout in parts])
    for name, (figure, layout) in zip(names, parts, strict=True):
        of_part = f", {layout.part}" if layout.part else ""
        description = f"{figure.title}{of_part}. {figure.caption}"
        location = f"Figure {figure.name}, section {figure.section} of the report"
        said = stated.statement(figure.origin)
        yield hepdata.Entry(name, description, location, layout, figure.path, said, [figure.section])


def headline_entry(run: Run, finished: Finished) -> hepdata.Entry:
    """The headline numbers, one row for each statistic and one column for each test."""
    headlines = finished.headlines()
    terms = stated.terms(run.config, None, tuple(headlines["variable"].dropna().unique()))
    measured = ("variable", "fpr", "cut", "reason")  # of each test its own: they are found
    (layout,) = layouts(headlines, terms, axis="statistic", measured=measured)
    description = f"{HEADLINES}. Local significances, but for the last, which is corrected for the cuts scanned."
    said = stated.statement(finished.origin)
    return hepdata.Entry("headlines", description, "Result of the report", layout, finished.significance_path, said)


def write_workspaces(workspaces: Workspaces, tested: list[Sample], folder: Folder) -> None:
    """The workspaces of some samples, and a file that says what each is of."""
    records = {}
    for sample in tested:
        with cli.explained(section="significance", what=sample.sources[-1]):
            for made in workspaces.of(sample):
                folder.write(f"pyhf/{made.name}.json", as_json(made.content), made.meaning, made.sources)
                records[f"{made.name}.json"] = made.about.to_json()
    if records:
        folder.write("pyhf/workspaces.json", as_json(records), "what each workspace is of, and how far pyhf agrees", [])


def about(run: Run, finished: Finished) -> dict[str, object]:
    """What the manifest says of all files: origin, settings, versions."""
    meta = provenance.sidecar(finished.significance_path)
    kept = {name: meta[name] for name in ("settings", "settings_sha256", "seed", "versions", "git_commit")}
    return {"analysis": run.config.name, "origin": finished.origin.label, **kept}


def _tested(run: Run, finished: Finished, sample: str | None) -> list[Sample]:
    """The scored samples of the tests; `UserError` for a sample that none is on."""
    known = list(dict.fromkeys(result.test for result in finished.results))
    if sample is not None and sample not in known:
        raise UserError(f"--sample {sample}: no such sample; tested were {', '.join(known)}")
    return [scored for scored in samples.read(run) if sample in (None, scored.test)]
