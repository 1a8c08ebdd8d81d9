"""`python -m dimuon run`: what is stale is done, what is not is left, what two analyses have in common is done once."""

import json
import os
import subprocess
import sys

import pytest

import dimuon
from dimuon.__main__ import main
from dimuon.commands import inspect
from dimuon.commands import run as command
from dimuon.commands.needed import Analysis
from dimuon.workflow import cli, products, provenance
from tests.conftest import ROOT

CONFIG = "name: {name}\nseed: 7\ninput: {{{input}}}\nselection: {{charges: [os]}}\n{more}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a configuration in an empty working directory: write(name, more YAML, input)."""
    monkeypatch.chdir(tmp_path)

    def write(name, more="", given="simulation: {}"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(CONFIG.format(name=name, input=given, more=more))
        return path.name

    return write


@pytest.fixture
def done(monkeypatch):
    """The steps that were done, in order, each by a stand-in that writes what the script would."""
    steps = []

    def script(step, analysis, flags):
        steps.append((analysis.config.name, step.command[:2]))
        at_work, previous = analysis.run(step), []
        if step is not analysis.steps[0]:
            previous = list(analysis.expected(analysis.steps[analysis.steps.index(step) - 1]))
        content = provenance.chosen_settings(analysis.config, step.settings)
        content.pop("name")
        if step is products.STEP_1:
            place = at_work.path(products.SIMULATED, file="a.root")
            at_work.write_json(place, content)
            content = {"inputs": [{"address": str(place)}]}
        for path in [*analysis.expected(step)]:
            at_work.write_json(path, {"file": path.name} | content, previous)
        return 0

    monkeypatch.setattr(command, "_script", script)
    return steps


def test_everything_is_done_once_and_then_nothing(write, done):
    path = write("first")
    assert main(["run", path]) == 0
    assert done == [("first", f"0{number}") for number in range(1, 8)]
    assert main(["run", path]) == 0
    assert len(done) == 7


def test_a_changed_setting_is_followed_from_its_step_on(write, done, caplog):
    main(["run", write("first")])
    done.clear()
    path = write("first", "flow: {epochs: 5}")
    with caplog.at_level("INFO"):
        assert main(["run", path, "--dry-run"]) == 0
    assert done == []
    plan = {line.split()[0]: line.split(maxsplit=1)[1] for line in caplog.text.splitlines() if "  0" in line}
    assert plan["02_select_dimuons.py"] == "up to date"
    assert plan["03_train_flows.py"].startswith("stale: data/first/flows_os.pt: made with estimator.epochs = 1000")
    assert plan["05_train_bdts.py"] == "follows 03_train_flows.py"
    assert "writes data/first/: flows_<charge>.pt, flow_losses_<charge>.parquet" in caplog.text
    assert main(["run", path]) == 0
    assert [step for _, step in done] == ["03", "04", "05", "06", "07"]


def test_a_missing_file_a_range_of_steps_and_a_study_after_the_report(write, done):
    path = write("first")
    main(["run", path, "--to", "06"])
    assert [step for _, step in done] == ["01", "02", "03", "04", "05", "06"]
    analysis = Analysis.load(path)
    next(iter(analysis.expected(products.STEP_6))).unlink()
    done.clear()
    main(["run", path, "--from", "6", "--to", "06_significance.py"])
    assert [step for _, step in done] == ["06"]
    main(["run", path])
    done.clear()
    study = provenance.Run(analysis.config, products.PRODUCTS["convergence"].maker.command, path)
    made = study.write_json(study.results / "studies" / "controls.json", {})
    sidecar = provenance.sidecar_path(made)
    sidecar.write_text(json.dumps(provenance.sidecar(made) | {"written": "9999-01-01T00:00:00+00:00"}))
    main(["run", path])
    assert [step for _, step in done] == ["07"]


@pytest.mark.parametrize(
    ("given", "first"), [("dimuons: mine.parquet", "03"), ("scores: mine.parquet", "06"), ("files: [a.root]", "01")]
)
def test_it_starts_where_the_input_does(write, caplog, given, first):
    path = write("first", given=given)
    with caplog.at_level("INFO"):
        assert main(["run", path, "--dry-run"]) == 0
    assert [line.split()[0][:2] for line in caplog.text.splitlines() if "  0" in line][0] == first


@pytest.mark.slow
def test_two_analyses_share_what_they_have_in_common(write, done, caplog):
    first, second = write("first"), write("second", "bdt: {members: 3}")
    with caplog.at_level("INFO"):
        assert main(["run", first, second, "--dry-run"]) == 0
    assert "04_sample_background.py shared with first" in " ".join(caplog.text.split())
    assert main(["run", first, second]) == 0
    assert [step for name, step in done if name == "second"] == ["05", "06", "07"]
    one, other = Analysis.load(first), Analysis.load(second)
    for step in products.STEPS[:4]:
        for mine, its in zip(one.expected(step), other.expected(step), strict=True):
            if mine.name != "manifest.json":
                assert its.read_bytes() == mine.read_bytes()
            meta = provenance.sidecar(its)
            assert meta["settings"]["name"] == "second"
            assert meta["shared_with"] == str(mine)
            assert all(name.startswith("data/second/") for name in meta["inputs"])
        assert other.reason(step) is None
    said = inspect.origin_lines(next(other.expected(products.STEP_4)), other.config)
    assert "shared with data/first/background_os.parquet, which was made first" in said
    assert "state: as this configuration and these inputs would make it" in said
    manifest = provenance.load_json(other.run(products.STEP_1).path(products.MANIFEST))
    assert manifest["inputs"][0]["address"] == "data/second/simulated/a.root"
    done.clear()
    assert main(["run", second, first]) == 0
    assert done == []


def test_files_of_stale_or_different_analyses_are_not_shared(write, done):
    first, second = write("first"), write("second", "flow: {epochs: 3}")
    main(["run", first])
    write("first", "flow: {epochs: 3}")  # its flows are stale now, though their settings are asked for here
    done.clear()
    main(["run", second, first])
    assert [step for name, step in done if name == "second"] == ["03", "04", "05", "06", "07"]
    assert [step for name, step in done if name == "first"] == ["07"]


@pytest.mark.slow
def test_a_script_that_fails_ends_it_with_its_code(write, tmp_path):
    path = write("first", given="dimuons: absent.parquet")
    ran = subprocess.run(
        [sys.executable, "-m", "dimuon", "run", path],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr == ("03_train_flows.py: absent.parquet: not found; check the path in the configuration\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["x.yaml", "--from", "08"], "08: no such step; the steps are 01_skim_nanoaod.py"),
        (["x.yaml", "--from", "5", "--to", "4"], "--from 5 comes after --to 4"),
        (["x.yaml", "--to", "02"], "x.yaml: no step is left to do: its input starts at 03_train_flows.py"),
        (["x.yaml", "x.yaml"], "x.yaml: name = 'x' is that of x.yaml, too"),
        (["absent.yaml"], "absent.yaml: no such configuration file"),
    ],
)
def test_mistakes_are_told_in_one_line(write, capsys, line, message):
    write("x", given="dimuons: mine.parquet")
    assert main(["run", *line]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"dimuon run: {message}")
    assert error.count("\n") == 1


def test_a_plan_imports_no_heavy_library(write, tmp_path):
    path = write("first")
    code = (
        "import sys; from dimuon.__main__ import main; "
        f"main(['run', {path!r}, '--dry-run', '--quiet']); "
        "print([name for name in ('torch', 'xgboost', 'sklearn', 'matplotlib', 'uproot') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize(("given", "first"), [("dimuons: mine.parquet", "03_train_flows.py"),
                                              ("scores: mine.parquet", "06_significance.py")])  # fmt: skip
