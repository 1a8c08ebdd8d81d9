"""Figures of the studies: can the number be believed? Variations, nulls, controls, injection, ensembles, cuts.

Each is a function of a table that `dimuon.studies.study` or `dimuon.statistics.ensemble` wrote, a `matplotlib.figure.Figure` out.
"""

import numpy as np
from scipy.stats import norm

from dimuon.figures.style import CHARGE_NAMES, COLOURS, LINES, MARKERS, describe_test, panels, say_origin, styled

METHODS = {
    "no_cut": "no cut", "best_feature": "best single feature", "cathode_fixed": "CATHODE, fixed cut",
    "cathode_max": "CATHODE, best cut", "likelihood": "likelihood reweighting",
    "supervised_fixed": "ideal supervised classifier, fixed cut", "supervised": "ideal supervised classifier, best cut",
}  # fmt: skip


@styled
def variation_points(table, charge, origin):
    """Z0 of every systematic variation, for the best cut, the likelihood and no cut; a line marks the baseline.

    table: variation, kind, variable, z0 of one charge.
    """
    names = list(dict.fromkeys(table["variation"]))
    figure, axes = panels(size=(10.5, 2.0 + 0.38 * len(names)))
    for variable, colour, marker, line in zip(
        ("no_cut", "cathode_max", "likelihood"), COLOURS, MARKERS, LINES, strict=False
    ):
        part = table[table["variable"] == variable].set_index("variation")["z0"].reindex(names)
        axes.plot(part, np.arange(len(names)), marker, color=colour, label=METHODS[variable])
        if "baseline" in names:
            axes.axvline(part["baseline"], color=colour, linestyle=line, linewidth=1)
    axes.set_yticks(range(len(names)), names, fontsize=12)
    axes.tick_params(axis="y", which="both", length=0)
    axes.set(xlabel=r"$Z_0$ [$\sigma$]", ylim=(len(names) - 0.5, -1.6), xlim=(0, 1.25 * max(table["z0"].max(), 1)))
    axes.legend(loc="upper right", ncol=3, fontsize=12)
    say_origin(figure, axes, origin)
    axes.annotate(CHARGE_NAMES[charge], (0.02, 0.985), xycoords="axes fraction", va="top", fontsize=14)
    return figure


@styled
def null_distributions(table, observed, charge, origin):
    """Toy distributions against asymptotics: how often background alone reaches a Z0, by full-chain pseudoexperiments.

    table: experiment, variable, z0 of null datasets of one charge. observed: {variable: Z0 of the data}, drawn as
    vertical lines.
    """
    figure, axes = panels()
    grid = np.linspace(0, max(5.0, table["z0"].max(), *observed.values()) * 1.05, 300)
    axes.plot(grid, norm.sf(grid), color="black", linewidth=2, label="asymptotic, one test")
    for variable, colour, line in zip(("no_cut", "cathode_max", "likelihood"), COLOURS, LINES[1:], strict=False):
        values = np.sort(table.loc[table["variable"] == variable, "z0"].fillna(0.0))
        if len(values):
            share = 1 - np.searchsorted(values, grid, side="left") / len(values)
            error = np.sqrt(share * (1 - share) / len(values))
            axes.plot(grid[share > 0], share[share > 0], color=colour, linestyle=line, label=METHODS[variable])
            axes.fill_between(
                grid, np.clip(share - error, 1e-9, 1), share + error, color=colour, alpha=0.2, linewidth=0
            )
        if variable in observed:
            axes.axvline(observed[variable], color=colour, linestyle=line, linewidth=1)
    n_nulls = table["experiment"].nunique()
    axes.set(yscale="log", ylim=(0.2 / n_nulls, 8), xlim=(0, grid[-1]), xlabel=r"$Z_0$ [$\sigma$]",
             ylabel=r"Fraction of null datasets at or above $Z_0$")  # fmt: skip
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0.93), fontsize=13)
    say_origin(figure, axes, origin, f"{n_nulls} null datasets, {CHARGE_NAMES[charge]}; vertical: data")
    return figure


