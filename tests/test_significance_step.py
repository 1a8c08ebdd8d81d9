"""06_significance.py as a person would run it, on a small set of saved scores and on a table of one's own."""

import hashlib
import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dimuon.bumphunt import cut_and_count
from dimuon.events import Events
from dimuon.figures import registry
from dimuon.figures.saved import Saved
from dimuon.regions import MassWindow
from dimuon.statistics.significance import discovery
from dimuon.workflow import config, provenance
from tests import small_results
from tests.conftest import ROOT
from tests.shell import here, in_shell

SCRIPT = "06_significance.py"
TABLES = (
    *("significance_curves", "mass_histograms", "feature_histograms"),
    *("events", "found_columns", "found_spectra", "peak_spectra"),
)


def run(folder, config):
    return here(folder, SCRIPT, config)


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    """A folder with the saved scores of all four combinations, and step 6 run on them."""
    folder = tmp_path_factory.mktemp("step6")
    small_results.build(folder)
    with open(folder / "small.yaml", "a") as config:
        config.write("significance: {toys: {local: 20, scan: 10, weights: 20}}\n")
    shutil.rmtree(folder / "results")
    done = in_shell(folder, SCRIPT, "small.yaml")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.slow
def test_headlines_and_files(analysis):
    folder, said = analysis
    content = json.loads((folder / "results/small/significance.json").read_text())
    assert content["origin"]["kind"] == "simulated"
    assert "one scale" in said
    assert f"{content['tests']['os_on_os']['likelihood_pooled']['z0']:.2f}" in said
    assert f"{content['tests']['os_on_os']['likelihood_calibration']['mean']:+.2f}" in said
    assert content["settings"] == {"choice": "fixed", "family": "polynomial", "degree": 5, "n_bins_sr": 11}
    assert list(content["tests"]) == ["os_on_os", "os_on_ss", "ss_on_os", "ss_on_ss"]
    found = content["tests"]["os_on_os"]
    assert {
        "train",
        "test",
        "n_events",
        "no_cut",
        "cathode_max",
        "best_feature",
        "likelihood",
        "likelihood_reason",
    } < set(found)
    assert {"sidebands", "global", "toys"} < set(found)
    assert found["cathode_max"]["z0"] >= found["no_cut"]["z0"]
    assert found["toys"]["no_cut"]["n_toys"] == 20
    for name in content["tests"]:
        assert name in said
    absent = [test for test in content["tests"].values() if test["likelihood"] is None]
    assert absent  # the same-sign toy has no excess
    assert all("no excess" in test["likelihood_reason"] for test in absent)


def test_curves(analysis):
    folder, _ = analysis
    curves = pd.read_parquet(folder / "results/small/significance_curves.parquet")
    own = curves[curves["baseline"]]
    assert set(own[["family", "degree", "n_bins_sr"]].itertuples(index=False, name=None)) == {("polynomial", 5, 11)}
    assert set(own["variable"]) == {"cathode", "dimu_pt", "mu0_ip3d", "mu1_ip3d", "random"}
    assert (own.groupby(["train", "test", "variable"]).size() == 25).all()
    assert set(map(tuple, curves[["degree", "n_bins_sr"]].drop_duplicates().to_numpy())) == {
        (degree, bins) for degree in (3, 5, 7) for bins in (7, 11, 15)
    }
    # FPR 1 keeps every event whatever is cut on
    bare = own[own["fpr"] == 1].groupby(["test", "variable"])["z0"].nunique()
    assert (bare == 1).all()
    doubtful = own[~own["valid"] & (own["variable"] != "random")]
    assert (doubtful["n_toys"] == 20).all()
    assert doubtful["z0_toys"].notna().all()
    assert (doubtful.loc[doubtful["q0"] == 0, "p0_toys"] == 1).all()
    assert own.loc[own["valid"], "z0_toys"].isna().all()


