"""Steps 1 and 2 as scripts: the tables, resuming, and what bad input gets."""

import contextlib
import errno
import functools
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import awkward as ak
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import uproot
import yaml

from dimuon import kinematics
from dimuon.data import nanoaod, sources
from dimuon.data import skim as step_1
from dimuon.data.manifest_entry import EventCounts, ManifestEntry, Skimmed
from dimuon.data.schema import EVENT
from dimuon.workflow import executor
from tests import nanoaod_files
from tests.conftest import ROOT
from tests.nanoaod_files import TRIGGER
from tests.shell import here, in_shell

GOLDEN = {"278820": [[1, 20]], "278821": [[1, 40]]}  # half of the first run


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Two NanoAOD files of 3,000 events, the second without one of the triggers, and a certified-luminosity file."""
    folder = tmp_path_factory.mktemp("inputs")
    for i, drop in enumerate([(), ("HLT_Mu8",)]):
        arrays = nanoaod_files.events(3000, seed=i, run=278820 + i, mass=(4, 17), triggers=(TRIGGER, "HLT_Mu8"))
        nanoaod_files.write(folder / f"part{i}.root", arrays, drop)
    (folder / "golden.json").write_text(json.dumps(GOLDEN))
    return folder


def write_config(folder, given, **sections):
    content = {"name": "test", "seed": 1, "input": given, "execution": {"workers": 2}} | sections
    (folder / "test.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def threaded(folder, *line):
    """In this process, with threads for its workers."""
    with ThreadPoolExecutor(2) as pool:
        return here(folder, *line, pool=pool)


def skim(folder, *options, run=threaded):
    return run(folder, "01_skim_nanoaod.py", "test.yaml", *options)


def select(folder, run=threaded):
    return run(folder, "02_select_dimuons.py", "test.yaml")


def contents(folder):
    """{name: bytes} of what step 1 wrote, without the sidecars, which carry times."""
    return {path.name: path.read_bytes() for path in (folder / "data/test/skim").iterdir() if path.suffix == ".parquet"}


def refused(done, *words):
    """The step ended with exit code 2 and one line that holds the words."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def nothing_written(folder):
    return not [path for path in (folder / "data").rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def done(inputs, tmp_path_factory):
    """A folder in which both steps have run."""
    folder = tmp_path_factory.mktemp("done")
    given = {
        "files": [f"{inputs}/part*.root"],
        "certified_luminosity": f"{inputs}/golden.json",
        "triggers": ["HLT_Mu8"],
    }
    write_config(folder, given)
    for run in (skim(folder, run=in_shell), select(folder, run=in_shell)):
        assert run.returncode == 0, run.stderr
    return folder


@pytest.mark.slow
def test_the_manifest_says_what_was_read(done, inputs):
    manifest = json.loads((done / "data/test/skim/manifest.json").read_text())
    first, second = manifest["inputs"]
    assert manifest["totals"]["events_read"] == 6000
    assert manifest["totals"]["events_certified"] == 4500
    assert first["certified"] == {"278820": [[1, 20]]}
    assert first["lost"] == {"278820": [[21, 40]]}
    assert (first["sections_seen"], first["sections_certified"], second["sections_certified"]) == (40, 20, 40)
    assert first["missing_branches"] == []
    assert second["missing_branches"] == ["HLT_Mu8"]
    assert first["size"] == (inputs / "part0.root").stat().st_size
    processed = json.loads((done / "data/test/skim/processed_luminosity.json").read_text())
    assert processed == GOLDEN


def test_all_skims_have_one_schema_and_add_up(done):
    folder = done / "data/test/skim"
    manifest = json.loads((folder / "manifest.json").read_text())
    tables = [pq.read_table(folder / entry["output"]) for entry in manifest["inputs"]]
    for table in tables:
        assert table.schema.remove_metadata() == nanoaod.schema((TRIGGER, "HLT_Mu8"))
    assert sum(table.num_rows for table in tables) == manifest["totals"]["events_two_muons"]
    assert tables[1].column("HLT_Mu8").null_count == tables[1].num_rows
    spectrum = pd.read_parquet(folder / "spectrum.parquet")
    edges = [*spectrum["bin_low"], spectrum["bin_high"].iloc[-1]]
    pairs = pd.concat([table.to_pandas() for table in tables])
    same = pairs[pairs["mu0_charge"] == pairs["mu1_charge"]]
    np.testing.assert_array_equal(spectrum["n_ss"], np.histogram(kinematics.of_pairs(same)["dimu_mass"], edges)[0])
    assert spectrum["n_os"].sum() == manifest["totals"]["os"]  # all masses lie between 0.25 and 200 GeV
    assert spectrum["bin_low"].iloc[0] == pytest.approx(0.25)
    assert spectrum["bin_high"].iloc[-1] == pytest.approx(200)


def test_dimuons_and_cutflow_agree(done):
    table = pd.read_parquet(done / "data/test/dimuons.parquet")
    cutflow = json.loads((done / "data/test/cutflow.json").read_text())
    steps = {row["name"]: row["events"] for row in cutflow["steps"]}
    assert list(steps) == [
        "events read", "certified luminosity", "two muons identified", TRIGGER, "mu0_pt > 17", "mu1_pt > 8",
        "5 <= dimu_mass <= 16", "not read before",
        "anti-isolation: mu0_iso04 > 0.55", "anti-isolation: mu1_iso04 > 0.55",
    ]  # fmt: skip
    assert steps["not read before"] == {"all": len(table), **table["charge"].str.lower().value_counts()}
    assert steps["anti-isolation: mu1_iso04 > 0.55"]["all"] == table["anti_isolated"].sum() > 10
    assert table["mu0_pt"].min() > 17
    assert table["event"].is_monotonic_increasing or table["run"].is_monotonic_increasing
    sidecar = json.loads((done / "data/test/dimuons.parquet.meta.json").read_text())
    assert sidecar["units"]["dimu_mass"] == "GeV"
    assert sidecar["origin"]["kind"] == "unknown"


def test_the_same_bytes_from_one_worker(done, inputs, tmp_path):
    config = yaml.safe_load((done / "test.yaml").read_text()) | {"execution": {"workers": 1}}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert skim(tmp_path).returncode == select(tmp_path).returncode == 0
    assert contents(tmp_path) == contents(done)
    dimuons = "data/test/dimuons.parquet"
    assert (tmp_path / dimuons).read_bytes() == (done / dimuons).read_bytes()


def test_a_second_run_does_nothing_and_a_lost_or_damaged_skim_is_made_again(inputs, tmp_path):
    write_config(tmp_path, {"files": [f"{inputs}/part*.root"]})
    assert skim(tmp_path).returncode == 0
    before, manifest = contents(tmp_path), tmp_path / "data/test/skim/manifest.json"
    first = manifest.read_bytes()
    assert "2 of 2 inputs are done already" in skim(tmp_path).stdout
    assert manifest.read_bytes() == first
    part = tmp_path / "data/test/skim/part0.parquet"
    for harm in (part.unlink, lambda: part.write_bytes(part.read_bytes()[:-9])):
        harm()
        assert "1 of 2 inputs are done already" in skim(tmp_path).stdout
        assert contents(tmp_path) == before
    write_config(tmp_path, {"files": [f"{inputs}/part1.root"]})  # an input less: its skim goes
    assert skim(tmp_path).returncode == 0
    assert set(contents(tmp_path)) == {"part1.parquet", "spectrum.parquet"}


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path):
    for i in range(6):
        arrays = nanoaod_files.events(20_000, seed=i, run=i + 1, mass=(4, 17))
        nanoaod_files.write(tmp_path / f"part{i}.root", arrays, basket=5000)
    write_config(tmp_path, {"files": ["part*.root"]}, execution={"workers": 1})
    command = [sys.executable, str(ROOT / "01_skim_nanoaod.py"), "test.yaml"]
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL)
    manifest = tmp_path / "data/test/skim/manifest.json"
    for _ in range(6000):
        if manifest.exists() or process.poll() is not None:
            break
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    n_done = len(json.loads(manifest.read_text())["inputs"])
    assert 0 < n_done < 6, "the run was not killed half-way"
    refused(select(tmp_path), "manifest.json", "01_skim_nanoaod.py")
    again = skim(tmp_path)
    assert again.returncode == 0
    assert f"{n_done} of 6 inputs are done already" in again.stdout
    resumed = contents(tmp_path)
    for path in (tmp_path / "data/test/skim").iterdir():
        path.unlink()
    assert skim(tmp_path).returncode == 0
    assert contents(tmp_path) == resumed