@styled
def controls(table, gate_fprs, origin):
    """Z0 of samples without a signal over seeds, at each working point and, at the right edge, of the likelihood.

    table: control, seed, variable, fpr, z0. gate_fprs: the working points that decide with the likelihood, where median
    and spread must stay below one; their markers are filled.
    """
    figure, axes = panels()
    shown = table[table["variable"].isin(["cathode", "likelihood"])].fillna({"z0": 0.0})  # none without an excess
    cuts = np.sort(shown.loc[shown["variable"] == "cathode", "fpr"].unique())
    gate = {cuts[np.abs(cuts / fpr - 1).argmin()] for fpr in gate_fprs}
    edge, slot = 1.5 * cuts[-1], 2.8 * cuts[-1]  # of the place for the likelihood
    names = sorted(shown["control"].unique())
    for index, (name, colour, marker) in enumerate(zip(names, COLOURS, MARKERS, strict=False)):
        part, aside = shown[shown["control"] == name], 1.07 ** (index - (len(names) - 1) / 2)
        points = part["fpr"].where(part["variable"] == "cathode", slot)
        for decides, fill in ((True, "full"), (False, "none")):
            found = part[(points.isin(gate) | (points == slot)) == decides].groupby(points)["z0"]
            median, spread = found.median(), found.std().fillna(0)
            axes.errorbar(median.index * aside, median, yerr=spread, fmt=marker, color=colour, fillstyle=fill,
                          capsize=3, label=name.replace("_", " ") if decides else None)  # fmt: skip
    axes.axhline(1, color="black", linestyle="--", linewidth=1)
    axes.axvline(edge, ymax=0.85, color="black", linewidth=1)
    axes.annotate("likelihood", (slot, 0), xycoords=("data", "axes fraction"), xytext=(0, 5), fontsize=12,
                  textcoords="offset points", ha="center")  # fmt: skip
    axes.plot([], [], "o", color="black", fillstyle="none", label="not in the gate")
    axes.set(xscale="log", xlabel="False-positive rate", ylabel=r"$Z_0$ [$\sigma$], median and spread over seeds")
    axes.set_xlim(cuts[0] / 1.4, slot**2 / edge)
    axes.set_xticks([tick for tick in axes.get_xticks(minor=True) if tick < edge], minor=True)
    axes.set_ylim(-0.2, max(3.0, 1.5 * shown["z0"].max()))
    axes.legend(loc="upper left")
    say_origin(figure, axes, origin, "no signal expected")
    return figure


@styled
def injection(table, origin):
    """Significance against the number of signal events injected into a null dataset: medians and 68 % bands.

    table: n_injected, repeat, method, z0.
    """
    figure, axes = panels()
    known = [(method, words) for method, words in METHODS.items() if (table["method"] == method).any()]
    for (method, words), colour, marker, line in zip(known, COLOURS, MARKERS, LINES, strict=False):
        found = (
            table[table["method"] == method].assign(z0=lambda part: part["z0"].fillna(0.0)).groupby("n_injected")["z0"]
        )
        median, low, high = found.median(), found.quantile(0.16), found.quantile(0.84)
        axes.plot(median.index, median, color=colour, marker=marker, linestyle=line, label=words)
        axes.fill_between(median.index, low, high, color=colour, alpha=0.12, linewidth=0)
    for sigma in (3, 5):
        axes.axhline(sigma, color="0.6", linestyle=":", linewidth=1)
    axes.set(xlabel="Signal events injected", ylabel=r"$Z_0$ [$\sigma$]", xlim=(0, None))
    axes.set_ylim(0, 1.3 * max(table["z0"].max(), 5))
    axes.legend(loc="upper left", fontsize=13)
    say_origin(figure, axes, origin)
    return figure


