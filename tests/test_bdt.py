"""The classifier ensemble: nobody is scored by a model that saw it, and the scores are what they claim to be."""

import runpy
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.metrics import roc_auc_score

from dimuon.classifiers import archive, cross_validation, importance
from dimuon.classifiers.kinds.dense import DenseSettings
from dimuon.classifiers.kinds.hist_gradient_boosting import HistGradientBoostingSettings
from dimuon.classifiers.kinds.xgboost import XGBoostSettings
from dimuon.classifiers.protocol import CLASSIFIERS, ClassifierSettings, balanced
from dimuon.columns import COLUMNS
from dimuon.data import background_table, dimuons, scores
from dimuon.errors import AnalysisError, UserError
from dimuon.events import Events
from dimuon.features import FEATURE_SETS
from dimuon.random import Stream
from dimuon.workflow import config, executor, provenance

STEP = Path(__file__).resolve().parent.parent / "05_train_bdts.py"
STREAM = Stream(7).child("bdt", "os")


def toy(n_sr=400, n_sideband=600, n_background=1500, n_signal=120, seed=1):
    """(data, in_sr, background, is_signal): background N(0, 1) in two features, signal N(1.5, 0.5) in the SR."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(1.5, 0.5, (n_signal, 2))
    data = np.concatenate([signal, rng.normal(size=(n_sr - n_signal + n_sideband, 2))])
    order = rng.permutation(len(data))
    in_sr, is_signal = np.arange(len(data)) < n_sr, np.arange(len(data)) < n_signal
    return data[order], in_sr[order], rng.normal(size=(n_background, 2)), is_signal[order]


def events_of(features, weight=None):
    """Events with features alone: no classifier asks for the mass."""
    return Events.of(np.full(len(features), np.nan), features, weight=weight)


def train(data, in_sr, background, pool=None, others=None, weight=None, **changes):
    """weight: of the background."""
    settings = {"n_members": 4, "n_folds": 5, "stream": STREAM, "settings": XGBoostSettings()} | changes
    tables = {name: events_of(table) for name, table in (others or {}).items()}
    with pool or ThreadPoolExecutor(1) as executor:
        return cross_validation.train(
            events_of(data), in_sr, events_of(background, weight), pool=executor, others=tables, **settings
        )


def unpacked(ensemble):
    """The classifiers of each fold, stored and restored."""
    return archive.unpack(archive.pack(ensemble.models, {"classifier": ensemble.kind}))[1]


class Memory:
    """A classifier that only remembers: score 1 for the events it was given, 0 for all others."""

    Settings = ClassifierSettings
    suffix = "json"
    libraries = ()

    def __init__(self, settings):
        self.settings = settings

    def fit(self, training, seeds):
        parts = training.train, training.validation
        self.seen = {row.tobytes() for part in parts for row in np.ascontiguousarray(part.x)}
        self.seeds = list(seeds)
        return self

    def score(self, x):
        known = [float(row.tobytes() in self.seen) for row in np.ascontiguousarray(x)]
        return np.column_stack([known for _ in self.seeds])

    def to_bytes(self):
        return [b"" for _ in self.seeds]


@pytest.mark.parametrize(("n_folds", "others"), [(5, 0.8), (2, 0.5)])
def test_no_event_is_scored_by_a_model_that_saw_it(monkeypatch, n_folds, others):
    monkeypatch.setitem(CLASSIFIERS._parts, "memory", Memory)
    data, in_sr, background, _ = toy()
    ensemble = train(
        data, in_sr, background, settings=ClassifierSettings(kind="memory"), n_folds=n_folds, others={"copy": data}
    )
    assert (ensemble.data.members == 0).all()
    assert (ensemble.background.members == 0).all()
    # the same events as a foreign table: every SR event was seen by the models of the other folds, so the
    # zeros above are the folds' doing; sideband events were seen by none
    assert ensemble.others["copy"].mean[in_sr] == pytest.approx(others)
    assert (ensemble.others["copy"].mean[~in_sr] == 0).all()


def test_folds_are_random_equal_and_rotate():
    fold = cross_validation.assign_folds(1003, 5, np.random.default_rng(0))
    assert np.ptp(np.bincount(fold)) <= 1
    assert np.abs(np.corrcoef(fold, np.arange(1003))[0, 1]) < 0.1
    tested = np.zeros(1003)
    for test in range(5):
        masks = np.array(cross_validation.roles(fold, test, STREAM))
        assert (masks.sum(axis=0) == 1).all()
        assert masks.sum(axis=1) == pytest.approx([3 / 5 * 1003, 1003 / 5, 1003 / 5], abs=3)
        tested += masks[2]
    assert (tested == 1).all()


def test_two_halves_train_for_each_other_and_stop_on_a_quarter_of_their_own():
    fold = cross_validation.assign_folds(1003, 2, np.random.default_rng(0))
    stopped_on = []
    for test in range(2):
        train_on, stop_on, tested = np.array(cross_validation.roles(fold, test, STREAM))
        assert (tested == (fold == test)).all()
        assert (train_on + stop_on == (fold != test)).all()
        assert not (train_on & stop_on).any()
        assert stop_on.sum() == pytest.approx(0.25 * (fold != test).sum(), abs=1)
        stopped_on.append(np.flatnonzero(stop_on))
    assert len(set(stopped_on[0]) | set(stopped_on[1])) == sum(map(len, stopped_on))
    assert not np.array_equal(stop_on, cross_validation.roles(fold, 1, Stream(7))[1])


@pytest.mark.parametrize("n_folds", [2, 3])
def test_the_least_events_have_every_role(n_folds):
    for offset in range(n_folds):
        fold = (np.arange(cross_validation.least_events(n_folds)) + offset) % n_folds
        assert all(mask.any() for test in range(n_folds) for mask in cross_validation.roles(fold, test, STREAM))


def test_scores_alone_are_the_same_as_of_the_whole_ensemble():
    data, in_sr, background, _ = toy()
    whole, alone = (train(data, in_sr, background, n_members=2, n_folds=2, whole=whole) for whole in (True, False))
    np.testing.assert_array_equal(alone.data.members, whole.data.members)
    assert [len(models) for models in alone.models.values()] == [0, 0]
    assert len(alone.background.fold) == 0
    assert [len(models) for models in whole.models.values()] == [2, 2]


def test_folds_share_sr_and_sidebands_evenly():
    data, in_sr, background, _ = toy()
    fold = train(data, in_sr, background, n_members=1).data.fold
    for region in (in_sr, ~in_sr):
        assert np.ptp(np.bincount(fold[region])) <= 1


@pytest.mark.slow
def test_same_bytes_for_any_number_of_workers(monkeypatch):
    monkeypatch.setattr(cross_validation, "MEMBERS_PER_TASK", 2)
    data, in_sr, background, _ = toy()
    ensembles = [
        train(data, in_sr, background, pool=pool, others={"ss": data[:50]})
        for pool in (
            ThreadPoolExecutor(1),
            executor.executor(1, preload=cross_validation.worker_modules(XGBoostSettings())),
            executor.executor(3),
        )
    ]
    manifest = {"classifier": "xgboost", "features": ["a", "b"]}
    assert len({archive.pack(ensemble.models, manifest) for ensemble in ensembles}) == 1
    for ensemble in ensembles[1:]:
        np.testing.assert_array_equal(ensemble.data.members, ensembles[0].data.members)
        np.testing.assert_array_equal(ensemble.others["ss"].members, ensembles[0].others["ss"].members)


def test_seed_decides():
    data, in_sr, background, _ = toy()
    first, again, other = (train(data, in_sr, background, stream=Stream(seed).child("bdt", "os")) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.data.members, again.data.members)
    assert not np.array_equal(first.data.members, other.data.members)
    assert not np.array_equal(first.data.fold, other.data.fold)
    assert len({model for models in first.models.values() for model in models}) == 20


@pytest.mark.slow
def test_members_are_those_of_xgbclassifier():
    """Trained the plain way, one `XGBClassifier.fit` after the other, the members are the same to float32."""
    data, in_sr, background, _ = toy()
    ensemble = train(data, in_sr, background, n_members=2)
    fold, background_fold = (
        cross_validation.assign_folds(n, 5, STREAM.child("folds", name).generator())
        for n, name in ((in_sr.sum(), "sr"), (len(background), "background"))
    )
    sr = data[in_sr]
    for test in range(5):
        (a, b, c), (d, e, _) = (cross_validation.roles(each, test, STREAM) for each in (fold, background_fold))
        samples = [(sr[a], background[d]), (sr[b], background[e])]
        x = [np.concatenate(pair) for pair in samples]
        y = [np.r_[np.ones(len(s)), np.zeros(len(t))] for s, t in samples]
        w = [np.where(label == 1, len(t) / len(s), 1) for label, (s, t) in zip(y, samples, strict=True)]
        for member in range(2):
            paper = {"n_estimators": 300, "max_depth": 3, "learning_rate": 0.1, "subsample": 0.7}
            seed = STREAM.child(test, member).integer()
            plain = xgboost.XGBClassifier(**paper, early_stopping_rounds=10, eval_metric="logloss", random_state=seed)
            plain.fit(
                x[0],
                y[0],
                sample_weight=w[0],
                eval_set=[(x[1], y[1])],
                sample_weight_eval_set=[w[1]],
                verbose=False,
            )
            ours = ensemble.data.members[in_sr][c, member]
            best = (0, plain.best_iteration + 1)  # the best tree included
            np.testing.assert_allclose(ours, plain.predict_proba(sr[c], iteration_range=best)[:, 1], atol=1e-6)


def test_a_common_factor_of_all_weights_changes_nothing():
    """A power of two, which no rounding touches: the same bytes with it as without weights."""
    data, in_sr, background, _ = toy()
    plain, scaled = (train(data, in_sr, background, n_members=1, weight=np.full(1500, w)) for w in (1.0, 0.25))
    assert scaled.models == plain.models == train(data, in_sr, background, n_members=1).models
    np.testing.assert_array_equal(scaled.data.members, plain.data.members)


def test_weights_follow_their_events_through_the_folds():
    """Background that is signal-like with weight 0 is as if it were not there, whatever fold it is in."""
    data, in_sr, background, is_signal = toy()
    like_signal = np.random.default_rng(8).normal(1.5, 0.5, (500, 2))
    mixed, weight = np.concatenate([background, like_signal]), np.repeat([1.0, 0.0], [1500, 500])
    order = np.random.default_rng(9).permutation(2000)
    ignored = train(data, in_sr, mixed[order], weight=weight[order]).data.mean
    believed = train(data, in_sr, mixed[order]).data.mean
    assert roc_auc_score(is_signal[in_sr], ignored[in_sr]) > 0.8 > roc_auc_score(is_signal[in_sr], believed[in_sr])


@pytest.mark.parametrize("weight", [-1.0, np.inf])
def test_weights_that_cannot_be(weight):
    data, in_sr, background, _ = toy()
    with pytest.raises(AnalysisError, match=f"background events: the weight of event 7 is {weight}"):
        train(data, in_sr, background, weight=np.where(np.arange(1500) == 7, weight, 1.0))
    with pytest.raises(AnalysisError, match="the sampled background events have weight 0, all of them"):
        train(data, in_sr, background, weight=np.zeros(1500))


def test_score_estimates_the_density_ratio():
    """z = p_data / (p_data + p_background) of two normal distributions, known in closed form."""
    rng = np.random.default_rng(3)
    data, background = rng.normal(0.5, 1, (4000, 1)), rng.normal(0, 1, (12000, 1))
    score = train(data, np.ones(4000, dtype=bool), background, n_members=2).data.mean
    truth = 1 / (1 + np.exp(-(0.5 * data[:, 0] - 0.125)))
    middle = np.abs(data[:, 0]) < 2  # beyond, too few events to learn from
    assert np.abs(score - truth)[middle].mean() < 0.03  # three times finer than the spread of the truth, 0.11
    assert np.corrcoef(score[middle], truth[middle])[0, 1] > 0.95


def test_finds_a_signal_and_invents_none():
    data, in_sr, background, is_signal = toy()
    found = train(data, in_sr, background).data.mean
    assert roc_auc_score(is_signal[in_sr], found[in_sr]) > 0.8
    rng = np.random.default_rng(5)
    null = rng.normal(size=(4000, 2))
    invented = train(null[:1000], np.ones(1000, dtype=bool), null[1000:])
    label = np.r_[np.ones(1000), np.zeros(3000)]
    auc = roc_auc_score(label, np.r_[invented.data.mean, invented.background.mean])
    assert abs(auc - 0.5) < 0.045  # standard error 0.0105, and folds differ in their baselines


@pytest.mark.slow
@pytest.mark.parametrize("settings", [HistGradientBoostingSettings(), DenseSettings(epochs=30)])
def test_any_classifier_takes_the_place_of_the_trees(settings):
    data, in_sr, background, is_signal = toy()
    ensemble = train(data, in_sr, background, settings=settings, n_members=2, n_folds=3)
    assert roc_auc_score(is_signal[in_sr], ensemble.data.mean[in_sr]) > 0.8
    folds = unpacked(ensemble)
    own = np.stack([models.score(data).mean(axis=1) for models in folds], axis=1)
    np.testing.assert_allclose(own[np.arange(len(data)), ensemble.data.fold], ensemble.data.mean, rtol=1e-5)


def test_scores_of_another_charge_are_the_mean_of_all_models():
    data, in_sr, background, _ = toy()
    foreign = toy(seed=9)[0]
    ensemble = train(data, in_sr, background, others={"ss": foreign})
    folds = unpacked(ensemble)
    every = np.concatenate([models.score(foreign) for models in folds], axis=1)
    assert every.shape == (len(foreign), 20)
    np.testing.assert_allclose(ensemble.others["ss"].mean, every.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(ensemble.others["ss"].spread, every.std(axis=1), rtol=1e-5)
    assert (ensemble.others["ss"].fold == -1).all()
    own = np.stack([models.score(data).mean(axis=1) for models in folds], axis=1)
    np.testing.assert_allclose(ensemble.data.mean, own[np.arange(len(data)), ensemble.data.fold], rtol=1e-6)


@pytest.mark.parametrize(
    ("n_sr", "n_background", "message"),
    [
        (3, 100, "3 SR events"),
        (100, 4, "4 sampled background events"),
        (100, 0, "0 sampled background events"),
    ],
)
def test_fewer_events_than_folds(n_sr, n_background, message):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(n_sr + 50, 2))
    with pytest.raises(AnalysisError, match=f"{message} for 5 folds") as error:
        train(data, np.arange(n_sr + 50) < n_sr, rng.normal(size=(n_background, 2)))
    assert error.value.setting == "folds"


def test_one_class_only_is_refused():
    with pytest.raises(ValueError, match="two classes are needed, found 0 data and 3 background"):
        balanced(events_of(np.empty((0, 2))), events_of(np.ones((3, 2))))


@pytest.mark.parametrize("where", ["data", "background", "ss"])
def test_nan_is_refused(where):
    data, in_sr, background, _ = toy()
    others = {"ss": data.copy()}
    {"data": data, "background": background, **others}[where][5, 1] = np.nan
    with pytest.raises(AnalysisError, match=r"feature 1 of event \d+ is nan"):
        train(data, in_sr, background, others=others)


@pytest.mark.parametrize("content", [b"PK no zip", archive.pack({}, {"classifier": "xgboost"})[:-9]])
def test_unreadable_archive(content):
    with pytest.raises(ValueError, match="not an archive of classifiers"):
        archive.unpack(content)


@pytest.fixture
def analysis(tmp_path, monkeypatch):
    """A small analysis that starts at step 3 with a table of both charges, its background already sampled."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(11)
    n = 1500
    frame = pd.DataFrame(
        {
            "dimu_mass": rng.uniform(4.5, 16, n),
            "charge": rng.choice(["OS", "SS"], n),
            "dimu_pt": rng.exponential(20, n) + 20,
            "mu0_ip3d": rng.exponential(0.01, n),
            "mu1_ip3d": rng.exponential(0.01, n),
        }
    )
    frame.to_parquet("mine.parquet")
    Path("small.yaml").write_text(
        "name: small\nseed: 3\ninput: {dimuons: mine.parquet}\nbdt: {members: 3}\nexecution: {workers: 2}\n"
    )
    names = ["dimu_pt", "mu0_ip3d", "mu1_ip3d"]
    fourth = provenance.Run(config.load("small.yaml"), "04_sample_background.py", "small.yaml")

    def sample(charge, change=lambda frame: frame):
        events = frame[names].sample(500, replace=True, random_state=1, ignore_index=True)
        events = events.assign(dimu_mass=rng.uniform(9, 10.6, 500), region="SR", member=0, use="train")
        fourth.write_table(background_table.path(fourth, charge), change(events), ["mine.parquet"])

    sample("os")
    sample("ss")

    def step(chosen=None, script=STEP.name):
        run = provenance.Run(chosen or config.load("small.yaml"), script, "small.yaml")
        runpy.run_path(str(STEP.with_name(script)))["main"](run)
        return run

    run = provenance.Run(config.load("small.yaml"), STEP.name, "small.yaml")
    return SimpleNamespace(run=run, frame=frame, sample=sample, step=step)


