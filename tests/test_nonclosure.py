"""The correction of a claim by what is read without a signal."""

import numpy as np
import pytest

from dimuon.statistics.nonclosure import NonClosure, SignedMean


def samples(*points):
    return [SignedMean.of(f"at {mass}", mass, z) for mass, z in points]


def test_the_shift_is_the_weighted_line_at_the_signal_region():
    of = samples((7.0, [0.5, 1.5]), (9.8, [0.0, 0.2]), (13.3, [-0.4, -1.0]))
    found = NonClosure.of("cathode", 0.1, 9.8, of)
    weights = [1 / one.error for one in of]
    line, covariance = np.polyfit([one.mass for one in of], [one.mean for one in of], 1, w=weights, cov="unscaled")
    assert found.shift == pytest.approx(np.polyval(line, 9.8))
    at = np.array([9.8, 1.0])
    assert found.shift_err == pytest.approx(np.sqrt(at @ covariance @ at))


def test_of_fewer_masses_it_is_the_mean():
    found = NonClosure.of("cathode", 0.1, 9.8, samples((7.0, [1.0, 1.0]), (9.8, [0.0, 0.0])))
    assert (found.shift, found.shift_err) == (pytest.approx(0.5), pytest.approx(1 / np.sqrt(2)))


def test_more_searches_of_one_sample_do_not_average_out_its_own_fluctuation():
    assert SignedMean.of("ss", 9.8, np.full(1000, 0.4)).error == 1.0
    assert SignedMean.of("ss", 9.8, [0.0, 2.0]).error == pytest.approx(np.sqrt(1 + 2 / 2))


def test_the_correction_can_only_lower_a_claim():
    above, below = (NonClosure.of("cathode", 0.1, 9.8, samples((9.8, [z]))) for z in (0.6, -0.6))
    assert above.lowered(5.0) == pytest.approx(4.4)
    assert above.lowered(0.3) == 0.0
    assert below.lowered(5.0) == 5.0
    assert above.lowered(-0.2) == -0.2


def test_no_sample_is_an_error():
    with pytest.raises(ValueError, match="no sample without a signal"):
        NonClosure.of("cathode", 0.1, 9.8, [])
