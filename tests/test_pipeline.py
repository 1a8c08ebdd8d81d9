"""The seven scripts as a person runs them, one after the other in a shell, on a small SIMULATED sample."""

import contextlib
import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from dimuon.data import schema
from dimuon.studies import convergence, study
from dimuon.workflow import config, products, provenance
from tests.conftest import ROOT
from tests.shell import here, in_shell

pytestmark = pytest.mark.slow

STEPS = sorted(path.name for path in ROOT.glob("0[1-7]_*.py"))
CONFIG = """
name: small
seed: 7
input: {{simulation: {{n_files: 2, scale: 0.25}}}}
flow: {{members: 2, hidden: 16, epochs: {epochs}}}
bdt: {{members: 3, n_trees: 30, keep_members: true}}
execution: {{workers: {workers}}}
"""


def write_config(folder, epochs=4, workers=2):
    (folder / "small.yaml").write_text(CONFIG.format(epochs=epochs, workers=workers))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which all seven steps ran."""
    folder = tmp_path_factory.mktemp("pipeline")
    write_config(folder)
    for step in STEPS:
        done = in_shell(folder, step, "small.yaml")
        assert done.returncode == 0, f"{step}:\n{done.stdout}\n{done.stderr}"
    return folder


def one_line(done):
    """The error of a step that ended with a user's mistake: exit code 2, one line, no traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_there_are_seven_steps():
    assert [step[:2] for step in STEPS] == [f"0{number}" for number in range(1, 8)]


def test_all_artifacts_stand_with_their_sidecars(finished):
    data, results = finished / "data" / "small", finished / "results" / "small"
    expected = [data / name for name in ("skim/manifest.json", "dimuons.parquet", "cutflow.json")]
    for charge in ("os", "ss"):
        names = ("flows_{}.pt", "flow_losses_{}.parquet", "background_{}.parquet", "mass_fit_{}.json")
        expected += [data / name.format(charge) for name in (*names, "closure_{}.json", "bdts_{}.zip")]
        expected += [data / f"scores_{charge}_on_{test}.parquet" for test in ("os", "ss", "background")]
    expected += [results / name for name in ("significance.json", "significance_curves.parquet", "report.html")]
    for path in expected:
        assert path.stat().st_size > 0, path
        if path.name != "manifest.json":
            assert path.with_name(f"{path.name}.meta.json").exists() or path.suffix == ".html", path
    assert any((results / "figures").glob("*.pdf"))
    assert not list(finished.rglob("*.tmp"))


def test_every_table_has_the_columns_of_the_schema(finished):
    """And the features or the trigger, where the schema says so."""
    chosen = config.load(finished / "small.yaml")
    with contextlib.chdir(finished):
        convergence.run(
            study.Study(provenance.Run(chosen, "-m dimuon study convergence", "small.yaml"), "convergence", None)
        )
    further = {
        "": set(),
        "mass and features": {chosen.mass_axis.column, *chosen.features.names},
        "triggers": {chosen.selection.trigger},
        "table": {*schema.DIMUONS},
    }
    tables = sorted(finished.glob("*/small/**/*.parquet"))
    assert len(tables) > 15
    for path in tables:
        product = products.PRODUCTS.find(path)
        assert set(pq.read_schema(path).names) == {*product.column_names} | further[product.further], path


def test_whatever_comes_from_the_simulation_is_marked(finished):
    for path in (finished / "data" / "small").rglob("*.meta.json"):
        assert json.loads(path.read_text())["origin"]["kind"] == "simulated", path
    assert "SIMULATED" in (finished / "results" / "small" / "report.html").read_text()


def test_events_are_conserved_from_table_to_scores(finished):
    data = finished / "data" / "small"
    dimuons = pd.read_parquet(data / "dimuons.parquet")
    selected = dimuons[dimuons["anti_isolated"]]
    for test in ("OS", "SS"):
        rows = set(selected.index[selected["charge"] == test])
        for train in ("os", "ss"):
            scores = pd.read_parquet(data / f"scores_{train}_on_{test.lower()}.parquet")
            assert set(scores["row"]) == rows
            assert scores["row"].is_unique
            assert scores["score"].between(0, 1).all()


def test_headline_agrees_with_the_curves(finished):
    results = finished / "results" / "small"
    headline = json.loads((results / "significance.json").read_text())
    curves = pd.read_parquet(results / "significance_curves.parquet")
    curves = curves[curves["baseline"]]  # beside the variations of Fig. 4
    for name, test in headline["tests"].items():
        of_test = curves[(curves["train"] + "_on_" + curves["test"] == name) & (curves["variable"] == "cathode")]
        assert len(of_test) == 25
        at_one = of_test.loc[of_test["fpr"].idxmax()]
        assert at_one["z0"] == pytest.approx(test["no_cut"]["z0"])
        assert test["cathode_max"]["z0"] == pytest.approx(of_test["z0"].max())


def test_results_do_not_depend_on_the_number_of_workers(finished, tmp_path):
    write_config(tmp_path, workers=1)
    for step in STEPS[:6]:
        done = in_shell(tmp_path, step, "small.yaml")
        assert done.returncode == 0, f"{step}:\n{done.stdout}\n{done.stderr}"
    tables = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.parquet"))
    assert len(tables) >= 10
    flows = [Path("data", "small", f"flows_{charge}.pt") for charge in ("os", "ss")]
    for file in (*tables, *flows):
        assert (tmp_path / file).read_bytes() == (finished / file).read_bytes(), file


def test_a_changed_setting_stops_the_next_step(finished):
    write_config(finished, epochs=5)
    message = one_line(here(finished, "04_sample_background.py", "small.yaml"))
    assert "flows_os.pt" in message
    assert "estimator.epochs = 4" in message
    assert "now says 5" in message
    assert "python 03_train_flows.py small.yaml" in message
    write_config(finished)


def test_a_step_too_early_says_what_to_run(tmp_path):
    write_config(tmp_path)
    assert "run `python 02_select_dimuons.py small.yaml`" in one_line(here(tmp_path, "03_train_flows.py", "small.yaml"))
    assert "run `python 01_skim_nanoaod.py small.yaml`" in one_line(
        here(tmp_path, "02_select_dimuons.py", "small.yaml")
    )
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").rglob("*.parquet"))


def test_a_mistyped_key_and_a_missing_config(tmp_path):
    (tmp_path / "small.yaml").write_text("name: small\nseed: 1\ninput: {simulation: {}}\nflow: {epoch: 3}\n")
    assert "small.yaml:4: unknown key flow.epoch; did you mean 'epochs'?" in one_line(
        here(tmp_path, STEPS[2], "small.yaml")
    )
    assert "absent.yaml: no such configuration file" in one_line(here(tmp_path, STEPS[2], "absent.yaml"))


def test_a_table_handed_in_that_is_absent_or_short_of_a_column(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("name: mine\nseed: 1\ninput: {dimuons: mine.parquet}\n")
    assert "mine.parquet: not found; check the path" in one_line(here(tmp_path, STEPS[2], "mine.yaml"))
    pd.DataFrame({"dimu_mass": [9.5], "charge": ["OS"]}).to_parquet(tmp_path / "mine.parquet")
    assert "mine.parquet: column dimu_pt is missing" in one_line(here(tmp_path, STEPS[2], "mine.yaml"))
    assert not list(Path(tmp_path, "data").rglob("*"))
