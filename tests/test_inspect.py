"""Looking into single files."""

import decimal
import json
import zipfile

import awkward as ak
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import uproot

from dimuon.__main__ import main
from dimuon.columns import COLUMNS, Column
from dimuon.commands import inspect
from dimuon.errors import UserError
from dimuon.workflow import config, pages, products
from dimuon.workflow.config import TOY
from dimuon.workflow.products import PRODUCTS
from dimuon.workflow.provenance import Run
from tests import small_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspect")
    small_results.write_studies(small_results.build(folder, charges=("os",)), folder, charges=("os",))
    return folder


def test_a_table_is_told_with_columns_units_and_origin(folder):
    text = inspect.describe(folder / "data/small/dimuons.parquet")
    assert "selected dimuons" in text
    assert "origin: SIMULATED" in text
    assert "made by 02_select_dimuons.py" in text
    row = next(line for line in text.splitlines() if line.startswith("dimu_mass") or " dimu_mass " in line)
    assert "GeV" in row
    assert "dimuon invariant mass" in row


def test_column_table_counts_missing_values_and_gives_the_range():
    frame = pd.DataFrame({"dimu_mass": [5.0, np.nan, 16.0], "charge": ["OS", "SS", "OS"], "mine": [1, 2, 3]})
    table = inspect.column_table(frame.assign(HLT_Mu8=[True, False, True])).set_index("column")
    assert list(table.loc["HLT_Mu8", ["unit", "values", "meaning"]]) == [
        "flag", "66.7 % true", "the event passed this trigger"
    ]  # fmt: skip
    assert table.loc["dimu_mass", "missing"] == 1
    assert table.loc["dimu_mass", "values"] == "5 ... 16"
    assert table.loc["charge", "values"] == "OS, SS"
    assert table.loc["mine", "meaning"] == "not a column of the seven steps"
    assert table.loc["dimu_mass", "unit"] == COLUMNS["dimu_mass"].unit


def test_a_changed_input_makes_the_file_stale(tmp_path):
    small_results.build(tmp_path, charges=("os",))
    scores = tmp_path / "data/small/scores_os_on_os.parquet"
    assert "as written" in inspect.describe(scores)
    (tmp_path / "data/small/dimuons.parquet").write_bytes(b"something else")
    assert "STALE: data/small/dimuons.parquet has changed" in inspect.describe(scores)
    scores.write_bytes(scores.read_bytes() + b" ")
    assert "STALE: its content is not what 05_train_bdts.py wrote" in "\n".join(inspect.origin_lines(scores))


def test_a_changed_setting_makes_the_file_stale(folder, monkeypatch):
    monkeypatch.chdir(folder)
    text = (folder / "small.yaml").read_text()
    (folder / "other.yaml").write_text(text.replace("members: 4", "members: 5"))
    losses = inspect.describe("data/small/flow_losses_os.parquet", config.load("other.yaml"))
    scores = inspect.describe("data/small/scores_os_on_os.parquet", config.load("other.yaml"))
    assert "as this configuration" in losses  # the flows do not depend on the classifier
    assert "made with bdt.members = 4, the configuration now says 5" in scores


def test_significance_is_told_as_headline_numbers(folder):
    path = folder / "results/small/significance.json"
    z0 = json.loads(path.read_text())["tests"]["os_on_os"]["no_cut"]["z0"]
    assert f"{z0:.2f}" in inspect.describe(path)


def test_other_kinds_of_file(tmp_path):
    torch.save({"flows": [{"weight": torch.zeros(3, 2)}], "seed": 7}, tmp_path / "flows_os.pt")
    assert "flows[0].weight: (3, 2) torch.float32" in inspect.describe(tmp_path / "flows_os.pt")
    with zipfile.ZipFile(tmp_path / "bdts_os.zip", "w") as archive:
        archive.writestr("manifest.json", '{"classifier": "xgboost"}')
        archive.writestr("fold_0/0.json", "{}")
    assert "classifier: xgboost" in inspect.describe(tmp_path / "bdts_os.zip")
    with uproot.recreate(tmp_path / "nano.root") as file:
        file.mktree("Events", {"run": "uint32"}).extend({"run": np.arange(4, dtype="uint32")})
    assert "tree Events: 4 entries" in inspect.describe(tmp_path / "nano.root")


