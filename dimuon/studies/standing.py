"""What the studies say of the headline numbers, in lines that stand beside them wherever they are shown."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dimuon.bumphunt.result import Statistic
from dimuon.studies.controls import VERDICTS, Verdicts
from dimuon.studies.pseudoexperiments import CALIBRATED, LIKE_NULLS, CalibratedStatistic, CalibratedSummary
from dimuon.workflow import provenance

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
    standing = []
    for product, tell in ((VERDICTS, _controls), (CALIBRATED, _calibrated)):
        path, name = product.at(folder), product.maker.name
        if not path.exists():
            standing.append(f"{name}: not made yet (python {product.maker.command} CONFIG.yaml)")
        elif run is not None and (reason := run.stale(path)):
            standing.append(f"{name}: out of date ({reason})")
        else:
            standing += tell(provenance.load_json(path))
    return standing


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
            f"beyond {summary.reach:.1f} sigma they say nothing"
        )


def _global(statistic: CalibratedStatistic) -> str:
    value, z0 = statistic.overall, f"{statistic.asymptotic:.1f} sigma"
    if value.p is None:
        return f"{z0} is above all of them (global Z0 > {value.z0_low:.1f})"
    calibrated = "" if value.z0 is None else f" (Z0 = {max(value.z0, 0):.1f})"
    return f"{z0} has global p = {value.p:.3g}{calibrated}"
