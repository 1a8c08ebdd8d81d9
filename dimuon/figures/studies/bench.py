"""The bench: which method gains how much, where the gain is, which methods say the same, what a gain costs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dimuon.dataset import Dataset
from dimuon.figures.drawing import Drawing
from dimuon.figures.registry import always, figure
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.figures.style import COLOURS, LINES, MARKERS, Look, legend_beside, panel, say_origin, styled
from dimuon.methods.protocol import METHODS, Needs
from dimuon.studies.bench import products
from dimuon.studies.bench.detection import BEST, FALSE_ALARMS
from dimuon.studies.bench.summary import BAND, BenchSummary

MEASURES = {
    "improvement_max": r"Largest significance improvement $\epsilon_S\,\epsilon_B^{-1/2}$",
    "argos": r"ARGOS, largest $\epsilon_{SR}\,\epsilon_B^{-1/2} - \epsilon_B^{1/2}$",
}
PLAIN = [colour for colour in COLOURS if colour != "#9c9ca1"]  # grey is for the others
N_LEADERS = len(PLAIN)  # methods in colours of their own, where lines would hide each other
RANKED = "Medians over the samples and their 68 % bands; squares: bounds, which know the truth. "
CURVES = (
    "Significance improvement against the fraction of the signal that is kept, median over the samples, as far as the "
    "background count is known to 20 %; band: 68 % of the best method that is no bound. Grey: all the others. Dotted: "
    "a cut at random."
)
SEEN = (
    "Samples of which a method sees the signal, by the cut that keeps 10 % of the sideband events, at a significance "
    f"that {100 * FALSE_ALARMS:.0f} % of the samples without a signal exceed; 68 % intervals. Grey: all the others."
)
NO_SIGNAL = (
    " None of these samples holds a signal to learn: that labelled signal passes more often than background is chance, "
    "or a background model that is wrong where such a signal would be, and no merit."
)
COSTS = "What a gain costs: processor time of one sample, learning and scoring, against the largest improvement."
ALIKE = "Spearman's correlation of the scores that two methods give the same events, mean over the samples."


@figure("bench", section=Section.METHODS, order=95, caption=RANKED, condition=always)
def drawings(saved: Saved) -> Iterator[Drawing]:
    """Of each sample and feature set, at the middle number of signal events and without noise; where it was made."""
    cells, curves, costs, said = (
        saved.run.path(product) for product in (products.CELLS, products.CURVES, products.COSTS, products.SUMMARY)
    )
    if not cells.exists():  # an analysis need not be a bench: nothing is missing
        return
    table, content = saved.optional_table(cells), saved.optional_json(said)
    if table is None or content is None:
        return
    summary, shown = BenchSummary.from_json(content), _shown(table)
    of_curves, of_costs = saved.optional_table(curves), saved.optional_table(costs)
    for (sample, features), rows in shown.groupby(["sample", "features"], sort=False):
        name = f"{sample}_{features}".replace("+", "_")
        what = f"{features}, {_where(rows)}"
        words = " ".join(sentence for sentence in summary.words if f"features {features}:" in sentence)
        warning = NO_SIGNAL if sample == "simulated" and not rows["n_injected"].any() else ""
        yield Drawing(
            f"bench_ranking_{name}",
            f"Methods ranked: {what}",
            [cells, said],
            rows,
            ranking,
            caption=_escaped(RANKED + words + warning),
        )
        if of_curves is not None and len(here := _same_place(of_curves, rows)):
            yield Drawing(
                f"bench_improvement_{name}",
                f"Improvement: {what}",
                [curves],
                here,
                improvement,
                caption=_escaped(CURVES + warning),
            )
        if of_costs is not None and "improvement_max" in rows and rows["improvement_max"].notna().any():
            keys = ["method", "repeat"]
            both = _same_place(of_costs, rows)[[*keys, "cpu_seconds"]].merge(rows[[*keys, "improvement_max"]], on=keys)
            yield Drawing(
                f"bench_costs_{name}",
                f"Time against gain: {what}",
                [cells, costs],
                both,
                time_and_gain,
                caption=_escaped(COSTS + warning),
            )
        found = [each for each in summary.detections if (each.features, each.noise, each.leak) == (features, 0, 0.0)]
        loose = pd.DataFrame([vars(each) for each in found if each.statistic == "z0_loose"])
        if sample == "simulated" and len(loose):
            yield Drawing(f"bench_seen_{name}", f"Signals seen: {features}", [said], loose, seen, caption=SEEN)
        first = rows.iloc[0]
        for alike in summary.correlations:
            if all(getattr(alike, key) == first[key] for key in ("sample", "features", "n_injected", "noise", "leak")):
                matrix = pd.DataFrame(alike.correlation, columns=list(alike.methods), dtype=float)
                matrix.insert(0, "method", list(alike.methods))
                yield Drawing(
                    f"bench_scores_{name}", f"Scores compared: {what}", [said], matrix, correlations, caption=ALIKE
                )


def _escaped(caption: str) -> str:
    return caption.replace("{", "{{").replace("}", "}}")


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """The cells of each sample and feature set without noise or leak, of the middle number of signal events."""
    plain = table[(table["noise"] == table["noise"].min()) & (table["leak"] == table["leak"].min())]
    of_place = plain.groupby(["sample", "features"], sort=False)["n_injected"]
    middle = of_place.transform(lambda numbers: np.unique(numbers)[len(np.unique(numbers)) // 2])
    return pd.DataFrame(plain[plain["n_injected"] == middle]).reset_index(drop=True)


def _where(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    return f"{first['n_injected']} signal events" if first["sample"] == "simulated" else str(first["sample"]).upper()


def _same_place(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of another table of the bench that belong to the same cells."""
    keys = ["sample", "features", "leak", "noise", "n_injected"]
    chosen = (table[keys] == rows[keys].iloc[0]).all(axis=1)
    return pd.DataFrame(table[chosen]).reset_index(drop=True)


