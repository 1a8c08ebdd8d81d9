"""An ensemble over kinds: members in turn, weights kept, the same model after saving."""

import numpy as np
import pytest

from dimuon import Events, Stream
from dimuon.background import saved
from dimuon.background.estimators.flows import Maf, SplineCoupling
from dimuon.background.estimators.mixture import Mixture
from dimuon.background.estimators.reweighting import Reweighting
from dimuon.background.scaler import Preparation

SHORT = {"members": 2, "blocks": 2, "hidden": 8, "epochs": 2}
PARTS = [Maf(**SHORT), Reweighting(prior=SplineCoupling(**SHORT | {"members": 1, "bins": 4}), classifiers=1, copies=1)]


@pytest.fixture(scope="module")
def trained():
    """(sideband events, model of a flow of two members and a reweighted one of one)."""
    rng = np.random.default_rng(1)
    mass = np.concatenate([rng.uniform(5, 9, 500), rng.uniform(10.6, 16, 300)])
    events = Events.of(mass, rng.normal(0, 1, (800, 2)) + mass[:, None], ["a", "b"])
    scaler = Preparation().scaler(events, np.ones(800, dtype=bool))
    return events, Mixture(parts=PARTS).estimator(scaler).fit(events, Stream(2))


def test_members_of_all_parts_take_turns(trained):
    events, model = trained
    assert model.members == 3
    sampled = model.sample(events.mass, Stream(3))
    np.testing.assert_array_equal(sampled.mass, events.mass)
    assert (sampled.weight[model.member_of(800) < 2] == 1).all()
    assert (sampled.weight[model.member_of(800) == 2] != 1).any()  # the reweighted part
    assert model.losses.shape == (3, 2, 2)
    for member, kind in ((0, "maf"), (1, "maf"), (2, "reweighting")):
        assert model.with_members([member]).kind == kind
        assert model.with_members([member]).members == 1
    assert model.with_members([0, 2]).members == 2


def test_each_part_samples_as_it_does_alone(trained):
    events, model = trained
    sampled, first = model.sample(events.mass, Stream(3)), model.member_of(800) < 2
    alone = model.parts[0].sample(events.mass[first], Stream(3).child("part", 0).rooted())
    np.testing.assert_array_equal(sampled.features[first], alone.features)


def test_a_saved_mixture_samples_the_same(trained):
    events, model = trained
    restored = saved.from_bytes(saved.to_bytes(model))
    one, other = (each.sample(events.mass[:90], Stream(4)) for each in (model, restored))
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.weight, other.weight)


def test_settings_from_a_file():
    settings = Mixture.model_validate({"parts": [{"kind": "maf", "hidden": 20}, {"kind": "reweighting"}]})
    assert [part.kind for part in settings.parts] == ["maf", "reweighting"]
    with pytest.raises(ValueError, match="at least 2"):
        Mixture(parts=PARTS[:1])