def test_one_bad_file_does_not_stop_the_others_and_can_be_retried(inputs, tmp_path):
    for i in range(2):
        (tmp_path / f"part{i}.root").write_bytes((inputs / f"part{i}.root").read_bytes())
    whole = (tmp_path / "part1.root").read_bytes()
    (tmp_path / "part1.root").write_bytes(whole[:-500])
    write_config(tmp_path, {"files": ["part0.root", "part1.root"]})
    refused(skim(tmp_path), "1 of 2 inputs are missing: part1.root:", "--retry-failed")
    assert set(contents(tmp_path)) == {"part0.parquet"}
    refused(select(tmp_path), "01_skim_nanoaod.py")
    (tmp_path / "part1.root").write_bytes(whole)
    assert skim(tmp_path, "--retry-failed").returncode == 0
    assert set(contents(tmp_path)) == {"part0.parquet", "part1.parquet", "spectrum.parquet"}
    assert select(tmp_path).returncode == 0


def test_retry_failed_checks_what_is_done_and_leaves_the_rest(inputs, tmp_path):
    """A lost or damaged skim is not sealed as good; inputs not tried yet are neither done nor to be retried."""
    write_config(tmp_path, {"files": [f"{inputs}/part*.root"]})
    assert skim(tmp_path).returncode == 0
    part = tmp_path / "data/test/skim/part0.parquet"
    whole = part.read_bytes()
    for harm in (part.unlink, lambda: part.write_bytes(whole[:-9])):
        harm()
        done = skim(tmp_path, "--retry-failed")
        assert "1 of 2 inputs are done already" in done.stdout
        refused(
            done, "1 of 2 inputs are missing", "part0.root: has changed", "run `python 01_skim_nanoaod.py test.yaml`"
        )
    assert skim(tmp_path).returncode == 0
    write_config(
        tmp_path, {"files": [f"{inputs}/part*.root"]}, selection={"muon_id": "Muon_tightId", "trigger": "HLT_Mu8"}
    )
    done = skim(tmp_path, "--retry-failed")
    assert "done already" not in done.stdout
    refused(done, "2 of 2 inputs are missing", "part1.root: not read yet", "run `python 01_skim_nanoaod.py test.yaml`")


