"""Every figure is drawn from a small saved result and asked what is on it; figures 1-4 are compared with images.

The images (tests/images/, made with `pytest --mpl-generate-path=tests/images tests/test_plotting.py`) are compared with
`pytest --mpl`. Tolerance: 12 of 255 in root mean square over the pixels. Other versions of FreeType move the edges of
letters, which gives 2 to 6; a missing curve or a changed range gives more than 15.
"""

import contextlib
import json
import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, norm

from dimuon import features
from dimuon.bumphunt import cut_and_count
from dimuon.dataset import Dataset
from dimuon.figures import drawing as drawings
from dimuon.figures import registry, style
from dimuon.figures.checks.agreement import agreement
from dimuon.figures.checks.closure import closure
from dimuon.figures.checks.cutflow import in_words
from dimuon.figures.checks.efficiency import efficiency
from dimuon.figures.checks.scores import score_table
from dimuon.figures.overlay import Overlay
from dimuon.figures.p_value_axes import BOUND, FLOOR, p_value_axes
from dimuon.figures.paper.feature_spectra import feature_differences, feature_spectra
from dimuon.figures.paper.fit_variations import fit_variations
from dimuon.figures.paper.mass_spectra import Spectra, effective, mass_panels, mass_spectra
from dimuon.figures.paper.p_values import p_values
from dimuon.figures.saved import Saved
from dimuon.origin import KINDS, Origin
from dimuon.statistics.trials import GlobalSignificance
from dimuon.statistics.working_points import CutVariable
from dimuon.workflow import config, provenance
from dimuon.workflow.config import TOY
from tests import small_results

