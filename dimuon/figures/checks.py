"""Figures that answer a referee: did the flows learn, do samples match data, do cuts follow the mass, who was cut.

Each figure is a function of a table; where the table is not saved as it is drawn, `<figure>_table` makes it.
"""

from itertools import cycle

import numpy as np
import pandas as pd
from hist.intervals import clopper_pearson_interval

from dimuon.features import FEATURES
from dimuon.figures.style import (
    CHARGE_NAMES,
    COLOURS,
    LINES,
    MARKERS,
    describe_test,
    fpr_name,
    mark_signal_region,
    panels,
    poisson_errors,
    say_origin,
    shades,
    step_line,
    styled,
)

N_SCORE_BINS = 50
FILLS = {"sidebands": "full", "half_split": "left", "shifted_windows": "none"}  # of the markers of each closure test
RATIO_RANGE = (0.5, 1.5)  # of real to sampled events; beyond it, arrows
SAMPLED = "sampled"  # beside the regions of the dimuons
SAMPLES = {SAMPLED: "sampled background", "SBL": "low sideband", "SBH": "high sideband", "SR": "signal region"}


@styled
def flow_losses(losses, charge, origin):
    """Training and validation loss of each member of the flow ensemble against the epoch.

    losses: member, epoch, train_loss, validation_loss [nats]. The marker is the epoch whose state is kept.
    """
    figure, axes = panels()
    for index, (member, part) in enumerate(losses.sort_values("epoch").groupby("member")):
        colour, line = COLOURS[index % len(COLOURS)], LINES[index % len(LINES)]
        axes.plot(part["epoch"], part["train_loss"], color=colour, linestyle=":", linewidth=0.8)
        axes.plot(
            part["epoch"],
            part["validation_loss"],
            color=colour,
            linestyle=line,
            linewidth=1.3,
            label=f"{member}",
        )
        best = part.loc[part["validation_loss"].idxmin()]
        axes.plot(best["epoch"], best["validation_loss"], "o", color=colour, markeredgecolor="black", zorder=5)
    values = losses[["train_loss", "validation_loss"]].to_numpy()
    low, high = values.min(), np.quantile(values, 0.98)  # the first epochs may start far above
    axes.set_ylim(low - 0.1 * (high - low), high + 0.45 * (high - low))
    axes.plot([], [], color="black", linestyle=":", linewidth=1, label="training")
    axes.plot([], [], "o", color="white", markeredgecolor="black", label="state kept")
    axes.set(xlabel="Epoch", ylabel="Mean negative log-density [nats]")
    axes.legend(
        loc="upper right",
        bbox_to_anchor=(1, 0.93),
        ncol=3,
        title="validation loss of member",
        title_fontsize=14,
    )
    say_origin(figure, axes, origin, f"{CHARGE_NAMES[charge]} sidebands")
    return figure


def closure_table(data, sampled, names, regions=("SBL", "SBH")):
    """Histograms of real and sampled events for `closure`. data, sampled: DataFrames with region and the features.

    Sampled events are scaled to the number of real ones in each region. Columns: region, feature, bin_low, bin_high,
    n_data, n_sampled, n_sampled_err (events).
    """
    rows = []
    for region in regions:
        real, drawn = data[data["region"] == region], sampled[sampled["region"] == region]
        if drawn.empty:
            continue
        scale = len(real) / len(drawn)
        for name in names:
            edges = FEATURES[name].edges[::2]
            n_drawn = np.histogram(drawn[name], edges)[0]
            rows.append(pd.DataFrame({
                "region": region, "feature": name, "bin_low": edges[:-1], "bin_high": edges[1:],
                "n_data": np.histogram(real[name], edges)[0], "n_sampled": scale * n_drawn,
                "n_sampled_err": scale * np.sqrt(n_drawn),
            }))  # fmt: skip
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


