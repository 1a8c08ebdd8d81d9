"""One interface, three classifiers: what is stored is what was trained, and each of them learns."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from dimuon.classifiers.kinds import dense, hist_gradient_boosting
from dimuon.classifiers.kinds.xgboost import XGBoost
from dimuon.classifiers.protocol import CLASSIFIERS, Split, TrainingSet, balanced
from dimuon.events import Events

SMALL = {"dense": {"epochs": 15, "hidden": [16, 16]}}


def samples(n=800, seed=0, shift=0.8):
    """(data, background): log-normal in two features, the first one shifted in the data."""
    rng = np.random.default_rng(seed)
    data, background = rng.normal([shift, 0], 1, (n, 2)), rng.normal(0, 1, (3 * n, 2))
    return tuple(Split(*halves(np.exp(part))) for part in (data, background))


def halves(x):
    """Three quarters of the events to train on, one to stop early on."""
    events = Events.of(np.full(len(x), np.nan), x)
    return events[: 3 * len(x) // 4], events[3 * len(x) // 4 :]


def small(kind):
    """An untrained classifier with settings that train fast."""
    made = CLASSIFIERS[kind]
    return made(made.Settings(**SMALL.get(kind, {})))


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


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_members_do_not_depend_on_each_other(kind):
    data, background = samples(200)
    together = small(kind).fit(TrainingSet.of(data, background), [1, 2]).to_bytes()
    alone = small(kind).fit(TrainingSet.of(data, background), [2]).to_bytes()
    assert together[1] == alone[0]


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
    kept = XGBoost().fit(TrainingSet.of(data, background), [5]).members[0].num_boosted_rounds()
    train, validation = (balanced(*pair) for pair in zip(data, background, strict=True))
    plain = xgboost.XGBClassifier(
        n_estimators=300, max_depth=3, learning_rate=0.1, subsample=0.7, random_state=5, eval_metric="logloss"
    )  # all 300 trees, no early stopping
    plain.fit(
        train.x, train.label, sample_weight=train.weight, verbose=False,
        eval_set=[(validation.x, validation.label)], sample_weight_eval_set=[validation.weight],
    )  # fmt: skip
    losses = np.array(plain.evals_result()["validation_0"]["logloss"])
    stop = next(i for i in range(10, 300) if losses[: i + 1].argmin() <= i - 10)
    assert kept == losses[: stop + 1].argmin() + 1 < 300


def test_classes_weigh_the_same():
    sample = balanced(*(Events.of(np.zeros(n), np.zeros((n, 2))) for n in (10, 70)))
    assert sample.weight[sample.label == 1].sum() == sample.weight[sample.label == 0].sum() == 70
