"""The records of a search: what was tested, what was found."""

from enum import StrEnum


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
    SUPERVISED_FIXED = "supervised_fixed", "ideal supervised classifier, fixed cut"
    SUPERVISED = "supervised", "ideal supervised classifier, best cut"

    def __new__(cls, value: str, label: str) -> "Statistic":
        member = str.__new__(cls, value)
        member._value_ = value
        member.label = label
        return member


HEADLINES = (
    Statistic.NO_CUT, Statistic.BEST_CUT, Statistic.BEST_FEATURE, Statistic.LIKELIHOOD, Statistic.LIKELIHOOD_POOLED
)  # fmt: skip
