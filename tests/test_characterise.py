"""What distinguishes an excess: known signals recovered, and nothing found where there is nothing."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2_contingency, kstest, norm

from dimuon.errors import AnalysisError
from dimuon.regions import MassWindow
from dimuon.statistics.characterise import ColumnDifference, Excess, Sampled, characterise, homogeneity
from dimuon.statistics.significance import fit_sidebands

WINDOW = MassWindow(5.0, 9.0, 10.6, 16.0)


def background(n, rng, decay=5.0):
    """Masses and columns: one like nothing, one that varies with the mass, one of whole numbers, one flag."""
    mass = -decay * np.log(rng.uniform(np.exp(-WINDOW.sb_high / decay), np.exp(-WINDOW.sb_low / decay), n))
    columns = {
        "plain": rng.normal(size=n),
        "of_mass": rng.normal(0.05 * mass, 1.0),
        "whole": rng.poisson(2.0, n),
        "flag": rng.uniform(size=n) < 0.3,
    }
    return mass, columns


def with_signal(mass, columns, rng, n):
    """The same and a signal, whose columns `plain` and `whole` are others."""
    signal = {
        "plain": rng.normal(1.0, 0.5, n),
        "of_mass": rng.normal(0.05 * 9.8, 1.0, n),
        "whole": rng.poisson(5.0, n),
        "flag": rng.uniform(size=n) < 0.3,
    }
    joined = {name: np.concatenate([values, signal[name]]) for name, values in columns.items()}
    return np.concatenate([mass, rng.normal(9.8, 0.1, n)]), joined


def excess_of(mass, kept=None):
    kept = np.ones(len(mass), dtype=bool) if kept is None else kept
    return Excess.of(mass, kept, WINDOW, fit_sidebands(mass[kept], WINDOW, degree=3))


def characterised(mass, columns, **others):
    excess = excess_of(mass)
    pairs = characterise(columns, excess, excess, **others)
    return {difference.column: (difference, spectrum) for difference, spectrum in pairs}


def test_sidebands_are_weighted_to_the_background_of_the_sr():
    mass, _ = background(20000, np.random.default_rng(1))
    excess = excess_of(mass)
    assert excess.sideband.sum() == pytest.approx(excess.n_bkg)
    assert not (excess.sideband != 0)[WINDOW.in_sr(mass)].any()
    inside = mass[WINDOW.in_sr(mass)]
    assert np.average(mass, weights=excess.sideband) == pytest.approx(
        inside.mean(), abs=4 * inside.std() / np.sqrt(len(inside))
    )
    assert excess.n_sig == pytest.approx(0, abs=4 * np.hypot(excess.n_bkg_err, np.sqrt(len(inside))))


def test_one_sideband_will_do_and_none_will_not():
    mass, _ = background(5000, np.random.default_rng(2))
    fit = fit_sidebands(mass, WINDOW, degree=3)
    only_low = Excess.of(mass, mass < WINDOW.sr_high, WINDOW, fit)
    assert only_low.sideband.sum() == pytest.approx(only_low.n_bkg)
    with pytest.raises(AnalysisError, match="0 events in the sidebands"):
        Excess.of(mass, WINDOW.in_sr(mass), WINDOW, fit)


def test_two_histograms_of_events_are_compared_as_pearson_does():
    first, second = np.array([10.0, 30.0, 25.0, 7.0]), np.array([40.0, 70.0, 90.0, 33.0])
    chi2, ndf = homogeneity(first, first, second, second)
    theirs = chi2_contingency(np.array([first, second]), correction=False)
    assert (chi2, ndf) == (pytest.approx(theirs.statistic), theirs.dof)
    scaled = homogeneity(first, first, 0.3 * second, 0.09 * second)
    assert scaled[0] == pytest.approx(chi2)


def test_a_histogram_of_one_bin_or_no_event_is_compared_with_nothing():
    for counts in (np.array([5.0]), np.zeros(3)):
        chi2, ndf = homogeneity(counts, counts, counts, counts)
        assert np.isnan(chi2)
        assert ndf == 0


@pytest.mark.slow
def test_without_a_signal_the_p_values_are_uniform():
    """Of columns that vary with the mass or not, with sidebands of unequal weight."""
    rng, p = np.random.default_rng(3), {}
    for _ in range(300):
        for name, (difference, _) in characterised(*background(2500, rng)).items():
            p.setdefault(name, []).append(difference.p_chi2)
            p.setdefault(f"{name}, linear", []).append(difference.p_linear)
    for name, values in p.items():
        assert kstest(values, "uniform").pvalue > 1e-3, name


def test_without_the_interpolation_a_column_of_the_mass_would_look_like_a_signal():
    """The test that the weights of the sidebands are what makes the one above pass."""
    mass, columns = background(80000, np.random.default_rng(4), decay=2.5)
    excess = excess_of(mass)
    plain = np.where(WINDOW.in_sidebands(mass), excess.n_bkg / WINDOW.in_sidebands(mass).sum(), 0.0)
    shared = replace(excess, sideband=plain)
    [(without, _)] = characterise({"of_mass": columns["of_mass"]}, shared, shared)
    [(weighted, _)] = characterise({"of_mass": columns["of_mass"]}, excess, excess)
    assert without.p_chi2 < 1e-5
    assert weighted.p_chi2 > 1e-3


@pytest.mark.slow
def test_a_known_signal_is_recovered_within_its_errors():
    rng, bins, means, separations = np.random.default_rng(5), [], [], []
    truth = norm(1.0, 0.5)
    for _ in range(150):
        mass, columns = background(5000, rng)
        n = rng.poisson(500)
        found = characterised(*with_signal(mass, columns, rng, n))
        difference, spectrum = found["plain"]
        edges = np.append(spectrum.low, spectrum.high[-1])
        edges[[0, -1]] = -np.inf, np.inf
        bins.append((spectrum.signal - 500 * np.diff(truth.cdf(edges))) / spectrum.signal_err)
        means.append((difference.mean_signal - 1.0) / difference.mean_signal_err)
        of_both = norm.cdf(1.0 / np.sqrt(1 + 0.25))  # P(N(1, 0.5) > N(0, 1))
        separations.append((difference.auc - of_both) / difference.auc_err)
    for pulls in (np.concatenate(bins), np.array(means), np.array(separations)):
        assert pulls.mean() == pytest.approx(0, abs=0.3)
        assert pulls.std() == pytest.approx(1, abs=0.15)


def test_columns_are_ranked_by_how_they_differ():
    rng = np.random.default_rng(6)
    found = list(characterised(*with_signal(*background(6000, rng), rng, 600), trained=["plain"]).values())
    names = [difference.column for difference, _ in found]
    assert set(names[:2]) == {"plain", "whole"}
    z = [difference.z for difference, _ in found]
    assert z == sorted(z, reverse=True)
    by_name = {difference.column: difference for difference, _ in found}
    assert by_name["plain"].trained
    assert not by_name["whole"].trained
    assert by_name["whole"].discrete
    assert not by_name["of_mass"].discrete
    assert by_name["flag"].p_any == pytest.approx(min(4 * by_name["flag"].p_chi2, 1))
    assert by_name["plain"].auc > 0.5 + 5 * by_name["plain"].auc_err


@pytest.mark.slow
def test_a_cut_that_shapes_a_column_is_not_taken_for_a_difference():
    """Signal and background alike in all columns: what a cut on one of them leaves is alike, too."""
    rng, p = np.random.default_rng(7), []
    for _ in range(200):
        mass, _ = background(6000, rng)
        mass = np.concatenate([mass, rng.normal(9.8, 0.1, 600)])
        columns = {name: rng.normal(size=len(mass)) for name in ("plain", "other")}
        kept = columns["plain"] > 0.7
        pairs = characterise(columns, excess_of(mass, kept), excess_of(mass))
        p += [difference.p_chi2 for difference, _ in pairs]
    assert kstest(p, "uniform").pvalue > 1e-3


def test_sampled_background_is_compared_with_the_sidebands():
    rng = np.random.default_rng(8)
    mass, columns = background(20000, rng)
    good, bad = rng.normal(size=4000), rng.normal(0.5, 1.0, 4000)
    weight = rng.uniform(0.5, 1.5, 4000)
    for drawn, agrees in ((good, True), (bad, False)):
        difference, spectrum = characterised(mass, columns, sampled=Sampled({"plain": drawn}, weight))["plain"]
        assert (difference.p_sampled > 1e-3) == agrees
        assert spectrum.sampled.sum() == pytest.approx(spectrum.background.sum())
    difference, spectrum = characterised(mass, columns, sampled=Sampled({"plain": good}, weight))["whole"]
    assert np.isnan(difference.p_sampled)
    assert np.isnan(spectrum.sampled).all()


def test_columns_of_text_of_one_value_and_with_holes():
    rng = np.random.default_rng(9)
    mass, columns = with_signal(*background(5000, rng), rng, 500)
    holes = np.where(rng.uniform(size=len(mass)) < 0.1, np.nan, columns["plain"])
    found = characterised(
        mass,
        {
            "kind": np.where(np.arange(len(mass)) % 3, "tight", "loose"),
            "same": np.ones(len(mass)),
            "holes": holes,
            "empty": np.full(len(mass), np.nan),
        },
    )
    kind, of_kind = found["kind"]
    assert of_kind.labels == ("loose", "tight")
    assert kind.discrete
    assert np.isnan(kind.mean_signal)
    for name in ("same", "empty"):
        assert np.isnan([found[name][0].z, found[name][0].p_chi2]).all()
        assert found[name][0].n_bins == 1
    passing = excess_of(mass).in_sr | WINDOW.in_sidebands(mass)
    assert found["holes"][0].n_missing == np.isnan(holes[passing]).sum()
    assert found["holes"][0].auc == pytest.approx(characterised(mass, columns)["plain"][0].auc, abs=0.05)
    assert list(found)[0] == "holes"


def test_a_deficit_has_no_spectrum_to_speak_of():
    rng = np.random.default_rng(10)
    mass, columns = background(5000, rng)
    thinned = ~WINDOW.in_sr(mass) | (rng.uniform(size=len(mass)) < 0.5)
    found = characterised(mass[thinned], {name: values[thinned] for name, values in columns.items()})
    assert np.isnan([found["plain"][0].auc, found["plain"][0].mean_signal]).all()
    assert found["plain"][0].p_chi2 > 1e-4


def test_a_column_that_is_no_linear_function_of_the_mass_is_doubtful_and_comes_last():
    rng = np.random.default_rng(14)
    mass, columns = with_signal(*background(6000, rng), rng, 600)
    columns["half"] = rng.normal(0.5 * mass, 0.2)
    found = characterised(mass, columns)
    assert list(found)[-1] == "half"
    assert [name for name, (difference, _) in found.items() if difference.doubtful] == ["half"]


def test_a_significance_beyond_the_smallest_number_is_finite_and_ordered():
    rng = np.random.default_rng(11)
    mass, _ = background(100000, rng)
    far = np.where(WINDOW.in_sr(mass), rng.normal(3, 1, len(mass)), rng.normal(size=len(mass)))
    near = np.where(WINDOW.in_sr(mass), rng.normal(2, 1, len(mass)), rng.normal(size=len(mass)))
    found = characterised(mass, {"near": near, "far": far})
    assert found["far"][0].p_chi2 == 0
    assert np.isfinite(found["far"][0].z)
    assert found["far"][0].z > found["near"][0].z > 30
    assert list(found) == ["far", "near"]


def test_a_difference_is_saved_and_read_back():
    mass, columns = background(2000, np.random.default_rng(12))
    difference, _ = characterised(mass, columns)["plain"]
    assert ColumnDifference.from_json(difference.to_json()).to_json() == difference.to_json()


def test_a_column_that_is_mostly_one_value():
    rng = np.random.default_rng(13)
    mass, _ = background(4000, rng)
    mostly = np.where(rng.uniform(size=len(mass)) < 0.99, 0.0, rng.exponential(size=len(mass)))
    difference, spectrum = characterised(mass, {"mostly": mostly})["mostly"]
    assert difference.n_bins == len(spectrum.low)
    assert spectrum.n_obs.sum() == WINDOW.in_sr(mass).sum()
    assert (spectrum.low[:1], spectrum.high[-1:]) == (mostly.min(), mostly.max())
