"""What is said of an excess: its events, its columns, its peaks; and that nothing is said where there is none."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dimuon.bumphunt import excess
from dimuon.bumphunt.excess import NO_EXCESS, Found, Scored
from dimuon.bumphunt.result import Statistic
from dimuon.events import Events
from dimuon.regions import MassWindow
from dimuon.statistics import model_choice
from dimuon.statistics.poisson_fits import FitError
from dimuon.statistics.settings import Peaks, Significance, Toys
from dimuon.statistics.working_points import CutVariable
from dimuon.workflow.config import Config

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
NO_TOYS = Toys(local=0, scan=0, weights=0)


def scored(n_peak=300, n=6000, seed=1):
    """Events with a score that tells signal, a column that the signal knows, and one that it does not."""
    rng = np.random.default_rng(seed)
    mass = np.concatenate([5 + 11 * rng.beta(1.0, 1.6, n), rng.normal(9.6, 0.1, n_peak)])
    is_signal = np.arange(n + n_peak) >= n
    score = np.clip(rng.normal(np.where(is_signal, 0.6, 0.4), 0.1), 0.01, 0.99)
    table = pd.DataFrame(
        {
            "row": np.arange(len(mass)) + 7,
            "dimu_mass": mass,
            "other": rng.normal(size=len(mass)),
            "telling": rng.normal(2.0 * is_signal, 1.0),
            "kind": np.where(rng.uniform(size=len(mass)) < 0.5, "a", "b"),
            "name": [f"event {i}" for i in range(len(mass))],
            "event": np.arange(len(mass)),
            "run": 1,
        }
    )
    return Scored(mass, score, rng.uniform(size=len(mass)), table)


def described(of, **settings):
    """`excess.describe` and the test that it rests on."""
    from dimuon.bumphunt import steps
    from dimuon.data.samples import Sample

    config = Config(name="toy", seed=1, input={"scores": "none"}, significance=Significance(toys=NO_TOYS))
    sample = Sample("os", "os", Events.of(of.mass, np.zeros((len(of.mass), 0)), []), of.score)
    test = steps.measure(config, sample, steps.Stream(1)).found
    model = model_choice.model_of(config.significance, WINDOW)
    return excess.describe(of, test, model, Peaks(**settings), ["telling"], "dimu_mass"), test


@pytest.fixture(scope="module")
def toy():
    of = scored()
    return of, *described(of, known={"state": 9.6, "elsewhere": 12.0})


def test_the_events_are_those_of_the_sr_that_pass_the_best_cut(toy):
    of, what, test = toy
    kept = CutVariable("cathode", of.score).scan(WINDOW.in_sidebands(of.mass), [test.cathode_max.fpr]).kept[0]
    rows = set(of.table["row"][kept & WINDOW.in_sr(of.mass)])
    assert set(what.events["row"]) == rows
    assert len(what.events) == test.cathode_max.n_obs == what.found.n_obs
    assert what.events["score"].is_monotonic_decreasing
    names = ["train", "test", "row", "score", "weight", "dimu_mass", "run", "event", "other", "telling", "kind", "name"]
    assert list(what.events) == names
    origin = of.table.set_index("row").loc[what.events["row"]]
    np.testing.assert_array_equal(what.events["telling"], origin["telling"])
    np.testing.assert_array_equal(what.events["weight"], of.weight[what.events["row"] - 7])


def test_the_telling_column_comes_first_and_names_are_not_compared(toy):
    _, what, _ = toy
    columns = what.columns.set_index("feature")
    assert set(columns.index) == {"run", "other", "telling", "kind"}
    assert what.columns["feature"].iloc[0] == "telling"
    assert list(what.columns["rank"]) == [1, 2, 3, 4]
    assert columns.loc["telling", "trained"]
    assert not columns.loc["other", "trained"]
    assert columns.loc["telling", "p_any"] < 1e-6
    assert columns.loc["other", "p_any"] > 0.01
    assert np.isnan(columns.loc["run", "z"])
    assert what.found.n_columns == 4
    spectra = what.spectra[what.spectra["feature"] == "telling"]
    assert spectra["n_obs"].sum() == len(what.events)
    np.testing.assert_allclose(spectra["n_excess"], spectra["n_obs"] - spectra["n_bkg"])
    assert set(what.spectra.loc[what.spectra["feature"] == "kind", "values"]) == {"a", "b"}


def test_a_cut_that_leaves_the_sidebands_empty_of_events_is_said(toy):
    """Then no column has bins; what is drawn finds a table of the same columns as elsewhere, without a row."""
    _, what, _ = toy
    nothing = replace(what, columns=what.columns.assign(p_any=np.nan), spectra=excess._spectra([]))
    assert "none of 4 columns can be compared: too few events" in excess.lines(nothing, "GeV")[-1]
    merged = nothing.spectra.merge(what.columns, on="feature")
    assert len(merged) == 0
    assert (nothing.spectra.dtypes == what.spectra[list(nothing.spectra)].dtypes).all()


def test_the_peak_is_named_and_gives_a_scale(toy):
    _, what, test = toy
    assert [result.variable for result in what.found.peaks] == [Statistic.NO_CUT, Statistic.BEST_CUT]
    for result in what.found.peaks:
        assert len(result.fit.peaks) == 1
        assert result.names == ("state",)
        assert result.scale.scale == pytest.approx(result.fit.peaks[0].mass / 9.6)
        assert result.scale.names == ("state",)
        assert result.scale.scale == pytest.approx(1, abs=4 * result.scale.scale_err)
        masses = what.masses[what.masses["variable"] == result.variable.value]
        assert masses["n_fit"].sum() == pytest.approx(masses["n_obs"].sum(), rel=0.01)
    assert what.found.peaks[1].z0 == test.cathode_max.z0
    said = excess.lines(what, "GeV")
    peak = what.found.peaks[0].fit.peaks[0]
    assert f"state {excess.with_error(peak.mass, peak.mass_err)} GeV" in said[0]
    assert "differs most in telling" in said[-1]
    assert Found.from_json(what.found.to_json()).to_json() == what.found.to_json()


def test_without_references_nothing_is_compared():
    what, _ = described(scored())
    assert [(result.names, result.scale) for result in what.found.peaks] == [((None,), None)] * 2


def test_sampled_background_passes_the_same_cut():
    of = scored()
    rng = np.random.default_rng(3)
    features = rng.normal(size=(2000, 1))
    sampled = Events.of(np.full(2000, 9.8), features, ["other"])
    with_sampled = Scored(of.mass, of.score, of.weight, of.table, sampled, rng.uniform(size=2000))
    kept = of.score > 0.5
    background = with_sampled.background(kept)
    np.testing.assert_array_equal(background.weight > 0, with_sampled.sampled_score >= of.score[kept].min())
    what, _ = described(with_sampled)
    spectra = what.spectra[what.spectra["feature"] == "other"]
    assert spectra["n_sampled"].sum() == pytest.approx(spectra["n_bkg"].sum())
    assert what.spectra.loc[what.spectra["feature"] == "telling", "n_sampled"].isna().all()


def test_where_there_is_no_excess_nothing_is_invented():
    of = scored(n_peak=0)
    hole = WINDOW.in_sr(of.mass) & (np.arange(len(of.mass)) % 3 == 0)
    of = Scored(of.mass[~hole], of.score[~hole], None, of.table[~hole].reset_index(drop=True))
    what, test = described(of)
    assert test.no_cut.z0 == 0
    assert what.found.peaks[0].fit is None
    assert what.found.peaks[0].reason == NO_EXCESS
    assert not (what.masses["variable"] == "no_cut").any()
    if test.cathode_max.z0 == 0:
        assert what.found.reason == NO_EXCESS
    flat = Scored(of.mass, of.score, None, of.table)
    best = type(test.cathode_max)(**vars(test.cathode_max) | {"z0": 0.0})
    none = excess.describe(
        flat,
        type(test)(**vars(test) | {"cathode_max": best}),
        model_choice.model_of(Significance(), WINDOW),
        Peaks(),
        [],
        "dimu_mass",
    )
    assert [len(table) for table in (none.events, none.columns, none.spectra, none.masses)] == [0, 0, 0, 0]
    assert none.found.reason == NO_EXCESS
    assert list(none.spectra) == list(described(scored())[0].spectra)
    assert "not fitted (no excess" in excess.lines(none, "GeV")[0]


def test_a_fit_that_fails_is_a_reason(monkeypatch):
    def fail(*_, **__):
        raise FitError("flat")

    monkeypatch.setattr(excess, "find_peaks", fail)
    what, _ = described(scored())
    assert [result.reason for result in what.found.peaks] == ["flat", "flat"]
    assert what.masses.empty
