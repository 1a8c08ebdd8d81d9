"""The modes of the learned scan: one training for all windows, of the kind and on the events that the mode says."""

import numpy as np
import pytest

from dimuon import Events, MassWindow, Stream
from dimuon.background.estimators.flows import Maf
from dimuon.background.estimators.interpolated import Interpolated
from dimuon.background.estimators.reweighting import Reweighting
from dimuon.background.estimators.sigma import Sigma
from dimuon.bumphunt import scan_modes
from dimuon.errors import AnalysisError
from dimuon.workflow.config import Config

TINY = {"members": 1, "blocks": 1, "hidden": 4, "epochs": 1}
MAF = Maf(**TINY, learning_rate=1e-3, patience=7)


def test_each_window_has_its_own_training_where_it_is_to():
    assert scan_modes.shared_estimator(MAF, "retrain") is None


def test_one_model_is_the_estimator_interpolated():
    assert scan_modes.shared_estimator(MAF, "one_model") == Interpolated(of=MAF)
    chosen = Interpolated(of=MAF, margin=1.0)
    assert scan_modes.shared_estimator(chosen, "one_model") == chosen
    assert scan_modes.shared_estimator(Reweighting(), "one_model") == Interpolated(of=Reweighting())


def test_sigma_is_as_large_as_the_flows():
    assert scan_modes.shared_estimator(MAF, "sigma") == Sigma(**TINY, learning_rate=1e-3, patience=7)
    chosen = Sigma(frequencies=2)
    assert scan_modes.shared_estimator(chosen, "sigma") is chosen
    with pytest.raises(AnalysisError, match=r"estimator\.kind reweighting no flow"):
        scan_modes.shared_estimator(Reweighting(), "sigma")


@pytest.mark.parametrize("mode", ["one_model", "sigma"])
def test_known_resonances_are_not_learned(mode):
    """Their events change nothing; those of the windows are learned."""
    rng = np.random.default_rng(1)
    mass = rng.uniform(5, 16, 800)
    events = Events.of(mass, rng.normal(0, 1, (800, 1)), ["dimu_eta"])
    config = Config.model_validate({
        "name": "scan", "seed": 1, "input": {"dimuons": "events in memory"}, "features": {"set": ["dimu_eta"]},
        "estimator": MAF.model_dump(),
        "scan": {"range": [5.0, 16.0], "resolution": 0.015, "known": {"Y": [9.0, 10.6]}, "mode": mode},
    })  # fmt: skip
    window, at = MassWindow(10.6, 12.0, 13.0, 16.0), np.linspace(10.7, 15.9, 40)

    def samples(changed):
        moved = np.where(changed[:, None], 0.9 * events.features, events.features)
        seen = Events.of(mass, np.where(np.abs(events.features) > 2, events.features, moved), events.names)
        shared = scan_modes.train_shared(config, "os", seen, Stream(3))
        return shared.across(window).sample(at, Stream(4)).features

    nothing = samples(np.zeros(800, dtype=bool))
    np.testing.assert_array_equal(samples((mass >= 9.0) & (mass <= 10.6)), nothing)
    assert (samples((mass > 12.0) & (mass < 13.0)) != nothing).any()


def test_without_a_section_or_a_shared_mode_nothing_is_trained():
    config = Config.model_validate({"name": "scan", "seed": 1, "input": {"dimuons": "events in memory"}})
    with pytest.raises(ValueError, match="no mode"):
        scan_modes.train_shared(config, "os", Events.of([5.0], [[1.0]]), Stream(1))
