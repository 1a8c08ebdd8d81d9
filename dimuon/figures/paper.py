"""The paper's figures, each from a saved table: one function a figure, a `matplotlib.figure.Figure` out."""

from itertools import cycle

import numpy as np
from matplotlib.ticker import NullLocator
from scipy.stats import norm

from dimuon.features import FEATURES
from dimuon.figures.style import (
    COLOURS,
    LINES,
    MARKERS,
    describe_test,
    deviance_pull,
    fpr_name,
    mark_signal_region,
    panels,
    poisson_errors,
    say_origin,
    shades,
    step_line,
    styled,
)

CATHODE_COLOUR = COLOURS[0]
FLOOR = 1e-280  # smaller p-values are drawn here: beyond it floating point gives zero


@styled
def mass_spectra(histograms, points, window, origin):
    """Fig. 1a, 2a: the dimuon mass after each working point, the sideband fit with its band, and the pulls.

    histograms: fpr, bin_low, bin_high [GeV], region, n_obs, n_obs_err, n_bkg, n_bkg_err; one train-test combination
    and one variable. points: fpr, n_obs (events in the SR), z0, valid for the legend; may lack working points.
    """
    fprs = sorted(histograms["fpr"].unique(), reverse=True)
    weighted = bool((histograms["variable"] == "likelihood").all())
    heights = [6.2] + [0.62] * len(fprs)
    figure, axes = panels(
        1 + len(fprs), size=(9.5, 7.0 + 0.72 * len(fprs)), sharex=True,
        gridspec_kw={"height_ratios": heights, "hspace": 0.0},
    )  # fmt: skip
    figure.get_layout_engine().set(h_pad=0.01)
    for fpr, colour, marker, pulls in zip(fprs, shades(len(fprs)), cycle(MARKERS), axes[1:], strict=False):
        part = histograms[histograms["fpr"] == fpr].sort_values("bin_low")
        _spectrum(axes[0], part, colour, marker, _point_label(points, fpr, weighted))
        _pull_strip(pulls, part, colour, window, "" if weighted else fpr_name(fpr))
    width = histograms["bin_high"].iloc[0] - histograms["bin_low"].iloc[0]
    what, top = "Sum of weights" if weighted else "Events", histograms["n_obs"].max()
    axes[0].set(ylabel=f"{what} / {width:.3f} GeV", xlim=(window.sb_low, window.sb_high))
    if weighted:
        axes[0].set_ylim(0, 1.7 * top)
    else:
        axes[0].set(yscale="log", ylim=(max(0.06, min(0.3, 0.5 * top)), top * 10 ** (0.8 + 0.12 * len(fprs))))
    mark_signal_region(axes[0], window)
    axes[0].legend(ncol=2, loc="upper right", fontsize=13, bbox_to_anchor=(1, 0.93), columnspacing=1,
                   frameon=True, framealpha=1, edgecolor="none").set_zorder(5)  # fmt: skip
    train, test = histograms[["train", "test"]].iloc[0]
    axes[0].text(0.97, 0.97, describe_test(train, test), transform=axes[0].transAxes, ha="right", va="top", fontsize=16)
    axes[0].text(0.03, 0.97, "points: data\ndashed: sideband fit\nband: its error in the SR",
                 transform=axes[0].transAxes, va="top", fontsize=12)  # fmt: skip
    axes[-1].set_xlabel(r"Dimuon mass $m_{\mu\mu}$ [GeV]")
    axes[1 + len(fprs) // 2].set_ylabel("Pulls", fontsize=15, loc="center")
    say_origin(figure, axes[0], origin)
    return figure


def _point_label(points, fpr, weighted=False):
    near = points[np.isclose(points["fpr"], fpr, rtol=1e-6)]
    if near.empty:
        return f"FPR {fpr_name(fpr)}"
    point = near.iloc[0]
    doubt = "" if point["valid"] else " (!)"
    cut = "weighted: sum" if weighted else f"FPR {fpr_name(fpr)}:"
    return rf"{cut} {point['n_obs']:.0f} in SR, {point['z0']:.1f}$\sigma${doubt}"


def _spectrum(axes, part, colour, marker, label):
    centre = (part["bin_low"] + part["bin_high"]) / 2
    counts = part["n_obs"].to_numpy()
    whole = np.allclose(counts, counts.round())
    errors = poisson_errors(counts) if whole else part["n_obs_err"]
    seen = counts > 0
    axes.errorbar(
        centre[seen], counts[seen], yerr=errors[:, seen] if whole else errors[seen],
        fmt=marker, color=colour, markersize=4, elinewidth=0.9, label=label,
    )  # fmt: skip
    step = np.append(part["bin_low"], part["bin_high"].iloc[-1])
    axes.plot(centre, part["n_bkg"], color=colour, linestyle="--", linewidth=1.5)
    sr = (part["region"] == "SR").to_numpy()
    low, high = (part["n_bkg"] - part["n_bkg_err"]).clip(lower=1e-3), part["n_bkg"] + part["n_bkg_err"]
    edges = step[:-1][sr], step[1:][sr]
    axes.fill_between(
        np.stack(edges).T.ravel(),
        np.repeat(low[sr], 2),
        np.repeat(high[sr], 2),
        color=colour,
        alpha=0.35,
        linewidth=0,
    )


def _pull_strip(axes, part, colour, window, name):
    pulls = deviance_pull(part["n_obs"], part["n_bkg"], part["n_obs_err"])
    axes.axhspan(-1, 1, color="0.9", zorder=0)
    axes.stairs(pulls, np.append(part["bin_low"], part["bin_high"].iloc[-1]), fill=True, color=colour, alpha=0.9)
    mark_signal_region(axes, window, label=False)
    axes.set_ylim(-4.5, 4.5)
    axes.set_yticks([-3, 0, 3])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=10)
    axes.annotate(name, (1, 0.5), xycoords="axes fraction", xytext=(4, 0), textcoords="offset points", va="center",
                  fontsize=11)  # fmt: skip
    beyond = part[np.abs(pulls) > 4.5]
    for centre, sign in zip(
        (beyond["bin_low"] + beyond["bin_high"]) / 2, np.sign(pulls[np.abs(pulls) > 4.5]), strict=True
    ):
        axes.plot(centre, 4.1 * sign, marker="^" if sign > 0 else "v", color="black", markersize=4)


