"""All columns of the events that were tested, from every kind of input."""

import logging

import numpy as np
import pandas as pd
import pytest

from dimuon.bumphunt import steps
from dimuon.data import whole_table
from dimuon.data.dimuons import Dimuons
from dimuon.data.samples import Sample
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.workflow import config
from dimuon.workflow.provenance import Run

TABLE = """\
name: mine
seed: 1
input:
  table: {file: jets.parquet, mass: mjj, columns: {run: Run, twice: 2 * tau}, cuts: {tau: {max: 0.9}}}
mass: {label: $m_{jj}$, unit: TeV}
window: {sb_low: 2.6, sr_low: 3.2, sr_high: 3.8, sb_high: 5.0}
features: {set: [tau]}
significance: {degree: 2, toys: {local: 0, scan: 0, weights: 0}, peaks: {known: {X: 3.5}}}
"""


def jets(n=3000, n_signal=200):
    rng = np.random.default_rng(1)
    mass = np.concatenate([rng.uniform(2.0, 5.5, n), rng.normal(3.5, 0.05, n_signal)])
    is_signal = np.arange(len(mass)) >= n
    return pd.DataFrame(
        {
            "mjj": mass,
            "tau": np.clip(rng.normal(0.6 - 0.3 * is_signal, 0.15), 0, 1),
            "Run": rng.integers(1, 4, len(mass)),
            "kind": np.where(is_signal, "b", "q"),
            "hole": [*mass[:n], None, *mass[n + 1 :]],
        }
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run on a table of jets, in its folder."""
    monkeypatch.chdir(tmp_path)
    jets().to_parquet("jets.parquet")
    (tmp_path / "mine.yaml").write_text(TABLE)
    return Run(config.load("mine.yaml"), "06_significance.py", "mine.yaml")


def sample_of(run, name):
    events = Dimuons(run).events(name)
    return Sample(name, name, events, 0.99 - 0.9 * events.columns["tau"])


def test_the_columns_of_a_table_that_was_handed_in(run, caplog):
    sample = sample_of(run, "all")
    with caplog.at_level(logging.INFO):
        table = whole_table.read(run, sample)
    origin = jets().iloc[sample.events.row].reset_index(drop=True)
    assert set(table) == {"row", "run", "twice", "mjj", "tau", "kind"}  # Run is run
    for name, expected in {"run": origin["Run"], "twice": 2 * origin["tau"], "kind": origin["kind"]}.items():
        np.testing.assert_array_equal(table[name], expected)
    np.testing.assert_array_equal(table["mjj"], sample.mass)
    assert "hole is missing in row 3000 (1 such values)" in caplog.text  # said, not compared
    assert whole_table.with_background(run, sample).sampled is None
    assert whole_table.sources(run, sample) == []


def test_the_excess_in_it_is_described_under_its_own_names(run):
    sample = sample_of(run, "all")
    result = steps.measure(run.config, sample, Stream(1))
    what = steps.describe(run.config, sample, result, whole_table.read(run, sample))
    assert what.columns["feature"].iloc[0] == "kind"
    assert set(what.columns["feature"]) == {"run", "twice", "tau", "kind"}
    assert set(what.columns["feature"][what.columns["trained"]]) == {"tau"}
    assert {"mjj", "run", "kind"} <= set(what.events)
    assert (what.events["kind"] == "b").mean() > 0.5
    scale = what.found.peaks[1].scale
    assert scale.scale == pytest.approx(1, abs=4 * scale.scale_err)
    path = run.write_table("results/mine/events.parquet", what.events)
    assert list(pd.read_parquet(path)) == list(what.events)


def test_the_columns_of_a_table_of_scores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jets().drop(columns="hole").assign(score=0.5).to_parquet("jets.parquet")
    (tmp_path / "mine.yaml").write_text("name: mine\nseed: 1\ninput: {scores: jets.parquet}\n")
    run = Run(config.load("mine.yaml"), "06_significance.py", "mine.yaml")
    rows = np.array([5, 2, 9])
    events = Events.of(np.full(3, 9.5), np.zeros((3, 0)), [], row=rows)
    table = whole_table.read(run, Sample("os", "os", events, np.full(3, 0.5)))
    assert list(table["row"]) == [5, 2, 9]
    np.testing.assert_array_equal(table["tau"], jets()["tau"].iloc[rows])
