"""One self-contained page that tells the story of an analysis: numbers, verdicts, figures, provenance."""

import base64
import importlib.resources
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from dimuon.bumphunt.headlines import HeadlineRow, headline_rows, matched_first
from dimuon.bumphunt.result import Statistic, TestResult
from dimuon.figures import references
from dimuon.figures.drawing import Drawing
from dimuon.figures.opening import opening
from dimuon.figures.saved import Saved
from dimuon.figures.scan_page import scan_page
from dimuon.figures.sections import Section
from dimuon.figures.style import fpr_name
from dimuon.figures.verdicts import Verdict, verdicts
from dimuon.figures.wording import (
    count_text,
    events_text,
    explained,
    p_text,
    percent_text,
    settings_in_words,
    z_text,
)
from dimuon.origin import Origin
from dimuon.studies import standing
from dimuon.workflow import products, provenance
from dimuon.workflow.config import Config


def page(saved: Saved, drawings: Sequence[Drawing], files: Mapping[str, Mapping[str, Path]]) -> str:
    """The HTML text of the report. saved: after the drawings were made. files: {name of a drawing: {suffix: path}}.

    A drawing that has no files yet is left out, and the page says that it is not complete.
    """
    drawn = [drawing for drawing in drawings if drawing.name in files]
    config, origin, checks = saved.config, saved.origin, verdicts(saved)
    context = {
        "name": config.name,
        "data": saved.data,
        "origin_label": origin.label,
        "opening": opening(saved, checks),
        "warnings": [*undrawn(len(drawings) - len(drawn)), *warnings(saved, origin, checks)],
        "headline": headline(saved),
        "cutflow": cutflow(saved),
        "scan": scan_page(saved),
        "standing": standing.lines(saved.run.results, saved.run, saved.results),
        "verdicts": checks,
        "settings": settings_in_words(config),
        "sections": _sections(drawn, files),
        "missing": sorted((str(path), remedy) for path, remedy in saved.missing.items()),
        "not_made": not_made(saved),
        "provenance": provenance_table(saved),
        "versions": provenance.versions(),
        "commit": provenance.git_commit(),
        "seed": config.seed,
        "config_path": saved.run.config_path,
        "steps": steps(config),
        "references": references.of(config, origin),
    }
    return explained(_environment().get_template("report.html").render(context))


def write_unfinished(path: Path, text: str) -> None:
    """Write a page that is not complete: it has no sidecar, so that it is not taken for what step 7 leaves."""
    provenance.sidecar_path(path).unlink(missing_ok=True)
    with provenance.atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def steps(config: Config) -> list[tuple[str, bool]]:
    """[(command, whether it is optional)] that an analysis takes, in the order in which they are run."""
    given = config.input
    numbered = [maker.command for maker in products.STEPS]
    first = given.first_step - 1
    convergence = products.PRODUCTS["convergence"].maker
    studies = sorted(products.PRODUCTS.studies(), key=lambda maker: (maker != convergence, maker.name))
    optional = [
        maker.command
        for maker in studies
        if given.scores is None and (maker != convergence or config.bdt.keeps_members)
    ]
    if config.scan is not None:
        optional.append(products.SCAN_MAKER.command)
    *before, last = numbered[first:]
    return [*((step, False) for step in before), *((step, True) for step in optional), (last, False)]


def _environment() -> jinja2.Environment:
    folder = importlib.resources.files("dimuon.figures") / "templates"
    loader = jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(z=z_text, p=p_text, events=events_text, fpr=fpr_name, commands=_commands)
    return environment


