"""What the studies say of the headline numbers, in lines that stand beside them wherever they are shown."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dimuon.bumphunt.result import Statistic, TestResult
from dimuon.statistics.trials import GlobalSignificance
from dimuon.studies.controls import VERDICTS, Verdicts
from dimuon.studies.pseudoexperiments import CALIBRATED, LIKE_NULLS, CalibratedStatistic, CalibratedSummary
from dimuon.workflow import provenance
from dimuon.workflow.products import Product

CONTROL = "ss"  # itself a control: nothing is corrected there
NAMES = {
    Statistic.BEST_CUT: "best classifier cut",
    Statistic.LIKELIHOOD: "likelihood",
    Statistic.LIKELIHOOD_POOLED: "likelihood, one scale",
}


def lines(folder: Path, run: provenance.Run | None = None, tests: Sequence[TestResult] = ()) -> list[str]:
    """The verdict of the controls, what it does to the significances of `tests`, and the calibrated ones, a line each.

    folder: results/<name> of the analysis. run: to say where a study was made with other settings or from other files
    (None: not looked at).
    """
    standing: list[str] = []
    for product, tell in ((VERDICTS, _controls), (CALIBRATED, _calibrated)):
        reason = _not_usable(product, folder, run)
        if reason is not None:
            standing.append(f"{product.maker.name}: {reason} (python {product.maker.command} {_config(run)})")
            continue
        standing += tell(provenance.load_json(product.at(folder)))
        if product is VERDICTS:
            standing += _corrected(folder, run, tests)
    return standing


def quoted(
    folder: Path, tests: Sequence[TestResult], run: provenance.Run | None = None
) -> dict[str, GlobalSignificance]:
    """The global significance to quote for each test, {name of the test: it}; tests without one are left out.

    Of a sample that its own classifier scored it is that of the null datasets through the whole chain, where the study
    was made, is up to date and has a value; else, and of cross-applications, that of the toys of step 6. folder, run:
    as for `lines`.
    """
    usable = _not_usable(CALIBRATED, folder, run) is None
    content = provenance.load_json(CALIBRATED.at(folder)) if usable else {}
    whole_chain = {}
    for charge, part in content.items():
        statistic = CalibratedSummary.from_json(part).data[LIKE_NULLS].get(Statistic.BEST_CUT)
        if statistic is not None and statistic.overall.z0 is not None:
            whole_chain[f"{charge}_on_{charge}"] = statistic.overall
    values = {test.name: whole_chain.get(test.name, test.global_) for test in tests}
    return {name: value for name, value in values.items() if value is not None}


def _not_usable(product: Product, folder: Path, run: provenance.Run | None) -> str | None:
    """Why a study says nothing of the results, None where it does."""
    path = product.at(folder)
    if not path.exists():
        return "not made yet"
    if run is not None and (reason := run.stale(path)):
        return f"out of date: {reason}"
    return None


def _config(run: provenance.Run | None) -> str:
    return "CONFIG.yaml" if run is None else str(run.config_path)


def _controls(content: Mapping[str, Any]) -> Iterator[str]:
    """The verdict in one line. content: of controls.json."""
    yield str(Verdicts.from_json(content))


def _corrected(folder: Path, run: provenance.Run | None, tests: Sequence[TestResult]) -> Iterator[str]:
    """The headline with and without the correction by what the controls read, a line for each sample searched."""
    verdicts = Verdicts.from_json(provenance.load_json(VERDICTS.at(folder)))
    quotes = quoted(folder, tests, run)
    for test in tests:
        if test.train != test.test or test.test == CONTROL:
            continue
        parts = []
        for statistic, words in (
            (Statistic.BEST_CUT, NAMES[Statistic.BEST_CUT]),
            (test.quoted_likelihood, "likelihood"),
        ):
            outcome = getattr(test, statistic)
            fpr = getattr(outcome, "fpr", 1.0)
            shift = verdicts.expected(statistic, fpr)
            if outcome is None or shift is None:
                continue
            text = (
                f"{words} local Z0 = {outcome.z0:.2f}, corrected {shift.lowered(outcome.z0):.2f} (they read "
                f"{shift.shift:+.2f} +- {shift.shift_err:.2f} at {shift.mass:g})"
            )
            value = quotes.get(test.name) if statistic == Statistic.BEST_CUT else None
            less = None if value is None else value.lowered(shift.shift)
            parts.append(
                text if value is None or less is None else f"{text}, global {value.text}, corrected {less.text}"
            )
        if parts:
            yield (
                f"{test.test}: with what the controls read without a signal subtracted, which can only lower a claim: "
                f"{'; '.join(parts)}"
            )


def _calibrated(content: Mapping[str, Any]) -> Iterator[str]:
    """The p-values counted in null datasets, a line for each charge. content: of pseudoexperiments.json."""
    for charge, part in content.items():
        summary = CalibratedSummary.from_json(part)
        data = summary.data[LIKE_NULLS]
        statistics = [f"{words} {_global(data[name])}" for name, words in NAMES.items() if name in data]
        yield (
            f"{charge}, calibrated by {summary.n} null datasets ({summary.n_failed} failed): {'; '.join(statistics)}; "
            f"counting ends at {summary.reach:.1f} sigma"
        )
        for name in (name for name in NAMES if name not in summary.coverage):
            yield (
                f"{charge}: {NAMES[name]} was never calibrated by these null datasets; delete their ledger and "
                f"run python {CALIBRATED.maker.command} again"
            )
        if any(data[name].overall.z0 is None for name in NAMES if name in data):
            yield (
                f"{charge}: {summary.n} null datasets are too few for a value where only a bound is said; raise "
                f"studies.pseudoexperiments and run python {CALIBRATED.maker.command} again"
            )


def _global(statistic: CalibratedStatistic) -> str:
    return f"local Z0 = {statistic.asymptotic:.1f}, {statistic.overall}"
