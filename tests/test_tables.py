"""Tables of events that a user hands in: reading, formulas, declarations, and what is refused."""

import contextlib
import decimal
import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from dimuon.bumphunt import steps
from dimuon.data import formulas, handed_in, portal, sources
from dimuon.data.dimuons import Dimuons
from dimuon.data.settings import Table
from dimuon.data.tables import TableColumns
from dimuon.errors import AnalysisError, UserError
from dimuon.features import Feature
from dimuon.workflow import config
from dimuon.workflow.provenance import Run
from tests import servers
from tests.shell import here

WINDOW = "window: {sb_low: 2.6, sr_low: 3.2, sr_high: 3.8, sb_high: 5.0}"
DIJETS = """\
name: dijets
seed: 1
input:
  table: {file: dijets.parquet, mass: mjj}
mass: {label: $m_{jj}$, unit: TeV}
window: {sb_low: 2.6, sr_low: 3.2, sr_high: 3.8, sb_high: 5.0}
features:
  set: [mj1, tau21, ntrk]
  define:
    mj1: {label: $m_{j1}$, unit: GeV, side: above, log: true}
    tau21: {label: $\\tau_{21}$, range: [0, 1], side: below}
    ntrk: {label: Tracks, discrete: true, side: below}
"""
OS_ALONE = """\
name: a
seed: 1
input: {dimuons: mine.parquet}
features: {set: [dimu_pt]}
selection: {charges: [os]}
"""
SMALL = """\
estimator: {members: 1, hidden: 8, blocks: 2, epochs: 4}
background: {degree: 3}
bdt: {members: 2, folds: 5}
significance: {degree: 3, toys: {local: 0, scan: 0, weights: 0}}
"""


def dijets(n_events=6000, seed=3):
    rng = np.random.default_rng(seed)
    mass = 2.6 + rng.exponential(0.7, 4 * n_events)
    mass = mass[mass < 5.0][:n_events]
    return pd.DataFrame(
        {
            "mjj": mass,
            "mj1": 80 * np.exp(rng.normal(0, 0.5, len(mass))),
            "tau21": rng.beta(4, 3, len(mass)),
            "ntrk": rng.poisson(12, len(mass)),
            "row": np.arange(len(mass)),
        }
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_of(text, step="03_train_flows.py"):
    with open("a.yaml", "w") as file:
        file.write(text)
    return Run(config.load("a.yaml"), step, "a.yaml")


def columns(frame, tmp_path, suffix=".parquet", **settings):
    path = tmp_path / f"table{suffix}"
    if isinstance(frame, str):
        path.write_text(frame)
    elif suffix == ".parquet":
        (pq.write_table(frame, path) if isinstance(frame, pa.Table) else frame.to_parquet(path))
    return TableColumns(path, Table(file=str(path), **settings))


# formulas -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("px**2 + py**2", [25.0, 2.0]),
        ("sqrt(px*px + py*py) / 2", [2.5, np.sqrt(2) / 2]),
        ("(px > 2) & ~(py < 0)", [True, False]),
        ("where(kind == 'G', px, -py)", [3.0, -1.0]),
        ("-px != -3", [False, True]),
    ],
)
def test_formulas_are_what_numpy_says(formula, expected):
    values = {"px": np.array([3.0, 1.0]), "py": np.array([4.0, 1.0]), "kind": np.array(["G", "T"])}
    used = {name: values[name] for name in formulas.names_in(formula)}
    np.testing.assert_allclose(formulas.evaluate(formula, used), expected)


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os').system('touch x')", "px.__class__", "px.real", "open('x')", "[px]", "px[0]", "lambda: 1",
        "px if px else py", "px; py", "(px := 1)", "px and py", "0 < px < 1", "f'{px}'", "eval('1')", "*px", "px @",
        "sum(px)", "px % 2", "px << 1", "px in px", "not px", "sqrt(px, out=px)", "{px}", "await px", "",
    ],
)  # fmt: skip
def test_nothing_else_of_python_is_a_formula(formula):
    with pytest.raises(ValueError, match=r"formula|called|brackets|low < x"):
        formulas.names_in(formula)


