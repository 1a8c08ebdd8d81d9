"""Reading NanoAOD: the two hardest identified muons against a plain loop, and the real files."""

import awkward as ak
import numpy as np
import pyarrow as pa
import pytest
import uproot

from dimuon.data import nanoaod
from dimuon.data.tables import require_exact
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


@pytest.mark.slow
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


# the versions of NanoAOD: kinds of the branches that changed between them, what some lack, their trigger lists
OLD, NEW = ("HLT_IsoMu24", "HLT_Mu8", TRIGGER), ("HLT_DoubleMu4_3_LowMass", TRIGGER)
VERSIONS = {
    "v7 data": {"HLT": OLD},
    "v7 simulation": {"HLT": OLD, "nGenPart": np.uint32},
    "v8 data": {"HLT": (*OLD, "HLT_Mu17"), "tightId": np.uint8},
    "v9 data": {"HLT": (TRIGGER,), "nJet": np.uint32},
    "v9 simulation": {"HLT": OLD, "nGenPart": np.uint32, "drop": ("luminosityBlock",)},
    "v10 data": {"HLT": NEW, "charge": np.int16, "run": np.int32},
    "v11 simulation": {"HLT": NEW, "charge": np.int8, "event": np.int64, "nGenPart": np.int32},
    "v12 data": {"HLT": NEW, "nJet": np.int32, "luminosityBlock": np.int32},
    "v14 data": {"HLT": ("HLT_Mu8",), "pt": np.float64, "nJet": np.int32, "drop": ("Muon_jetRelIso",)},
    "v15 data": {"HLT": NEW, "tightId": np.int8, "charge": np.int16, "nJet": np.int16, "event": np.int64},
}


def of_version(seed, HLT, drop=(), **kinds):
    """{branch: array} of 400 events as a version of NanoAOD keeps them."""
    arrays = nanoaod_files.events(400, seed, triggers=HLT, first_event=2**33)
    muon = {f"Muon_{name}": arrays["Muon"][name] for name in arrays["Muon"].fields}
    flat = {name: values for name, values in arrays.items() if name not in ("Muon", "Jet")} | muon
    flat["nJet"] = ak.num(arrays["Jet"]["pt"]).to_numpy()
    for name, kind in kinds.items():
        branch = f"Muon_{name}" if f"Muon_{name}" in flat else name
        flat[branch] = ak.values_astype(flat.get(branch, flat["nJet"]), kind)
        flat[branch] = flat[branch] if branch in muon else ak.to_numpy(flat[branch])
    return {branch: values for branch, values in flat.items() if branch not in drop}


def write_rntuple(path, arrays):
    with uproot.recreate(path) as file:
        file.mkrntuple("Events", ak.Array(arrays))


def directly(path):
    """{column: list} of the two hardest identified muons, read with uproot and chosen with awkward alone."""
    with uproot.open(path) as file:
        names = ("event", "nJet", *(f"Muon_{name}" for name in ("pt", "eta", "charge", "pfRelIso04_all", "tightId")))
        arrays = {name: file["Events"][name].array() for name in names}
    passing = arrays["Muon_tightId"] != 0
    muon = ak.zip({name: arrays[f"Muon_{name}"][passing] for name in ("pt", "eta", "charge", "pfRelIso04_all")})
    muon = muon[ak.argsort(muon["pt"], ascending=False, stable=True)]
    two = ak.num(muon) >= 2
    columns = {"event": arrays["event"][two], "n_jets": arrays["nJet"][two], "n_muons": ak.num(muon)[two]}
    for i in (0, 1):
        for column, name in (("pt", "pt"), ("eta", "eta"), ("charge", "charge"), ("iso04", "pfRelIso04_all")):
            columns[f"mu{i}_{column}"] = muon[name][two, i]
    return {name: values.to_list() for name, values in columns.items()}


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_tree, write_rntuple])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_gives_the_muons_that_uproot_reads(tmp_path, version, write):
    arrays = of_version([*VERSIONS].index(version), **VERSIONS[version])
    write(tmp_path / "a.root", arrays)
    layout, (found,) = read(tmp_path / "a.root")
    nanoaod.require_sound(found, "Muon_tightId", "a.root")
    pairs = nanoaod.muon_pairs(found, "Muon_tightId", (TRIGGER,), np.ones(400, bool))
    assert pairs.schema == nanoaod.schema((TRIGGER,))
    expected = directly(tmp_path / "a.root")
    kept = pairs.to_pydict()
    for name, values in expected.items():
        assert kept[name] == [np.float32(value) if name.endswith("pt") else value for value in values], name
    assert 100 < pairs.num_rows < 300
    assert layout.simulated == ("simulation" in version)
    absent = {"luminosityBlock": None, TRIGGER: None}
    for name in absent:
        assert (pairs.column(name).null_count == pairs.num_rows) == (name not in arrays), name


def test_an_rntuple_gives_what_the_tree_of_its_events_does(tmp_path, monkeypatch):
    """To the last bit, in several ranges, too."""
    arrays = of_version(1, HLT=OLD)
    write_tree(tmp_path / "tree.root", arrays)
    write_rntuple(tmp_path / "tuple.root", arrays)
    monkeypatch.setattr(nanoaod, "ENTRIES_PER_RANGE", 150)

    def table(name):
        layout, ranges = read(tmp_path / name)
        parts = [
            nanoaod.muon_pairs(part, "Muon_tightId", (TRIGGER,), np.ones(len(part["run"]), bool)) for part in ranges
        ]
        return layout, len(parts), pa.Table.from_batches(parts)

    assert table("tree.root") == table("tuple.root")
    assert table("tuple.root")[1] == 3


OTHER_OBJECTS = {
    "a folder": (lambda file: file.mkdir("Events"), "is a TDirectory"),
    "a histogram": (lambda file: file.update({"Events": np.histogram([1.0, 2.0])}), "is a TH1D"),
    "a text": (lambda file: file.update({"Events": "none"}), "is a TObjString"),
    "a profile": (lambda file: file.update({"Events": np.histogram2d([1.0], [1.0])}), "is a TH2D"),
}


@pytest.mark.parametrize("kind", OTHER_OBJECTS)
def test_events_of_another_class_are_named(tmp_path, kind):
    write, words = OTHER_OBJECTS[kind]
    with uproot.recreate(tmp_path / "a.root") as file:
        write(file)
    with pytest.raises(UserError, match=f"a.root: `Events` {words}, where a TTree or an RNTuple is needed"):
        read(tmp_path / "a.root")


def test_branches_with_different_numbers_of_muons_are_refused(tmp_path):
    arrays = of_version(1, HLT=OLD)
    arrays["Muon_eta"] = arrays["Muon_eta"][:, :1]
    write_rntuple(tmp_path / "a.root", arrays)
    _, (found,) = read(tmp_path / "a.root")
    with pytest.raises(UserError, match="a.root: Muon_eta and Muon_tightId hold different numbers of muons"):
        nanoaod.require_sound(found, "Muon_tightId", "a.root")


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_event_numbers_that_are_not_exact_are_refused(kind):
    limit = {np.float32: 2**24, np.float64: 2**53}[kind]
    assert kind(limit + 1) == kind(limit), "the first that is taken for its neighbour"
    require_exact(np.array([1, limit], kind), "event", "a.root")
    for values in ([1, limit * 2], [1, np.nan]):
        with pytest.raises(UserError, match=f"a.root: event is kept as {kind.__name__}, exact up to {limit}"):
            require_exact(np.array(values, kind), "event", "a.root")
    require_exact(np.array([2**63], np.uint64), "event", "a.root")