IMAGES = {"baseline_dir": "images", "tolerance": 12, "style": style.STYLE, "savefig_kwargs": {"dpi": 40}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The small results, all read."""
    folder = tmp_path_factory.mktemp("figures")
    small_results.write_studies(small_results.build(folder), folder)
    with contextlib.chdir(folder):
        run = provenance.Run(config.load("small.yaml"), "07_plots.py", "small.yaml")
        saved = Saved(run)
        saved.dimuons = pd.read_parquet("data/small/dimuons.parquet")
        saved.drawings = {drawing.name: drawing for drawing in registry.drawings(saved)}
    return saved


def chosen(saved, name, **wanted):
    """Rows of a table of results with the given values."""
    table = saved.table(saved.run.results / name)
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def words(axes):
    """Everything written in a panel: labels, legend, texts."""
    legend = axes.get_legend()
    texts = [text.get_text() for text in axes.texts + (legend.get_texts() if legend else [])]
    return " | ".join([axes.get_xlabel(), axes.get_ylabel(), *texts])


def figure_words(figure):
    return " | ".join([text.get_text() for text in figure.texts] + [words(axes) for axes in figure.axes])


def variations_table(saved):
    """Curves of nine fits, from the one that is saved."""
    curve = chosen(saved, "significance_curves.parquet", train="os", test="os", variable="cathode")
    fits = [(degree, n_bins) for degree in (3, 5, 7) for n_bins in (7, 11, 15)]
    frames = [
        curve.assign(
            degree=degree,
            n_bins_sr=n_bins,
            baseline=(degree, n_bins) == (5, 11),
            p0=curve["p0"] ** (1 + 0.05 * (degree - 5) + 0.01 * (n_bins - 11)),
        )
        for degree, n_bins in fits
    ]
    return pd.concat(frames, ignore_index=True)


def mass_figure(saved, train, test, origin=TOY):
    spectra = chosen(saved, "mass_histograms.parquet", train=train, test=test, variable="cathode")
    points = chosen(saved, "mass_points.parquet", train=train, test=test, variable="cathode")
    return mass_spectra(spectra, Spectra(saved.config.window, points), Dataset(origin))


def of_test(saved, train, test):
    """The headline numbers of one test."""
    return next(result for result in saved.results if (result.train, result.test) == (train, test))


def p_figure(saved, train, test, origin=TOY):
    curves = chosen(saved, "significance_curves.parquet", train=train, test=test)
    return p_values(curves, of_test(saved, train, test), Dataset(origin))


@pytest.mark.slow
@pytest.mark.mpl_image_compare(filename="fig1a.png", **IMAGES)
def test_figure_1a(saved):
    return mass_figure(saved, "ss", "ss")


@pytest.mark.mpl_image_compare(filename="fig1b.png", **IMAGES)
def test_figure_1b(saved):
    return p_figure(saved, "ss", "ss")


@pytest.mark.mpl_image_compare(filename="fig2a.png", **IMAGES)
def test_figure_2a(saved):
    """Seven spectra with their counts, fits inside and outside the SR, its edges, one strip of pulls each."""
    figure = mass_figure(saved, "os", "os")
    main, *strips = figure.axes
    spectra = chosen(saved, "mass_histograms.parquet", train="os", test="os", variable="cathode")
    assert len(strips) == 7
    assert main.get_xlim() == (5.0, 16.0)
    assert "Events / 0.145 GeV" in words(main)
    assert "GeV" in strips[-1].get_xlabel()
    drawn = [container.lines[0].get_ydata() for container in main.containers]
    for fpr, counts in zip(small_results.FIGURE_FPRS, drawn, strict=True):
        saved_counts = spectra.loc[spectra["fpr"] == fpr, "n_obs"].to_numpy()
        np.testing.assert_array_equal(counts, saved_counts[saved_counts > 0])
    edges = {line.get_xdata()[0] for line in main.lines if len(set(line.get_xdata())) == 1}
    assert {9.0, 10.6} <= edges
    total = int(spectra.query("fpr == 1 and region == 'SR'")["n_obs"].sum())
    assert f"FPR 100%\n{total} in SR" in words(main)
    return figure


@pytest.mark.mpl_image_compare(filename="fig2b.png", **IMAGES)
def test_figure_2b(saved):
    """A curve for each variable, the likelihood and global lines at their p-values, significance on the right."""
    figure = p_figure(saved, "os", "os")
    axes = figure.axes[0]
    said = words(axes)
    for label in ("CATHODE", "Dimuon", "Harder muon IP3D", "Softer muon IP3D", "Random cut", "likelihood", "best cut"):
        assert label in said
    assert axes.get_ylim()[1] == 1.0
    curves = chosen(saved, "significance_curves.parquet", train="os", test="os", variable="cathode")
    expected = curves.sort_values("fpr")["p0"].to_numpy()
    assert any(
        len(line.get_ydata()) == len(expected) and np.allclose(line.get_ydata(), expected) for line in axes.lines
    )
    heights = [line.get_ydata()[0] for line in axes.lines if len(line.get_ydata()) == 2]
    assert saved.summary["tests"]["os_on_os"]["likelihood"]["p0"] in heights
    (three,) = [text for text in axes.texts if text.get_text() == r"3$\sigma$"]
    assert three.xy == (1, pytest.approx(norm.sf(3)))
    return figure


@pytest.mark.mpl_image_compare(filename="fig3.png", **IMAGES)
def test_figure_3(saved):
    """Every feature with its unit, a curve for each cut and the dashed one before anti-isolation."""
    histograms = chosen(saved, "feature_histograms.parquet", train="os", test="os")
    figure = feature_spectra(histograms, Dataset(TOY))
    assert [axes.get_xlabel().split("[")[-1] for axes in figure.axes] == ["GeV]", "cm]", "cm]"]
    for axes, name in zip(figure.axes, small_results.TRAINING, strict=True):
        assert len(axes.patches) == 8
        before = histograms[(histograms["feature"] == name) & histograms["fpr"].isna()]
        np.testing.assert_array_equal(axes.patches[0].get_data().values, before["n_obs"])
    assert "before\nanti-isolation" in words(figure.axes[-1])
    return figure


def test_features_are_drawn_against_the_background_after_the_same_cut(saved):
    """The most significant cut of those that are valid; two fine bins as one; the difference below."""
    drawing = saved.drawings["features_difference_os"]
    points = chosen(saved, "mass_points.parquet", train="os", test="os", variable="cathode")
    best = points[points["valid"]].sort_values("z0").iloc[-1]
    assert set(drawing.table["fpr"]) == {best["fpr"]}
    assert "features_difference_ss" in saved.drawings
    assert "cross_features_difference_os_on_ss" not in saved.drawings  # no background was sampled for it
    part = drawing.table[drawing.table["feature"] == "dimu_pt"]
    top, bottom = (feature_differences(drawing.table, best, Dataset(TOY)).axes[index] for index in (0, 3))
    pairs = part[["n_obs", "n_sampled"]].to_numpy().reshape(20, 2, 2).sum(axis=1)
    middles = part["bin_high"].to_numpy()[::2]
    assert holds(top, middles, pairs[:, 0])
    assert any(np.allclose(patch.get_data().values, pairs[:, 1]) for patch in top.patches)
    assert holds(bottom, middles, pairs[:, 0] - pairs[:, 1])
    used = part[(part["n_obs"] > 0) | (part["n_sampled"] > 0)]
    assert bottom.get_xlim()[1] <= used["bin_high"].max() + 3.25  # at most the pair that the last filled bin is in


@pytest.mark.mpl_image_compare(filename="fig4.png", **IMAGES)
def test_figure_4(saved):
    """Nine curves, the baseline bold."""
    figure = fit_variations(variations_table(saved), "polynomial of degree 5", Dataset(TOY))
    legend = figure.axes[0].get_legend()
    assert len(legend.get_texts()) == 9
    bold = [line for line in legend.get_lines() if line.get_linewidth() > 2]
    assert len(bold) == 1
    assert "polynomial of degree 5,\n11 bins (baseline)" in words(figure.axes[0])
    return figure


def nine(table, column, values):
    """A table with the rows of one value of `column` repeated for nine values."""
    one = table[table[column] == table[column].iloc[0]]
    return pd.concat([one.assign(**{column: value}) for value in values], ignore_index=True)


@pytest.mark.slow
def test_nine_features_and_nine_working_points_are_all_drawn(saved):
    """More than there are colours, markers and lines: looks come again, but no two curves share line and marker."""
    names = list(features.FEATURES)[:9]
    fprs = np.geomspace(1, 1e-3, 9)
    curves = chosen(saved, "significance_curves.parquet", train="os", test="os")
    own = [curves[curves["variable"] == "cathode"], nine(curves[curves["variable"] == "dimu_pt"], "variable", names)]
    legend = p_values(pd.concat(own), of_test(saved, "os", "os"), Dataset(TOY)).axes[0].get_legend()
    shown = [line for line in legend.get_lines() if len(str(line.get_marker())) == 1]
    assert len(shown) == 10
    assert len({(str(line._unscaled_dash_pattern), line.get_marker()) for line in shown}) == 10

    spectra = nine(chosen(saved, "mass_histograms.parquet", train="os", test="os"), "fpr", fprs)
    points = nine(chosen(saved, "mass_points.parquet", train="os", test="os"), "fpr", fprs)
    figure = mass_spectra(spectra, Spectra(saved.config.window, points), Dataset(Origin("measured")))
    assert len(figure.axes[0].containers) == 9
    histograms = nine(nine(chosen(saved, "feature_histograms.parquet", train="os", test="os").dropna(), "fpr", fprs),
                      "feature", names)  # fmt: skip
    panels = feature_spectra(histograms, Dataset(Origin("measured"))).axes
    assert [len(axes.patches) for axes in panels] == [9] * 9

    kept = nine(saved.drawings["efficiency_os_on_os"].table, "fpr", np.geomspace(0.5, 1e-3, 9))
    axes = efficiency(kept, saved.config.window, "os", "os", Dataset(Origin("measured"))).axes[0]
    assert len(axes.containers) == 9
    distances = saved.drawings["agreement_os"].table.assign(**{f"ks_{name}": 0.01 for name in names})
    axes = agreement(distances, saved.config.window, "os", Dataset(Origin("measured"))).axes[1]
    n_features = sum(column.startswith("ks_") for column in distances)
    assert len(axes.get_legend().get_texts()) == n_features + 1  # and the level of chance

    fits = [(degree, n_bins) for degree in range(1, 10) for n_bins in range(5, 14)]
    cathode = curves[curves["variable"] == "cathode"]
    others = [cathode.assign(baseline=False, degree=degree, n_bins_sr=n_bins) for degree, n_bins in fits]
    axes = fit_variations(pd.concat([cathode, *others]), "own", Dataset(Origin("measured"))).axes[0]
    assert len(axes.get_legend().get_texts()) == 1 + 81


@pytest.mark.slow
def test_every_drawing_draws_and_says_that_it_is_simulated(saved):
    kinds = {name.split("_")[0] for name in saved.drawings}
    assert kinds >= {
        "fig1a", "fig1b", "fig2a", "fig2b", "fig3", "cross", "flow", "closure", "agreement", "scores", "efficiency",
        "conformal", "importance", "cutflow", "spectrum", "study", "convergence",
    }  # fmt: skip
    for name, drawing in saved.drawings.items():
        if "ss" in name.split("_") and not name.startswith("fig1"):
            continue  # the same functions on other numbers
        figure = drawing.draw()
        assert sum(text.get_text() == "SIMULATED" for text in figure.texts) == 1, name
        assert any(axes.get_xlabel() for axes in figure.axes), name
        assert len(drawing.table) > 0
        assert len(drawing.caption) > 60


@pytest.mark.parametrize("kind", KINDS)
def test_the_origin_is_said(saved, kind):
    origin = Origin(kind, "CMS Open Data", "2016", "13 TeV", "8.7 fb-1")
    figure = p_figure(saved, "os", "os", origin)
    said = figure_words(figure)
    assert ("SIMULATED" in said) == (kind == "simulated")
    assert ("not data" in said) == (kind == "simulated")
    assert ("Origin not stated" in said) == (kind == "unknown")
    assert ("REBUILT" in said) == (kind == "rebuilt")
    assert "Open Data 2016" in said
    assert "8.7 fb$^{-1}$ (13 TeV)" in said
    assert not {"Open", "fb", "TeV"} & set(figure_words(p_figure(saved, "os", "os", Origin(kind))).split())


def test_the_same_working_point_looks_the_same_in_every_figure(saved):
    """Colour, marker and dash of 5 % in the spectra, their panels, the features and the efficiencies."""
    spectra = chosen(saved, "mass_histograms.parquet", train="os", test="os", variable="cathode")
    points = chosen(saved, "mass_points.parquet", train="os", test="os", variable="cathode")
    look = style.working_point_looks(small_results.FIGURE_FPRS)[0.05]
    drawn_with = Spectra(saved.config.window, points.assign(valid=True))
    together, apart = (draw(spectra, drawn_with, Dataset(TOY)) for draw in (mass_spectra, mass_panels))
    curves = saved.drawings["efficiency_os_on_os"].draw().axes[0].containers
    marked = [
        together.axes[0].containers[3].lines[0],
        apart.axes[3].containers[0].lines[0],
        curves[2].lines[0],  # without the working point that keeps everything
    ]
    assert {(line.get_color(), line.get_marker()) for line in marked} == {(look.colour, look.marker)}
    features_drawn = saved.drawings["fig3_features_os_on_os"].draw().axes[0]
    (outline,) = [patch for patch in features_drawn.patches if patch.get_label() == "FPR 5%"]
    fits = [line for axes in (together.axes[0], apart.axes[3]) for line in axes.lines if len(line.get_xdata()) > 50
            and line.get_color() == look.colour and line.get_linestyle() != "None"]  # fmt: skip
    assert len(fits) == 2
    assert {line.get_linestyle() for line in fits} == {outline.get_linestyle()} == {look.line}
    assert len({each.marker for each in style.working_point_looks(small_results.FIGURE_FPRS).values()}) == 7


def test_fits_of_few_events_are_drawn_in_the_signal_region_alone(saved):
    spectra = chosen(saved, "mass_histograms.parquet", train="os", test="os", variable="cathode")
    points = chosen(saved, "mass_points.parquet", train="os", test="os", variable="cathode")
    points = points.assign(valid=points["fpr"] > 0.02)
    looks = style.working_point_looks(small_results.FIGURE_FPRS)
    for draw, panel_of in ((mass_spectra, lambda i: 0), (mass_panels, lambda i: i)):
        figure = draw(spectra, Spectra(saved.config.window, points), Dataset(TOY))
        for index, (fpr, look) in enumerate(looks.items()):
            axes = figure.axes[panel_of(index)]
            lines = [line.get_xdata() for line in axes.lines if line.get_linestyle() != "None"
                     and line.get_color() == look.colour and len(line.get_xdata()) > 2]  # fmt: skip
            assert len(lines) == 1
            assert ((lines[0] > 9.0) & (lines[0] < 10.6)).all() == (fpr < 0.02)


def test_declared_resonances_are_marked_where_the_window_holds_them(saved):
    spectra = chosen(saved, "mass_histograms.parquet", train="os", test="os", variable="cathode")
    known = {"first": 9.46, "far": 91.2}
    for draw in (mass_spectra, mass_panels):
        figure = draw(spectra, Spectra(saved.config.window, None, known), Dataset(TOY))
        assert any(len(set(line.get_xdata())) == 1 and line.get_xdata()[0] == 9.46 for line in figure.axes[0].lines)
        assert "first" in figure_words(figure)
        assert "far" not in figure_words(figure)
    assert not saved.known  # and a configuration that declares none has none marked


def test_weights_are_scaled_to_the_events_that_would_be_as_precise():
    """Of n equal weights n events are left, whatever the weight; of one heavy and many light ones about one."""

    def spectrum(weights):
        return pd.DataFrame({"variable": "likelihood", "n_obs": [weights.sum()], "n_bkg": 0.5 * weights.sum(),
                             "n_obs_err": np.sqrt((weights**2).sum()), "n_bkg_err": 0.1})  # fmt: skip

    points = pd.DataFrame({"n_obs": [4.0], "n_bkg": 2.0, "z0": 3.0})
    for weights, n_effective in ((np.full(50, 7.0), 50.0), (np.r_[100.0, np.full(50, 0.01)], 1.01)):
        table, scaled = effective(spectrum(weights), points)
        assert table["n_obs"].item() == pytest.approx(n_effective, rel=1e-3)
        assert table["n_obs_err"].item() ** 2 == pytest.approx(n_effective, rel=1e-3)
        assert table["n_bkg"].item() == pytest.approx(0.5 * table["n_obs"].item())
        assert scaled["n_obs"].item() / scaled["n_bkg"].item() == 2.0
        assert scaled["z0"].item() == 3.0
    events = spectrum(np.ones(9)).assign(variable="cathode")
    assert effective(events, None)[0] is events


def test_p_values_that_floating_point_does_not_have_are_said():
    """Fifty standard deviations: the axis ends, and says where the curve is drawn."""
    _, axes = style.panel()
    p_value_axes(axes, 0.0)
    bottom, top = axes.get_ylim()
    assert 0 < bottom < FLOOR < top
    assert [text.get_text() for text in axes.texts if "drawn there" in text.get_text()] == [
        "$p < 10^{-280}$ is drawn there"
    ]
    _, axes = style.panel()
    p_value_axes(axes, 1e-200)
    assert not [text for text in axes.texts if "drawn there" in text.get_text()]


def test_strong_signals_are_drawn_linear_in_standard_deviations():
    """22 standard deviations beside 2: each takes as much of the axis; p = 1 ends an ordinary one."""
    _, axes = style.panel()
    p_value_axes(axes, norm.sf(22))
    at = axes.transData.transform([(0.1, norm.sf(sigma)) for sigma in (2, 4, 20, 22)])[:, 1]
    assert at[0] - at[1] == pytest.approx(at[2] - at[3])
    assert axes.get_ylim()[0] < norm.sf(22)
    ticks = axes.get_yticks()
    assert len(ticks) > 6
    assert np.log10(ticks) == pytest.approx(np.round(np.log10(ticks)))
    assert {r"2$\sigma$", r"22$\sigma$"} <= {text.get_text() for text in axes.texts}
    _, axes = style.panel()
    p_value_axes(axes, 1e-9)
    assert axes.get_ylim()[1] == 1.0
    assert 1e-11 < axes.get_ylim()[0] < 1e-9


def test_a_global_value_has_its_error_and_a_bound_is_drawn_as_one(saved):
    curves = chosen(saved, "significance_curves.parquet", train="os", test="os")
    result, blue = of_test(saved, "os", "os"), style.COLOURS[0]
    value = GlobalSignificance(3.3, "toys", 300, 6, p=norm.sf(2.0), z0=2.0, z0_low=1.8, z0_high=2.3)
    bound = GlobalSignificance(3.3, "toys", 300, 0, bound=2.1)
    axes = p_values(curves, replace(result, global_=value), Dataset(TOY)).axes[0]
    (at,) = [c for c in axes.containers if c.lines[0].get_marker() == "D"]
    assert at.lines[0].get_data() == ([result.cathode_max.fpr], [norm.sf(2.0)])
    (bar,) = at.lines[2]
    assert bar.get_segments()[0][:, 1] == pytest.approx([norm.sf(2.3), norm.sf(1.8)])
    axes = p_values(curves, replace(result, global_=bound), Dataset(TOY)).axes[0]
    (at,) = [line for line in axes.lines if line.get_marker() is BOUND and line.get_color() == blue]
    assert at.get_data() == ([result.cathode_max.fpr], [norm.sf(2.1)])
    assert "> 2.1$\\sigma$ (a bound)" in words(axes)
    assert not [c for c in axes.containers if c.lines[0].get_marker() == "D"]


@pytest.mark.parametrize(
    ("settings", "is_the_papers"),
    [
        ({"input": {"simulation": {}}}, True),
        ({"input": {"dimuons": "mine.parquet"}}, True),
        (
            {"input": {"simulation": {}}, "window": {"sb_low": 2.4, "sr_low": 2.9, "sr_high": 3.3, "sb_high": 3.6}},
            False,
        ),
        ({"input": {"table": {"file": "mine.csv", "mass": "m"}}}, False),
    ],
)
def test_only_the_papers_dimuons_in_its_window_have_figure_numbers(settings, is_the_papers):
    chosen_config = config.Config.model_validate({"name": "x", "seed": 1} | settings)
    saved = SimpleNamespace(config=chosen_config, data=chosen_config.dataset)
    assert Saved.is_the_papers.fget(saved) == is_the_papers


def test_curves_of_others_are_drawn_beside_ours(saved):
    curves, other = chosen(saved, "significance_curves.parquet", train="os", test="os"), np.array([1e-3, 1e-12])
    overlays = [Overlay("theirs", np.array([0.01, 0.1]), other)]
    axes = p_values(curves, of_test(saved, "os", "os"), Dataset(TOY), overlays).axes[0]
    (line,) = [line for line in axes.lines if line.get_label() == "theirs"]
    np.testing.assert_array_equal(line.get_ydata(), other)
    assert axes.get_ylim()[0] < 1e-12


def points(axes):
    """[(x, y)] of every set of points with errors in a panel."""
    drawn = [container.lines[0] for container in axes.containers if container.lines]
    return [(line.get_xdata(orig=False), line.get_ydata(orig=False)) for line in drawn]


def holds(axes, x, y):
    """Whether a set of points with errors, or a curve, is this one."""
    curves = points(axes) + [line.get_data(orig=False) for line in axes.lines]
    return any(len(a) == len(x) and np.allclose(a, x) and np.allclose(b, y) for a, b in curves)


@pytest.mark.parametrize(
    ("name", "across", "up"),
    [
        ("flow_losses_os", "Epoch", "Mean negative log-density [nats]"),
        ("closure_os", "Dimuon $p_T$ [GeV]", "Events / bin"),
        ("agreement_os", "", "AUC, sampled against real"),
        ("efficiency_os_on_os", r"Dimuon mass $m_{\mu\mu}$ [GeV]", "Fraction of events kept"),
        ("conformal_os", "False-positive rate (fraction of sideband events kept)", r"Local significance [$\sigma$]"),
        ("cutflow", "Events left", ""),
        ("spectrum", r"Dimuon mass $m_{\mu\mu}$ [GeV]", "Muon pairs / GeV"),
        ("study_variations_os", r"$Z_0$ [$\sigma$]", ""),
        ("study_pseudoexperiments_os", r"$Z_0$ [$\sigma$]", "Fraction of null datasets at or above $Z_0$"),
        ("study_controls", "False-positive rate", r"Signed $Z_0$ [$\sigma$], median and spread over seeds"),
        ("study_injection", "Signal events injected", r"$Z_0$ [$\sigma$]"),
        ("study_cut_scan_os", "Dimuon $p_T$ above [GeV]", "Both muons' IP3D below [cm]"),
        ("convergence_os_on_os", "Members of the ensemble, per fold", r"$Z_0$ [$\sigma$]"),
        ("importance_os", "AUC lost when the feature is shuffled", ""),
    ],
)
def test_axes_say_what_and_in_which_unit(saved, name, across, up):
    axes = saved.drawings[name].draw().axes
    labels = {panel.get_xlabel() for panel in axes}, {panel.get_ylabel() for panel in axes}
    assert (across in labels[0], up in labels[1]) == (True, True), labels


def test_losses_and_the_epoch_that_is_kept(saved):
    drawing = saved.drawings["flow_losses_os"]
    axes = drawing.draw().axes[0]
    for _, part in drawing.table.groupby("member"):
        assert holds(axes, part["epoch"], part["train_loss"])
        assert holds(axes, part["epoch"], part["validation_loss"])
        best = part.sort_values("validation_loss").iloc[0]
        assert holds(axes, [best["epoch"]], [best["validation_loss"]])


def test_closure_draws_data_samples_their_error_and_ratios_beyond_the_axis(saved):
    table = saved.drawings["closure_os"].table.copy()
    part = table[(table["feature"] == "dimu_pt") & (table["region"] == "SBL")].index
    table.loc[part[3], ["n_real", "n_sampled", "n_sampled_err"]] = 90, 30.0, 4.0  # 3 times too many
    table.loc[part[5], ["n_real", "n_sampled", "n_sampled_err"]] = 10, 100.0, 8.0  # 10 times too few
    figure = closure(table, "os", Dataset(TOY))
    assert "Dimuon $p_T$ [GeV]" in [axes.get_xlabel() for axes in figure.axes]
    top, ratio = figure.axes[0], figure.axes[3]
    part = table.loc[part]
    centre = (part["bin_low"] + part["bin_high"]) / 2
    assert holds(top, centre, part["n_real"])
    full = (part["n_real"] > 0) & (part["n_sampled"] > 0)
    assert holds(ratio, centre[full], (part["n_real"] / part["n_sampled"])[full])
    lines = [patch.get_data() for patch in top.patches]
    assert any(np.array_equal(line.values, part["n_sampled"]) for line in lines)
    assert any(np.allclose(line.values, part["n_sampled"] + part["n_sampled_err"])
               and np.allclose(line.baseline, part["n_sampled"] - part["n_sampled_err"]) for line in lines)  # fmt: skip
    arrows = {line.get_marker(): line.get_data() for line in ratio.lines if line.get_color() == style.COLOURS[0]
              and line.get_marker() in ("^", "v")}  # fmt: skip
    bands = [patch.get_data() for patch in ratio.patches]
    for level in (68, 95):
        ends = [part[f"{end}_{level}"] / part["n_sampled"].where(part["n_sampled"] > 0) for end in ("low", "high")]
        assert any(np.allclose(band.baseline, ends[0], equal_nan=True)
                   and np.allclose(band.values, ends[1], equal_nan=True) for band in bands)  # fmt: skip
    low, high = ratio.get_ylim()
    for index, marker in ((3, "^"), (5, "v")):
        assert centre.iloc[index] in arrows[marker][0]
        assert ((low < arrows[marker][1]) & (arrows[marker][1] < high)).all()


def test_agreement_draws_every_test_in_its_slices_and_the_level_of_chance(saved):
    drawing = saved.drawings["agreement_os"]
    top, bottom = drawing.draw().axes
    for test in ("sidebands", "half_split", "shifted_windows"):
        slices = drawing.table[
            (drawing.table["test"] == test) & ~drawing.table["place"].isin(["sidebands", "SBL", "SBH"])
        ]
        low, high = slices["mass_low"].to_numpy(), slices["mass_high"].to_numpy()
        assert len(slices) == 2
        assert holds(top, (low + high) / 2, slices["auc"])
        assert holds(bottom, low + (high - low) / 2, slices["ks_mu0_ip3d"])  # the second of three, side by side
        levels = [segment for bars in bottom.collections for segment in bars.get_segments()]
        assert all(
            any(np.allclose(bar, [[a, 0.047], [b, 0.047]]) for bar in levels) for a, b in zip(low, high, strict=True)
        )
    for label in ("the sidebands themselves", "half of them", "windows hidden from the training"):
        assert label in words(top)
    assert "exceeded by chance" in words(bottom)


def test_conformal_draws_each_comparison_and_the_fit(saved):
    drawing = saved.drawings["conformal_os"]
    axes, table = drawing.draw().axes[0], drawing.table
    for name, column in (("low sideband", "z_conformal"), ("between them", "z_conformal"), ("mass fit", "z0")):
        own = table[table["calibration"] == name].sort_values("fpr")
        assert len(own) >= 24
        assert holds(axes, own["fpr"], own[column])


def test_efficiency_draws_what_passes_and_what_is_asked(saved):
    drawing = saved.drawings["efficiency_os_on_os"]
    axes = drawing.draw().axes[0]
    assert saved.run.data / "sculpting_os_on_os.parquet" in drawing.inputs
    scored = saved.table(saved.run.data / "scores_os_on_os.parquet").set_index("row")
    events = saved.dimuons.loc[scored.index].assign(score=scored["score"])
    cut = np.quantile(events.loc[events["region"] != "SR", "score"], 0.9)  # of two neighbours it may be the other one
    table = drawing.table[np.isclose(drawing.table["fpr"], 0.1)]
    for row in table.itertuples():
        inside = events["dimu_mass"].between(row.bin_low, row.bin_high, inclusive="left")
        assert row.n_before == inside.sum()
        assert row.n_after == pytest.approx((inside & (events["score"] >= cut)).sum(), abs=1)
    assert holds(axes, (table["bin_low"] + table["bin_high"]) / 2, table["n_after"] / table["n_before"])
    assert holds(axes, [0, 1], [0.1, 0.1])


def test_cutflow_bars_are_as_long_as_the_events_left(saved):
    axes = saved.drawings["cutflow"].draw().axes[0]
    steps = saved.json(saved.run.data / "cutflow.json")["steps"]
    for container, charge in zip(axes.containers, ("all", "os", "ss"), strict=True):
        counts = [step["events"][charge] for step in steps if step["events"][charge] is not None]
        assert [bar.get_width() for bar in container] == counts
        assert all(f"{count:,}" in words(axes) for count in counts)
    assert [label.get_text() for label in axes.get_yticklabels()] == [step["name"] for step in steps]
    assert axes.get_xlim()[0] == 1


def test_steps_of_the_cutflow_have_labels_units_and_lines_that_fit():
    data = Dataset()
    assert in_words("5 <= dimu_mass <= 16", data) == r"5 ≤ Dimuon mass $m_{\mu\mu}$ ≤ 16 GeV"
    trigger = "HLT_TrkMu15_DoubleTrkMu5NoFiltersNoVtx"
    assert in_words(trigger, data).replace("\n", "") == trigger
    assert max(map(len, in_words(trigger, data).split("\n"))) < 34


def test_spectrum_is_per_gev(saved):
    table = saved.table(saved.run.data / "skim" / "spectrum.parquet")
    axes = saved.drawings["spectrum"].draw().axes[0]
    for patch, name in zip(axes.patches, ("n_os", "n_ss"), strict=True):
        values, edges, _ = patch.get_data()
        np.testing.assert_allclose(values * np.diff(edges), table[name])
    assert "opposite sign" in words(axes)


def test_variations_show_z0_of_each_and_the_baseline_as_a_line(saved):
    table = saved.drawings["study_variations_os"].table
    axes = saved.drawings["study_variations_os"].draw().axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    for variable in ("no_cut", "cathode_max", "likelihood"):
        z0 = table[table["variable"] == variable].set_index("variation")["z0"]
        assert holds(axes, z0[names], range(len(names)))
        assert holds(axes, [z0["baseline"]] * 2, [0, 1])


def test_controls_show_the_gate_filled_and_the_likelihood_in_its_place(saved):
    """A panel for each control."""
    drawing = saved.drawings["study_controls"]
    panels = drawing.draw().axes
    assert ["ss\n4 seeds" in words(axes) for axes in panels] == [False, True]
    axes, table = panels[1], drawing.table[drawing.table["control"] == "ss"]
    markers = {container.lines[0].get_fillstyle(): list(zip(*container.lines[0].get_data(), strict=True))
               for container in axes.containers}  # fmt: skip
    medians = table[table["variable"] == "cathode"].groupby("fpr")["z0"].median().sort_index()
    in_gate, others = medians.iloc[[1, 2]], medians.iloc[[0, 3, 4]]  # nearest, as ratios, to FPR 0.01 and 0.1
    likelihood = table.loc[table["variable"] == "likelihood", "z0"].median()
    *at_cuts, (at, value) = markers["full"]
    assert at_cuts == list(in_gate.items())
    assert markers["none"] == list(others.items())
    assert value == pytest.approx(likelihood)
    assert medians.index[-1] < at < axes.get_xlim()[1]
    assert "likelihood" in words(axes)
    assert "not in the gate" in words(axes)


def test_injection_shows_medians_per_method(saved):
    table = saved.drawings["study_injection"].table
    axes = saved.drawings["study_injection"].draw().axes[0]
    for method in ("no_cut", "cathode_max", "supervised"):
        part = table[table["method"] == method]
        at = sorted(part["n_injected"].unique())
        assert holds(axes, at, [np.median(part.loc[part["n_injected"] == n, "z0"]) for n in at])
    assert "ideal supervised classifier" in words(axes)


def test_cut_scan_writes_z0_at_its_cuts_and_brackets_what_is_not_valid(saved):
    table = saved.drawings["study_cut_scan_os"].table
    axes = saved.drawings["study_cut_scan_os"].draw().axes[0]
    across = [float(label.get_text()) for label in axes.get_xticklabels()]
    up = [float(label.get_text()) for label in axes.get_yticklabels()]
    cells = {text.get_position(): text.get_text() for text in axes.texts if text.get_text().strip("()")[:1].isdigit()}
    for row in table.itertuples():
        said = cells[across.index(row.pt_cut), up.index(row.ip3d_cut)]
        assert said == (f"{row.z0:.1f}" if row.valid else f"({row.z0:.1f})")


def test_convergence_shows_medians_and_importance_its_losses(saved):
    table = saved.drawings["convergence_os_on_os"].table
    axes = saved.drawings["convergence_os_on_os"].draw().axes[0]
    for column in ("z0_max", "z0_likelihood"):
        assert holds(axes, [1, 5, 20], [np.median(table.loc[table["n_members"] == n, column]) for n in (1, 5, 20)])
    axes = saved.drawings["importance_os"].draw().axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.01, 0.02, 0.03])
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [features.FEATURES[name].label for name in small_results.TRAINING]


def test_efficiency_of_a_random_cut_is_its_rate_everywhere():
    rng = np.random.default_rng(3)
    chosen_config = config.Config(name="x", seed=1, input={"scores": "x"})
    mass, score = rng.uniform(5, 16, 400_000), rng.uniform(size=400_000)
    bins = chosen_config.window.binning(11)
    table = cut_and_count.efficiencies(mass, CutVariable("cathode", score), [0.1], bins)
    pulls = (table["efficiency"] - 0.1) / np.sqrt(0.09 / table["n_before"])
    assert np.abs(pulls).max() < 4.5
    assert (table["region"] == "SR").sum() == 1
    edges = set(table["bin_low"]) | set(table["bin_high"])
    assert {9.0, 10.6} <= edges
    assert (table["efficiency_low"] <= table["efficiency"]).all()
    assert (table["efficiency"] <= table["efficiency_high"]).all()


def test_flagged_working_points_are_marked(saved):
    drawing = saved.drawings["efficiency_os_on_os"]
    said = words(drawing.draw().axes[0])
    assert "0.1%, FLAGGED" in said
    assert said.count("FLAGGED") == 1


def test_null_distribution_counts_the_datasets_at_or_above(saved):
    drawing = saved.drawings["study_pseudoexperiments_os"]
    axes = drawing.draw().axes[0]
    values = drawing.table.query("variable == 'cathode_max'")["z0"]
    line = next(line for line in axes.lines if line.get_label() == "CATHODE, best cut")
    at, share = line.get_data()
    expected = [(values >= z0).mean() for z0 in at]
    np.testing.assert_allclose(share, expected)
    verticals = {line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1}
    study = saved.run.results / "studies" / "pseudoexperiments.json"
    like_nulls = saved.json(study)["os"]["data"]["like_nulls"]
    assert verticals == {like_nulls[name]["asymptotic"] for name in ("no_cut", "cathode_max", "likelihood")}
    assert study in drawing.inputs
    # however many rows each of them has
    assert axes.get_legend().get_title().get_text() == "300 null datasets, OS\nvertical lines: data"
    assert axes.get_ylim()[0] == pytest.approx(0.2 / 300)


def test_toy_values_are_starred_and_bounds_have_arrows(saved):
    curves = chosen(saved, "significance_curves.parquet", train="os", test="os")
    curves = curves.assign(n_toys=np.where(curves["valid"], 0, 1000), p0_toys=0.01, p0_toys_err=0.003)
    curves["toys_bound"] = curves["fpr"] < 2e-3
    axes = p_values(curves, of_test(saved, "os", "os"), Dataset(TOY)).axes[0]
    assert {"CATHODE, from toys", "CATHODE, from toys: below"} <= set(words(axes).split(" | "))
    cathode = curves[(curves["variable"] == "cathode") & (curves["n_toys"] > 0)]
    starred = axes.containers[0].lines[0].get_xdata()
    assert sorted(starred) == sorted(cathode.loc[~cathode["toys_bound"], "fpr"])
    (bounds,) = [line for line in axes.lines if line.get_marker() is BOUND and line.get_color() == "black"]
    assert sorted(bounds.get_xdata()) == sorted(cathode.loc[cathode["toys_bound"], "fpr"])


def test_scores_are_normalised_in_each_region(saved):
    table = saved.drawings["scores_os_on_os"].table
    areas = table.assign(area=table["density"] * (table["bin_high"] - table["bin_low"])).groupby("sample")["area"].sum()
    assert areas.to_dict() == pytest.approx(dict.fromkeys(("sampled", "SBL", "SR", "SBH"), 1.0))
    sampled = saved.table(saved.run.data / "scores_os_on_background.parquet")
    counted = table.loc[table["sample"] == "sampled", "n_obs"].to_numpy()
    np.testing.assert_array_equal(counted, np.histogram(sampled["score"], np.linspace(0, 1, 51))[0])
    assert "sampled" not in set(saved.drawings["scores_ss_on_os"].table["sample"])


def test_score_figure_shows_the_sampled_background_and_the_signal_region_with_errors(saved):
    axes = saved.drawings["scores_os_on_os"].draw().axes[0]
    table = saved.drawings["scores_os_on_os"].table
    (points,) = axes.containers
    in_sr = table[(table["sample"] == "SR") & (table["n_obs"] > 0)]
    np.testing.assert_allclose(points.lines[0].get_ydata(orig=False), in_sr["density"])
    said = words(axes)
    assert "sampled background" in said
    assert "signal region" in said
    assert axes.get_xlabel() == "Mean classifier score"


def test_pulls_are_the_usual_ones_for_many_events_and_finite_for_few():
    expected = np.array([1e6, 1e6, 4.0, 0.3])
    pulls = style.deviance_pull([1e6 + 2000, 1e6 - 3000, 0, 1], expected)
    assert pulls[:2] == pytest.approx([2.0, -3.0], rel=1e-2)
    assert pulls[2] == pytest.approx(-np.sqrt(8))
    assert 0 < pulls[3] < 1.3
    assert np.isnan(style.deviance_pull([1.0], [0.0]))


def test_pulls_of_weighted_events_do_not_depend_on_the_scale_of_the_weights():
    rng = np.random.default_rng(2)
    weights = rng.exponential(1, (400, 50))
    observed, error = weights.sum(axis=1), np.sqrt((weights**2).sum(axis=1))
    pulls = style.deviance_pull(observed, np.full(400, 50.0), error)
    again = style.deviance_pull(30 * observed, np.full(400, 1500.0), 30 * error)
    assert again == pytest.approx(pulls)
    counts = rng.poisson(20, 100).astype(float)
    of_events = style.deviance_pull(counts, np.full(100, 20.0), np.sqrt(counts))
    assert of_events == pytest.approx(style.deviance_pull(counts, np.full(100, 20.0)))


def test_poisson_errors_are_garwoods():
    counts = np.array([0.0, 1.0, 7.0])
    low, high = style.poisson_errors(counts)
    tail = norm.sf(1)
    upper = chi2.isf(tail, 2 * (counts + 1)) / 2
    lower = np.array([0, *(chi2.ppf(tail, 2 * counts[1:]) / 2)])
    assert counts - low == pytest.approx(lower, abs=2e-3)
    assert counts + high == pytest.approx(upper, abs=2e-3)


def test_what_a_colour_says_marker_or_line_says_too(saved):
    """Grey and colour-blind readers: no two curves of Fig. 2b share line style and marker."""
    legend = p_figure(saved, "os", "os").axes[0].get_legend()
    looks = [(line.get_linestyle(), line.get_marker()) for line in legend.get_lines()]
    assert len(set(looks)) == len(looks)
    brightness = [np.dot(colour[:3], [0.2126, 0.7152, 0.0722]) for colour in style.shades(7)]
    assert (np.diff(brightness) > 0.03).all()


@pytest.mark.slow
def test_saved_files_have_fonts_inside_and_the_same_bytes_twice(saved, tmp_path):
    for stem in ("first", "second"):
        pdf, png = style.save(p_figure(saved, "os", "os"), tmp_path / stem)
        assert b"/FontFile2" in pdf.read_bytes()  # TrueType, as its CIDFontType2 promises
        assert b"FiraSans" in pdf.read_bytes()
        assert b"Gyre" not in pdf.read_bytes()
        assert b"/Type3" not in pdf.read_bytes()
    assert (tmp_path / "first.pdf").read_bytes() == (tmp_path / "second.pdf").read_bytes()
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_drawings_can_be_sent_to_another_process(saved):
    drawing = saved.drawings["fig2b_p_values_os_on_os"]
    again = pickle.loads(pickle.dumps(drawing))
    pd.testing.assert_frame_equal(again.table, drawing.table)


def test_numbers_beside_the_figure_are_those_drawn(saved, tmp_path):
    drawing = saved.drawings["scores_os_on_os"]
    files = drawings.write(drawing, tmp_path)
    written = pd.read_csv(files["csv"]).astype({"n_obs": float})  # sums of unit weights are written as whole numbers
    pd.testing.assert_frame_equal(written, drawing.table, rtol=1e-6)


def test_style_leaves_the_callers_settings_alone(saved):
    import matplotlib

    before = dict(matplotlib.rcParams)
    p_figure(saved, "os", "os")
    assert dict(matplotlib.rcParams) == before


def test_weighted_samples_are_drawn_with_their_weights():
    """Two sampled events of which one counts three times are four."""
    events = pd.DataFrame(
        {"score": [0.11, 0.91, 0.91], "region": ["sampled", "sampled", "SR"], "weight": [3.0, 1.0, 1]}
    )
    table = score_table(events).query("n_obs > 0")
    assert table["n_obs"].tolist() == [3.0, 1.0, 1.0]
    assert table["density"].to_numpy() / 50 == pytest.approx([0.75, 0.25, 1.0])


def test_scores_of_weighted_samples_find_their_weights(tmp_path):
    """The weights lie in the table of samples, by the row that the scores name."""
    small_results.build(tmp_path, charges=("os",))
    with contextlib.chdir(tmp_path):
        run = provenance.Run(config.load("small.yaml"), "04_sample_background.py", "small.yaml")
        path, meta = run.data / "background_os.parquet", provenance.sidecar_path(run.data / "background_os.parquet")
        inputs, sampled = list(json.loads(meta.read_text())["inputs"]), pd.read_parquet(path)
        weight = np.where(np.arange(len(sampled)) % 2, 2.0, 0.5)
        run.write_table(path, sampled.assign(weight=weight), inputs)
        saved = Saved(provenance.Run(run.config, "07_plots.py", "small.yaml"))
        table = {drawing.name: drawing for drawing in registry.drawings(saved)}["scores_os_on_os"].table
        rows = pd.read_parquet("data/small/scores_os_on_background.parquet")["row"]
    assert table.loc[table["sample"] == "sampled", "n_obs"].sum() == pytest.approx(weight[rows].sum())


def test_every_figure_has_a_place_of_its_own_and_a_new_one_is_entered_once():
    orders = [kind.order for kind in registry.FIGURES.values()]
    assert len(set(orders)) == len(orders) == 31
    with pytest.raises(ValueError, match="'spectrum' is registered twice"):
        registry.figure("spectrum", section=None, order=1, caption="")(lambda saved: [])
