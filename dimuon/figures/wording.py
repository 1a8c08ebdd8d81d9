"""How numbers and settings are written in the report."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

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
    unit = config.mass_axis.unit
    return [
        f"Input: {_source(config)}.",
        *_selection(config),
        f"Mass window: low sideband {window.sb_low:g}–{window.sr_low:g} {unit}, signal region {window.sr_low:g}–"
        f"{window.sr_high:g} {unit}, high sideband {window.sr_high:g}–{window.sb_high:g} {unit}.",
        f"Features: {', '.join(config.features.names)}; scaled with limits from {config.features.limits_from} events.",
        config.estimator.sentence,
        f"Background: a polynomial of degree {config.background.degree} in the sidebands, "
        f"{config.background.n_bins_sr} bins over the signal region, {config.background.oversampling:g} sampled events "
        "per expected one.",
        f"Classifier: {bdt.members} members in {bdt.folds} folds; the mass is never given to it.",
        f"Test: {model_choice.describe(test)}, {test.n_bins_sr} bins over the signal region, "
        f"{test.n_working_points} working points from FPR 1 to {test.fpr_min:g}.",
    ]


def _source(config: Config) -> str:
    """Where the events were read from."""
    given = config.input
    if given.table is not None:
        record = f" of record {given.table.record} of {given.portal}" if given.table.record else ""
        return f"the table {given.table.file}{record}"
    return f"{given.source} = {given.model_dump()[given.source]}"


def _selection(config: Config) -> Iterator[str]:
    """What was done here to select events; nothing where they were handed in selected."""
    table, chosen = config.input.table, config.selection
    if config.input.first_step == 1:
        yield (
            f"Selection: the two hardest muons that pass {chosen.muon_id}, trigger {chosen.trigger}, "
            f"{_cuts(chosen.cuts)}; anti-isolation {_cuts(chosen.anti_isolation)}."
        )
    elif table is not None:
        cuts = f" with {_cuts(table.cuts)}" if table.cuts else ""
        yield f"Selection: all events of the table inside the mass window{cuts}."
    else:
        yield "Selection: made before this analysis, which begins with the table of selected events."


def _cuts(cuts: Mapping[str, Any]) -> str:
    ends = [
        f"{name} {sign} {value:g}"
        for name, cut in cuts.items()
        for sign, value in ((">", cut.min), ("<", cut.max))
        if value is not None
    ]
    return ", ".join(ends) or "none"
