"""How numbers and settings are written in the report."""

import math
from collections.abc import Mapping
from typing import Any

from dimuon.statistics import model_choice
from dimuon.workflow.config import Config

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
    given = config.input.model_dump(exclude_none=True)
    source = next(
        f"{name} = {value}" for name, value in given.items() if name not in ("certified_luminosity", "triggers")
    )
    return [
        f"Input: {source}.",
        f"Selection: the two hardest muons that pass {config.selection.muon_id}, trigger {config.selection.trigger}, "
        f"{_cuts(config.selection.cuts)}; anti-isolation {_cuts(config.selection.anti_isolation)}.",
        f"Mass window: low sideband {window.sb_low:g}–{window.sr_low:g} GeV, signal region {window.sr_low:g}–"
        f"{window.sr_high:g} GeV, high sideband {window.sr_high:g}–{window.sb_high:g} GeV.",
        f"Features: {', '.join(config.features.names)}; scaled with limits from {config.features.limits_from} events.",
        config.estimator.sentence,
        f"Background: a polynomial of degree {config.background.degree} in the sidebands, "
        f"{config.background.n_bins_sr} bins over the signal region, {config.background.oversampling:g} sampled events "
        "per expected one.",
        f"Classifier: {bdt.members} members in {bdt.folds} folds; the mass is never given to it.",
        f"Test: {model_choice.describe(test)}, {test.n_bins_sr} bins over the signal region, "
        f"{test.n_working_points} working points from FPR 1 to {test.fpr_min:g}.",
    ]


def _cuts(cuts: Mapping[str, Any]) -> str:
    ends = [
        f"{name} {sign} {value:g}"
        for name, cut in cuts.items()
        for sign, value in ((">", cut.min), ("<", cut.max))
        if value is not None
    ]
    return ", ".join(ends) or "none"
