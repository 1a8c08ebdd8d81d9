"""Upper limits: closed forms, pyhf, coverage."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr

from dimuon import MassWindow
from dimuon.__main__ import main
from dimuon.commands.limits import SignalEfficiency
from dimuon.errors import AnalysisError
from dimuon.exports.workspace import SpectrumTest
from dimuon.statistics.families import Exponential, Polynomial
from dimuon.statistics.limits import ProfiledSignal, upper_limits
from dimuon.statistics.spectra import Spectra
from tests import small_results

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
BINS = WINDOW.binning(11)
N_SR, N_SIDEBANDS = 11, BINS.n_bins_sbl + BINS.n_bins_sbh


def expectation(background, signal):
    """(n_bins,) expected events of a falling spectrum with `background` in the SR, and `signal` on top of them."""
    empty = Spectra(BINS, np.ones((1, N_SIDEBANDS + 1)), np.ones((1, N_SIDEBANDS + 1)))
    centre = (empty.low + empty.high) / 2
    expected = background / N_SR * (1 - 0.08 * (centre - centre[-1]))
    expected[-1] = background + signal
    return expected


def spectra(background, signal, n, seed, scale=1.0):
    """n toys of it. scale: of weighted events."""
    shape = (n, N_SIDEBANDS + 1)
    counts = np.random.default_rng(seed).poisson(expectation(background, signal) / scale, shape) * scale
    return Spectra(BINS, counts.astype(float), np.full(shape, scale))


def test_without_background_uncertainty_the_limit_is_that_of_a_counting_experiment():
    """Sidebands of a million events: n = b = 100 in the SR, q~_s = 2 (s - n ln(1 + s / b))."""
    scale = np.append(np.full(N_SIDEBANDS, 1e-6), 1.0)
    counts = np.append(np.full(N_SIDEBANDS, 100 / N_SR), 100.0)
    [limit] = upper_limits(Spectra(BINS, counts[None], scale[None]), Polynomial(BINS, 1))

    def cls(s):
        q = 2 * (s - 100 * np.log1p(s / 100))
        return ndtr(-np.sqrt(q)) / 0.5

    assert cls(limit.observed) == pytest.approx(0.05, rel=1e-3)
    assert limit.observed == pytest.approx(limit.expected, rel=1e-4)  # as many as expected
    assert limit.minus_2 < limit.minus_1 < limit.expected < limit.plus_1 < limit.plus_2


@pytest.mark.slow
@pytest.mark.parametrize(("signal", "scale"), [(0.0, 1.0), (40.0, 1.0), (0.0, 0.3)])
def test_as_pyhf(signal, scale):
    """Also below the expectation, above it, and of weighted events."""
    pyhf = pytest.importorskip("pyhf")
    model = Polynomial(BINS, 3)
    toy = spectra(150.0, signal, 1, seed=4, scale=scale)
    test = SpectrumTest.of(toy, model)
    workspace = pyhf.Workspace(test.workspace())
    theirs = workspace.model()
    observed, expected = pyhf.infer.intervals.upper_limits.upper_limit(
        workspace.data(theirs), theirs, scan=None, level=0.05, rtol=1e-3
    )
    [ours] = upper_limits(toy, model)
    bands = [ours.minus_2, ours.minus_1, ours.expected, ours.plus_1, ours.plus_2]
    assert ours.observed == pytest.approx(float(observed) * test.signal_unit, rel=0.01)
    np.testing.assert_allclose(bands, np.array(expected, dtype=float) * test.signal_unit, rtol=0.01)


@pytest.mark.parametrize("family", [Polynomial(BINS, 1), Exponential(BINS, 2)])
def test_a_limit_of_95_percent_is_above_the_truth_in_95_percent_of_toys(family):
    """The limit is above s where CLs of s is: of a signal well above its error the two statements are the same."""
    signal, n = 60.0, 3000
    profile = ProfiledSignal(spectra(150.0, signal, n, seed=5), family)
    covered = np.mean(profile.cls(np.full(n, signal)) >= 0.05)
    assert 0.93 < covered < 0.97


@pytest.mark.parametrize("signal", [0.5, 10.0, 25.0])
def test_a_small_signal_is_not_excluded_more_often_than_it_should(signal):
    """CLs covers too much where the data could not tell the signal from background."""
    n = 2000
    profile = ProfiledSignal(spectra(150.0, signal, n, seed=6), Polynomial(BINS, 1))
    excluded = np.mean(profile.cls(np.full(n, signal)) < 0.05)
    assert excluded < 0.05
    assert signal > 1 or excluded == 0


def test_the_bands_are_the_quantiles_of_toys():
    """A toy's limit is below a number where CLs of that number is below 5 %."""
    model, n = Polynomial(BINS, 1), 2000
    [bands] = upper_limits(Spectra(BINS, expectation(150.0, 0.0)[None], np.ones((1, N_SIDEBANDS + 1))), model)
    profile = ProfiledSignal(spectra(150.0, 0.0, n, seed=7), model)
    for limit, share in ((bands.minus_1, 0.16), (bands.expected, 0.5), (bands.plus_1, 0.84), (bands.plus_2, 0.977)):
        assert np.mean(profile.cls(np.full(n, limit)) < 0.05) == pytest.approx(share, abs=0.035)


