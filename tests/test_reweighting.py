"""The estimator that reweights, against ratios that are known: SALAD on a mismodelled simulation, a flow as prior."""

import numpy as np
import pytest
from scipy.stats import norm

from dimuon import Events, MassWindow, Stream
from dimuon.background import saved
from dimuon.background.closure import compare
from dimuon.background.estimators.flows import Maf
from dimuon.background.estimators.reweighting import Reweighting, reweight
from dimuon.background.scaler import Preparation
from dimuon.background.simulated_table import SimulatedTable
from dimuon.errors import AnalysisError

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
SHIFT, WIDTH = 4.0, 6.5  # of the mismodelled feature; 0 and 5 in data
SETTINGS = Reweighting(classifiers=4, copies=3)


def centre(mass):
    """Of the first feature in data: it moves with the mass."""
    return 40 + 2 * (mass - 9.8)


def events(n, seed, shift=0.0, width=5.0):
    """Two Gaussian features over the whole window; shift and width mismodel the first."""
    rng = np.random.default_rng(seed)
    mass = rng.uniform(WINDOW.sb_low, WINDOW.sb_high, n)
    return Events.of(mass, np.column_stack([rng.normal(centre(mass) + shift, width), rng.normal(50, 4, n)]), ["a", "b"])


def true_ratio(drawn):
    """Density of data over that of the simulation, at the events' own masses."""
    x, middle = drawn.features[:, 0], centre(drawn.mass)
    return norm.pdf(x, middle, 5.0) / norm.pdf(x, middle + SHIFT, WIDTH)


@pytest.fixture(scope="module")
def salad():
    """(data in the sidebands, the prior, the reweighted model)."""
    data, simulation = events(12_000, 1), events(40_000, 2, shift=SHIFT, width=WIDTH)
    sidebands = data[WINDOW.in_sidebands(data.mass)]
    prior = SimulatedTable(simulation, Preparation().scaler(data, WINDOW.in_sidebands(data.mass)))
    return sidebands, prior, reweight(prior, sidebands, SETTINGS, Stream(3))


def test_weights_are_the_ratio_of_the_densities_in_the_signal_region(salad):
    """Where no data were shown: the ratio is interpolated."""
    _, _, model = salad
    mass = np.random.default_rng(4).uniform(WINDOW.sr_low, WINDOW.sr_high, 20_000)
    drawn = model.sample(mass, Stream(5))
    ratio = np.clip(true_ratio(drawn), 1 / SETTINGS.max_weight, SETTINGS.max_weight)
    assert np.corrcoef(np.log(drawn.weight), np.log(ratio))[0, 1] > 0.95
    assert np.average(drawn.features[:, 0], weights=drawn.weight) == pytest.approx(centre(mass).mean(), abs=0.5)
    assert drawn.features[:, 0].mean() > centre(mass).mean() + 0.9 * SHIFT


@pytest.mark.slow
def test_weighted_samples_close_and_the_prior_does_not(salad):
    sidebands, prior, model = salad
    mass = np.tile(sidebands.mass, 2)
    aucs = [compare(sidebands, each.sample(mass, Stream(6)), Stream(7)).auc for each in (prior, model)]
    assert aucs[0] > 0.6
    assert aucs[1] < 0.53


def test_weights_are_one_on_the_mean_over_the_sidebands(salad):
    sidebands, _, model = salad
    assert model.sample(np.tile(sidebands.mass, 3), Stream(8)).weight.mean() == pytest.approx(1, abs=0.02)


def test_a_prior_that_is_right_is_left_alone():
    data = events(12_000, 1)
    sidebands = data[WINDOW.in_sidebands(data.mass)]
    scaler = Preparation().scaler(data, WINDOW.in_sidebands(data.mass))
    model = reweight(SimulatedTable(events(40_000, 9), scaler), sidebands, SETTINGS, Stream(3))
    assert model.sample(sidebands.mass, Stream(4)).weight.std() < 0.12


def test_saved_and_read_again_it_samples_the_same(salad):
    _, _, model = salad
    again, mass = saved.from_bytes(saved.to_bytes(model)), np.linspace(9, 10.6, 100)
    for one, other in zip(
        model.sample(mass, Stream(1)).columns.values(), again.sample(mass, Stream(1)).columns.values(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(model.sample(mass, Stream(1)).weight, again.sample(mass, Stream(1)).weight)


def test_a_flow_as_prior_by_its_settings_alone():
    """The whole estimator: trained, saved, and some members of the prior with the same weights."""
    data = events(1500, 1)
    inside = WINDOW.in_sidebands(data.mass)
    scaler = Preparation().scaler(data, inside)
    settings = Reweighting.model_validate(
        {"prior": {"kind": "maf", "members": 2, "hidden": 8, "blocks": 2, "epochs": 2}, "classifiers": 2, "copies": 2}
    )
    assert isinstance(settings.prior, Maf)
    model = settings.estimator(scaler).fit(data[inside], Stream(1))
    assert (model.kind, model.members) == ("reweighting", 2)
    mass = np.full(200, 9.8)
    part = saved.from_bytes(saved.to_bytes(model)).with_members([1])
    assert part.members == 1
    drawn = part.sample(mass, Stream(2))
    assert (drawn.weight > 0).all()
    assert drawn.weight.std() > 0.01
    again = settings.estimator(scaler).fit(data[inside], Stream(1))
    assert saved.to_bytes(again) == saved.to_bytes(model)


def test_too_few_events_are_refused(salad):
    sidebands, prior, _ = salad
    with pytest.raises(AnalysisError, match="100 sideband events to reweight to, at least 500 are needed"):
        reweight(prior, sidebands[:100], SETTINGS, Stream(1))