@pytest.mark.slow
def test_step_5_scores_every_dimuon_in_the_window(analysis):
    analysis.step()
    inside = analysis.frame["dimu_mass"].between(5, 16)
    for train_charge in ("os", "ss"):
        for test in ("os", "ss"):
            table = pd.read_parquet(f"data/small/scores_{train_charge}_on_{test}.parquet")
            expected = analysis.frame.index[inside & (analysis.frame["charge"] == test.upper())]
            np.testing.assert_array_equal(table["row"], expected)
            assert set(table["fold"]) == (set(range(5)) if train_charge == test else {-1})
            assert table["score"].between(0, 1).all()
            assert table["score_std"].between(0, 0.5).all()
            assert table["score"].nunique() > 100
        sampled = pd.read_parquet(f"data/small/scores_{train_charge}_on_background.parquet")
        background = pd.read_parquet(f"data/small/background_{train_charge}.parquet")
        in_sr = background.index[(background["region"] == "SR") & (background["use"] != "closure")]
        np.testing.assert_array_equal(sampled["row"], in_sr)
        assert set(sampled["fold"]) == set(range(5))
        manifest, folds = archive.unpack(Path(f"data/small/bdts_{train_charge}.zip").read_bytes())
        assert manifest["features"] == ["dimu_pt", "mu0_ip3d", "mu1_ip3d"]
        assert [len(models.members) for models in folds] == [3] * 5


