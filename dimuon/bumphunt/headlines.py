"""The headline numbers of every test as a table: the same rows for the screen, the report and every command."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dimuon.bumphunt.result import ScanPoint, Statistic, TestResult
from dimuon.screen import aligned
from dimuon.statistics.likelihood_ratio import Discovery
from dimuon.statistics.trials import GlobalSignificance

SHOWN = (
    Statistic.NO_CUT,
    Statistic.BEST_CUT,
    Statistic.BEST_FEATURE,
    Statistic.LIKELIHOOD,
    Statistic.LIKELIHOOD_POOLED,
    Statistic.GLOBAL,
    Statistic.GLOBAL_FEATURE,
)


@dataclass(frozen=True)
class HeadlineCell:
    """One significance of a headline row.

    z0, p0: None where there is none. z0_err: half of the 68 % interval of a global one. outcome: the test that it is
    of, with its counts; None for a global one. valid: the asymptotic formula holds. bound: where there is no value, but
    Z0 is known to be above this (84 % confidence). variable, fpr: of the cut, where one was chosen among several.
    reason: where the value comes from, or why there is none, where that is known.
    """

    statistic: Statistic
    z0: float | None = None
    p0: float | None = None
    outcome: Discovery | ScanPoint | None = None
    valid: bool = True
    bound: float | None = None
    z0_err: float | None = None
    variable: str | None = None
    fpr: float | None = None
    reason: str | None = None

    @property
    def is_global(self) -> bool:
        """Whether it is corrected for the choice among several; local significances are not."""
        return self.statistic in (Statistic.GLOBAL, Statistic.GLOBAL_FEATURE)

    @property
    def text(self) -> str:
        """Z0 in words: "4.97", "4.37 ± 0.05", "2.92 (!)" where the asymptotic formula does not hold, "> 2.1" for a
        bound, "-"."""
        if self.z0 is None:
            return "-" if self.bound is None else f"> {max(self.bound, 0):.1f}"
        error = "" if self.z0_err is None else f" ± {self.z0_err:.2f}"
        return f"{self.z0:.2f}{error}{'' if self.valid else ' (!)'}"


@dataclass(frozen=True)
class HeadlineRow:
    """The headline numbers of one test: a cell for each of `SHOWN`, in their order, and the whole `result`."""

    result: TestResult
    cells: dict[Statistic, HeadlineCell]

    def __getitem__(self, statistic: Statistic) -> HeadlineCell:
        return self.cells[statistic]

    @property
    def likelihood(self) -> HeadlineCell:
        """The likelihood value where one is shown: that of the configured scale of the weights."""
        return self.cells[self.result.quoted_likelihood]

    @property
    def other_likelihood(self) -> HeadlineCell:
        """That with the other scale."""
        both = {Statistic.LIKELIHOOD, Statistic.LIKELIHOOD_POOLED}
        return self.cells[(both - {self.result.quoted_likelihood}).pop()]


def headline_rows(tests: Iterable[TestResult]) -> list[HeadlineRow]:
    """The headline table, one row for each test."""
    return [HeadlineRow(test, {statistic: _cell(test, statistic) for statistic in SHOWN}) for test in tests]


def matched_first(tests: Iterable[TestResult]) -> list[TestResult]:
    """The tests, those on the charge that the classifier was trained on before the cross-applications."""
    return sorted(tests, key=lambda test: test.train != test.test)


def on_screen(tests: Sequence[TestResult]) -> str:
    """The headline table as text."""
    rows = headline_rows(tests)
    other = "per bin" if all(row.likelihood.statistic == Statistic.LIKELIHOOD_POOLED for row in rows) else "other scale"
    table = [["local Z0", "no cut", "best classifier cut", "best feature cut", "likelihood", other, "bias"]]
    for row in rows:
        best, feature, likelihood = row[Statistic.BEST_CUT], row[Statistic.BEST_FEATURE], row.likelihood
        at_best = f"{best.text} at FPR {best.fpr:.3g}"
        on_feature = "none" if feature.z0 is None else f"{feature.text} on {feature.variable}"
        cells = [row.result.name, row[Statistic.NO_CUT].text, at_best, on_feature]
        behaviour = row.result.likelihood_calibration
        bias = "-" if behaviour is None else f"{behaviour.mean:+.2f}"
        known = likelihood.z0 is not None
        table.append([*cells, *([likelihood.text, row.other_likelihood.text, bias] if known else ["absent", "-", "-"])])
    absent = {row.result.name: row.likelihood.reason for row in rows if row.likelihood.z0 is None}
    corrected = [
        f"{test.name}, {what}: local Z0 = {value.local:.2f}, {value}"
        for test in tests
        for what, value in (("best classifier cut", test.global_), ("best feature cut", test.global_feature))
        if value is not None
    ]
    corrected += [
        f"{test.name}, likelihood: local Z0 = {test.likelihood_pooled.z0:.2f} with one scale, calibrated "
        f"{test.likelihood_calibrated:.2f} (its weights follow from the same excess)"
        for test in tests
        if test.likelihood_pooled is not None and test.likelihood_calibrated is not None
    ]
    return "\n".join(
        [
            *aligned(table, "<>>>>>>"),
            *corrected,
            *(f"{name}, likelihood: absent ({reason})" for name, reason in absent.items()),
            "(!) too few events for the asymptotic formula",
            "likelihood: with one scale of the weights for all sidebands; per bin: a scale for each, as in the paper"
            if other == "per bin"
            else "likelihood: with a scale of the weights for each bin, as in the paper; other scale: one for all",
            "bias: what the likelihood reads on background alone, on the mean",
        ]
    )


def _cell(test: TestResult, statistic: Statistic) -> HeadlineCell:
    outcome = test.global_ if statistic == Statistic.GLOBAL else getattr(test, statistic)
    if outcome is None:
        absent = statistic in (Statistic.LIKELIHOOD, Statistic.LIKELIHOOD_POOLED)
        return HeadlineCell(statistic, reason=test.likelihood_reason if absent else None)
    if isinstance(outcome, GlobalSignificance):
        z0 = None if outcome.z0 is None else max(outcome.z0, 0.0)
        return HeadlineCell(statistic, z0, outcome.p, bound=outcome.bound, z0_err=outcome.error, reason=outcome.how)
    variable, fpr = (outcome.variable, outcome.fpr) if isinstance(outcome, ScanPoint) else (None, None)
    return HeadlineCell(statistic, outcome.z0, outcome.p0, outcome, outcome.valid, variable=variable, fpr=fpr)
