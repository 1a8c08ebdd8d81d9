"""The report: what it says, and how it behaves in a real browser (headless Chromium)."""

import contextlib
import importlib.util
import io
import json
import re
import runpy
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from dimuon.bumphunt.result import WeightCalibration
from dimuon.errors import UserError
from dimuon.figures import drawing as drawing_module
from dimuon.figures import opening, references, registry, report, style, wording
from dimuon.figures.saved import Saved
from dimuon.figures.sections import Section, figure_name
from dimuon.figures.verdicts import verdicts
from dimuon.origin import Origin
from dimuon.statistics.peaks import Peak, PeakFit
from dimuon.workflow import cli, config, executor, products, provenance
from tests import servers, small_results

MEASURED = Origin("measured", "CMS Open Data", "2016", "13 TeV", "8.7 fb-1")

CHROMIUM_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
)  # fmt: skip
ONE_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8ffff3f0005fe02fe0def46b8"
    "0000000049454e44ae426082"
)


def make_page(folder, monkeypatch):
    """(saved, page) of the small results in `folder`, with one pixel for each figure."""
    monkeypatch.chdir(folder)
    run = provenance.Run(config.load("small.yaml"), "07_plots.py", "small.yaml")
    saved = Saved(run)
    drawings = registry.drawings(saved)
    (folder / "dot.png").write_bytes(ONE_PIXEL)
    (folder / "numbers.csv").write_text("a\n1\n")
    paths = {"png": folder / "dot.png", "csv": folder / "numbers.csv", "pdf": folder / "dot.png"}
    files = {drawing.name: paths for drawing in drawings}
    return saved, report.page(saved, drawings, files)


class Links(HTMLParser):
    """Collects ids, references and what would be loaded from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.references, self.outside = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name == "href" and value.startswith("#"):
                self.references.append(value[1:])
            if name in ("src", "href") and tag != "a" and not value.startswith(("#", "data:")):
                self.outside.append(value)


def text_of(page):
    """The page's words, without markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<(style|script).*?</\1>", "", page)))


def test_the_page_tells_the_whole_story(tmp_path, monkeypatch):
    small_results.build(tmp_path)
    saved, page = make_page(tmp_path, monkeypatch)
    links, words = Links(page), text_of(page)
    assert set(links.references) <= set(links.ids)
    assert len(links.ids) == len(set(links.ids))
    assert links.outside == []  # one file, no network
    for heading in (
        "Result",
        "Can it be believed",
        "Cutflow",
        "Settings",
        "Search",
        "Provenance",
    ):
        assert heading in words
    best = saved.summary["tests"]["os_on_os"]["cathode_max"]
    assert f"{best['z0']:.1f}σ" in words
    assert provenance.file_hash("data/small/dimuons.parquet") in page
    assert words.index("SIMULATED") < words.index("Found:") < words.index("Result Local")  # said before any number
    assert "What is missing" not in words
    assert "python 06_significance.py small.yaml python -m dimuon study controls small.yaml # optional" in words
    assert "<img" in page
    assert re.search(r'<img src="[^"]+" alt="[^"]{40,}"', page)


def opened(folder, monkeypatch, peaks=None, **changes):
    """The opening of the page of the small results. changes: of the test os_on_os, {name: {key: value}}."""
    monkeypatch.chdir(folder)
    saved = Saved(provenance.Run(config.load("small.yaml"), "07_plots.py", "small.yaml"))
    if peaks is not None:
        found = saved.json(saved.run.path(products.PEAKS))["tests"]["os_on_os"]["peaks"]
        next(each for each in found if each["variable"] == "cathode_max").update(peaks)
    for name, values in changes.items():
        test = saved.summary["tests"]["os_on_os"]
        test[name] = None if values is None else test[name] | values
    return opening.opening(saved, verdicts(saved))