@pytest.mark.slow
def test_another_choice_of_the_function_is_marked_and_drawn_as_it_is(analysis, tmp_path, monkeypatch):
    """The F-test takes polynomials of other degrees at other cuts, among them that of a variation."""
    shutil.copytree(analysis[0], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    settings = "choice: f_test, degree: 4, degrees: [2, 3], binnings: [11], toys: {local: 0, scan: 0, weights: 0}"
    text = Path("small.yaml").read_text().partition("significance:")[0] + f"significance: {{{settings}}}\n"
    Path("small.yaml").write_text(text)
    run_as = provenance.Run(config.load("small.yaml"), SCRIPT, "small.yaml")
    runpy.run_path(str(ROOT / SCRIPT))["main"](run_as)
    curves = pd.read_parquet("results/small/significance_curves.parquet")
    curves = curves[(curves["train"] == "os") & (curves["test"] == "os") & (curves["variable"] == "cathode")]
    own = curves[curves["baseline"]]
    assert len(own) == 25
    assert own["degree"].nunique() > 1
    others = curves[~curves["baseline"]]
    assert set(others["degree"]) == {2, 3}
    assert set(own["degree"]) & {2, 3}  # which degree and bins alone would not tell apart

    saved = Saved(provenance.Run(run_as.config, "07_plots.py", "small.yaml"))
    found = {drawing.name: drawing for drawing in registry.drawings(saved)}
    shown = found["fig2b_p_values_os_on_os"].table
    np.testing.assert_array_equal(shown.loc[shown["variable"] == "cathode", "z0"], own["z0"])
    masses = found["fig2a_mass_cathode_os_on_os"]
    points = pd.read_parquet("results/small/mass_points.parquet")
    points = points.query("train == test == 'os' and variable == 'cathode'").set_index("fpr")["z0"]
    at = own.set_index("fpr")["z0"]
    for fpr in (1.0, 0.1, 0.01):
        assert points[np.isclose(points.index, fpr)].item() == pytest.approx(at[np.isclose(at.index, fpr)].item())
    assert "(polynomial up to degree 4 by an F-test)" in masses.caption
    legend = found["fig4_variations_os_on_os"].draw().axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "polynomial up to degree 4 by an F-test,\n11 bins (baseline)", "degree 2, 11 bins", "degree 3, 11 bins"
    ]  # fmt: skip


def test_sampled_background_is_cut_as_the_data_and_scaled_to_what_is_expected():
    edges = np.array([0.0, 1.0, 2.0])
    frames = [{"feature": "x", "fpr": fpr, "bin_low": edges[:-1], "bin_high": edges[1:], "n_obs": [5.0, 5.0]}
              for fpr in (np.nan, 1.0, 0.1)]  # fmt: skip
    histograms = pd.concat([pd.DataFrame(frame) for frame in frames], ignore_index=True)
    points = pd.DataFrame({"variable": "cathode", "fpr": [1.0, 0.1], "cut": [0.3, 0.5], "n_bkg": [40.0, 6.0]})
    events = Events.of(np.full(4, 9.8), [[0.5], [0.5], [1.5], [1.5]], ["x"], weight=[1.0, 1.0, 1.0, 2.0])
    table = cut_and_count.add_sampled(histograms, (events, np.array([0.1, 0.6, 0.4, 0.7])), points)
    before, all_of_it, cut = (table["n_sampled"].to_numpy().reshape(3, 2)[row] for row in range(3))
    assert np.isnan(before).all()
    assert all_of_it.tolist() == [16.0, 24.0]  # 40 expected for a weight of 5, also below the loosest cut
    assert cut.tolist() == [2.0, 4.0]  # 6 expected for the weights 1 and 2 that pass
    assert table["n_sampled_err"].to_numpy()[4:].tolist() == [2.0, 4.0]
    assert cut_and_count.add_sampled(histograms, None, points)["n_sampled"].isna().all()