@styled
def cut_scan(table, charge, origin):
    """Z0 after simultaneous cuts on the dimuon pT and on both muons' IP3D; hatched where too few events are left.

    table: pt_cut [GeV], ip3d_cut [cm], z0, valid of one charge.
    """
    figure, axes = panels(size=(10.5, 7.5))
    grid = table.pivot(index="ip3d_cut", columns="pt_cut", values="z0")
    valid = table.pivot(index="ip3d_cut", columns="pt_cut", values="valid").astype(bool)
    image = axes.imshow(grid, origin="lower", aspect="auto", cmap="cividis", vmin=0)
    middle = np.nanmax(grid.to_numpy()) / 2
    for y, x in np.ndindex(grid.shape):
        value = grid.iloc[y, x]
        if np.isfinite(value):
            words = f"{value:.1f}" if valid.iloc[y, x] else f"({value:.1f})"
            axes.text(
                x,
                y,
                words,
                ha="center",
                va="center",
                fontsize=10,
                color="white" if value < middle else "black",
            )
    axes.set_xticks(range(grid.shape[1]), [f"{cut:.3g}" for cut in grid.columns], fontsize=12)
    axes.set_yticks(range(grid.shape[0]), [f"{cut:.2g}" for cut in grid.index], fontsize=12)
    axes.tick_params(which="both", length=0)
    axes.set(xlabel=r"Dimuon $p_T$ above [GeV]", ylabel="Both muons' IP3D below [cm]")
    figure.colorbar(image, ax=axes, label=rf"$Z_0$ of {CHARGE_NAMES[charge]} dimuons [$\sigma$]")
    say_origin(figure, axes, origin)
    return figure


@styled
def convergence(table, train, test, origin):
    """Spread of Z0 over bootstrapped ensembles against their number of members: median, 68 % and 95 % bands.

    table: n_members, draw, z0_max, z0_likelihood of one train-test combination.
    """
    figure, axes = panels()
    columns = {"z0_max": "CATHODE, best cut", "z0_likelihood": "likelihood reweighting"}
    for (column, words), colour, marker in zip(columns.items(), COLOURS, MARKERS, strict=False):
        by_size = table.dropna(subset=[column]).groupby("n_members")[column]
        if by_size.ngroups:
            levels = by_size.quantile([0.025, 0.16, 0.5, 0.84, 0.975]).unstack()
            axes.fill_between(levels.index, levels[0.025], levels[0.975], color=colour, alpha=0.12, linewidth=0)
            axes.fill_between(levels.index, levels[0.16], levels[0.84], color=colour, alpha=0.25, linewidth=0)
            axes.plot(levels.index, levels[0.5], marker=marker, color=colour, label=words)
    axes.set(xscale="log", xlabel="Members of the ensemble, per fold", ylabel=r"$Z_0$ [$\sigma$]")
    top = table[["z0_max", "z0_likelihood"]].max().max()
    axes.set_ylim(0, 1.4 * top)
    axes.legend(loc="lower right")
    say_origin(figure, axes, origin, describe_test(train, test))
    return figure


@styled
def importance(table, charge, origin):
    """Loss of separation when one feature is shuffled. table: feature, auc_loss, auc_loss_err."""
    figure, axes = panels(size=(9.0, 2.2 + 0.7 * len(table)))
    place = np.arange(len(table))
    axes.barh(place, table["auc_loss"], 0.6, xerr=table["auc_loss_err"], color=COLOURS[0], capsize=4)
    axes.set_yticks(place, table["feature"], fontsize=15)
    axes.tick_params(axis="y", which="both", length=0)
    axes.axvline(0, color="black", linewidth=1)
    axes.set(xlabel="AUC lost when the feature is shuffled", ylim=(len(table) - 0.4, -1.0))
    say_origin(figure, axes, origin, f"{CHARGE_NAMES[charge]} classifier")
    return figure