def test_the_page_opens_with_the_numbers(tmp_path, monkeypatch):
    small_results.build(tmp_path)
    best = {"n_obs": 255.0, "n_bkg": 149.9, "n_bkg_err": 14.1, "z0": 5.04, "fpr": 0.1, "valid": True}
    first = opened(tmp_path, monkeypatch, cathode_max=best, likelihood={"z0": 9.9})
    assert (
        "at FPR 10%, the signal region (9-10.6 GeV) holds 255 events where the sidebands predict 150 ± 14"
        in first.found
    )
    assert "a local significance of 5.0σ; no peak stands out in it." in first.found
    assert first.quote.startswith("The global significance of the best cut, ")
    assert "the best of 25 cuts" in first.quote
    assert first.others[0] == "Likelihood reweighting: 9.9σ local"
    assert any(reading.startswith("SS dimuons, in which no resonance is looked for") for reading in first.others)
    assert (
        "All 11 checks made so far pass; what is left to do is `python -m dimuon study controls small.yaml`"
        in first.next
    )
    peaks = tuple(Peak(mass, 0.012, 0.08, 0.01, 60, 12) for mass in (9.456, 10.021))
    fit = PeakFit("gaussian", peaks, ((0.0,),), 0.01, 0.001, (), 150.0, 60.0, 9, 60.0, 58, 0.4, 0.0, (), (), 0.001)
    two = {"fit": fit.to_json(), "names": ["Y(1S)", None]}
    said = "; peaks stand at 9.456 ± 0.012 GeV (Y(1S)) and 10.021 ± 0.012 GeV."
    assert opened(tmp_path, monkeypatch, peaks=two, cathode_max=best).found.endswith(said)
    nothing = opened(tmp_path, monkeypatch, cathode_max={"z0": 0.0}, **{"global": None})
    assert nothing.found.startswith("OS dimuons: no excess.")
    assert nothing.quote.startswith("No significance of the search yet")


@pytest.mark.parametrize(
    ("toys", "said", "called"),
    [({"z0": 4.31, "z0_low": 4.2, "z0_high": 4.4, "bound": None}, "best cut, 4.31 ± 0.10σ (", "that is evidence"),
     ({"z0": None, "p": None, "bound": 2.1}, "best cut, > 2.1σ (a bound: none of", "such a bound is no evidence"),
     ({"z0": 5.2, "z0_low": 5.1, "z0_high": None, "bound": None}, "best cut, 5.20σ (", "that is an observation")],
)  # fmt: skip
def test_the_number_to_quote_is_the_global_one(tmp_path, monkeypatch, toys, said, called):
    small_results.build(tmp_path, charges=("os",))
    quote = opened(tmp_path, monkeypatch, **{"global": toys}).quote
    assert said in quote
    assert called in quote


def test_null_datasets_and_controls_decide_where_they_were_made(tmp_path, monkeypatch):
    small_results.write_studies(small_results.build(tmp_path, charges=("os",)), tmp_path, charges=("os",))
    first = opened(tmp_path, monkeypatch)
    assert "best cut, 2.33 ± 0.24σ (3 of 300 null datasets through the whole chain above): the local" in first.quote
    assert first.quote.endswith("The controls without a signal pass.")
    assert "what is left to do" not in first.next
    readings = [reading for reading in first.others if reading.startswith(("Best cut", "Classical"))]
    assert readings == [
        "Best cut on the classifier over random seeds: 4.6–5.7σ local, median 5.0σ (10 variations)",
        "Classical cuts, pT > 45.5 GeV and both IP3D < 0.01 cm: 5.3σ local; corrected for the number of cuts: global "
        "Z0 = 2.33 ± 0.24, 3 of 300 null datasets, scanned as the data above",
    ]
    path = tmp_path / "results/small/studies/controls.json"
    path.write_text(path.read_text().replace('"passed": true', '"passed": false'))
    meta = provenance.sidecar_path(path)
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"sha256": provenance.file_hash(path)}))
    first = opened(tmp_path, monkeypatch)
    assert first.quote.endswith("The controls without a signal do not pass (ss): say so with the number.")
    assert "“No signal in the control ss”: the chain finds something where nothing is" in first.next


def test_words_are_explained_where_they_first_stand():
    page = '<h2>FPR</h2><p class="FPR">(at FPR 10%)</p><table><th>FPR</th></table><p>OS and FPR, OSLO</p>'
    said = text_of(wording.explained(page))
    assert (
        said
        == " FPR (at FPR [false-positive rate: the fraction of sideband events that a cut keeps] 10%) FPR OS "
        + (f"({wording.TERMS['OS']}) and FPR, OSLO ")
    )
    assert text_of(wording.explained("<p>scores</p>")) == " scores "


