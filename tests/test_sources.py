"""Where files come from: paths and globs, the portal's records (a stand-in on 127.0.0.1), the published skim."""

import json
import os
import pickle
import subprocess

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from dimuon.data import nanoaod, portal, published_skim, sources
from dimuon.errors import UserError
from tests import nanoaod_files, servers
from tests.conftest import ROOT
from tests.nanoaod_files import TRIGGER
from tests.test_skim import refused, select, skim, write_config


def test_globs_are_sorted_and_each_file_is_read_once(tmp_path):
    for name in ("b.root", "a.root", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = sources.from_files([f"{tmp_path}/*.root", f"{tmp_path}/a.root", "root://host//d.root"])
    assert [source.name for source in found] == ["a", "b", "d"]
    assert [source.is_remote for source in found] == [False, False, True]


def test_files_of_the_same_name_keep_apart(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.root").write_bytes(b"x")
    names = {source.name for source in sources.from_files([f"{tmp_path}/*/a.root"])}
    assert len(names) == 2
    assert all(name.startswith("a_") for name in names)


def test_one_file_by_two_paths_is_read_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.root").write_bytes(b"x")
    (tmp_path / "link.root").symlink_to("a.root")
    found = sources.from_files(["a.root", "./a.root", str(tmp_path / "a.root"), "link.root"])
    assert [(source.name, source.address) for source in found] == [("a", "a.root")]


def test_a_file_named_like_a_glob_and_a_folder(tmp_path):
    for name in ("a[1].root", "a1.root", "b1.root"):
        (tmp_path / name).write_bytes(b"x")
    assert [source.name for source in sources.from_files([f"{tmp_path}/a[1].root"])] == ["a[1]"]
    assert [source.name for source in sources.from_files([f"{tmp_path}/b[1].root"])] == ["b1"]
    with pytest.raises(UserError, match=r"is a folder; name its files .*/\*.root"):
        sources.from_files([str(tmp_path)])


def test_no_input_takes_the_name_of_the_spectrum(tmp_path):
    for name in ("spectrum", "a"):
        nanoaod_files.write(tmp_path / f"{name}.root", nanoaod_files.events(300, mass=(4, 17)))
    write_config(tmp_path, {"files": ["*.root"]})
    assert skim(tmp_path).returncode == 0
    skims = {path.name for path in (tmp_path / "data/test/skim").glob("*.parquet")}
    assert len(skims) == 3
    assert {"a.parquet", "spectrum.parquet"} < skims
    assert "n_os" in pq.read_schema(tmp_path / "data/test/skim/spectrum.parquet").names


@pytest.mark.parametrize("xrootd", [True, False])
def test_the_portals_files_have_two_addresses(monkeypatch, xrootd):
    monkeypatch.setattr(sources, "has_xrootd", lambda: xrootd)
    root, https = "root://eospublic.cern.ch//eos/opendata/a.root", "https://opendata.cern.ch/eos/opendata/a.root"
    for given, other in ((root, https), (https, root)):
        (source,) = sources.from_files([given])
        assert source.addresses == ((given, other) if xrootd else (https,))
    for elsewhere in ("root://host//eos/a.root", "https://host/eos/a.root", "https://opendata.cern.ch/record/1/a.root"):
        assert sources.from_files([elsewhere])[0].addresses == (elsewhere,)


def test_another_address_of_the_same_checksum_is_the_same_input():
    """So that installing XRootD, which changes the address, does not make every skim anew."""
    one, other = (sources.Source("a", (address,), 3, "adler32:1") for address in ("root://h//a", "https://h/a"))
    assert one.identity == other.identity
    assert one.identity != sources.Source("a", ("root://h//a",), 3, "adler32:2").identity
    one, other = (sources.Source("a", (address,), 3) for address in ("root://h//a", "https://h/a"))
    assert one.identity != other.identity


def test_pauses_grow_and_the_last_error_is_told(monkeypatch):
    pauses = []
    monkeypatch.setattr(sources.time, "sleep", pauses.append)

    def action(attempt):
        raise ConnectionResetError(f"attempt {attempt}")

    with pytest.raises(sources.ReadFailed, match=r"root://h//x: ConnectionResetError: attempt 9 .attempt 9 of 9"):
        sources.retry(action, sources.Source("x", ("root://h//x",)), attempts=9)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_other_address_is_tried_when_one_fails(tmp_path):
    path = nanoaod_files.write(tmp_path / "a.root", nanoaod_files.events(300))
    with servers.http(tmp_path) as (address, _):
        source = sources.Source("a", (f"{address}/gone.root", f"{address}/a.root"))
        batches = list(sources.stream(source, ["run"], attempts=2, timeout=5))
    assert sum(len(arrays["run"]) for arrays in batches) == 300
    assert path.exists()


# the portal -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def portal_stand_in(tmp_path):
    """(address, folder of its files, requests counted by deleting it): records 1 (data) and 2 (certified sections)."""
    folder = tmp_path / "portal"
    folder.mkdir()
    for i in range(2):
        nanoaod_files.write(folder / f"part{i}.root", nanoaod_files.events(500, seed=i, mass=(4, 17)))
    (folder / "Cert_2016_JSON.txt").write_text(json.dumps({"278820": [[1, 30]]}))

    def entry(name):
        path = folder / name
        return {"uri": f"{sources.EOS}/{name}", "size": path.stat().st_size, "checksum": portal.adler32(path)}

    index = {"key": "index.json", "size": 1, "files": [entry("part0.root"), entry("part1.root")]}
    answers = {
        "/api/records/1": {"metadata": {"recid": 1, "files": [], "_file_indices": [index]}},
        "/api/records/2": {"metadata": {"recid": 2, "files": [entry("Cert_2016_JSON.txt")]}},
    }
    with servers.http(folder, answers={k: json.dumps(v).encode() for k, v in answers.items()}) as (
        address,
        _,
    ):
        yield address, folder


@pytest.mark.parametrize("download", [False, True])
def test_a_record_is_resolved_read_and_remembered(portal_stand_in, tmp_path, monkeypatch, download):
    monkeypatch.setattr(sources, "has_xrootd", lambda: False)  # or it would ask the real storage first
    address, folder = portal_stand_in
    settings = {"workers": 1, "attempts": 1, "timeout": 5.0, "download": download}
    write_config(tmp_path, {"record": 1, "portal": address, "certified_luminosity": 2}, execution=settings)
    done = skim(tmp_path)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "data/test/skim/manifest.json").read_text())
    assert [entry["input"] for entry in manifest["inputs"]] == ["part0", "part1"]
    assert manifest["inputs"][0]["checksum"] == portal.adler32(folder / "part0.root")
    assert all(entry["checksum_verified"] == download for entry in manifest["inputs"])
    assert ("2 of 2 inputs: checksum of the portal not verified" in done.stdout) == (not download)
    assert manifest["inputs"][0]["lost"] == {"278820": [[31, 40]]}
    remembered = json.loads((tmp_path / "data/test/record_1.json").read_text())
    assert [file["size"] for file in remembered["files"]] == [entry["size"] for entry in manifest["inputs"]]
    assert not list((tmp_path / "data/test/skim").glob("*.root"))