@pytest.mark.slow
def test_step_5_again_gives_the_same_bytes(analysis):
    analysis.step()
    folder = Path("data/small")
    first = {path.name: path.read_bytes() for path in folder.glob("*[pt]") if path.suffix in (".zip", ".parquet")}
    analysis.step()
    assert {name: (folder / name).read_bytes() for name in first} == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="mu0_ip3d"), "background_os.parquet: column mu0_ip3d is missing"),
        (
            lambda frame: frame.assign(dimu_pt=np.nan),
            "background_os.parquet: dimu_pt is not finite in row 0 .nan; 500 such values.",
        ),
        (lambda frame: frame.assign(region="SBL"), "background_os.parquet: no SR event for training"),
        (lambda frame: frame.assign(use="closure"), "background_os.parquet: no SR event for training"),
        (
            lambda frame: frame[:4],
            "mine.parquet: 4 sampled background events for 5 folds: .*; the setting is bdt.folds",
        ),
    ],
)
def test_background_that_cannot_be_trained_on(analysis, change, message):
    analysis.sample("os", change)
    with pytest.raises(UserError, match=message):
        analysis.step()


def test_background_with_weights(analysis):
    """Unit weights in the file give the same scores as none; others do not. A weight that is no number is named."""
    read = {}
    for name, change in {
        "none": lambda frame: frame,
        "units": lambda frame: frame.assign(weight=1.0),
        "weights": lambda frame: frame.assign(weight=frame["dimu_pt"] / 20),
    }.items():
        analysis.sample("os", lambda frame, change=change: change(frame.head(400)))
        events = background_table.read(analysis.run, "os", ["dimu_pt"])
        read[name] = events.weight
    np.testing.assert_array_equal(read["none"], np.ones(400))
    np.testing.assert_array_equal(read["units"], np.ones(400))
    np.testing.assert_array_equal(read["weights"], events.features[:, 0] / 20)
    analysis.sample("os", lambda frame: frame.assign(weight=np.nan))
    with pytest.raises(UserError, match=r"background_os.parquet: weight is not finite in row 0 \(nan"):
        background_table.read(analysis.run, "os", ["dimu_pt"])


