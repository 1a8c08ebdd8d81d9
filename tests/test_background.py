"""Sampled background: masses follow the fit, features the sidebands; closure finds what is wrong and only that."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest

from dimuon.background import closure, conditional, held_out
from dimuon.background.estimators import flows
from dimuon.background.flow_ensemble import make_estimator
from dimuon.errors import UserError
from dimuon.features import LogitScaler
from dimuon.regions import MassWindow
from dimuon.statistics import significance
from dimuon.workflow.executor import AtOnce

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
    return np.column_stack([pt, ip3d]), mass


@pytest.fixture(scope="module")
def trained():
    """A small `ConditionalBackground` and the events it was trained on."""
    features, mass = toy()
    sidebands = WINDOW.in_sidebands(mass)
    scaler = conditional.fit_scaler(features, sidebands, NAMES)
    model = conditional.ConditionalBackground.train(
        make_estimator(SMALL), scaler, features[sidebands], mass[sidebands], 3
    )
    return model, features, mass


class Spectrum:
    """A known spectrum, f(m) = 3 m^2, in the place of a fit."""

    def expected(self, edges):
        edges = np.asarray(edges, dtype=float)
        return np.diff(edges**3)


def test_masses_follow_the_spectrum():
    mass = conditional.sample_masses(Spectrum(), 9.0, 10.6, 40_000, np.random.default_rng(1))
    assert mass.min() >= 9.0
    assert mass.max() <= 10.6
    cdf = lambda m: (m**3 - 9.0**3) / (10.6**3 - 9.0**3)  # noqa: E731
    assert kstest(mass, cdf).pvalue > 1e-3
    assert kstest(mass, lambda m: (m - 9.0) / 1.6).pvalue < 1e-6  # the test can tell it from a flat one


def test_masses_of_an_empty_spectrum_are_refused():
    class Empty:
        def expected(self, edges):
            return np.zeros(len(edges) - 1)

    with pytest.raises(UserError, match=r"no event between 9 and 10.6 GeV"):
        conditional.sample_masses(Empty(), 9.0, 10.6, 10, np.random.default_rng(1))


def test_signal_region_sample(trained):
    model, _, mass = trained
    fit = significance.fit_sidebands(mass, WINDOW, n_bins_sr=11, degree=3)
    sampled = conditional.sample_signal_region(model, fit, WINDOW, 5.0, 7)
    expected = fit.expected([9.0, 10.6]).sum()
    n_events = len(sampled["mass"])
    assert n_events == round(5 * expected)
    assert WINDOW.in_sr(sampled["mass"]).all()
    assert np.ptp(np.bincount(sampled["member"], minlength=3)) <= 1
    counts = dict(zip(*np.unique(sampled["use"], return_counts=True), strict=True))
    assert counts["validation"] == round(0.25 * n_events)
    assert counts["train"] + counts["validation"] == n_events
    assert np.isfinite(sampled["features"]).all()
    again = conditional.sample_signal_region(model, fit, WINDOW, 5.0, 7)
    other = conditional.sample_signal_region(model, fit, WINDOW, 5.0, 8)
    assert np.array_equal(again["features"], sampled["features"])
    assert not np.array_equal(other["mass"], sampled["mass"])


def test_samples_follow_the_mass(trained):
    """Mean pT at two masses, against the truth 20 + 2 (4 + 0.3 m) that the toy was made with."""
    model, _, _ = trained
    for mass in (6.0, 14.0):
        pt = model.sample(np.full(20_000, mass), 1)[:, 0]
        assert pt.mean() == pytest.approx(20 + 2 * (4 + 0.3 * mass), abs=1.5)


def test_density_in_physical_units(trained):
    """p(x | m) integrates to one over pT and IP3D: the scaler's Jacobian is in it."""
    model, _, _ = trained
    pt = np.linspace(15, 140, 300)
    ip3d = np.geomspace(1e-5, 0.4, 300) - 1e-5
    grid = np.stack(np.meshgrid(pt, ip3d, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = ~model.scaler.outside(grid)
    density = np.zeros(len(grid))
    density[inside] = np.exp(model.log_prob(grid[inside], np.full(inside.sum(), 8.0)))
    density = density.reshape(300, 300)
    assert np.trapezoid(np.trapezoid(density, ip3d, axis=1), pt) == pytest.approx(1, abs=0.05)


def test_saved_background_is_the_same(trained):
    model, _, mass = trained
    content = model.to_bytes()
    again = conditional.ConditionalBackground.from_bytes(content)
    assert np.array_equal(again.sample(mass, 2), model.sample(mass, 2))
    assert model.to_bytes() == content
    torch.load(io.BytesIO(content), weights_only=True)  # holds tensors, numbers and words, nothing else
    for damaged in (b"nothing", content[: len(content) // 2]):
        with pytest.raises(ValueError, match="torch file"):
            conditional.ConditionalBackground.from_bytes(damaged)


def test_bad_training_data_is_refused():
    features, mass = toy(600)
    sidebands = WINDOW.in_sidebands(mass)
    constant = features.copy()
    constant[sidebands, 1] = 0.01  # varies in the SR alone
    with pytest.raises(UserError, match=r"feature mu0_ip3d is constant in the sidebands \(0.01 in every event\)"):
        conditional.fit_scaler(constant, sidebands, NAMES)
    broken = features.copy()
    broken[5, 0] = np.nan
    with pytest.raises(UserError, match="feature dimu_pt: 1 values are not finite"):
        conditional.fit_scaler(broken, sidebands, NAMES)
    scaler = conditional.fit_scaler(features, sidebands, NAMES)
    with pytest.raises(UserError, match="499 sideband events .* at least 500"):
        conditional.ConditionalBackground.train(make_estimator(SMALL), scaler, features[:499], mass[:499], 1)


def test_events_outside_the_scaler_are_counted_and_left_out(caplog):
    features, mass = toy(900)
    scaler = LogitScaler().fit(features[features[:, 0] < 60])
    n_outside = scaler.outside(features).sum()
    assert n_outside > 0
    settings = SMALL.model_copy(update={"epochs": 1})
    with caplog.at_level("WARNING", logger="dimuon"):
        model = conditional.ConditionalBackground.train(make_estimator(settings), scaler, features, mass, 1)
    assert model.n_outside == n_outside
    assert f"{n_outside} of 900 sideband events lie outside" in caplog.text


def test_closure_of_the_same_density_and_of_another():
    random = np.random.default_rng(3)
    mass = random.uniform(5, 9, 3000)
    real = np.column_stack([random.normal(mass, 1), random.exponential(1, 3000)])
    same = np.stack([np.column_stack([random.normal(mass, 1), random.exponential(1, 3000)]) for _ in range(5)])
    record = closure.compare(real, same, mass, NAMES, 1)
    for auc in ("auc", "auc_with_mass"):
        assert abs(record[auc] - 0.5) < 4 * record[f"{auc}_err"]
        assert record[f"{auc}_err"] < 0.02
    assert all(test["p_value"] > 1e-3 for test in record["ks"].values())
    # right on average, wrong at every mass: only the classifier that knows the mass sees it
    shuffled = np.stack([copy[random.permutation(3000)] for copy in same])
    record = closure.compare(real, shuffled, mass, NAMES, 1)
    assert record["auc"] < 0.55
    assert record["auc_with_mass"] > 0.7
    assert record["ks"]["dimu_pt"]["p_value"] > 1e-3
    # one feature off by a tenth of its spread
    record = closure.compare(real, same + [0.0, 0.1], mass, NAMES, 1)
    assert record["ks"]["mu0_ip3d"]["p_value"] < 1e-3
    assert record["ks"]["mu0_ip3d"]["distance"] == pytest.approx(0.1, abs=0.03)
    assert record["ks"]["dimu_pt"]["p_value"] > 1e-3


def test_closure_by_region_and_slice(trained):
    model, features, mass = trained
    inside = WINDOW.in_sidebands(mass)
    real, sb_mass = features[inside], mass[inside]
    sampled = model.sample(np.tile(sb_mass, 2), 1).reshape(2, len(real), 2)
    records = closure.in_sidebands(real, sampled, sb_mass, WINDOW, NAMES, 1, AtOnce())
    assert list(records)[:3] == ["sidebands", "SBL", "SBH"]
    for region in ("SBL", "SBH"):
        slices = [records[f"{region} {index}/3"] for index in (1, 2, 3)]
        assert sum(part["n_real"] for part in slices) == records[region]["n_real"]
        assert slices[0]["mass_high"] < slices[1]["mass_low"]
    json.dumps(records, allow_nan=False)


def test_held_out_checks():
    features, mass = toy(2500)
    inside = WINDOW.in_sidebands(mass)
    features, mass = features[inside], mass[inside]

    def make():
        return make_estimator(SMALL)

    records = held_out.half_split(make, features, mass, NAMES, WINDOW, 1, 2, AtOnce())
    assert records["sidebands"]["n_train"] + records["sidebands"]["n_real"] == len(mass)
    assert records["sidebands"]["n_real"] == records["SBL"]["n_real"] + records["SBH"]["n_real"]
    assert {"SBL 1/3", "SBH 3/3"} <= set(records)
    record = held_out.shifted_window(make, features, mass, NAMES, WINDOW, (11.0, 12.6), 1, 2, AtOnce())
    assert record["n_real"] == ((mass >= 11.0) & (mass <= 12.6)).sum()
    assert record["n_train"] == len(mass) - record["n_real"]
    assert record["auc"] < 0.65
    for bad in ((8.5, 9.5), (4.0, 6.0), (12.0, 11.0)):
        with pytest.raises(UserError, match="not inside a sideband"):
            held_out.shifted_window(make, features, mass, NAMES, WINDOW, bad, 1, 2, AtOnce())
    with pytest.raises(UserError, match="widen it"):
        held_out.shifted_window(make, features, mass, NAMES, WINDOW, (15.999, 16.0), 1, 2, AtOnce())


def write_dimuons(folder, n_events=2500):
    """Dimuon tables of two charges, the SS one with an event far outside the OS range."""
    for charge, seed in (("os", 1), ("ss", 2)):
        features, mass = toy(n_events, seed)
        if charge == "ss":
            features[np.argmax(WINDOW.in_sidebands(mass)), 0] = 5000.0
        frame = pd.DataFrame(features, columns=NAMES).assign(dimu_mass=mass)
        frame.to_parquet(folder / f"{charge}.parquet")


def run_step(step, folder, expect=0):
    """Run a script in a folder; returns its output."""
    done = subprocess.run(
        [sys.executable, ROOT / step, "test.yaml"], cwd=folder, capture_output=True, text=True, timeout=300
    )
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
    """The two scripts as a person runs them: files and contents, the same flows with one worker and with two."""
    flow_files = []
    for workers in (2, 1):
        folder = tmp_path / str(workers)
        folder.mkdir()
        write_dimuons(folder)
        (folder / "test.yaml").write_text(CONFIG.format(workers=workers, shifted="[[6.5, 8.0]]"))
        said = run_step("03_train_flows.py", folder)
        assert "1 of" in said
        assert "outside the range of the feature scaler" in said
        data = folder / "data" / "test"
        flow_files.append([(data / f"{name}").read_bytes() for name in ("flows_os.pt", "flow_losses_ss.parquet")])
        assert not list(data.glob("*checkpoint*"))
    assert flow_files[0] == flow_files[1]
    run_step("04_sample_background.py", folder)
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
