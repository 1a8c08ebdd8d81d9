"""How the report begins: what was found, which number to quote and why, what to do next, and what else one could read
off the same data. Every sentence is made from the saved numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dimuon.bumphunt.excess import Found, with_error
from dimuon.bumphunt.headlines import HeadlineRow, headline_rows, matched_first
from dimuon.bumphunt.result import Statistic, TestResult
from dimuon.figures.saved import Saved
from dimuon.figures.style import fpr_name
from dimuon.figures.verdicts import Verdict
from dimuon.figures.wording import capital, events_text, z_text
from dimuon.statistics.trials import GlobalSignificance
from dimuon.studies import standing
from dimuon.studies.controls import Verdicts
from dimuon.studies.cut_scan import Corrected
from dimuon.studies.pseudoexperiments import SOURCE
from dimuon.studies.variations import Ranges
from dimuon.workflow import products

OBSERVATION, EVIDENCE = 5.0, 3.0  # sigma, the conventions of the field
CONTROL = "ss"  # sample in which no resonance is looked for
KINDS = {  # of variations, in words
    "fits": "over background functions and bins",
    "seeds": "over random seeds",
    "sr_edges": "with the signal region moved",
    "sideband_edges": "with shorter sidebands",
    "preprocessing": "with another preprocessing",
    "flow": "with other flows",
}


@dataclass(frozen=True)
class Opening:
    """The first sentences of the page. others: the strongest alternative readings, strongest first."""

    found: str
    quote: str
    next: str
    others: tuple[str, ...]


def opening(saved: Saved, checks: Sequence[Verdict]) -> Opening | None:
    """The opening of the page; None before step 6. checks: the verdicts on the page.

    It is of the first sample that is searched; where a table was split, the other samples are among the readings.
    """
    matched = [result for result in matched_first(saved.results) if result.train == result.test]
    searched = sorted(matched, key=lambda result: result.test == CONTROL)
    if not searched:
        return None
    first, *others = headline_rows(searched)
    readings = [*_own(saved, first), *(_of_sample(saved, row) for row in others), *_of_studies(saved, first.result)]
    ranked = sorted(readings, key=lambda reading: reading[0], reverse=True)
    return Opening(
        _found(saved, first.result), _quote(saved, first), _next(saved, checks), tuple(text for _, text in ranked)
    )


def _found(saved: Saved, result: TestResult) -> str:
    """What the best cut keeps, and the peaks in it."""
    best, window = result.cathode_max, saved.config.window
    sample = capital(saved.data.sample(result.test))
    region = f"the signal region ({saved.data.mass.between(window.sr_low, window.sr_high)})"
    if not best.z0 > 0:
        return (
            f"{sample}: no excess. No cut on the classifier leaves more events in {region} than the sidebands predict."
        )
    excess = (
        f"{sample}: after the best cut on the classifier, at FPR {fpr_name(best.fpr)}, {region} holds "
        f"{events_text(best.n_obs)} events where the sidebands predict {with_error(best.n_bkg, best.n_bkg_err)}, "
        f"a local significance of {z_text(best.z0)}"
    )
    return f"{excess}{_peaks(saved, result)}."


def _peaks(saved: Saved, result: TestResult) -> str:
    content = saved.json(saved.run.path(products.PEAKS)) or {"tests": {}}
    if result.name not in content["tests"]:
        return ""
    found = Found.from_json(content["tests"][result.name])
    fit, names = next(
        ((each.fit, each.names) for each in found.peaks if each.variable == Statistic.BEST_CUT), (None, ())
    )
    if fit is None:
        return ""
    unit = saved.data.mass.unit
    each = [
        f"{with_error(peak.mass, peak.mass_err)} {unit}".strip() + (f" ({name})" if name else "")
        for peak, name in zip(fit.peaks, names, strict=True)
    ]
    if not each:
        return "; no peak stands out in it"
    places = " and ".join(filter(None, (", ".join(each[:-1]), each[-1])))
    return f"; {'peaks stand' if len(each) > 1 else 'a peak stands'} at {places}"


def _quote(saved: Saved, row: HeadlineRow) -> str:
    """The number to quote: counted in null datasets, else corrected for the cuts by toys, else none."""
    best, n_points = row.result.cathode_max, saved.config.significance.n_working_points
    local = f"the local {z_text(best.z0)} does not count that the best of {n_points} cuts was taken"
    doubt = "" if best.valid else ", and stands where too few events are left for its formula"
    worth = standing.quoted(saved.run.results, [row.result], saved.run).get(row.result.name)
    if worth is None:
        return f"No significance of the search yet: {local}{doubt}.{_gate(saved)}"
    counted = (
        ""
        if worth.source == SOURCE
        else " What the chain does on background alone is counted by the study pseudoexperiments."
    )
    return (
        f"The global significance of the best cut, {worth.text}σ ({worth.how}): {local}{doubt}.{counted} "
        f"{_strength(worth)}{_gate(saved)}"
    )


def _strength(worth: GlobalSignificance) -> str:
    """What the field calls a significance."""
    z0 = worth.z0 if worth.z0 is not None else worth.bound or 0.0
    if z0 >= OBSERVATION:
        return f"By the conventions of the field that is an observation (at least {OBSERVATION:g}σ)."
    if z0 >= EVIDENCE:
        return f"By the conventions of the field that is evidence (at least {EVIDENCE:g}σ), no observation."
    known = "such a bound is" if worth.z0 is None else "that is"
    return f"By the conventions of the field {known} no evidence (at least {EVIDENCE:g}σ)."


def _gate(saved: Saved) -> str:
    """What the controls say, where they were made."""
    controls = _controls(saved)
    if controls is None:
        return ""
    failed = [name.replace("_", " ") for name, control in controls.controls.items() if not control.passed]
    if not failed:
        return " The controls without a signal pass."
    return f" The controls without a signal do not pass ({', '.join(failed)}): say so with the number."


def _controls(saved: Saved) -> Verdicts | None:
    if saved.config.input.scores is not None:
        return None
    content = saved.optional_json(saved.run.path(products.PRODUCTS["controls_verdicts"]))
    return None if content is None else Verdicts.from_json(content)


def _next(saved: Saved, checks: Sequence[Verdict]) -> str:
    """What to do: mend the first check that fails, make the studies that are missing, or look at the rest."""
    failed = [verdict for verdict in checks if not verdict.passed]
    if failed:
        n = f"{len(failed)} of {len(checks)} checks fail" if len(failed) > 1 else f"one of {len(checks)} checks fails"
        return f"{capital(n)}. Begin with “{failed[0].check}”: {failed[0].remedy}."
    passed = f"All {len(checks)} checks made so far pass" if checks else "No check has been made"
    studies = [] if saved.config.input.scores is not None else ["controls", "pseudoexperiments"]
    undone = [name for name in studies if not saved.run.path(products.PRODUCTS[name]).exists()]
    if undone:
        commands = " and ".join(f"`python -m dimuon study {name} {saved.run.config_path}`" for name in undone)
        return f"{passed}; what is left to do is {commands}."
    return f"{passed}; what is left are the readings below and the figures under them."


def _own(saved: Saved, row: HeadlineRow) -> Iterator[tuple[float, str]]:
    """The other statistics of the same test."""
    for statistic, cell in row.cells.items():
        if statistic == Statistic.BEST_CUT or cell.is_global or cell.z0 is None:
            continue
        where = ""
        if statistic is Statistic.BEST_FEATURE and cell.variable is not None and cell.fpr is not None:
            named = saved.data.feature(cell.variable)
            where = f", {named.meaning or cell.variable} at FPR {fpr_name(cell.fpr)}, the best of all features and cuts"
        few = "" if cell.valid else ", where too few events are left for the formula"
        yield cell.z0, f"{capital(statistic.label)}{where}: {z_text(cell.z0)} local{few}"


def _of_sample(saved: Saved, row: HeadlineRow) -> tuple[float, str]:
    best = row.result.cathode_max
    aside = ", in which no resonance is looked for" if row.result.test == CONTROL else ""
    return best.z0, f"{capital(saved.data.sample(row.result.test))}{aside}, best cut: {z_text(best.z0)} local"


def _of_studies(saved: Saved, result: TestResult) -> Iterator[tuple[float, str]]:
    """The classical cuts, and the ranges over the choices of the analysis; where the studies were made."""
    if saved.config.input.scores is not None:
        return
    cuts = saved.optional_json(saved.run.path(products.PRODUCTS["cut_scan_best"])) or {}
    if result.test in cuts:
        scan = Corrected.from_json(cuts[result.test])
        yield (
            scan.best.z0,
            f"Classical cuts, pT > {scan.best.pt_cut:g} GeV and both IP3D < {scan.best.ip3d_cut:g} cm: "
            f"{z_text(scan.best.z0)} local; corrected for the number of cuts: "
            f"{scan.corrected}",
        )
    ranges = saved.optional_json(saved.run.path(products.PRODUCTS["variations_ranges"])) or {}
    if result.test in ranges:
        of_best = Ranges.from_json(ranges[result.test]).statistics.get(Statistic.BEST_CUT)
        for kind, one in of_best.ranges.items() if of_best else ():
            text = f"{one.low:.1f}–{one.high:.1f}σ local, median {one.median:.1f}σ ({one.n} variations)"
            yield one.high, f"Best cut on the classifier {KINDS.get(kind, kind)}: {text}"