def test_citations_are_of_what_was_used(tmp_path):
    def cited(given):
        path = tmp_path / "x.yaml"
        path.write_text(f"name: x\nseed: 1\n{given}\n")
        return references.of(config.load(path), MEASURED)

    of_record = cited("input: {record: 30555}\nestimator: {kind: flow_matching}")
    assert [each.key for each in of_record][:4] == [
        "Gambhir:2025",
        "CMS:DoubleMuon2016H",
        "Hallin:2021wme",
        "Lipman:2022",
    ]
    assert of_record[-1].key == "dimuon"
    assert not any(each.why.startswith("the data") for each in cited("input: {simulation: {}}"))
    table = "{record: 545, file: Ymumu.csv, mass: M}"
    assert "https://opendata.cern.ch/record/545" in [each.url for each in cited(f"input: {{table: {table}}}")]
    by_scores = {each.key for each in cited("input: {scores: mine.parquet}\nsignificance: {choice: envelope}")}
    assert "Dauncey:2014xga" in by_scores
    assert "Hallin:2021wme" not in by_scores
    text = references.bibliography(of_record)
    assert text.count("{") == text.count("}")
    assert len(re.findall(r"^@\w+\{[\w:-]+,$", text, re.MULTILINE)) == len(of_record)
    assert "eprint = {2210.02747}" in text


def test_missing_parts_are_said_and_the_rest_is_shown(tmp_path, monkeypatch):
    small_results.build(tmp_path, charges=("os",))
    for path in (tmp_path / "data/small").glob("flow_losses_os.parquet*"):
        path.unlink()
    for path in (tmp_path / "results/small").glob("feature_histograms.parquet*"):
        path.unlink()
    saved, page = make_page(tmp_path, monkeypatch)
    words = text_of(page)
    assert "What is missing" in words
    assert "data/small/flow_losses_os.parquet run `python 03_train_flows.py small.yaml`" in words
    assert "2 files of this analysis are missing or out of date" in words
    assert "Search" in words
    assert "Same-sign control" not in words
    assert saved.summary["tests"].keys() == {"os_on_os"}


def test_without_significances_the_page_still_stands(tmp_path, monkeypatch):
    small_results.build(tmp_path, charges=("os",))
    shutil.rmtree(tmp_path / "results")
    words = text_of(make_page(tmp_path, monkeypatch)[1])
    assert "Step 6 has not been run" in words
    assert "Training of the flows" in words


def test_a_corrupt_file_is_named(tmp_path, monkeypatch):
    small_results.build(tmp_path, charges=("os",))
    (tmp_path / "results/small/significance_curves.parquet").write_bytes(b"damaged")
    with pytest.raises(
        UserError, match=r"significance_curves\.parquet: its content is not what 06_significance\.py wrote"
    ):
        make_page(tmp_path, monkeypatch)


def test_an_optional_study_that_is_out_of_date_is_left_out_and_the_rest_shown(tmp_path, monkeypatch):
    small_results.write_studies(small_results.build(tmp_path, charges=("os",)), tmp_path, charges=("os",))
    studies = tmp_path / "results/small/studies"
    for name in ("variations.parquet", "controls.json"):
        meta = studies / f"{name}.meta.json"
        meta.write_text(meta.read_text().replace('"seed": 7', '"seed": 8'))
    saved, page = make_page(tmp_path, monkeypatch)
    words = text_of(page)
    said = "made with seed = 8, the configuration now says 7; run `python 06_significance.py small.yaml`"
    assert f"results/small/studies/variations.parquet left out: {said}" in words
    assert f"results/small/studies/controls.json left out: {said}" in words
    assert "2 files of this analysis are missing or out of date" in words
    assert 'id="figure-study_variations_os"' not in page
    assert 'id="figure-study_pseudoexperiments_os"' in page
    assert 'id="figure-study_controls"' in page
    assert "No signal in the control" not in words


@pytest.mark.parametrize("name", ["studies/variations.parquet", "studies/controls.json", "convergence.parquet"])
def test_a_damaged_optional_file_stops_and_is_named(tmp_path, monkeypatch, name):
    small_results.write_studies(small_results.build(tmp_path, charges=("os",)), tmp_path, charges=("os",))
    (tmp_path / "results/small" / name).write_bytes(b"damaged")
    with pytest.raises(UserError, match=f"{name}: its content is not what"):
        make_page(tmp_path, monkeypatch)


