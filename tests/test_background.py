"""Sampled background: masses follow the fit, features the sidebands; closure finds what is wrong and only that."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ks_2samp, kstest, poisson

from dimuon.background import closure, mass_model, saved
from dimuon.background.estimators import flows
from dimuon.background.held_out import HeldOut
from dimuon.background.scaler import LogitScaler, Preparation
from dimuon.errors import AnalysisError
from dimuon.events import Events
from dimuon.random import Stream
from dimuon.regions import MassWindow
from dimuon.statistics import significance
from dimuon.workflow.executor import AtOnce
from tests.shell import here

ROOT = Path(__file__).resolve().parent.parent
WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
NAMES = ["dimu_pt", "mu0_ip3d"]
SMALL = flows.Maf(members=3, hidden=12, blocks=2, epochs=8, learning_rate=5e-3)


def toy(n_events=6000, seed=1):
    """Masses that fall over the window and features that follow them, in physical units."""
    random = np.random.default_rng(seed)
    mass = 5 + 11 * random.beta(1, 1.4, n_events)
    pt = 20 + random.gamma(2.0, 4 + 0.3 * mass)
    ip3d = np.minimum(random.lognormal(-5 + 0.05 * mass, 1.0), 0.3)
    return Events.of(mass, np.column_stack([pt, ip3d]), NAMES)


@pytest.fixture(scope="module")
def trained():
    """A small `ConditionalBackground` and the events it was trained on."""
    events = toy()
    sidebands = WINDOW.in_sidebands(events.mass)
    scaler = Preparation().scaler(events, sidebands)
    return SMALL.estimator(scaler).fit(events[sidebands], Stream(3)), events


class Spectrum:
    """A known spectrum, f(m) = 3 m^2, in the place of a fit."""

    def expected(self, edges):
        edges = np.asarray(edges, dtype=float)
        return np.diff(edges**3)


def test_masses_follow_the_spectrum():
    mass = mass_model.sample_masses(Spectrum(), 9.0, 10.6, 40_000, np.random.default_rng(1))
    assert mass.min() >= 9.0
    assert mass.max() <= 10.6
    cdf = lambda m: (m**3 - 9.0**3) / (10.6**3 - 9.0**3)  # noqa: E731
    assert kstest(mass, cdf).pvalue > 1e-3
    assert kstest(mass, lambda m: (m - 9.0) / 1.6).pvalue < 1e-6  # the test can tell it from a flat one


def test_masses_of_an_empty_spectrum_are_refused():
    class Empty:
        def expected(self, edges):
            return np.zeros(len(edges) - 1)

    with pytest.raises(AnalysisError, match=r"no event between 9 and 10.6 GeV"):
        mass_model.sample_masses(Empty(), 9.0, 10.6, 10, np.random.default_rng(1))


def test_signal_region_sample(trained):
    model, events = trained
    fit = significance.fit_sidebands(events.mass, WINDOW, n_bins_sr=11, degree=3)
    sampled = mass_model.sample_signal_region(model, fit, WINDOW, 5.0, Stream(7))
    expected = fit.expected([9.0, 10.6]).sum()
    n_events = len(sampled.events)
    assert n_events == round(5 * expected)
    assert WINDOW.in_sr(sampled.events.mass).all()
    assert sampled.events.names == tuple(NAMES)
    assert (sampled.events.weight == 1).all()
    assert np.ptp(np.bincount(sampled.member, minlength=3)) <= 1
    counts = dict(zip(*np.unique(sampled.use, return_counts=True), strict=True))
    assert counts["validation"] == round(0.25 * n_events)
    assert counts["train"] + counts["validation"] == n_events
    assert np.isfinite(sampled.events.features).all()
    again = mass_model.sample_signal_region(model, fit, WINDOW, 5.0, Stream(7))
    other = mass_model.sample_signal_region(model, fit, WINDOW, 5.0, Stream(8))
    assert np.array_equal(again.events.features, sampled.events.features)
    assert not np.array_equal(other.events.mass, sampled.events.mass)


def test_record_of_a_mass_fit_is_read_back(trained):
    _, events = trained
    fit = significance.fit_sidebands(events.mass, WINDOW, n_bins_sr=11, degree=3)
    record = mass_model.MassFitRecord.of(fit, WINDOW, 11)
    content = json.loads(json.dumps(record.to_json(), allow_nan=False))
    assert mass_model.MassFitRecord.from_json(content) == record
    assert record.degree == 3
    assert len(record.expected) == len(record.edges) - 1


def test_samples_follow_the_mass(trained):
    """Mean pT at two masses, against the truth 20 + 2 (4 + 0.3 m) that the toy was made with."""
    model, _ = trained
    for mass in (6.0, 14.0):
        pt = model.sample(np.full(20_000, mass), Stream(1)).columns["dimu_pt"]
        assert pt.mean() == pytest.approx(20 + 2 * (4 + 0.3 * mass), abs=1.5)


def test_density_in_physical_units(trained):
    """p(x | m) integrates to one over pT and IP3D: the scaler's Jacobian is in it."""
    model, _ = trained
    pt = np.linspace(15, 140, 300)
    ip3d = np.geomspace(1e-5, 0.4, 300) - 1e-5
    grid = np.stack(np.meshgrid(pt, ip3d, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = ~model.scaler.outside(grid)
    density = np.zeros(len(grid))
    density[inside] = np.exp(model.log_prob(Events.of(np.full(inside.sum(), 8.0), grid[inside], NAMES)))
    density = density.reshape(300, 300)
    assert np.trapezoid(np.trapezoid(density, ip3d, axis=1), pt) == pytest.approx(1, abs=0.05)


def test_saved_background_is_the_same(trained):
    model, events = trained
    content = saved.to_bytes(model)
    again = saved.from_bytes(content)
    assert np.array_equal(again.sample(events.mass, Stream(2)).features, model.sample(events.mass, Stream(2)).features)
    assert saved.to_bytes(model) == content
    state = torch.load(io.BytesIO(content), weights_only=True)  # holds tensors, numbers and words, nothing else
    for damaged in (b"nothing", content[: len(content) // 2]):
        with pytest.raises(ValueError, match="torch file"):
            saved.from_bytes(damaged)
    without = {name: value for name, value in state.items() if name != "kind"}
    for other, message in ((without, "by an earlier version"), ({**without, "kind": "mfa"}, "kind 'mfa', which is")):
        buffer = io.BytesIO()
        torch.save(other, buffer)
        with pytest.raises(ValueError, match=message):
            saved.from_bytes(buffer.getvalue())


def test_some_members_alone(trained):
    model, events = trained
    part = model.with_members([2, 0])
    assert (part.members, part.kind, part.names) == (2, "maf", tuple(NAMES))
    mass = (events.mass[:50] - model.mass_mean) / model.mass_std
    prepared = model.scaler.transform(events.features[:50])
    every = model.ensemble.member_log_prob(prepared, mass)
    np.testing.assert_allclose(part.ensemble.member_log_prob(prepared, mass), every[[2, 0]], rtol=1e-6)


def test_bad_training_data_is_refused():
    events = toy(600)
    sidebands = WINDOW.in_sidebands(events.mass)
    constant = events.features.copy()
    constant[sidebands, 1] = 0.01  # varies in the SR alone
    with pytest.raises(AnalysisError, match=r"feature mu0_ip3d is constant in the sidebands \(0.01 in every event\)"):
        Preparation().scaler(replace(events, features=constant), sidebands)
    broken = events.features.copy()
    broken[5, 0] = np.nan
    with pytest.raises(AnalysisError, match="feature dimu_pt: 1 values are not finite"):
        Preparation().scaler(replace(events, features=broken), sidebands)
    scaler = Preparation().scaler(events, sidebands)
    with pytest.raises(AnalysisError, match="499 sideband events .* at least 500"):
        SMALL.estimator(scaler).fit(events[:499], Stream(1))


def test_events_outside_the_scaler_are_counted_and_left_out(caplog):
    events = toy(900)
    scaler = LogitScaler().fit(events.features[events.features[:, 0] < 60])
    n_outside = scaler.outside(events.features).sum()
    assert n_outside > 0
    settings = SMALL.model_copy(update={"epochs": 1})
    with caplog.at_level("WARNING", logger="dimuon"):
        model = settings.estimator(scaler).fit(events, Stream(1))
    assert model.n_outside == n_outside
    assert f"{n_outside} of 900 sideband events lie outside" in caplog.text


def gaussians(mass, random):
    """A normal feature that follows the mass, and an exponential one that does not."""
    return Events.of(mass, np.column_stack([random.normal(mass, 1), random.exponential(1, len(mass))]), NAMES)


@pytest.mark.slow
def test_closure_of_the_same_density_and_of_another():
    random = np.random.default_rng(3)
    mass = random.uniform(5, 9, 3000)
    real, same = gaussians(mass, random), gaussians(np.tile(mass, 5), random)
    record = closure.compare(real, same, Stream(1))
    for auc, error in ((record.auc, record.auc_err), (record.auc_with_mass, record.auc_with_mass_err)):
        assert abs(auc - 0.5) < 4 * error
        assert error < 0.02
    assert all(test["p_value"] > 1e-3 for test in record.ks.values())
    # right on average, wrong at every mass: only the classifier that knows the mass sees it
    order = np.concatenate([3000 * copy + random.permutation(3000) for copy in range(5)])
    shuffled = closure.compare(real, replace(same, features=same.features[order]), Stream(1))
    assert shuffled.auc < 0.55
    assert shuffled.auc_with_mass > 0.7
    assert shuffled.ks["dimu_pt"]["p_value"] > 1e-3
    # one feature off by a tenth of its spread
    moved = closure.compare(real, replace(same, features=same.features + [0.0, 0.1]), Stream(1))
    assert moved.ks["mu0_ip3d"]["p_value"] < 1e-3
    assert moved.ks["mu0_ip3d"]["distance"] == pytest.approx(0.1, abs=0.03)
    assert moved.ks["dimu_pt"]["p_value"] > 1e-3


def test_weighted_samples_close_where_the_weights_are_right():
    """Samples of a flat feature, weighted to the triangle that the data have: perfect closure, and none without."""
    random = np.random.default_rng(4)
    mass = random.uniform(5, 9, 3000)
    real = Events.of(mass, random.triangular(0, 1, 1, (3000, 1)), ["dimu_pt"])
    flat = random.uniform(0, 1, (15_000, 1))
    wrong = closure.compare(real, Events.of(np.tile(mass, 5), flat, ["dimu_pt"]), Stream(1))
    right = closure.compare(real, Events.of(np.tile(mass, 5), flat, ["dimu_pt"], weight=2 * flat[:, 0]), Stream(1))
    assert wrong.auc > 0.6
    assert abs(right.auc - 0.5) < 4 * right.auc_err
    assert wrong.ks["dimu_pt"]["distance"] == pytest.approx(0.25, abs=0.02)  # of x and x^2, at x = 1/2
    assert wrong.ks["dimu_pt"]["p_value"] < 1e-6
    assert right.ks["dimu_pt"]["p_value"] > 1e-3


@pytest.mark.slow
def test_closure_by_region_and_slice(trained):
    model, events = trained
    real = events[WINDOW.in_sidebands(events.mass)]
    sampled = mass_model.sample_at(model, real.mass, 2, Stream(1)).events
    records = closure.in_sidebands(real, sampled, WINDOW, Stream(1), AtOnce())
    assert list(records)[:3] == ["sidebands", "SBL", "SBH"]
    for region in ("SBL", "SBH"):
        slices = [records[f"{region} {index}/3"] for index in (1, 2, 3)]
        assert sum(part.n_real for part in slices) == records[region].n_real
        assert slices[0].mass_high < slices[1].mass_low
    for record in records.values():
        content = json.loads(json.dumps(record.to_json(), allow_nan=False))
        assert closure.ClosureRecord.from_json(content) == record


def test_of_many_events_a_closure_compares_some_at_random(monkeypatch):
    """With the samples at their masses; from the whole range of the place, and the same ones again."""
    seen = []
    monkeypatch.setattr(closure, "MOST_COMPARED", 400)
    monkeypatch.setattr(closure, "compare", lambda *given: seen.append(given) or closure.ClosureRecord(len(given[0])))
    mass = np.linspace(5.0, 8.9, 900)
    real = Events.of(np.append(mass, mass + 6), np.arange(1800.0)[:, None], ["dimu_pt"])
    sampled = Events.of(np.tile(real.mass, 2), np.tile(real.features, (2, 1)), ["dimu_pt"])
    records = closure.in_sidebands(real, sampled, WINDOW, Stream(1), AtOnce())
    closure.in_sidebands(real, sampled, WINDOW, Stream(1), AtOnce())
    assert [records[place].n_real for place in ("sidebands", "SBL", "SBH", "SBL 1/3")] == [400, 400, 400, 300]
    assert (records["SBH"].mass_low, records["SBH"].mass_high) == (11.0, 14.9)
    for (one, drawn, _), (again, _, _) in zip(seen[: len(records)], seen[len(records) :], strict=True):
        np.testing.assert_array_equal(one.mass, again.mass)
        np.testing.assert_array_equal(drawn.features, np.tile(one.features, (2, 1)))
        assert len(np.unique(one.features)) == len(one)
    # 400 of 1,800 at random: the mean of their numbers within four standard errors
    assert abs(seen[0][0].features.mean() - 899.5) < 4 * 1800 / np.sqrt(12 * 400)


def test_the_spread_expected_of_a_closure_holds_what_it_says():
    """Real and sampled events of one distribution: 68 and 95 % of the bins within the bands; exact limits, too."""
    rng, expected = np.random.default_rng(5), 40.0
    sampled = rng.poisson(expected, 20_000).astype(float)  # as many as the real events, so that their error counts
    bands = closure.spread(sampled, np.sqrt(sampled))
    counts = rng.poisson(expected, len(sampled))
    for level in (68, 95):
        inside = (bands[f"low_{level}"] <= counts) & (counts <= bands[f"high_{level}"])
        assert inside.mean() == pytest.approx(level / 100, abs=0.04)  # whole numbers: a little more than the level
    exact = closure.spread(np.array([100.0, 0.0]), np.array([1e-4, 0.0]))
    assert [exact[name][0] for name in closure.SPREADS] == poisson.ppf([0.025, 0.16, 0.84, 0.975], 100).tolist()
    assert np.isnan([exact[name][1] for name in closure.SPREADS]).all()


def test_histograms_of_the_closure_are_scaled_to_the_data_in_each_sideband():
    real = Events.of(np.repeat([6.0, 12.0], [8, 2]), np.full((10, 1), 30.0), ["dimu_pt"])
    drawn = Events.of([6.0, 6.0, 12.0], [[30.0], [60.0], [30.0]], ["dimu_pt"], weight=[3.0, 1.0, 1.0])
    table = closure.histograms(real, drawn, WINDOW, {"dimu_pt": np.array([20.0, 40.0, 80.0])})
    assert table["n_real"].tolist() == [8.0, 0.0, 2.0, 0.0]
    assert table["n_sampled"].tolist() == [6.0, 2.0, 2.0, 0.0]  # 8 real events for a weight of 4
    assert table["n_sampled_err"].tolist() == [6.0, 2.0, 2.0, 0.0]
    assert closure.histograms(real, drawn[[]], WINDOW, {"dimu_pt": np.array([20.0, 40.0])}).empty


def test_the_ks_level_is_exceeded_once_in_twenty_times():
    rng = np.random.default_rng(6)
    level = closure.ks_level(300, 900)
    distances = [ks_2samp(rng.normal(size=300), rng.normal(size=900)).statistic for _ in range(600)]
    assert (np.array(distances) > level).mean() == pytest.approx(0.05, abs=0.025)


def test_a_slice_of_few_events_has_a_reason_and_no_value(trained):
    model, events = trained
    real = events[WINDOW.in_sidebands(events.mass)][:240]
    sampled = mass_model.sample_at(model, real.mass, 1, Stream(1)).events
    record = closure.in_sidebands(real, sampled, WINDOW, Stream(1), AtOnce())["SBL 1/3"]
    assert record.auc is None
    assert record.to_json() == {"n_real": record.n_real, "reason": "fewer than 50 events"}


@pytest.mark.slow
def test_held_out_checks(monkeypatch):
    events = toy(2500)
    events = events[WINDOW.in_sidebands(events.mass)]
    held_out = HeldOut(SMALL.estimator, Preparation(), events, WINDOW, copies=2, pool=AtOnce())
    records = held_out.half_split(Stream(1))
    assert records["sidebands"].n_train + records["sidebands"].n_real == len(events)
    assert records["sidebands"].n_real == records["SBL"].n_real + records["SBH"].n_real
    assert {"SBL 1/3", "SBH 3/3"} <= set(records)
    record = held_out.shifted_window(11.0, 12.6, Stream(1))
    assert record.n_real == ((events.mass >= 11.0) & (events.mass <= 12.6)).sum()
    assert record.n_train == len(events) - record.n_real
    assert record.auc < 0.65
    assert list(record.to_json())[:4] == ["n_train", "mass_low", "mass_high", "n_real"]
    for bad in ((8.5, 9.5), (4.0, 6.0), (12.0, 11.0)):
        with pytest.raises(AnalysisError, match="not inside a sideband"):
            held_out.shifted_window(*bad, Stream(1))
    with pytest.raises(AnalysisError, match="widen it"):
        held_out.shifted_window(15.999, 16.0, Stream(1))
    monkeypatch.setattr(closure, "MOST_COMPARED", 100)
    few = held_out.shifted_window(11.0, 12.6, Stream(1))
    assert (few.n_real, few.n_train) == (100, record.n_train)
    assert few.auc_err > record.auc_err


@pytest.mark.slow
def test_held_out_likelihood_is_below_that_of_the_truth():
    """Gibbs' inequality: no density explains events better than the one they come from, on the mean."""
    rng = np.random.default_rng(8)
    mass = np.concatenate([rng.uniform(5, 9, 1500), rng.uniform(10.7, 16, 1500)])
    events = Events.of(mass, rng.normal(50, 5, (3000, 1)), ["dimu_pt"])
    settings = SMALL.model_copy(update={"epochs": 20})
    held_out = HeldOut(settings.estimator, Preparation(), events, WINDOW, copies=1, pool=AtOnce())
    records = held_out.half_split(Stream(1))
    truth, error = -0.5 * (1 + np.log(2 * np.pi)) - np.log(5), np.sqrt(0.5 / 1500)
    assert truth - 0.2 < records["sidebands"].log_likelihood < truth + 3 * error
    assert records["SBL"].log_likelihood is None


def write_dimuons(folder, n_events=2500):
    """Dimuon tables of two charges, the SS one with an event far outside the OS range."""
    for charge, seed in (("os", 1), ("ss", 2)):
        events = toy(n_events, seed)
        if charge == "ss":
            events.features[np.argmax(WINDOW.in_sidebands(events.mass)), 0] = 5000.0
        frame = pd.DataFrame(events.columns).assign(dimu_mass=events.mass)
        frame.to_parquet(folder / f"{charge}.parquet")


def run_step(step, folder, expect=0):
    """Run a script in a folder; returns its output."""
    done = here(folder, step, "test.yaml")
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


CONFIG = """
name: test
seed: 1
input: {{dimuons: {{os: os.parquet, ss: ss.parquet}}}}
features: {{set: [dimu_pt, mu0_ip3d]}}
flow: {{members: 4, hidden: 8, blocks: 2, epochs: 3}}
background: {{degree: 3, shifted_windows: {shifted}}}
execution: {{workers: {workers}}}
"""


@pytest.mark.slow
def test_steps_three_and_four(tmp_path):
    """The two scripts as a person runs them: files and contents. Other numbers of workers: tests/test_pipeline.py."""
    write_dimuons(tmp_path)
    (tmp_path / "test.yaml").write_text(CONFIG.format(workers=2, shifted="[[6.5, 8.0]]"))
    said = run_step("03_train_flows.py", tmp_path)
    assert "1 of" in said
    assert "outside the range of the feature scaler" in said
    data = tmp_path / "data" / "test"
    assert not list(data.glob("*checkpoint*"))
    run_step("04_sample_background.py", tmp_path)
    frame = pd.read_parquet(data / "background_os.parquet")
    assert set(frame["use"]) == {"train", "validation", "closure"}
    assert (frame.loc[frame["use"] != "closure", "region"] == "SR").all()
    assert set(frame.loc[frame["use"] == "closure", "region"]) == {"SBL", "SBH"}
    losses = pd.read_parquet(data / "flow_losses_os.parquet")
    assert losses.groupby("member")["epoch"].max().tolist() == [3, 3, 3, 3]
    records = json.loads((data / "closure_os.json").read_text())
    shifted = records["shifted_windows"]["6.5-8 GeV"]
    assert (shifted["mass_low"], shifted["mass_high"]) == (6.5, 8.0)
    flows = [torch.load(data / f"flows_{charge}.pt", weights_only=True) for charge in ("os", "ss")]
    assert flows[0]["scaler"] == flows[1]["scaler"]  # fitted on OS alone
    assert [part["n_outside"] for part in flows] == [0, 1]


def test_too_few_events_stop_step_three(tmp_path):
    write_dimuons(tmp_path, 400)
    (tmp_path / "test.yaml").write_text(CONFIG.format(workers=1, shifted="[]"))
    said = run_step("03_train_flows.py", tmp_path, expect=2)
    assert "sideband events to train flows on, at least 500 are needed" in said
