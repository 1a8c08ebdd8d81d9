"""The section `bdt` of the configuration: the classifier ensemble."""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from dimuon.arrays import BoolArray, IntArray
from dimuon.classifiers.kinds.dense import DenseSettings
from dimuon.classifiers.kinds.xgboost import XGBoostSettings
from dimuon.classifiers.protocol import CLASSIFIERS, ClassifierSettings
from dimuon.classifiers.trees import TreeSettings
from dimuon.settings import Positive, Section

if TYPE_CHECKING:
    AnyClassifier = ClassifierSettings
else:  # a section of any kind that there is a file for
    _sections = (CLASSIFIERS[kind].Settings for kind in sorted(CLASSIFIERS))
    AnyClassifier = Annotated[reduce(or_, _sections), Field(discriminator="kind")]

TREE_KEYS = {name: field.annotation for name, field in TreeSettings.model_fields.items() if name != "kind"}


class Bdt(Section):
    """The classifier ensemble (paper, step 3; slides, backup).

    In earlier versions `classifier` was a word, the settings of the trees stood beside it, and those of the network in
    `dense`: that form goes on working.
    """

    former_keys: ClassVar[dict[str, Any]] = {**TREE_KEYS, "dense": DenseSettings}

    members: Positive = 100  # per fold
    folds: Annotated[int, Field(ge=2)] = 5  # 2: trained on one half of the events, searched in the other, and back
    # one: only the events of one fold are searched, so no event that is counted has trained a model of the search; with
    # two folds it is the split of one half and the other
    searched_folds: Literal["all", "one"] = "all"
    classifier: AnyClassifier = XGBoostSettings()
    combination: Literal["mean", "median"] = "mean"  # of scores (the paper), or of the members' histograms (ATLAS)
    keep_members: bool = False  # write every member's scores, for the ensemble-size study; median does so anyway

    @property
    def keeps_members(self) -> bool:
        """Whether step 5 writes the scores of every member of the ensemble."""
        return self.keep_members or self.combination == "median"

    def searches(self, fold: IntArray) -> BoolArray:
        """(n_events,) whether each event is searched. fold: of each, -1 of a sample that no model was trained on."""
        return fold <= 0 if self.searched_folds == "one" else np.ones(len(fold), dtype=bool)

    @model_validator(mode="before")
    @classmethod
    def _earlier_versions(cls, values: Any) -> Any:
        """`classifier` as a section; of no kind, XGBoost's."""
        if not isinstance(values, dict):
            return values
        former = [key for key in cls.former_keys if key in values]
        classifier = values.get("classifier", "xgboost")
        if not isinstance(classifier, str):
            if former:
                raise ValueError(f"{former[0]} stands beside the settings of the classifier: move it into `classifier`")
            return values | {"classifier": {"kind": "xgboost"} | classifier} if isinstance(classifier, dict) else values
        rest = {key: value for key, value in values.items() if key not in former}
        trees, dense = {key: values[key] for key in former if key != "dense"}, values.get("dense", {})
        chosen, (other, unused) = (dense, ("xgboost", trees)) if classifier == "dense" else (trees, ("dense", dense))
        _check_unused(other, unused)
        return rest | {"classifier": {"kind": classifier} | chosen if isinstance(chosen, dict) else chosen}


def _check_unused(kind: str, values: Any) -> None:
    """The settings of a classifier that is not chosen are right, too, though they decide nothing."""
    try:
        CLASSIFIERS[kind].Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"settings of {kind}, which is not chosen: {place}: {first['msg'].lower()}") from None
