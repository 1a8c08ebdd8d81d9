"""How numbers and settings are written in the report."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dimuon.data.settings import DimuonTables
from dimuon.statistics import model_choice
from dimuon.workflow.config import Config

SMALLEST = 1e-300
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def z_text(value: float | None) -> str:
    """A significance: "5.7σ", or a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.1f}σ"


def p_text(value: float | None) -> str:
    """A p-value, two digits."""
    if value is None or not math.isfinite(value):
        return "–"
    if value >= 0.01:
        return f"{value:.2f}"
    if value < SMALLEST:  # beyond what a number of the machine can say
        return "< 10⁻³⁰⁰"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}·10{str(int(power)).translate(SUPERSCRIPTS)}"


def events_text(value: float) -> str:
    """A number of events: whole where it is, one decimal where not."""
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:,.1f}"


def count_text(value: int | None) -> str:
    """A number of events in a cutflow, a dash where it is not known."""
    return "–" if value is None else f"{value:,}"


def percent_text(value: float | None) -> str:
    """A fraction in percent, a dash where it is not known."""
    return "–" if value is None else f"{100 * value:.3g} %"


def capital(sentence: str) -> str:
    """The sentence with a capital letter."""
    return sentence[0].upper() + sentence[1:]


def settings_in_words(config: Config) -> list[str]:
    """The settings of an analysis as sentences, in the order of the steps."""
    window, bdt, test = config.window, config.bdt, config.significance
    between, feature = config.mass_axis.between, config.dataset.feature
    features = ", ".join(named(feature(name).meaning, name) for name in config.features.names)
    limits = {"all": "all events", "sidebands": "the sidebands alone"}[config.features.limits_from]
    return [
        f"Input: {_source(config)}.",
        *_selection(config),
        f"Mass window: low sideband {between(window.sb_low, window.sr_low)}, signal region "
        f"{between(window.sr_low, window.sr_high)}, high sideband {between(window.sr_high, window.sb_high)}.",
        f"Features: {features}; scaled with the smallest and largest values of {limits}.",
        config.estimator.sentence,
        f"Background: a polynomial of degree {config.background.degree} in the sidebands, "
        f"{config.background.n_bins_sr} bins over the signal region, {config.background.oversampling:g} sampled events "
        "per expected one.",
        f"Classifier ({bdt.classifier.kind.replace('_', ' ')}): {bdt.members} members in each of {bdt.folds} folds; "
        f"{'the events of one fold are searched; ' if bdt.searched_folds == 'one' else ''}"
        "the mass is never given to it.",
        f"Test: {model_choice.describe(test)}, {test.n_bins_sr} bins over the signal region, "
        f"{test.n_working_points} working points from FPR 1 to {test.fpr_min:g}.",
    ]


def named(meaning: str, name: str) -> str:
    """A column by its meaning, with its name: "3D impact parameter of the harder muon (mu0_ip3d)"."""
    return f"{meaning} ({name})" if meaning and meaning != name else name


def _source(config: Config) -> str:
    """Where the events were read from."""
    given = config.input
    if given.simulation is not None:
        files, scale = given.simulation.n_files, given.simulation.scale
        times = "" if scale == 1 else f"{scale:g} times "
        return f"{files} files of toy events, SIMULATED here, {times}as many as in the published sample"
    if given.table is not None:
        record = f" of record {given.table.record} of {given.portal}" if given.table.record else ""
        return f"the table {given.table.file}{record}"
    if given.record is not None:
        return f"the NanoAOD files of record {given.record} of {given.portal}"
    if given.files is not None:
        return f"the NanoAOD files {', '.join(given.files)}"
    if given.published_skim is not None:
        return f"the published skim in {given.published_skim}"
    if given.scores is not None:
        return f"the scored events in {given.scores}"
    tables = given.dimuons
    paths = [tables.os, tables.ss] if isinstance(tables, DimuonTables) else [tables]
    return f"the selected dimuons in {' and '.join(filter(None, paths))}"


def _selection(config: Config) -> Iterator[str]:
    """What was done here to select events; nothing where they were handed in selected."""
    table, chosen = config.input.table, config.selection
    if config.input.first_step == 1:
        yield (
            f"Selection: the two hardest muons that pass {chosen.muon_id}, trigger {chosen.trigger}, "
            f"{_cuts(config, chosen.cuts)}; anti-isolation: {_cuts(config, chosen.anti_isolation)}."
        )
    elif table is not None:
        cuts = f" with {_cuts(config, table.cuts)}" if table.cuts else ""
        drawn = (
            f", each drawn with its weight ({table.weight}) as probability: a sample of events of unit weight"
            if table.weight
            else ""
        )
        yield f"Selection: all events of the table inside the mass window{cuts}{drawn}."
    elif config.input.scores is not None:
        yield "Selection and classifier: made before this analysis, which begins with the scored events."
    else:
        yield "Selection: made before this analysis, which begins with the table of selected events."


def _cuts(config: Config, cuts: Mapping[str, Any]) -> str:
    ends = []
    for name, cut in cuts.items():
        feature = config.dataset.feature(name)
        for sign, value in ((">", cut.min), ("<", cut.max)):
            if value is not None:
                ends.append(f"{feature.meaning or name} {sign} {value:g} {feature.unit}".strip())
    return ", ".join(ends) or "none"


# what a reader outside the field, or of another collaboration, cannot know: {word on the page: what it means}
TERMS = {
    "OS": "opposite sign: the two muons have opposite charges",
    "SS": "same sign: the two muons have the same charge, so that no resonance is expected",
    "FPR": "false-positive rate: the fraction of sideband events that a cut keeps",
    "CATHODE": "anomaly detection by a classifier of data against background sampled from a model of the sidebands",
    "null datasets": "pseudo-data made of background alone",
    "one scale": "the weights of all sideband bins scaled alike, so that no single weight pulls the fit",
    "likelihood reweighting": "every event counts by its likelihood ratio of signal to background",
    "bias": "what the likelihood reads on background alone, on the mean",
    "AUC": "area under the ROC curve: 0.5 where a classifier cannot tell two samples apart, 1 where it always can",
    "KS distance": "Kolmogorov-Smirnov: largest difference of two cumulative distributions",
    "IP3D": "three-dimensional impact parameter: how far a track passes from the collision",
    "sculpt": "shape the mass spectrum by itself",
    "bootstrap toys": "pseudo-data drawn from the events themselves, with repetition",
}
_TAG = re.compile(r"(</?(\w*)[^>]*>)")
_SILENT = ("h1", "h2", "h3", "th", "nav", "code", "pre", "script", "style", "title", "button")


def explained(page: str) -> str:
    """The page, HTML, with every word of `TERMS` explained where it first stands in running text."""
    left = dict(TERMS)

    def in_text(text: str) -> str:
        for word in list(left):
            if stands := re.search(rf"\b{word}\b", text):
                before, after = text[: stands.end()], text[stands.end() :]
                inside = before.count("(") > before.count(")")
                meaning = f"[{left.pop(word)}]" if inside else f"({left.pop(word)})"
                text = f'{before} <span class="term">{meaning}</span>{after}'
        return text

    pieces, silent, start = list[str](), 0, 0
    for tag in _TAG.finditer(page):
        text = page[start : tag.start()]
        pieces += [text if silent else in_text(text), tag[1]]
        start = tag.end()
        if tag[2] in _SILENT:
            silent += -1 if tag[1].startswith("</") else 1
    return "".join([*pieces, page[start:]])
