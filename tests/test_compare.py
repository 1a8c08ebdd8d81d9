"""Two results folders side by side."""

import shutil

import numpy as np
import pandas as pd
import pytest

from dimuon.__main__ import main
from dimuon.bumphunt.result import Statistic
from dimuon.commands import compare
from dimuon.dataset import Dataset
from dimuon.errors import UserError
from dimuon.figures.style import COLOURS
from dimuon.workflow.config import TOY
from tests import small_results


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    small_results.build(folder, "first")
    small_results.build(folder, "second", charges=("os",), scale=0.2)
    return folder / "results" / "first", folder / "results" / "second"


@pytest.mark.slow
def test_same_results_do_not_differ(two):
    results = compare.read(two[0])
    meta = results.sidecar
    numbers = compare.headlines(results.tests, results.tests)
    assert (numbers["difference"] == 0).all()
    assert len(compare.settings(meta, meta)) == 0
    assert "no setting differs" in compare.text([two[0], two[0]])


def test_headlines_show_what_only_one_has(two):
    first, second = (compare.read(folder).tests for folder in two)
    numbers = compare.headlines(first, second).set_index(["test", "quantity"])
    assert numbers.loc[("os_on_os", "local: no cut"), "first"] == f"{first[0].no_cut.z0:.2f}"
    assert numbers.loc[("ss_on_ss", "local: no cut"), "second"] == "-"  # the second has no SS
    assert ("os_on_ss", f"local: {Statistic.LIKELIHOOD.label}") not in numbers.index  # neither has one


def test_settings_that_differ_are_named(two):
    made = [{"settings": {"name": "a", "seed": 7, "bdt.members": 4}}, {"settings": {"name": "b", "seed": 8}}]
    differing = compare.settings(*made).set_index("setting")
    assert list(differing.index) == ["bdt.members", "seed"]  # the name always differs and is not said
    assert list(differing.loc["bdt.members"]) == ["4", "–"]
    meta = [compare.read(folder).sidecar for folder in two]
    assert "selection.charges" in set(compare.settings(*meta)["setting"])


def drawn(line, values):
    return len(line.get_ydata()) == len(values) and np.allclose(line.get_ydata(), values, rtol=1e-9)


def test_curves_of_both_are_drawn(two):
    tables = [compare.read(folder).curves for folder in two]
    figure = compare.curves(tables, ["first", "second"], Dataset(TOY))
    assert len(figure.axes) == 4
    (legend,) = [axes.get_legend() for axes in figure.axes if axes.get_legend() is not None]
    assert [text.get_text() for text in legend.get_texts()] == ["first", "second"]
    expected = tables[1].query("variable == 'cathode'").sort_values("fpr")["p0"]
    assert any(line.get_color() == COLOURS[1] and drawn(line, expected) for line in figure.axes[0].lines)


def test_variations_do_not_pass_for_the_result(two):
    table = compare.read(two[1]).curves
    other = table.assign(baseline=False, degree=3, p0=table["p0"] ** 2)
    axes = compare.curves([table, pd.concat([other, table])], ["a", "b"], Dataset(TOY)).axes
    bold = [line for line in axes[0].lines if line.get_color() == COLOURS[1] and line.get_linewidth() > 2]
    own = table.query("variable == 'cathode' and train == 'os' and test == 'os'").sort_values("fpr")["p0"]
    assert any(drawn(line, own) for line in bold)
    assert not any(drawn(line, own**2) for line in bold)
    assert any(drawn(line, own**2) for line in axes[0].lines)
    assert "other fits of each" in [text.get_text() for text in axes[0].get_legend().get_texts()]


def test_curves_of_an_older_step_6_are_named(two, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(two[1], folder)
    path = folder / "significance_curves.parquet"
    pd.read_parquet(path).drop(columns="baseline").to_parquet(path)
    with pytest.raises(UserError, match=r"column baseline is missing; .* an older 06_significance\.py wrote it: run"):
        compare.read(folder)


def test_the_largest_difference_of_the_curves_is_found():
    fprs = [1.0, 0.1, 0.01]
    first = pd.DataFrame(
        {
            "train": "os",
            "test": "ss",
            "baseline": True,
            "fpr": fprs,
            "z0": [1.0, 2.0, 3.0],
            "variable": ["cathode", "cathode", "dimu_pt"],
        }
    )
    second = first.assign(z0=[1.2, 0.5, 3.4])[::-1]
    aside = first.assign(baseline=False, z0=99.0), first.assign(variable="random", z0=-99.0)
    found = compare.largest_differences(pd.concat([first, aside[0]]), pd.concat([second, aside[1]]))
    assert found.to_dict("records") == [
        {"test": "os_on_ss", "variable": "cathode", "fpr": 0.1, "first": 2.0, "second": 0.5, "difference": -1.5}
    ]
    assert compare.largest_differences(first, first.assign(fpr=[0.9, 0.09, 0.009])).empty


def test_folders_of_the_same_name_are_told_apart(two, tmp_path):
    again = tmp_path / "other" / "results" / "first"
    shutil.copytree(two[0], again)
    assert compare.labels(two) == ["first", "second"]
    assert compare.labels([two[0], again]) == [f"{two[0].parent.parent.name}/results/first", "other/results/first"]
    assert compare.labels([two[0], two[0]]) == ["first", "first"]
    assert "other/results/first" in compare.text([two[0], again])


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(UserError, match=r"significance\.json: not found; give a folder results/<name>/"):
        compare.read(tmp_path)


@pytest.mark.slow
def test_the_command_prints_and_plots(two, caplog):
    with caplog.at_level("INFO"):
        assert main(["compare", *map(str, two), "--plot"]) == 0
    assert "SIMULATED" in caplog.text
    assert (two[0].parent / "compare_first_second.png").stat().st_size > 10_000
    assert main(["compare", "nowhere", "nowhere"]) == 2
