"""One interface, three classifiers: what is stored is what was trained, and each of them learns."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from dimuon.classifiers import members
from dimuon.classifiers.members import CLASSIFIERS, Split
from dimuon.workflow import config

SMALL = {"dense": {"epochs": 15, "hidden": (16, 16)}}


def samples(n=800, seed=0, shift=0.8):
    """(data, background): log-normal in two features, the first one shifted in the data."""
    rng = np.random.default_rng(seed)
    data, background = rng.normal([shift, 0], 1, (n, 2)), rng.normal(0, 1, (3 * n, 2))
    return (Split(*np.array_split(np.exp(part), [3 * len(part) // 4])) for part in (data, background))


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_stored_members_score_the_same(kind):
    data, background = samples()
    trained = CLASSIFIERS[kind](**SMALL.get(kind, {})).fit(data, background, [3, 4])
    again = CLASSIFIERS[kind](**SMALL.get(kind, {})).fit(data, background, [3, 4])
    assert trained.to_bytes() == again.to_bytes()
    assert len(set(trained.to_bytes())) == 2
    restored = CLASSIFIERS[kind]().from_bytes(trained.to_bytes())
    x = np.concatenate([data.train, [[1e-9, 1e9]]])  # far outside the training range as well
    np.testing.assert_array_equal(restored.score(x), trained.score(x))
    assert ((trained.score(x) >= 0) & (trained.score(x) <= 1)).all()


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_members_do_not_depend_on_each_other(kind):
    data, background = samples(200)
    make = CLASSIFIERS[kind]
    together = make(**SMALL.get(kind, {})).fit(data, background, [1, 2]).to_bytes()
    alone = make(**SMALL.get(kind, {})).fit(data, background, [2]).to_bytes()
    assert together[1] == alone[0]


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_learns_the_optimum(kind):
    """Of two normal distributions one shift apart, the AUC of the best classifier is Phi(shift / sqrt 2) = 0.714."""
    data, background = samples(2000)
    trained = CLASSIFIERS[kind](**SMALL.get(kind, {})).fit(data, background, [1, 2, 3])
    new, new_background = samples(2000, seed=1)
    x, label = np.concatenate([new.train, new_background.train]), np.repeat([1, 0], [1500, 4500])
    assert roc_auc_score(label, trained.score(x).mean(axis=1)) == pytest.approx(0.714, abs=0.025)  # error 0.008


def test_node_tables_are_scikit_learns_trees():
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 3))
    model = HistGradientBoostingClassifier(max_depth=3, max_iter=30).fit(x, x[:, 0] * x[:, 1] + x[:, 2] > 0)
    table = members._nodes(model)
    np.testing.assert_allclose(expit(members._sum_of_leaves(table, x)), model.predict_proba(x)[:, 1], rtol=1e-10)


def test_network_without_torch_is_torchs():
    import torch

    member = {"quantiles": np.linspace([-3, -3], [3, 3], 201)}
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    member |= {name: value.numpy() for name, value in network.state_dict().items()}
    x = np.random.default_rng(0).normal(size=(50, 2))
    with torch.no_grad():
        inputs = torch.as_tensor(members._normal(x, member["quantiles"]), dtype=torch.float32)
        expected = torch.sigmoid(network(inputs))[:, 0].numpy()
    np.testing.assert_allclose(members._forward(member, x), expected, atol=1e-6)


def test_xgboost_keeps_the_best_tree_and_none_after_it():
    import xgboost

    data, background = samples()
    kept = CLASSIFIERS["xgboost"]().fit(data, background, [5]).members[0].num_boosted_rounds()
    train, validation = (members.balanced(*pair) for pair in zip(data, background, strict=True))
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
    sample = members.balanced(np.zeros((10, 2)), np.zeros((70, 2)))
    assert sample.weight[sample.label == 1].sum() == sample.weight[sample.label == 0].sum() == 70


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_settings_of_the_yaml_fit_the_class(kind):
    CLASSIFIERS[kind](**config.Bdt(classifier=kind).classifier_settings)