def test_feature_missing_from_the_dimuons(analysis):
    chosen = analysis.run.config.model_copy(update={"features": config.Features(set="mix_0")})
    with pytest.raises(UserError, match="mine.parquet: column mu0_iso04 is missing"):
        analysis.step(chosen)


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_every_feature_set_is_one_word_in_the_yaml(name, tmp_path):
    (tmp_path / "a.yaml").write_text(f"name: a\nseed: 1\ninput: {{dimuons: x.parquet}}\nfeatures: {{set: {name}}}\n")
    names = config.load(tmp_path / "a.yaml").features.names
    assert names == list(FEATURE_SETS[name])
    assert "dimu_mass" not in names
    assert set(names) <= COLUMNS.keys()


def test_sidebands_too_thin_for_the_mass_fit(analysis):
    frame = analysis.frame
    thin = frame["dimu_mass"].between(9, 10.6) | frame["dimu_mass"].between(8.9, 9.0) | (frame.index % 150 == 0)
    frame[thin].to_parquet("mine.parquet")
    analysis.sample("os")
    analysis.sample("ss")
    with pytest.raises(UserError, match=r"scores_os_on_.s.parquet: \d+ sideband bins .* polynomial of degree 5"):
        analysis.step()


def test_missing_background_names_the_step(analysis):
    Path("data/small/background_ss.parquet").unlink()
    with pytest.raises(
        UserError, match="background_ss.parquet: not found; run `python 04_sample_background.py small.yaml`"
    ):
        analysis.step()


