"""One interface, three classifiers: what is stored is what was trained, and each of them learns."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from dimuon.classifiers import kinds
from dimuon.classifiers.kinds import dense, hist_gradient_boosting
from dimuon.classifiers.kinds.hist_gradient_boosting import HistGradientBoostingSettings
from dimuon.classifiers.kinds.xgboost import XGBoost, XGBoostSettings
from dimuon.classifiers.protocol import CLASSIFIERS, Labelled, Split, TrainingSet, balanced, make
from dimuon.classifiers.settings import Bdt
from dimuon.errors import AnalysisError
from dimuon.events import Events

SMALL = {"dense": {"epochs": 15, "hidden": [16, 16]}}


def samples(n=800, seed=0, shift=0.8):
    """(data, background): log-normal in two features, the first one shifted in the data."""
    rng = np.random.default_rng(seed)
    data, background = rng.normal([shift, 0], 1, (n, 2)), rng.normal(0, 1, (3 * n, 2))
    return tuple(Split(*halves(np.exp(part))) for part in (data, background))


def halves(x, weight=None):
    """Three quarters of the events to train on, one to stop early on."""
    events = Events.of(np.full(len(x), np.nan), x, weight=weight)
    return events[: 3 * len(x) // 4], events[3 * len(x) // 4 :]


def small(kind):
    """An untrained classifier with settings that train fast."""
    made = CLASSIFIERS[kind]
    return made(made.Settings(**SMALL.get(kind, {})))


def test_a_classifier_is_one_file():
    """Every file of the folder registers one kind, and the configuration takes it with the settings of the file."""
    files = Path(kinds.__file__).parent.glob("[!_]*.py")
    assert sorted(CLASSIFIERS) == sorted(path.stem for path in files)
    for kind, made in CLASSIFIERS.items():
        chosen = Bdt(classifier={"kind": kind}).classifier
        assert chosen == made.Settings()
        assert type(make(chosen)) is made


def test_a_configuration_is_read_without_the_libraries_of_the_classifiers():
    slow = {library.split(".")[0] for made in CLASSIFIERS.values() for library in made.libraries}
    lines = f"import sys, dimuon.config; assert not {slow} & sys.modules.keys(), {slow} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", lines], check=True)
    assert slow == {"xgboost", "sklearn", "torch"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_stored_members_score_the_same(kind):
    data, background = samples()
    trained = small(kind).fit(TrainingSet.of(data, background), [3, 4])
    again = small(kind).fit(TrainingSet.of(data, background), [3, 4])
    assert trained.to_bytes() == again.to_bytes()
    assert len(set(trained.to_bytes())) == 2
    restored = CLASSIFIERS[kind].from_bytes(trained.to_bytes())
    x = np.concatenate([data.train.features, [[1e-9, 1e9]]])  # far outside the training range as well
    np.testing.assert_array_equal(restored.score(x), trained.score(x))
    assert ((trained.score(x) >= 0) & (trained.score(x) <= 1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_members_do_not_depend_on_each_other(kind):
    data, background = samples(200)
    together = small(kind).fit(TrainingSet.of(data, background), [1, 2]).to_bytes()
    alone = small(kind).fit(TrainingSet.of(data, background), [2]).to_bytes()
    assert together[1] == alone[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_learns_the_optimum(kind):
    """Of two normal distributions one shift apart, the AUC of the best classifier is Phi(shift / sqrt 2) = 0.714."""
    data, background = samples(2000)
    trained = small(kind).fit(TrainingSet.of(data, background), [1, 2, 3])
    new, new_background = samples(2000, seed=1)
    x, label = np.concatenate([new.train.features, new_background.train.features]), np.repeat([1, 0], [1500, 4500])
    assert roc_auc_score(label, trained.score(x).mean(axis=1)) == pytest.approx(0.714, abs=0.025)  # error 0.008


def test_node_tables_are_scikit_learns_trees():
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 3))
    model = HistGradientBoostingClassifier(max_depth=3, max_iter=30).fit(x, x[:, 0] * x[:, 1] + x[:, 2] > 0)
    table = hist_gradient_boosting.node_table(model)
    np.testing.assert_allclose(
        expit(hist_gradient_boosting.sum_of_leaves(table, x)), model.predict_proba(x)[:, 1], rtol=1e-10
    )


def test_trees_grown_on_shared_bins_are_for_the_features_themselves():
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(3)
    x, new = np.exp(rng.normal(size=(3000, 2))), np.exp(rng.normal(size=(500, 2)))
    x[:400, 1] = 1.0  # of the same value, hence in one bin
    bins = hist_gradient_boosting.Bins.of(x)
    model = HistGradientBoostingClassifier(max_depth=3, max_iter=30).fit(bins.index(x), x[:, 0] > 1.5 * x[:, 1])
    table = bins.in_units(hist_gradient_boosting.node_table(model))
    for events in (x, new):
        expected = model.predict_proba(bins.index(events))[:, 1]
        np.testing.assert_allclose(expit(hist_gradient_boosting.sum_of_leaves(table, events)), expected, rtol=1e-10)
    assert bins.index(x).max() < hist_gradient_boosting.MAX_BINS


def test_network_without_torch_is_torchs():
    import torch

    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    arrays = [value.numpy() for value in network.state_dict().values()]
    ours = dense.Network(np.linspace([-3, -3], [3, 3], 201), list(zip(arrays[::2], arrays[1::2], strict=True)))
    x = np.random.default_rng(0).normal(size=(50, 2))
    with torch.no_grad():
        inputs = torch.as_tensor(dense.to_normal(x, ours.quantiles), dtype=torch.float32)
        expected = torch.sigmoid(network(inputs))[:, 0].numpy()
    np.testing.assert_allclose(ours.score(x), expected, atol=1e-6)


def test_xgboost_keeps_the_best_tree_and_none_after_it():
    import xgboost

    data, background = samples()
    _, kept = XGBoost().fit(TrainingSet.of(data, background), [5]).members[0]
    train, validation = (balanced(*pair) for pair in zip(data, background, strict=True))
    plain = xgboost.XGBClassifier(
        n_estimators=300, max_depth=3, learning_rate=0.1, subsample=0.7, random_state=5, eval_metric="logloss"
    )  # all 300 trees, no early stopping
    held_out = {"eval_set": [(validation.x, validation.label)], "sample_weight_eval_set": [validation.weight]}
    plain.fit(train.x, train.label, sample_weight=train.weight, verbose=False, **held_out)
    losses = np.array(plain.evals_result()["validation_0"]["logloss"])
    stop = next(i for i in range(10, 300) if losses[: i + 1].argmin() <= i - 10)
    assert kept == losses[: stop + 1].argmin() + 1 < 300


def test_classes_weigh_the_same():
    sample = balanced(*(Events.of(np.zeros(n), np.zeros((n, 2))) for n in (10, 70)))
    assert sample.weight[sample.label == 1].sum() == sample.weight[sample.label == 0].sum() == 70


@pytest.mark.parametrize(("w_data", "w_background"), [(1.0, 1.0), (3.0, 0.5)])
def test_weighted_classes_weigh_the_same(w_data, w_background):
    """The background keeps its weights; within the data, the weights keep their ratios."""
    rng = np.random.default_rng(0)
    data, background = (
        Events.of(np.zeros(n), np.zeros((n, 2)), weight=weight * rng.uniform(0, 2, n))
        for n, weight in ((10, w_data), (70, w_background))
    )
    sample = balanced(data, background)
    of_data, of_background = sample.weight[sample.label == 1], sample.weight[sample.label == 0]
    np.testing.assert_array_equal(of_background, background.weight)
    assert of_data.sum() == pytest.approx(of_background.sum(), rel=1e-12)
    np.testing.assert_allclose(of_data / of_data[0], data.weight / data.weight[0], rtol=1e-12)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_unit_weights_are_no_weights(kind):
    """The same bytes as with the weights that the classes have where events have none: 1, and n_background / n_data."""
    data, background = samples(300)
    with_units = small(kind).fit(TrainingSet.of(data, background), [1])
    parts = []
    for own, other in zip(data, background, strict=True):
        label = np.r_[np.ones(len(own)), np.zeros(len(other))]
        weight = np.where(label == 1, len(other) / len(own), 1.0)
        parts.append(Labelled(np.concatenate([own.features, other.features]), label, weight))
    assert with_units.to_bytes() == small(kind).fit(TrainingSet(*parts), [1]).to_bytes()


@pytest.mark.parametrize("section", [XGBoostSettings, HistGradientBoostingSettings])
def test_weight_two_is_the_event_twice(section):
    """Exact up to rounding for trees that see every event, where no limit counts events instead of their weights."""
    rng = np.random.default_rng(4)
    data, background = rng.integers(0, 4, (1500, 2)), rng.integers(0, 5, (4000, 2))  # many events on every value
    weight = rng.integers(1, 3, len(background))
    settings, scores = section(subsample=1.0, n_trees=20), []
    for x, w in ((background, weight), (np.repeat(background, weight, axis=0), None)):
        held_out = Events.of(np.zeros(len(data)), data), Events.of(np.zeros(len(x)), x, weight=w)
        training = TrainingSet.of(*(Split(events, events) for events in held_out))
        scores.append(make(settings).fit(training, [1]).score(background)[:, 0])
    np.testing.assert_allclose(*scores, rtol=1e-5)  # XGBoost sums in float32
    assert np.ptp(scores[0]) > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_weights_move_the_optimum(kind):
    """Uniform data against uniform background of weight 2 x: the best score is 1 / (1 + 2 x), and not 1 / 2."""
    rng = np.random.default_rng(5)
    data, background = rng.uniform(size=(8000, 1)), rng.uniform(size=(24000, 1))
    training = TrainingSet.of(Split(*halves(data)), Split(*halves(background, weight=2 * background[:, 0])))
    x = np.linspace(0.1, 0.9, 81)[:, None]
    score = small(kind).fit(training, [1, 2, 3]).score(x).mean(axis=1)
    np.testing.assert_allclose(score, 1 / (1 + 2 * x[:, 0]), atol=0.08)  # of a range from 0.36 to 0.83
    assert np.abs(score - 1 / (1 + 2 * x[:, 0])).mean() < 0.03


@pytest.mark.parametrize("weight", [[1.0, -0.1], [0.0, 0.0], [1.0, np.nan]])
def test_weights_that_are_none(weight):
    background = Events.of([0.0, 0.0], np.zeros((2, 1)), weight=weight)
    with pytest.raises(AnalysisError, match="background events: their weights must not be negative"):
        balanced(Events.of([0.0], [[1.0]]), background)