def test_curve_counts_what_passes_the_cut(analysis):
    folder, _ = analysis
    curves = pd.read_parquet(folder / "results/small/significance_curves.parquet")
    dimuons = pd.read_parquet(folder / "data/small/dimuons.parquet")
    scores = pd.read_parquet(folder / "data/small/scores_os_on_os.parquet")
    events = dimuons.loc[scores["row"]].assign(cathode=scores["score"].to_numpy())
    own = curves[
        (curves["train"] == "os") & (curves["test"] == "os") & (curves["degree"] == 5) & (curves["n_bins_sr"] == 11)
    ]
    for point in own[own["variable"].isin(["cathode", "dimu_pt"])].itertuples():
        mass = events.loc[events[point.variable] >= point.cut, "dimu_mass"].to_numpy(dtype=float)
        alone = discovery(mass, MassWindow(5.0, 9.0, 10.6, 16.0))
        assert point.n_obs == alone.n_obs
        assert point.z0 == pytest.approx(alone.z0, abs=1e-6)


def test_histograms(analysis):
    folder, _ = analysis
    masses = pd.read_parquet(folder / "results/small/mass_histograms.parquet")
    curves = pd.read_parquet(folder / "results/small/significance_curves.parquet")
    cut = masses[(masses["train"] == "os") & (masses["test"] == "os") & (masses["variable"] == "cathode")]
    assert sorted(cut["fpr"].unique()) == sorted([1.0, 0.25, 0.1, 0.05, 0.01, 0.005, 0.001])
    bare = cut[cut["fpr"] == 1]
    point = curves[
        (curves["train"] == "os") & (curves["test"] == "os") & (curves["fpr"] == 1) & (curves["degree"] == 5)
    ]
    point = point[point["n_bins_sr"] == 11].iloc[0]
    assert bare.loc[bare["region"] == "SR", "n_obs"].sum() == point["n_obs"]
    assert bare.loc[bare["region"] == "SR", "n_bkg"].sum() == pytest.approx(point["n_bkg"], rel=1e-9)
    assert "likelihood" in set(masses["variable"])
    features = pd.read_parquet(folder / "results/small/feature_histograms.parquet")
    before, after = features["fpr"].isna(), features["fpr"] == 1
    assert features.loc[before, "n_obs"].sum() > features.loc[after, "n_obs"].sum() > 0


def test_what_was_found_is_written_for_the_matched_samples(analysis):
    folder, said = analysis
    results = folder / "results/small"
    tests = json.loads((results / "peaks.json").read_text())["tests"]
    assert list(tests) == ["os_on_os", "ss_on_ss"]
    headlines = json.loads((results / "significance.json").read_text())["tests"]
    events = pd.read_parquet(results / "events.parquet")
    table = pd.read_parquet(folder / "data/small/dimuons.parquet")
    assert set(table) <= set(events)
    for name, found in tests.items():
        best = headlines[name]["cathode_max"]
        own = events[events["train"] + "_on_" + events["test"] == name]
        assert len(own) == (best["n_obs"] if best["z0"] > 0 else 0)
        assert (own["region"] == "SR").all()
        assert own["score"].is_monotonic_decreasing
        assert found["fpr"] == best["fpr"]
        assert (found["peaks"][0]["reason"] is None) == (headlines[name]["no_cut"]["z0"] > 0)
        assert f"{name}, no cut: " in said
    columns = pd.read_parquet(results / "found_columns.parquet")
    trained = columns[columns["trained"]]["feature"]
    assert set(trained) == {"dimu_pt", "mu0_ip3d", "mu1_ip3d"}
    assert {"mu0_iso04", "mu0_pt"} <= set(columns["feature"])
    assert columns.loc[columns["feature"] == "dimu_pt", "p_sampled"].notna().all()
    assert columns.loc[columns["feature"] == "mu0_pt", "p_sampled"].isna().all()
    for name in ("found_spectra", "peak_spectra"):
        assert set(pd.read_parquet(results / f"{name}.parquet")["train"]) <= {"os", "ss"}


@pytest.mark.slow
def test_again_gives_the_same_bytes(analysis):
    folder, _ = analysis
    files = [folder / "results/small" / f"{name}.parquet" for name in TABLES] + [
        folder / "results/small/significance.json",
        folder / "results/small/peaks.json",
    ]
    before = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert run(folder, "small.yaml").returncode == 0
    assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in files] == before