@pytest.mark.slow
def test_step_5_keeps_members_and_reports(analysis):
    config_file = Path("small.yaml")
    config_file.write_text(config_file.read_text().replace("members: 3", "members: 3, keep_members: true"))
    run = analysis.step(config.load(config_file))
    for train_charge, test in (("os", "os"), ("ss", "os")):
        table = pd.read_parquet(f"data/small/scores_{train_charge}_on_{test}.parquet")
        members = scores.read_members(run, train_charge, test, table["row"])
        np.testing.assert_allclose(members.mean(axis=1), table["score"], rtol=1e-6)
        assert members.shape[1] == 3
        record = provenance.load_json(f"data/small/sculpting_{train_charge}_on_{test}.json")
        assert len(record["working_points"]) == 25
        assert ("sampled_background_in_sr" in record) == (train_charge == test)
        efficiency = pd.read_parquet(f"data/small/sculpting_{train_charge}_on_{test}.parquet")
        assert efficiency.query("fpr == 1")["efficiency"].dropna().eq(1).all()
        assert not efficiency.query("fpr == 1")["sculpted"].any()
        cuts = efficiency.groupby("fpr").agg(cut=("cut", "first"), n_after=("n_after", "sum"))
        in_bins = run.config.window.binning(11).index(analysis.frame["dimu_mass"][table["row"]]) >= 0
        passing = [(table["score"][in_bins] >= cut).sum() for cut in cuts["cut"]]
        assert cuts["n_after"].tolist() == passing
    assert set(provenance.load_json("data/small/importance_os.json")["features"]) == {"dimu_pt", "mu0_ip3d", "mu1_ip3d"}


