"""The bench: which cells there are, that they go on where they were stopped, what is read off them, what is said."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dimuon import MassWindow, Stream
from dimuon.__main__ import main
from dimuon.commands import bench as command
from dimuon.dataset import Dataset
from dimuon.errors import UserError
from dimuon.figures.studies import bench as figures
from dimuon.methods.protocol import METHODS, Needs
from dimuon.simulation.labelled import background_events, mismodelled
from dimuon.simulation.processes import DRELL_YAN_IN_JETS, HADRON_DECAYS
from dimuon.studies.bench import detection, matrix, samples, summary, tables
from dimuon.studies.bench.matrix import Bench, cells, places
from dimuon.studies.bench.samples import Simulated
from dimuon.studies.bench.summary import Band, Standing
from dimuon.studies.scenarios import Outcome, Scenario
from dimuon.workflow import provenance
from dimuon.workflow.config import Config
from dimuon.workflow.executor import AtOnce
from dimuon.workflow.products import BENCH_MAKER

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
CHOSEN = {"methods": ["supervised", "cwola"], "events": 3000, "injected": [0, 150], "seeds": 1}
TINY = {
    "name": "tiny",
    "seed": 7,
    "input": {"simulation": {}},
    "estimator": {"kind": "maf", "members": 1, "hidden": 4, "blocks": 1, "epochs": 1},
    "bdt": {"members": 1, "folds": 3},
    "significance": {"n_working_points": 13},
}


def bench_of(**settings):
    """A bench of the tiny configuration, at work in this process."""
    config = Config.model_validate({**TINY, "bench": {**CHOSEN, **settings}})
    return Bench(provenance.Run(config, BENCH_MAKER.command, "tiny.yaml"), "bench", AtOnce())


@pytest.fixture
def few(monkeypatch, tmp_path):
    """An empty folder to work in, and few labelled events."""
    monkeypatch.chdir(tmp_path)
    for sizes in (samples.N_FURTHER, samples.N_TRUTH):
        for kind in sizes:
            monkeypatch.setitem(sizes, kind, 400)
    samples._frames.cache_clear()
    yield tmp_path
    samples._frames.cache_clear()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(folder, outcomes) of a finished tiny bench."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for sizes in (samples.N_FURTHER, samples.N_TRUTH):
            for kind in sizes:
                patch.setitem(sizes, kind, 400)
        samples._frames.cache_clear()
        bench = bench_of(nulls=1)
        command.written(bench)
        yield folder, matrix.run(bench)
    samples._frames.cache_clear()


def test_the_matrix(few):
    bench = bench_of(features=["paper", "single_3"], injected=[0, 10, 20], leak=[0.0, 0.1], noise=[0, 2, 5], seeds=3)
    where = list(places(bench))
    one_at_a_time = {(0, 0.0, 0), (10, 0.0, 0), (20, 0.0, 0), (10, 0.1, 0), (10, 0.0, 2), (10, 0.0, 5)}
    assert {(place.n_injected, place.leak, place.noise) for place in where} == one_at_a_time
    assert len(where) == 2 * 3 * len(one_at_a_time)  # sets, seeds
    assert len({scenario.key for scenario in cells(bench)}) == 2 * len(where)
    bench.small = True
    assert [place.repeat for place in places(bench)] == [0, 1]
    assert {(place.n_injected, place.features, place.noise) for place in places(bench)} == {(10, "paper", 0)}


def test_a_worker_gets_a_sample_or_where_there_are_few_some_of_its_methods(few):
    listed = list(cells(bench_of(methods=["supervised", "cwola", "rad_ot"], injected=[0, 20])))
    keys = [[each.labels["method"] for each in part] for part in matrix.parts(listed, 2)]
    assert keys == [["cwola", "rad_ot", "supervised"]] * 2 or keys == [["supervised", "cwola", "rad_ot"]] * 2
    assert [len(part) for part in matrix.parts(listed, 4)] == [2, 1, 2, 1]
    assert [len(part) for part in matrix.parts(listed[:1], 16)] == [1]


def test_the_configured_estimator_is_not_done_twice(few):
    config = bench_of(methods=["cathode", "maf", "spline_coupling"]).config
    assert matrix.methods(config, "simulated") == ["cathode", "spline_coupling"]
    assert matrix.methods(bench_of(methods=["maf"]).config, "simulated") == ["maf"]
    assert matrix.methods(bench_of(methods=["cathode", "cathode_xgboost", "cathode_dense"]).config, "os") == [
        "cathode",
        "cathode_dense",
    ]
    assert matrix.methods(bench_of(methods=["handed_in", "quak", "cwola"]).config, "os") == ["cwola"]
    assert matrix.methods(bench_of().config, "os") == ["cwola"]  # data have no truth


@pytest.mark.slow
def test_files_and_what_is_in_them(done):
    folder, _ = done
    written = folder / "results" / "tiny" / "bench"
    frame = pd.read_parquet(written / "cells.parquet")
    assert len(frame) == 4
    assert set(frame["method"]) == {"supervised", "cwola"}
    signal = frame[frame["n_injected"] == 150].set_index("method")
    assert signal.loc["supervised", "improvement_max"] > 1.3
    assert np.isnan(signal.loc["supervised", "z0_likelihood"])  # it is no probability of being data
    assert signal.loc["cwola", "z0_loose_median"] == pytest.approx(
        signal.loc["cwola", "z0_loose"], abs=1e-9
    )  # 1 member
    assert np.isnan(signal.loc["supervised", "z0_loose_median"])
    assert signal["z0_own"].isna().all()
    assert signal.loc["supervised", "template_auc"] != signal.loc["supervised", "template_auc"]
    assert 0 < signal.loc["cwola", "template_auc"] < 1
    curve = pd.read_parquet(written / "curves.parquet")
    np.testing.assert_allclose(curve["improvement"], curve["eps_signal"] / np.sqrt(curve["eps_background"]))
    assert (curve["eps_background"] * 400 >= 25 - 1e-9).all()
    nulls = pd.read_parquet(written / "nulls.parquet")
    assert nulls["experiment"].tolist() == [0, 0]
    costs = pd.read_parquet(written / "costs.parquet")
    assert (costs["cpu_seconds"] > 0).all()
    said = json.loads((written / "bench.json").read_text())
    assert said["n_cells"] == 4
    assert [standing["method"] for standing in said["ranking"] if standing["n_injected"] == 150]
    sidecar = json.loads((written / "cells.parquet.meta.json").read_text())
    assert sidecar["origin"]["kind"] == "simulated"


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped_and_gives_the_same_bytes(done, few, monkeypatch):
    folder, _ = done
    ledger = folder / "results" / "tiny" / "bench" / "bench.ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    here = few / "results" / "tiny" / "bench"
    here.mkdir(parents=True)
    (here / "bench.ledger.jsonl").write_text("".join(lines[:-1]))  # all but the last cell
    begun = []
    read = matrix.read
    monkeypatch.setattr(matrix, "read", lambda part: begun.extend(each.key for each in part) or read(part))
    command.written(bench_of(nulls=1))
    assert begun == [json.loads(lines[-1])["key"]]
    for name in ("cells", "curves", "nulls"):
        again = (here / f"{name}.parquet").read_bytes()
        assert again == (folder / "results" / "tiny" / "bench" / f"{name}.parquet").read_bytes()
    with pytest.raises(UserError, match="begun with bench.events = 3000, which is now 2000"):
        matrix.run(bench_of(nulls=1, events=2000))


@pytest.mark.slow
def test_figures_of_every_kind(done):
    folder, _ = done
    saved = SimpleNamespace(
        run=SimpleNamespace(path=lambda product: product.at(folder / "results" / "tiny")),
        optional_table=pd.read_parquet,
        optional_json=lambda path: json.loads(path.read_text()),
    )
    made = {drawing.name: drawing for drawing in figures.drawings(saved)}
    kinds = ("ranking", "improvement", "costs", "scores")
    assert list(made) == [f"bench_{kind}_simulated_paper" for kind in kinds]
    ranked = made["bench_ranking_simulated_paper"]
    assert "CWoLa hunting has the largest significance improvement" in ranked.caption
    labels = [label.get_text() for label in ranked.draw().axes[0].get_yticklabels()]
    best = ranked.table.groupby("method")["improvement_max"].median().idxmax()
    assert labels[0] == {"cwola": "CWoLa hunting", "supervised": "supervised"}[best]
    for drawing in made.values():
        assert drawing.draw().axes
        assert "holds a signal" not in drawing.caption
    saved.optional_table = lambda path: pd.read_parquet(path).assign(n_injected=0)
    for drawing in figures.drawings(saved):
        if drawing.table is not None and "n_injected" in drawing.table:
            assert "None of these samples holds a signal to learn" in drawing.caption, drawing.name


def test_the_figure_of_what_is_seen_names_the_leaders_and_draws_all():
    names = [*list(METHODS)[:12], detection.BEST]
    rows = [
        {"method": name, "n_injected": n, "k": min(place, 10), "n": 10, "low": 0.0, "high": 1.0}
        for place, name in enumerate(names)
        for n in (50, 100)
    ]
    axes = figures.seen(pd.DataFrame(rows), Dataset()).axes[0]
    shown = {text.get_text() for text in axes.get_legend().get_texts()}
    bounds = {METHODS[name].title for name in names[:-1] if METHODS[name].needs == Needs.TRUTH}
    assert len(shown) == figures.N_LEADERS + len(bounds)
    assert {"best of three"} | bounds <= shown
    assert len([line for line in axes.lines if len(line.get_xdata()) == 2]) >= len(names)


@pytest.mark.slow
def test_samples_with_more_signal_have_the_same_background(few):
    config = Config.model_validate({**TINY, "bench": CHOSEN})

    def drawn(n_injected, leak=0.0, noise=0):
        source = Simulated(n_injected, leak, noise)
        return source.drawn(Scenario("x", "os", config, Stream(3), source, {}))

    none, some, leaking, noisy = drawn(0), drawn(200), drawn(200, leak=0.5), drawn(200, noise=2)
    np.testing.assert_array_equal(some.events.features[: len(none.events)], none.events.features)
    assert 150 < len(some.events) - len(none.events) <= 200
    added = leaking.events.mass[len(none.events) :]
    assert WINDOW.in_sidebands(added).sum() >= 100
    assert noisy.events.names == (*config.features.names, "noise_0", "noise_1")
    assert abs(np.corrcoef(noisy.events.features[:, -1], noisy.events.mass)[0, 1]) < 0.1
    labelled = some.further.mass
    assert WINDOW.in_sr(labelled).all()
    assert not np.isin(some.truth.background.features, some.further.features).any()
    assert not np.isin(some.further.features[:, 0], some.events.features[:, 0]).any()
    source = Simulated(0, 0.0, 0)
    null = source.null(Scenario("x", "os", config, Stream(3), source, {}), 0)
    assert not np.isin(null.features[:, 0], none.events.features[:, 0]).any()


def test_labelled_background_has_the_spectrum_of_the_files():
    """All are anti-isolated, the mass falls; a wrong simulation is harder in pT."""
    rng = np.random.default_rng(1)
    right = background_events(4000, WINDOW, rng)
    wrong = background_events(4000, WINDOW, rng, processes=[mismodelled(HADRON_DECAYS), mismodelled(DRELL_YAN_IN_JETS)])
    assert (right[["mu0_iso04", "mu1_iso04"]] > 0.55).all(axis=None)
    assert WINDOW.in_window(right["dimu_mass"]).all()
    counts = np.histogram(right["dimu_mass"], [5, 8, 11, 14])[0]
    assert (np.diff(counts) < 0).all()
    assert wrong["dimu_pt"].median() > right["dimu_pt"].median()
    narrow = background_events(500, replace(WINDOW, sb_low=9.0 - 1e-6, sb_high=10.6 + 1e-6), rng)
    assert WINDOW.in_sr(narrow["dimu_mass"]).mean() > 0.99


@pytest.mark.slow
def test_scores_of_the_user_stand_among_the_methods(few):
    """The events are those of the table of scores; its rows may be in any order, and a column may be missing."""
    config = Config.model_validate({**TINY, "bench": CHOSEN})
    source = Simulated(200, 0.0, 0)
    events = source.drawn(Scenario("x", "os", config, Stream(3), source, {})).events
    frame = pd.DataFrame(events.columns).assign(
        dimu_mass=events.mass, score=1 / (1 + np.exp(-events.columns["dimu_pt"] / 50))
    )
    frame.sample(frac=1.0, random_state=1).to_parquet("scored.parquet")
    given = {
        **TINY,
        "input": {"scores": "scored.parquet"},
        "bench": {"methods": ["handed_in", "cwola"], "samples": ["data"], "seeds": 1},
    }
    bench = Bench(provenance.Run(Config.model_validate(given), BENCH_MAKER.command, "s.yaml"), "bench", AtOnce())
    table = tables.cells(matrix.run(bench)).set_index("method")
    assert table.index.tolist() == ["handed_in", "cwola"]
    assert (table["n_events"] == len(events)).all()
    assert table.loc["handed_in", "z0_loose"] > 2
    lacking = Bench(
        provenance.Run(Config.model_validate({**given, "features": {"set": ["dimu_eta"]}}), BENCH_MAKER.command),
        "bench",
        AtOnce(),
    )
    shutil.rmtree("results")
    outcomes = matrix.run(lacking)
    assert {each.failed for each in outcomes} == {
        "UserError: scored.parquet: no column dimu_eta, which the methods of the bench train on"
    }


@pytest.mark.parametrize(
    ("bench", "message"),
    [
        ({"methods": ["cathod"]}, "unknown method 'cathod'; there are "),
        ({"methods": ["cwola", "cwola"]}, "name at least one method, each once"),
        ({"features": ["papers"]}, "unknown feature set 'papers'"),
        ({"features": [["dimu_pt", "dimu_pt"]]}, "a set names at least one feature, each once"),
        ({"leak": [1.0]}, "less than 1"),
        ({"events": 10}, "greater than or equal to 1000"),
    ],
)
def test_settings_that_cannot_be(bench, message):
    with pytest.raises(ValueError, match=message):
        Config.model_validate({**TINY, "bench": bench})


def test_what_cannot_be_done_is_said(few):
    with pytest.raises(UserError, match="bench.features: the simulation has no n_jets; it has .*dimu_pt"):
        matrix.run(bench_of(features=[["n_jets"]]))
    alone = bench_of(methods=["supervised"], samples=["data"])
    with pytest.raises(UserError, match="none of them can be done on data alone"):
        matrix.run(alone)
    failed = Outcome(next(cells(bench_of())), failed="AnalysisError: no")
    with pytest.raises(UserError, match="every cell of the bench failed, the first with: AnalysisError: no"):
        tables.cells([failed])


def standing(method, gain, low, high, **place):
    """A method with a band of its improvement."""
    where = {"sample": "simulated", "features": "paper", "leak": 0.0, "noise": 0, "n_injected": 200} | place
    bands = {"improvement_max": Band(3, gain, low, high)}
    return Standing(
        **where, method=method, title=method, is_bound=method == "idealised", n=3, n_sculpted=0, bands=bands
    )


def test_detections_are_those_of_the_same_rate_of_false_alarms():
    """Of 40 samples without a signal 2 lie above the threshold; the best of three has a higher one of its own."""
    rng = np.random.default_rng(4)
    place = {"sample": "simulated", "features": "paper", "leak": 0.0, "noise": 0}

    def rows(n, shift, n_injected):
        z0 = {name: rng.normal(shift, 1, n) for name in detection.PARTS}
        return [
            {**place, "n_injected": n_injected, "method": name, "repeat": i, "experiment": i, "z0_loose": z0[name][i],
             "z0_tight": np.nan, "z0_max": np.nan}
            for name in z0 for i in range(n)
        ]  # fmt: skip

    nulls, signals = pd.DataFrame(rows(40, 0.0, 0)), pd.DataFrame(rows(30, 2.5, 100))
    found = {each.method: each for each in detection.detections(signals, nulls)}
    table = nulls.pivot_table(index="repeat", columns="method", values="z0_loose")
    one = found["cathode"]
    assert (table["cathode"] > one.threshold).sum() == 2
    assert one.n_nulls == 40
    assert one.k == (signals.loc[signals["method"] == "cathode", "z0_loose"] > one.threshold).sum()
    best = found[detection.BEST]
    assert (table.max(axis=1) > best.threshold).sum() == 2
    assert best.threshold > max(found[name].threshold for name in detection.PARTS) - 1e-12
    assert best.k >= one.k - 3
    assert list(detection.detections(signals, nulls[nulls["repeat"] < 19])) == []  # too few
    (sentence,) = detection.words(list(found.values()))
    assert sentence.startswith("100 signal events, features paper, cut that keeps 10 %: at a false-alarm rate of 5 %")


def test_words_follow_from_the_numbers():
    ranking = [
        standing("idealised", 2.0, 1.9, 2.1),
        standing("cathode", 1.8, 1.7, 1.9),
        standing("cwola", 1.6, 1.5, 1.75),
        standing("anode", 1.2, 1.1, 1.3),
        standing("cathode", 1.0, 0.9, 1.1, n_injected=0),
    ]
    (said,) = summary.words(ranking)
    assert said.startswith("200 signal events, features paper: cathode has the largest significance improvement, 1.80")
    assert "90 % of the idealised method's; with bands that reach it: cwola." in said


def test_the_order_of_the_literature_is_compared_sample_by_sample():
    rows = [
        {"repeat": repeat, "method": method, "improvement_max": gain + shift}
        for repeat, shift in enumerate([0.0, 0.5, 1.0])
        for method, gain in (("idealised", 2.0), ("cathode", 1.8), ("cwola", 1.9))
    ]
    frame = pd.DataFrame(rows).assign(sample="simulated", features="paper", leak=0.0, noise=0, n_injected=100)
    first, second = summary.pairs(frame)
    assert (first.better, first.worse, second.worse) == ("idealised", "cathode", "cwola")
    assert first.difference == pytest.approx(0.2)
    assert first.error == pytest.approx(0, abs=1e-9)
    assert first.words.endswith("(as reported)")
    assert second.words.endswith("(NOT as reported)")


def test_the_command_says_what_is_wrong_in_one_line(few, capsys):
    Path("x.yaml").write_text("name: x\nseed: 1\ninput: {simulation: {}}\nbench: {methods: [nothing]}\n")
    assert main(["bench", "x.yaml"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "x.yaml" in line
    assert "bench.methods" in line
    assert "unknown method 'nothing'" in line