def test_what_cannot_be_evaluated_is_said():
    with pytest.raises(ValueError, match="cannot be evaluated"):
        formulas.evaluate("a + b", {"a": np.array([1.0]), "b": np.array(["x"])})
    with pytest.raises(ValueError, match="of no column"):
        formulas.evaluate("1 + 1", {})


# files ----------------------------------------------------------------------------------------------------------------


def test_csv_with_comments_units_blanks_and_a_byte_order_mark(tmp_path):
    text = '\ufeff# made by hand\n# of events\n"mass [TeV]",pt1 ,Run\n3.5,1,7\n2.5,2,8\n'
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    table = TableColumns(tmp_path / "table.csv", Table(file="table.csv", mass="mass", columns={"twice": "2 * pt1"}))
    assert table.mass.tolist() == [3.5, 2.5]
    assert table.number("twice").tolist() == [2.0, 4.0]
    assert table.file.units == {"mass": "TeV"}
    assert [*table.others()] == ["twice", "mass", "pt1", "Run"]


def test_csv_with_semicolons_and_decimal_commas(tmp_path):
    table = columns("m;x\n9,5;1\n10,25;2\n", tmp_path, ".csv", mass="m", decimal=",")
    assert table.mass.tolist() == [9.5, 10.25]


@pytest.mark.parametrize(
    ("text", "settings", "reason"),
    [
        ("m,x\n1,2\n3\n", {}, "line 3 has 1 values where 2 are due"),
        ("# c\nm,x\n1,2\n3,4,5\n", {}, "line 4 has 3 values where 2 are due"),
        ("m;x\n9,5;1\n", {}, r"m is text, '9,5' in row 0; .*decimal commas\? set input.table.decimal"),
        ("m,x\nheavy,1\n", {}, "m is text, 'heavy' in row 0; numbers are needed"),
        ("", {}, "no header line"),
        ("m,m\n1,2\n", {}, "two columns are called 'm'"),
        ("m x\n1 2\n", {}, "set input.table.delimiter"),
        ("q,x\n1,2\n", {}, "column m is missing; found q, x"),
    ],
)
def test_a_csv_that_is_none_is_refused_in_one_line(tmp_path, text, settings, reason):
    with pytest.raises(UserError, match=reason) as refusal:
        _ = columns(text, tmp_path, ".csv", mass="m", **settings).mass
    assert "\n" not in str(refusal.value)
    assert "table.csv" in str(refusal.value)


@pytest.mark.parametrize(
    "kind",
    [pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.uint16(), pa.int64(), pa.decimal128(10, 2), pa.bool_(),
     pa.dictionary(pa.int32(), pa.float64())],
)  # fmt: skip
def test_every_kind_of_number_is_read(tmp_path, kind):
    if pa.types.is_decimal(kind):
        array = pa.array([decimal.Decimal("1.00"), decimal.Decimal("0.00")], kind)
    elif pa.types.is_dictionary(kind):
        array = pa.array([1.0, 0.0]).dictionary_encode()
    elif pa.types.is_float16(kind):
        array = pa.array(np.array([1.0, 0.0], dtype=np.float16))
    else:
        array = pa.array([1, 0]).cast(kind)
    table = columns(pa.table({"m": pa.array([9.0, 10.0]), "x": array}), tmp_path, mass="m")
    assert table.number("x").tolist() == [1.0, 0.0]


def test_nullable_columns_and_large_strings(tmp_path):
    frame = pd.DataFrame({"m": pd.array([9.0, 10.0], "Float64"), "n": pd.array([1, 2], "Int32")})
    whole = pa.Table.from_pandas(frame).append_column("kind", pa.array(["T", "G"], pa.large_string()))
    table = columns(whole, tmp_path, mass="m")
    assert (table.mass.tolist(), table.number("n").tolist()) == ([9.0, 10.0], [1.0, 2.0])
    assert table.number("kind").tolist() == [1.0, 0.0]  # in alphabetical order
    with_gap = columns(frame.assign(n=pd.array([1, None], "Int32")), tmp_path, mass="m").number("n")
    np.testing.assert_array_equal(with_gap, [1.0, np.nan])  # refused where the event counts
    with pytest.raises(UserError, match=r"x holds list<.*>, where one number for each event is needed"):
        columns(pa.table({"m": [9.0], "x": [[1.0, 2.0]]}), tmp_path, mass="m").number("x")
    texts = pa.table({"m": np.arange(30.0), "x": [f"event {i}" for i in range(30)]})
    with pytest.raises(UserError, match="x is text, 'event 0' in row 0"):
        columns(texts, tmp_path, mass="m").number("x")