@pytest.mark.slow
def test_step_6_takes_the_median_of_the_members(analysis):
    """The ATLAS combination: the counts after each cut are medians over the members, each with its own cut."""
    config_file = Path("small.yaml")
    config_file.write_text(
        config_file.read_text().replace("members: 3", "members: 3, combination: median")
        + "significance: {degree: 2, fpr_min: 0.1, n_working_points: 5, figure_fprs: [1.0, 0.1], degrees: [], "
        "toys: {local: 0, scan: 0, weights: 0}}\n"
    )
    chosen = config.load(config_file)
    analysis.step(chosen)
    analysis.step(chosen, "06_significance.py")
    curves = pd.read_parquet("results/small/significance_curves.parquet")
    curves = curves.query("train == 'os' and test == 'os' and variable == 'cathode'").sort_values("fpr")
    run = provenance.Run(chosen, "06_significance.py", "small.yaml")
    events = dimuons.Dimuons(run).frame("os", ["region"])
    members = scores.read_members(run, "os", "os", events["row"])
    in_sr, bins = (events["region"] == "SR").to_numpy(), chosen.window.binning(11)
    mass = events["dimu_mass"].to_numpy()
    for fpr, n_obs in curves[["fpr", "n_obs"]].to_numpy()[:-1]:
        counts = []
        for score in members.T:
            cut = np.sort(score[~in_sr])[::-1][round(fpr * np.sum(~in_sr)) - 1]
            counts.append(np.histogram(mass[score >= cut], bins.edges[bins.n_bins_sbl : -bins.n_bins_sbh])[0])
        assert n_obs == np.median(counts, axis=0).sum()
    config_file.write_text(config_file.read_text().replace("fpr_min: 0.1", "fpr_min: 0.001"))
    with pytest.raises(UserError, match="sideband histograms is empty; .*; the setting is significance.fpr_min"):
        analysis.step(config.load(config_file), "06_significance.py")


