"""Step 7 as a whole: the figures, drawn by processes; the page, first with what is looked at first; what to cite.

Importing this loads all that draws, which takes seconds: the processes are started before, and load at the same time.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Executor

from dimuon.bumphunt.headlines import on_screen
from dimuon.figures import drawing, references, registry, report
from dimuon.figures.drawing import Drawing, Files
from dimuon.figures.saved import Saved
from dimuon.studies import standing
from dimuon.workflow import products

log = logging.getLogger("dimuon")


def draw_some(saved: Saved, names: Sequence[str], pool: Executor) -> None:
    """The figures of some names (`drawing.chosen`) anew; the page stays as it was."""
    folder, drawings = saved.run.path(products.FIGURE_INDEX).parent, registry.drawings(saved)
    chosen = drawing.chosen(drawings, names)
    drawing.finish(drawing.begin(chosen, folder, pool))
    log.info("%d of %d figures in %s; the page is as it was", len(chosen), len(drawings), folder)


def draw(saved: Saved, pool: Executor) -> tuple[list[Drawing], Files]:
    """Every figure, as on the page, and the files; the page is written as soon as those looked at first are there."""
    folder, path = saved.run.path(products.FIGURE_INDEX).parent, saved.run.path(products.REPORT)
    begun = drawing.begin(registry.read(saved), folder, pool)
    drawings = registry.in_order(each for each, _ in begun)

    def look(files: Files) -> None:
        report.write_unfinished(path, report.page(saved, drawings, files))
        log.info("%d of %d figures for a first look: %s", len(files), len(drawings), path)

    files = drawing.finish(begun, look)
    drawing.remove_earlier(files, folder)
    return drawings, files


def write(saved: Saved, drawings: Sequence[Drawing], files: Files) -> None:
    """The index of the figures, the page, and what to cite; then the headline and where all of it is, on the screen."""
    run, origin = saved.run, saved.origin
    index = run.path(products.FIGURE_INDEX)
    run.write_json(index, drawing.index(drawings, files), saved.used, origin.kind)
    page = run.path(products.REPORT)
    run.write_bytes(page, report.page(saved, drawings, files).encode(), saved.used, origin.kind)
    cited = references.bibliography(references.of(run.config, origin))
    run.write_bytes(run.path(products.REFERENCES), cited.encode(), saved.used, origin.kind)
    if saved.results:
        log.info("%s", "\n".join([on_screen(saved.results), *standing.lines(run.results, run, saved.results)]))
    log.info("%d figures in %s, all of it on one page: %s", len(drawings), index.parent, page)