def test_files_of_one_name_in_a_record_keep_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "has_xrootd", lambda: False)
    listed = [{"address": f"{sources.EOS}/{folder}/a.root", "size": 1, "checksum": None} for folder in ("x", "y")]
    content = {"record": 1, "portal": "https://portal", "files": listed}
    (tmp_path / "record.json").write_text(json.dumps(content))
    one, other = portal.root_files(portal.Record(1, "https://portal", tmp_path / "record.json", 1, 5))
    assert one.name != other.name
    assert (one.addresses, other.addresses) == (("https://portal/x/a.root",), ("https://portal/y/a.root",))


def test_a_portal_that_is_away_or_knows_no_such_record(tmp_path, portal_stand_in):
    settings = {"attempts": 1, "timeout": 1.0}
    write_config(tmp_path, {"record": 9, "portal": portal_stand_in[0]}, execution=settings)
    refused(skim(tmp_path), "the portal has no record 9")
    write_config(tmp_path, {"record": 1, "portal": f"http://127.0.0.1:{servers.free_port()}"}, execution=settings)
    refused(skim(tmp_path), "is the portal reachable?")
    write_config(tmp_path, {"record": 2, "portal": portal_stand_in[0]}, execution=settings)
    refused(skim(tmp_path), "record 2 holds no ROOT file")