@styled
def closure(table, charge, origin):
    """Real against sampled events in each sideband, feature by feature, with their ratio. table: `closure_table`.

    Bands: the error of the sampled events, below around one. Arrows: ratios beyond the axis.
    """
    names, regions = list(dict.fromkeys(table["feature"])), list(dict.fromkeys(table["region"]))
    figure, axes = panels(
        2, len(names), size=(6.0 * len(names), 7.0), sharex="col", squeeze=False,
        gridspec_kw={"height_ratios": [3, 1.3], "hspace": 0.0},
    )  # fmt: skip
    figure.get_layout_engine().set(h_pad=0.01)
    for column, name in enumerate(names):
        top, ratio = axes[:, column]
        for region, colour, marker in zip(regions, (COLOURS[0], COLOURS[1]), MARKERS, strict=False):
            part = table[(table["feature"] == name) & (table["region"] == region)]
            _closure_one(top, ratio, part, colour, marker, region)
        feature = FEATURES[name]
        ratio.set(xlabel=feature.axis_label, xscale="log" if feature.log else "linear", ylim=RATIO_RANGE)
        ratio.set_xlim(feature.low, feature.high)
        ratio.axhline(1, color="black", linewidth=1)
        top.set(yscale="log", ylim=(0.5, 40 * table.loc[table["feature"] == name, "n_data"].max()))
    axes[0, 0].set_ylabel("Events / bin")
    axes[1, 0].set_ylabel("Data / sampled", loc="center", fontsize=15)
    axes[0, -1].legend(loc="upper right", ncol=2, fontsize=13)
    say_origin(figure, axes[0, 0], origin, f"{CHARGE_NAMES[charge]} sidebands", last=axes[0, -1])
    return figure


def _closure_one(top, ratio, part, colour, marker, region):
    centre = (
        np.sqrt(part["bin_low"] * part["bin_high"])
        if FEATURES[part["feature"].iloc[0]].log
        else part[["bin_low", "bin_high"]].mean(axis=1)
    )
    line = "-" if region == "SBL" else "--"
    step_line(top, part["bin_low"], part["bin_high"], part["n_sampled"], color=colour, linestyle=line, linewidth=1.5,
              label=f"{region} sampled")  # fmt: skip
    edges = np.append(part["bin_low"], part["bin_high"].iloc[-1])
    expected, error = part["n_sampled"].to_numpy(), part["n_sampled_err"].to_numpy()
    share = error / np.where(expected > 0, expected, 1.0)
    for axes, middle, half in ((top, expected, error), (ratio, np.ones(len(share)), share)):
        axes.stairs(middle + half, edges, baseline=middle - half, fill=True, color=colour, alpha=0.25)
    errors = poisson_errors(part["n_data"])
    top.errorbar(
        centre,
        part["n_data"],
        yerr=errors,
        fmt=marker,
        color=colour,
        markersize=5,
        elinewidth=1,
        label=f"{region} data",
    )
    full = (part["n_data"] > 0).to_numpy() & (expected > 0)
    values, errors = part["n_data"][full] / expected[full], errors[:, full] / expected[full]
    ratio.errorbar(centre[full], values, yerr=errors, fmt=marker, color=colour, markersize=4, elinewidth=1)
    low, high = RATIO_RANGE
    for beyond, edge, arrow in ((values > high, high - 0.05, "^"), (values < low, low + 0.05, "v")):
        at = centre[full][beyond]
        ratio.plot(at, np.full(len(at), edge), arrow, color=colour, markersize=6)


def agreement_table(content):
    """One row per place for `agreement`: test, place, mass_low, mass_high [GeV], auc, auc_err, ks_<feature>.

    content: of `closure_<charge>.json`: {test: {place: record}} with the records of `dimuon.background.closure.compare`; places
    without a value (too few events) are left out.
    """
    rows = []
    for test, records in content.items():
        for place, record in records.items() if isinstance(records, dict) else ():
            if isinstance(record, dict) and "auc" in record and "mass_low" in record:
                keys = ("mass_low", "mass_high", "n_real", "auc", "auc_err")
                distances = {f"ks_{name}": value["distance"] for name, value in record["ks"].items()}
                rows.append({"test": test, "place": place} | {key: record[key] for key in keys} | distances)
    return pd.DataFrame(rows)


