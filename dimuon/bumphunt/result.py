"""The records of a search: what was tested, what was found."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from math import nan
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from dimuon.records import Record
from dimuon.statistics.calibration import Calibrated, Calibration, ToyValue
from dimuon.statistics.likelihood_ratio import Discovery
from dimuon.statistics.toys import NESTED
from dimuon.statistics.trials import GlobalSignificance


class Statistic(StrEnum):
    """What one Z0 is of. Its value is its name in every table and JSON file, its `label` its name for people."""

    label: str

    WORKING_POINT = "cathode", "CATHODE"
    NO_CUT = "no_cut", "no cut"
    BEST_CUT = "cathode_max", "CATHODE, best cut"
    FIXED_CUT = "cathode_fixed", "CATHODE, fixed cut"
    BEST_FEATURE = "best_feature", "best single feature"
    LIKELIHOOD = "likelihood", "likelihood reweighting"
    LIKELIHOOD_POOLED = "likelihood_pooled", "likelihood, one scale"
    GLOBAL = "global", "global: CATHODE, best cut, corrected for the cuts scanned"
    GLOBAL_FEATURE = "global_feature", "global: best single feature, corrected for the features and cuts tried"
    SUPERVISED_FIXED = "supervised_fixed", "ideal supervised classifier, fixed cut"
    SUPERVISED = "supervised", "ideal supervised classifier, best cut"

    def __new__(cls, value: str, label: str) -> "Statistic":
        member = str.__new__(cls, value)
        member._value_ = value
        member.label = label
        return member


LIKELIHOODS = {"pooled": Statistic.LIKELIHOOD_POOLED, "per_bin": Statistic.LIKELIHOOD}  # by significance.weight_scales


def shown_likelihood(variables: Collection[str], weight_scales: str) -> Statistic:
    """The likelihood value to show of a table of studies; the other where an earlier version did not write it."""
    quoted = LIKELIHOODS[weight_scales]
    return quoted if quoted in set(variables) else Statistic.LIKELIHOOD


HEADLINES = (
    Statistic.NO_CUT,
    Statistic.BEST_CUT,
    Statistic.BEST_FEATURE,
    Statistic.LIKELIHOOD,
    Statistic.LIKELIHOOD_POOLED,
)


@dataclass(frozen=True)
class ScanPoint(Record):
    """One working point of a scan: a row of `significance_curves.parquet`.

    variable: what is cut on. fpr, cut: its working point. family, degree, n_bins_sr: of the background function. The
    outcome of the test as in `Discovery`; p0_toys, p0_toys_err, z0_toys, n_toys, toys_bound: its `ToyValue`, NaN where
    no toys were drawn. sculpted: the cut shapes the mass in the sidebands; None where that was not asked.
    """

    n_obs: float
    n_bkg: float
    n_bkg_err: float
    n_sig: float
    q0: float
    z0: float
    p0: float
    valid: bool
    fpr: float
    cut: float
    variable: str = Statistic.WORKING_POINT.value
    family: str | None = None
    degree: int | None = None
    n_bins_sr: int | None = None
    n_sidebands: float = nan
    chi2: float = nan
    ndf: int | None = None
    p_chi2: float = nan
    p_saturated: float = nan
    at_boundary: int | None = None
    z_signed: float = nan
    p0_toys: float = nan
    p0_toys_err: float = nan
    z0_toys: float = nan
    n_toys: int = 0
    toys_bound: bool = False
    sculpted: bool | None = None

    @classmethod
    def of(cls, row: "pd.Series[Any]") -> Self:
        """From a row of the curves."""
        values = {item.name: row[item.name] for item in fields(cls) if item.name in row}
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
        return cls(**plain)


@dataclass(frozen=True)
class SidebandQuality(Record):
    """How well the background function describes the sidebands: Pearson's chi2, and the saturated likelihood."""

    chi2: float
    ndf: int
    p_chi2: float
    p_saturated: float


@dataclass(frozen=True)
class HeadlineToys(Record):
    """The p-values by toys of the test without a cut and of the best cut on the classifier, each on its own."""

    no_cut: ToyValue
    cathode_max: ToyValue


@dataclass(frozen=True)
class WeightCalibration(Calibration):
    """How the likelihood value behaves without a signal, in a bootstrap of the actual weights.

    toys: the p-value of the data's own among them.
    """

    toys: ToyValue