def test_a_nanoaod_file_shows_the_branches_that_are_read_with_type_and_first_events(tmp_path):
    pt = ak.Array([[30.5, 9.0], [], [12.25], [4.0]])
    with uproot.recreate(tmp_path / "nano.root") as file:
        file.mktree("Events", {"run": "uint32", "Muon_pt": "var * float32", "Other_pt": "float32"}).extend(
            {"run": np.arange(4, dtype="uint32"), "Muon_pt": pt, "Other_pt": np.zeros(4, "float32")}
        )
    said = inspect.describe(tmp_path / "nano.root").splitlines()
    assert "  run: uint32_t, first [0, 1, 2]" in said
    assert "  Muon_pt: float[], first [[30.5, 9], [], [12.2]]" in said
    assert "  Muon_eta: missing" in said
    assert "  HLT_TrkMu15_DoubleTrkMu5NoFiltersNoVtx: missing" in said
    assert "  ... 2 more" in said  # Other_pt, and the counter of Muon_pt
    assert not any("Other_pt" in line for line in said)


def test_an_rntuple_is_shown_as_a_tree_is(tmp_path):
    arrays = {"run": np.arange(4, dtype=np.uint32), "Muon_pt": ak.Array([[30.5, 9.0], [], [12.25], [4.0]])}
    with uproot.recreate(tmp_path / "nano.root") as file:
        file.mkrntuple("Events", ak.Array(arrays))
        file["other"] = np.histogram([1.0, 2.0])
    said = inspect.describe(tmp_path / "nano.root")
    assert "tree Events: 4 entries, 2 branches" in said
    assert "first [[30.5, 9], [], [12.2]]" in said


ODD_COLUMNS = {  # kinds that users' tables have, beside numbers and texts
    "lists": (pa.array([[1.0], [2.0, 3.0]]), "[1.], [2. 3.]"),
    "structures": (pa.array([{"a": 1}, {"a": 2}]), "{'a': 1}, {'a': 2}"),
    "bytes": (pa.array([b"x", None]), "b'x'"),
    "decimals": (pa.array([decimal.Decimal("1.5"), decimal.Decimal("2.5")]), "1.5, 2.5"),
    "a dictionary": (pa.array(["a", "b"]).dictionary_encode(), "a, b"),
    "nothing": (pa.nulls(2), "none"),
    "infinity": (pa.array([np.inf, 1.0]), "1 ... inf"),
    "times": (pa.array([0, 10**9], pa.timestamp("ns")), "1970-01-01 00:00:00, 1970-01-01 00:00:01"),
}


@pytest.mark.parametrize("kind", ODD_COLUMNS)
def test_any_kind_of_column_is_told(tmp_path, kind):
    column, values = ODD_COLUMNS[kind]
    pq.write_table(pa.table([pa.array([1.0, 2.0]), column, column], ["m", "x", "x"]), tmp_path / "odd.parquet")
    told = inspect.describe(tmp_path / "odd.parquet")
    assert "2 rows, 3 columns" in told
    assert told.count(values) >= 2, told
    with pytest.raises(UserError, match="odd.parquet: two columns are called 'x'; rename one"):
        inspect.histogram_page(tmp_path / "odd.parquet")
    pq.write_table(pa.table([pa.array([1.0, 2.0]), column], ["m", "charge"]), tmp_path / "odd.parquet")
    plt.close(inspect.histogram_page(tmp_path / "odd.parquet"))


@pytest.mark.parametrize("name", ["table.parquet", "numbers.json", "flows_os.pt", "bdts_os.zip", "nano.root"])
def test_a_damaged_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"not what the name says")
    with pytest.raises(UserError, match=name):
        inspect.describe(tmp_path / name)


def test_files_of_unknown_kind_and_absent_files(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"'\.txt' are not known"):
        inspect.describe(tmp_path / "notes.txt")
    with pytest.raises(UserError, match="no such file"):
        inspect.describe(tmp_path / "absent.parquet")


def test_histograms_hold_every_value_per_region(folder):
    frame = pd.read_parquet(folder / "data/small/dimuons.parquet")
    figure = inspect.draw_columns(frame, ["dimu_mass", "mu0_ip3d"], TOY)
    mass, ip3d = figure.axes[:2]
    assert mass.get_xlabel() == "dimu_mass [GeV]"
    assert ip3d.get_xscale() == "log"
    drawn = sum(patch.get_data().values.sum() for patch in mass.patches)
    assert drawn == len(frame)