@styled
def agreement(table, window, charge, origin):
    """How well sampled and real events agree in slices of the mass: AUC of a classifier, and KS distances.

    table: of `agreement_table`. Horizontal bars are the mass ranges; dashed, what perfect agreement gives. What is of
    both sidebands at once is left to the report.
    """
    figure, (top, bottom) = panels(2, 1, size=(9.5, 9.0), sharex=True)
    figure.get_layout_engine().set(h_pad=0.01)
    names = [column for column in table if column.startswith("ks_")]
    tests = dict(list(table[table["place"] != "sidebands"].groupby("test")))
    for (test, fill), test_colour, test_marker in zip(FILLS.items(), COLOURS, MARKERS, strict=False):
        if test not in tests:
            continue
        part = tests[test]
        centre, half = (part["mass_low"] + part["mass_high"]) / 2, (part["mass_high"] - part["mass_low"]) / 2
        look = {"xerr": half, "linestyle": "none", "elinewidth": 1.3, "markersize": 6, "fillstyle": fill}
        top.errorbar(centre, part["auc"], yerr=part["auc_err"], fmt=test_marker, color=test_colour,
                     label=test.replace("_", " "), **look)  # fmt: skip
        for name, colour, marker in zip(names, cycle(COLOURS[2:]), cycle(MARKERS[2:]), strict=False):
            bottom.errorbar(centre, part[name], fmt=marker, color=colour, **look)
    for name, colour, marker in zip(names, cycle(COLOURS[2:]), cycle(MARKERS[2:]), strict=False):
        bottom.plot([], [], marker, color=colour, label=FEATURES[name.removeprefix("ks_")].label)
    top.axhline(0.5, color="black", linestyle="--", linewidth=1)
    top.set_ylabel("AUC, sampled against real")
    low, high = min(0.46, table["auc"].min() - 0.02), max(0.56, table["auc"].max())
    top.set_ylim(low, low + 1.4 * (high - low))  # room for the legend
    bottom.set(xlabel=r"Dimuon mass $m_{\mu\mu}$ [GeV]", ylabel="KS distance", xlim=(window.sb_low, window.sb_high))
    bottom.set_ylim(0, 1.4 * table[names].max().max())
    for axes in (top, bottom):
        mark_signal_region(axes, window, label=axes is bottom)
    top.legend(loc="upper left", fontsize=13)
    bottom.legend(loc="upper right", fontsize=13)
    say_origin(figure, top, origin, CHARGE_NAMES[charge])
    return figure


def score_table(events):
    """Histograms of the ensemble score for `scores`: sample, bin_low, bin_high, n_obs, density.

    events: DataFrame with score, 0 to 1, and region: "SBL", "SR", "SBH", or `SAMPLED` for the sampled background.
    """
    edges = np.linspace(0, 1, N_SCORE_BINS + 1)
    rows = []
    for name in SAMPLES:
        counts = np.histogram(events.loc[events["region"] == name, "score"], edges)[0]
        if counts.any():
            rows.append(pd.DataFrame({
                "sample": name, "bin_low": edges[:-1], "bin_high": edges[1:], "n_obs": counts,
                "density": counts / counts.sum() / np.diff(edges),
            }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


@styled
def scores(table, train, test, origin):
    """Distribution of the classifier score in each region and of the sampled background, each normalised to one.

    table: of `score_table`. The signal region has Poisson errors, the sampled background is filled.
    """
    figure, axes = panels()
    for (name, label), colour, line in zip(SAMPLES.items(), ("0.8", *COLOURS), ("-", *LINES), strict=False):
        part = table[table["sample"] == name]
        if part.empty:
            continue
        edges = part["bin_low"], part["bin_high"]
        label = f"{label} ({part['n_obs'].sum():,.0f} events)"
        if name == SAMPLED:
            step_line(axes, *edges, part["density"], fill=True, color=colour, label=label)
        elif name == "SR":
            part = part[part["n_obs"] > 0]
            errors = poisson_errors(part["n_obs"]) * (part["density"] / part["n_obs"]).to_numpy()
            axes.errorbar(
                (part["bin_low"] + part["bin_high"]) / 2, part["density"], yerr=errors,
                fmt="o", color="black", markersize=5, elinewidth=1.2, label=label,
            )  # fmt: skip
        else:
            step_line(axes, *edges, part["density"], color=colour, linestyle=line, linewidth=1.8, label=label)
    used = table[table["n_obs"] > 0]
    margin = 0.02
    axes.set_xlim(max(used["bin_low"].min() - margin, 0), min(used["bin_high"].max() + margin, 1))
    axes.set(yscale="log", ylim=(used["density"].min() / 2, table["density"].max() * 100))
    axes.set(xlabel="Mean classifier score", ylabel="Probability density")
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0.93))
    say_origin(figure, axes, origin, describe_test(train, test))
    return figure