def test_the_portal_is_asked_once(tmp_path, portal_stand_in):
    address, _ = portal_stand_in
    cache = tmp_path / "record.json"
    first = portal.root_files(portal.Record(1, address, cache, 1, 5))
    cached = cache.read_bytes()
    assert portal.root_files(portal.Record(1, address, cache, 1, 1e-9)) == first  # a request would time out
    assert cache.read_bytes() == cached


# the published skim ---------------------------------------------------------------------------------------------------


def write_published(folder, n, number, protocol=4, drop=()):
    """all_mu_<n>, all_jet_<n> as published: dictionaries of awkward arrays, the triggers among the muons."""
    arrays = nanoaod_files.events(n, seed=number, mass=(4, 17))
    muons = {f"Muon_{name}": arrays["Muon"][name] for name in arrays["Muon"].fields} | {
        TRIGGER: ak.Array(arrays[TRIGGER])
    }
    muons = {name: values for name, values in muons.items() if name not in drop}
    (folder / f"all_mu_{number}").write_bytes(pickle.dumps(muons, protocol=protocol))
    (folder / f"all_jet_{number}").write_bytes(pickle.dumps({"Jet_pt": arrays["Jet"]["pt"]}, protocol=protocol))
    return arrays


def test_the_published_skim_gives_what_nanoaod_gives(tmp_path):
    published = tmp_path / "published"
    published.mkdir()
    arrays = write_published(published, 3000, 0)
    write_published(published, 2000, 1, drop=("Muon_dz", TRIGGER))
    write_config(tmp_path, {"published_skim": str(published)})
    for done in (skim(tmp_path), select(tmp_path)):
        assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "data/test/skim/manifest.json").read_text())
    unknown = ["run", "luminosityBlock", "event"]
    assert [entry["missing_branches"] for entry in manifest["inputs"]] == [
        unknown,
        [*unknown, "Muon_dz", TRIGGER],
    ]
    (tmp_path / "nano").mkdir()
    nanoaod_files.write(tmp_path / "nano" / "0.root", arrays)
    write_config(tmp_path / "nano", {"files": ["0.root"]})
    assert skim(tmp_path / "nano").returncode == 0
    columns = [name for name in nanoaod.schema((TRIGGER,)).names if name not in unknown]
    one, other = (
        pq.read_table(folder / "data/test/skim/0.parquet", columns=columns) for folder in (tmp_path, tmp_path / "nano")
    )
    assert one.equals(other)
    assert one.num_rows > 100


def test_run_numbers_are_needed_for_certified_luminosity(tmp_path):
    write_published(tmp_path, 300, 0)
    (tmp_path / "golden.json").write_text('{"1": [[1, 2]]}')
    write_config(tmp_path, {"published_skim": ".", "certified_luminosity": "golden.json"})
    refused(skim(tmp_path), "leave out input.certified_luminosity")


def test_a_published_muon_file_without_its_jets_or_none_at_all(tmp_path):
    write_config(tmp_path, {"published_skim": "."})
    refused(skim(tmp_path), "no file all_mu_<id>")
    write_published(tmp_path, 300, 0)
    (tmp_path / "all_jet_0").unlink()
    refused(skim(tmp_path), "all_jet_0: no such file")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_every_protocol_are_admitted(tmp_path, protocol):
    content = {
        "a": ak.Array([[1.5, 2], [], [3]]),
        "b": np.arange(4),
        "c": ak.Array([True, False]),
        "d": np.float32(2),
    }
    (tmp_path / "a").write_bytes(pickle.dumps(content, protocol=protocol))
    loaded = published_skim.load(tmp_path / "a")
    assert loaded["a"].to_list() == [[1.5, 2], [], [3]]
    assert loaded["b"].tolist() == [0, 1, 2, 3]


class Hostile:
    """Rebuilt by a call of its own choice."""

    def __init__(self, function, *arguments):
        self.recipe = function, arguments

    def __reduce__(self):
        return self.recipe