def test_what_was_not_made_is_named_with_its_command(tmp_path, monkeypatch):
    small_results.build(tmp_path, charges=("os",))
    with open(tmp_path / "small.yaml", "a") as file:
        file.write("significance: {toys: {scan: 100}}\n")  # the default
    saved, page = make_page(tmp_path, monkeypatch)
    expected = {name: f"run `python -m dimuon study {name.replace(' ', '_')} small.yaml`" for name in (
        "variations", "pseudoexperiments", "splits", "null origins", "controls", "injection", "cut scan")}  # fmt: skip
    expected["convergence"] = "run `python -m dimuon study convergence small.yaml`"
    expected["members for the convergence"] = "set bdt.keep_members, run `python 05_train_bdts.py small.yaml`"
    expected["same-sign control"] = (
        "add ss to selection.charges, run `python 02_select_dimuons.py small.yaml` and the steps after it"
    )
    assert dict(report.not_made(saved)) == expected
    words = text_of(page)
    assert all(f"{what}: {remedy}" in words for what, remedy in expected.items())
    small_results.write_studies(saved.config, tmp_path, charges=("os",))
    assert set(dict(report.not_made(make_page(tmp_path, monkeypatch)[0]))) == {"same-sign control"}


def test_scores_alone_lack_no_features_and_no_studies(tmp_path, monkeypatch):
    small_results.build(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nseed: 1\ninput: {scores: mine.parquet}\nsignificance: {toys: {local: 0, scan: 0, weights: 0}}\n"
    )
    scores = pd.read_parquet(tmp_path / "data/small/scores_os_on_os.parquet")
    masses = pd.read_parquet(tmp_path / "data/small/dimuons.parquet").loc[scores["row"], "dimu_mass"]
    scores.assign(dimu_mass=masses.to_numpy())[["dimu_mass", "score"]].to_parquet(tmp_path / "mine.parquet")
    monkeypatch.chdir(tmp_path)
    chosen = config.load("mine.yaml")
    root = Path(report.__file__).parents[2]
    runpy.run_path(str(root / "06_significance.py"))["main"](provenance.Run(chosen, "06_significance.py", "mine.yaml"))
    saved = Saved(provenance.Run(chosen, "07_plots.py", "mine.yaml"))
    names = {drawing.name.split("_")[0] for drawing in registry.drawings(saved)}
    assert names == {"fig2a", "fig2b", "fig4", "mass", "peaks"}
    assert verdicts(saved)
    assert saved.missing == {}
    assert dict(report.not_made(saved)) == {
        "global significance": "set significance.toys.scan, run `python 06_significance.py mine.yaml`"
    }


def test_warnings_stand_for_what_they_say(tmp_path, monkeypatch):
    small_results.build(tmp_path, charges=("os",))
    monkeypatch.chdir(tmp_path)
    saved = Saved(provenance.Run(config.load("small.yaml"), "07_plots.py", "small.yaml"))
    best = saved.summary["tests"]["os_on_os"]["cathode_max"]
    saved.used.clear()

    def said(origin, valid=True):
        best["valid"] = valid
        return " ".join(report.warnings(saved, origin, []))

    assert "asymptotic" not in said(MEASURED, valid=True)
    assert "asymptotic" in said(MEASURED, valid=False)
    assert "REBUILT" in said(Origin("rebuilt"))
    assert "REBUILT" not in said(MEASURED)
    assert "SIMULATED" not in said(MEASURED)


def test_doubtful_numbers_are_marked_in_the_table_and_said(tmp_path, monkeypatch):
    small_results.build(tmp_path, charges=("os",))
    monkeypatch.chdir(tmp_path)
    saved = Saved(provenance.Run(config.load("small.yaml"), "07_plots.py", "small.yaml"))
    test = saved.summary["tests"]["os_on_os"]
    for name in ("no_cut", "best_feature", "cathode_max", "likelihood"):
        for each in ("no_cut", "best_feature", "cathode_max", "likelihood"):
            test[each]["valid"] = each != name
        words = text_of(report.page(saved, [], {}))
        assert words.count("σ (!)") == 1
        assert f"{test[name]['z0']:.1f}σ (!)" in words
    assert "is flagged" not in words
    test["cathode_max"]["sculpted"] = True
    said = f"(FPR {style.fpr_name(test['cathode_max']['fpr'])}) is flagged: it shapes the mass in the sidebands"
    assert said in text_of(report.page(saved, [], {}))