def test_a_root_tree_says_the_same_as_the_csv(tmp_path):
    frame = dijets(200)
    frame.to_csv(tmp_path / "t.csv", index=False)
    with uproot.recreate(tmp_path / "t.root") as file:
        file["tree"] = {name: frame[name].to_numpy() for name in frame}
        file["jagged"] = {"x": np.arange(3.0)}
    from_csv = TableColumns(tmp_path / "t.csv", Table(file="t.csv", mass="mjj"))
    from_root = TableColumns(tmp_path / "t.root", Table(file="t.root", tree="tree", mass="mjj"))
    for name in ("mjj", "tau21", "ntrk"):
        np.testing.assert_allclose(from_csv.number(name), from_root.number(name), rtol=1e-15)
    with pytest.raises(UserError, match="not exactly one tree in it; set input.table.tree, found tree, jagged"):
        TableColumns(tmp_path / "t.root", Table(file="t.root", mass="mjj"))


@pytest.mark.parametrize(
    ("name", "content"), [("t.csv", b"\x00\xff\xfe"), ("t.root", b"root?"), ("t.parquet", b"PAR1")]
)
def test_damaged_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="not a readable"):
        TableColumns(tmp_path / name, Table(file=name, mass="m"))
    with pytest.raises(UserError, match=r"a table is a .csv, .txt, .parquet or .root file"):
        TableColumns(tmp_path / "t.xlsx", Table(file="t.xlsx", mass="m"))


def test_two_muons_in_either_form_give_the_same_dimuon(tmp_path):
    """Independent of the library that adds them: the mass of two four-vectors written out."""
    rng = np.random.default_rng(1)
    pt, eta, phi = rng.exponential(8, (2, 500)) + 3, rng.normal(0, 1, (2, 500)), rng.uniform(-np.pi, np.pi, (2, 500))
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt(px**2 + py**2 + pz**2 + 0.1056583755**2)
    frame = {f"{name}{i + 1}": values[i] for i in (0, 1) for name, values in
             (("pt", pt), ("eta", eta), ("phi", phi), ("px", px), ("py", py), ("pz", pz), ("E", energy))}  # fmt: skip
    pd.DataFrame(frame).to_parquet(tmp_path / "t.parquet")
    expected = np.sqrt(sum(energy) ** 2 - sum(px) ** 2 - sum(py) ** 2 - sum(pz) ** 2)
    for momenta in (("E", "px", "py", "pz"), ("pt", "eta", "phi")):
        muons = [{name: f"{name}{i}" for name in momenta} for i in (1, 2)]
        table = TableColumns(tmp_path / "t.parquet", Table(file="t.parquet", muons=muons))
        np.testing.assert_allclose(table.mass, expected, rtol=1e-10)
        np.testing.assert_allclose(table.number("mu0_pt"), pt.max(axis=0), rtol=1e-10)
        np.testing.assert_allclose(table.number("mumu_deltapT"), np.abs(pt[0] - pt[1]), atol=1e-9)


# what is analysed -----------------------------------------------------------------------------------------------------


