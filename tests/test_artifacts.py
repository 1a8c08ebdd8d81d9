"""Files between the steps: whole or absent, never stale, never silently something else."""

import json
import runpy

import numpy as np
import pandas as pd
import pytest

from dimuon.errors import UserError
from dimuon.origin import Origin
from dimuon.workflow import config, provenance
from tests.conftest import ROOT


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Build a `Run` of one step on a small configuration, with settings to override: run("03_…", "flow: {…}")."""
    monkeypatch.chdir(tmp_path)

    def run(step, more=""):
        path = tmp_path / "analysis.yaml"
        path.write_text(f"name: test\nseed: 1\ninput: {{simulation: {{}}}}\n{more}\n")
        return provenance.Run(config.load(path), step, path)

    return run


FRAME = pd.DataFrame({"dimu_mass": [9.5, 9.6], "dimu_pt": [30.0, 40.0]})


def test_a_table_comes_back_as_it_was_with_its_sidecar(run):
    step = run("02_select_dimuons.py")
    path = step.write_table(step.data / "dimuons.parquet", FRAME)
    pd.testing.assert_frame_equal(run("03_train_flows.py").read_table(path), FRAME)
    meta = json.loads(provenance.sidecar_path(path).read_text())
    assert meta["rows"] == 2
    assert meta["units"] == {"dimu_mass": "GeV", "dimu_pt": "GeV"}
    assert meta["settings"]["window.sr_low"] == 9.0
    assert meta["seed"] == 1
    assert {"numpy", "torch", "xgboost"} <= meta["versions"].keys()


def test_same_content_same_bytes(run):
    step = run("02_select_dimuons.py")
    first = step.write_table(step.data / "dimuons.parquet", FRAME).read_bytes()
    assert step.write_table(step.data / "dimuons.parquet", FRAME).read_bytes() == first


def test_an_interrupted_write_leaves_the_old_file(run):
    step = run("02_select_dimuons.py")
    path = step.write_table(step.data / "dimuons.parquet", FRAME)
    before = path.read_bytes()
    with pytest.raises(UnicodeEncodeError), provenance.atomic(path) as temporary:
        temporary.write_text("half a fi\udc80le", encoding="utf-8")
    assert path.read_bytes() == before
    assert sorted(item.name for item in path.parent.iterdir()) == ["dimuons.parquet", "dimuons.parquet.meta.json"]


def test_a_file_made_with_other_settings_is_refused(run):
    step = run("03_train_flows.py", "flow: {epochs: 400}")
    path = step.write_bytes(step.data / "flows_os.pt", b"weights")
    with pytest.raises(UserError) as error:
        run("04_sample_background.py", "flow: {epochs: 1000}").require(path)
    message = str(error.value)
    assert "flows_os.pt: made with estimator.epochs = 400, the configuration now says 1000" in message
    assert "python 03_train_flows.py" in message


def test_settings_of_earlier_steps_count_and_of_later_ones_do_not(run):
    step = run("03_train_flows.py")
    flows = step.write_bytes(step.data / "flows_os.pt", b"weights")
    sampler = run("04_sample_background.py")
    background = sampler.write_table(sampler.data / "background_os.parquet", FRAME, inputs=[flows])
    run("05_train_bdts.py", "bdt: {members: 3}\nexecution: {workers: 1}").require(background)
    with pytest.raises(UserError, match=r"background_os.parquet: made with estimator.hidden = 128.*now says 20"):
        run("05_train_bdts.py", "flow: {hidden: 20}").require(background)


def test_an_input_made_anew_makes_what_came_of_it_stale(run):
    step = run("03_train_flows.py")
    flows = step.write_bytes(step.data / "flows_os.pt", b"weights")
    sampler = run("04_sample_background.py")
    background = sampler.write_table(sampler.data / "background_os.parquet", FRAME, inputs=[flows])
    step.write_bytes(flows, b"other weights")
    with pytest.raises(UserError, match=r"flows_os.pt has changed since.*04_sample_background.py"):
        run("05_train_bdts.py").require(background)


def test_a_damaged_file_is_refused(run):
    step = run("03_train_flows.py")
    path = step.write_bytes(step.data / "flows_os.pt", b"weights")
    path.write_bytes(b"something else, by hand")
    with pytest.raises(UserError, match="its content is not what 03_train_flows.py wrote"):
        run("04_sample_background.py").require(path)


def test_a_missing_file_names_the_step_that_makes_it(run):
    step = run("05_train_bdts.py")
    with pytest.raises(UserError, match=r"background_os.parquet: not found; run `python 04_sample_background.py"):
        step.require(step.data / "background_os.parquet")


def test_a_missing_column_and_an_unreadable_table_are_named(run):
    step = run("02_select_dimuons.py")
    path = step.write_table(step.data / "dimuons.parquet", FRAME)
    with pytest.raises(UserError, match="column mu0_ip3d is missing; found dimu_mass, dimu_pt"):
        step.read_table(path, ["mu0_ip3d"])
    broken = step.data / "mine.parquet"
    broken.write_text("not parquet")
    with pytest.raises(UserError, match="not a readable parquet file"):
        provenance.load_table(broken)


def test_a_column_without_unit_is_not_written(run):
    step = run("02_select_dimuons.py")
    with pytest.raises(KeyError, match="nameless"):
        step.write_table(step.data / "dimuons.parquet", FRAME.assign(nameless=1))
    assert not (step.data / "dimuons.parquet").exists()


def test_numbers_that_are_not_finite_do_not_enter_json(run):
    step = run("06_significance.py")
    with pytest.raises(ValueError, match="not JSON compliant"):
        step.write_json(step.results / "significance.json", {"z0": np.nan})


def test_origin_is_handed_on(run):
    step = run("01_skim_nanoaod.py")
    skim = step.write_table(step.data / "skim" / "a.parquet", FRAME, origin="simulated")
    select = run("02_select_dimuons.py")
    path = select.write_table(select.data / "dimuons.parquet", FRAME, inputs=[skim])
    assert provenance.origin_of(path).is_simulated
    provenance.sidecar_path(path).unlink()
    assert provenance.origin_of(path).is_simulated  # a table copied alone tells it still


@pytest.mark.parametrize("how", ["content", "removed"])
def test_an_input_that_changes_while_a_step_runs_is_not_recorded(run, how):
    select = run("02_select_dimuons.py")
    table = select.write_table(select.data / "dimuons.parquet", FRAME)
    train = run("03_train_flows.py")
    train.read_table(table)
    if how == "removed":
        table.unlink()
    else:
        run("02_select_dimuons.py").write_table(table, FRAME.iloc[:1])
    output = train.data / "flows_os.pt"
    with pytest.raises(UserError, match=r"dimuons.parquet: changed while 03_train_flows.py was at work"):
        train.write_bytes(output, b"flows", [table])
    assert not output.exists()


@pytest.mark.parametrize("content", ["[]", "{}", "3", "{", '{"step": "02"}'])
def test_a_sidecar_that_is_none_is_named(run, content):
    select = run("02_select_dimuons.py")
    table = select.write_table(select.data / "dimuons.parquet", FRAME)
    provenance.sidecar_path(table).write_text(content)
    with pytest.raises(UserError, match=r"dimuons.parquet.meta.json: not a (sidecar|readable JSON)"):
        run("03_train_flows.py").read_table(table)


def test_rebuilt_features_are_known_for_what_they_are(tmp_path):
    path = tmp_path / "table.parquet"
    FRAME.assign(features_measured=[True, False]).to_parquet(path)
    assert provenance.origin_of(path).kind == "rebuilt"
    FRAME.assign(features_measured=True).to_parquet(path)
    assert provenance.origin_of(path).label == "origin not stated"
    stated = Origin("measured", "CMS Open Data", "2016")
    assert provenance.origin_of(path, stated=stated) == stated


def test_a_device_makes_nothing_stale(run):
    """Flows trained on a GPU are those of a machine without one; nor is it asked where earlier versions trained."""
    step = run("03_train_flows.py", "flow: {device: cuda}")
    path = step.write_bytes(step.data / "flows_os.pt", b"weights")
    assert not any("device" in key for key in provenance.sidecar(path)["settings"])
    for device in ("cpu", "mps", "cuda:1"):
        assert run("04_sample_background.py", f"flow: {{device: {device}}}").stale(path) is None
    meta = provenance.sidecar(path)
    meta["settings"]["estimator.device"] = "cpu"
    provenance.sidecar_path(path).write_text(json.dumps(meta))
    assert run("04_sample_background.py", "flow: {device: cuda}").stale(path) is None
    with pytest.raises(UserError, match=r"estimator\.device|flow\.device"):
        run("04_sample_background.py", "flow: {device: gpu}")


def test_a_setting_that_came_later_makes_nothing_stale_at_its_default(run):
    step = run("05_train_bdts.py")
    path = step.write_bytes(step.data / "bdts_os.zip", b"models")
    meta = provenance.sidecar(path)
    assert meta["settings"].pop("bdt.combination") == "mean"
    provenance.sidecar_path(path).write_text(json.dumps(meta))
    assert run("06_significance.py").stale(path) is None
    changed = run("06_significance.py", "bdt: {combination: median}").stale(path)
    assert changed == f"{path}: made without bdt.combination, the configuration now says median"


def test_a_table_of_another_analysis_is_what_its_settings_say(tmp_path, monkeypatch):
    """`input.dimuons` may lie in another analysis: whether it is whole is asked, not whether the settings are alike."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wide.yaml").write_text(
        "name: wide\nseed: 1\ninput: {simulation: {}}\n"
        "window: {sb_low: 5.0, sr_low: 9.0, sr_high: 11.0, sb_high: 16.0}\n"
    )
    wide = provenance.Run(config.load("wide.yaml"), "02_select_dimuons.py", "wide.yaml")
    table = wide.write_table(wide.data / "dimuons.parquet", FRAME)
    (tmp_path / "narrow.yaml").write_text(f"name: narrow\nseed: 2\ninput: {{dimuons: {table}}}\n")
    chosen = config.load("narrow.yaml")
    narrow = provenance.Run(chosen, "03_train_flows.py", "narrow.yaml")
    flows = narrow.write_bytes(narrow.data / "flows_os.pt", b"weights", [narrow.require(table)])
    later = provenance.Run(chosen, "04_sample_background.py", "narrow.yaml")
    assert later.stale(flows) is None
    assert provenance.sidecar(flows)["settings"]["window.sr_high"] == 10.6
    assert not any(key.startswith("selection") for key in provenance.sidecar(flows)["settings"])
    table.write_bytes(b"damaged")
    said = "it is the analysis wide's: run `python 02_select_dimuons.py` with its configuration"
    with pytest.raises(UserError, match=said):
        provenance.Run(chosen, "03_train_flows.py", "narrow.yaml").require(table)


def test_an_unchanged_training_is_not_repeated(run, monkeypatch):
    from argparse import Namespace

    folder = run("02_select_dimuons.py")
    charges = ("os", "ss")
    folder.write_table(folder.data / "dimuons.parquet", FRAME)
    step = run("03_train_flows.py")
    for charge in charges:
        for name in (f"flows_{charge}.pt", f"flow_losses_{charge}.parquet"):
            step.write_bytes(step.data / name, b"trained", [step.data / "dimuons.parquet"])
    script = runpy.run_path(str(ROOT / "03_train_flows.py"))
    script["main"](run("03_train_flows.py"), Namespace(again=False))  # these dimuons could not be trained on
    with pytest.raises(UserError):
        script["main"](run("03_train_flows.py"), Namespace(again=True))
    changed = run("03_train_flows.py", "flow: {epochs: 3}")
    assert not any(script["is_trained"](changed, charge) for charge in charges)
    (step.data / "flow_losses_ss.parquet").unlink()
    assert [script["is_trained"](run("03_train_flows.py"), charge) for charge in charges] == [True, False]