def test_the_commit_of_every_file_is_shown_and_different_ones_are_said(tmp_path, monkeypatch):
    small_results.build(tmp_path, charges=("os",))
    for path in tmp_path.rglob("*.meta.json"):
        meta = json.loads(path.read_text())
        path.write_text(json.dumps(meta | {"git_commit": "a" * 40}))
    page = make_page(tmp_path, monkeypatch)[1]
    assert f'<code title="{"a" * 40}">aaaaaaaa</code>' in page
    assert "different commits" not in page
    path = tmp_path / "data/small/flow_losses_os.parquet.meta.json"
    path.write_text(path.read_text().replace("a" * 40, "b" * 40 + "+changes"))
    page = make_page(tmp_path, monkeypatch)[1]
    assert '<code title="' + "b" * 40 + '+changes">bbbbbbbb+</code>' in page
    assert "The files were made with 2 different commits of the source" in page


def test_simulated_signal_in_a_study_does_not_make_the_data_simulated(tmp_path, monkeypatch):
    small_results.write_studies(small_results.build(tmp_path, charges=("os",)), tmp_path, charges=("os",))
    for path in tmp_path.rglob("*.meta.json"):
        if not path.name.startswith("injection"):
            path.write_text(path.read_text().replace('"kind": "simulated"', '"kind": "measured"'))
    saved, page = make_page(tmp_path, monkeypatch)
    assert "Z0 over 4 seeds (0 failed): likelihood 0.52 ± 0.31; asked is a median and spread below 1" in text_of(page)
    assert saved.origin.kind == "measured"
    assert '<span class="origin">toy events (13 TeV)</span>' in page
    assert "SIMULATED signal is used in injection, and nowhere else on this page." in text_of(page)
    significance = saved.run.results / "significance.json.meta.json"
    significance.write_text(significance.read_text().replace('"kind": "measured"', '"kind": "rebuilt"'))
    assert saved.origin.kind == "rebuilt"


STUDIES = [
    f"-m dimuon study {name}"
    for name in ("controls", "cut_scan", "injection", "null_origins", "pseudoexperiments", "splits", "variations")
]


@pytest.mark.parametrize(
    ("settings", "before", "optional"),
    [
        ("input: {simulation: {}}", ["01_skim_nanoaod.py", "02_select_dimuons.py", "03_train_flows.py",
                                     "04_sample_background.py", "05_train_bdts.py", "06_significance.py"], STUDIES),
        ("input: {dimuons: mine.parquet}\nbdt: {keep_members: true}",
         ["03_train_flows.py", "04_sample_background.py", "05_train_bdts.py", "06_significance.py"],
         ["-m dimuon study convergence", *STUDIES]),
        ("input: {scores: mine.parquet}", ["06_significance.py"], []),
        ("input: {scores: mine.parquet}\nscan: {range: [5, 16], resolution: 0.01}", ["06_significance.py"],
         ["-m dimuon scan"]),
    ],
)  # fmt: skip
def test_the_page_lists_the_steps_that_the_input_needs_in_their_order(tmp_path, settings, before, optional):
    path = tmp_path / "x.yaml"
    path.write_text(f"name: x\nseed: 1\n{settings}\n")
    expected = [(step, False) for step in before] + [(step, True) for step in optional] + [("07_plots.py", False)]
    assert report.steps(config.load(path)) == expected


def test_verdicts_follow_the_numbers(tmp_path, monkeypatch):
    small_results.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    saved = Saved(provenance.Run(config.load("small.yaml"), "07_plots.py", "small.yaml"))
    saved.summary["tests"]["os_on_os"]["sidebands"]["p_chi2"] = 1e-4
    saved.summary["tests"]["ss_on_ss"]["cathode_max"]["z0"] = 3.5
    saved.json(saved.run.data / "closure_os.json")["sidebands"]["sidebands"]["auc"] = 0.6
    of_score = saved.json(saved.run.data / "sculpting_os_on_os.json")
    of_score["distance_correlation"] = of_score["distance_correlation"] | {"p_value": 1 / 501}
    judged = verdicts(saved)
    assert all("asked" in verdict.seen for verdict in judged)
    seen = {verdict.check: verdict.seen for verdict in judged}["Cuts do not sculpt the mass in the OS sidebands"]
    assert "spearman p = 0.40, distance correlation p ≤ 2.0·10⁻³; asked are at most 2 and p ≥ 0.01" in seen
    failed = {verdict.check for verdict in judged if not verdict.passed}
    assert failed >= {
        "Polynomial of degree 5 describes the sidebands, OS dimuons",
        "No signal where there is none (same sign)",
        "Samples agree with the OS sidebands",
        "Cuts do not sculpt the mass in the OS sidebands",
    }
    assert "Samples agree with the SS sidebands" not in failed