def test_the_events_of_a_sample_inside_the_window_that_pass_the_cuts(folder):
    frame = dijets(3000)
    frame.to_parquet("dijets.parquet")
    extra = "mass: mjj, split: {few: ntrk < 10, many: ntrk >= 10}, cuts: {tau21: {max: 0.8}}"
    run = run_of(DIJETS.replace("mass: mjj", extra, 1))
    table = Dimuons(run)
    assert table.charges == ["few", "many"]
    for sample, of_sample in (("few", frame["ntrk"] < 10), ("many", frame["ntrk"] >= 10)):
        expected = frame[of_sample & (frame["tau21"] < 0.8)]
        events = table.events(sample)
        np.testing.assert_array_equal(events.row, expected.index)
        np.testing.assert_array_equal(events.mass, expected["mjj"])
        np.testing.assert_array_equal(events.features, expected[["mj1", "tau21", "ntrk"]])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda frame: frame.drop(columns="mjj"), "dijets.parquet: column mjj is missing; found mj1, tau21, ntrk, row"),
        (lambda frame: frame.assign(mjj="heavy"), "dijets.parquet: mjj is text, 'heavy' in row 0"),
        (lambda frame: frame.drop(columns="tau21"), "dijets.parquet: column tau21 is missing"),
        (lambda frame: frame.assign(mjj=100.0), "dijets.parquet: no event in SBL"),
        (lambda frame: frame.assign(tau21=np.nan), "tau21 is not finite in row 0"),
        (
            lambda frame: frame.assign(tau21=np.where(frame.index == 7, np.inf, 1)),
            "tau21 is not finite in row 7 .inf; 1 such",
        ),
        (lambda frame: frame.assign(mj1=frame["mjj"]), "the feature mj1 is the mass itself"),
    ],
)
def test_a_table_that_cannot_be_analysed_is_refused(folder, change, reason):
    change(dijets(500)).to_parquet("dijets.parquet")
    with pytest.raises(UserError, match=reason):
        Dimuons(run_of(DIJETS)).events("all")


KINDS = {  # the forms in which users keep charge and isolation
    "texts": (["OS", "SS"], [True, False]),
    "blanks": (["os ", " SS"], ["True", "False"]),
    "products": ([-1, 1], [1, 0]),
    "sums": ([0.0, -2.0], [1.0, 0.0]),
    "dictionary": (pd.Categorical(["OS", "SS"]), pd.array([True, False], "boolean")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_obvious_forms_of_charge_and_isolation_are_understood(folder, kind):
    charge, isolated = KINDS[kind]
    mass = np.linspace(5, 16, 400)
    rows = np.arange(400) % 2
    frame = pd.DataFrame({"dimu_mass": mass, "dimu_pt": mass, "row": mass})
    frame["charge"] = pd.Series(charge).take(rows).reset_index(drop=True)
    frame["anti_isolated"] = pd.Series(isolated).take(np.arange(400) % 4 // 2).reset_index(drop=True)
    frame.to_parquet("mine.parquet")
    table = Dimuons(run_of("name: a\nseed: 1\ninput: {dimuons: mine.parquet}\nfeatures: {set: [dimu_pt]}\n"))
    for number, name in enumerate(("os", "ss")):
        expected = np.flatnonzero((rows == number) & (np.arange(400) % 4 // 2 == 0))
        np.testing.assert_array_equal(table.events(name).row, expected)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"charge": "plus"}, r"mine.parquet: charge is 'plus' in row 0; known are \"OS\" and \"SS\""),
        ({"charge": None}, "mine.parquet: charge is missing in row 0"),
        ({"anti_isolated": "perhaps"}, "anti_isolated is 'perhaps' in row 0; known are true and false"),
        ({"anti_isolated": [None, *[True] * 399]}, "anti_isolated is missing in row 0"),
        ({"dimu_mass": "9,46"}, "dimu_mass is text, '9,46' in row 0"),
        ({"dimu_pt": [[1.0, 2.0]] * 400}, r"dimu_pt holds list<.*>, where one number for each event is needed"),
    ],
)
def test_other_forms_are_refused_with_what_was_found(folder, change, reason):
    mass = np.linspace(5, 16, 400)
    frame = pd.DataFrame({"dimu_mass": mass, "dimu_pt": mass, "charge": "OS", "anti_isolated": True})
    frame.assign(**change).to_parquet("mine.parquet")
    with pytest.raises(UserError, match=reason):
        Dimuons(run_of(OS_ALONE)).events("os")


def test_the_mass_may_be_the_index_of_the_frame(folder):
    mass = np.linspace(5, 16, 400)
    pd.DataFrame({"dimu_pt": mass}, index=pd.Index(mass, name="dimu_mass")).to_parquet("mine.parquet")
    np.testing.assert_array_equal(Dimuons(run_of(OS_ALONE)).events("os").mass, mass)


def test_a_constant_feature_is_refused_before_anything_is_trained(folder):
    dijets(2000).assign(tau21=0.5).to_parquet("dijets.parquet")
    done = script(folder, "03_train_flows.py", DIJETS + SMALL)
    assert done.returncode == 2
    assert "feature tau21 is constant in the sidebands (0.5 in every event); leave it out" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("unit: TeV", "unit: parsec", "a.yaml:5: mass.unit = 'parsec'"),
        ("unit: GeV", "unit: stone", "features.define.mj1.unit = 'stone': unknown unit 'stone'; known: eV"),
        ("mass: mjj}", "mass: mjj, mas: 1}", "unknown key input.table.mas; did you mean 'mass'?"),
        (
            "mass: mjj}",
            "mass: mjj, muons: [{pt: a, eta: b, phi: c}, {pt: d, eta: e, phi: f}]}",
            "either mass, .* or the two",
        ),
        ("mass: mjj}", "muons: [{pt: a}, {pt: b}]}", "a muon needs E, px, py, pz, or pt, eta, phi; found pt"),
        ("{file: dijets.parquet, mass: mjj}", "{mass: mjj}", "name the file"),
        ("range: [0, 1]", "range: [1, 0]", "the range must rise"),
        ("range: [0, 1]", "bounds: [1, 0]", "the bounds must rise"),
        ("label: Tracks", "label: $n_{t$", "a brace is not closed"),
        ("mass: mjj}", "mass: mjj, split: {background: x}}", "a sample cannot be called background"),
        ("name: dijets", "name: _fetched", "name = '_fetched'"),
    ],
)
def test_declarations_are_checked(folder, old, new, reason):
    assert old in DIJETS
    with pytest.raises(UserError, match=reason):
        run_of(DIJETS.replace(old, new, 1))


