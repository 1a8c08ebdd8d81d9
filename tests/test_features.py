"""The feature preprocessing: exact inverse, Jacobian, what it does outside its range."""

import numpy as np
import pytest
import torch

from dimuon.background.scaler import SQUEEZE, STRETCH, LogitScaler, Preparation
from dimuon.errors import AnalysisError
from dimuon.events import Events


@pytest.fixture
def events():
    """(4000, 3) features of unlike sizes, one of them with both signs, and which are sideband events."""
    random = np.random.default_rng(1)
    x = np.column_stack([
        20 + random.exponential(20, 4000), random.lognormal(-5, 1.5, 4000), random.normal(0, 1.2, 4000),
    ])  # fmt: skip
    return x, random.random(4000) < 0.8


def test_round_trip_is_exact(events):
    x, sideband = events
    scaler = LogitScaler().fit(x, sideband)
    back = scaler.inverse(scaler.transform(x))
    # float64 through a logit and back: relative to each feature's span
    assert np.max(np.abs(back - x) / scaler.span) < 1e-14
    y = np.random.default_rng(2).normal(0, 2, (1000, 3))
    np.testing.assert_allclose(scaler.transform(scaler.inverse(y)), y, atol=1e-9)


def test_formula_of_the_publication(events):
    """u = (x - min) / (1.2 max - min), v in [0.02, 0.98], logit, then zero mean and unit variance on the sidebands."""
    x, sideband = events
    y = LogitScaler().fit(x, sideband).transform(x)
    for i in range(2):  # the features with positive maximum are scaled as published
        u = (x[:, i] - x[:, i].min()) / (1.2 * x[:, i].max() - x[:, i].min())
        v = 0.02 + 0.96 * u
        z = np.log(v / (1 - v))
        np.testing.assert_allclose(y[:, i], (z - z[sideband].mean()) / z[sideband].std(), rtol=1e-12, atol=1e-12)
    assert STRETCH == 1.2
    assert SQUEEZE == (0.02, 0.98)
    np.testing.assert_allclose(y[sideband].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(y[sideband].std(axis=0), 1, atol=1e-12)


def test_log_jacobian_agrees_with_autograd(events):
    x, sideband = events
    scaler = LogitScaler().fit(x, sideband)

    def transform(values):
        low, high = SQUEEZE
        v = low + (high - low) * (values - torch.tensor(scaler.minimum)) / torch.tensor(scaler.span)
        return (torch.logit(v) - torch.tensor(scaler.mean)) / torch.tensor(scaler.std)

    for event in x[:20]:
        values = torch.tensor(event)
        np.testing.assert_allclose(transform(values).numpy(), scaler.transform(event[None])[0], rtol=1e-10)
        matrix = torch.autograd.functional.jacobian(transform, values)
        expected = torch.linalg.slogdet(matrix).logabsdet.item()
        assert scaler.log_jacobian(event[None])[0] == pytest.approx(expected, rel=1e-10)


def test_limits_from_sidebands_ignore_the_signal_region(events):
    x, sideband = events
    moved = x.copy()
    moved[~sideband] *= 0.9
    extreme = x.copy()
    extreme[np.flatnonzero(~sideband)[0]] = [500.0, 5.0, 20.0]
    same = [LogitScaler().fit(values, sideband, limits_from_sidebands=True).state() for values in (x, moved, extreme)]
    assert same[0] == same[1] == same[2]
    assert LogitScaler().fit(extreme, sideband).state() != LogitScaler().fit(x, sideband).state()


def test_negative_maximum_keeps_room_above():
    x = np.linspace(-5, -1, 50)[:, None]
    scaler = LogitScaler().fit(x)
    assert np.isfinite(scaler.transform(x)).all()
    assert not scaler.outside([[-0.9]])[0]


def test_what_has_no_image_is_taken_at_the_end_and_the_rest_as_it_is():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(1000, 2))
    scaler = LogitScaler().fit(x)
    asked = np.array([[0.0, 1.0], [50.0, -50.0]])
    inside = scaler.within(asked)
    np.testing.assert_array_equal(inside[0], asked[0])
    assert not scaler.outside(inside).any()
    assert (inside[1] > x.max(axis=0)).tolist() == [True, False]
    assert np.isfinite(scaler.transform(inside)).all()