def test_a_full_disk_ends_in_a_list_of_what_is_missing(inputs, tmp_path, monkeypatch):
    """No space for the second input: it has failed, the other is done."""

    class FullDisk(pq.ParquetWriter):
        def write_batch(self, batch):
            if batch.num_rows and batch["run"][0].as_py() == 278821:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write_batch(batch)

    write_config(tmp_path, {"files": [f"{inputs}/part*.root"]})
    with monkeypatch.context() as patched:
        patched.setattr(step_1.pq, "ParquetWriter", FullDisk)
        done = skim(tmp_path)
    refused(done, "1 of 2 inputs are missing", "part1.root: ", "part1.parquet", "No space left", "--retry-failed")
    assert set(contents(tmp_path)) == {"part0.parquet"}
    assert skim(tmp_path, "--retry-failed").returncode == 0


def test_a_disk_without_room_for_the_manifest_is_one_line(inputs, tmp_path, monkeypatch):
    @contextlib.contextmanager
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    write_config(tmp_path, {"files": [f"{inputs}/part*.root"]})
    monkeypatch.setattr("dimuon.data.manifest.atomic", full)
    monkeypatch.setattr("dimuon.workflow.provenance.atomic", full)
    done = skim(tmp_path)
    refused(done, "no space left on the disk")
    assert "manifest.json: cannot be written" in done.stdout


SKIM, SURVEY = step_1.skim, step_1.survey