@dataclass(frozen=True)
class Headline(Record):
    """One significance as a row of a table: what it is of, and at which working point.

    fpr: 1 where there is no cut on the classifier or a feature. z_signed: Z0 with the sign of the excess. The rest is
    None where the statistic is not defined.
    """

    variable: Statistic
    fpr: float
    z0: float | None = None
    n_obs: float | None = None
    n_bkg: float | None = None
    n_sig: float | None = None
    valid: bool | None = None
    z_signed: float | None = None

    @classmethod
    def of(cls, statistic: Statistic, outcome: Discovery | ScanPoint | None) -> Self:
        """From the outcome of a test, None where it is not defined."""
        if outcome is None:
            return cls(statistic, 1.0)
        fpr = outcome.fpr if isinstance(outcome, ScanPoint) else 1.0
        numbers = (outcome.z0, outcome.n_obs, outcome.n_bkg, outcome.n_sig, outcome.valid, outcome.z_signed)
        return cls(statistic, fpr, *numbers)


@dataclass(frozen=True, kw_only=True)
class CutResult(Record):
    """What cut and count finds on one sample.

    no_cut: without a cut. cathode_max: the best cut on the classifier; best_feature: on any one feature, None where
    there is none. sidebands: of the fit without a cut. toys: p-values by toys; global_: that of the best cut, corrected
    for the cuts scanned ("global" in JSON), and global_feature: of the best feature, corrected for features and cuts;
    None where no toys were drawn, and global_feature in cross-applications, where it would be the same once more.
    """

    no_cut: Discovery
    cathode_max: ScanPoint
    best_feature: ScanPoint | None
    sidebands: SidebandQuality
    toys: HeadlineToys | None = None
    global_: GlobalSignificance | None = None
    global_feature: GlobalSignificance | None = None

    def to_json(self) -> dict[str, Any]:
        """As in `significance.json`."""
        content = super().to_json()
        return content | {"global": content.pop("global_")}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The record of a test in `significance.json`; of files of earlier versions, with what their toys counted."""
        scanned = content.get("global")
        if scanned is not None and "n_toys" in scanned:
            counted = Calibrated.of_counts(content["cathode_max"]["z0"], scanned["n_toys"], scanned["n_extreme"])
            scanned = GlobalSignificance.of_counts(counted, NESTED).to_json()
        return super().from_json({**content, "global_": scanned})


@dataclass(frozen=True, kw_only=True)
class LikelihoodResult(Record):
    """What the likelihood reweighting finds on one sample.

    likelihood: the reweighted spectrum, and likelihood_pooled with one scale of the weights for all sidebands; both
    None where likelihood_reason says why they are not defined. weight_scales: which of them is the headline, "pooled"
    or "per_bin". likelihood_calibration: how the headline behaves without a signal; None where no toys were drawn.
    likelihood_calibrated: what the value with one scale stands for where the weights' dependence on the excess is taken
    into account (`dimuon.statistics.reweighted_null`); None where weights were given or no toys asked for.
    """

    likelihood: Discovery | None = None
    likelihood_pooled: Discovery | None = None
    likelihood_reason: str | None = None
    likelihood_calibration: WeightCalibration | None = None
    weight_scales: str = "pooled"
    likelihood_calibrated: float | None = None

    @property
    def quoted_likelihood(self) -> Statistic:
        """The likelihood value to show where only one is shown."""
        earlier = self.likelihood is not None and self.likelihood_pooled is None  # of a file of an earlier version
        return Statistic.LIKELIHOOD if earlier else LIKELIHOODS[self.weight_scales]


@dataclass(frozen=True, kw_only=True)
class TestResult(CutResult, LikelihoodResult):
    """The whole of one test, as in `significance.json`.

    train, test: the charge that the classifier was trained on and the one it is applied to. n_events: tested.
    """

    __test__: ClassVar[bool] = False  # its name makes pytest take it for a class of tests

    train: str
    test: str
    n_events: int

    @classmethod
    def of(cls, train: str, test: str, n_events: int, cuts: CutResult, likelihood: LikelihoodResult) -> Self:
        """From its two parts."""
        return cls(train=train, test=test, n_events=n_events, **vars(cuts), **vars(likelihood))

    @property
    def name(self) -> str:
        """As in the names of the score tables, e.g. "os_on_os"."""
        return f"{self.train}_on_{self.test}"

    def headlines(self) -> list[Headline]:
        """The significances of `HEADLINES`."""
        return [Headline.of(statistic, getattr(self, statistic)) for statistic in HEADLINES]
