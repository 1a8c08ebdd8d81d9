"""Reading NanoAOD: the two hardest identified muons against a plain loop, and the real files."""

import awkward as ak
import numpy as np
import pyarrow as pa
import pytest
import uproot

from dimuon.data import nanoaod
from dimuon.errors import UserError
from tests import nanoaod_files
from tests.nanoaod_files import TRIGGER


def read(path, branches=None):
    with nanoaod.open_events(str(path)) as tree:
        layout = nanoaod.layout(tree, "Muon_tightId", (TRIGGER,), path)
        return layout, [arrays for _, arrays in nanoaod.ranges(tree, branches or layout.present)]


def plain_loop(arrays, mask):
    """Rows of (event, mu0_pt, mu1_pt, mu0_charge, mu1_iso04, n_muons, n_jets) the slow way."""
    muon, rows = arrays["Muon"], []
    for i, event in enumerate(muon.to_list()):
        passing = sorted((mu for mu in event if mu["tightId"]), key=lambda mu: -mu["pt"])
        if mask[i] and len(passing) >= 2:
            a, b = passing[:2]
            rows.append((int(arrays["event"][i]), a["pt"], b["pt"], a["charge"], b["pfRelIso04_all"], len(passing),
                         len(arrays["Jet"][i])))  # fmt: skip
    return rows


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_pair_is_the_two_hardest_identified_muons(tmp_path, shuffled):
    arrays = nanoaod_files.events(3000, seed=3)
    if shuffled:  # the order of the muons in the file must not matter
        order = ak.argsort(arrays["Muon"]["eta"], axis=1)
        arrays["Muon"] = ak.zip({name: arrays["Muon"][name][order] for name in arrays["Muon"].fields})
    path = nanoaod_files.write(tmp_path / "a.root", arrays)
    _, (found,) = read(path)
    mask = np.random.default_rng(0).random(3000) < 0.7
    pairs = nanoaod.muon_pairs(found, "Muon_tightId", (TRIGGER,), mask)
    names = ("event", "mu0_pt", "mu1_pt", "mu0_charge", "mu1_iso04", "n_muons", "n_jets")
    rows = list(zip(*(pairs.column(name).to_pylist() for name in names), strict=True))
    assert rows == plain_loop(arrays, mask)
    assert 500 < len(rows) < 2500
    assert pairs.column(TRIGGER).to_numpy(zero_copy_only=False).mean() == pytest.approx(0.8, abs=0.05)


def test_ranges_do_not_change_the_result(tmp_path, monkeypatch):
    path = nanoaod_files.write(tmp_path / "a.root", nanoaod_files.events(3000, seed=5), basket=700)

    def table():
        batches = [
            nanoaod.muon_pairs(arrays, "Muon_tightId", (TRIGGER,), np.ones(len(arrays["run"]), bool))
            for arrays in read(path)[1]
        ]
        return len(batches), pa.Table.from_batches(batches)

    n_whole, whole = table()
    monkeypatch.setattr(nanoaod, "ENTRIES_PER_RANGE", 450)  # not a multiple of the baskets
    n_parts, parts = table()
    assert (n_whole, n_parts) == (1, 7)
    assert parts.equals(whole)


def test_events_without_muons_and_empty_files(tmp_path):
    arrays = nanoaod_files.events(50, seed=1)
    arrays["Muon"] = arrays["Muon"][arrays["Muon"]["pt"] > 1e9]
    _, (found,) = read(nanoaod_files.write(tmp_path / "a.root", arrays))
    assert nanoaod.muon_pairs(found, "Muon_tightId", (TRIGGER,), np.ones(50, bool)).num_rows == 0
    layout, batches = read(nanoaod_files.write(tmp_path / "b.root", nanoaod_files.events(0)))
    assert layout.entries == 0
    assert batches == []


def test_missing_branches_become_nulls_of_one_schema(tmp_path):
    path = nanoaod_files.write(
        tmp_path / "a.root", nanoaod_files.events(200), drop=("Muon_jetRelIso", "Muon_dz", TRIGGER)
    )
    layout, (found,) = read(path)
    assert set(layout.missing) == {"Muon_jetRelIso", "Muon_dz", TRIGGER}
    pairs = nanoaod.muon_pairs(found, "Muon_tightId", (TRIGGER,), np.ones(200, bool))
    assert pairs.schema == nanoaod.schema((TRIGGER,))
    for name in ("mu0_jetiso", "mu1_dz", TRIGGER):
        assert pairs.column(name).null_count == pairs.num_rows > 0
    assert pairs.column("mu0_pt").null_count == 0


