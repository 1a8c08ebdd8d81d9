"""Studies: the chain in memory is the scripts', nothing is repeated or dropped, p-values are what they say."""

import contextlib
import json
import runpy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, norm

import dimuon
from dimuon.__main__ import main
from dimuon.background import saved
from dimuon.bumphunt import steps
from dimuon.bumphunt.result import TestResult
from dimuon.classifiers.kinds.dense import DenseSettings
from dimuon.data.samples import Sample
from dimuon.errors import AnalysisError, UserError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.regions import MassWindow
from dimuon.statistics import calibration, trials
from dimuon.statistics.working_points import rates
from dimuon.studies import (
    controls,
    cut_scan,
    injection,
    ledger,
    null_origins,
    nulls,
    pseudoexperiments,
    scenarios,
    splits,
    standing,
    study,
    trained,
    variations,
)
from dimuon.studies.registry import STUDIES
from dimuon.studies.scenarios import Scenario, vary
from dimuon.workflow import config, executor, products, provenance
from tests.conftest import ROOT

CONFIG = """\
name: tiny
seed: 5
input:
  dimuons: dimuons.parquet
flow: {{members: 3, blocks: 2, hidden: 8, epochs: 3}}
background: {{degree: 3}}
bdt: {{members: {members}, folds: 3, n_trees: 20}}
significance: {{degree: 3, degrees: [3], binnings: [7, 11], toys: {{local: 0, scan: 0, weights: 0}}}}
studies:
  members: 1
  pseudoexperiments: {experiments}
  held_out: 1
  seeds: 2
  variations: [{variations}]
  injected: [0, 150]
  repeats: 2
execution: {{workers: 1}}
"""


def write_config(folder, name="tiny.yaml", members=2, experiments=4, choices="fits, sr_edges"):
    """A small analysis; returns the configuration's path."""
    path = folder / name
    path.write_text(CONFIG.format(members=members, experiments=experiments, variations=choices))
    return path