def test_a_step_before_the_first_says_where_it_begins(write, monkeypatch, capsys, given, first):
    path = write("x", given=given)
    for step in ("01_skim_nanoaod.py", "02_select_dimuons.py"):
        monkeypatch.setattr(sys, "argv", [step, path])
        with pytest.raises(SystemExit) as end:
            cli.run(step, pytest.fail)
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith(f"{step}: x.yaml: begins with {first}, since input.{given.partition(':')[0]} is given")
        assert f"run `python {first} x.yaml`, or all that is left with `python -m dimuon run x.yaml`" in said


def test_relative_paths_of_another_folder_are_said(write, tmp_path, monkeypatch, caplog):
    path = tmp_path / write("x")
    with caplog.at_level("INFO"):
        assert main(["run", str(path), "--dry-run"]) == 0
    assert "relative paths" not in caplog.text
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with caplog.at_level("INFO"):
        assert main(["run", str(path), "--dry-run"]) == 0
    assert (
        f"relative paths, data/ and results/ are those of the current folder, {tmp_path / 'elsewhere'}" in caplog.text
    )


@pytest.mark.parametrize("program", ["dimuon", "python -m dimuon"])
def test_usage_names_what_can_be_typed(capsys, monkeypatch, program):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/dimuon" if program == "dimuon" else "/x/dimuon/__main__.py"])
    for line, usage in ((["run", "--help"], f"{program} run"), (["--help"], program)):
        with pytest.raises(SystemExit):
            main(line)
        assert capsys.readouterr().out.startswith(f"usage: {usage} [")


def test_version_help_and_loudness(capsys, write, caplog):
    for line in (["--version"], ["run", "--version"]):
        with pytest.raises(SystemExit) as end:
            main(line)
        assert end.value.code == 0
        assert capsys.readouterr().out == f"dimuon {dimuon.__version__}\n"
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "compare" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["rum"])
    assert end.value.code == 2


@pytest.mark.slow
def test_real_scripts_accept_what_another_analysis_made(write, tmp_path):
    small = "estimator: {kind: maf, members: 1, hidden: 4, epochs: 1}\nexecution: {workers: 1}\n"
    given = "simulation: {n_files: 2, scale: 0.1}"
    paths = [write(name, f"{small}bdt: {{members: {n}}}", given) for name, n in (("first", 1), ("second", 2))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dimuon", "run", *paths, "--to", "03"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.count("03_train_flows.py: done in") == 1
    assert "files shared with first" in ran.stdout
    first, second = map(Analysis.load, paths)
    for step in products.STEPS[:3]:
        assert second.reason(step) is None
        for mine, its in zip(first.expected(step), second.expected(step), strict=True):
            assert mine.name == "manifest.json" or mine.read_bytes() == its.read_bytes()
    command = [sys.executable, str(ROOT / products.STEP_1.command), paths[1]]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "2 of 2 inputs are done already" in ran.stdout