@pytest.mark.parametrize(
    ("test", "place", "auc", "passes"),
    [("half_split", "sidebands", 0.529, True), ("half_split", "sidebands", 0.531, False),
     ("shifted_windows", "12-13 GeV", 0.549, True), ("shifted_windows", "12-13 GeV", 0.551, False)],
)  # fmt: skip
def test_held_out_closure_is_judged(tmp_path, monkeypatch, test, place, auc, passes):
    small_results.build(tmp_path, charges=("os",))
    monkeypatch.chdir(tmp_path)
    saved = Saved(provenance.Run(config.load("small.yaml"), "07_plots.py", "small.yaml"))
    saved.json(saved.run.data / "closure_os.json")[test][place]["auc"] = auc
    by_check = {verdict.check: verdict for verdict in verdicts(saved)}
    what = {"half_split": "half of the OS sidebands", "shifted_windows": "OS windows of mass"}
    held_out = {
        name: by_check[f"Samples agree with {where} that the flows did not see"] for name, where in what.items()
    }
    assert f"{place}: {auc:.3f} ± 0.006" in held_out[test].seen
    assert {name for name, verdict in held_out.items() if verdict.word == "FAILS"} == (set() if passes else {test})


@pytest.mark.parametrize(("value", "words"), [(0.5, "0.50"), (1.234e-7, "1.2·10⁻⁷"), (None, "–"), (0.0, "< 10⁻³⁰⁰")])
def test_p_values_in_words(value, words):
    assert wording.p_text(value) == words


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium, driven by Selenium."""
    try:
        from selenium import webdriver
    except ImportError:
        servers.absent("selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        servers.absent("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*CHROMIUM_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def drawn_page(tmp_path_factory):
    """The page that step 7, run as a person runs it, makes of the results of one charge; its path."""
    folder = tmp_path_factory.mktemp("page")
    small_results.build(folder, charges=("os",))
    place = importlib.util.spec_from_file_location("step", Path(report.__file__).parents[2] / "07_plots.py")
    step = importlib.util.module_from_spec(place)
    place.loader.exec_module(step)
    figures = folder / "results/small/figures"
    figures.mkdir()
    for name in ("of_an_earlier_run.png", "of_mine.png"):
        (figures / name).write_bytes(ONE_PIXEL)
    (figures / "index.json").write_text('{"of_an_earlier_run": {"sha256": {"of_an_earlier_run.png": "0"}}}')
    with contextlib.chdir(folder):
        run = provenance.Run(config.load("small.yaml"), "07_plots.py", "small.yaml")
        assert cli.guarded("07_plots.py", lambda: step.main(run)) == 0
        assert run.stale(run.results / "report.html") is None
    return folder / "results" / "small" / "report.html"


@pytest.mark.slow
def test_every_figure_is_there_with_its_numbers_and_its_hash(drawn_page):
    figures = drawn_page.parent / "figures"
    index = json.loads((figures / "index.json").read_text())
    assert index["fig2a_mass_cathode_os_on_os"]["origin"]["kind"] == "simulated"
    listed = {name: digest for entry in index.values() for name, digest in entry["sha256"].items()}
    assert len(listed) == 3 * len(index)
    for name, digest in listed.items():
        assert provenance.file_hash(figures / name) == digest
    drawn = {name for name in listed if not name.endswith(".csv")}
    assert {path.name for path in figures.glob("*.p??")} == drawn | {"of_mine.png"}
    page = drawn_page.read_text()
    assert all(f'id="figure-{name}"' in page for name in index)


def show(browser, page, width, height=900, scheme="light"):
    """Load the page at a width in CSS pixels, as a phone or a desktop does it."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    browser.get(page.as_uri())


