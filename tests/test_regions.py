"""The mass window: regions partition it, bins tile it, edges belong to one place each."""

import numpy as np
import pytest

from dimuon.errors import AnalysisError
from dimuon.regions import MassWindow

PAPER = MassWindow(5.0, 9.0, 10.6, 16.0)


def test_regions_partition_the_window():
    mass = np.random.default_rng(1).uniform(4.0, 17.0, 10_000)
    mass = np.concatenate([mass, [5.0, 9.0, 10.6, 16.0]])
    masks = np.array([PAPER.in_sbl(mass), PAPER.in_sr(mass), PAPER.in_sbh(mass)])
    np.testing.assert_array_equal(masks.sum(axis=0), PAPER.in_window(mass))
    names = PAPER.region(mass)
    assert [(names == name).sum() for name in ("SBL", "SR", "SBH")] == list(masks.sum(axis=1))
    assert (names[~PAPER.in_window(mass)] == "").all()


def test_edges_belong_to_the_regions_of_the_design():
    """SBL = [5.0, 9.0), SR = [9.0, 10.6], SBH = (10.6, 16.0]."""
    just_above = np.nextafter(10.6, 11)
    assert list(PAPER.region([5.0, 9.0, 10.6, just_above, 16.0])) == ["SBL", "SR", "SR", "SBH", "SBH"]
    assert list(PAPER.region([np.nextafter(5.0, 0), np.nextafter(16.0, 17), np.nan])) == ["", "", ""]


@pytest.mark.parametrize(("n_bins_sr", "relative_width"), [(11, 0.015), (15, 0.011), (7, 0.023)])
def test_bin_widths_are_the_papers(n_bins_sr, relative_width):
    assert PAPER.binning(n_bins_sr).width / 9.8 == pytest.approx(relative_width, abs=5e-4)


@pytest.mark.parametrize("n_bins_sr", [1, 7, 8, 11, 15, 16])
def test_bins_tile_the_window(n_bins_sr):
    bins = PAPER.binning(n_bins_sr)
    edges = PAPER.edges(n_bins_sr)
    np.testing.assert_allclose(np.diff(edges), bins.width, rtol=1e-12)
    assert 9.0 in edges
    assert 10.6 in edges
    assert bins.is_sr.sum() == n_bins_sr
    assert 0 <= edges[0] - 5.0 < bins.width
    assert -1e-12 <= 16.0 - edges[-1] < bins.width


def test_eleven_bins_leave_sixty_four_in_the_sidebands():
    assert (~PAPER.binning(11).is_sr).sum() == 64


def test_bin_index_agrees_with_the_regions():
    """Whatever the mass, its bin lies in its region; masses on edges included."""
    bins = PAPER.binning(11)
    mass = np.concatenate([np.random.default_rng(2).uniform(4.9, 16.1, 10_000), bins.edges])
    index = bins.index(mass)
    inside = index >= 0
    np.testing.assert_array_equal(bins.is_sr[index[inside]], PAPER.in_sr(mass[inside]))
    assert (bins.edges[index[inside]] <= mass[inside]).all()
    assert (mass[inside] <= bins.edges[index[inside] + 1]).all()
    outside = mass[~inside]
    assert ((outside <= bins.edges[0]) | (outside >= bins.edges[-1])).all()


def test_counts_conserve_events_and_weights():
    rng = np.random.default_rng(3)
    mass, weights = rng.uniform(5, 16, 5_000), rng.exponential(size=5_000)
    bins = PAPER.binning(11)
    inside = bins.index(mass) >= 0
    assert bins.counts(mass).sum() == inside.sum()
    assert bins.counts(mass, weights).sum() == pytest.approx(weights[inside].sum())
    interior = bins.counts(rng.permutation(mass))
    np.testing.assert_array_equal(interior, np.histogram(mass, bins.edges)[0])


@pytest.mark.parametrize("edges", [(9, 5, 10, 16), (5, 9, 9, 16), (5, 9, 10, np.inf), (np.nan, 9, 10, 16)])
def test_windows_that_make_no_sense_are_refused(edges):
    with pytest.raises(ValueError, match="window edges"):
        MassWindow(*map(float, edges))


def test_bins_that_fit_no_sideband_are_refused():
    with pytest.raises(ValueError, match="no whole bin fits"):
        MassWindow(8.9, 9.0, 10.6, 16.0).binning(3)
    with pytest.raises(ValueError, match="n_bins_sr"):
        PAPER.binning(0)


@pytest.mark.parametrize("n_bins_sr", [3, 7, 11, 15])
@pytest.mark.parametrize("n_merged", [1, 2, 5])
def test_merged_bins_tile_the_window_with_the_sr_as_one(n_bins_sr, n_merged):
    bins = PAPER.binning(n_bins_sr)
    merged = bins.merged(n_merged)
    assert (np.diff(merged) > 0).all()
    edges = bins.edges[merged].tolist()
    assert edges[edges.index(9.0) + 1] == 10.6
    below = merged[merged <= bins.n_bins_sbl]
    assert (np.diff(below) == n_merged).all()
    assert below[0] < n_merged  # what is left out at the end is less than a whole bin
    assert len(bins.is_sr) - merged[-1] < n_merged
    assert ((merged[merged > bins.n_bins_sbl + n_bins_sr] - bins.n_bins_sbl) % n_merged == 0).all()


def test_the_sr_as_one_bin():
    bins = PAPER.binning(11)
    mass = np.random.default_rng(2).uniform(4.0, 17.0, 5000)
    merged = bins.sr_as_one(bins.counts(mass))
    assert len(merged) == len(bins.is_sr) - 11 + 1
    assert merged[-1] == PAPER.in_sr(mass).sum()
    several = bins.sr_as_one(np.array([bins.counts(mass), bins.counts(mass, mass)]))
    np.testing.assert_array_equal(several[0], merged)
    assert several[1, -1] == pytest.approx(mass[PAPER.in_sr(mass)].sum())


def test_bins_too_wide_for_a_sideband_name_their_setting():
    with pytest.raises(AnalysisError, match="no whole bin fits in a sideband") as error:
        MassWindow(8.5, 9.0, 10.6, 16.0).binning(1)
    assert error.value.setting == "n_bins_sr"
