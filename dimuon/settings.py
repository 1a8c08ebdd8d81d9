"""What every section of settings has in common; each wing declares the sections of what it holds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]

MASS_UNITS = ("eV", "keV", "MeV", "GeV", "TeV")
UNITS = (
    *MASS_UNITS,
    "fm",
    "nm",
    "um",
    "mm",
    "cm",
    "m",
    "ps",
    "ns",
    "us",
    "ms",
    "s",
    "rad",
    "mrad",
    "deg",
    "%",
    "e",
    "1",
)


def at(place: tuple[str | int, ...], message: str) -> PydanticCustomError:
    """An error of one section that another section's value causes. place: the keys that lead to what is to change."""
    return PydanticCustomError("elsewhere", "{message}", {"message": message, "place": place})


def _known_unit(unit: str) -> str:
    """A unit, or a product, quotient and power of units: "GeV", "cm^2/s"."""
    for part in re.split(r"[*/ ]", unit) if unit else ():
        base, _, power = part.partition("^")
        if base not in UNITS or (power and not re.fullmatch(r"-?\d+", power)):
            raise ValueError(f"unknown unit {part!r}; known: {', '.join(UNITS)}, and * / ^ of them")
    return unit


def _drawable(label: str) -> str:
    """A label that matplotlib can set: its formulas between pairs of $, every brace closed."""
    formulas = label.replace(r"\$", "").split("$")
    if len(formulas) % 2 == 0:
        raise ValueError("a formula stands between two $")
    if any(formula.count("{") != formula.count("}") for formula in formulas[1::2]):
        raise ValueError("a brace is not closed in the formula")
    return label


Unit = Annotated[str, AfterValidator(_known_unit)]
Label = Annotated[str, Field(min_length=1), AfterValidator(_drawable)]


class Section(BaseModel):
    """Settings that are checked when made: every key known, every type exact, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True, eq=False)
class OneOf:
    """Stands in an annotation for a section that has several kinds: `Annotated[Base, OneOf(KINDS, default)]`.

    The key `kind` says which. kinds: {kind: section}, read when a value is checked and not before, so a registry may
    still grow and a section may hold one of its own kind. default: the kind where none is given.
    """

    kinds: Mapping[str, type[Section]]
    default: str

    @property
    def alternatives(self) -> list[type[Section]]:
        """The sections that may stand here."""
        return list(self.kinds.values())

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        dumped = core_schema.plain_serializer_function_ser_schema(_dumped, info_arg=True)
        return core_schema.no_info_plain_validator_function(self._checked, serialization=dumped)

    def _checked(self, given: Any) -> Section:
        if isinstance(given, Section) and type(given) in self.kinds.values():
            return given
        if not isinstance(given, Mapping):
            raise PydanticKnownError("dict_type")
        kind = given.get("kind", self.default)
        if not isinstance(kind, str) or kind not in self.kinds:
            expected = ", ".join(map(repr, self.kinds))
            context = {"discriminator": "'kind'", "tag": str(kind), "expected_tags": expected}
            raise PydanticKnownError("union_tag_invalid", context)
        return self.kinds[kind].model_validate({**given, "kind": kind})


def _dumped(section: Section, info: core_schema.SerializationInfo) -> dict[str, Any]:
    return section.model_dump(mode=info.mode)