def skim_or_die(task, layout):
    """`skim.skim`; part1 kills the worker."""
    return os._exit(1) if task.source.name == "part1" else SKIM(task, layout)


def survey_or_die(task):
    """`skim.survey`; part1 kills the worker."""
    return os._exit(1) if task.source.name == "part1" else SURVEY(task)


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "n_missing"), [("skim", 1), ("survey", 2)])
def test_a_killed_worker_ends_in_a_list_of_what_is_missing(inputs, tmp_path, monkeypatch, victim, n_missing):
    write_config(tmp_path, {"files": [f"{inputs}/part*.root"]})
    with monkeypatch.context() as patched, executor.executor(1) as pool:
        patched.setattr(step_1, victim, {"skim": skim_or_die, "survey": survey_or_die}[victim])
        done = skim(tmp_path, run=functools.partial(here, pool=pool))
    refused(done, f"{n_missing} of 2 inputs are missing", "part1.root: a worker process was killed", "--retry-failed")
    assert len(contents(tmp_path)) == 2 - n_missing
    assert skim(tmp_path, "--retry-failed").returncode == 0
    assert len(contents(tmp_path)) == 3


def test_a_file_that_is_no_nanoaod_does_not_stop_the_others(inputs, tmp_path):
    """Where all are refused alike the configuration is wrong, and nothing is written: see bad input, below."""
    nanoaod_files.write(tmp_path / "a.root", nanoaod_files.events(20), tree="Runs")
    nanoaod_files.write(tmp_path / "b.root", nanoaod_files.events(20), drop=("Muon_ip3d",))
    with uproot.recreate(tmp_path / "c.root") as file:
        file["Events"] = np.histogram([1.0, 2.0])
    arrays = nanoaod_files.events(20)
    flat = {name: arrays[name] for name in (*EVENT, TRIGGER)} | {"Muon_dz": arrays["Muon"]["dz"][:, :1]}
    muons = {f"Muon_{name}": arrays["Muon"][name] for name in arrays["Muon"].fields if name != "dz"}
    with uproot.recreate(tmp_path / "d.root") as file:
        file.mkrntuple("Events", ak.Array(flat | muons))
    write_config(tmp_path, {"files": [f"{inputs}/part0.root", "a.root", "b.root", "c.root", "d.root"]})
    for _ in range(2):  # the second time part0 is done, and all that is looked at is refused
        refused(
            skim(tmp_path),
            "4 of 5 inputs are missing: a.root: no tree `Events`",
            "b.root: branch Muon_ip3d is missing",
            "c.root: `Events` is a TH1D, where a TTree or an RNTuple is needed",
            "d.root: Muon_dz and Muon_tightId hold different numbers of muons",
        )
        assert set(contents(tmp_path)) == {"part0.parquet"}


def test_a_trigger_that_no_readable_input_has(inputs, tmp_path):
    (tmp_path / "a.root").write_bytes((inputs / "part0.root").read_bytes()[:-500])
    write_config(tmp_path, {"files": ["a.root", f"{inputs}/part1.root"], "triggers": ["HLT_Mu8"]})
    refused(skim(tmp_path), "trigger HLT_Mu8: no input that can be read has it")
    manifest = json.loads((tmp_path / "data/test/skim/manifest.json").read_text())
    assert [(entry["input"], entry["status"]) for entry in manifest["inputs"]] == [("a", "failed")]


def test_events_read_twice_are_dropped_and_counted(inputs, tmp_path):
    write_config(tmp_path, {"files": [f"{inputs}/part0.root"]})
    assert skim(tmp_path).returncode == select(tmp_path).returncode == 0
    once = (tmp_path / "data/test/dimuons.parquet").read_bytes()
    (tmp_path / "part0.root").write_bytes((inputs / "part0.root").read_bytes())
    write_config(tmp_path, {"files": [f"{inputs}/part0.root", "part0.root"]})
    assert skim(tmp_path).returncode == select(tmp_path).returncode == 0
    assert (tmp_path / "data/test/dimuons.parquet").read_bytes() == once
    cutflow = json.loads((tmp_path / "data/test/cutflow.json").read_text())
    assert cutflow["n_repeated"] == len(pd.read_parquet(tmp_path / "data/test/dimuons.parquet"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "window"), [("eta", (0.25, 0.8)), ("jpsi", (2.0, 4.0))], ids=["eta meson", "J/psi"])
