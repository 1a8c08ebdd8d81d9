"""Cuts are the exact order statistics of the sideband events."""

import numpy as np
import pytest

from dimuon.statistics.working_points import CutVariable, rates

SIDEBAND = np.r_[np.ones(1000, bool), np.zeros(200, bool)]
RNG = np.random.default_rng(1)


def test_rates_are_log_spaced():
    fprs = rates()
    assert (len(fprs), fprs[0], fprs[-1]) == (25, 1.0, pytest.approx(1e-3))
    np.testing.assert_allclose(np.diff(np.log10(fprs)), -1 / 8)


@pytest.mark.parametrize("side", ["above", "below"])
def test_the_cut_keeps_the_stated_number_of_sideband_events(side):
    values = RNG.exponential(size=1200)
    scan = CutVariable("x", values, side).scan(SIDEBAND, rates())
    np.testing.assert_array_equal(scan.kept[:, SIDEBAND].sum(axis=1), np.round(1000 * scan.fpr))
    assert scan.kept[0].all()
    for cut, kept in zip(scan.cut, scan.kept, strict=True):
        np.testing.assert_array_equal(kept, values >= cut if side == "above" else values <= cut)
    assert np.isin(scan.cut[1:], values[SIDEBAND]).all()
    assert (scan.kept[:-1] >= scan.kept[1:]).all()  # nested


def test_fpr_one_keeps_sr_events_beyond_the_last_sideband_event():
    values = np.r_[np.linspace(1, 2, 1000), np.linspace(0, 3, 200)]
    scan = CutVariable("x", values).scan(SIDEBAND, [1.0])
    assert scan.kept.all()
    assert scan.cut[0] == 0.0


def test_ties_pass_together():
    values = np.r_[np.repeat([1.0, 2.0], 500), np.full(200, 2.0)]
    scan = CutVariable("x", values).scan(SIDEBAND, [0.75, 0.5, 0.1])
    np.testing.assert_array_equal(scan.kept[:, SIDEBAND].sum(axis=1), [1000, 500, 500])
    np.testing.assert_array_equal(scan.cut, [1.0, 2.0, 2.0])


def test_below_keeps_the_central_side_of_a_signed_feature():
    eta = RNG.normal(size=1200)
    scan = CutVariable("dimu_eta", eta, "below").scan(SIDEBAND, [0.1])
    np.testing.assert_array_equal(scan.kept[0], np.abs(eta) <= scan.cut[0])


def test_at_least_one_sideband_event_passes():
    scan = CutVariable("x", RNG.normal(size=1200)).scan(SIDEBAND, [1e-6])
    assert scan.kept[0, SIDEBAND].sum() == 1


def test_bad_values_are_errors():
    with pytest.raises(ValueError, match="score is 0.5 for all 1200 events"):
        CutVariable("score", np.full(1200, 0.5)).scan(SIDEBAND, [0.1])
    with pytest.raises(ValueError, match="score of event 7 is nan"):
        CutVariable("score", np.where(np.arange(1200) == 7, np.nan, 1.0)).scan(SIDEBAND, [0.1])
    with pytest.raises(ValueError, match="no event in the sidebands"):
        CutVariable("score", RNG.normal(size=1200)).scan(np.zeros(1200, bool), [0.1])
