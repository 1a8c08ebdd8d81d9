"""What the benchmarks share: one table on the screen, one JSON file beside it."""

import json
from pathlib import Path

FOLDER = Path("results") / "bench"


def save(name, figures):
    """Print the figures of a benchmark and write `results/bench/<name>.json`; returns the file's path.

    figures: list of dicts `name`, `value`, `unit`, and `peer`, `ratio` where something else was timed side by side
    (`ratio`: how many times better than the peer; both None where there is none).
    """
    figures = [{"peer": None, "ratio": None, **figure} for figure in figures]
    for figure in figures:
        against = "" if figure["ratio"] is None else f"{figure['ratio']:8.2f} x {figure['peer']}"
        print(f"{figure['name']:<32} {figure['value']:>12.4g} {figure['unit']:<8} {against}")
    path = FOLDER / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"figures": figures}, indent=1) + "\n")
    return path