@pytest.mark.slow
@pytest.mark.parametrize("width", [375, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_chromium_nothing_overflows_and_every_image_loads(browser, drawn_page, width, scheme):
    show(browser, drawn_page, width, scheme=scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    loaded = browser.execute_script(
        "return [...document.querySelectorAll('figure img')].map(i => i.complete && i.naturalWidth > 100)"
    )
    assert len(loaded) >= 8
    assert all(loaded)
    errors = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert errors == []


@pytest.mark.slow
def test_in_chromium_dark_is_dark_and_text_is_readable(browser, drawn_page):
    """Contrast of text against its background of at least 4.5 to 1 (WCAG AA), light and dark."""
    brightness = {}
    for scheme in ("light", "dark"):
        show(browser, drawn_page, 1280, scheme=scheme)
        for selector in ("body", ".warnings", "a", ".soft"):
            style = browser.execute_script(
                "let e = document.querySelector(arguments[0]); const ink = getComputedStyle(e).color;"
                "while (getComputedStyle(e).backgroundColor === 'rgba(0, 0, 0, 0)') e = e.parentElement;"
                "return [ink, getComputedStyle(e).backgroundColor]",
                selector,
            )
            ink, paper = (_luminance(colour) for colour in style)
            assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, (scheme, selector)
            brightness[scheme, selector] = paper
    assert brightness["dark", "body"] < 0.05 < 0.9 < brightness["light", "body"]


def _luminance(colour):
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.slow
def test_in_chromium_figures_zoom_and_contents_lead_there(browser, drawn_page):
    from selenium.webdriver.common.by import By

    show(browser, drawn_page, 1280)
    dialog = browser.find_element(By.TAG_NAME, "dialog")
    assert not dialog.is_displayed()
    button = browser.find_element(By.CSS_SELECTOR, "figure .zoom")
    button.click()
    assert dialog.is_displayed()
    large = dialog.find_element(By.TAG_NAME, "img")
    assert large.size["width"] > button.find_element(By.TAG_NAME, "img").size["width"]
    dialog.find_element(By.TAG_NAME, "button").click()
    assert not dialog.is_displayed()
    for link in browser.find_elements(By.CSS_SELECTOR, "nav a"):
        target = browser.find_element(By.ID, link.get_attribute("href").partition("#")[2])
        assert target.is_displayed()


@pytest.mark.slow
def test_in_chromium_it_prints(browser, drawn_page):
    import base64

    show(browser, drawn_page, 1280)
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    assert pdf.startswith(b"%PDF")
    assert 3 <= n_pages(pdf) <= 20


def n_pages(pdf):
    """Pages of a PDF file."""
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


def test_in_chromium_everything_there_is_takes_twenty_pages_of_paper(browser, tmp_path, monkeypatch):
    """With both charges and every study, each figure a blank image of the usual shape."""
    import base64

    import numpy as np
    from matplotlib import image

    small_results.write_studies(small_results.build(tmp_path), tmp_path)
    monkeypatch.setattr("tests.test_report.ONE_PIXEL", _png(image, np.zeros((85, 105, 3))))
    page = make_page(tmp_path, monkeypatch)[1]
    assert page.count("<figure") >= 45
    assert page.index('id="robustness"') < page.index('id="cross-applications"')
    (tmp_path / "page.html").write_text(page)
    show(browser, tmp_path / "page.html", 1280)
    paper = {"printBackground": False, "preferCSSPageSize": True}
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", paper)["data"])
    assert 10 <= n_pages(pdf) <= 20


def _png(image, pixels):
    buffer = io.BytesIO()
    image.imsave(buffer, pixels, format="png")
    return buffer.getvalue()


@pytest.mark.slow
def test_in_chromium_columns_beyond_the_screen_of_a_phone_are_said(browser, drawn_page):
    show(browser, drawn_page, 375)
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].map(box => {"
        "const after = box.nextElementSibling, table = box.querySelector('table');"
        "const said = after !== null && after.className === 'hint' && getComputedStyle(after).display !== 'none';"
        "return [box.scrollWidth > box.clientWidth + 1, said, table.className]})"
    )
    assert any(beyond for beyond, _, _ in boxes)
    assert all(said for beyond, said, _ in boxes if beyond)
    assert sum(kind == "cards" and not beyond for beyond, _, kind in boxes) == 2  # the headline and the checks


@pytest.mark.parametrize(("mean", "said"), [(0.41, "+0.41σ on the mean (300 bootstrap toys)"), (0.1, None)])
def test_a_biased_likelihood_is_said_to_be_one(tmp_path, monkeypatch, mean, said):
    """Three standard errors of 300 toys with unit spread are 0.17."""
    small_results.build(tmp_path, charges=("os",))
    monkeypatch.chdir(tmp_path)
    (result,) = Saved(provenance.Run(config.load("small.yaml"), "07_plots.py", "small.yaml")).results
    behaviour = WeightCalibration(300, mean, 1.0, (3.0,), (0.1,), (0.01,), (0.1,), toys=result.global_)
    pooled = replace(result.likelihood, z0=5.3)
    valid = replace(result.cathode_max, valid=True)
    doubtful = replace(result, cathode_max=valid, likelihood_calibration=behaviour, likelihood_pooled=pooled)
    unbiased = list(report.doubts(doubtful))
    assert all("one scale" not in sentence for sentence in unbiased)  # it is the headline
    doubtful = replace(doubtful, weight_scales="per_bin")
    sentences = list(report.doubts(doubtful))
    if said is None:
        assert sentences == []
    else:
        assert said in sentences[0]
        assert "5.3σ" in sentences[0]


def test_figures_that_are_looked_at_first_are_first(small, tmp_path, monkeypatch):
    """The page then says that it is not complete, and is not taken for finished."""
    saved, drawings = small
    first = {drawing.name for drawing in drawings if drawing.first}
    assert {name.partition("_")[0] for name in first} >= {"fig2a", "fig2b", "fig3"}
    assert not any(name.startswith(("cross", "scores")) for name in first)
    read = list(registry.read(saved))
    assert {each.name for each in read[: len(first)]} == first
    assert [each.name for each in registry.in_order(read)] == [each.name for each in drawings]
    one, other, *_ = [drawing for drawing in drawings if drawing.first]
    rest = next(drawing for drawing in drawings if not drawing.first)
    looks = []
    (dot := tmp_path / "dot.png").write_bytes(ONE_PIXEL)
    monkeypatch.setattr(drawing_module, "write", lambda *_: dict.fromkeys(("png", "csv", "pdf"), dot))
    begun = drawing_module.begin([one, rest], tmp_path, executor.AtOnce())
    files = drawing_module.finish(begun, looks.append)
    assert [list(look) for look in looks] == [[one.name]]
    assert list(files) == [one.name, rest.name]
    text = report.page(saved, drawings, looks[0])
    assert f"{len(drawings) - 1} figures are still being drawn" in text
    assert f'id="figure-{one.name}"' in text
    assert f'id="figure-{other.name}"' not in text
    path = tmp_path / "report.html"
    provenance.sidecar_path(path).write_text("{}")
    report.write_unfinished(path, text)
    assert not provenance.sidecar_path(path).exists()
    assert "still being drawn" not in report.page(saved, [one], files)


def test_cross_applications_are_not_looked_at_first(small, monkeypatch):
    """Of any section: those of other fits stand beside the matched ones, and are drawn after all others."""
    saved, (any_drawing, *_) = small
    own, cross = (replace(any_drawing, name=figure_name("fits", "os", test), section="") for test in ("os", "ss"))
    kind = registry.Kind(Section.ROBUSTNESS, 1, "", registry.always, lambda _: [own, cross], first=True)
    assert [drawing.first for drawing in kind.of(saved)] == [True, False]
    other = replace(own, name="other")
    kinds = {"other": replace(kind, order=0, drawings=lambda _: [other], first=False), "fits": kind}
    monkeypatch.setattr(registry, "FIGURES", kinds)
    assert [drawing.name for drawing in registry.read(saved)] == [own.name, other.name, cross.name]
    assert [drawing.name for drawing in registry.drawings(saved)] == [other.name, own.name, cross.name]


def test_figures_are_chosen_by_name(small):
    drawings = small[1]
    names = [drawing.name for drawing in drawing_module.chosen(drawings, ["fig2", "closure_*"])]
    assert names == [name for name in (each.name for each in drawings) if name.startswith(("fig2", "closure_"))]
    assert len(names) == 3
    with pytest.raises(UserError, match="--only fig9: no such figure"):
        drawing_module.chosen(drawings, ["fig9"])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(saved, drawings) of the small results."""
    folder = tmp_path_factory.mktemp("small")
    small_results.build(folder, charges=("os",))
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patched:
        saved, _ = make_page(folder, patched)
        yield saved, registry.drawings(saved)
