"""The records of a search: what is written is read again, the headline table is the same wherever it is shown."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dimuon.bumphunt import cut_and_count
from dimuon.bumphunt.headlines import headline_rows, matched_first, on_screen
from dimuon.bumphunt.result import HEADLINES, Headline, LikelihoodResult, ScanPoint, Statistic, TestResult
from dimuon.random import Stream
from dimuon.regions import MassWindow
from dimuon.statistics.calibration import Calibrated, Calibration, p_value
from dimuon.statistics.families import Polynomial
from dimuon.statistics.intervals import clopper_pearson
from dimuon.statistics.settings import Toys
from dimuon.statistics.significance import discoveries
from dimuon.statistics.spectra import Spectra
from dimuon.statistics.working_points import CutVariable

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)
MODEL = Polynomial(WINDOW.binning(11), 3)
FPRS = np.array([1.0, 0.3, 0.1, 0.01])
FIGURE_FPRS = (1.0, 0.25, 0.1)


def sample(n_signal=80, n_background=4000):
    """(mass, score): a signal in the SR with high scores."""
    rng = np.random.default_rng(1)
    mass = np.r_[rng.normal(9.8, 0.2, n_signal), rng.uniform(5, 16, n_background)]
    logit = np.r_[rng.normal(1.5, 1, n_signal), rng.normal(0, 1, n_background)]
    return mass, 1 / (1 + np.exp(-logit))


@pytest.fixture(scope="module")
def search():
    """(curves, `TestResult`) of one sample, with toys of every kind."""
    mass, score = sample()
    numbers, stream = Toys(local=20, scan=10, weights=20), Stream(5)
    variables = cut_and_count.cut_variables(score, {"dimu_pt": 20 + 30 * score**2}, stream.generator())
    curves, spectra = cut_and_count.cut_and_count(mass, variables, FPRS, MODEL)
    curves = cut_and_count.add_toys(curves, spectra, MODEL, 20, stream.child("toys").generator())
    curves = cut_and_count.add_sculpting(
        curves, mass, variables, FPRS, MODEL.bins, 3, stream.child("flags").generator()
    )
    weighted = cut_and_count.reweighting(mass, score, MODEL)
    cuts = cut_and_count.cut_result(curves, spectra, MODEL, numbers, stream)
    likelihood = cut_and_count.likelihood_result(weighted, mass, MODEL, numbers, stream)
    return curves, TestResult.of("os", "os", len(mass), cuts, likelihood)


def test_a_result_is_read_as_it_was_written(search):
    _, result = search
    text = json.dumps(result.to_json(), allow_nan=False)
    again = TestResult.from_json(json.loads(text))
    assert json.dumps(again.to_json()) == text
    assert again.no_cut == result.no_cut
    assert again.likelihood_calibration == result.likelihood_calibration
    assert again.global_ == result.global_
    assert isinstance(again.likelihood_calibration, Calibration)
    assert np.isnan(again.cathode_max.z0_toys) == result.cathode_max.valid


def test_the_keys_of_significance_json(search):
    content = search[1].to_json()
    assert set(content) == {
        *("train", "test", "n_events", "no_cut", "cathode_max", "best_feature", "sidebands", "toys", "global"),
        "global_feature",
        *("likelihood", "likelihood_pooled", "likelihood_reason", "likelihood_calibration", "weight_scales"),
        "likelihood_calibrated",
    }
    assert set(content["toys"]) == {"no_cut", "cathode_max"}
    assert set(content["likelihood_calibration"]) == {
        *("n_toys", "mean", "std", "z", "fraction", "error", "nominal", "toys")
    }


def test_files_without_the_later_keys_are_read(search):
    content = search[1].to_json()
    for later in ("likelihood_pooled", "likelihood_calibration", "global", "toys"):
        del content[later]
    del content["cathode_max"]["sculpted"]
    read = TestResult.from_json(content)
    assert (read.likelihood_pooled, read.global_, read.cathode_max.sculpted) == (None, None, None)
    content["global"] = {"p0": 0.01, "p0_err": 0.01, "z0": 2.3, "n_toys": 100, "n_extreme": 0, "bound": True}
    earlier = TestResult.from_json(content).global_  # a bound of an earlier version stays one
    assert (earlier.local, earlier.z0, earlier.n, earlier.n_above) == (read.cathode_max.z0, None, 100, 0)
    with pytest.raises(KeyError, match="TestResult: train is missing"):
        TestResult.from_json({name: value for name, value in content.items() if name != "train"})


def test_the_best_cut_is_a_row_of_the_curves(search):
    curves, result = search
    own = curves[curves["variable"] == "cathode"]
    assert result.cathode_max == ScanPoint.of(own.loc[own["z0"].idxmax()])
    assert result.best_feature.variable == "dimu_pt"
    assert result.sidebands.chi2 == result.no_cut.chi2 == pytest.approx(own["chi2"].iloc[0], rel=1e-9)


def test_headlines_of_a_statistic_that_is_not_defined(search):
    result = replace(search[1], likelihood=None, likelihood_pooled=None, likelihood_reason="no excess")
    rows = result.headlines()
    assert [row.variable for row in rows] == list(HEADLINES)
    absent = rows[HEADLINES.index(Statistic.LIKELIHOOD)]
    assert absent.to_json() == {
        "variable": "likelihood", "fpr": 1.0, "z0": None, "n_obs": None, "n_bkg": None, "n_sig": None, "valid": None,
        "z_signed": None,
    }  # fmt: skip
    assert Headline.from_json(rows[1].to_json()) == rows[1]
    assert headline_rows([result])[0][Statistic.LIKELIHOOD].reason == "no excess"
    assert "os_on_os, likelihood: absent (no excess)" in on_screen([result])


def test_the_headline_table(search):
    result = search[1]
    row = headline_rows([result])[0]
    assert row[Statistic.NO_CUT].text == f"{result.no_cut.z0:.2f}"
    assert row[Statistic.GLOBAL].text == result.global_.text
    assert row[Statistic.GLOBAL].is_global
    assert f"global Z0 > {result.global_.bound:.1f}, a bound" in on_screen([result])
    assert row[Statistic.BEST_FEATURE].variable == "dimu_pt"
    doubtful = replace(result, cathode_max=replace(result.cathode_max, valid=False))
    assert headline_rows([doubtful])[0][Statistic.BEST_CUT].text.endswith(" (!)")
    crossed = replace(result, train="ss")
    assert [test.name for test in matched_first([crossed, result])] == ["os_on_os", "ss_on_os"]
    line = on_screen([result]).splitlines()[1]
    assert f"{result.likelihood_pooled.z0:.2f} " in line  # the headline, without bias
    assert row.likelihood.z0 == result.likelihood_pooled.z0 != result.likelihood.z0 == row.other_likelihood.z0
    assert headline_rows([replace(result, weight_scales="per_bin")])[0].likelihood.z0 == result.likelihood.z0
    assert f"{result.likelihood_calibration.mean:+.2f}" in line


def test_columns_on_the_screen_never_run_together(search):
    """Also where a value is long: two blanks at least between any two columns."""
    result = search[1]
    long = replace(result, cathode_max=replace(result.cathode_max, z0=1234.56, valid=False, fpr=0.00123456))
    head, first, second = on_screen([long, replace(result, train="a_long_name_of_a_sample")]).splitlines()[:3]
    assert len({len(re.split(r"\s{2,}", line.strip())) for line in (head, first, second)}) == 1
    assert "  1234.56 (!) at FPR 0.00123  " in first


def test_a_search_without_features(search):
    mass, score = sample()
    variables = cut_and_count.cut_variables(score, {}, np.random.default_rng(1))
    curves, spectra = cut_and_count.cut_and_count(mass, variables, FPRS, MODEL)
    cuts = cut_and_count.cut_result(curves, spectra, MODEL, Toys(local=0, scan=0, weights=0), Stream(5))
    assert (cuts.best_feature, cuts.toys, cuts.global_) == (None, None, None)
    result = TestResult.of("os", "os", len(mass), cuts, LikelihoodResult(likelihood_reason="not asked"))
    assert "none" in on_screen([result])


def test_a_calibrated_p_value_is_read_as_it_was_written():
    beyond = p_value(5.0, np.zeros(10))
    assert Calibrated.from_json(json.loads(json.dumps(beyond.to_json()))) == beyond
    assert beyond.p is None


# what step 6 saves for the figures


def test_figure_points_are_the_test_on_the_histograms_shown():
    mass, score = sample()
    classifier, weights = CutVariable("cathode", score), score**2
    reweighted = cut_and_count.reweighting(mass, score, MODEL, weights)
    points = cut_and_count.figure_points(mass, classifier, FIGURE_FPRS, MODEL, reweighted)
    shown = cut_and_count.mass_histograms(mass, classifier, FIGURE_FPRS, MODEL, reweighted)
    in_sr = shown[shown["region"] == "SR"].groupby(["variable", "fpr"])
    for point in points.itertuples():
        part = in_sr.get_group((point.variable, point.fpr))
        assert point.n_obs == pytest.approx(part["n_obs"].sum(), rel=1e-12)
        assert point.n_bkg == pytest.approx(part["n_bkg"].sum(), rel=1e-9)
    weighted = discoveries(Spectra.of(mass, MODEL.bins, weights, pooled=True), MODEL).one(0)
    last = points.iloc[-1]
    assert (last["variable"], last["fpr"], last["z0"]) == ("likelihood", 1.0, pytest.approx(weighted.z0, abs=1e-9))
    assert np.isnan(last["cut"])


def test_figure_points_are_those_of_the_scan_at_the_same_rate():
    mass, score = sample()
    classifier = CutVariable("cathode", score)
    points = cut_and_count.figure_points(mass, classifier, (1.0, 0.1), MODEL)
    curves, _ = cut_and_count.cut_and_count(mass, [classifier], FPRS, MODEL)
    at = curves[curves["fpr"].isin([1.0, 0.1])]
    for column in ("cut", "n_obs", "valid"):
        assert points[column].tolist() == at[column].tolist()
    np.testing.assert_allclose(points["z0"], at["z0"], atol=1e-9)


def test_efficiencies_count_the_events_that_the_scan_keeps():
    mass, score = sample()
    bins, classifier = WINDOW.binning(11), CutVariable("cathode", score)
    curves = pd.DataFrame({"variable": "cathode", "fpr": [1.0, 0.3, 0.1], "sculpted": [False, True, False]})
    table = cut_and_count.efficiencies(mass, classifier, FIGURE_FPRS, bins, curves)
    in_sr = table[table["region"] == "SR"]
    assert in_sr[["bin_low", "bin_high"]].drop_duplicates().to_numpy().tolist() == [[9.0, 10.6]]
    curve, _ = cut_and_count.cut_and_count(mass, [classifier], np.array(FIGURE_FPRS), MODEL)
    assert in_sr["n_after"].tolist() == curve["n_obs"].tolist()  # the same cuts, to the event
    assert in_sr["cut"].tolist() == curve["cut"].tolist()
    np.testing.assert_allclose(table["bin_low"].iloc[1:13], table["bin_high"].iloc[:12])
    whole = table[table["fpr"] == 1]
    assert (whole["efficiency"] == 1).all()
    inside = (mass >= table["bin_low"].min()) & (mass <= table["bin_high"].max())
    assert whole["n_before"].sum() == inside.sum()
    low, high = clopper_pearson(table["n_after"], table["n_before"])
    np.testing.assert_array_equal(table["efficiency_low"], low)
    np.testing.assert_array_equal(table["efficiency_high"], high)
    assert table.groupby("fpr")["sculpted"].first().to_dict() == {1.0: False, 0.25: True, 0.1: False}
    assert "sculpted" not in cut_and_count.efficiencies(mass, classifier, FIGURE_FPRS, bins)
