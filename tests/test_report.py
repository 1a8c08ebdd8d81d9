"""The report: what it says, and how it behaves in a real browser (headless Chromium)."""

import contextlib
import importlib.util
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dimuon import artifacts, cli, config, gallery, report
from dimuon.errors import UserError
from tests import servers, small_results

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
    run = artifacts.Run(config.load("small.yaml"), "07_plots.py", "small.yaml")
    saved = gallery.Saved(run)
    drawings = gallery.drawings(saved)
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
            if name in ("src", "href") and not value.startswith(("#", "data:")):
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
        "Opposite-sign search",
        "Provenance",
    ):
        assert heading in words
    best = saved.summary["tests"]["os_on_os"]["cathode_max"]
    assert f"{best['z0']:.1f}σ" in words
    assert artifacts.file_hash("data/small/dimuons.parquet") in page
    assert words.index("SIMULATED") < words.index("Result Local")  # said before any number
    assert "What is missing" not in words
    assert "<img" in page
    assert re.search(r'<img src="[^"]+" alt="[^"]{40,}"', page)


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
    assert "2 files of this analysis are missing" in words
    assert "Opposite-sign search" in words
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


def test_warnings_stand_for_what_they_say(tmp_path, monkeypatch):
    small_results.build(tmp_path, charges=("os",))
    monkeypatch.chdir(tmp_path)
    saved = gallery.Saved(artifacts.Run(config.load("small.yaml"), "07_plots.py", "small.yaml"))
    summary = json.loads(json.dumps(saved.summary))
    assert not any("asymptotic" in said for said in report.warnings("measured", _with_valid(summary, True), saved))
    assert any("asymptotic" in said for said in report.warnings("measured", _with_valid(summary, False), saved))
    assert any("REBUILT" in said for said in report.warnings("rebuilt", None, saved))
    assert not any("REBUILT" in said or "SIMULATED" in said for said in report.warnings("measured", None, saved))


def _with_valid(summary, valid):
    summary["tests"]["os_on_os"]["cathode_max"]["valid"] = valid
    return summary


def test_verdicts_follow_the_numbers(tmp_path, monkeypatch):
    small_results.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    saved = gallery.Saved(artifacts.Run(config.load("small.yaml"), "07_plots.py", "small.yaml"))
    saved.summary["tests"]["os_on_os"]["sidebands"]["p_chi2"] = 1e-4
    saved.summary["tests"]["ss_on_ss"]["cathode_max"]["z0"] = 3.5
    saved.json(saved.run.data / "closure_os.json")["sidebands"]["sidebands"]["auc"] = 0.6
    failed = {said["check"] for said in report.verdicts(saved) if said["verdict"] == "FAILS"}
    assert failed >= {
        "Polynomial describes the sidebands, OS dimuons",
        "No signal where there is none (same sign)",
        "Samples agree with the OS sidebands",
    }
    assert "Samples agree with the SS sidebands" not in failed


@pytest.mark.parametrize(("value", "words"), [(0.5, "0.50"), (1.234e-7, "1.2·10⁻⁷"), (None, "–"), (0.0, "0.0·10⁰")])
def test_p_values_in_words(value, words):
    assert report.p_text(value) == words


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
    place = importlib.util.spec_from_file_location("step", Path(report.__file__).parents[1] / "07_plots.py")
    step = importlib.util.module_from_spec(place)
    place.loader.exec_module(step)
    (folder / "results/small/figures").mkdir()
    (folder / "results/small/figures/of_an_earlier_run.png").write_bytes(ONE_PIXEL)
    with contextlib.chdir(folder):
        run = artifacts.Run(config.load("small.yaml"), "07_plots.py", "small.yaml")
        assert cli.guarded("07_plots.py", lambda: step.main(run)) == 0
        assert run.stale(run.results / "report.html") is None
    return folder / "results" / "small" / "report.html"


def test_every_figure_is_there_with_its_numbers_and_its_hash(drawn_page):
    figures = drawn_page.parent / "figures"
    index = json.loads((figures / "index.json").read_text())
    assert index["fig2a_mass_cathode_os_on_os"]["origin"] == "simulated"
    listed = {name: digest for entry in index.values() for name, digest in entry["sha256"].items()}
    assert len(listed) == 3 * len(index)
    for name, digest in listed.items():
        assert artifacts.file_hash(figures / name) == digest
    assert {path.name for path in figures.glob("*.p??")} == {name for name in listed if not name.endswith(".csv")}
    page = drawn_page.read_text()
    assert all(f'id="figure-{name}"' in page for name in index)


def show(browser, page, width, height=900, scheme="light"):
    """Load the page at a width in CSS pixels, as a phone or a desktop does it."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    browser.get(page.as_uri())


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


def test_in_chromium_it_prints(browser, drawn_page):
    import base64

    show(browser, drawn_page, 1280)
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    assert pdf.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 40


@pytest.mark.parametrize(("mean", "said"), [(0.41, "+0.41σ on the mean (300 bootstrap toys)"), (0.1, None)])
def test_a_biased_likelihood_is_said_to_be_one(mean, said):
    """Three standard errors of 300 toys with unit spread are 0.17."""
    test = {
        "likelihood_calibration": {"mean": mean, "std": 1.0, "n_toys": 300},
        "likelihood_pooled": {"z0": 5.3},
    }
    sentence = report._likelihood_bias(test)
    if said is None:
        assert sentence is None
    else:
        assert said in sentence
        assert "5.3σ" in sentence
