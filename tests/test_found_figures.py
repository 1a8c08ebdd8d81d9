"""The figures of what was found say what the fit and the tables say."""

import contextlib

import numpy as np
import pytest

from dimuon.bumphunt.excess import with_error
from dimuon.dataset import Dataset
from dimuon.figures import registry
from dimuon.figures.checks import found as figures
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section
from dimuon.statistics.peak_shapes import SHAPES
from dimuon.workflow import products, provenance
from tests import small_results
from tests.test_excess import WINDOW, described, scored


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """The figures of a small analysis by name, and its saved results."""
    folder = tmp_path_factory.mktemp("found")
    chosen = small_results.build(folder)
    with contextlib.chdir(folder):
        saved = Saved(provenance.Run(chosen, "07_plots.py", "small.yaml"))
        kinds = [registry.FIGURES[name] for name in ("peaks", "found_columns")]
        found = figures._found(saved)
        yield {drawing.name: drawing for kind in kinds for drawing in kind.of(saved)}, found, saved


def texts(axes):
    return " ".join(text.get_text() for text in axes.texts)


@pytest.mark.slow
def test_there_is_one_for_each_fit_and_each_sample_with_an_excess(drawings):
    drawn, found, _ = drawings
    expected = {f"peaks_{r.variable.value}_{test}" for test, one in found.items() for r in one.peaks if r.fit}
    expected |= {f"found_columns_{test}" for test, one in found.items() if one.n_columns}
    assert set(drawn) == expected
    assert "peaks_no_cut_os_on_os" in drawn
    assert {drawing.section for drawing in drawn.values()} == {Section.FOUND}
    for drawing in drawn.values():
        assert "{" not in drawing.caption
        assert drawing.caption


@pytest.mark.slow
def test_the_fitted_masses_stand_at_the_peaks():
    what, _ = described(scored(), known={"state": 9.6})
    result, table = what.found.peaks[0], what.masses[what.masses["variable"] == "no_cut"]
    main, pulls = figures.peaks(table, result, WINDOW, ("os", "os"), data=Dataset()).axes
    assert result.fit.peaks
    for peak in result.fit.peaks:
        assert f"state\n{with_error(peak.mass, peak.mass_err)} GeV" in texts(main)
    assert f"{result.fit.chi2:.0f} / {result.fit.ndf}" in texts(main)
    assert f"mass scale {with_error(result.scale.scale, result.scale.scale_err)}" in texts(main)
    line = next(line for line in main.lines if line.get_label() == "Background and peaks")
    np.testing.assert_allclose(line.get_ydata(), table["n_fit"])
    assert pulls.get_xlabel() == "Dimuon mass $m_{\\mu\\mu}$ [GeV]"


def test_every_form_of_a_peak_has_a_name():
    assert set(figures.FORMS) == set(SHAPES)


def test_columns_are_drawn_in_their_order_and_normalised(drawings):
    drawn, _, saved = drawings
    drawing = drawn["found_columns_os_on_os"]
    ranking = saved.table(saved.run.path(products.FOUND_COLUMNS))
    ranking = ranking[(ranking["train"] == "os") & ranking["z"].notna()]
    shown = list(dict.fromkeys(drawing.table["feature"]))
    assert len(shown) == figures.SHOWN
    assert set(ranking.loc[ranking["trained"], "feature"]) <= set(shown)
    others = ranking.loc[~ranking["trained"], "feature"]
    assert [name for name in shown if name in set(others)] == list(others[: figures.SHOWN - ranking["trained"].sum()])
    assert shown == sorted(shown, key=list(ranking["feature"]).index)
    axes = drawing.draw().axes
    for panel, name in zip(axes, shown, strict=False):
        row = ranking.set_index("feature").loc[name]
        assert f"z = {row['z']:.1f}" in texts(panel)
        assert ("never trained on" in texts(panel)) == (not row["trained"])
        values, edges, _ = panel.patches[0].get_data()
        width = np.diff(np.log10(edges) if panel.get_xscale() == "log" else edges)
        assert np.sum(values * width) == pytest.approx(1)