@pytest.mark.parametrize("branch", ["Muon_pt", "Muon_tightId", "run", "Muon_pfRelIso04_all"])
def test_a_needed_branch_is_asked_for_by_name(tmp_path, branch):
    path = nanoaod_files.write(tmp_path / "a.root", nanoaod_files.events(20), drop=(branch,))
    with pytest.raises(UserError, match=f"branch {branch} is missing"):
        read(path)


def write_tree(path, arrays):
    kinds = {name: ak.type(values).content if isinstance(values, ak.Array) else
             np.dtype((values.dtype, values.shape[1:])) for name, values in arrays.items()}  # fmt: skip
    with uproot.recreate(path) as file:
        file.mktree("Events", kinds, counter_name=lambda name: f"n{name}").extend(arrays)


@pytest.mark.parametrize(
    ("branch", "values", "due"),
    [
        ("Muon_pt", np.ones(50, np.float32), "jagged"),
        ("Muon_tightId", np.ones((50, 2), bool), "jagged"),
        ("run", ak.Array([[1, 2]] * 50), "flat"),
        (TRIGGER, np.ones((50, 3), bool), "flat"),
    ],
)
def test_a_branch_of_another_kind_is_refused(tmp_path, branch, values, due):
    arrays = nanoaod_files.events(50)
    flat = {name: arrays[name] for name in ("run", "luminosityBlock", "event", TRIGGER)}
    flat |= {f"Muon_{name}": arrays["Muon"][name] for name in arrays["Muon"].fields}
    write_tree(tmp_path / "a.root", flat)
    read(tmp_path / "a.root")
    write_tree(tmp_path / "a.root", flat | {branch: values})
    with pytest.raises(UserError, match=f"a.root: branch {branch} is no {due} array of numbers"):
        read(tmp_path / "a.root")


def test_a_root_file_without_events_is_refused(tmp_path):
    nanoaod_files.write(tmp_path / "a.root", nanoaod_files.events(20), tree="Other")
    with pytest.raises(UserError, match="no tree `Events` .*found Other"):
        read(tmp_path / "a.root")


def test_a_file_shorter_than_it_says_is_an_error(tmp_path):
    path = nanoaod_files.write(tmp_path / "a.root", nanoaod_files.events(2000))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OSError, match="bytes where"):
        read(path)


def test_only_the_branches_asked_for_are_read(tmp_path):
    path = nanoaod_files.write(tmp_path / "a.root", nanoaod_files.events(50))
    _, (found,) = read(path, ["Muon_pt", "run"])
    assert set(found) == {"Muon_pt", "run"}


@pytest.mark.parametrize("name", ["nano_dimuon_2018.root", "nanoaod_2015_ttbar.root"])
def test_real_nanoaod_against_a_plain_loop(reference, name):
    path = reference / "real" / name
    muon_id = "Muon_looseId"
    with nanoaod.open_events(str(path)) as tree:
        layout = nanoaod.layout(tree, muon_id, (), path)
        ((_, arrays),) = nanoaod.ranges(tree, layout.present)
    assert layout.missing == ()
    assert layout.simulated == ("ttbar" in name)
    pairs = nanoaod.muon_pairs(arrays, muon_id, (), np.ones(layout.entries, bool))
    tree = uproot.open(path)["Events"]
    muons = ak.zip({name: tree[f"Muon_{name}"].array() for name in ("pt", "eta", "looseId", "ip3d")})
    expected = []
    for event in muons.to_list():
        passing = sorted((mu for mu in event if mu["looseId"]), key=lambda mu: -mu["pt"])
        if len(passing) >= 2:
            expected.append([passing[0]["pt"], passing[1]["eta"], passing[1]["ip3d"]])
    columns = ("mu0_pt", "mu1_eta", "mu1_ip3d")
    found = np.stack([pairs.column(c).to_numpy() for c in columns], axis=1)
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float32).reshape(-1, 3))