@pytest.mark.parametrize("where", ["alone", "in a dictionary", "in an array"])
@pytest.mark.parametrize("call", ["os.system", "eval", "numpy.load", "subprocess"])
def test_a_hostile_pickle_is_refused_and_nothing_of_it_runs(tmp_path, where, call):
    victim = tmp_path / "victim"
    victim.write_text("still here")
    hostile = {
        "os.system": Hostile(os.system, f"rm {victim}"),
        "eval": Hostile(eval, f"__import__('os').remove({str(victim)!r})"),
        "numpy.load": Hostile(np.load, str(victim)),
        "subprocess": Hostile(subprocess.getoutput, f"rm {victim}"),
    }[call]
    content = {
        "alone": hostile,
        "in a dictionary": {"Muon_pt": hostile},
        "in an array": np.array([hostile], dtype=object),
    }
    (tmp_path / "all_mu_0").write_bytes(pickle.dumps(content[where]))
    with pytest.raises(UserError, match="refused, nothing of it was run"):
        published_skim.load(tmp_path / "all_mu_0")
    assert victim.read_text() == "still here"


def test_a_name_behind_a_dot_and_a_strange_codec_are_refused(tmp_path):
    for name, code in {
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile_\x93.",
        "codec": b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.",
        "builtin": b"cbuiltins\ngetattr\n.",
    }.items():
        (tmp_path / name).write_bytes(code)
        with pytest.raises(UserError, match="refused"):
            published_skim.load(tmp_path / name)


def test_what_is_no_dictionary_of_arrays_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match="holds a list"):
        published_skim.load(tmp_path / "a")


NOT_JAGGED = {
    "number": 3.5,
    "nothing": None,
    "text": "text",
    "list": [1, 2],
    "flat": np.ones(300),
    "matrix": np.ones((300, 2)),
    "texts": ak.Array(["text"] * 300),
}


@pytest.mark.parametrize("value", NOT_JAGGED.values(), ids=NOT_JAGGED)
@pytest.mark.parametrize(("file", "key"), [("all_mu_0", "Muon_pt"), ("all_jet_0", "Jet_pt")])
def test_a_value_that_is_no_jagged_array_is_refused(tmp_path, file, key, value):
    write_published(tmp_path, 300, 0)
    content = published_skim.load(tmp_path / file)
    (tmp_path / file).write_bytes(pickle.dumps(content | {key: value}))
    write_config(tmp_path, {"published_skim": "."})
    refused(skim(tmp_path), file, f"{key} is no jagged array of numbers")


def test_a_value_that_is_not_needed_may_be_anything_and_is_dropped(tmp_path):
    write_published(tmp_path, 300, 0)
    path = tmp_path / "all_mu_0"
    path.write_bytes(pickle.dumps(published_skim.load(path) | {"note": "text", "Muon_extra": np.ones(300)}))
    with published_skim.open_events(str(path)) as content:
        layout = published_skim.layout(content, "Muon_tightId", (TRIGGER,), "a")
        assert layout.entries == 300
        assert {"note", "Muon_extra"} < set(content)
        ((stop, arrays),) = published_skim.ranges(content, layout.present)
        assert set(content) == set(arrays) == set(layout.present)
    assert stop == 300


def test_a_truncated_pickle_is_a_failed_input_not_a_crash(tmp_path):
    write_published(tmp_path, 300, 0)
    path = tmp_path / "all_mu_0"
    path.write_bytes(path.read_bytes()[:-200])
    write_config(tmp_path, {"published_skim": "."})
    refused(skim(tmp_path), "1 of 1 inputs are missing", "all_mu_0: OSError: not a whole pickle")


def test_fetch_refuses_a_wrong_size_and_a_wrong_checksum(tmp_path):
    (tmp_path / "a.txt").write_text("some content")
    good = portal.adler32(tmp_path / "a.txt")
    with servers.http(tmp_path) as (address, _):
        for size, checksum, words in (
            (99, good, "12 bytes where 99"),
            (12, "adler32:00000001", "checksum adler32"),
        ):
            source = sources.Source("a", (f"{address}/a.txt",), size, checksum)
            with pytest.raises(sources.ReadFailed, match=words):
                portal.fetch(source, tmp_path / "copy", attempts=1, timeout=5)
            assert not (tmp_path / "copy").exists()
        for checksum in (good, "sha1:00000001", None):  # a kind that is not compared is no reason to refuse
            portal.fetch(sources.Source("a", (f"{address}/a.txt",), 12, checksum), tmp_path / "copy", 1, 5)
    assert (tmp_path / "copy").read_text() == "some content"


def test_the_shipped_configurations_name_the_records():
    for name in ("upsilon", "eta", "jpsi"):
        given = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())["input"]
        assert (given["record"], given["certified_luminosity"]) == (30555, 14220)
