"""Step 7: the paper's Figs. 1-4, the figures a referee would ask for, and one page that tells the story.

Reads whatever the steps before have left in data/<name>/ and results/<name>/; what is not there is said, the rest
shown. The figures that are looked at first are the first to be drawn, and then the page stands, without the rest.
Writes results/<name>/figures/*.{pdf,png,csv} with their index.json, results/<name>/report.html, and
references.bib, what to cite.
"""

from argparse import Namespace
from pathlib import Path

from dimuon import figures
from dimuon.workflow import cli, executor, provenance


def main(run: provenance.Run, arguments: Namespace | None = None) -> None:
    """The figures and the report of an analysis; the headline numbers once more, last."""
    with executor.executor(run.config.execution.workers, preload=figures.WORKER_MODULES) as pool:
        from dimuon.figures import story  # not before the pool, whose processes load the same at this time
        from dimuon.figures.saved import Saved

        saved = Saved(run)
        if arguments is not None and arguments.only:
            story.draw_some(saved, arguments.only, pool)
            return
        drawings, files = story.draw(saved, pool)
    story.write(saved, drawings, files)


if __name__ == "__main__":
    only = {"nargs": "+", "action": "extend", "metavar": "FIGURE"}
    only["help"] = "draw these figures alone, and no page: names, their beginnings or patterns, e.g. fig2 '*_os'"
    cli.run(Path(__file__).name, main, [("--only", only)])
