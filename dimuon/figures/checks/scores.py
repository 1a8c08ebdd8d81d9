"""Where do the regions and the sampled background stand on the classifier's score?"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dimuon.data import scores as score_files
from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved, weights_of
from dimuon.figures.sections import Section
from dimuon.figures.style import COLOURS, LINES, legend_beside, panel, poisson_errors, say_origin, step_line, styled
from dimuon.workflow import products

N_BINS = 50
SAMPLED = "sampled"  # beside the regions of the dimuons
SAMPLES = {SAMPLED: "sampled background", "SBL": "low sideband", "SBH": "high sideband", "SR": "signal region"}
CAPTION = (
    "Mean score of the classifier ensemble for the {events} of each region and for the sampled background, each by "
    "models that never saw the event. Where the signal region (points) stands above the sampled background at "
    "high scores is what the cuts pick up; the sidebands should follow the background."
)


@figure("scores", section=Section.CLASSIFIER, order=90, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each train-test combination, with the sampled background where it was scored."""
    for train, test in saved.tests:
        events = saved.scored(train, test)
        if events is None:
            continue
        paths = [score_files.path(saved.run, train, test), saved.dimuons_path(test)]
        samples = [events[["score", "region"]]]
        if train == test and (sampled := scored_background(saved, train)) is not None:
            samples.insert(0, sampled)
            paths += background_paths(saved, train)
        yield Drawing(
            f"scores_{train}_on_{test}",
            f"Classifier scores, {saved.data.describe(train, test)}",
            paths,
            score_table(pd.concat(samples)),
            partial(scores, train=train, test=test),
        )


def background_paths(saved: Saved, train: str) -> list[Path]:
    """Where the scores and the weights of the sampled background lie."""
    return [score_files.path(saved.run, train, "background"), saved.run.path(products.BACKGROUND, charge=train)]


def scored_background(saved: Saved, train: str) -> pd.DataFrame | None:
    """Score, weight and region (`SAMPLED`) of the sampled background, None where it is not there."""
    scored, sampled = (saved.table(path) for path in background_paths(saved, train))
    if scored is None or sampled is None:
        return None
    return scored[["score"]].assign(weight=weights_of(sampled.loc[scored["row"]]), region=SAMPLED)


def score_table(events: pd.DataFrame) -> pd.DataFrame:
    """Histograms of the ensemble score for `scores`: sample, bin_low, bin_high, n_obs (sum of weights), density.

    events: score, 0 to 1, region: "SBL", "SR", "SBH", or `SAMPLED` for the sampled background, and weight, 1 where it
    is missing.
    """
    edges = np.linspace(0, 1, N_BINS + 1)
    weighted = events.assign(weight=events["weight"].fillna(1.0) if "weight" in events else 1.0)
    rows = []
    for name in SAMPLES:
        part = weighted[weighted["region"] == name]
        counts = np.histogram(part["score"], edges, weights=part["weight"])[0]
        if counts.any():
            density = counts / counts.sum() / np.diff(edges)
            histogram = {"bin_low": edges[:-1], "bin_high": edges[1:], "n_obs": counts, "density": density}
            rows.append(pd.DataFrame({"sample": name} | histogram))
    return pd.concat(rows, ignore_index=True)


@styled
def scores(table: pd.DataFrame, train: str, test: str, data: Dataset) -> Figure:
    """Distribution of the classifier score in each region and of the sampled background, each normalised to one.

    table: of `score_table`. The signal region has Poisson errors, the sampled background is filled.
    """
    figure, axes = panel((11.5, 7.0))
    for name, colour, line in zip(SAMPLES, ("0.8", *COLOURS), ("-", *LINES), strict=False):
        part = table[table["sample"] == name]
        label = f"{SAMPLES[name]}\n({part['n_obs'].sum():,.0f} events)"
        if name == "SR" and len(part):
            _points(axes, part[part["n_obs"] > 0], label)
        elif len(part):
            look = {"fill": True} if name == SAMPLED else {"linestyle": line, "linewidth": 1.8}
            step_line(axes, part["bin_low"], part["bin_high"], part["density"], color=colour, label=label, **look)
    used = table[table["n_obs"] > 0]
    margin = 0.02
    axes.set_xlim(max(used["bin_low"].min() - margin, 0), min(used["bin_high"].max() + margin, 1))
    axes.set(yscale="log", ylim=(used["density"].min() / 2, table["density"].max() * 3))
    axes.set(xlabel="Mean classifier score", ylabel="Probability density")
    legend_beside(axes, data.describe(train, test))
    say_origin(figure, axes, data.origin)
    return figure


def _points(axes: Axes, part: pd.DataFrame, label: str) -> None:
    centre = (part["bin_low"] + part["bin_high"]) / 2
    errors = poisson_errors(part["n_obs"]) * (part["density"] / part["n_obs"]).to_numpy()
    look: dict[str, Any] = {"fmt": "o", "color": "black", "markersize": 5, "elinewidth": 1.2}
    axes.errorbar(centre, part["density"], yerr=errors, label=label, **look)
