"""Methods on two Gaussians, where the exact likelihood ratio is known; what a method must not do."""

from dataclasses import replace

import numpy as np
import pytest

from dimuon import Stream
from dimuon.background.estimators.flows import Maf
from dimuon.background.estimators.mixture import Mixture
from dimuon.background.estimators.reweighting import Reweighting
from dimuon.errors import AnalysisError
from dimuon.methods.kinds.cathode import derived
from dimuon.methods.protocol import METHODS, cross_fitted
from dimuon.statistics.improvement import argos, improvement
from tests.gaussians import Gaussians, given, scored, share_of_ideal

CORRELATION, SHARE = 0.95, 0.9  # asked of every method: see `dimuon.methods.protocol`


@pytest.fixture(scope="module")
def known():
    """(what is given, which further events are signal, exact p_signal / p_background of these)."""
    truth = Gaussians()
    events, is_signal = given(truth)
    return events, is_signal, truth.ratio(events.further)


def exact(events, ratio):
    """p_data / (p_data + p_background) in the SR, which is what a weakly supervised classifier is to learn."""
    fraction = events.window.in_sr(events.truth.signal.mass).mean() * 500 / events.in_sr.sum()
    of_data = 1 - fraction + fraction * ratio
    return of_data / (1 + of_data)


@pytest.mark.parametrize("name", ["idealised", "cwola", "cwola_unweighted", "salad", "cathode"])
def test_a_probability_of_being_data_is_the_exact_one(known, name):
    """Pearson's correlation of the score with the exact probability, on labelled events (a sixth of them signal)."""
    events, is_signal, ratio = known
    scores = scored(name, events)
    assert scores.probability
    assert np.corrcoef(scores.further, exact(events, ratio))[0, 1] > CORRELATION
    assert share_of_ideal(scores.further, ratio, is_signal) > SHARE


def test_the_supervised_score_is_the_probability_of_being_signal(known):
    events, is_signal, ratio = known
    scores = scored("supervised", events)
    assert not scores.probability
    assert np.corrcoef(scores.further, ratio / (1 + ratio))[0, 1] > CORRELATION
    assert share_of_ideal(scores.further, ratio, is_signal) > SHARE


def test_cwola_fails_where_features_know_the_mass_and_the_idealised_method_does_not():
    """It tells the SR from what is next to it by the mass: background of the SR scores higher than its template."""
    truth = Gaussians(slope=1.0)
    events, is_signal = given(truth, members=2)
    ideal, cwola = (share_of_ideal(scored(name, events).further, truth.ratio(events.further), is_signal)
                    for name in ("idealised", "cwola"))  # fmt: skip
    assert ideal > SHARE
    assert cwola < ideal


def test_no_event_is_scored_by_what_saw_it():
    """Labels that are noise: a model that saw its events would score them higher than others."""
    events, _ = given(n_signal=0, members=2)

    def memory(seen, stream):
        values = set(seen.features[:, 0])
        return lambda asked: np.array([value in values for value in asked.features[:, 0]], dtype=float)

    own, further = cross_fitted(events, memory)
    assert not own.any()
    assert not further.any()
    near = scored("cwola", events)  # its template is data, scored by the models of other folds
    template = np.isin(events.events.row, near.template.row)
    elsewhere = events.window.in_sidebands(events.events.mass) & ~template
    assert abs(near.events[template].mean() - near.events[elsewhere].mean()) < 0.004  # 5 standard errors


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_says_what_it_is(name):
    method = METHODS[name]
    assert method.title
    assert method.paper.startswith("arXiv:")
    assert type(method).__module__.startswith("dimuon.methods.kinds.")


def test_what_is_not_there_is_said(known):
    without = replace(known[0], truth=None, simulation=None)
    for name in ("idealised", "supervised", "salad"):
        with pytest.raises(AnalysisError, match="no (event of known origin|simulation)"):
            scored(name, without)
    far = known[0].events[np.abs(known[0].events.mass - 9.8) > 2]
    with pytest.raises(AnalysisError, match="0 events below the SR within 0.8"):
        scored("cwola", replace(known[0], events=far))


def test_what_is_made_of_flows_takes_the_settings_of_the_configured_one():
    flow = Maf(members=1, hidden=7, epochs=3)
    reweighting = derived("reweighting", flow)
    assert reweighting == Reweighting(prior=flow)  # the learning rate of its trees is not that of the flow
    mixture = derived("mixture", flow)
    assert isinstance(mixture, Mixture)
    assert {(part.hidden, part.epochs) for part in mixture.parts} == {(7, 3)}
    assert derived("maf", reweighting) == flow


def test_the_improvement_of_two_normal_distributions():
    """A cut at t keeps Phi(2 - t) of a signal of mean 2 and Phi(-t) of the background; the tightest keeps 25 events."""
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    curve = improvement(rng.normal(2, 1, 40_000), rng.normal(0, 1, 40_000))
    cut = -norm.ppf(curve.eps_background)
    expected = norm.sf(cut - 2) / np.sqrt(curve.eps_background)
    inside = (curve.low <= expected) & (expected <= curve.high)
    assert inside.mean() > 0.4  # 0.68 of independent points
    np.testing.assert_allclose(curve.improvement, expected, rtol=0.25)
    assert curve.eps_background.min() * 40_000 >= 25
    assert curve.at(0.1) == pytest.approx(norm.sf(-norm.ppf(0.1) - 2) / np.sqrt(0.1), rel=0.1)


def test_argos_is_zero_without_an_excess_and_the_gain_with_one():
    """Of a cut that keeps all of a signal fraction f of the SR: f / sqrt(eps_B), less f sqrt(eps_B)."""
    rng = np.random.default_rng(2)
    in_sr = np.repeat([True, False], [20_000, 80_000])
    rates = np.geomspace(1, 1e-2, 20)
    assert abs(argos(rng.uniform(size=100_000), in_sr, rates).value) < 0.03
    score = rng.uniform(size=100_000)
    score[:1000] = 2.0  # 5 % of the SR
    found = argos(score, in_sr, rates)
    assert found.value == pytest.approx(0.05 * (found.eps_background**-0.5 - found.eps_background**0.5), rel=0.1)


def test_the_same_seed_gives_the_same_scores(known):
    once, again = (scored("cwola", known[0]) for _ in range(2))
    np.testing.assert_array_equal(once.events, again.events)
    other = scored("cwola", replace(known[0], stream=Stream(2)))
    assert (once.events != other.events).any()
