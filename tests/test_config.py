"""The YAML: everything wrong is named by file, line, key, value and nearest known key."""

import subprocess
import sys
from typing import Annotated, Literal

import pytest
from pydantic import Field

from dimuon.errors import AnalysisError, UserError
from dimuon.settings import Section
from dimuon.workflow import config, yaml_file
from dimuon.workflow.cli import explained
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
    assert (analysis.estimator.members, analysis.estimator.blocks, analysis.estimator.hidden) == (5, 6, 128)
    assert (analysis.estimator.epochs, analysis.estimator.learning_rate, analysis.estimator.weight_decay) == (
        1000,
        7.5e-4,
        1e-6,
    )
    trees = analysis.bdt.classifier
    assert (analysis.bdt.members, analysis.bdt.folds, trees.kind, trees.max_depth) == (100, 5, "xgboost", 3)
    assert (trees.learning_rate, trees.subsample, trees.n_trees, trees.early_stopping) == (0.1, 0.7, 300, 10)
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
        (SMALLEST + "estimator:\n  epoch: 3", ":5: unknown key estimator.epoch; did you mean 'epochs'?"),
        (SMALLEST + "estimator: {kind: mfa}", ":4: estimator.kind = 'mfa': unknown; did you mean 'maf'?"),
        (SMALLEST + "estimator: {kind: flow_matching, ode_step: 3}", "estimator.ode_step; did you mean 'ode_steps'?"),
        (SMALLEST + "estimator: {kind: flow_matching, ode_steps: 0}", ":4: estimator.ode_steps = 0: input should be"),
        (SMALLEST + "estimator: 3", ":4: estimator = 3: input should be a valid dict"),
        (SMALLEST + "flow: {}\nestimator: {}", "flow is the earlier name of the section estimator; keep one"),
        (SMALLEST + "backgroud: {}", ":4: unknown key backgroud; did you mean 'background'?"),
        (SMALLEST + "flow: {epochs: ten}", ":4: flow.epochs = 'ten': input should be a valid integer"),
        (SMALLEST + "bdt: {folds: 1}", ":4: bdt.folds = 1: input should be greater than or equal to 2"),
        (SMALLEST + "bdt: {subsample: 1.5}", ":4: bdt.subsample = 1.5: input should be less than or equal to 1"),
        (SMALLEST + "bdt: {max_dept: 4}", ":4: unknown key bdt.max_dept; did you mean 'max_depth'?"),
        (SMALLEST + "bdt:\n  classifier: xgboost\n  max_depth: 0", ":6: bdt.max_depth = 0: input should be greater"),
        (SMALLEST + "bdt:\n  dense:\n    epoch: 3\n  classifier: dense", ":6: unknown key bdt.dense.epoch; did you"),
        (SMALLEST + "bdt: {dense: {epochs: 0}}", ":4: bdt: settings of dense, which is not chosen: epochs: input"),
        (SMALLEST + "bdt: {classifier: xgbost}", ":4: bdt.classifier.kind = 'xgbost': unknown; did you mean 'xgboost'"),
        (SMALLEST + "bdt: {classifier: {kind: [3]}}", ":4: bdt.classifier.kind = '[3]': unknown; known: dense, hist"),
        (SMALLEST + "bdt: {classifier: 3}", ":4: bdt.classifier = 3: input should be a valid dictionary"),
        (
            SMALLEST + "bdt:\n  classifier:\n    kind: dense\n    epoch: 3",
            ":7: unknown key bdt.classifier.epoch; did you mean 'epochs'?",
        ),
        (
            SMALLEST + "bdt:\n  classifier:\n    kind: dense\n    max_depth: 3",
            ":7: unknown key bdt.classifier.max_depth; known: kind, hidden, dropout",
        ),
        (SMALLEST + "bdt: {classifier: {subsample: 2.0}}", ":4: bdt.classifier.subsample = 2.0: input should be less"),
        (
            SMALLEST + "bdt: {max_depth: 3, classifier: {kind: xgboost}}",
            ":4: bdt: max_depth stands beside the settings of the classifier: move it into `classifier`",
        ),
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


@pytest.mark.parametrize(
    ("former", "now"),
    [
        (
            "bdt: {max_depth: 4, learning_rate: 0.2, members: 3}",
            "bdt: {members: 3, classifier: {max_depth: 4, learning_rate: 0.2}}",
        ),
        (
            "bdt: {classifier: hist_gradient_boosting, n_trees: 9}",
            "bdt: {classifier: {kind: hist_gradient_boosting, n_trees: 9}}",
        ),
        (
            "bdt: {classifier: dense, max_depth: 4, dense: {hidden: [8]}}",
            "bdt: {classifier: {kind: dense, hidden: [8]}}",
        ),
        ("bdt: {classifier: dense}", "bdt: {classifier: {kind: dense}}"),
        ("bdt: {classifier: xgboost, dense: {epochs: 3}}", "bdt: {classifier: {kind: xgboost}}"),
        ("bdt: {folds: 4}", "bdt: {folds: 4, classifier: {}}"),
    ],
)
def test_classifiers_of_earlier_versions(load, former, now):
    """The settings of the trees beside `classifier`, those of the network in `dense`."""
    assert load(SMALLEST + former) == load(SMALLEST + now)
    assert type(load(SMALLEST + former).bdt.classifier) is type(load(SMALLEST + now).bdt.classifier)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such configuration file"):
        config.load(tmp_path / "absent.yaml")