def _order(table: pd.DataFrame, value: str) -> list[str]:
    """The methods, the largest median first."""
    return [str(name) for name in table.groupby("method")[value].median().sort_values(ascending=False).index]


def _is_bound(method: str) -> bool:
    return method != BEST and METHODS[method].needs == Needs.TRUTH


def _looks(methods: list[str]) -> dict[str, Look]:
    """{method: line, marker and colour}; bounds in black and grey."""
    bounds = dict(zip(filter(_is_bound, methods), ("black", "0.45"), strict=False))
    others = [name for name in sorted(methods) if name not in bounds]
    looks = {name: Look("-", "s", colour) for name, colour in bounds.items()}
    for i, name in enumerate(others):
        turn, place = divmod(i, len(COLOURS))
        looks[name] = Look(LINES[turn % len(LINES)], MARKERS[(place + turn) % len(MARKERS)], COLOURS[place])
    return looks


def _looks_of_leaders(methods: list[str], leaders: list[str]) -> dict[str, Look]:
    """`_looks`, those that are neither bounds nor leaders in grey and drawn first."""
    looks = _looks([name for name in methods if _is_bound(name)])
    for place, name in enumerate(leaders):
        looks[name] = Look(LINES[place % 2], MARKERS[place], PLAIN[place])
    return {name: Look("-", "", "0.8") for name in methods if name not in looks} | looks


@styled
def ranking(table: pd.DataFrame, data: Dataset) -> Figure:
    """Every method, one below the other, with the band over the samples. table: of the cells at one place."""
    value = "improvement_max" if table["improvement_max"].notna().any() else "argos"
    names = _order(table, value)
    figure, axes = panel((10.5, 1.8 + 0.42 * len(names)))
    for place, name in enumerate(names):
        of_method = table.loc[table["method"] == name, value].to_numpy(dtype=float)
        low, middle, high = np.quantile(of_method, (BAND[0], 0.5, BAND[1]))
        colour, marker = ("black", "s") if _is_bound(name) else (COLOURS[0], "o")
        axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], color=colour, marker=marker, capsize=4)
        axes.plot(of_method, np.full(len(of_method), place), "|", color=colour, alpha=0.5, markersize=10)
    axes.set_yticks(range(len(names)), [METHODS[name].title for name in names], fontsize=14)
    axes.tick_params(axis="y", which="minor", length=0)
    axes.set(xlabel=MEASURES[value], ylim=(len(names) - 0.4, -0.6))
    axes.grid(axis="x", color="0.9")
    say_origin(figure, axes, data.origin)
    return figure


@styled
def improvement(table: pd.DataFrame, data: Dataset) -> Figure:
    """Improvement against signal efficiency. table: of the curves at one place."""
    figure, axes = panel((12.0, 7.5))
    best = table.groupby(["method", "repeat"])["improvement"].max().reset_index()
    names = _order(best, "improvement")
    leader = next((name for name in names if not _is_bound(name)), names[0])
    leaders = [name for name in names if not _is_bound(name)][:N_LEADERS]
    for name, look in _looks_of_leaders(names, leaders).items():
        points = table[table["method"] == name].assign(eps=lambda rows: rows["eps_signal"].round(3))
        known = points.groupby("eps")[["improvement", "improvement_low", "improvement_high"]].agg(["median", "count"])
        known = known[known["improvement", "count"] >= points["repeat"].nunique()]  # of all samples
        width = 2.0 if name in leaders or _is_bound(name) else 0.8
        line: dict[str, Any] = {"color": look.colour, "linestyle": look.line, "label": METHODS[name].title}
        axes.plot(known.index, known["improvement", "median"], linewidth=width, **line)
        if name == leader:
            low, high = (known[f"improvement_{end}", "median"] for end in ("low", "high"))
            axes.fill_between(known.index, low, high, color=look.colour, alpha=0.15, linewidth=0)
    eps = np.linspace(0.01, 1, 100)
    axes.plot(eps, np.sqrt(eps), color="0.6", linestyle=":", linewidth=1)  # a random cut keeps both alike
    axes.set(
        xlabel=r"Signal efficiency $\epsilon_S$",
        ylabel=r"$\epsilon_S\,\epsilon_B^{-1/2}$",
        xlim=(0, 1),
        ylim=(0, None),
    )
    handles, labels = axes.get_legend_handles_labels()
    by_title = dict(zip(labels, handles, strict=True))
    titles = [METHODS[name].title for name in names if name in leaders or _is_bound(name)]
    legend_beside(axes, handles=[by_title[title] for title in titles], labels=titles)
    say_origin(figure, axes, data.origin)
    return figure


