"""What an analysis will cost: the arithmetic of workers, sizes from what is there, and what the command says."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from dimuon.__main__ import main
from dimuon.bumphunt.scan_windows import scan_windows, searched
from dimuon.commands import plan
from dimuon.planning import costs, sizes, speeds
from dimuon.planning.costs import Costs
from dimuon.planning.speeds import Speeds
from dimuon.planning.work import DISPATCH, Work
from dimuon.workflow import config, products, provenance

SPEEDS = Speeds(**{field.name: 0.001 for field in dataclasses.fields(Speeds)} | {"n_events": 1000, "seconds": 1.0})
CONFIG = """
name: planned
seed: 1
input: {simulation: {n_files: 4, scale: 2.0}}
estimator: {members: 5, epochs: 10}
studies: {pseudoexperiments: 100, held_out: 10}
"""


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "a.yaml").write_text(CONFIG)
    return tmp_path


def costs_of(path, measured=SPEEDS):
    chosen = config.load(path)
    found, _ = sizes.sizes(provenance.Run(chosen, "07_plots.py", str(path)))
    return Costs(chosen, found, measured)


def test_tasks_are_done_in_rounds():
    work = Work("w", "", serial_s=3.0, parallel_s=100.0, n_tasks=10)
    assert [work.wall(n) for n in (1, 3, 10, 100)] == [103.0, 3 + 4 * 10.0, 13.0, 13.0]
    assert work.useful_workers == 16
    assert Work("w", "", serial_s=3.0).useful_workers == 1
    uneven = Work("w", "", 0.0, parallel_s=100.0, n_tasks=10, longest_s=40.0)
    assert [uneven.wall(n) for n in (1, 2, 10)] == [100.0, 50.0, 40.0]
    small = Work("w", "", 0.0, parallel_s=1.0, n_tasks=100_000)
    assert small.wall(10_000) == 100_000 * DISPATCH  # the scheduler hands out one after the other


def test_what_travels_grows_with_the_workers_that_have_work():
    work = Work("w", "", 0.0, 10.0, n_tasks=4, driver_mb=100, worker_mb=50, read_mb=7, shared_mb=10, task_mb=1)
    assert [work.network(n) for n in (1, 2, 64)] == [7 + 10 + 4, 7 + 20 + 4, 7 + 40 + 4]
    assert [work.memory(n) for n in (1, 64)] == [150, 300]


def test_sizes_scale_with_the_simulation(inside):
    found = costs_of("a.yaml").sizes
    assert (found.events, found.n_files, found.charges["os"]) == (2 * 62_712, 4, 2 * 12_077)
    assert found.sidebands("os") + found.in_sr["os"] == found.charges["os"]


def test_sizes_are_counted_where_the_dimuons_are(inside):
    rng = np.random.default_rng(1)
    columns = {name: rng.exponential(size=900) for name in ("dimu_pt", "mu0_ip3d", "mu1_ip3d")}
    mass = np.repeat([6.0, 10.0, 12.0], 300)
    frame = pd.DataFrame(columns | {"dimu_mass": mass, "charge": ["OS", "SS", "OS"] * 300})
    frame.to_parquet("t.parquet")
    (inside / "b.yaml").write_text("name: b\nseed: 1\ninput: {dimuons: t.parquet}\n")
    found = costs_of("b.yaml").sizes
    assert (found.how, found.charges, found.in_sr) == (
        "its own dimuons",
        {"os": 600, "ss": 300},
        {"os": 200, "ss": 100},
    )


def test_a_table_is_as_long_as_its_file_says(inside):
    (inside / "t.csv").write_text("M,pt\n" + "9.5,20.0\n" * 5000)
    (inside / "c.yaml").write_text("name: c\nseed: 1\ninput: {table: {file: t.csv, mass: M}}\nfeatures: {set: [pt]}\n")
    assert costs_of("c.yaml").sizes.rows == pytest.approx(5000, rel=0.01)


def test_costs_follow_the_settings(inside):
    base = costs_of("a.yaml")
    (inside / "long.yaml").write_text(CONFIG.replace("epochs: 10", "epochs: 100"))
    longer = costs_of("long.yaml")
    before, after = (each.step(products.STEP_3, "") for each in (base, longer))
    assert after.parallel_s == pytest.approx(10 * before.parallel_s)
    assert after.n_tasks == 4  # two charges, two stacks of the five members
    many, few = (base.nulls("", n, 20, "").parallel_s for n in (1000, 10))
    assert many == pytest.approx(100 * few)
    assert next(costs.studies(base, ["pseudoexperiments"])).n_tasks == 200


def test_the_command_says_what_is_to_be_done(inside, monkeypatch, caplog):
    monkeypatch.setattr(speeds, "measure", lambda *_: SPEEDS)
    caplog.set_level("INFO", "dimuon")
    assert main(["plan", "a.yaml", "--workers", "2", "64", "--nulls", "1000", "--windows", "60x9x1000"]) == 0
    text = caplog.text
    assert "03_train_flows.py" in text
    assert "missing: data/planned" in text
    assert "64 workers" in text
    assert "540,540 searches, 540 trainings" in text
    assert "longest pole with 64 workers: scan" in text
    monkeypatch.setattr(speeds, "measure", None)  # the second time it is known
    assert main(["plan", "a.yaml"]) == 0


SCAN = """
scan: {range: [5.0, 16.0], resolution: 0.02, methods: [classical, learned], mode: MODE, toys: 0, nulls: NULLS}
"""


def scanned(inside, mode, nulls=0):
    """The work of a scan of the simulated sample of the file, and its number of windows."""
    (inside / "s.yaml").write_text(CONFIG + SCAN.replace("MODE", mode).replace("NULLS", str(nulls)))
    costs_here = costs_of("s.yaml")
    events = sizes.like(costs_here.config, 24_000)
    windows = searched(scan_windows(costs_here.config.scan, events.mass))
    return plan.scan_work(costs_here, costs_here.config.scan, events), len(windows), (costs_here, events)


def test_a_scan_is_planned_by_its_section(inside):
    work, n, (base, events) = scanned(inside, "retrain")
    assert f"{n} windows of os and ss, 0 toys; learned (retrain): {2 * n} searches, {2 * n} trainings" in work.reason
    one, _, _ = scanned(inside, "one_model")
    tuned, _, _ = scanned(inside, "fine_tune")
    assert one.parallel_s < tuned.parallel_s  # the epochs of each window
    with_nulls, _, _ = scanned(inside, "one_model", nulls=50)
    assert f"100 null datasets: {100 * n:,} searches" in with_nulls.reason
    windows = searched(scan_windows(base.config.scan, events.mass))
    share = sum(float(np.mean(each.window.in_window(events.mass))) for each in windows)
    expected = sum(
        50 * share * base.chain_s(charge, base.config.studies.members)
        + base.sizes.charges[charge] * base.config.estimator.epochs * SPEEDS.fit_s
        for charge in ("os", "ss")
    )
    assert with_nulls.parallel_s - one.parallel_s == pytest.approx(expected)


def test_the_command_plans_a_scan_that_is_due(inside, monkeypatch, caplog):
    monkeypatch.setattr(speeds, "measure", lambda *_: SPEEDS)
    caplog.set_level("INFO", "dimuon")
    scanned(inside, "retrain")
    assert main(["plan", "s.yaml"]) == 0
    assert "learned (retrain)" in caplog.text


def test_a_bench_is_its_cells_its_null_datasets_and_the_flows_of_its_samples(inside, monkeypatch, caplog):
    """Four samples; the flow of cathode, one of another kind, and ANODE's folds."""
    monkeypatch.setattr(speeds, "measure", lambda *_: SPEEDS)
    caplog.set_level("INFO", "dimuon")
    chosen = "{methods: [cathode, spline_coupling, anode, cwola], injected: [0, 50], seeds: 2, nulls: 30}"
    (inside / "b.yaml").write_text(f"{CONFIG}bdt: {{folds: 3}}\nbench: {chosen}\n")
    assert main(["plan", "b.yaml"]) == 0
    assert "16 cells of 4 samples, 240 null datasets, 20 trainings" in caplog.text


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--workers", "0"], "--workers 0: at least one worker is needed"),
        (["--windows", "60x9"], "--windows 60x9: three numbers are needed"),
    ],
)
def test_what_cannot_be_planned_is_said(inside, monkeypatch, capsys, options, line):
    monkeypatch.setattr(speeds, "measure", lambda *_: SPEEDS)
    assert main(["plan", "a.yaml", *options]) == 2
    assert line in capsys.readouterr().err


def test_durations_are_words():
    assert [plan.duration(s) for s in (40, 720, 12_600, 10 * 86_400)] == ["40 s", "12 min", "3.5 h", "10 days"]


@pytest.mark.slow
def test_speeds_are_measured_on_the_chain_itself(inside):
    chosen = config.load("a.yaml")
    measured = speeds.measure(chosen, sizes.like(chosen, 3000))
    assert all(value > 0 for value in measured.to_json().values())
    assert measured.seconds < 120
