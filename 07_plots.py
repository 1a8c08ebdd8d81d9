"""Step 7: the paper's Figs. 1-4, the figures a referee would ask for, and one page that tells the story.

Reads whatever the steps before have left in data/<name>/ and results/<name>/; what is not there is said, the rest
shown.
Writes results/<name>/figures/*.{pdf,png,csv} with their index.json, and results/<name>/report.html.
"""

from pathlib import Path

from dimuon import cli, gallery, report


def main(run):
    """The figures and the report of an analysis."""
    saved = gallery.Saved(run)
    drawings = gallery.drawings(saved)
    folder = run.results / "figures"
    files = gallery.write_all(drawings, folder, run.config.execution.workers)
    index = gallery.index(drawings, files)
    run.write_json(folder / "index.json", index, inputs=saved.used)
    page = report.page(saved, drawings, files)
    run.write_bytes(run.results / "report.html", page.encode(), inputs=saved.used)


if __name__ == "__main__":
    cli.run(Path(__file__).name, main)
