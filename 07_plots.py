"""Step 7: the paper's Figs. 1-4, the figures a referee would ask for, and one page that tells the story.

Reads whatever the steps before have left in data/<name>/ and results/<name>/; what is not there is said, the rest
shown. The figures that are looked at first are the first to be drawn, and then the page stands, without the rest.
Writes results/<name>/figures/*.{pdf,png,csv} with their index.json, results/<name>/report.html, and
references.bib, what to cite.
"""

import logging
from argparse import Namespace
from pathlib import Path

from dimuon import figures
from dimuon.workflow import cli, executor, products, provenance

log = logging.getLogger("dimuon")


def main(run: provenance.Run, arguments: Namespace | None = None) -> None:
    """The figures and the report of an analysis; the headline numbers once more, last."""
    # the pool is begun first: its processes load what draws, and draw, while this one loads and reads what is drawn
    with executor.executor(run.config.execution.workers, preload=figures.WORKER_MODULES) as pool:
        from dimuon.bumphunt.headlines import on_screen
        from dimuon.figures import drawing, references, registry, report
        from dimuon.figures.saved import Saved
        from dimuon.studies import standing

        saved = Saved(run)
        index = run.path(products.FIGURE_INDEX)
        if arguments is not None and arguments.only:
            drawings = registry.drawings(saved)
            chosen = drawing.chosen(drawings, arguments.only)
            drawing.finish(drawing.begin(chosen, index.parent, pool))
            log.info("%d of %d figures in %s; the page is as it was", len(chosen), len(drawings), index.parent)
            return
        begun = drawing.begin(registry.read(saved), index.parent, pool)
        drawings = registry.in_order(each for each, _ in begun)

        def look(files: drawing.Files) -> None:
            """The page as it stands when the figures that are looked at first are drawn."""
            path = run.path(products.REPORT)
            report.write_unfinished(path, report.page(saved, drawings, files))
            log.info("%d of %d figures for a first look: %s", len(files), len(drawings), path)

        files = drawing.finish(begun, look)
    drawing.remove_earlier(files, index.parent)
    run.write_json(index, drawing.index(drawings, files), saved.used, saved.origin.kind)
    page = report.page(saved, drawings, files)
    path = run.write_bytes(run.path(products.REPORT), page.encode(), saved.used, saved.origin.kind)
    cited = references.bibliography(references.of(run.config, saved.origin))
    run.write_bytes(run.path(products.REFERENCES), cited.encode(), saved.used, saved.origin.kind)
    if saved.results:
        log.info("%s", "\n".join([on_screen(saved.results), *standing.lines(run.results, run, saved.results)]))
    log.info("%d figures in %s, all of it on one page: %s", len(drawings), index.parent, path)


if __name__ == "__main__":
    only = {"nargs": "+", "action": "extend", "metavar": "FIGURE"}
    only["help"] = "draw these figures alone, and no page: names, their beginnings or patterns, e.g. fig2 '*_os'"
    cli.run(Path(__file__).name, main, [("--only", only)])