def test_outside_the_range(events):
    x, sideband = events
    scaler = LogitScaler().fit(x, sideband)
    top = scaler.minimum + scaler.span
    nearly, beyond, below = top * 1.005, top * 1.5, scaler.minimum - scaler.span
    assert scaler.outside(np.array([nearly, beyond, below])).tolist() == [False, True, True]
    assert np.isfinite(scaler.transform(nearly[None])).all()
    with pytest.raises(ValueError, match="1 of 2 events lie outside"):
        scaler.transform(np.array([nearly, beyond]))


def test_bad_values_are_refused(events):
    x, sideband = events
    for value in (np.nan, np.inf):
        broken = x.copy()
        broken[7, 1] = value
        with pytest.raises(ValueError, match="feature 1 of event 7"):
            LogitScaler().fit(broken, sideband)
    constant = x.copy()
    constant[:, 2] = 3.0
    with pytest.raises(ValueError, match="feature 2 is constant"):
        LogitScaler().fit(constant, sideband)
    with pytest.raises(ValueError, match="no sideband event"):
        LogitScaler().fit(x, np.zeros(len(x), dtype=bool))


def test_state_restores_the_transform(events):
    x, sideband = events
    scaler = LogitScaler().fit(x, sideband)
    assert np.array_equal(LogitScaler.from_state(scaler.state()).transform(x), scaler.transform(x))


@pytest.mark.parametrize("bounds", [(0.0, None), (None, 1.0), (0.0, 1.0)])
def test_no_sample_lies_beyond_a_hard_bound(bounds):
    """Anything that a flow may draw; by the published form the same draws lie beyond both ends."""
    x = np.random.default_rng(3).beta(0.7, 0.7, (3000, 1))
    y = np.random.default_rng(4).normal(0, 3, (20000, 1))
    bounded, published = LogitScaler(bounds={0: bounds}).fit(x), LogitScaler().fit(x)
    for end, beyond in zip(bounds, (np.less, np.greater), strict=True):
        if end is not None:
            assert not beyond(bounded.inverse(y), end).any()
            assert beyond(published.inverse(y), end).any()
            assert np.isfinite(bounded.transform([[end]])).all()  # a value at the bound has an image
    restored = LogitScaler.from_state(bounded.state())
    assert np.array_equal(restored.inverse(y), bounded.inverse(y))
    np.testing.assert_allclose(bounded.inverse(bounded.transform(x)), x, atol=1e-14)


def test_density_next_to_a_bound_integrates_to_one():
    """A normal density of y, as one of x: its integral over all x with an image, by the Jacobian."""
    x = np.random.default_rng(5).exponential(0.05, (4000, 1))
    scaler = LogitScaler(bounds={0: (0.0, None)}).fit(x)
    top = scaler.minimum + scaler.span / SQUEEZE[1]  # where v is 1
    v = 1 / (1 + np.exp(-np.linspace(-40, 40, 200001)))  # even steps of logit v, where the density is smooth
    grid = (scaler.minimum + v[:, None] * (top - scaler.minimum))[(v > 0) & (v < 1)]
    y = scaler.transform(grid)[:, 0]
    density = np.exp(-(y**2) / 2 + scaler.log_jacobian(grid)) / np.sqrt(2 * np.pi)
    assert np.trapezoid(density, grid[:, 0]) == pytest.approx(1, abs=1e-4)


def test_values_beyond_a_declared_bound_are_refused():
    events = Events.of(np.linspace(5, 16, 50), np.linspace(-0.1, 1, 50)[:, None], ["tau21"])
    with pytest.raises(AnalysisError, match=r"feature tau21: 5 values lie beyond its bounds, first -0\.1; .*define"):
        Preparation(bounds={"tau21": (0.0, 1.0)}).scaler(events, np.ones(50, dtype=bool))