@pytest.mark.slow
def test_an_absent_score_table_is_said(analysis, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(analysis[0], folder)
    (folder / "data/small/scores_ss_on_os.parquet").unlink()
    done = run(folder, "small.yaml")
    assert done.returncode == 0, done.stderr
    assert "scores_ss_on_os.parquet: not found, so ss_on_os is left out" in done.stdout
    for file in (folder / "data/small").glob("scores_*"):
        file.unlink()
    done = run(folder, "small.yaml")
    assert done.returncode == 2
    assert "05_train_bdts.py" in done.stderr


def own_table(folder, **columns):
    rng = np.random.default_rng(1)
    mass = np.r_[5 + 11 * rng.beta(1.0, 1.6, 3000), rng.normal(9.6, 0.2, 150)]
    frame = pd.DataFrame({"dimu_mass": mass, "score": np.clip(rng.normal(0.4, 0.1, 3150), 0.01, 0.99)} | columns)
    frame.to_parquet(folder / "mine.parquet")
    (folder / "own.yaml").write_text(
        "name: own\nseed: 1\ninput: {scores: mine.parquet}\nsignificance: {toys: {local: 20, scan: 0, weights: 20}}\n"
    )
    return frame


def test_it_runs_alone_on_a_table_of_scores(tmp_path):
    frame = own_table(tmp_path)
    done = run(tmp_path, "own.yaml")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results/own/significance.json").read_text())["tests"]["os_on_os"]
    alone = discovery(frame["dimu_mass"], MassWindow(5.0, 9.0, 10.6, 16.0))
    assert found["no_cut"]["z0"] == pytest.approx(alone.z0, abs=1e-9)
    assert found["best_feature"] is None
    assert found["global"] is None
    assert found["likelihood"]["z0"] > 0
    described = json.loads((tmp_path / "results/own/peaks.json").read_text())["tests"]["os_on_os"]
    assert described["n_columns"] == 0  # the table has no other column
    events = pd.read_parquet(tmp_path / "results/own/events.parquet")
    assert list(events) == ["train", "test", "row", "score", "weight", "dimu_mass"]
    assert len(events) == found["cathode_max"]["n_obs"]


def test_weights_of_a_table_are_used(tmp_path):
    weight = np.random.default_rng(2).exponential(size=3150)
    frame = own_table(tmp_path, weight=weight)
    assert run(tmp_path, "own.yaml").returncode == 0
    found = json.loads((tmp_path / "results/own/significance.json").read_text())["tests"]["os_on_os"]
    alone = discovery(frame["dimu_mass"], MassWindow(5.0, 9.0, 10.6, 16.0), weights=weight)
    assert found["likelihood"]["z0"] == pytest.approx(alone.z0, abs=1e-6)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"score": 0.5}, "cathode is 0.5 for all 3150 events"),
        ({"score": np.linspace(0, 7, 3150)}, "(2700 such values); the likelihood test needs the probability of data"),
        ({"score": np.r_[np.nan, np.full(3149, 0.5)]}, "score is not finite in row 0"),
        ({"dimu_mass": np.r_[np.inf, np.full(3149, 7.0)]}, "dimu_mass is not finite in row 0"),
        ({"dimu_mass": 9.5}, "no event in SBL"),
        ({"dimu_mass": np.linspace(9.2, 16, 3150)}, "no event in SBL"),
        ({"charge": "SS"}, "no OS event in SBL (5 to 9); check cuts, window and selection.charges"),
        ({"charge": "plus"}, "charge is 'plus' in row 0; known are"),
        ({"score": "high"}, "score is text, 'high' in row 0; numbers are needed"),
        ({"dimu_mass": [[9.5]] * 3150}, "dimu_mass holds list"),
        ({"weight": -1.0}, "weight -1 of event 0 is negative"),
        ({"weight": 0.0}, "every weight is zero"),
        ({"weight": np.inf}, "weight is not finite in row 0"),
    ],
)
def test_a_table_that_cannot_be_used_stops_with_one_line(tmp_path, monkeypatch, capsys, columns, message):
    own_table(tmp_path, **columns)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [SCRIPT, "own.yaml"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / SCRIPT), run_name="__main__")
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in said
    assert "mine.parquet" in said
    assert said.count("\n") == 1