def toy_dimuons(rng, n_peak=150):
    """OS and SS dimuons with a falling mass spectrum; the OS ones with a prompt, boosted peak at 9.5 GeV."""
    frames = []
    for charge, n, peak in (("OS", 3000, n_peak), ("SS", 2000, 0)):
        mass = np.concatenate([5 + 11 * rng.beta(1.0, 1.6, n), rng.normal(9.5, 0.1, peak)])
        displaced = np.concatenate([np.full(n, 0.02), np.full(peak, 0.003)])
        frames.append(pd.DataFrame({
            "dimu_mass": mass, "charge": charge,
            "dimu_pt": 20 + rng.exponential(np.where(displaced < 0.01, 40, 15)),
            "mu0_ip3d": displaced * rng.lognormal(0, 0.8, len(mass)),
            "mu1_ip3d": displaced * rng.lognormal(0, 0.8, len(mass)),
        }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the dimuons and what steps 3 to 6 made of them."""
    place = tmp_path_factory.mktemp("studies")
    toy_dimuons(np.random.default_rng(1)).to_parquet(place / "dimuons.parquet")
    path = write_config(place)
    with contextlib.chdir(place):
        chosen = config.load(path)
        for script in ("03_train_flows.py", "04_sample_background.py", "05_train_bdts.py", "06_significance.py"):
            runpy.run_path(str(ROOT / script))["main"](provenance.Run(chosen, script, path))
    return place


@pytest.fixture
def inside(folder, monkeypatch):
    """The folder, as the current one, without the studies' files of other tests."""
    monkeypatch.chdir(folder)
    for path in (folder / "results" / "tiny" / "studies").glob("*"):
        path.unlink()
    return folder


@pytest.fixture(autouse=True)
def tables_follow_the_schema(monkeypatch):
    """Whatever table a study writes has the columns that the pages name."""
    write = study.Study.write_table

    def checked(self, product, frame, origin=None, inputs=None):
        assert set(frame.columns) == set(product.column_names), product.name
        return write(self, product, frame, origin, inputs)

    monkeypatch.setattr(study.Study, "write_table", checked)


def make_study(name, path):
    """A `Study` that works in this process."""
    run = provenance.Run(config.load(path), f"-m dimuon study {name}", path)
    return study.Study(run, name, executor.AtOnce())


def the_null_model(study, charge="os"):
    """The `NullModel` of a study's data."""
    return nulls.NullModel.of(study.config, charge, study.events[charge], study.background(charge))


def a_null(config, model, number, seed=1):
    """The `Scenario` of one null dataset."""
    return Scenario(f"os/{number}", "os", config, Stream(seed), nulls.Null(model, number))


@pytest.mark.slow
def test_chain_is_the_scripts(inside):
    study = make_study("variations", inside / "tiny.yaml")
    for charge in ("os", "ss"):
        outcome = steps.search(
            study.config,
            charge,
            study.events[charge],
            study.background(charge),
            Stream(study.config.seed),
            executor.AtOnce(),
        )
        scores = pd.read_parquet(f"data/tiny/scores_{charge}_on_{charge}.parquet")
        np.testing.assert_array_equal(outcome.score, scores["score"])
        curves = pd.read_parquet("results/tiny/significance_curves.parquet")
        own = (curves["train"] == charge) & (curves["test"] == charge)
        own &= (curves["degree"] == 3) & (curves["n_bins_sr"] == 11)
        np.testing.assert_array_equal(outcome.curves["z0"], curves.loc[own, "z0"])
        headline = json.loads((inside / "results/tiny/significance.json").read_text())["tests"][f"{charge}_on_{charge}"]
        assert outcome.summary["cathode_max"]["z0"] == headline["cathode_max"]["z0"]
        if headline["likelihood"] is None:
            assert outcome.summary["likelihood"] is None
        else:
            assert outcome.summary["likelihood"]["z0"] == headline["likelihood"]["z0"]


@pytest.mark.slow
def test_flows_of_the_chain_are_those_of_step_3(inside):
    study = make_study("variations", inside / "tiny.yaml")
    scaler = steps.scaler_of(study.config, study.events)
    trained = steps.train_background(
        study.config, "ss", study.events["ss"], scaler, Stream(study.config.seed), executor.AtOnce()
    )
    assert saved.to_bytes(trained) == (inside / "data/tiny/flows_ss.pt").read_bytes()


@pytest.mark.slow
def test_vary_changes_nothing_else(inside):
    chosen = config.load(inside / "tiny.yaml")
    varied = scenarios.vary(chosen, {"seed": 9, "background.degree": 4})
    assert (varied.seed, varied.background.degree, chosen.background.degree) == (9, 4, 3)
    assert scenarios.vary(varied, {"seed": 5, "background.degree": 3}) == chosen


@pytest.mark.slow
def test_some_members_alone(inside):
    background = make_study("pseudoexperiments", inside / "tiny.yaml").background("os")
    rng = np.random.default_rng(0)
    features, mass = rng.normal(size=(20, 3)), rng.normal(size=20)
    every = background.ensemble.member_log_prob(features, mass)
    part = background.with_members([2, 0]).ensemble.member_log_prob(features, mass)
    np.testing.assert_allclose(part, every[[2, 0]], rtol=1e-6, atol=1e-6)
    assert np.abs(every[0] - every[2]).max() > 1e-3  # members differ, so a mix-up would show


@pytest.mark.slow
def test_null_datasets_follow_the_fit_and_are_searched_with_other_flows(inside):
    study = make_study("pseudoexperiments", inside / "tiny.yaml")
    model, window = the_null_model(study), study.config.window
    listed = [a_null(study.config, model, index, 100 + index) for index in range(30)]
    samples = [scenario.source.events(scenario) for scenario in listed]
    expected = model.fit.expected([window.sb_low, window.sb_high]).sum()
    counts = np.array([len(sample) for sample in samples])
    assert abs(counts.mean() - expected) < 5 * np.sqrt(expected / len(counts))
    assert 0.4 < counts.var(ddof=1) / expected < 2.5  # Poisson, not fixed
    edges = np.linspace(window.sb_low, window.sb_high, 401)
    cumulative = np.concatenate([[0], np.cumsum(model.fit.expected(edges))]) / expected
    masses = np.concatenate([sample.mass for sample in samples])
    assert kstest(masses, lambda mass: np.interp(mass, edges, cumulative)).pvalue > 1e-4
    in_sr = window.in_sr(masses).sum() / len(samples)
    data_in_sr = window.in_sr(study.events["os"].mass).sum()
    assert in_sr < data_in_sr - 80  # the peak of the data is not in the null
    for index in range(3):
        searched = listed[index].source.model(listed[index], samples[index]).ensemble
        truth = model.truth(index)
        assert searched.settings.members == 2
        features, mass = np.zeros((5, 3)), np.linspace(-1, 1, 5)
        every = study.background("os").ensemble.member_log_prob(features, mass)
        np.testing.assert_allclose(searched.member_log_prob(features, mass), np.delete(every, truth, axis=0), atol=1e-5)


@pytest.mark.slow
def test_flows_trained_on_the_null_itself(inside):
    study = make_study("pseudoexperiments", inside / "tiny.yaml")
    varied = scenarios.vary(study.config, {"studies.retrain_flows": True, "estimator.epochs": 1})
    scenario = a_null(varied, the_null_model(study), 0)
    events = scenario.source.events(scenario)
    retrained = scenario.source.model(scenario, events)
    assert retrained.members == 3
    assert retrained.mass_mean == pytest.approx(events.mass[~varied.window.in_sr(events.mass)].mean())


@pytest.mark.slow
def test_injection_with_retrained_flows_is_another_study(inside):
    make_study("injection", inside / "tiny.yaml").ledger()
    other = write_config(inside, "retrain.yaml")
    other.write_text(other.read_text().replace("members: 1\n", "members: 1\n  retrain_flows: true\n"))
    with pytest.raises(UserError, match="begun with studies.retrain_flows = False"):
        make_study("injection", other).ledger()


@pytest.mark.slow
def test_one_flow_cannot_make_nulls(inside):
    study = make_study("pseudoexperiments", inside / "tiny.yaml")
    one = study.background("os").with_members([1])
    with pytest.raises(UserError, match="estimator.members = 1: null datasets take their features from one"):
        nulls.NullModel.of(study.config, "os", study.events["os"], one)


@pytest.mark.slow
def test_killed_study_repeats_nothing_and_ends_the_same(inside, monkeypatch):
    path = inside / "tiny.yaml"
    pseudoexperiments.run(make_study("pseudoexperiments", path))
    place = inside / "results/tiny/studies"
    table = (place / "pseudoexperiments.parquet").read_bytes()
    lines = (place / "pseudoexperiments.ledger.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 2 * (4 + 2)  # settings; two searches of the data and four nulls for each charge
    (place / "pseudoexperiments.ledger.jsonl").write_text("".join(lines[:6]) + lines[6][:40])
    (place / "pseudoexperiments.parquet").unlink()
    done, whole = [], steps.search
    monkeypatch.setattr(steps, "search", lambda *arguments: done.append(arguments[4].seed) or whole(*arguments))
    pseudoexperiments.run(make_study("pseudoexperiments", path))
    assert len(done) == 2 * (4 + 2) - 5
    assert (place / "pseudoexperiments.parquet").read_bytes() == table
    pseudoexperiments.run(make_study("pseudoexperiments", path))
    assert len(done) == 2 * (4 + 2) - 5
    # more of them: only the new ones are done
    more = write_config(inside, "more.yaml", experiments=5)
    pseudoexperiments.run(make_study("pseudoexperiments", more))
    assert len(done) == 2 * (4 + 2) - 5 + 2


@pytest.mark.slow
def test_interrupted_study_refuses_other_settings(inside):
    pseudoexperiments.run(make_study("pseudoexperiments", inside / "tiny.yaml"))
    other = write_config(inside, "other.yaml", members=3)
    with pytest.raises(UserError, match=r"pseudoexperiments.ledger.jsonl: begun with bdt.members = 2, which is now 3;"):
        pseudoexperiments.run(make_study("pseudoexperiments", other))


@pytest.mark.slow
def test_the_data_are_searched_like_the_nulls_too(inside):
    """Its own search is step 6's; the like-for-like one has as many classifiers and flows as a null's has."""
    study = make_study("pseudoexperiments", inside / "tiny.yaml")
    pseudoexperiments.run(study)
    place = inside / "results/tiny/studies"
    summary = json.loads((place / "pseudoexperiments.json").read_text())["os"]
    headline = json.loads((inside / "results/tiny/significance.json").read_text())["tests"]["os_on_os"]
    assert summary["members"] == {"analysis": 2, "like_nulls": 1}
    assert summary["data"]["analysis"]["cathode_max"]["asymptotic"] == headline["cathode_max"]["z0"]
    like = scenarios.vary(study.config, {"bdt.members": 1})
    others = study.background("os").with_members([1, 2])
    outcome = steps.search(like, "os", study.events["os"], others, Stream(like.seed), executor.AtOnce())
    assert summary["data"]["like_nulls"]["cathode_max"]["asymptotic"] == outcome.summary["cathode_max"]["z0"]
    assert set(summary["by_truth"]) == set(pseudoexperiments.STATISTICS)
    table = pd.read_parquet(place / "pseudoexperiments.parquet")
    last = table[(table["charge"] == "OS") & (table["variable"] == "no_cut")]
    assert summary["by_truth"]["no_cut"]["n"] == (last["member"] == last["member"].max()).sum() == 1


@pytest.mark.slow
def test_too_few_nulls_that_succeed(inside, monkeypatch):
    def search(chosen, charge, events, background, stream, pool):
        if stream.seed != 5:  # the data themselves succeed
            raise UserError("no excess, no deficit, no fit")
        return whole(chosen, charge, events, background, stream, pool)

    whole = steps.search
    monkeypatch.setattr(steps, "search", search)
    with pytest.raises(UserError, match="os: 0 of 4 pseudoexperiments succeeded .* the first with: UserError: no exc"):
        pseudoexperiments.run(make_study("pseudoexperiments", inside / "tiny.yaml"))


@pytest.mark.slow
def test_null_whose_training_diverges_is_counted(inside, monkeypatch):
    """A real training that fails: a network with an absurd learning rate."""
    study = make_study("pseudoexperiments", inside / "tiny.yaml")
    diverging = scenarios.vary(study.config, {"bdt.classifier": DenseSettings(learning_rate=1e30, epochs=2)})
    book = ledger.Ledger(inside / "results/tiny/studies/one.ledger.jsonl", {})
    monkeypatch.setattr(study, "ledger", lambda leave_out: book)
    listed = pseudoexperiments.of_nulls(diverging, the_null_model(study), 1)
    [outcome] = scenarios.run(study, listed, scenarios.significances)
    assert outcome.failed.startswith("AnalysisError: dense network, seed ")
    assert "at learning rate 1e+30; lower it" in outcome.failed


@pytest.mark.slow
def test_failed_nulls_are_counted_and_count_against_the_claim(inside, monkeypatch):
    whole = steps.search

    def search(chosen, charge, events, background, stream, pool):
        if stream == Stream(5).child("pseudoexperiment", "os", 1).rooted():
            raise UserError("flow member 0: loss is nan")
        return whole(chosen, charge, events, background, stream, pool)

    monkeypatch.setattr(steps, "search", search)
    pseudoexperiments.run(make_study("pseudoexperiments", inside / "tiny.yaml"))
    place = inside / "results/tiny/studies"
    summary = json.loads((place / "pseudoexperiments.json").read_text())
    assert (summary["os"]["n"], summary["os"]["n_failed"], summary["ss"]["n_failed"]) == (4, 1, 0)
    assert "loss is nan" in summary["os"]["failures"][0]
    for found in summary["os"]["data"]["like_nulls"].values():
        assert found["global"]["n"] == 4
        assert found["global"]["n_above"] >= 1
    table = pd.read_parquet(place / "pseudoexperiments.parquet")
    assert set(table.loc[table["charge"] == "OS", "experiment"]) == {0, 2, 3}
    assert table["seed"].nunique() == 7


def test_origins_differ_by_what_their_errors_do_not_explain():
    rng = np.random.default_rng(2)
    shifts, error = np.array([0.0, 0.5, 1.0]), 0.1
    found = []
    for _ in range(400):
        means = shifts + rng.normal(0, error, 3)
        found.append(
            null_origins.difference([null_origins.OfOrigin(100, 0, mean, error, 1.0, ()) for mean in means]) ** 2
        )
    assert np.mean(found) == pytest.approx(shifts.var(ddof=1), rel=0.05)
    alike = [null_origins.OfOrigin(100, 0, mean, 0.2, 1.0, ()) for mean in (0.1, 0.0, -0.1)]
    assert null_origins.difference(alike) == 0.0


def z0_rows(split, at_fpr, no_cut=0.5):
    """Rows of one dataset searched with one split."""
    cuts = [{"split": split, "variable": "cathode", "fpr": fpr, "z0": z0} for fpr, z0 in at_fpr.items()]
    others = {"cathode_max": max(at_fpr.values()), "likelihood_pooled": None, "no_cut": no_cut}
    return [*cuts, *({"split": split, "variable": name, "fpr": 1.0, "z0": z0} for name, z0 in others.items())]


def split_outcome(number, n_injected, rows, failed=None):
    labels = {"charge": "OS", "experiment": number, "seed": number, "n_injected": n_injected}
    return scenarios.Outcome(Scenario(f"os/{n_injected}/{number}", "os", None, None, None, labels), rows, failed)


def test_splits_are_compared_at_equal_false_alarms():
    """Of a split that claims twice too much nothing more is found: the level rises with the nulls."""
    rng = np.random.default_rng(3)
    nulls, signal = np.abs(rng.normal(size=1000)), 2 + rng.normal(size=400)
    outcomes = []
    for n_injected, values in ((0, nulls), (50, signal)):
        for number, z0 in enumerate(values):
            factor = dict.fromkeys(splits.SPLITS, 1.0) | {"5 folds": 2.0}
            rows = [row for name in splits.SPLITS for row in z0_rows(name, {1.0: 0.1, 0.1: factor[name] * z0})]
            outcomes.append(split_outcome(number, n_injected, rows))
    outcomes.append(split_outcome(1000, 0, (), "AnalysisError: no fit"))
    median = [{"split": "5 folds, median", "variable": splits.IMPOSSIBLE, "reason": "empty"}]
    rest = [row for name in [*splits.SPLITS][:3] for row in z0_rows(name, {1.0: 0.1, 0.1: 0.2})]
    outcomes.append(split_outcome(1001, 0, [*rest, *median]))
    summary = splits.summarise("os", outcomes)
    one = {name: next(each for each in listed if each.fpr == 0.1) for name, listed in summary.items()}
    assert {name: (each.n, each.n_failed) for name, each in one.items()} == {
        "one half": (1002, 1),
        "both halves": (1002, 1),
        "5 folds": (1002, 1),
        "5 folds, median": (1002, 2),
    }
    fair, doubled = one["one half"], one["5 folds"]
    assert fair.coverage[1].fraction == pytest.approx((np.sum(nulls > 2) + 1) / 1002)
    assert doubled.coverage[1].fraction == pytest.approx((np.sum(nulls > 1) + 1) / 1002)
    assert doubled.level == pytest.approx(2 * fair.level)
    above = np.sum(np.append(nulls, [0.2, np.inf]) > fair.level) / 1002
    assert above == pytest.approx(0.0228, abs=0.001)
    assert doubled.with_signal[0].power == fair.with_signal[0].power == np.mean(signal > fair.level)
    assert doubled.with_signal[0].median == pytest.approx(2 * fair.with_signal[0].median)
    assert "5 folds, median" in "\n".join(splits.report("os", summary))


def test_a_split_lacks_the_cuts_after_which_nothing_is_left_and_no_others():
    outcomes = [split_outcome(number, 0, [row for name in splits.SPLITS for row in z0_rows(name, {1.0: 0.1, 0.1: 0.3})])
                for number in range(9)]  # fmt: skip
    rest = [row for name in [*splits.SPLITS][:3] for row in z0_rows(name, {1.0: 0.1, 0.1: 0.3})]
    outcomes.append(split_outcome(9, 0, [*rest, *z0_rows("5 folds, median", {1.0: 0.2})]))
    by_fpr = {each.fpr: each for each in splits.summarise("os", outcomes)["5 folds, median"] if each.fpr}
    assert {fpr: (each.n, each.n_failed) for fpr, each in by_fpr.items()} == {1.0: (10, 0), 0.1: (10, 1)}
    assert by_fpr[1.0].mean == pytest.approx(0.11)


def test_the_tightest_cuts_are_left_out_where_the_median_is_empty(monkeypatch):
    config_ = config.load(ROOT / "configs" / "demo.yaml")
    grid = rates(config_.significance.n_working_points, config_.significance.fpr_min)

    def measured(varied, *_):
        points = rates(varied.significance.n_working_points, varied.significance.fpr_min)
        if points[-1] < 0.005:
            raise AnalysisError("the median is empty", setting="fpr_min")
        return points

    def headline(points):
        return [{"variable": "cathode", "fpr": fpr, "z0": 1.0} for fpr in points] + [{"variable": "no_cut", "z0": 1.0}]

    monkeypatch.setattr(splits.steps, "measure_scored", measured)
    monkeypatch.setattr(splits.steps, "headline", headline)
    rows = splits._searched(config_, "os", None, None, None)
    assert [row["fpr"] for row in rows[:-1]] == [fpr for fpr in grid if fpr >= 0.005]  # the very numbers of the others
    assert rows[-1]["variable"] == "no_cut"


def test_splits_say_where_there_is_no_signal_to_inject(monkeypatch, caplog):
    monkeypatch.setattr(injection, "simulated_signal", lambda n, rng: pd.DataFrame({"dimu_pt": [1.0]}))
    listed = list(splits.of_null_model(config.load(ROOT / "configs" / "demo.yaml"), SimpleNamespace(charge="os")))
    assert {scenario.labels["n_injected"] for scenario in listed} == {0}
    assert [record.getMessage() for record in caplog.records] == [
        "splits: null datasets alone, the simulated signal has no mu0_ip3d; it has dimu_pt"
    ]


@pytest.mark.slow
def test_every_split_searches_the_same_datasets(inside):
    path = write_config(inside, "splits.yaml", experiments=2)
    told = make_study("splits", path)
    report = splits.run(told)
    table = pd.read_parquet("results/tiny/studies/splits.parquet")
    whole = table[table["variable"] == "no_cut"].set_index(["charge", "n_injected", "experiment", "split"])["n_obs"]
    by_split = whole.unstack()
    assert set(by_split.index) == {
        ("OS", 0, 0),
        ("OS", 0, 1),
        ("OS", 150, 0),
        ("OS", 150, 1),
        ("SS", 0, 0),
        ("SS", 0, 1),
    }
    assert (by_split["both halves"] == by_split["5 folds"]).all()
    assert (abs(by_split["one half"] - by_split["5 folds"] / 2) <= 0.5).all()  # half of the SR
    written = json.loads(open("results/tiny/studies/splits.json").read())
    assert set(written["os"]) == set(splits.SPLITS)
    assert "one half" in report


@pytest.mark.slow
def test_one_half_is_searched_alone_and_by_the_other(inside):
    """The chain with one half searched gives what a search of that half with its scores does."""
    config_, study_ = config.load(inside / "tiny.yaml"), make_study("splits", inside / "tiny.yaml")
    halves = vary(config_, {"bdt.folds": 2, "bdt.searched_folds": "one"})
    events, stream = study_.events["os"], Stream(3)
    result = steps.search(halves, "os", events, study_.background("os"), stream, executor.AtOnce())
    fold = result.searched
    assert fold.sum() == len(result.score) == pytest.approx(len(events) / 2, abs=1)
    both = steps.search(
        vary(halves, {"bdt.searched_folds": "all"}), "os", events, study_.background("os"), stream, executor.AtOnce()
    )
    np.testing.assert_array_equal(both.score[fold], result.score)
    sample = Sample("os", "os", events[fold], result.score)
    assert steps.measure(halves, sample, stream).summary == result.summary


def test_same_sign_events_are_weighted_to_the_opposite_ones(tmp_path, caplog):
    """Where features of the SS events lie elsewhere, and move with the mass otherwise, their nulls follow the OS."""
    rng, own = np.random.default_rng(5), config.load(write_config(tmp_path))

    def events(n, shift, slope):
        mass = rng.uniform(5, 16, n)
        place = shift + slope * (mass - 10) / 5
        return Events.of(mass, np.exp(rng.normal(place, 0.5, (3, n))).T, own.features.names)

    opposite, same = events(2500, 0.15, 0.15), events(3000, 0.0, 0.0)
    assert null_origins.enough(own, opposite, same)
    scaler = steps.scaler_of(own, {"os": opposite})
    null = nulls.NullModel("os", steps.fit_masses(own, opposite), b"")
    source = null_origins.OtherNull(null, 0, null_origins.from_same_sign(own, opposite, same, scaler))
    made = source.events(Scenario("os/same_sign/0", "os", own, Stream(1), source))
    for low, high in ((9, 10.6), (14, 16)):
        means = [
            np.log(each.features[(each.mass > low) & (each.mass < high)]).mean() for each in (made, opposite, same)
        ]
        assert abs(means[0] - means[1]) < 0.5 * abs(means[2] - means[1]), (low, high)
    few = same[:1250]
    n_same, n_opposite = (own.window.in_sr(each.mass).sum() for each in (few, opposite))
    with caplog.at_level("INFO", logger="dimuon"):
        assert not null_origins.enough(own, opposite, few)
    assert f"{n_same} SS for {n_opposite} OS events in the SR" in caplog.text
    assert f"each would be used {n_opposite / n_same:.2g} times where studies.same_sign_reuse = 1 is" in caplog.text


@pytest.mark.slow
def test_nulls_of_every_origin_are_searched_with_the_same_members(inside):
    path = write_config(inside)
    other = "{kind: spline_coupling, members: 1, hidden: 8, blocks: 2, epochs: 2}"
    small = f"  null_origins: 2\n  null_estimator: {other}\n  down_sampling: 0.5\n"
    path.write_text(path.read_text().replace("studies:\n", f"studies:\n{small}"))
    told = make_study("null_origins", path)
    report = null_origins.run(told)
    table = pd.read_parquet("results/tiny/studies/null_origins.parquet")
    assert table.groupby(["charge", "origin"])["experiment"].nunique().tolist() == [2] * 6
    for scenario in null_origins.of_charge(told, "os"):
        events = scenario.source.events(scenario)
        searched = scenario.source.model(scenario, events)
        assert searched.members == 2  # of three, without the one that is the truth of `member`
        if scenario.labels["origin"] != null_origins.MEMBER:
            assert scenario.source.truth.kind == "spline_coupling"
    written = json.loads(open("results/tiny/studies/null_origins.json").read())
    for charge, statistics in written.items():
        for name, content in statistics.items():
            own = table[(table["charge"] == charge.upper()) & (table["variable"] == name)]
            for origin, record in content["origins"].items():
                values = own[own["origin"] == origin].groupby("experiment")["z0"].first().fillna(0)
                if name != "fixed":
                    assert record["mean"] == pytest.approx(values.mean()), (name, origin)
    assert "down-up-sampling" in report


@pytest.mark.slow
def test_same_table_for_any_number_of_workers(inside):
    path = write_config(inside, "two.yaml", experiments=2)
    pseudoexperiments.run(make_study("pseudoexperiments", path))
    place = inside / "results/tiny/studies"
    alone = (place / "pseudoexperiments.parquet").read_bytes()
    for file in place.glob("*"):
        file.unlink()
    study = make_study("pseudoexperiments", path)
    with executor.executor(2) as pool:
        study.pool = pool
        pseudoexperiments.run(study)
    assert (place / "pseudoexperiments.parquet").read_bytes() == alone


@pytest.mark.slow
def test_study_before_its_inputs_exist(inside, capfd):
    early = write_config(inside, "early.yaml")
    early.write_text(early.read_text().replace("name: tiny", "name: early"))
    for name in STUDIES:
        assert main(["study", name, str(early)]) == 2
        said = capfd.readouterr().err
        needed = (
            "members_os_on_os.parquet: not found; set bdt.keep_members: true"
            if name == "convergence"
            else ("flows_os.pt: not found; run `python 03_train_flows.py")
        )
        assert needed in said
        assert len(said.splitlines()) == 1


@pytest.mark.slow
def test_nothing_left_to_calibrate_with(inside):
    few = write_config(inside, "few.yaml", experiments=2)
    few.write_text(few.read_text().replace("held_out: 1", "held_out: 2"))
    with pytest.raises(UserError, match="studies.held_out = 2"):
        pseudoexperiments.run(make_study("pseudoexperiments", few))


def test_ledger_says_where_other_code_goes_on(tmp_path, monkeypatch, caplog):
    """Once for each change, with what it keeps; nothing is refused, and nothing said of the same code."""
    path = tmp_path / "ledger.jsonl"
    ledger.Ledger(path, {"a": 1}).add("x", {"value": 2})
    assert ledger.Ledger(path, {"a": 1}).records == {"x": {"value": 2}}
    assert not caplog.records
    now = provenance.sources_hash()
    monkeypatch.setattr(provenance, "sources_hash", lambda: "f" * 64)
    again = ledger.Ledger(path, {"a": 1})
    assert (
        f"1 finished tasks were done with other source files of dimuon ({dimuon.__version__}, {now[:8]}" in caplog.text
    )
    assert "ffffffff) and are kept" in caplog.text
    again.add("y", {"value": 3})
    caplog.clear()
    assert ledger.Ledger(path, {"a": 1}).records == {"x": {"value": 2}, "y": {"value": 3}}
    assert not caplog.records
    codes = [line["code"]["sources_sha256"] for line in map(json.loads, path.open()) if "code" in line]
    assert codes == [now, "f" * 64]  # x was done with the first, y with the second
    old = [line for line in path.read_text().splitlines() if '"key"' in line]
    path.write_text("\n".join(['{"settings": {"a": 1}}', *old]) + "\n")
    ledger.Ledger(path, {"a": 1})
    assert "2 finished tasks were done with other source files of dimuon (of an earlier version, now" in caplog.text


def test_ledger_survives_a_torn_line_and_refuses_a_damaged_one(tmp_path):
    path = tmp_path / "ledger.jsonl"
    first = ledger.Ledger(path, {"a": 1})
    first.add("x", {"value": 2})
    with open(path, "a") as handle:
        handle.write('{"key": "y", "rec')
    again = ledger.Ledger(path, {"a": 1})
    assert again.records == {"x": {"value": 2}}
    again.add("y", {"value": 3})
    assert ledger.Ledger(path, {"a": 1}).records == {"x": {"value": 2}, "y": {"value": 3}}
    path.write_text(path.read_text().replace('"key"', '"kye"', 1))
    with pytest.raises(UserError, match="not a readable ledger"):
        ledger.Ledger(path, {"a": 1})


def test_p_value_counts():
    nulls_z0 = norm.isf((np.arange(1000) + 0.5) / 1000)
    found = calibration.p_value(2.0, nulls_z0)
    assert found.n_above == round(1000 * norm.sf(2.0))
    assert found.z0 == pytest.approx(2.0, abs=0.02)
    assert found.p_low < found.p < found.p_high
    # 68 % Clopper-Pearson of 23 in 1000, from the beta distribution by hand
    assert (found.p_low, found.p_high) == pytest.approx((0.01828, 0.02878), abs=2e-4)
    beyond = calibration.p_value(5.0, nulls_z0)
    assert (beyond.n_above, beyond.p, beyond.z0, beyond.z0_high) == (0, None, None, None)
    assert beyond.z0_low == pytest.approx(norm.isf(1 - 0.15865 ** (1 / 1000)), abs=1e-3)
    assert beyond.reach == pytest.approx(3.09, abs=0.01)
    assert calibration.p_value(5.0, nulls_z0, n_failed=10).p == pytest.approx(10 / 1010)


def test_uniformity_passes_the_same_distribution_and_fails_another():
    rng = np.random.default_rng(3)

    def draw(n, scale=1.0):  # half of all nulls have no excess at all
        return scale * np.maximum(rng.normal(size=n), 0)

    assert calibration.uniformity(draw(300), draw(3000), rng).p > 0.01
    assert calibration.uniformity(draw(300, scale=1.5), draw(3000), rng).p < 0.01
    # over many small samples the p-value is itself uniform, which it is not where the nulls are taken as exact
    found = pd.DataFrame([calibration.uniformity(draw(100), draw(100), rng) for _ in range(300)])
    assert 0.005 < (found["p"] < 0.05).mean() < 0.1
    assert (found["p_one_sample"] < 0.05).mean() > 0.15
    p = calibration.calibrated_p(draw(20000), draw(20000), rng)
    np.testing.assert_allclose(np.quantile(p, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.02)


def test_coverage_says_what_is_expected():
    rows = calibration.coverage(np.abs(np.random.default_rng(0).normal(size=100_000)))
    for row in rows:  # |z| of a normal: twice too often
        assert row.expected == pytest.approx(norm.sf(row.z0))
        assert row.fraction == pytest.approx(2 * row.expected, rel=0.2)
        assert row.low < row.fraction < row.high


@pytest.mark.slow
def test_every_pair_of_cuts_is_counted(inside):
    study = make_study("cut_scan", inside / "tiny.yaml")
    events = study.events["os"]
    table = cut_scan.scan(study.config, events)
    assert len(table) == 100
    row = table[(table["pt_cut"] == 37.0) & (table["ip3d_cut"] == 0.01)].iloc[0]
    pt, one, other = events.features.T
    kept = (pt >= 37) & (one <= 0.01) & (other <= 0.01) & study.config.window.in_sr(events.mass)
    assert row["n_obs"] == kept.sum() > 0
    assert cut_scan.BestCut.of(table).z0 == table.loc[table["valid"], "z0"].max() > 5
    assert table.loc[table["ip3d_cut"] == 0.001, "valid"].sum() < 10  # cuts that leave nothing are not valid


@pytest.mark.slow
def test_cut_scan_is_corrected(inside):
    study = make_study("cut_scan", write_config(inside, "scan.yaml", experiments=6))
    cut_scan.run(study)
    summary = json.loads((inside / "results/tiny/studies/cut_scan.json").read_text())
    toys = pd.read_parquet(inside / "results/tiny/studies/cut_scan_toys.parquet")
    ss = summary["ss"]
    assert ss["global"]["n_above"] == (toys.loc[toys["charge"] == "SS", "z0"] >= ss["best"]["z0"]).sum()
    # 6 null datasets say no more than a bound, which is no value
    assert (summary["os"]["global"]["n_above"], summary["os"]["global"]["z0"]) == (0, None)
    assert summary["os"]["global"]["bound"] < norm.isf(1 / 6)
    field = cut_scan.plane(cut_scan.scan(study.config, study.events["os"]))
    assert field.shape == (10, 10)
    assert np.nanmax(field) == summary["os"]["best"]["z0"]


@pytest.mark.slow
def test_scan_that_leaves_nothing_is_said_before_the_toys(inside, monkeypatch):
    path = write_config(inside, "tight.yaml")
    path.write_text(path.read_text().replace("seeds: 2", "seeds: 2\n  scan_pt: [900.0]"))
    monkeypatch.setattr(cut_scan, "best_cut", lambda *arguments: pytest.fail("a toy was begun"))
    with pytest.raises(UserError, match="no cut of the scan leaves enough events"):
        cut_scan.run(make_study("cut_scan", path))


@pytest.mark.slow
def test_cut_scan_needs_its_features(inside):
    study = make_study("cut_scan", inside / "tiny.yaml")
    study.config = scenarios.vary(study.config, {"features.set": "single_3"})
    with pytest.raises(UserError, match="dimu_pt is not among the features"):
        cut_scan.run(study)


def test_shifted_windows_leave_the_signal_region_out():
    low, high = controls.shifted(MassWindow(5.0, 9.0, 10.6, 16.0))
    assert (low.sb_low, low.sb_high, high.sb_low, high.sb_high) == (5.0, 9.0, 10.6, 16.0)
    for window in (low, high):
        assert window.sr_high - window.sr_low == pytest.approx(1.6)
        assert not window.in_window(np.array([9.46, 10.02, 10.36])).any()
    narrow, _ = controls.shifted(MassWindow(8.0, 9.0, 10.6, 16.0))
    assert narrow.sr_high - narrow.sr_low == pytest.approx(0.5)


def hand_made_controls(z0_at_fpr, likelihood):
    """Outcomes of one control with a seed per value."""
    rows = [
        [{"variable": "cathode", "fpr": 0.1, "z0": a}, {"variable": "cathode", "fpr": 0.01, "z0": 0.2},
         {"variable": "cathode_max", "fpr": 0.03, "z0": 2.5}, {"variable": "no_cut", "fpr": 1.0, "z0": 0.1},
         {"variable": "likelihood_pooled", "fpr": 1.0, "z0": b}]
        for a, b in zip(z0_at_fpr, likelihood, strict=True)
    ]  # fmt: skip
    missing = dict.fromkeys(("n_obs", "n_bkg", "n_sig", "valid"))
    return [outcome_of_ss(index, rows=[row | missing for row in part]) for index, part in enumerate(rows)]


def outcome_of_ss(index, **outcome):
    """The outcome of one seed of the SS control."""
    scenario = Scenario(f"ss/{index}", "ss", None, Stream(index), trained.Data(), {"control": "ss", "seed": index})
    return scenarios.Outcome(scenario, **outcome)


def test_gate_of_the_controls():
    def passed(outcomes):
        return controls.verdict(controls.table(outcomes), outcomes, [0.1, 0.01]).passed

    fine = hand_made_controls([0.1, 0.8, 0.9], [None, None, None])
    assert passed(fine)  # the best cut of 2.5 sigma is not part of the gate
    assert not passed(hand_made_controls([1.1, 1.2, 0.9], [0.0, 0.1, 0.2]))  # median
    assert not passed(hand_made_controls([0.0, 0.5, 3.0], [0.0, 0.1, 0.2]))  # spread
    assert not passed(hand_made_controls([0.1, 0.2, 0.3], [1.4, 1.5, 1.6]))  # likelihood
    assert not passed([*fine, outcome_of_ss(3, failed="FitError: no minimum")])
    # with its sign the spread is not cut off at zero: 0 in four of five seeds hides deficits of 3
    deficits = hand_made_controls([0.0, 0.0, 0.9], [0.0, 0.1, 0.2])
    assert passed(deficits)
    for outcome, z in zip(deficits, (-3.0, 0.0, 0.9), strict=True):
        outcome.rows[0]["z_signed"] = z
    assert not passed(deficits)


def test_nonclosure_is_of_the_signed_significances_of_all_controls():
    outcomes = hand_made_controls([0.2, 0.6], [0.0, 1.0])
    for outcome, z in zip(outcomes, (-0.5, 0.7), strict=True):
        outcome.rows[0]["z_signed"] = z
    frame, window = controls.table(outcomes), MassWindow(5.0, 9.0, 10.6, 16.0)
    found = controls.Verdicts(False, "", {}, tuple(controls.nonclosure(frame, window, ["os", "ss"])))
    at_best = found.expected("cathode_max", 0.12)  # of the nearest working point
    assert (at_best.fpr, at_best.mass, at_best.shift) == (0.1, 9.8, pytest.approx(0.1))
    assert found.expected("likelihood_pooled", 1.0).shift == pytest.approx(0.5)
    assert found.expected("best_feature", 0.1) is None
    assert controls.Verdicts.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_verdicts_read_themselves_back():
    outcomes = [*hand_made_controls([0.1, 0.8], [None, 0.2]), outcome_of_ss(2, failed="FitError: no minimum")]
    verdicts = controls.verdict(controls.table(outcomes), outcomes, [0.1, 0.01])
    content = json.loads(json.dumps(verdicts.to_json()))
    assert controls.Verdicts.from_json(content) == verdicts
    assert content["controls"]["ss"]["points"][0] == {
        "what": "FPR 0.1", "gate": True, "median": 0.45, "spread": pytest.approx(0.495, abs=1e-3), "passed": True
    }  # fmt: skip


def test_summaries_read_themselves_back():
    tail = trials.Tail(trials.UPCROSSINGS, (1.5,), 3, 30, (0.4, 0.0), ((0.1, 0.0), (0.0, 0.0)), (0.9, 0.8))
    p = trials.GlobalSignificance.of(2.0, [1.0, 2.5, 3.0], "null datasets", tail)
    corrected = cut_scan.Corrected(cut_scan.BestCut(20.0, 0.1, 9.0, 3.0, 1.0, 6.0, 2.0, True), p, n=3, n_failed=0)
    statistic = pseudoexperiments.CalibratedStatistic(2.0, 1.0, None, p)
    uniformity = calibration.uniformity([0.1, 0.2], [0.3, 0.1, 0.5], np.random.default_rng(0))
    calibrated = pseudoexperiments.CalibratedSummary(
        n=3,
        n_failed=1,
        failures=("ValueError: none",),
        members={"analysis": 100, "like_nulls": 20},
        reach=0.4,
        data={"like_nulls": {"best_feature": statistic}},
        coverage={"no_cut": tuple(calibration.coverage([1.0, 2.5, 3.0]))},
        uniformity={"no_cut": uniformity},
        by_truth=None,
    )
    curve = tuple(injection.CurvePoint(n, 1.0 + n, 0.5, 2.0) for n in (0, 50))
    methods = {"no_cut": injection.Sensitivity(curve, {"3": 20.0, "5": None})}
    injected = injection.InjectionSummary(methods, 0, {}, 50, {"no_cut": injection.Line(1.0, 0.1, 0.0, 5.0)})
    ranges = variations.Ranges(
        {"no_cut": variations.Dependence(1.2, {"fits": variations.Range(2, 1.0, 1.1, 1.2)})}, {"seed 0": "FitError"}
    )
    for summary in (corrected, calibrated, injected, ranges):
        content = json.loads(json.dumps(summary.to_json()))
        assert type(summary).from_json(content) == summary
    assert corrected.to_json()["global"] == statistic.to_json()["global"] == p.to_json()
    earlier = statistic.to_json() | {"global": calibration.p_value(2.0, [1.0, 2.5, 3.0]).to_json()}
    read = pseudoexperiments.CalibratedStatistic.from_json(earlier).overall
    assert (read.local, read.n, read.n_above, read.p) == (2.0, 3, 2, pytest.approx(2 / 3))
    assert ranges.to_json()["no_cut"] == {"baseline": 1.2, "fits": {"n": 2, "low": 1.0, "median": 1.1, "high": 1.2}}


def test_what_null_datasets_cannot_say_is_said_with_the_remedy():
    bound = trials.GlobalSignificance.of(5.0, [0.3, 1.2, 0.0], pseudoexperiments.SOURCE)
    beyond = pseudoexperiments.CalibratedStatistic(5.0, 0.1, None, bound)
    statistics = [name for name in standing.NAMES if name != "likelihood_pooled"]
    summary = pseudoexperiments.CalibratedSummary(
        n=3,
        n_failed=0,
        failures=(),
        members={},
        reach=0.4,
        data={"like_nulls": {"cathode_max": beyond}},
        coverage={str(name): () for name in statistics},
        uniformity={},
        by_truth=None,
    )
    said = list(standing._calibrated({"os": summary.to_json()}))
    assert f"best classifier cut local Z0 = 5.0, global Z0 > {bound.bound:.1f}, a bound: none of 3 null" in said[0]
    remedies = ("likelihood, one scale was never calibrated by these", "3 null datasets are too few for a value")
    for line, remedy in zip(said[1:], remedies, strict=True):
        assert remedy in line
        assert "run python -m dimuon study pseudoexperiments again" in line


def test_studies_are_found_by_being_there():
    known = {
        "variations",
        "pseudoexperiments",
        "null_origins",
        "splits",
        "cut_scan",
        "controls",
        "injection",
        "convergence",
    }
    assert set(STUDIES) == known
    for name, declared in STUDIES.items():
        assert declared.maker.command == f"-m dimuon study {name}"
        assert products.PRODUCTS.of(declared.maker), name


@pytest.mark.slow
def test_controls_end_to_end(inside):
    said = controls.run(make_study("controls", inside / "tiny.yaml"))
    summary = json.loads((inside / "results/tiny/studies/controls.json").read_text())
    assert said_names(said) == ["ss", "os_low_sideband", "os_high_sideband"]
    assert set(summary["controls"]) == set(said_names(said))
    assert all(part["n_seeds"] == 2 for part in summary["controls"].values())
    table = pd.read_parquet(inside / "results/tiny/studies/controls.parquet")
    for name, part in summary["controls"].items():
        cuts = table[(table["control"] == name) & (table["variable"] == "cathode")]
        near = cuts[np.isclose(cuts["fpr"], 0.1, rtol=1e-6)]["z_signed"]
        point = next(point for point in part["points"] if point["what"] == "FPR 0.1")
        assert point["median"] == pytest.approx(near.median())
        assert point["spread"] == pytest.approx(near.std(ddof=1))


@pytest.mark.slow
def test_studies_with_other_windows_on_the_dimuons_of_step_2(tmp_path, monkeypatch):
    """The table that step 2 made belongs to the analysis's window; a study may look at a part of it."""
    monkeypatch.chdir(tmp_path)
    path = write_config(tmp_path, choices="sr_edges, sideband_edges")
    path.write_text(path.read_text().replace("dimuons: dimuons.parquet", "files: [events.root]"))
    run = provenance.Run(config.load(path), "02_select_dimuons.py", path)
    table = toy_dimuons(np.random.default_rng(1)).assign(anti_isolated=True)
    run.write_table(run.data / "dimuons.parquet", table)
    runpy.run_path(str(ROOT / "03_train_flows.py"))["main"](provenance.Run(run.config, "03_train_flows.py", path))
    for name in ("controls", "variations"):
        STUDIES[name].run(make_study(name, path))
        content = json.loads((tmp_path / f"results/tiny/studies/{name}.json").read_text())
        parts = content["controls"] if name == "controls" else content
        assert not any(part["failures"] for part in parts.values()), parts
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "data/tiny").glob("windows/*/studies/flows_*.pt")}
    assert len(kept) == 2 + 2 * 4  # the OS flows of two shifted windows; OS and SS of two SR and two sideband edges
    (tmp_path / "results/tiny/studies/variations.ledger.jsonl").unlink()
    assert len(list(variations.costs(*listed_for(path)))) == 1
    variations.run(make_study("variations", path))
    assert {file: file.stat().st_mtime_ns for file in kept} == kept  # nothing is trained twice
    events = make_study("controls", path).read(
        scenarios.vary(run.config, {"window": MassWindow(5.0, 6.2, 7.8, 9.0)}), "os"
    )
    assert len(events) == ((table["charge"] == "OS") & table["dimu_mass"].between(5.0, 9.0)).sum()


@pytest.mark.slow
def test_verdicts_stand_beside_the_headline(inside):
    study = make_study("controls", inside / "tiny.yaml")
    folder = inside / "results/tiny"
    assert all("not made yet" in line for line in standing.lines(folder, study.run))
    outcomes = hand_made_controls([1.1, 1.2, 0.9], [0.0, 0.1, 0.2])
    study.write_json(controls.VERDICTS, controls.verdict(controls.table(outcomes), outcomes, [0.1]).to_json())
    pseudoexperiments.run(make_study("pseudoexperiments", inside / "tiny.yaml"))
    said = standing.lines(folder, study.run)
    assert said[0].startswith("controls without a signal: NOT PASSED; asked is median signed Z0")
    assert "ss FAILS (FPR 0.1 +1.10" in said[0]
    assert said[1].startswith("os, calibrated by 4 null datasets (0 failed): best classifier cut ")
    like = provenance.load_json(folder / "studies/pseudoexperiments.json")["os"]["data"]["like_nulls"]
    assert f"best classifier cut local Z0 = {like['cathode_max']['asymptotic']:.1f}, global Z0 > " in said[1]
    assert "raise studies.pseudoexperiments" in said[2]
    headline = json.loads((folder / "significance.json").read_text())["tests"]
    tests = [TestResult.from_json(content) for content in headline.values()]  # without toys of the scan
    assert standing.quoted(folder, tests, study.run) == {}  # a bound is not quoted as a value
    other = make_study("controls", write_config(inside, "other.yaml", members=3))
    assert all("out of date" in line for line in standing.lines(folder, other.run))


def said_names(said):
    """The controls that a report names, in order."""
    names = [line.split(":")[0].strip() for line in said.splitlines()[1:]]
    return [name for name in names if not name.startswith("non-closure")]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_of_the_project_can_be_varied(path, monkeypatch):
    monkeypatch.setenv("DIMUON_REFERENCE", "/some/folder")
    analysis = config.load(path)
    windows = [scenarios.vary(analysis, changes).window for _, changes in variations.choices(analysis).values()]
    edges = {(w.sb_low, w.sr_low, w.sr_high, w.sb_high) for w in windows}
    assert len(edges) == 1 + 2 * len({"sr_edges", "sideband_edges"} & {*analysis.studies.variations})


@pytest.mark.slow
def test_only_the_windows_asked_for_are_made(inside):
    analysis = make_study("variations", inside / "tiny.yaml").config
    analysis = scenarios.vary(analysis, {"studies.sideband_shift": 5.0, "studies.variations": ["sr_edges"]})
    assert list(variations.choices(analysis)) == ["baseline", "SR 8.9-10.7 GeV", "SR 9.1-10.5 GeV"]
    with pytest.raises(UserError, match="sideband_shift is too large for sideband_edges: window edges must rise"):
        variations.choices(scenarios.vary(analysis, {"studies.variations": ["sideband_edges"]}))


@pytest.mark.slow
def test_variations_share_flows_and_have_no_doubles(inside):
    study = make_study("variations", inside / "tiny.yaml")
    chosen = variations.choices(study.config)
    assert list(chosen) == ["baseline", "degree 3, 7 bins", "SR 8.9-10.7 GeV", "SR 9.1-10.5 GeV"]
    of_step_3 = (inside / "data/tiny/flows_os.pt").read_bytes()
    varied = {name: scenarios.vary(study.config, changes) for name, (_, changes) in chosen.items()}
    by_name = {name: trained.background(study, config, "os") for name, config in varied.items()}
    assert by_name["baseline"] == by_name["degree 3, 7 bins"]
    assert saved.to_bytes(saved.from_bytes(of_step_3)) == by_name["baseline"]
    assert by_name["SR 8.9-10.7 GeV"] != by_name["SR 9.1-10.5 GeV"]
    kept = sorted((inside / "data/tiny/studies").glob("flows_os_*.pt"))
    written = [path.stat().st_mtime_ns for path in kept]
    assert trained.background(study, varied["SR 8.9-10.7 GeV"], "os") == by_name["SR 8.9-10.7 GeV"]
    assert [path.stat().st_mtime_ns for path in kept] == written


def listed_for(path):
    """(study, its scenarios) of the variations."""
    study = make_study("variations", path)
    return study, variations.variations(study.config, list(study.events))


@pytest.mark.slow
def test_variations_say_what_they_train(inside):
    path = write_config(inside, "slides.yaml", choices="fits, flow")
    said = list(variations.costs(*listed_for(path)))
    assert said[0] == f"variations: 8 in all; `studies.variations` in {path} says which"
    assert [line.split(": trains")[0].strip() for line in said[1:]] == [
        f"{charge}/{name}" for charge in ("os", "ss") for name in ("slides' flow", "published file's flow")
    ]
    minutes = [float(line.partition("more than ")[2].split()[0]) for line in said[1:]]
    own = max(provenance.sidecar(file)["wall_time_s"] for file in (inside / "data/tiny").glob("flows_??.pt"))
    assert minutes[0] == pytest.approx(1000 / 3 * own / 2 / 60, abs=0.06)
    assert "1000 epochs of 128 hidden features" in said[1]


@pytest.mark.slow
def test_a_shorter_list_of_variations_needs_no_new_ledger(inside):
    def ledger_of(choices):
        write_config(inside, "list.yaml", choices=choices)
        return make_study("variations", inside / "list.yaml").ledger(variations.MAY_CHANGE)

    ledger_of("fits, seeds").add("os/seed 0", {"rows": []})
    assert ledger_of("fits").records == {"os/seed 0": {"rows": []}}
    path = inside / "results/tiny/studies/variations.ledger.jsonl"
    first, *rest = path.read_text().splitlines()
    earlier = json.loads(first)
    earlier["settings"] |= {"studies.variations": ["fits", "seeds"], "estimator.device": "cpu"}  # as before
    path.write_text("\n".join([json.dumps(earlier), *rest]) + "\n")
    assert len(ledger_of("seeds").records) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("passed", "flags", "code"), [(False, [], 0), (False, ["--gate"], 1), (True, ["--gate"], 0)])
def test_a_gate_has_an_exit_code(inside, monkeypatch, passed, flags, code):
    def run(at_work):
        at_work.write_json(controls.VERDICTS, controls.Verdicts(passed, "", {}).to_json())
        return ""

    monkeypatch.setattr(study.executor, "executor", lambda *where: contextlib.nullcontext(executor.AtOnce()))
    monkeypatch.setitem(STUDIES._parts, "controls", replace(STUDIES["controls"], run=run))
    assert main(["study", "controls", "tiny.yaml", *flags]) == code


@pytest.mark.slow
def test_what_is_no_gate_says_so(inside, capsys):
    assert main(["study", "variations", "tiny.yaml", "--gate"]) == 2
    assert "--gate: variations is no gate, but controls is; leave it out" in capsys.readouterr().err


@pytest.mark.slow
def test_variations_end_to_end(inside):
    variations.run(make_study("variations", inside / "tiny.yaml"))
    table = pd.read_parquet(inside / "results/tiny/studies/variations.parquet")
    headline = json.loads((inside / "results/tiny/significance.json").read_text())["tests"]
    for charge in ("os", "ss"):
        base = table[(table["charge"] == charge.upper()) & (table["variation"] == "baseline")].set_index("variable")
        assert base.loc["cathode_max", "z0"] == headline[f"{charge}_on_{charge}"]["cathode_max"]["z0"]
    assert (table["variable"] == "cathode").sum() == 2 * 4 * 25  # the curves of Fig. 4
    shown = table[table["valid"].fillna(False).astype(bool)]
    np.testing.assert_allclose(shown["p0"], norm.sf(shown["z0"]))


@pytest.mark.slow
def test_every_kind_of_variation_is_searched(inside):
    """Other seeds, edges, preprocessing and flows: each gives its own numbers."""
    path = write_config(inside, "kinds.yaml", choices="seeds, sideband_edges, preprocessing")
    variations.run(make_study("variations", path))
    table = pd.read_parquet(inside / "results/tiny/studies/variations.parquet")
    best = table[(table["charge"] == "OS") & (table["variable"] == "cathode_max")].set_index("variation")
    assert set(best["kind"]) == {"baseline", "seeds", "sideband_edges", "preprocessing"}
    assert best["z0"].nunique() == len(best) == 6
    bare = table[(table["charge"] == "OS") & (table["variable"] == "no_cut")].set_index("variation")
    assert bare.loc["seed 0", "z0"] == bare.loc["baseline", "z0"]  # the masses are the same
    assert bare.loc["window 5.5-16 GeV", "z0"] != bare.loc["baseline", "z0"]
    assert best.loc["seed 0", "seed"] != best.loc["baseline", "seed"]


@pytest.mark.slow
def test_variation_that_cannot_train_is_counted_and_the_others_go_on(inside, monkeypatch):
    def train(chosen, *arguments):
        raise UserError("flow member 0: train loss is nan in epoch 1")

    for path in (inside / "data/tiny").glob("**/studies/flows_*"):  # in other windows too
        path.unlink()
    monkeypatch.setattr(steps, "train_background", train)
    said = variations.run(make_study("variations", inside / "tiny.yaml"))
    summary = json.loads((inside / "results/tiny/studies/variations.json").read_text())["os"]
    assert set(summary["failures"]) == {"SR 8.9-10.7 GeV", "SR 9.1-10.5 GeV"}
    assert summary["cathode_max"]["baseline"] > 3
    assert "SR 8.9-10.7 GeV failed: UserError: flow member 0" in said


@pytest.mark.slow
def test_injected_events_are_found(inside):
    study = make_study("injection", inside / "tiny.yaml")
    injection.run(study)
    table = pd.read_parquet(inside / "results/tiny/studies/injection.parquet")
    assert provenance.sidecar(inside / "results/tiny/studies/injection.parquet")["origin"]["kind"] == "simulated"
    assert set(table["method"]) == set(injection.METHODS)
    median = table.groupby(["method", "n_injected"])["z0"].median().unstack()
    assert (median.loc["supervised"] >= median.loc["supervised_fixed"]).all()
    assert median.loc["supervised", 150] > median.loc["no_cut", 150] > median.loc["no_cut", 0]
    bare = table[(table["method"] == "no_cut") & (table["n_injected"] == 150)]
    assert bare["n_kept"].between(130, 150).all()  # nearly all lie in the SR
    assert (table.loc[table["n_injected"] == 0, "n_kept"].fillna(0) == 0).all()


def test_events_needed_onset_and_linearity():
    assert injection.needed_events([0, 100, 200], [0.5, 2.0, 4.0], 3.0) == pytest.approx(150)
    assert injection.needed_events([0, 100, 200], [0.5, 2.0, 2.5], 3.0) is None
    assert injection.needed_events([0, 100, 200, 300], [0.5, 3.5, 2.0, 4.0], 3.0) == pytest.approx(250)
    medians = {0: 1.5, 50: 2.2, 100: 1.9, 200: 5.0}
    curve = [injection.CurvePoint(n, median, low=0.0, high=2.0) for n, median in medians.items()]
    assert injection.onset(curve) == 200
    assert injection.onset(curve[1:]) is None
    rng = np.random.default_rng(0)
    kept = np.repeat([0, 100, 200, 300], 50)
    frame = pd.DataFrame({"n_kept": kept, "n_bkg": 1000.0, "n_obs": 1000 + kept + rng.normal(0, 30, len(kept))})
    line = injection.linearity(frame)
    assert abs(line.slope - 1) < 4 * line.slope_err
    assert abs(line.offset) < 4 * line.offset_err
    assert injection.linearity(frame.assign(n_kept=0)) is None  # a feature of zeros alone: no cut keeps any
    assert injection.linearity(frame.assign(n_obs=np.where(kept == 0, np.nan, frame["n_obs"]))).slope > 0


def test_a_signal_without_the_features_is_refused(tmp_path):
    text = "name: a\nseed: 1\ninput: {dimuons: a.parquet}\nfeatures: {set: [mine], define: {mine: {label: M}}}\n"
    (tmp_path / "a.yaml").write_text(text)
    study = SimpleNamespace(config=config.load(tmp_path / "a.yaml"), events={"os": None})
    with pytest.raises(UserError, match=r"features.set: the simulated signal has no mine; it has dimu_mass, dimu_pt"):
        injection.run(study)