def efficiency_table(mass, score, cuts, bins):
    """Fraction of events that pass each cut against the mass, for `efficiency`.

    mass: (n_events,), GeV. score: (n_events,). cuts: {fpr: cut on the score}. bins: `regions.MassBins`, merged by five
    outward so that a bin holds enough events. Columns: fpr, bin_low, bin_high [GeV], region, n_all, n_pass, efficiency,
    low, high (68 % Clopper-Pearson interval).
    """
    edges = np.union1d(bins.edges[bins.n_bins_sbl :: 5], bins.edges[bins.n_bins_sbl :: -5])
    edges = np.union1d(edges[(edges <= bins.window.sr_low) | (edges >= bins.window.sr_high)], bins.window.sr_high)
    n_all = np.histogram(mass, edges)[0]
    rows = []
    for fpr, cut in cuts.items():
        n_pass = np.histogram(mass[score >= cut], edges)[0]
        low, high = clopper_pearson_interval(n_pass, n_all)
        rows.append(pd.DataFrame({
            "fpr": fpr, "bin_low": edges[:-1], "bin_high": edges[1:],
            "region": bins.window.region((edges[:-1] + edges[1:]) / 2), "n_all": n_all, "n_pass": n_pass,
            "efficiency": n_pass / np.maximum(n_all, 1), "low": low, "high": high,
        }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


@styled
def efficiency(table, window, train, test, origin):
    """Efficiency of each cut on the classifier against the dimuon mass. table: of `efficiency_table`.

    Dashed: the false-positive rate itself. A cut that does not know the mass is flat in the sidebands; FLAGGED where
    the column `sculpted`, if there is one, says that it varies beyond what the background fit absorbs.
    """
    figure, axes = panels()
    fprs = [fpr for fpr in sorted(table["fpr"].unique(), reverse=True) if fpr < 1]
    for fpr, colour, marker in zip(fprs, shades(len(fprs)), cycle(MARKERS), strict=False):
        part = table[(table["fpr"] == fpr) & (table["n_all"] > 0)]
        centre = (part["bin_low"] + part["bin_high"]) / 2
        errors = np.array([part["efficiency"] - part["low"], part["high"] - part["efficiency"]]).clip(0)
        flag = ", FLAGGED" if "sculpted" in part and part["sculpted"].any() else ""
        label = fpr_name(fpr) + flag
        axes.errorbar(centre, part["efficiency"], yerr=errors, fmt=marker, color=colour, elinewidth=1.2, label=label)
        axes.axhline(fpr, color=colour, linestyle="--", linewidth=1)
    axes.set(yscale="log", xlim=(window.sb_low, window.sb_high), xlabel=r"Dimuon mass $m_{\mu\mu}$ [GeV]",
             ylabel="Fraction of events kept")  # fmt: skip
    axes.set_ylim(min(fprs) / 5, 12)
    mark_signal_region(axes, window)
    axes.legend(title="FPR", ncol=3, loc="upper right", bbox_to_anchor=(1, 0.93), fontsize=13, title_fontsize=13)
    say_origin(figure, axes, origin, describe_test(train, test))
    return figure


def cutflow_table(steps):
    """One row per step and charge for `cutflow`: step, charge, events, efficiency. steps: of `cutflow.json`."""
    return pd.DataFrame([
        {"step": row["name"], "charge": charge, "events": events, "efficiency": row["efficiency"][charge]}
        for row in steps
        for charge, events in row["events"].items()
        if events is not None
    ])  # fmt: skip


@styled
def cutflow(table, origin):
    """Events left after each step of the selection, in all and by charge, on a log axis. table: of `cutflow_table`."""
    steps = list(dict.fromkeys(table["step"]))
    names = {"all": "all", "os": "opposite sign", "ss": "same sign"}
    figure, axes = panels(size=(10.5, 1.6 + 0.85 * len(steps)))
    height = 0.8 / len(names)
    for offset, ((charge, name), colour, hatch) in enumerate(
        zip(names.items(), COLOURS, ("", "//", ".."), strict=False)
    ):
        part = table[table["charge"] == charge]
        place = np.array([steps.index(step) for step in part["step"]]) + (offset - 1) * height
        axes.barh(place, part["events"], height, color=colour, hatch=hatch, edgecolor="white", label=name)
        for y, events in zip(place, part["events"], strict=True):
            axes.text(events * 1.15, y, f"{events:,.0f}", va="center", fontsize=11)
    axes.set(
        xscale="log",
        xlabel="Events left",
        xlim=(max(table["events"].min() / 5, 0.5), table["events"].max() * 40),
    )
    axes.set_yticks(range(len(steps)), steps, fontsize=13)
    axes.tick_params(axis="y", which="minor", left=False, right=False)
    axes.tick_params(axis="y", which="major", length=0)
    axes.set_ylim(len(steps) - 0.4, -0.6)
    axes.legend(loc="lower right", fontsize=13)
    say_origin(figure, axes, origin)
    return figure


# name and mass [GeV] of what the eye looks for (Review of Particle Physics)
RESONANCES = ((r"$\eta$", 0.548), (r"$\rho,\omega$", 0.78), (r"$\phi$", 1.019), (r"$J/\psi$", 3.097),
              (r"$\psi$(2S)", 3.686), (r"$\Upsilon$", 9.7), (r"$Z$", 91.19))  # fmt: skip


@styled
def spectrum(table, origin):
    """The inclusive dimuon mass spectrum, pairs per GeV, by charge. table: bin_low, bin_high [GeV], n_os, n_ss."""
    figure, axes = panels(size=(10.5, 7.0))
    width = table["bin_high"] - table["bin_low"]
    for name, label, colour, line in (
        ("n_os", "opposite sign", COLOURS[0], "-"),
        ("n_ss", "same sign", COLOURS[1], "--"),
    ):
        step_line(axes, table["bin_low"], table["bin_high"], table[name] / width, color=colour, linestyle=line,
                  label=label, linewidth=1.4)  # fmt: skip
    density = table["n_os"] / width
    seen = density[density > 0]
    axes.set(xscale="log", yscale="log", xlabel=r"Dimuon mass $m_{\mu\mu}$ [GeV]", ylabel="Muon pairs / GeV")
    axes.set_xlim(table.loc[seen.index, "bin_low"].min() / 1.3, table.loc[seen.index, "bin_high"].max() * 1.3)
    axes.set_ylim(seen.min() / 2, seen.max() * 60)
    for index, (name, mass) in enumerate(RESONANCES):
        near = density[(table["bin_low"] < 1.06 * mass) & (table["bin_high"] > 0.94 * mass)]
        if len(near) and near.max() > 0:
            axes.annotate(name, (mass, near.max()), xytext=(0, 9 + 16 * (index % 2)), textcoords="offset points",
                          ha="center", fontsize=15)  # fmt: skip
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100) if axes.get_xlim()[0] < tick < axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0.95))
    say_origin(figure, axes, origin)
    return figure
