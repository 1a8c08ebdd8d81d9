"""The dimuon tables: read once, the events of a charge, and what is wrong with a table that is handed in."""

import logging

import numpy as np
import pandas as pd
import pytest

from dimuon.data import dimuons
from dimuon.data import tables as checking
from dimuon.errors import UserError
from dimuon.workflow import config, provenance

TABLE = pd.DataFrame(
    {
        "charge": ["OS", "SS", "OS", "OS", "SS", "SS", "OS", "OS"],
        "anti_isolated": [True, True, True, True, True, True, False, True],
        "dimu_mass": [6.0, 6.1, 10.0, 12.0, 10.1, 12.1, 9.5, 20.0],
        "dimu_pt": np.array([30, 31, 32, 33, 34, 35, 36, 37], dtype="float32"),
        "region": "SBL",  # of another window
    }
)
FEATURES = "features: {set: [dimu_pt]}\n"


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A function that gives the `Dimuons` of an analysis that starts with a table."""
    monkeypatch.chdir(tmp_path)

    def make(table=TABLE, given="table.parquet"):
        table.to_parquet("table.parquet")
        (tmp_path / "test.yaml").write_text(f"name: test\nseed: 1\ninput: {{dimuons: {given}}}\n{FEATURES}")
        return dimuons.Dimuons(provenance.Run(config.load("test.yaml"), "03_train_flows.py", "test.yaml"))

    return make


def test_events_of_a_charge(tables):
    events = tables().events("os")
    assert events.mass.tolist() == [6.0, 10.0, 12.0]
    assert events.features.tolist() == [[30.0], [32.0], [33.0]]
    assert events.row.tolist() == [0, 2, 3]
    assert events.weight.tolist() == [1.0, 1.0, 1.0]
    assert events.names == ("dimu_pt",)


def test_events_before_the_anti_isolation(tables):
    assert tables().events("os", anti_isolated=False).row.tolist() == [0, 2, 3, 6]


def test_the_table_is_read_once(tables, monkeypatch):
    reads, read = [], checking.checked

    def spy(path, names):
        reads.append(tuple(names))
        return read(path, names)

    monkeypatch.setattr(checking, "checked", spy)
    table = tables()
    for charge in table.charges:
        table.events(charge)
        table.events(charge, anti_isolated=False)
        table.frame(charge, ["dimu_pt"])
    assert reads == [("dimu_mass", "dimu_pt", "charge", "anti_isolated")]


def test_region_of_a_table_handed_in_is_that_of_the_configuration(tables):
    assert tables().frame("ss", ["region"])["region"].tolist() == ["SBL", "SR", "SBH"]


def test_region_of_step_2_is_taken_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test.yaml").write_text(f"name: test\nseed: 1\ninput: {{files: [a.root]}}\n{FEATURES}")
    run = provenance.Run(config.load("test.yaml"), "02_select_dimuons.py", "test.yaml")
    run.write_table(run.data / "dimuons.parquet", TABLE)
    frame = dimuons.Dimuons(run).frame("ss", ["region", "dimu_pt"])
    assert list(frame.columns) == ["row", "dimu_mass", "region", "dimu_pt"]
    assert frame["region"].tolist() == ["SBL"] * 3


def test_dimuons_outside_the_window_are_counted(tables, caplog):
    with caplog.at_level(logging.INFO):
        tables().events("os")
    assert "table.parquet: 1 of 4 OS dimuons lie outside the mass window" in caplog.text


def test_one_table_a_charge(tables):
    table = tables(TABLE.drop(columns="charge"), "{os: table.parquet}")
    assert table.charges == ["os"]
    assert len(table.events("os")) == 6


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.drop(columns="dimu_mass"), "table.parquet: column dimu_mass is missing; found charge, anti_isolated"),
        (TABLE.drop(columns="dimu_pt"), "column dimu_pt is missing"),
        (TABLE.drop(columns="charge"), "column charge is missing; add it, or give input.dimuons.os and input.dimuons"),
        (
            TABLE.assign(dimu_pt=[1, 1, np.nan, 1, 1, 1, 1, np.nan]),
            r"dimu_pt is not finite in row 2 \(nan; 2 such values\)",
        ),
        (TABLE.assign(dimu_mass=np.inf), "dimu_mass is not finite in row 0"),
        (TABLE[TABLE["dimu_mass"] != 10.0], r"table.parquet: no OS dimuon in SR \(9 to 10.6\)"),
    ],
)
def test_unusable_tables(tables, table, message):
    with pytest.raises(UserError, match=message):
        tables(table).events("os")


def test_what_is_not_selected_may_be_anything(tables):
    """A value that is not finite matters where it is read: here in an isolated dimuon."""
    table = TABLE.assign(dimu_pt=TABLE["dimu_pt"].where(TABLE["anti_isolated"]))
    assert len(tables(table).events("os")) == 3
    with pytest.raises(UserError, match="row 6"):
        tables(table).events("os", anti_isolated=False)


def test_absent_table(tables):
    table = tables()
    (table.paths["os"]).unlink()
    with pytest.raises(UserError, match="table.parquet: not found"):
        table.events("os")


def test_damaged_table(tables, tmp_path):
    table = tables()
    (tmp_path / "table.parquet").write_bytes(b"no table")
    with pytest.raises(UserError, match="table.parquet: not a readable parquet file"):
        table.events("os")
