"""The mass scan: windows as their closed forms say, each with the reason where it is not searched."""

import numpy as np
import pytest

from dimuon.bumphunt.scan_windows import ScanSettings, scan_windows, searched
from dimuon.errors import AnalysisError, UserError
from dimuon.workflow import config

FLAT = {"range": [5.0, 16.0], "resolution": "0.05", "width": 4.0, "sidebands": 3.0}


def test_windows_of_a_constant_resolution():
    """Widths of 0.2 GeV and steps of half of it: one window for each step of the way that is left over."""
    windows = scan_windows(ScanSettings(**FLAT))
    width, reach = 0.2, 0.2 * (1 + 2 * 3)
    assert len(windows) == int((11.0 - reach) / (0.5 * width) + 1e-9) + 1 == 97
    first, second, last = windows[0].window, windows[1].window, windows[-1].window
    assert [first.sb_low, first.sr_low, first.sr_high, first.sb_high] == pytest.approx([5.0, 5.6, 5.8, 6.4], abs=1e-9)
    assert second.sr_low - first.sr_low == pytest.approx(0.1, abs=1e-9)
    assert last.sb_high == pytest.approx(16.0, abs=1e-9)
    assert not any(each.skipped or each.known for each in windows)


def test_windows_of_a_relative_resolution():
    """Middles in a geometric series: m_(i+1) = m_i (1 + step width r), from the one whose sideband begins at 5."""
    r, width, step, sidebands, low, high = 0.01, 4.0, 0.5, 2.0, 5.0, 16.0
    settings = ScanSettings(range=[low, high], resolution=r, width=width, step=step, sidebands=sidebands)
    reach = (0.5 + sidebands) * width * r
    first, last = low / (1 - reach), high / (1 + reach)
    middles = [each.middle for each in scan_windows(settings)]
    assert len(middles) == int(np.log(last / first) / np.log(1 + step * width * r)) + 1
    np.testing.assert_allclose(middles, first * (1 + step * width * r) ** np.arange(len(middles)), rtol=1e-12)


@pytest.mark.parametrize("resolution", ["0.002 * mass + 0.04", [[4.0, 0.048], [20.0, 0.08]]])
def test_resolution_by_formula_and_by_points(resolution):
    """Both are the same straight line."""
    settings = ScanSettings(**FLAT | {"resolution": resolution})
    np.testing.assert_allclose(settings.resolution_at([5.0, 10.0]), [0.05, 0.06])
    for each in scan_windows(settings):
        width = 4 * (0.002 * each.middle + 0.04)
        assert each.window.sr_high - each.window.sr_low == pytest.approx(width)


def test_whole_range_as_sidebands():
    windows = scan_windows(ScanSettings(**FLAT | {"sidebands": "whole"}))
    assert {(each.window.sb_low, each.window.sb_high) for each in windows} == {(5.0, 16.0)}
    assert windows[0].window.sr_low == pytest.approx(5.2)  # a width is left on either side
    assert windows[-1].window.sr_high <= 15.8 + 1e-9


def test_sidebands_end_at_known_resonances():
    """No event of a known resonance is background of another window."""
    windows = scan_windows(ScanSettings(**FLAT | {"known": {"Y": [9.03, 10.03]}}))
    for each in windows:
        window, overlaps = each.window, each.window.sr_low < 10.03 and each.window.sr_high > 9.03
        assert each.known == (("Y",) if overlaps else ())
        if not overlaps:
            assert window.sb_high <= 9.03 or window.sb_low >= 10.03
    near = {round(each.window.sr_high, 6): each.skipped for each in windows if 8.7 < each.window.sr_high < 9.03}
    assert near == {
        8.8: None,  # 0.23 GeV of sideband and more than a width of 0.2
        8.9: "a known resonance leaves 0.65 widths of its high sideband, at least 1 is needed",
        9.0: "a known resonance leaves 0.15 widths of its high sideband, at least 1 is needed",
    }


def test_masked_windows_are_skipped_by_name():
    windows = scan_windows(ScanSettings(**FLAT | {"known": {"Y": [9.0, 10.0]}, "mask": ["Y"]}))
    masked = [each for each in windows if each.known]
    assert masked
    assert {each.skipped for each in masked} == {"it overlaps Y, which is masked"}
    assert len(windows) == len(scan_windows(ScanSettings(**FLAT)))


def test_windows_with_few_events_say_so():
    mass = np.concatenate([np.linspace(5.0, 10.0, 5000), np.linspace(10.0, 16.0, 100)])
    settings = ScanSettings(**FLAT, min_events=30)
    windows = scan_windows(settings, mass)
    kept = searched(windows)
    assert kept[-1].window.sr_high < 10.1
    for each in windows:
        n = int(each.window.in_sr(mass).sum())
        assert (each in kept) == (each.skipped is None)
        if each in kept:
            assert n >= 30
    skipped = next(each for each in windows if each.middle > 12)
    assert "events are in its low sideband, 30 are asked for" in skipped.skipped


def test_too_few_bins_for_a_degree_is_said():
    windows = [*FLAT.items(), ("binnings", [1]), ("degree", 6)]
    with pytest.raises(
        ValueError, match=r"no window is left .* 7 coefficients \(degree 6\) cannot be determined from 3"
    ):
        ScanSettings(**dict(windows))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("range: [9.0, 9.1]", "the range from 9 to 9.1 is narrower than a window: with its sidebands one takes 2.52"),
        ("range: [4.0, 16.0]", "scan.range = [4.0, 16.0]: the tables hold masses from 5 to 16 alone; widen window"),
        ("range: [9.0, 8.0]", "scan.range = [9.0, 8.0]: the range must rise"),
        ("step: 0", "scan.step = 0: input should be greater than 0"),
        ("step: 1.0e-6", "more than 10,000 windows; take a larger step (scan.step = 1e-06) or resolution"),
        ("resolution: -0.01", "scan.resolution"),
        ("resolution: 0.05 * (mass - 6)", "the resolution is -0.05 at a mass of 5, where it must be positive"),
        ("resolution: '[].append'", "may not stand in a formula"),
        ("resolution: 0.01 * pt", "pt is not known here; it is of mass alone"),
        (
            "known: {Y: [5.0, 16.0]}\n  mask: [Y]",
            "no window is left of 45, the first, 5.69767-5.93023, as it overlaps Y",
        ),
        ("mask: [Z]", "mask names 'Z', of which known says no range; known has nothing"),
        ("known: {Y: [10.6, 9.0]}", "the range of Y must rise"),
        ("binnings: [2, 2]", "name each once"),
        ("methods: []", "scan.methods"),
        ("mode: magic", "scan.mode = 'magic'"),
    ],
)
def test_mistakes_are_said_in_one_line(tmp_path, changed, message):
    path = tmp_path / "analysis.yaml"
    given = {"range": "range: [5.0, 16.0]", "resolution": "resolution: 0.01"}
    given[changed.partition(":")[0]] = changed
    path.write_text("name: test\nseed: 1\ninput: {simulation: {}}\nscan:\n  " + "\n  ".join(given.values()) + "\n")
    with pytest.raises(UserError) as error:
        config.load(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_left_for_want_of_events():
    with pytest.raises(AnalysisError, match="no window is left of 97, the first, 5.6-5.8, as 0 events are in its low"):
        scan_windows(ScanSettings(**FLAT), [])