def _commands(sentence: str) -> Markup:
    """A sentence with its commands, between backquotes, set as code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(sentence))))


def headline(saved: Saved) -> list[tuple[str, HeadlineRow]]:
    """(train-test combination in words, its headline numbers), the matched ones first."""
    rows = headline_rows(matched_first(saved.results))
    return [(saved.data.describe(row.result.train, row.result.test), row) for row in rows]


def undrawn(n_figures: int) -> list[str]:
    """What to know of a page on which so many figures are missing still."""
    return [f"{n_figures} figures are still being drawn; load the page again when step 7 is done."] if n_figures else []


def warnings(saved: Saved, origin: Origin, checks: Sequence[Verdict]) -> Iterator[str]:
    """What must be known before any number is believed, one sentence each. origin: of the headline."""
    if origin.is_simulated:
        toy = "the events are a toy, made by dimuon.simulation.nanoaod_files. "
        yield f"SIMULATED: {toy if saved.config.input.simulation else ''}No number here is a measurement."
    if origin.kind == "rebuilt":
        yield (
            "Part of the features is REBUILT (column features_measured of the table). Significances after a cut depend "
            "on them and are not a measurement."
        )
    if origin.kind == "unknown":
        yield "Where the events come from is not stated; the section origin of the configuration is the place for it."
    simulated = [path.stem for path in saved.used if saved.run.origin([path]).is_simulated]
    if not origin.is_simulated and simulated:
        yield f"SIMULATED signal is used in {', '.join(simulated)}, and nowhere else on this page."
    failed = [verdict.check for verdict in checks if not verdict.passed]
    if failed:
        yield f"Checks that fail: {'; '.join(failed)}."
    for result in matched_first(saved.results):
        for sentence in doubts(result):
            yield f"{saved.data.describe(result.train, result.test)}: {sentence}"
    if saved.missing and (saved.results or saved.config.scan is None):  # a scan takes none of them
        yield f"{len(saved.missing)} files of this analysis are missing or out of date; see “What is missing”."
    commits = {provenance.sidecar(path).get("git_commit") for path in saved.used} - {None}
    if len(commits) > 1:
        yield f"The files were made with {len(commits)} different commits of the source; see “Provenance”."
    if (commit := provenance.git_commit()) and commit.endswith("+changes"):
        yield "Made with source files that differ from the commit named below."


def doubts(result: TestResult) -> Iterator[str]:
    """What weakens the headline numbers of one train-test combination, one sentence each."""
    best, behaviour, pooled = result.cathode_max, result.likelihood_calibration, result.likelihood_pooled
    if not best.valid:
        yield (
            f"the largest significance ({z_text(best.z0)} at FPR {fpr_name(best.fpr)}) stands where "
            "too few events are left for the asymptotic formula."
        )
    if best.sculpted:
        yield (
            f"the cut of the largest significance (FPR {fpr_name(best.fpr)}) is flagged: it shapes the "
            "mass in the sidebands."
        )
    if behaviour is not None and abs(behaviour.mean) >= 3 * behaviour.std / math.sqrt(behaviour.n_toys):
        other = ""
        if result.quoted_likelihood == Statistic.LIKELIHOOD and pooled is not None:
            other = f"; with one scale of the weights for all sidebands it is {z_text(pooled.z0)}"
        yield (
            f"on background alone the likelihood value reads {behaviour.mean:+.2f}σ on the mean "
            f"({behaviour.n_toys} bootstrap toys){other}."
        )


def not_made(saved: Saved) -> list[tuple[str, str]]:
    """[(what, how to get it)] of the parts that an analysis may do without and this one does."""
    config, path = saved.config, saved.run.config_path
    first = next(step for step, _ in steps(config) if not step.startswith("01"))
    parts = []
    if "ss" not in saved.charges and saved.data.events == "dimuons" and saved.config.input.table is None:
        remedy = f"add ss to selection.charges, run `python {first} {path}` and the steps after it"
        parts.append(("same-sign control", remedy))
    if config.significance.toys.scan == 0:
        parts.append(("global significance", f"set significance.toys.scan, run `python 06_significance.py {path}`"))
    if saved.run.path(products.PRODUCTS["convergence"]) in saved.not_made and not config.bdt.keeps_members:
        parts.append(("members for the convergence", f"set bdt.keep_members, run `python 05_train_bdts.py {path}`"))
    studies = {remedy: file.stem.replace("_", " ") for file, remedy in saved.not_made.items()}
    return parts + [(what, remedy) for remedy, what in studies.items()]


def cutflow(saved: Saved) -> dict[str, list[Any]] | None:
    """Header and rows of the cutflow table in words, or None where the analysis starts later."""
    if saved.config.input.first_step > 2:
        return None
    content = saved.json(saved.run.path(products.CUTFLOW))
    if content is None:
        return None
    header = ["Step", "All", "Opposite sign", "efficiency", "Same sign", "efficiency"]
    rows = []
    for step in content["steps"]:
        cells = [step["name"], count_text(step["events"]["all"])]
        for charge in ("os", "ss"):
            cells += [count_text(step["events"][charge]), percent_text(step["efficiency"][charge])]
        rows.append(cells)
    return {"header": header, "rows": rows}


def _sections(
    drawings: Sequence[Drawing], files: Mapping[str, Mapping[str, Path]]
) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """[(heading, anchor, figures)] in the order of the report, each figure with its image and numbers inside."""
    order = list(Section)
    ranked = sorted(drawings, key=lambda drawing: order.index(Section(drawing.section)))
    return [
        (heading, heading.lower().replace(" ", "-"), [_embedded(drawing, files[drawing.name]) for drawing in part])
        for heading, part in groupby(ranked, key=lambda drawing: drawing.section)
    ]


def _embedded(drawing: Drawing, paths: Mapping[str, Path]) -> dict[str, Any]:
    return {
        "name": drawing.name,
        "title": drawing.title,
        "caption": drawing.caption,
        "origin": drawing.data.origin.label,
        "png": base64.b64encode(paths["png"].read_bytes()).decode(),
        "csv": base64.b64encode(paths["csv"].read_bytes()).decode(),
        "rows": len(drawing.table),
    }


def provenance_table(saved: Saved) -> list[dict[str, Any]]:
    """One row per file the report rests on: what its sidecar says."""
    rows = []
    for path in saved.used:
        meta = provenance.sidecar(path)
        row = {
            "path": str(path),
            "step": meta.get("step", "given by the user"),
            "origin": Origin.read(meta["origin"]).label if meta else saved.run.origin([path]).label,
            "sha256": provenance.file_hash(path),
            "commit": meta.get("git_commit"),
            "written": meta.get("written", "–"),
        }
        rows.append(row | {name: meta.get(name) for name in ("rows", "seed", "wall_time_s")})
    return sorted(rows, key=lambda row: (row["step"], row["path"]))
