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

NAMES = {
    Statistic.BEST_CUT: "best classifier cut",
    Statistic.LIKELIHOOD: "likelihood",
    Statistic.LIKELIHOOD_POOLED: "likelihood, one scale",
}


def lines(folder: Path, run: provenance.Run | None = None) -> list[str]:
    """The verdict of the controls and the calibrated significances, a line each.

    folder: results/<name> of the analysis. run: to say where a study was made with other settings or from other files
    (None: not looked at).
    """
    standing: list[str] = []
    for product, tell in ((VERDICTS, _controls), (CALIBRATED, _calibrated)):
        reason = _not_usable(product, folder, run)
        if reason is None:
            standing += tell(provenance.load_json(product.at(folder)))
        else:
            standing.append(f"{product.maker.name}: {reason} (python {product.maker.command} {_config(run)})")
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
    verdicts = Verdicts.from_json(content)
    failed = [name for name, control in verdicts.controls.items() if not control.passed]
    if failed:
        yield f"controls without a signal: NOT PASSED by {', '.join(failed)}; {verdicts.criterion}"
    else:
        yield f"controls without a signal: passed by {', '.join(verdicts.controls)}"


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
        if any(data[name].overall.z0 is None for name in NAMES if name in data):
            yield (
                f"{charge}: {summary.n} null datasets are too few for a value where only a bound is said; raise "
                f"studies.pseudoexperiments and run python {CALIBRATED.maker.command} again"
            )


def _global(statistic: CalibratedStatistic) -> str:
    return f"local Z0 = {statistic.asymptotic:.1f}, {statistic.overall}"