def test_declared_bounds_reach_the_preparation(folder):
    table = dijets(2000)
    table.to_parquet("dijets.parquet")
    events = {"all": Dimuons(run := run_of(DIJETS.replace("range: [0, 1]", "bounds: [0, null]", 1))).events("all")}
    scaler = steps.scaler_of(run.config, events)
    assert scaler.bounds == {run.config.features.names.index("tau21"): (0, None)}
    run = run_of(DIJETS.replace("range: [0, 1]", "bounds: [0.5, 1]", 1))
    with pytest.raises(AnalysisError, match=r"feature tau21: \d+ values lie beyond its bounds, first 0\.[0-4]"):
        steps.scaler_of(run.config, events)


@pytest.mark.parametrize(
    ("formula", "reason"),
    [("mjj +", "is no formula"), ("exit()", "may not be called"), ("nope * 2", "column nope is missing"),
     ("mjj + 'a'", "cannot be evaluated")],
)  # fmt: skip
def test_a_formula_that_fails_is_refused(folder, formula, reason):
    dijets(100).to_parquet("dijets.parquet")
    text = DIJETS.replace("mass: mjj}", f'mass: mjj, columns: {{tau21: "{formula}"}}}}')
    with pytest.raises(UserError, match=reason):
        Dimuons(run_of(text)).events("all")


def test_what_is_not_declared_is_chosen_from_the_data():
    rng = np.random.default_rng(1)
    wide = Feature("x").completed(np.exp(rng.normal(0, 3, 5000)))
    assert wide.log
    assert not wide.discrete
    assert np.allclose(np.diff(np.log(wide.edges)), np.diff(np.log(wide.edges))[0])
    flat = Feature("x").completed(rng.uniform(-1, 1, 5000))
    assert (flat.log, flat.discrete) == (False, False)
    assert -1 <= flat.low < -0.98
    counts = Feature("n").completed(rng.poisson(3, 5000).astype(float))
    assert counts.discrete
    assert np.all(np.diff(counts.edges) == 1)
    assert np.all(counts.edges % 1 == 0.5)
    assert Feature("x", low=0, high=1).completed(rng.uniform(0, 5, 100)).edges[[0, -1]].tolist() == [0, 1]
    spike = Feature("x").completed(np.array([2.5] * 100))
    assert spike.low < 2.5 < spike.high