def variable_label(name):
    """What a significance curve is of, in the words of a legend."""
    if name == "cathode":
        return "CATHODE"
    if name == "random":
        return "Random cut"
    return FEATURES[name].label if name in FEATURES else name


@styled
def p_values(curves, headline, origin):
    """Fig. 1b, 2b: the p-value and significance against the false-positive rate, for each variable cut on.

    curves: variable, fpr, z0, p0, valid; one train-test combination, one degree, one binning. headline: that
    combination's entry in `significance.json`, for the likelihood and global values. Open markers: `valid` is false.
    """
    figure, axes = panels(size=(9.5, 7.5))
    variables = [name for name in dict.fromkeys(curves["variable"]) if name not in ("cathode", "random")]
    looks = {"cathode": ("-", "o", CATHODE_COLOUR), "random": (LINES[3], "x", "black")}
    lines, markers, colours = LINES[1:3] + LINES[4:], MARKERS[1:], COLOURS[1:]
    for index, name in enumerate(variables):  # after every round of looks, each marker meets another line
        line = lines[(index + index // len(lines)) % len(lines)]
        looks[name] = line, markers[index % len(markers)], colours[index % len(colours)]
    for name in ["cathode", *variables, "random"]:
        part = curves[curves["variable"] == name].sort_values("fpr")
        if not part.empty:
            _curve(axes, part, *looks[name], variable_label(name), strong=name == "cathode")
    lowest = curves["p0"].min()
    _toy_values(axes, curves[curves["variable"] == "cathode"])
    for key, line, text in (
        ("likelihood", "-", "likelihood reweighting"),
        ("global", "--", "global, best cut"),
    ):
        if headline.get(key):
            p0, z0 = headline[key]["p0"], headline[key]["z0"]
            label = rf"CATHODE, {text}: {'>' if headline[key].get('bound') else ''}{z0:.1f}$\sigma$"
            axes.axhline(p0, color=CATHODE_COLOUR, linestyle=line, linewidth=1.3, label=label)
            lowest = min(lowest, p0)
    p_value_axes(axes, lowest)
    axes.legend(loc="lower right", fontsize=13, framealpha=0.85, frameon=True, edgecolor="none")
    train, test = curves[["train", "test"]].iloc[0]
    say_origin(figure, axes, origin, describe_test(train, test))
    return figure


def _curve(axes, part, line, marker, colour, label, strong=False):
    """One curve; filled markers where the asymptotic form holds, open ones where it does not."""
    fpr, p0, valid = part["fpr"], part["p0"].clip(lower=FLOOR), part["valid"].astype(bool)
    look = {"color": colour, "linewidth": 2.8 if strong else 1.6, "markersize": 8 if strong else 6}
    axes.plot(fpr, p0, linestyle=line, **look)
    axes.plot(fpr[valid], p0[valid], marker, **look)
    axes.plot(fpr[~valid], p0[~valid], marker, markerfacecolor="white" if marker != "x" else colour, **look)
    axes.plot([], [], marker=marker, linestyle=line, label=label, **look)


def _toy_values(axes, part):
    """Stars where background-only toys gave the p-value; arrows where too few toys reached it for more than a bound."""
    if "n_toys" not in part or not (part["n_toys"] > 0).any():
        return
    tested = part[part["n_toys"] > 0]
    known, bound = tested[~tested["toys_bound"]], tested[tested["toys_bound"]]
    axes.errorbar(known["fpr"], known["p0_toys"], yerr=known["p0_toys_err"], fmt="*", color="black", markersize=9,
                  linestyle="none", label="CATHODE, from toys")  # fmt: skip
    axes.plot(bound["fpr"], bound["p0_toys"], linestyle="none", marker="$\\downarrow$", color="black", markersize=11)


def p_value_axes(axes, lowest):
    """FPR across, p-value down, and the same in standard deviations on the right."""
    top, share = 4.0, 0.55  # room for words above p = 1, and the legend below the curves
    bottom = np.clip(top * (max(lowest, FLOOR) / top) ** (1 / share), FLOOR, norm.sf(3.6))
    top = max(top, bottom**-0.09)  # over many decades the words need more of them
    reach = norm.isf(bottom)
    axes.set(xscale="log", yscale="log", xlabel="False-positive rate (fraction of sideband events kept)")
    axes.set_ylabel(r"local $p$-value")
    axes.set_ylim(bottom, top)
    sigmas = np.arange(1, int(reach) + 1)[:: 1 + int(reach) // 12]
    for sigma in sigmas:
        axes.axhline(norm.sf(sigma), color="0.75", linestyle=":", linewidth=1, zorder=0)
    axes.tick_params(axis="y", which="both", right=False)
    right = axes.secondary_yaxis("right")
    right.set_yticks(norm.sf(sigmas), [rf"{sigma}$\sigma$" for sigma in sigmas])
    right.tick_params(axis="y", which="minor", right=False)
    right.yaxis.set_minor_locator(NullLocator())


@styled
def feature_spectra(histograms, origin):
    """Fig. 3: the features in the SR after each working point; dashed, before the anti-isolation cut.

    histograms: feature, fpr (NaN: before anti-isolation), bin_low, bin_high, n_obs; one train-test combination.
    """
    names = list(dict.fromkeys(histograms["feature"]))
    figure, axes = panels(1, len(names), size=(6.2 * len(names), 6.6), squeeze=False)
    fprs = sorted(histograms["fpr"].dropna().unique(), reverse=True)
    for name, frame in zip(names, axes[0], strict=True):
        part = histograms[histograms["feature"] == name]
        before = part[part["fpr"].isna()]
        if len(before):
            step_line(frame, before["bin_low"], before["bin_high"], before["n_obs"], color="black", linestyle="--",
                      linewidth=1.3, label="before anti-isolation")  # fmt: skip
        for fpr, colour, line in zip(fprs, shades(len(fprs)), cycle(LINES), strict=False):
            chosen = part[part["fpr"] == fpr]
            step_line(frame, chosen["bin_low"], chosen["bin_high"], chosen["n_obs"], color=colour, linestyle=line,
                      linewidth=2, label=f"FPR {fpr_name(fpr)}")  # fmt: skip
        _feature_axes(frame, name, part)
    axes[0, 0].set_ylabel("Events in the SR / bin")
    axes[0, -1].legend(fontsize=13, loc="upper right", ncol=2)
    train, test = histograms[["train", "test"]].iloc[0]
    say_origin(figure, axes[0, 0], origin, f"{describe_test(train, test)}, signal region", last=axes[0, -1])
    return figure


def _feature_axes(axes, name, part):
    feature = FEATURES[name]
    axes.set(xlabel=feature.axis_label, xscale="log" if feature.log else "linear", yscale="log")
    axes.set_xlim(part["bin_low"].min(), part["bin_high"].max())
    axes.set_ylim(0.5, 60 * max(part["n_obs"].max(), 1))


@styled
def variations(curves, baseline, origin):
    """Fig. 4: the CATHODE p-value against the false-positive rate for polynomials of other degrees and bin widths.

    curves: baseline, degree, n_bins_sr, fpr, p0, valid; the variable "cathode" of one train-test combination. baseline:
    the analysis's own function in words, drawn bold and black.
    """
    figure, axes = panels(size=(9.5, 7.5))
    own, others = curves[curves["baseline"]], curves[~curves["baseline"]]
    degrees, bins = sorted(others["degree"].unique()), sorted(others["n_bins_sr"].unique())
    for (degree, n_bins), part in others.groupby(["degree", "n_bins_sr"]):
        index = degrees.index(degree)
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        line = LINES[bins.index(n_bins) % len(LINES)]
        label = f"degree {degree}, {n_bins} bins"
        _curve(axes, part.sort_values("fpr"), line, marker, colour, label)
    label = f"{baseline}, {own['n_bins_sr'].iloc[0]} bins (baseline)"
    _curve(axes, own.sort_values("fpr"), "-", "D", "black", label, strong=True)
    p_value_axes(axes, curves["p0"].min())
    axes.legend(loc="lower right", fontsize=12, ncol=1 if len(degrees) * len(bins) < 5 else 2, title="polynomials",
                title_fontsize=12)  # fmt: skip
    train, test = curves[["train", "test"]].iloc[0]
    say_origin(figure, axes, origin, describe_test(train, test))
    return figure
