"""What every section of settings has in common; each wing declares the sections of what it holds."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """Settings that are checked when made: every key known, every type exact, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