@styled
def seen(table: pd.DataFrame, data: Dataset) -> Figure:
    """Fraction of the samples whose signal is seen. table: method, n_injected, k, n, low, high, one row for each."""
    figure, axes = panel((12.0, 7.5))
    shares = table.assign(share=table["k"] / table["n"]).groupby("method")["share"].mean().sort_values(ascending=False)
    names = [str(name) for name in shares.index]
    leaders = [name for name in names if not _is_bound(name)][:N_LEADERS]
    looks, sizes = _looks_of_leaders(names, leaders), sorted(table["n_injected"].unique())
    coloured = [name for name in looks if name in leaders or _is_bound(name)]
    for name, look in looks.items():
        rows = table[table["method"] == name].sort_values("n_injected")
        share = rows["k"] / rows["n"]
        if name not in coloured:
            axes.plot(rows["n_injected"], share, color=look.colour, linewidth=0.8)
            continue
        x = rows["n_injected"] + 0.006 * max(sizes) * (coloured.index(name) - len(coloured) / 2)  # beside each other
        line: dict[str, Any] = {"color": look.colour, "linestyle": look.line, "marker": look.marker, "capsize": 2}
        axes.errorbar(x, share, yerr=[share - rows["low"], rows["high"] - share], label=_title(name), **line)
    axes.axhline(FALSE_ALARMS, color="0.6", linestyle=":", linewidth=1)
    axes.set(
        xlabel="Signal events in the sample", ylabel="Fraction of the samples seen", xlim=(0, None), ylim=(0, 1.05)
    )
    handles, labels = axes.get_legend_handles_labels()
    by_title = dict(zip(labels, handles, strict=True))
    titles = [_title(name) for name in names if _title(name) in by_title]
    legend_beside(axes, handles=[by_title[title] for title in titles], labels=titles)
    say_origin(figure, axes, data.origin)
    return figure


def _title(name: str) -> str:
    return "best of three" if name == BEST else METHODS[name].title


@styled
def time_and_gain(table: pd.DataFrame, data: Dataset) -> Figure:
    """Improvement against time. table: method, repeat, cpu_seconds, improvement_max."""
    figure, axes = panel((12.0, 7.5))
    names = _order(table, "improvement_max")
    looks = _looks(names)
    for name in names:
        of_method = table[table["method"] == name]
        x, y = of_method["cpu_seconds"].median(), of_method["improvement_max"].median()
        low, high = np.quantile(of_method["improvement_max"], BAND)
        look = looks[name]
        line: dict[str, Any] = {"color": look.colour, "marker": look.marker, "linestyle": "none", "capsize": 3}
        axes.errorbar(x, y, yerr=[[y - low], [high - y]], label=METHODS[name].title, **line)
    axes.set_xscale("log", subs=(2, 5))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set(xlabel="Processor time of one sample [s]", ylabel=MEASURES["improvement_max"])
    legend_beside(axes)
    say_origin(figure, axes, data.origin)
    return figure


@styled
def correlations(table: pd.DataFrame, data: Dataset) -> Figure:
    """The correlation matrix. table: the column method, and one of each method."""
    names = list(table["method"])
    matrix = table[names].to_numpy(dtype=float)
    figure, axes = panel((11.5, 9.5))
    image = axes.imshow(matrix, cmap="cividis", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            colour = "white" if value < 0.5 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8.5, color=colour)
    titles = [METHODS[name].title for name in names]
    axes.set_xticks(range(len(names)), titles, rotation=60, ha="right", rotation_mode="anchor", fontsize=11)
    axes.set_yticks(range(len(names)), titles, fontsize=11)
    axes.tick_params(which="both", length=0)
    figure.colorbar(image, ax=axes, label="Spearman's correlation of the scores")
    say_origin(figure, axes, data.origin)
    return figure
