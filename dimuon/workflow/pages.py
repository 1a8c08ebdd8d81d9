"""The pages `data/README.md` and `results/README.md`: every file of an analysis with its maker, columns and meaning."""

from pathlib import Path

from dimuon.columns import COLUMNS
from dimuon.workflow.products import BENCH_MAKER, EXPORT, LIMITS_MAKER, PRODUCTS, SCAN_MAKER, STEPS

FURTHER = {
    "": "",
    "mass and features": "the mass under its name (`dimu_mass` of dimuons), the features of the configuration",
    "triggers": "and a flag named as each trigger",
    "table": "the mass under its name, and all other columns of the table of events",
}

INTRODUCTIONS = {
    "data": """# data/

One folder per analysis, `data/<name>/`, holds what the steps hand to each other. Nothing here is under version control;
every file can be made again with the step named. A charge in a file name is `os` or `ss`. Of a search in another mass
window the files lie under `windows/<SR>/`, such as `windows/9-10.6/`.
""",
    "results": """# results/

One folder per analysis, `results/<name>/`, holds its results. Nothing here is under version control; every file can be
made again with the step named. Of a search in another mass window the files lie under `windows/<SR>/`, such as
`windows/9-10.6/`. A study keeps its finished tasks in `studies/<study>.ledger.jsonl` and goes on from there; where the
source files have changed in between, it says so and keeps them.
""",
}
SIDECAR = """
Beside each file lies `<file>.meta.json`: the step that made it, the settings and the SHA-256 of the inputs it was made
from, its own SHA-256, seed, rows, units, package versions, commit, time. `python -m dimuon inspect FILE` shows all of
it in words. The figures share `figures/index.json` instead, what is exported `export/manifest.json`.
"""


def page(folder: str) -> str:
    """The text of `data/README.md` or `results/README.md`."""
    commands = (SCAN_MAKER, LIMITS_MAKER, BENCH_MAKER, EXPORT)
    makers = [*STEPS, *PRODUCTS.studies(), *commands]  # whichever study was imported first
    chosen = [product for maker in makers for product in PRODUCTS.of(maker) if product.folder == folder]
    lines = [INTRODUCTIONS[folder], "| file | made by | what |", "|---|---|---|"]
    lines += [f"| `{product.shown}` | `{product.maker.command}` | {product.meaning} |" for product in chosen]
    lines.append(SIDECAR)
    for product in chosen:
        if product.column_names:
            lines += [f"## `{product.shown}`", "", "| column | unit | meaning |", "|---|---|---|"]
            lines += [f"| `{name}` | {COLUMNS[name].unit} | {COLUMNS[name].meaning} |" for name in product.column_names]
            lines += ["", *([FURTHER[product.further], ""] if product.further else [])]
    lines.append("<!-- written by python -m dimuon.workflow.pages -->")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both pages, in the folder the command is given in."""
    for folder in INTRODUCTIONS:
        (Path(folder) / "README.md").write_text(page(folder), encoding="utf-8")


if __name__ == "__main__":
    main()