def test_members_that_were_not_kept(analysis):
    with pytest.raises(UserError, match="members_os_on_os.parquet: not found; set bdt.keep_members: true"):
        scores.read_members(analysis.run, "os", "os", [0])


def test_importance_names_the_feature_that_matters():
    rng = np.random.default_rng(13)
    data, background = rng.normal([1, 0], 1, (1500, 2)), rng.normal(0, 1, (3000, 2))
    in_sr = np.arange(1500) < 1000
    with ThreadPoolExecutor(1) as pool:
        ensemble = train(data, in_sr, background, pool=_borrowed(pool))
        found = importance.importance(
            ensemble, events_of(data), in_sr, events_of(background), stream=STREAM, pool=pool
        ).to_json()
    matters, does_not = found["features"].values()
    assert found["auc"] == pytest.approx(0.76, abs=0.03)  # Phi(1 / sqrt 2)
    assert matters["auc_loss"] == pytest.approx(found["auc"] - 0.5, abs=0.05)
    assert abs(does_not["auc_loss"]) < 0.02
    assert matters["score_change"] > 1 > 0.3 > does_not["score_change"]


def test_importance_weighs_its_events():
    """The AUC of each fold is that of the weighted events, and unit weights are none."""
    data, in_sr, background, _ = toy()
    weight = np.random.default_rng(3).uniform(0, 2, len(background))
    with ThreadPoolExecutor(1) as pool:
        ensemble = train(data, in_sr, background, pool=_borrowed(pool), n_members=2)
        common = {"stream": STREAM, "pool": pool}
        weighted = importance.importance(ensemble, events_of(data), in_sr, events_of(background, weight), **common)
        plain = importance.importance(ensemble, events_of(data), in_sr, events_of(background), **common)
    aucs = []
    for w in (weight, None):
        by_fold = []
        for test in range(5):
            own, other = in_sr & (ensemble.data.fold == test), ensemble.background.fold == test
            score = np.r_[ensemble.data.mean[own], ensemble.background.mean[other]]
            label = np.repeat([1, 0], [own.sum(), other.sum()])
            weights = None if w is None else np.r_[np.ones(own.sum()), w[other]]
            by_fold.append(roc_auc_score(label, score, sample_weight=weights))
        aucs.append(np.mean(by_fold))
    assert (weighted.auc, plain.auc) == pytest.approx(aucs, rel=1e-6)
    assert abs(weighted.auc - plain.auc) > 1e-4
    assert weighted.features["feature_0"] != plain.features["feature_0"]


@contextmanager
def _borrowed(pool):
    yield pool


def test_scores_follow_the_dimuons():
    table = pd.DataFrame({"row": [2, 4, 9], "fold": 0, "score": [0.2, 0.4, 0.9], "score_std": 0.0})
    assert scores.match(table, [4, 9, 2])["score"].tolist() == [0.4, 0.9, 0.2]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"row": [2, 4], "score": 0.5}, "1 of 3 dimuons have no score, 0 of 2 scores have no dimuon"),
        ({"row": [2, 4, 9, 11], "score": 0.5}, "0 of 3 dimuons have no score, 1 of 4 scores have no dimuon"),
        ({"row": [2, 4, 9, 9], "score": 0.5}, "row 9 is there twice"),
        ({"row": [2, 4, 9], "score": [0.1, np.nan, 0.3]}, r"score nan in row 4 is not in \[0, 1\]"),
    ],
)
def test_scores_that_do_not_match_the_dimuons(table, message):
    with pytest.raises(UserError, match=message):
        scores.match(pd.DataFrame(table), [4, 9, 2], "scores_os_on_os.parquet")