# a file of a portal record --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def portal_of(folder, number, **changes):
    """A stand-in for the portal: its answer for a record with all files of a folder, and the files themselves."""
    listed = [
        {
            "key": path.name,
            "uri": f"root://eospublic.cern.ch//eos/opendata/cms/{path.name}",
            "size": path.stat().st_size,
            "checksum": portal.adler32(path),
        }
        | changes
        for path in sorted(folder.iterdir())
    ]
    served = {f"/eos/opendata/cms/{path.name}": path.read_bytes() for path in folder.iterdir()}
    record = {"metadata": {"recid": str(number), "files": listed}}
    with servers.http(folder, answers={f"/api/records/{number}": json.dumps(record).encode(), **served}) as server:
        yield server


RECORD = """\
name: record
seed: 1
input:
  portal: {address}
  table:
    {{record: 545, file: t.csv, mass: mjj}}
{window}
features: {{set: [tau21]}}
execution: {{attempts: {attempts}, timeout: 5.0}}
"""


def record_run(address, attempts=1):
    return run_of(RECORD.format(address=address, window=WINDOW, attempts=attempts))


@pytest.fixture
def shelf(folder, monkeypatch):
    """A folder with the one file that the stand-in serves."""
    monkeypatch.setattr(sources, "has_xrootd", lambda: False)  # or it would ask the real storage first
    monkeypatch.setattr(sources.time, "sleep", lambda seconds: None)
    (folder / "shelf").mkdir()
    dijets(4000).to_csv(folder / "shelf" / "t.csv", index=False)
    return folder / "shelf"


def test_a_file_of_a_record_is_fetched_once_and_verified(shelf):
    with portal_of(shelf, 545) as (address, _):
        run = record_run(address)
        Dimuons(run).events("all")
        place = handed_in.path(run)
        assert place.read_bytes() == (shelf / "t.csv").read_bytes()
    Dimuons(run).events("all")  # the portal is away
    assert run.require(place) == place


def test_a_fetched_file_that_was_changed_is_fetched_again(shelf):
    with portal_of(shelf, 545) as (address, _):
        run = record_run(address)
        Dimuons(run).events("all")
        place = handed_in.path(run)
        place.write_bytes(place.read_bytes()[:-100])
        Dimuons(record_run(address)).events("all")  # of another step: each opens it once
    assert place.read_bytes() == (shelf / "t.csv").read_bytes()


def test_an_interrupted_fetch_is_resumed(shelf):
    content = (shelf / "t.csv").read_bytes()
    with portal_of(shelf, 545) as (address, faults):
        run = record_run(address)
        faults.kind, faults.times, faults.after = "cut", 1, 1  # the record's answer comes through
        with pytest.raises(UserError, match=r"input.table.file: .*t.csv"):
            Dimuons(run).events("all")
        partial = handed_in.path(run).with_name(".t.csv.partial")
        reached = partial.stat().st_size
        assert 0 < reached < len(content)
        Dimuons(run).events("all")
    assert handed_in.path(run).read_bytes() == content
    assert not partial.exists()


def test_a_wrong_checksum_and_a_file_that_is_not_there_are_refused(shelf):
    with portal_of(shelf, 545, checksum="adler32:00000001") as (address, _):
        with pytest.raises(UserError, match=r"checksum adler32:\w+ where adler32:00000001 is due"):
            Dimuons(record_run(address)).events("all")
    shutil.rmtree("data")
    with portal_of(shelf, 545) as (address, _):
        text = RECORD.format(address=address, window=WINDOW, attempts=1).replace("t.csv", "u.csv")
        with pytest.raises(UserError, match="record 545 has no file u.csv; its files are t.csv"):
            Dimuons(run_of(text)).events("all")


