"""The pyhf workspaces of an analysis: the working point of every test, and its likelihood-reweighted spectrum."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dimuon.bumphunt import cut_and_count
from dimuon.bumphunt.result import Statistic, TestResult
from dimuon.data.samples import Sample
from dimuon.errors import AnalysisError
from dimuon.exports.workspace import Agreement, SpectrumTest
from dimuon.records import Record
from dimuon.statistics import model_choice
from dimuon.statistics.settings import Significance
from dimuon.statistics.significance import SpectrumModel
from dimuon.statistics.spectra import Spectra
from dimuon.workflow.config import Config

log = logging.getLogger("dimuon")


@dataclass(frozen=True)
class WorkspaceRecord(Record):
    """What a workspace is of. fpr, cut: of the working point, None for weighted events.

    family, degree: of the background function. agreement: with pyhf.
    """

    train: str
    test: str
    statistic: Statistic
    fpr: float | None
    cut: float | None
    family: str
    degree: int
    agreement: Agreement


@dataclass(frozen=True, eq=False)
class Exported:
    """A workspace. sources: the files that its events are from."""

    name: str
    content: dict[str, Any]
    about: WorkspaceRecord
    sources: Sequence[Path]

    @property
    def meaning(self) -> str:
        """In a sentence."""
        about = self.about
        point = "" if about.fpr is None else f" at FPR {about.fpr:.3g}"
        return f"pyhf workspace of the test {about.train}_on_{about.test}: {about.statistic.label}{point}"


@dataclass(frozen=True, eq=False)
class Workspaces:
    """The workspaces of scored samples. fpr: of the working point; None: each test's best cut.

    absent: {name: why} of those that could not be made, filled while they are.
    """

    config: Config
    results: Sequence[TestResult]
    fpr: float | None
    absent: dict[str, str]

    def of(self, sample: Sample) -> Iterator[Exported]:
        """Those of one sample."""
        result = next(each for each in self.results if each.name == sample.name)
        model = model_choice.model_of(self.config.significance, self.config.window)
        fpr = result.cathode_max.fpr if self.fpr is None else self.fpr
        # the classifier alone: the features and the random cut are not exported
        classifier = cut_and_count.cut_variables(sample.score, {}, np.random.default_rng(0), sample.members)[0]
        spectrum, cuts = classifier.spectra(sample.mass, model.bins, [fpr])
        best = Statistic.BEST_CUT if self.fpr is None else Statistic.WORKING_POINT
        yield from self._one(sample, best, spectrum, model, (fpr, float(cuts[0])))
        weighted = cut_and_count.reweighting(sample.mass, sample.score, model, sample.weight)
        for statistic, pooled in ((Statistic.LIKELIHOOD, False), (Statistic.LIKELIHOOD_POOLED, True)):
            if weighted.weights is None:
                self.absent[f"pyhf/{sample.name}_{statistic.value}"] = str(weighted.reason)
            else:
                spectrum = Spectra.of(sample.mass, model.bins, weighted.weights, pooled=pooled)
                yield from self._one(sample, statistic, spectrum, model, None)

    def _one(
        self,
        sample: Sample,
        statistic: Statistic,
        spectrum: Spectra,
        model: SpectrumModel,
        point: tuple[float, float] | None,
    ) -> Iterator[Exported]:
        """The workspace of one spectrum; none where its background function cannot be one. point: (fpr, cut)."""
        name = f"{sample.name}_{statistic.value}"
        try:
            _require_one_function(self.config.significance)
            test = SpectrumTest.of(spectrum, model.chosen(spectrum)[0])
        except AnalysisError as error:
            self.absent[f"pyhf/{name}"] = str(error)
            return
        agreement = test.agreement()
        if not agreement.agrees:
            log.warning(
                "pyhf/%s.json: q0 = %.4g here and %.4g in pyhf: %s",
                name,
                agreement.q0,
                agreement.q0_pyhf,
                agreement.reason,
            )
        fpr, cut = point or (None, None)
        labels = (sample.train, sample.test, statistic, fpr, cut, test.family.name, test.family.degree)
        yield Exported(name, test.workspace(), WorkspaceRecord(*labels, agreement), sample.sources)


def _require_one_function(settings: Significance) -> None:
    if settings.choice == "envelope":
        raise AnalysisError(
            "an envelope profiles the choice among background functions, and a workspace has one", setting="choice"
        )
