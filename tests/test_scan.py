"""The mass scan: windows as their closed forms say, each with the reason where it is not searched."""

import contextlib
import io
import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dimuon.__main__ import main
from dimuon.bumphunt.scan_windows import ScanSettings, scan_windows, searched
from dimuon.commands import scan as command
from dimuon.errors import AnalysisError, UserError
from dimuon.statistics import bump_scan, range_fit
from dimuon.studies import mass_scan
from dimuon.studies.mass_scan import MassScan
from dimuon.studies.scan_results import Summary
from dimuon.workflow import config
from dimuon.workflow.executor import AtOnce
from dimuon.workflow.products import SCAN_MAKER
from dimuon.workflow.provenance import Run
from tests.conftest import ROOT

FLAT = {"range": [5.0, 16.0], "resolution": "0.05", "width": 4.0, "sidebands": 3.0}


def test_windows_of_a_constant_resolution():
    """Widths of 0.2 GeV and steps of half of it: one window for each step of the way that is left over."""
    windows = scan_windows(ScanSettings(**FLAT))
    width, least = 0.2, 0.2 * (1 + 2 * 1)  # sidebands of at least a width
    assert len(windows) == int((11.0 - least) / (0.5 * width) + 1e-9) + 1 == 105
    first, second, last = windows[0].window, windows[1].window, windows[-1].window
    assert [first.sb_low, first.sr_low, first.sr_high, first.sb_high] == pytest.approx([5.0, 5.2, 5.4, 6.0], abs=1e-9)
    middle = windows[50].window
    assert middle.sr_low - middle.sb_low == pytest.approx(0.6)
    assert middle.sb_high - middle.sr_high == pytest.approx(0.6)
    assert second.sr_low - first.sr_low == pytest.approx(0.1, abs=1e-9)
    assert last.sb_high == pytest.approx(16.0, abs=1e-9)
    assert not any(each.skipped or each.known for each in windows)


def test_windows_of_a_relative_resolution():
    """Middles in a geometric series: m_(i+1) = m_i (1 + step width r), from the one with a width of sideband."""
    r, width, step, sidebands, low, high = 0.01, 4.0, 0.5, 2.0, 5.0, 16.0
    settings = ScanSettings(range=[low, high], resolution=r, width=width, step=step, sidebands=sidebands)
    reach = (0.5 + 1) * width * r
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
    assert len(windows) == len(scan_windows(ScanSettings(**FLAT))) + 1  # that of Y itself


def test_a_known_resonance_has_a_window_of_its_own():
    """Its range for the SR, its sidebands ended at the others; after those that slide, which stay as they are."""
    known = {"Y": [9.0, 10.0], "W": [10.6, 10.9], "X": [15.8, 17.0], "V": [5.2, 5.9]}
    windows = scan_windows(ScanSettings(**FLAT, known=known))
    sliding, own = [[each for each in windows if (each.of is None) == slides] for slides in (True, False)]
    assert [each.of for each in own] == ["Y", "W", "V"]  # X is not inside the range
    assert windows == [*sliding, *own]
    assert astuple(own[0].window) == pytest.approx((6.0, 9.0, 10.0, 10.6))
    assert astuple(own[1].window) == pytest.approx((10.0, 10.6, 10.9, 11.8))
    settings = ScanSettings(**FLAT, known=known, binnings=[2, 4])
    assert settings.binnings_of(own[0]) == [10, 20]  # of 0.1 and 0.05 GeV, like the others
    assert settings.binnings_of(sliding[0]) == [2, 4]
    assert [each.skipped for each in own[:2]] == [None, None]
    assert own[2].skipped == (
        "the range or a known resonance leaves 0.286 widths of its low sideband, at least 0.5 is needed"
    )
    assert [each.window.sr_low for each in sliding] == [
        each.window.sr_low for each in scan_windows(ScanSettings(**FLAT))
    ]


def test_windows_with_few_events_say_so():
    mass = np.concatenate([np.linspace(5.0, 10.0, 5000), np.linspace(10.0, 16.0, 100)])
    settings = ScanSettings(**FLAT, min_events=30)
    windows = scan_windows(settings, mass)
    kept = searched(windows)
    assert kept[-1].window.sr_high < 10.1
    for each in kept:
        assert min(each.window.in_sbl(mass).sum(), each.window.in_sbh(mass).sum()) >= 30
    empty = next(each for each in windows if each.middle > 12)  # 10 events in 0.6 GeV, or 9
    assert empty.skipped == "9 events are in its low sideband, 30 are asked for"
    sparse = scan_windows(ScanSettings(**FLAT, min_events=8), mass)[-10]  # 10 events in either, 3.3 in the SR
    assert sparse.skipped == "its sidebands let 3.3 events expect in the SR, 8 are asked for"
    beside = mass[(mass < 7.0) | (mass > 7.2)]
    assert [each.skipped for each in scan_windows(settings, beside)] == [each.skipped for each in windows]