def test_weighted_rows_are_drawn(folder):
    """As many as the weights add up to, with the density that they give; the same whatever is asked for."""
    frame = dijets(20_000)
    frame.assign(w=frame["tau21"]).to_parquet("dijets.parquet")  # means of the beta distributions (4, 3) and (5, 3)
    text = DIJETS.replace("mass: mjj}", "mass: mjj, weight: 0.8 * w}", 1)
    events, all_of_them = Dimuons(run_of(text)).events("all"), Dimuons(run_of(DIJETS)).events("all")
    weight = 0.8 * all_of_them.columns["tau21"]
    assert abs(len(events) - weight.sum()) < 4 * np.sqrt(np.sum(weight * (1 - weight)))
    drawn = events.columns["tau21"]
    assert abs(drawn.mean() - 5 / 8) < 4 * drawn.std() / np.sqrt(len(drawn))
    assert abs(all_of_them.columns["tau21"].mean() - 4 / 7) < 0.01
    assert set(events.weight) == {1.0}
    np.testing.assert_array_equal(Dimuons(run_of(text)).events("all", ["mj1"]).row, events.row)
    cut = text.replace("weight: 0.8 * w}", "weight: 0.8 * w, cuts: {ntrk: {max: 12}}}")
    np.testing.assert_array_equal(Dimuons(run_of(cut)).events("all").row, events.row[events.columns["ntrk"] < 12])
    other = Dimuons(run_of(text.replace("seed: 1", "seed: 2"))).events("all")
    assert not np.array_equal(other.row, events.row)


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("ntrk - 30", r"is -\d+ in row \d+ .*leave such events out"),
        ("ntrk / 2", r"is [\d.]+ in row \d+ .*divide by the largest weight in its formula"),
        ("log(ntrk - 12)", r"is (nan|-inf) in row \d+"),
        ("wt", "column wt is missing; found mjj"),
    ],
)
def test_weights_that_are_no_probability_are_refused(folder, formula, said):
    dijets(1000).to_parquet("dijets.parquet")
    with pytest.raises(UserError, match=said):
        Dimuons(run_of(DIJETS.replace("mass: mjj}", f"mass: mjj, weight: {formula}}}", 1))).events("all")


# whole analyses -------------------------------------------------------------------------------------------------------


def script(folder, name, text):
    (folder / "a.yaml").write_text(text)
    return here(folder, name, "a.yaml")


@pytest.mark.slow
def test_a_search_in_dijets_runs_from_a_table_to_the_page(folder):
    """Without another word about charges, triggers or muons, and without a wrong one about the events."""
    dijets().to_parquet("dijets.parquet")
    for name in ("03_train_flows", "04_sample_background", "05_train_bdts", "06_significance", "07_plots"):
        done = script(folder, f"{name}.py", DIJETS + SMALL)
        assert done.returncode == 0, done.stderr
        if name.startswith("03"):
            assert "mj1: drawn from" in done.stdout
            assert "tau21: drawn" not in done.stdout or "0 to 1" in done.stdout
    sampled = pd.read_parquet("data/dijets/background_all.parquet")
    assert set(sampled["ntrk"]) <= set(dijets()["ntrk"])  # discrete as the data are
    assert sampled["tau21"].nunique() > 1000
    spread = sampled[sampled["use"] == "closure"]["ntrk"]
    assert abs(spread.mean() - 12) < 0.5
    units = json.loads(open("data/dijets/background_all.parquet.meta.json").read())["units"]
    assert (units["mjj"], units["mj1"], units["tau21"]) == ("TeV", "GeV", "")
    page = open("results/dijets/report.html").read()
    words = page.partition("<main>")[2].partition('<section id="provenance">')[0]
    text = "".join(part.partition(">")[2] for part in words.replace('src="data:', "<").split("<"))
    text = text.replace("python -m dimuon", "")  # the command
    for wrong in ("muon", "2016", "13 TeV", "8.7", "Upsilon", "isolat", "trigger", "OS ", "same-sign", "CMS"):
        assert wrong not in text, (wrong, text[max(0, text.find(wrong) - 80) : text.find(wrong) + 80])
    assert "origin not stated" in text
    assert "3.2-3.8 TeV" in text
