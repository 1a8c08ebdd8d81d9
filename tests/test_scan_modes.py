"""The modes of the learned scan: one training for all windows, of the kind and on the events that the mode says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dimuon import Events, MassWindow, Stream
from dimuon.background import saved
from dimuon.background.estimators.flows import Maf
from dimuon.background.estimators.interpolated import Interpolated
from dimuon.background.estimators.reweighting import Reweighting
from dimuon.background.estimators.sigma import Sigma
from dimuon.bumphunt import learned_scan
from dimuon.bumphunt.result import Statistic
from dimuon.bumphunt.scan_windows import scan_windows, searched
from dimuon.errors import AnalysisError
from dimuon.studies import learned_windows, mass_scan, scan_nulls
from dimuon.studies.mass_scan import MassScan
from dimuon.studies.scenarios import Scenario
from dimuon.workflow.config import Config, load
from dimuon.workflow.executor import AtOnce
from dimuon.workflow.products import SCAN_MAKER
from dimuon.workflow.provenance import Run

TINY = {"members": 1, "blocks": 1, "hidden": 4, "epochs": 1}
MAF = Maf(**TINY, learning_rate=1e-3, patience=7)


def test_each_window_has_its_own_training_where_it_is_to():
    assert learned_scan.shared_estimator(MAF, "retrain") is None


def test_which_trainings_can_be_one():
    assert learned_scan.can_be_joint(Maf())
    for other in (MAF, Maf(device="cuda"), Sigma(), Reweighting()):  # MAF may stop early
        assert not learned_scan.can_be_joint(other)


def test_one_model_is_the_estimator_interpolated():
    assert learned_scan.shared_estimator(MAF, "one_model") == Interpolated(of=MAF)
    chosen = Interpolated(of=MAF, margin=1.0)
    assert learned_scan.shared_estimator(chosen, "one_model") == chosen
    assert learned_scan.shared_estimator(Reweighting(), "one_model") == Interpolated(of=Reweighting())


def test_what_is_fine_tuned_is_the_one_model_of_flows():
    assert learned_scan.shared_estimator(MAF, "fine_tune") == Interpolated(of=MAF)
    for other in (Reweighting(), Interpolated(of=Reweighting()), Sigma()):
        with pytest.raises(AnalysisError, match="no flow that can be trained further"):
            learned_scan.shared_estimator(other, "fine_tune")


def test_sigma_is_as_large_as_the_flows():
    assert learned_scan.shared_estimator(MAF, "sigma") == Sigma(**TINY, learning_rate=1e-3, patience=7)
    chosen = Sigma(frequencies=2)
    assert learned_scan.shared_estimator(chosen, "sigma") is chosen
    with pytest.raises(AnalysisError, match=r"estimator\.kind reweighting no flow"):
        learned_scan.shared_estimator(Reweighting(), "sigma")


@pytest.mark.parametrize("mode", ["one_model", "sigma"])
def test_known_resonances_are_not_learned(mode):
    """Their events change nothing; those of the windows are learned."""
    rng = np.random.default_rng(1)
    mass = rng.uniform(5, 16, 800)
    events = Events.of(mass, rng.normal(0, 1, (800, 1)), ["dimu_eta"])
    config = Config.model_validate({
        "name": "scan", "seed": 1, "input": {"dimuons": "events in memory"}, "features": {"set": ["dimu_eta"]},
        "estimator": MAF.model_dump(),
        "scan": {"range": [5.0, 16.0], "resolution": 0.015, "known": {"Y": [9.0, 10.6]}, "mode": mode},
    })  # fmt: skip
    window, at = MassWindow(10.6, 12.0, 13.0, 16.0), np.linspace(10.7, 15.9, 40)

    def samples(changed):
        moved = np.where(changed[:, None], 0.9 * events.features, events.features)
        seen = Events.of(mass, np.where(np.abs(events.features) > 2, events.features, moved), events.names)
        shared = learned_scan.train_shared(config, "os", seen, Stream(3), AtOnce())
        return shared.across(window).sample(at, Stream(4)).features

    nothing = samples(np.zeros(800, dtype=bool))
    np.testing.assert_array_equal(samples((mass >= 9.0) & (mass <= 10.6)), nothing)
    assert (samples((mass > 12.0) & (mass < 13.0)) != nothing).any()


def test_without_a_shared_mode_nothing_is_trained():
    scan = {"range": [5.0, 16.0], "resolution": 0.015}
    config = Config.model_validate({"name": "scan", "seed": 1, "input": {"dimuons": "in memory"}, "scan": scan})
    with pytest.raises(ValueError, match="a training of its own"):
        learned_scan.train_shared(config, "os", Events.of([5.0], [[1.0]]), Stream(1), AtOnce())


@pytest.fixture
def scanned(tmp_path, monkeypatch):
    """A function that scans a small sample by a YAML alone, in a mode, and gives the rows of every window."""
    rng = np.random.default_rng(2)
    mass = 5 * np.exp(rng.uniform(0, np.log(16 / 5), 3000))
    columns = {"dimu_mass": mass, "dimu_pt": rng.exponential(20, 3000), "charge": "OS"}
    pd.DataFrame(columns).to_parquet(tmp_path / "dimuons.parquet")
    monkeypatch.chdir(tmp_path)

    def scan(mode):
        Path("scanned.yaml").write_text(f"""