@pytest.mark.slow
def test_the_command(folder, capsys):
    path = folder / "data/small/scores_os_on_os.parquet"
    assert main(["inspect", str(path), "--plot"]) == 0
    assert (path.parent / "scores_os_on_os_columns.png").stat().st_size > 10_000
    assert main(["inspect", "absent"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dimuon inspect: absent: no such file")
    assert error.count("\n") == 1


def test_every_product_has_known_columns_and_a_command_that_makes_it():
    assert {maker.command for maker in products.STEPS} <= {product.maker.command for product in PRODUCTS.values()}
    for product in PRODUCTS.values():
        commands = (products.EXPORT, products.LIMITS_MAKER, products.SCAN_MAKER, products.BENCH_MAKER)
        of_command = product.maker in commands
        assert product.maker.is_step or product.maker.is_study or of_command, product.name
        assert set(product.column_names) <= set(COLUMNS), product.name
        assert product.path.startswith(("data/{name}/", "results/{name}/")), product.name


def test_a_path_is_the_product_that_names_it_most_exactly():
    for path, name in {
        "data/a/skim/spectrum.parquet": "spectrum",
        "/x/data/a/skim/part0_1a2b.parquet": "skim",
        "data/a/windows/9-10.6/flows_os.pt": "flows",
        "data/a/studies/flows_os_1a2b3c4d.pt": "kept_flows",
        "data/a/scores_os_on_background.parquet": "scores",
        "results/a/figures/index.json": "figure_index",
        "results/a/figures/fig3.png": "figures",
        "results/a/studies/controls.json": "controls_verdicts",
    }.items():
        assert PRODUCTS.find(path) is PRODUCTS[name], path
    assert PRODUCTS.find("data/a/notes.txt") is None


def test_a_column_of_two_tables_is_declared_once():
    other = products.Product("other", "results/{name}/other.parquet", products.STEP_6, "", own={"z0": Column("", "")})
    with pytest.raises(ValueError, match="other: column z0 is another table's, too"):
        PRODUCTS.declare(other)
    again = products.Product("scores", "data/{name}/again.parquet", products.STEP_5, "")
    with pytest.raises(ValueError, match="'scores' is registered twice"):
        PRODUCTS.declare(again)


@pytest.mark.parametrize("name", ["data", "results"])
def test_readmes_have_not_drifted_from_the_code(name, pytestconfig):
    written = (pytestconfig.rootpath / name / "README.md").read_text(encoding="utf-8")
    assert written == pages.page(name), "run `python -m dimuon.workflow.pages`"


def test_small_results_have_the_columns_that_are_declared(folder):
    """So that what is tested on them holds for real ones; the toy dimuons lack what no figure shows."""
    for path in folder.glob("*/small/**/*.parquet"):
        product, names = PRODUCTS.find(path), set(pd.read_parquet(path).columns)
        if product.further == "mass and features":
            names -= {"dimu_mass", "dimu_pt", "mu0_ip3d", "mu1_ip3d"}
        declared = set(product.column_names)
        if product.further == "table":
            assert names - declared == set(pd.read_parquet(folder / "data/small/dimuons.parquet")), path
            names &= declared
        assert names == declared or (product is products.DIMUONS and names < declared), path


def test_require_names_the_maker_of_every_product(folder, monkeypatch):
    monkeypatch.chdir(folder)
    run = Run(config.load("small.yaml"), "07_plots.py", "small.yaml")
    for product in PRODUCTS.values():
        absent = run.path(product, **dict.fromkeys(product.fields, "absent"))
        if not absent.exists():
            with pytest.raises(UserError, match=f"run `python {product.maker.command} small.yaml`"):
                run.require(absent)


def test_the_files_of_another_window_lie_in_folders_of_their_own(folder, monkeypatch):
    monkeypatch.chdir(folder)
    chosen = config.load("small.yaml")
    run = Run(chosen, "06_significance.py", "small.yaml", window=chosen.window.label)
    assert str(run.path(products.FLOWS, charge="os")) == "data/small/windows/9-10.6/flows_os.pt"
    assert str(run.path(products.CURVES)) == "results/small/windows/9-10.6/significance_curves.parquet"
    with pytest.raises(UserError, match=r"windows/9-10\.6/flows_os\.pt: not found; run `python 03_train_flows\.py"):
        run.require(run.path(products.FLOWS, charge="os"))
