"""What would simultaneous classical cuts find?"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import figure, with_classifier
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import panel, say_origin, styled
from dimuon.workflow.products import PRODUCTS

CAPTION = (
    "Significance after simultaneous classical cuts on the dimuon transverse momentum and on the impact parameter "
    "of both muons. In brackets: too few events for the asymptotic formula. The largest of so many is not a local "
    "significance."
)


@figure("cut_scan", section=Section.ROBUSTNESS, order=80, caption=CAPTION, condition=with_classifier)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """One for each charge, where the study was made."""
    path = saved.run.path(PRODUCTS["cut_scan"])
    for charge, part in saved.by_charge(saved.optional_table(path)):
        name, title = f"study_cut_scan_{charge}", saved.data.titled("Cut scan", charge)
        yield Drawing(name, title, [path], part, partial(cut_scan, charge=charge))


@styled
def cut_scan(table: pd.DataFrame, charge: str, data: Dataset) -> Figure:
    """Z0 after simultaneous cuts on the dimuon pT and on both muons' IP3D; in brackets where too few events are left.

    table: pt_cut [GeV], ip3d_cut [cm], z0, valid of one charge.
    """
    figure, axes = panel((10.5, 7.5))
    grid = table.pivot(index="ip3d_cut", columns="pt_cut", values="z0")
    valid = table.pivot(index="ip3d_cut", columns="pt_cut", values="valid").astype(bool)
    image = axes.imshow(grid, origin="lower", aspect="auto", cmap="cividis", vmin=0)
    middle = np.nanmax(grid.to_numpy()) / 2
    inside: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10}
    for (y, x), z0 in np.ndenumerate(grid.to_numpy(dtype=float)):
        if np.isfinite(z0):
            cell = f"{z0:.1f}" if valid.iloc[y, x] else f"({z0:.1f})"
            axes.text(x, y, cell, color="white" if z0 < middle else "black", **inside)
    axes.set_xticks(range(grid.shape[1]), [f"{cut:.3g}" for cut in grid.columns], fontsize=12)
    axes.set_yticks(range(grid.shape[0]), [f"{cut:.2g}" for cut in grid.index], fontsize=12)
    axes.tick_params(which="both", length=0)
    axes.set(xlabel=r"Dimuon $p_T$ above [GeV]", ylabel="Both muons' IP3D below [cm]")
    figure.colorbar(image, ax=axes, label=rf"$Z_0$ of {data.sample(charge)} [$\sigma$]")
    say_origin(figure, axes, data.origin)
    return figure