def test_numbers_in_scientific_notation_and_variables(load, monkeypatch):
    monkeypatch.setenv("DIMUON_TEST_FOLDER", "/somewhere")
    text = "name: a\nseed: 1\ninput: {dimuons: '${DIMUON_TEST_FOLDER}/x.parquet'}\nflow: {learning_rate: 1e-3}"
    analysis = load(text)
    assert analysis.estimator.learning_rate == 1e-3
    assert analysis.input.dimuons == "/somewhere/x.parquet"


def test_a_section_of_an_earlier_version_is_read(load, caplog):
    """`flow` is today's `estimator`, and a key of another kind says that it has no meaning."""
    old = load(SMALLEST + "flow: {kind: maf, hidden: 20, ode_steps: 16}")
    assert old == load(SMALLEST + "estimator: {hidden: 20}")
    assert "ode_steps is not a setting of the estimator maf: ignored" in caplog.text
    assert load(SMALLEST + "flow: {kind: flow_matching, ode_steps: 4}").estimator.ode_steps == 4
    assert config.Config.model_validate(old.model_dump()) == old


def test_reading_a_configuration_imports_no_heavy_library():
    """Plans, help and mistakes come at once: torch and the like are imported by the steps that compute."""
    code = "import sys, dimuon.config; dimuon.config.load('configs/demo.yaml'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "xgboost", "sklearn", "matplotlib"} & {*done.stdout.split()}


def test_a_loaded_config_cannot_change(load):
    with pytest.raises(ValueError, match="frozen"):
        load(SMALLEST).estimator.epochs = 3


def test_configs_are_complete():
    """The demo lists the sections a reader looks for, so that it reads like a methods section."""
    text = (ROOT / "configs" / "demo.yaml").read_text()
    not_needed = {"studies", "bench", "origin", "mass", "scan"}  # by seven steps on simulated dimuons
    for section in config.Config.model_fields.keys() - not_needed:
        assert f"\n{section}:" in f"\n{text}"


class Trees(Section):
    kind: Literal["trees"]
    depth: int = 3


class Layer(Section):
    width: int = 64


class Network(Section):
    kind: Literal["network", "deep_network"]
    layers: list[Layer] = []
    by_name: dict[str, Layer] = {}


class Methods(Section):
    classifier: Annotated[Trees | Network, Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classifier:\n  kind: tress", ":2: classifier.kind = 'tress': unknown; did you mean 'trees'?"),
        ("classifier:\n  kind: trees\n  depht: 4", ":3: unknown key classifier.depht; did you mean 'depth'?"),
        ("classifier:\n  kind: network\n  depht: 4", ":3: unknown key classifier.depht; known: kind, layers, by_name"),
        ("classifier:\n  kind: trees\n  depth: x", ":3: classifier.depth = 'x': input should be a valid integer"),
        ("classifier:\n  kind: network\n  layers: [{}, {with: 3}]",
         ":3: unknown key classifier.layers.1.with; did you mean 'width'?"),
        ("classifier:\n  kind: deep_network\n  by_name: {first: {wide: 3}}",
         ":3: unknown key classifier.by_name.first.wide; did you mean 'width'?"),
        ("classifier: {}", ":1: classifier: unable to extract tag using discriminator 'kind'"),
        ("{}", ":1: the key classifier is missing; add it"),
    ],
)  # fmt: skip
def test_sections_of_several_kinds_and_nested_ones_know_their_keys(tmp_path, text, message):
    (tmp_path / "methods.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        yaml_file.load(tmp_path / "methods.yaml", Methods)
    assert message in str(error.value)


def test_errors_of_the_method_are_told_with_file_and_key():
    with pytest.raises(UserError, match=r"^flows_os\.pt: loss is nan; the setting is flow\.learning_rate$"):
        with explained(section="flow", what="flows_os.pt"):
            raise AnalysisError("loss is nan", setting="learning_rate")
    with pytest.raises(UserError, match=r"^x\.parquet: no event; run step 4$"):
        with explained(section="bdt", what="x.parquet", remedy="run step 4"):
            raise ValueError("no event")
    chosen = config.Config.model_validate({"name": "x", "seed": 1, "input": {"simulation": {}}})
    for setting, key in (("degree", "background.degree"), ("learning_rate", "estimator.learning_rate")):
        with pytest.raises(UserError, match=rf"^no; the setting is {key}$"):
            with explained(("background", "estimator"), chosen=chosen):
                raise AnalysisError("no", setting=setting)
    with pytest.raises(UserError, match="^said already$"), explained(what="y"):
        raise UserError("said already")


@pytest.mark.parametrize(("label", "title"), [("$m_{jj}$", "mjj"), ("Dijet mass", "Dijet mass"), (None, "mjj")])
def test_a_heading_has_no_latex(label, title):
    table = {"file": "dijets.parquet", "mass": "mjj"}
    chosen = config.Config(name="dijets", seed=1, input={"table": table}, mass={"label": label, "unit": "TeV"})
    assert chosen.mass_axis.title == title
    assert chosen.mass_axis.axis_label == f"{label or 'mjj'} [TeV]"
