"""What the boosted decision trees have in common."""

from typing import Annotated

from pydantic import Field

from dimuon.classifiers.protocol import ClassifierSettings
from dimuon.settings import Positive


class TreeSettings(ClassifierSettings):
    """Boosted decision trees; the defaults are the paper's (slides, "BDT architecture")."""

    max_depth: Positive = 3
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    subsample: Annotated[float, Field(gt=0, le=1)] = 0.7
    n_trees: Positive = 300
    early_stopping: Positive = 10