name: scanned
seed: 3
input: {{dimuons: dimuons.parquet}}
selection: {{charges: [os]}}
features: {{set: [dimu_pt]}}
estimator: {{kind: maf, members: 2, blocks: 1, hidden: 4, epochs: 2}}
background: {{oversampling: 2.0}}
bdt: {{members: 1, folds: 3, classifier: {{n_trees: 5}}}}
significance: {{n_working_points: 5, fpr_min: 0.05}}
scan: {{range: [5.0, 16.0], resolution: 0.05, step: 2.0, sidebands: 2.0, degree: 2, mode: {mode}}}
execution: {{workers: 1}}
""")
        study = MassScan(Run(load("scanned.yaml"), SCAN_MAKER.command, Path("scanned.yaml")), mass_scan.NAME, AtOnce())
        outcomes = learned_windows.learned(study, "os", scan_windows(study.settings, mass))
        assert not [each.failed for each in outcomes if each.failed]
        return [[{k: v for k, v in row.items() if not k.endswith("_s")} for row in each.rows] for each in outcomes]

    return scan


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "kept", "kind"),
    [("fine_tune", "shared_os.pt", "interpolated"), ("retrain", "window_os_*.pt", "maf")],
)
def test_models_are_kept_and_serve_again(scanned, mode, kept, kind):
    """One for all windows, or one for each; a scan that is done again from them finds the same."""
    first = scanned(mode)
    files = sorted(Path("data/scanned/scan").glob(kept))
    assert len(files) == (len(first) if mode == "retrain" else 1)
    written = [path.stat().st_mtime_ns for path in files]
    Path("results/scanned/scan/windows.ledger.jsonl").unlink()
    assert scanned(mode) == first
    assert [path.stat().st_mtime_ns for path in files] == written
    assert {saved.from_bytes(path.read_bytes()).kind for path in files} == {kind}


@pytest.mark.slow
def test_windows_that_are_trained_together_find_what_they_find_alone(scanned, monkeypatch):
    together = scanned("retrain")
    for path in Path("data/scanned/scan").glob("window_os_*"):
        path.unlink()
    Path("results/scanned/scan/windows.ledger.jsonl").unlink()
    monkeypatch.setattr(learned_windows, "JOINT", 1)
    alone = scanned("retrain")
    assert not [*Path("data/scanned/scan").glob("window_os_*")]
    for one, other in zip(together, alone, strict=True):
        assert [row["n_obs"] for row in one[:-1]] == [row["n_obs"] for row in other[:-1]]
        assert one[-1]["closure_auc"] == pytest.approx(other[-1]["closure_auc"], abs=0.01)


class Truth:
    """A background model that is exact: two independent features, exponential and normal."""

    kind, members, losses, n_parameters = "truth", 1, np.empty((1, 0, 2)), 0

    def member_of(self, n_events):
        return np.zeros(n_events, dtype=int)

    def sample(self, mass, stream):
        return background(mass, stream.generator())


def background(mass, rng):
    features = np.column_stack([rng.exponential(20.0, len(mass)), rng.normal(0, 1, len(mass))])
    return Events.of(mass, features, ["dimu_pt", "dimu_eta"])


def test_a_planted_resonance_is_the_largest_excess_of_the_learned_scan():
    """3 sigma before any cut, at a mass that no setting names; without a cut another window may be the largest."""
    config = Config.model_validate({
        "name": "scan", "seed": 1, "input": {"dimuons": "in memory"}, "features": {"set": ["dimu_pt", "dimu_eta"]},
        "background": {"oversampling": 2.0}, "bdt": {"members": 1, "folds": 3, "classifier": {"n_trees": 30}},
        "significance": {"n_working_points": 8, "fpr_min": 0.02, "toys": {"local": 0, "scan": 0, "weights": 0}},
        "scan": {"range": [5.0, 16.0], "resolution": "0.42 + 0 * mass", "width": 3.0, "sidebands": 2.0, "step": 1.0,
                 "degree": 2, "family": "exponential"},
    })  # fmt: skip
    rng = np.random.default_rng(12)
    events = background(5 - 6 * np.log1p(-rng.uniform(0, 1 - np.exp(-11 / 6), 8000)), rng)
    windows = searched(scan_windows(config.scan, events.mass))
    place = rng.uniform(windows[0].window.sr_low, windows[-1].window.sr_high)
    n = round(3 * np.sqrt(np.sum(np.abs(events.mass - place) < 0.63)))
    features = np.column_stack([rng.normal(60.0, 10.0, n), rng.normal(0, 0.3, n)])
    planted = events + Events.of(rng.normal(place, 0.2, n), features, events.names)
    z0 = {}
    for number, placed in enumerate(windows):
        found = learned_scan.search_window(config, "os", planted, placed, Truth(), Stream(number))
        cuts = [each.z0 or 0.0 for each in found.headlines() if each.variable == Statistic.WORKING_POINT]
        z0[placed] = max(cuts)
    best = max(z0, key=z0.get).window
    assert best.sr_low <= place <= best.sr_high
    [test] = mass_scan.bump_scan_of(config.scan, [max(z0, key=z0.get)]).tests(planted.mass)[0]
    assert max(z0.values()) > test.outcome.z0 + 2


@pytest.mark.parametrize(
    ("mode", "retrained", "expected"),
    [
        ("retrain", False, []),
        ("retrain", True, ["train_window"]),
        ("one_model", True, ["train_shared", "put_under"]),
        ("fine_tune", True, ["train_shared", "put_under"]),
    ],
)
def test_null_datasets_are_trained_for_like_the_data(monkeypatch, mode, retrained, expected):
    """By the mode, once for all windows and once for each, on their own events; else the other members serve."""
    config = Config.model_validate({
        "name": "scan", "seed": 1, "input": {"dimuons": "in memory"}, "studies": {"retrain_flows": retrained},
        "scan": {"range": [5.0, 16.0], "resolution": 0.05, "mode": mode},
    })  # fmt: skip
    events, called = Events.of([6.0, 7.0], [[1.0], [2.0]], ["dimu_pt"]), []
    for name in ("train_window", "train_shared", "put_under"):

        def record(*arguments, name=name):
            assert any(argument is events for argument in arguments)
            called.append(name)
            return name

        monkeypatch.setattr(learned_scan, name, record)
    placed = searched(scan_windows(config.scan))[0]
    source = scan_nulls.NullScan((placed,), fit=None, trained=b"", number=0)
    if not retrained:
        others = Truth()
        others.with_members = lambda members: others
        monkeypatch.setattr(scan_nulls.saved, "from_bytes", lambda content: others)
    scenario = Scenario("null", "os", config, Stream(1), source)
    model = source.model(scenario, events) if mode != "retrain" or not retrained else None
    used = source.under(placed, scenario, events, model)
    assert called == expected
    assert used == (expected[-1] if expected else model)