def test_other_windows_need_no_code(tmp_path, name, window):
    nanoaod_files.write(tmp_path / "a.root", nanoaod_files.events(8000, mass=window))
    published = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    kept = {key: published[key] for key in ("selection", "window")}
    kept["selection"]["cuts"]["dimu_eta"] = {"min": -2, "max": 2}
    write_config(tmp_path, {"files": ["a.root"]}, **kept)
    assert skim(tmp_path).returncode == 0
    done = select(tmp_path)
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "data/test/dimuons.parquet")
    assert set(table["region"]) == {"SBL", "SR", "SBH"}
    assert table["dimu_eta"].abs().max() < 2


@pytest.mark.slow
def test_real_data_of_2018(reference, tmp_path):
    """40 events; none has fired the trigger of the paper's kind, so that selection is empty, and says so."""
    path = str(reference / "real" / "nano_dimuon_2018.root")
    wide = {"sb_low": 1.0, "sr_low": 60.0, "sr_high": 120.0, "sb_high": 2000.0}
    for trigger, fired in (
        ("HLT_TrkMu17_DoubleTrkMu8NoFiltersNoVtx", False),
        ("HLT_Mu17_TrkIsoVVL_Mu8_TrkIsoVVL_DZ_Mass3p8", True),
    ):
        write_config(tmp_path, {"files": [path]}, selection={"trigger": trigger, "anti_isolation": {}}, window=wide)
        assert skim(tmp_path).returncode == 0
        done = select(tmp_path)
        if fired:
            assert done.returncode == 0, done.stderr
            table = pd.read_parquet(tmp_path / "data/test/dimuons.parquet")
            assert 0 < len(table) <= 27  # events with two tight muons
        else:
            refused(done, f"no event is left after the step '{trigger}'")


# bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_absent_file(tmp_path):
    write_config(tmp_path, {"files": ["absent.root"]})
    refused(skim(tmp_path, run=in_shell), "absent.root", "no such file", "input.files")
    assert nothing_written(tmp_path)


def test_a_glob_that_matches_nothing(tmp_path):
    write_config(tmp_path, {"files": ["*.root"]})
    refused(skim(tmp_path), "*.root", "no such file")


@pytest.mark.slow
def test_a_file_that_is_not_root(tmp_path):
    (tmp_path / "a.root").write_text("not a ROOT file")
    write_config(tmp_path, {"files": ["a.root"]})
    refused(skim(tmp_path, run=in_shell), "a.root", "OSError")


@pytest.mark.slow
def test_no_events_tree(tmp_path):
    nanoaod_files.write(tmp_path / "a.root", nanoaod_files.events(20), tree="Runs")
    write_config(tmp_path, {"files": ["a.root"]})
    refused(skim(tmp_path, run=in_shell), "a.root", "no tree `Events`", "Runs")
    assert nothing_written(tmp_path)


@pytest.mark.slow
def test_no_needed_branch(tmp_path):
    nanoaod_files.write(tmp_path / "a.root", nanoaod_files.events(20), drop=("Muon_ip3d",))
    write_config(tmp_path, {"files": ["a.root"]})
    refused(skim(tmp_path, run=in_shell), "a.root", "Muon_ip3d is missing")
    assert nothing_written(tmp_path)


@pytest.mark.slow
def test_no_such_trigger(inputs, tmp_path):
    trigger = "HLT_TrkMu15_DoubleTrkMu5NoFilterNoVtx"
    write_config(tmp_path, {"files": [f"{inputs}/part*.root"]}, selection={"trigger": trigger})
    refused(skim(tmp_path, run=in_shell), f"trigger {trigger}", f"nearest: {TRIGGER}")
    assert nothing_written(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("text", "words"), [("{]", "golden.json"), ('{"1": [[1, 5]]}', "certifies no luminosity")])
