"""Step 7: the paper's Figs. 1-4, the figures a referee would ask for, and one page that tells the story.

Reads whatever the steps before have left in data/<name>/ and results/<name>/; what is not there is said, the rest
shown.
Writes results/<name>/figures/*.{pdf,png,csv} with their index.json, results/<name>/report.html, and
references.bib, what to cite.
"""

import logging
from pathlib import Path

from dimuon.bumphunt.headlines import on_screen
from dimuon.figures import drawing, references, registry, report
from dimuon.figures.saved import Saved
from dimuon.studies import standing
from dimuon.workflow import cli, products, provenance

log = logging.getLogger("dimuon")


def main(run: provenance.Run) -> None:
    """The figures and the report of an analysis; the headline numbers once more, last."""
    saved = Saved(run)
    drawings = registry.drawings(saved)
    index = run.path(products.FIGURE_INDEX)
    files = drawing.write_all(drawings, index.parent, run.config.execution.workers)
    run.write_json(index, drawing.index(drawings, files), saved.used, saved.origin.kind)
    page = report.page(saved, drawings, files)
    path = run.write_bytes(run.path(products.REPORT), page.encode(), saved.used, saved.origin.kind)
    cited = references.bibliography(references.of(run.config, saved.origin))
    run.write_bytes(run.path(products.REFERENCES), cited.encode(), saved.used, saved.origin.kind)
    if saved.results:
        log.info("%s", "\n".join([on_screen(saved.results), *standing.lines(run.results, run, saved.results)]))
    log.info("%d figures in %s, all of it on one page: %s", len(drawings), index.parent, path)


if __name__ == "__main__":
    cli.run(Path(__file__).name, main)
