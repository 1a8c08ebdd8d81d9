"""What the checks of an analysis say, one by one: passed or not, and what was seen."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dimuon.figures.saved import Saved
from dimuon.figures.style import fpr_name
from dimuon.figures.wording import capital, p_text, z_text
from dimuon.statistics import model_choice
from dimuon.statistics.sculpting import Dependence
from dimuon.workflow import products

# what a check must reach to pass
P_DOUBTFUL = 0.01  # p-value of the sideband fit
AUC_CLOSED = 0.53  # of a classifier that tells sampled from real sideband events
AUC_INTERPOLATED = 0.55  # the same in windows of mass that the flows did not see
KS_CLOSED = 0.025  # distance of each feature
P_DEPENDENT = 0.01  # of the score against the mass, by permutations
N_FLAGGED = 2  # working points flagged at the 1 % level; of 24 clean ones, 0.24 are expected to be
Z_QUIET = 3.0  # local significance of the best of all cuts in the same-sign control


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check. check: what is asked; seen: the numbers that decide; remedy: what to do if it fails."""

    check: str
    passed: bool
    seen: str
    remedy: str

    @property
    def word(self) -> str:
        """The outcome as it stands in the report."""
        return "passes" if self.passed else "FAILS"


def verdicts(saved: Saved) -> list[Verdict]:
    """The verdict of every check whose files are there."""
    checks = (_fits_and_control, _closures, _sculpting, _controls)
    return [verdict for check in checks for verdict in check(saved)]


def _fits_and_control(saved: Saved) -> Iterator[Verdict]:
    """Does the fit describe the sidebands, and is the same-sign control quiet? Of the matched tests alone: a
    cross-application has the same dimuons."""
    model = capital(model_choice.describe(saved.config.significance))
    for result in saved.results:
        if result.train != result.test:
            continue
        fit, best = result.sidebands, result.cathode_max
        yield Verdict(
            f"{model} describes the sidebands, {saved.data.describe(result.train, result.test)}",
            fit.p_chi2 >= P_DOUBTFUL,
            f"χ² = {fit.chi2:.1f} for {fit.ndf} degrees of freedom, p = {p_text(fit.p_chi2)}; "
            f"asked is p ≥ {P_DOUBTFUL:g}",
            "choose another function of the mass (significance.family, degree or choice), run step 6 again",
        )
        if result.test == "ss" and not _has_controls(saved):  # the study asks the same over many seeds
            yield Verdict(
                "No signal where there is none (same sign)",
                best.z0 < Z_QUIET,
                f"largest local significance {z_text(best.z0)} at FPR {fpr_name(best.fpr)}; asked is < {Z_QUIET:g}σ",
                "the study controls asks the same over many seeds; what it finds counts",
            )


def _closures(saved: Saved) -> Iterator[Verdict]:
    """Do sampled events agree with real ones, also where the background model did not see them?"""
    for charge in saved.charges if saved.config.input.scores is None else ():
        tests = saved.json(saved.run.path(products.CLOSURE, charge=charge)) or {}
        if whole := tests.get("sidebands", {}).get("sidebands"):
            largest = max(value["distance"] for value in whole["ks"].values())
            yield Verdict(
                f"Samples agree with the {saved.data.named('sidebands', charge)}",
                whole["auc"] < AUC_CLOSED and largest < KS_CLOSED,
                f"{_auc_text(whole, 'AUC ')}, largest KS distance {largest:.3f}; asked are below {AUC_CLOSED:g} and "
                f"{KS_CLOSED:g}",
                "see the figures of the background model; train longer, with more members, or another estimator.kind",
            )
        for test, where, limit in (
            ("half_split", f"half of the {saved.data.named('sidebands', charge)}", AUC_CLOSED),
            ("shifted_windows", saved.data.named("windows of mass", charge), AUC_INTERPOLATED),
        ):
            records = {place: record for place, record in tests.get(test, {}).items() if "auc" in record}
            if records:
                yield Verdict(
                    f"Samples agree with {where} that the flows did not see",
                    all(record["auc"] < limit for record in records.values()),
                    "AUC in "
                    + ", ".join(_auc_text(record, f"{place}: ") for place, record in records.items())
                    + f"; asked is below {limit:g}",
                    "the model describes what it has seen better than the rest: fewer parameters, or another "
                    "estimator.kind",
                )


def _auc_text(record: dict[str, Any], what: str) -> str:
    return f"{what}{record['auc']:.3f} ± {record['auc_err']:.3f}"


def _sculpting(saved: Saved) -> Iterator[Verdict]:
    """Do the scores know the mass in the sidebands? One for each matched test."""
    for charge in saved.charges if saved.config.input.scores is None else ():
        record = saved.json(saved.run.path(products.SCULPTING_TEST, train=charge, test=charge))
        table = saved.table(saved.run.path(products.SCULPTING, train=charge, test=charge))
        if record is None or table is None:
            continue
        flagged = table[table["fpr"] < 1].groupby("fpr")["sculpted"].any()  # what keeps everything cannot sculpt
        tests = {name: Dependence.from_json(record[name]) for name in ("spearman", "distance_correlation")}
        p_values = ", ".join(
            f"{name.replace('_', ' ')} p {'≤' if test.at_floor else '='} {p_text(test.p_value)}"
            for name, test in tests.items()
        )
        independent = all(test.p_value >= P_DEPENDENT for test in tests.values())
        yield Verdict(
            f"Cuts do not sculpt the mass in the {saved.data.named('sidebands', charge)}",
            bool(flagged.sum() <= N_FLAGGED) and independent,
            f"{flagged.sum()} of {len(flagged)} working points flagged; score against mass: {p_values}; asked are at "
            f"most {N_FLAGGED} and p ≥ {P_DEPENDENT:g}",
            "quote no cut that is flagged, and leave out features that vary with the mass (see the agreement of the "
            "sampled background)",
        )


def _has_controls(saved: Saved) -> bool:
    """Whether the study of the controls says whether the same-sign sample is quiet."""
    content = saved.optional_json(saved.run.path(products.PRODUCTS["controls_verdicts"]))
    return content is not None and any(name.startswith("ss") for name in content["controls"])


def _controls(saved: Saved) -> Iterator[Verdict]:
    """Is every sample without a signal quiet? Where the study was made."""
    path = saved.run.path(products.PRODUCTS["controls_verdicts"])
    content = saved.optional_json(path) if saved.config.input.scores is None else None
    if content is None:
        return
    for name, control in content["controls"].items():
        gate = ", ".join(
            f"{point['what']} {point['median']:.2f} ± {point['spread']:.2f}"
            for point in control["points"]
            if point["gate"]
        )
        yield Verdict(
            f"No signal in the control {name.replace('_', ' ')}",
            control["passed"],
            f"Z0 over {control['n_seeds']} seeds ({control['n_failed']} failed): {gate}; "
            f"asked is a {content['criterion']}",
            "the chain finds something where nothing is: believe no significance beyond what it finds there",
        )