def test_too_few_bins_for_a_degree_is_said():
    windows = [*FLAT.items(), ("binnings", [1]), ("degree", 6)]
    with pytest.raises(
        ValueError, match=r"no window is left .* 7 coefficients \(degree 6\) cannot be determined from 1 \+ 3"
    ):
        ScanSettings(**dict(windows))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            "range: [9.0, 9.5]",
            "the range from 9 to 9.5 is narrower than a window: with the least sidebands one takes 1.08",
        ),
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
            "no window is left of 53, the first, 5.21277-5.42553, as it overlaps Y",
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
    with pytest.raises(AnalysisError, match="no window is left of 105, the first, 5.2-5.4, as 0 events are in its low"):
        scan_windows(ScanSettings(**FLAT), [])


# the classical scan

SMALL = ScanSettings(range=[5.0, 16.0], resolution=0.02, width=4.0, sidebands=3.0, degree=2, toys=200)


@pytest.fixture(scope="module")
def background():
    """A function that a scan does not know: a falling exponential of the mass, 10,000 events between 5 and 16."""
    rng = np.random.default_rng(17)
    return 5 - 6 * np.log1p(-rng.uniform(0, 1 - np.exp(-11 / 6), 10_000))


def scan_of(settings, mass):
    return mass_scan.bump_scan_of(settings, scan_windows(settings, mass))


def test_cells_give_the_spectra_of_the_windows(background):
    """Sums of cells between all bin edges are each window's own histogram, and so is the test."""
    settings = SMALL.model_copy(update={"binnings": [3, 4]})
    scan = scan_of(settings, background)
    counts = np.histogram(background, scan.edges)[0]
    [z] = scan.z_signed(counts[None])
    expected = [max(test.outcome.z_signed for test in tests) for tests in scan.tests(background)]
    up = np.array(expected) > 0
    np.testing.assert_allclose(z[up], np.array(expected)[up], atol=1e-6)
    np.testing.assert_allclose(z, expected, atol=0.1)  # a deficit's in the Gaussian approximation
    assert len(z) > 20


def test_background_of_the_range(background):
    """The fit follows the exponential that the events are of; a peak is left out where it is known."""
    peaked = np.append(background, np.random.default_rng(1).normal(9.5, 0.1, 1500))
    axis, rng = mass_scan.resolutions(SMALL), np.random.default_rng(2)
    fit = range_fit.fit_range(peaked, axis, [(9.0, 10.0)], rng)
    edges = np.array([5.0, 7.0, 9.0, 10.0, 13.0, 16.0])
    truth = -np.diff(np.exp(-(edges - 5) / 6)) / (1 - np.exp(-11 / 6)) * 10_000
    pulls = (fit.expected(edges) - truth) / np.sqrt(truth)
    assert (np.abs(pulls) < 2.5).all()
    assert fit.p_value > 0.01
    assert range_fit.fit_range(peaked, axis, [], rng).p_value < 0.01  # a peak is no smooth background
    with pytest.raises(AnalysisError, match="are left beside the known resonances, too few"):
        range_fit.fit_range(peaked, axis, [(5.0, 15.9)], rng)


def test_a_resonance_is_found_where_it_is(background):
    """1,000 toys of the background; a peak of 300 events on 10,000 is beyond all of them, and no other window."""
    peaked = np.append(background, np.random.default_rng(3).normal(9.5, 0.19, 300))
    windows = searched(scan_windows(SMALL, peaked))
    scan = scan_of(SMALL, peaked)
    z = np.array([tests[0].outcome.z0 for tests in scan.tests(peaked)])
    best = windows[z.argmax()]
    assert best.window.sr_low < 9.5 < best.window.sr_high
    fit = range_fit.fit_range(background, mass_scan.resolutions(SMALL), [], np.random.default_rng(4))
    toys = bump_scan.toys(scan, fit.expected(scan.edges), 200, np.random.default_rng(5))
    found = bump_scan.global_significance(z.max(), toys)
    assert found.z0 > 3
    assert found.tail is not None
    assert np.abs(toys.mean(axis=0)).max() < 0.5
    assert 0.85 < toys.std() < 1.15


