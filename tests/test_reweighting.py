"""The reweighted prior: weights of mean 1 that bring its samples closer to the sidebands; saved and split by member."""

import numpy as np

from dimuon.background import saved
from dimuon.background.estimators import flows, reweighting
from dimuon.background.scaler import fit_scaler
from dimuon.random import Stream
from tests.test_background import NAMES, WINDOW, toy


def test_weights_bring_a_poor_prior_closer_to_the_sidebands():
    events = toy(1500)
    real = events[WINDOW.in_sidebands(events.mass)]
    scaler = fit_scaler(real.features, np.ones(len(real), bool), NAMES)
    prior = flows.Maf(members=2, hidden=8, blocks=2, epochs=2)
    model = reweighting.Reweighting(prior=prior, n_trees=50).estimator(scaler).fit(real, Stream(3))
    drawn = model.sample(np.tile(real.mass, 4), Stream(1))
    assert abs(drawn.weight.mean() - 1) < 0.05
    pt = drawn.columns["dimu_pt"]
    truth = real.columns["dimu_pt"].mean()
    assert abs(np.average(pt, weights=drawn.weight) - truth) < abs(pt.mean() - truth)
    again = saved.from_bytes(saved.to_bytes(model))
    assert np.array_equal(again.sample(real.mass, Stream(2)).weight, model.sample(real.mass, Stream(2)).weight)
    assert (model.members, model.with_members([1]).members) == (2, 1)