def test_bad_certified_luminosity(inputs, tmp_path, text, words):
    (tmp_path / "golden.json").write_text(text)
    write_config(tmp_path, {"files": [f"{inputs}/part*.root"], "certified_luminosity": "golden.json"})
    refused(skim(tmp_path, run=in_shell), words)
    assert nothing_written(tmp_path)


def test_an_input_without_certified_sections_is_named(inputs, tmp_path):
    (tmp_path / "golden.json").write_text('{"278821": [[1, 40]]}')
    write_config(tmp_path, {"files": [f"{inputs}/part*.root"], "certified_luminosity": "golden.json"})
    said = skim(tmp_path).stdout
    assert "part0.root: none of its luminosity sections is certified" in said
    assert "part1.root: none" not in said


@pytest.mark.slow
def test_a_cut_on_no_column_and_one_that_nothing_passes(inputs, tmp_path):
    for cuts, words in (
        ({"mu0_ptt": {"min": 1}}, ("selection.cuts.mu0_ptt", "nearest: mu0_pt")),
        ({"HLT_Mu8": {"min": 0.5}}, ("selection.cuts.HLT_Mu8", "add it to input.triggers")),
        ({"mu0_pt": {"min": 1e6}}, ("no event is left", "mu0_pt > 1e+06")),
    ):
        write_config(tmp_path, {"files": [f"{inputs}/part0.root"]}, selection={"cuts": cuts})
        assert skim(tmp_path).returncode == 0
        refused(select(tmp_path, run=in_shell), *words)
        assert not (tmp_path / "data/test/dimuons.parquet").exists()


def test_step_2_before_step_1(tmp_path, inputs):
    write_config(tmp_path, {"files": [f"{inputs}/part0.root"]})
    refused(select(tmp_path, run=in_shell), "manifest.json", "not found", "01_skim_nanoaod.py test.yaml")


def test_manifest_entries_go_to_json_and_back():
    source = sources.Source("a", ("root://h//a.root",), 5, "adler32:1")
    sections = {"278820": [[1, 20]]}
    skimmed = Skimmed(True, "a.parquet", "0", EventCounts(9, 9, 8, 3, 2, 1), 40, 20, sections, {}, ["HLT"], False, 0.1)
    for entry in (ManifestEntry.of(source, skimmed), ManifestEntry.of(source, error="a.root: gone")):
        assert ManifestEntry.from_json(json.loads(json.dumps(entry.to_json()))) == entry
        assert entry.is_of(source)
    assert not entry.is_of(sources.Source("a", ("root://h//a.root",), 5, "adler32:2"))


def test_what_another_analysis_has_read_is_not_read_again(inputs, tmp_path, monkeypatch):
    """Another window, other cuts, another name: the skims are linked, and step 2 goes on from them."""
    given = {"files": [str(inputs / "part*.root")], "certified_luminosity": str(inputs / "golden.json")}
    selection = {"trigger": TRIGGER, "charges": ["os"]}
    write_config(tmp_path, given, selection=selection)
    assert skim(tmp_path).returncode == 0
    first = contents(tmp_path)

    def begin(name, **sections):
        write_config(tmp_path, given, **{"selection": selection, "name": name} | sections)
        with monkeypatch.context() as patch:
            patch.setattr(step_1, "skim", lambda *task: pytest.fail("an input is read again"))
            patch.setattr(step_1, "survey", lambda *task: pytest.fail("an input is opened again"))
            return skim(tmp_path)

    window = {"sb_low": 4.0, "sr_low": 6.0, "sr_high": 7.0, "sb_high": 9.0}
    done = begin("other", window=window)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 inputs were read already for other analyses: skims shared with data/test/skim" in done.stdout
    for name, content in first.items():
        shared = tmp_path / "data/other/skim" / name
        assert shared.read_bytes() == content
        assert name == "spectrum.parquet" or shared.samefile(tmp_path / "data/test/skim" / name)
    assert select(tmp_path).returncode == 0
    (tmp_path / "data/test/skim/part0.parquet").unlink()
    assert select(tmp_path).returncode == 0  # each has its own name for it
    with pytest.raises(pytest.fail.Exception):  # another trigger is another skim
        begin("third", selection=selection | {"trigger": "HLT_Mu8"})