def test_upcrossings_and_counting_agree(background):
    """Within the errors of both, where both have a value."""
    scan = scan_of(SMALL, background)
    fit = range_fit.fit_range(background, mass_scan.resolutions(SMALL), [], np.random.default_rng(4))
    toys = bump_scan.toys(scan, fit.expected(scan.edges), 1000, np.random.default_rng(6))
    rows = {row.local: row for row in bump_scan.trials(toys)}
    for u in (2.75, 3.0, 3.25):
        row, spread = rows[u], rows[u].counted_high - rows[u].counted_low
        assert abs(row.counted - row.upcrossings) < 2 * spread
    assert rows[3.0].factor > 5


# the command

CONFIG = """\
name: scanned
seed: 3
input: {{dimuons: dimuons.parquet}}
selection: {{charges: [os]}}
window: {{sb_low: 5.0, sr_low: 9.0, sr_high: 10.6, sb_high: 16.0}}
features: {{set: [dimu_pt, mu0_ip3d]}}
estimator: {{kind: maf, members: 2, blocks: 1, hidden: 4, epochs: 1}}
background: {{oversampling: 2.0}}
bdt: {{members: 1, folds: 3, n_trees: 5}}
significance: {{n_working_points: 5, fpr_min: 0.05}}
studies: {{members: 1}}
scan: {{range: [5.0, 16.0], resolution: 0.05, width: {width}, step: {step}, sidebands: 2.0, degree: 2, toys: 150,
  methods: [{methods}], nulls: {nulls}, known: {{Y: [9.0, 10.0]}}}}
execution: {{workers: 1}}
"""


@pytest.fixture
def scanned(tmp_path, monkeypatch, background):
    """A folder with a table of dimuons, a peak among them, and the function that scans it in this process."""
    rng = np.random.default_rng(8)
    mass = np.append(background[:4000], rng.normal(9.5, 0.3, 250))
    columns = {
        "dimu_mass": mass,
        "dimu_pt": rng.exponential(20, len(mass)),
        "mu0_ip3d": rng.exponential(0.01, len(mass)),
    }
    pd.DataFrame({**columns, "charge": "OS"}).to_parquet(tmp_path / "dimuons.parquet")
    monkeypatch.chdir(tmp_path)

    def scan(methods="classical", nulls=0, width=3.0, step=1.0):
        path = tmp_path / "scanned.yaml"
        path.write_text(CONFIG.format(methods=methods, nulls=nulls, width=width, step=step))
        run = Run(config.load(path), SCAN_MAKER.command, path)
        return command.do(MassScan(run, mass_scan.NAME, AtOnce()))["os"]

    return scan


@pytest.mark.slow
def test_command_writes_what_it_found(scanned, capsys):
    """Every window has a row, the best is that of the peak; a second call does nothing anew."""
    summary = scanned()
    found = summary.largest["classical"]
    assert found.known == ("Y",)
    assert found.sr_low < 9.5 < found.sr_high
    assert found.overall.n == 150
    assert [each.window for each in summary.above][-1:] == [found.window]
    windows, spectra = (pd.read_parquet(f"results/scanned/scan/{name}.parquet") for name in ("windows", "spectra"))
    assert len(windows) == summary.n_windows
    assert windows.loc[windows["window"] == found.window, "z0"].item() == found.local
    in_sr = spectra[(spectra["window"] == found.window) & (spectra["region"] == "SR")]
    assert in_sr["n_obs"].sum() == windows.loc[windows["window"] == found.window, "n_obs"].item()
    saved = Summary.from_json(json.loads(Path("results/scanned/scan/scan.json").read_text())["os"])
    assert saved.largest == summary.largest
    ledger = Path("results/scanned/scan/windows.ledger.jsonl").read_text()
    assert scanned().to_json() == summary.to_json()
    assert Path("results/scanned/scan/windows.ledger.jsonl").read_text() == ledger
    assert main(["scan", "scanned.yaml", "--plan"]) == 0
    with pytest.raises(UserError, match=r"windows\.ledger\.jsonl: begun with scan\.width = 3\.0, which is now 2\.0"):
        scanned(width=2.0)


@pytest.mark.slow
def test_learned_scan_with_nulls(scanned):
    """Every method has its windows and its global significance, from null datasets through all of them."""
    summary = scanned("classical, learned", nulls=2, step=2.5)
    assert {*summary.largest} == {"classical", "cut", "likelihood", "all"}
    assert summary.n_nulls == 2
    assert summary.largest["all"].local == max(found.local for found in summary.largest.values())
    assert {method: found.overall.n for method, found in summary.largest.items()} == {
        "classical": 150, "cut": 2, "likelihood": 2, "all": 2,
    }  # fmt: skip
    windows = pd.read_parquet("results/scanned/scan/windows.parquet")
    done = windows[windows["skipped"] == ""]
    assert len(done) == summary.n_searched
    assert done["closure_auc"].between(0.3, 0.9).all()
    assert (done["n_cuts"] == 5).all()


