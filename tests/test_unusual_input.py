"""What cannot be analysed, or hardly, is said before work begins: too few bins or events, features of one place."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dimuon.bumphunt import steps
from dimuon.data import dimuons, tables
from dimuon.errors import AnalysisError, UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.workflow import cli, config, provenance

YAML = "name: a\nseed: 1\ninput: {dimuons: mine.parquet}\nfeatures: {set: [dimu_pt]}\n"
STREAM = Stream(1)


@pytest.fixture(autouse=True)
def quick_correlations(monkeypatch):
    monkeypatch.setattr(steps.sculpting, "distance_correlation", lambda *_: SimpleNamespace(value=0.0))


def loaded(folder, text=""):
    (folder / "a.yaml").write_text(YAML + text)
    return config.load(folder / "a.yaml")


def events(mass, feature=None):
    mass = np.asarray(mass, dtype=float)
    rng = np.random.default_rng(1)
    return Events.of(mass, (rng.exponential(30, len(mass)) if feature is None else feature)[:, None], ["dimu_pt"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("background: {n_bins_sr: 1}", "a.yaml:5: background.n_bins_sr = 1: 6 coefficients .degree 5. cannot be "
         "determined from 2 . 3 sideband bins, of 1 over the SR; widen the sidebands, take more bins "
         ".background.n_bins_sr., or lower background.degree"),
        ("significance: {n_bins_sr: 1}", "significance.n_bins_sr = 1: 6 coefficients"),
        ("significance: {n_bins_sr: 2, degree: 9, choice: f_test}", None),
        ("significance: {n_bins_sr: 1, choice: f_test}", "6 coefficients"),
        ("significance: {n_bins_sr: 1, choice: ladder}", None),
        ("significance: {n_bins_sr: 1, degree: 4}", None),
        ("significance: {binnings: [1]}", "significance.binnings = .1.: 8 coefficients .degree 7."),
        ("significance: {binnings: []}", None),
        ("window: {sb_low: 8.9, sr_low: 9.0, sr_high: 10.6, sb_high: 16}", "no whole bin fits in a sideband"),
        ("window: {sb_low: 8.0, sr_low: 9.0, sr_high: 10.6, sb_high: 11.3}", "7 over the SR; .* significance.degrees"),
        ("mass: {resolution: 1.6}", "1 over the SR"),
    ],
)  # fmt: skip
def test_bins_that_cannot_determine_a_fit_are_refused_when_the_file_is_read(tmp_path, text, message):
    if message is None:
        loaded(tmp_path, text)
    else:
        with pytest.raises(UserError, match=message):
            loaded(tmp_path, text)


@pytest.mark.parametrize(
    ("mass", "message"),
    [
        (np.r_[np.linspace(5, 8.9, 500), 10.0, np.linspace(10.7, 16, 500)], "1 events in the SR for 5 folds"),
        (np.r_[np.linspace(9, 16, 1000), 5.05], "no event in the 27 whole bins of the low sideband"),
        (np.linspace(5, 10.6, 1000), "no event in the 37 whole bins of the high sideband"),
        (np.linspace(5, 16, 200), None),
    ],
)
def test_too_few_events_are_refused_before_anything_is_trained(tmp_path, mass, message):
    """An event below the lowest whole bin holds no fit."""
    chosen = loaded(tmp_path)
    if message is None:
        steps.require_enough(chosen, events(mass))
    else:
        with pytest.raises(AnalysisError, match=message):
            steps.require_enough(chosen, events(mass))


def doubts(folder, values):
    rng = np.random.default_rng(2)
    chosen, own = loaded(folder), events(rng.uniform(5, 16, len(values)), values)
    scaler = steps.scaler_of(chosen, {"os": own})
    return [each for each in steps.feature_doubts(chosen, "os", own, scaler, STREAM) if "little can be learned" in each]


def spread(kind, n_events=500):
    """Values of a feature, by the kind of trouble."""
    rng = np.random.default_rng(3)
    gauss, one = rng.normal(0, 1, n_events), np.arange(n_events) == 7
    return {
        "a Gaussian": gauss,
        "exponential": rng.exponential(1, n_events),
        "over six decades": np.exp(rng.normal(0, 2.5, n_events)),
        "1e30, all of it": 1e30 * rng.exponential(1, n_events),
        "small, all of it": 1e-30 * rng.exponential(1, n_events),
        "a Gaussian, one far": np.where(one, 40.0, gauss),
        "a spike, one outlier": np.where(one, 1e3, 1e-3 * gauss),
        "one at 1e10": np.where(one, 1e10, gauss),
        "one at -1e30": np.where(one, -1e30, gauss),
        "all near 1e10": 1e10 + gauss,
        "many orders": np.exp(rng.normal(0, 7, n_events)),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["a Gaussian", "exponential", "over six decades", "1e30, all of it", "small, all of it", "a Gaussian, one far"],
)
def test_a_feature_whose_values_are_told_apart_is_not_doubted(tmp_path, kind):
    assert doubts(tmp_path, spread(kind)) == []


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("a spike, one outlier", "standard deviations of the transformed axis"),
        ("one at 1e10", "to 1e+10 span"),
        ("one at -1e30", "from -1e+30 to"),
        ("all near 1e10", "which the single precision of the classifiers hardly tells apart"),
        ("many orders", "standard deviations of the transformed axis"),
    ],
)
def test_a_feature_that_cannot_be_resolved_is_named_with_what_helps(tmp_path, kind, words):
    (doubt,) = doubts(tmp_path, spread(kind))
    assert doubt.startswith("WARNING: dimu_pt: ")
    assert words in doubt
    assert "cut far values away (selection.cuts), or leave it out" in doubt


@pytest.mark.parametrize("largest", [1e38, -1e200, 1.7e308])
def test_values_too_large_for_single_precision_are_refused(tmp_path, largest):
    with pytest.raises(AnalysisError, match=r"feature dimu_pt: values up to .* are too large for single precision"):
        doubts(tmp_path, np.where(np.arange(500) == 7, largest, spread("a Gaussian", 500)))


@pytest.mark.parametrize("place", ["sidecar", "file_hash", "table_columns", "checked"])
def test_a_table_deleted_while_it_is_read_is_one_line(tmp_path, monkeypatch, capsys, place):
    """At each place where step 3 comes back to it."""
    monkeypatch.chdir(tmp_path)
    mass = np.linspace(5, 16, 400)
    pd.DataFrame({"dimu_mass": mass, "dimu_pt": mass, "charge": ["OS", "SS"] * 200}).to_parquet("mine.parquet")
    run = provenance.Run(loaded(tmp_path), "03_train_flows.py", "a.yaml")
    home = {"sidecar": provenance, "file_hash": provenance, "table_columns": dimuons, "checked": tables}[place]
    read = getattr(home, place)

    def too_late(*arguments):
        Path("mine.parquet").unlink(missing_ok=True)
        return read(*arguments)

    monkeypatch.setattr(home, place, too_late)
    assert cli.guarded("03_train_flows.py", lambda: dimuons.Dimuons(run).events("os") and None) == 2
    said = capsys.readouterr().err
    assert said.startswith("03_train_flows.py: mine.parquet: not ")
    assert said.count("\n") == 1