def test_what_has_no_limit_is_refused():
    shape = (1, N_SIDEBANDS + 1)
    with pytest.raises(AnalysisError, match="no event in the sidebands"):
        upper_limits(Spectra(BINS, np.zeros(shape), np.ones(shape)), Polynomial(BINS, 1))
    with pytest.raises(ValueError, match="confidence is 95"):
        upper_limits(spectra(50, 0, 1, 1), Polynomial(BINS, 1), 95)


def test_events_before_the_cut_follow_from_what_was_injected():
    """A quarter passes of 100, half of 200: of 25 to 100 that pass, 100 to 200 were injected."""
    rows = [
        {"method": "cathode_fixed", "fpr": 0.1, "n_injected": n, "n_kept": kept}
        for n, kept in ((0, 0), (0, 0), (100, 20), (100, 30), (200, 100), (200, None))
    ]
    efficiency = SignalEfficiency(pd.DataFrame(rows))
    assert efficiency.injected("os", "os", 0.1, 12.5) == pytest.approx(50)
    assert efficiency.injected("os", "os", 0.1, 62.5) == pytest.approx(150)
    assert np.isnan(efficiency.injected("os", "os", 0.1, 101))  # more than were injected
    assert np.isnan(efficiency.injected("os", "os", 0.05, 12.5))  # a cut that was not tried
    assert np.isnan(efficiency.injected("ss", "ss", 0.1, 12.5))


def test_the_command(tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.chdir(tmp_path)
    chosen = small_results.build(tmp_path, charges=("os",))
    with caplog.at_level("INFO"):
        assert main(["limits", "small.yaml"]) == 0
    frame = pd.read_parquet("results/small/limits.parquet")
    histograms = pd.read_parquet("results/small/mass_histograms.parquet")
    of_cuts = histograms[histograms["variable"] == "cathode"]
    assert len(frame) == len(of_cuts.groupby(["train", "test", "fpr"]))
    no_cut = of_cuts[of_cuts["fpr"] == 1.0]
    low = no_cut["bin_low"].to_numpy()
    mass = np.repeat(low + 0.01, no_cut["n_obs"].to_numpy(dtype=int))
    settings = chosen.significance
    bins = chosen.window.binning(settings.n_bins_sr)
    [expected] = upper_limits(Spectra.of(mass, bins), Polynomial(bins, settings.degree))
    row = frame[frame["fpr"] == 1.0].iloc[0]
    assert row["limit"] == pytest.approx(expected.observed)
    assert row["limit_expected"] == pytest.approx(expected.expected)
    assert (frame["limit_minus_2"] < frame["limit_plus_2"]).all()
    assert f"{row['limit']:.1f}" in caplog.text
    assert "python -m dimuon study injection small.yaml" in caplog.text
    assert main(["limits", "small.yaml", "--confidence", "95"]) == 2
    assert "--confidence 95: it lies above 0.5 and below 1, such as 0.95" in capsys.readouterr().err
    (tmp_path / "results" / "small" / "mass_histograms.parquet").unlink()
    assert main(["limits", "small.yaml"]) == 2
    assert "run `python 06_significance.py small.yaml`" in capsys.readouterr().err