def test_a_configuration_without_a_scan(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("none.yaml").write_text("name: none\nseed: 1\ninput: {dimuons: none.parquet}\n")
    assert main(["scan", "none.yaml"]) == 2
    assert capsys.readouterr().err.strip().endswith("none.yaml: the section scan is missing; see docs/scan.md")


def test_the_window_and_global_p_value_are_those_of_pybumphunter():
    """The same histogram, windows and background: both find the same, where the background's uncertainty is small.

    pyBumpHunter takes the background as known; ours is fitted to the rest of the range, 24 times a window, as a
    straight line, so that it is known five times better than the count.
    """
    pybumphunter = pytest.importorskip("pyBumpHunter")
    n_bins, width, rng = 100, 4, np.random.default_rng(9)
    settings = ScanSettings(
        range=[5.0, 16.0], resolution="0.11", sidebands="whole", degree=1, choice="fixed", binnings=[width]
    )
    edges = np.linspace(5.0, 16.0, n_bins + 1)
    cumulative = np.linspace(0, 1, n_bins + 1) - 0.35 * np.linspace(0, 1, n_bins + 1) ** 2
    truth = 10_000 * np.diff(cumulative) / cumulative[-1]
    counts = rng.poisson(truth)
    counts[40:44] += rng.poisson(14, 4)  # of 420, 2.7 sigma
    peer = pybumphunter.BumpHunter1D(
        rang=(5.0, 16.0),
        bins=edges,
        width_min=width,
        width_max=width,
        scan_step=width // 2,
        npe=2000,
        nworker=1,
        seed=1,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        peer.bump_scan(counts, truth * counts.sum() / truth.sum(), is_hist=True)
    middles = np.repeat((edges[1:] + edges[:-1]) / 2, counts)
    windows = searched(scan_windows(settings, middles))
    scan = mass_scan.bump_scan_of(settings, windows)
    z = np.array([tests[0].outcome.z0 for tests in scan.tests(middles)])
    assert windows[z.argmax()].window.sr_low == pytest.approx(edges[int(peer.min_loc_ar[0])], abs=1e-6)
    expected = np.diff(np.interp(scan.edges, edges, np.concatenate([[0], truth.cumsum()])))
    toys = bump_scan.toys(scan, expected, 400, np.random.default_rng(2))
    ours, theirs = bump_scan.global_significance(float(z.max()), toys).p, peer.global_Pval
    assert 0.02 < theirs < 0.6  # where counting says something
    assert abs(ours - theirs) < 3 * np.sqrt(theirs * (1 - theirs) * (1 / 400 + 1 / 2000))


@pytest.mark.slow
def test_resonances_of_real_dimuons(reference, tmp_path, monkeypatch):
    """10,000 dimuons of 2010: J/psi and Upsilon above 5 sigma global, each in its window, nothing else above 3."""
    text = (ROOT / "configs" / "scan_2010.yaml").read_text()
    at_hand = reference / "real" / "portal_csv" / "MuRun2010B_0.csv"
    for given, here in (
        ("record: 700 ", "# "),
        ("file: MuRun2010B.csv", f"file: {at_hand}"),
        (", ss: Q1 * Q2 > 0", ""),
        ("toys: 1000", "toys: 150"),
    ):
        assert given in text
        text = text.replace(given, here)
    monkeypatch.chdir(tmp_path)
    Path("scan_2010.yaml").write_text(text)
    run = Run(config.load("scan_2010.yaml"), SCAN_MAKER.command, "scan_2010.yaml")
    monkeypatch.setattr(mass_scan, "BATCH", 150)
    summary = command.do(MassScan(run, mass_scan.NAME, AtOnce()))["os"]
    significant = {name for each in summary.above if each.overall.z0 > 5 for name in each.known}
    assert significant == {"J/psi", "Upsilon"}
    assert all(each.known for each in summary.above)
    masses = {"J/psi": 3.0969, "Upsilon": 9.4604}  # GeV, Review of Particle Physics 2024
    for name, mass in masses.items():
        best = max((each for each in summary.above if name in each.known), key=lambda each: each.local)
        assert best.sr_low < mass < best.sr_high
    assert summary.background.p_value > 0.01
