"""The YAML: everything wrong is named by file, line, key, value and nearest known key."""

import pytest

from dimuon.errors import UserError
from dimuon.workflow import config
from tests.conftest import ROOT

SMALLEST = "name: test\nseed: 1\ninput: {simulation: {}}\n"


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "analysis.yaml"
        path.write_text(text)
        return config.load(path)

    return load


def test_defaults_are_the_papers(load):
    """Paper, "General Analysis Procedure", and slides, "Network architectures and training specifications"."""
    analysis = load(SMALLEST)
    assert (analysis.flow.members, analysis.flow.blocks, analysis.flow.hidden) == (5, 6, 128)
    assert (analysis.flow.epochs, analysis.flow.learning_rate, analysis.flow.weight_decay) == (1000, 7.5e-4, 1e-6)
    assert (analysis.bdt.members, analysis.bdt.folds, analysis.bdt.max_depth) == (100, 5, 3)
    assert (analysis.bdt.learning_rate, analysis.bdt.subsample, analysis.bdt.early_stopping) == (0.1, 0.7, 10)
    assert analysis.background.oversampling == 5
    window = analysis.window
    assert (window.sb_low, window.sr_low, window.sr_high, window.sb_high) == (5.0, 9.0, 10.6, 16.0)
    assert analysis.features.names == ["dimu_pt", "mu0_ip3d", "mu1_ip3d"]
    assert analysis.selection.anti_isolation["mu1_iso04"].min == 0.55


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_of_the_project_loads(path, monkeypatch):
    monkeypatch.setenv("DIMUON_REFERENCE", "/some/folder")
    assert config.load(path).name == path.stem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nseed: 1\nseed: 2", ":3: key 'seed' is given twice (first in line 2)"),
        (SMALLEST + "flow:\n  epoch: 3", ":5: unknown key flow.epoch; did you mean 'epochs'?"),
        (SMALLEST + "backgroud: {}", ":4: unknown key backgroud; did you mean 'background'?"),
        (SMALLEST + "flow: {epochs: ten}", ":4: flow.epochs = 'ten': input should be a valid integer"),
        (SMALLEST + "bdt: {folds: 2}", ":4: bdt.folds = 2: input should be greater than or equal to 3"),
        (SMALLEST + "bdt: {subsample: 1.5}", ":4: bdt.subsample = 1.5: input should be less than or equal to 1"),
        ("name: a\ninput: {simulation: {}}", "the key seed is missing"),
        ("name: a\nseed: 1\ninput: {simulation: {}, record: 3}", "exactly one of"),
        (SMALLEST + "window: {sb_low: 5.0, sr_low: 9.0, sr_high: 8.0, sb_high: 16.0}", "window edges must rise"),
        (SMALLEST + "window: {sb_lo: 5.0, sr_low: 9.0, sr_high: 8.0, sb_high: 16.0}", "did you mean 'sb_low'?"),
        (SMALLEST + "features: {set: papr}", "unknown feature set; did you mean 'paper'?"),
        (SMALLEST + "features: {set: [dimu_pt, dimu_mas]}", "unknown feature 'dimu_mas'"),
        (SMALLEST + "selection: {cuts: {mu0_pt: {min: 5.0, max: 3.0}}}", "min 5.0 is not below max 3.0"),
        (SMALLEST + "selection: {cuts: {mu0_pt: {}}}", "a cut needs min, max or both"),
        (SMALLEST + "selection: {trigger: TrkMu15}", ":4: selection.trigger = 'TrkMu15': string should match"),
        ("name: a\nseed: 1\ninput: {simulation: {}, triggers: [L1_Mu]}", "input.triggers.0 = 'L1_Mu'"),
        ("name: a\nseed: 1\ninput: {dimuons: $NO_SUCH_VARIABLE/x}", "variable NO_SUCH_VARIABLE is not set"),
        ("name: a\nseed: 1\ninput: {dimuons: {os_: x}}", ":3: unknown key input.dimuons.os_; did you mean 'os'?"),
        ("name: ../a\nseed: 1\ninput: {simulation: {}}", "name = '../a'"),
        ("name: [", "not valid YAML"),
        ("", "no keys found"),
    ],
)
def test_mistakes_are_named(load, text, message):
    with pytest.raises(UserError) as error:
        load(text)
    assert message in str(error.value)
    assert "analysis.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such configuration file"):
        config.load(tmp_path / "absent.yaml")


def test_numbers_in_scientific_notation_and_variables(load, monkeypatch):
    monkeypatch.setenv("DIMUON_TEST_FOLDER", "/somewhere")
    text = "name: a\nseed: 1\ninput: {dimuons: '${DIMUON_TEST_FOLDER}/x.parquet'}\nflow: {learning_rate: 1e-3}"
    analysis = load(text)
    assert analysis.flow.learning_rate == 1e-3
    assert analysis.input.dimuons == "/somewhere/x.parquet"


def test_a_loaded_config_cannot_change(load):
    with pytest.raises(ValueError, match="frozen"):
        load(SMALLEST).flow.epochs = 3


def test_configs_are_complete():
    """The demo lists the sections a reader looks for, so that it reads like a methods section."""
    text = (ROOT / "configs" / "demo.yaml").read_text()
    for section in config.Config.model_fields.keys() - {"studies"}:  # the seven steps need nothing of that one
        assert f"\n{section}:" in f"\n{text}"
