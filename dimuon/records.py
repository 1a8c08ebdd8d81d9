"""What is saved as JSON: frozen dataclasses that read themselves back."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Self, Union, cast, get_args, get_origin, get_type_hints

import numpy as np


class Record:
    """A frozen dataclass of numbers, texts and further records, saved under the names of its fields.

    A number that is not defined (NaN) is null in JSON and NaN again when read. What a file does not have takes the
    field's default; where there is none, reading it is a KeyError that names the field.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Count(Record):
    ...     n: int
    ...     error: float = 0.0
    >>> Count(3, float("nan")).to_json(), Count.from_json({"n": 3})
    ({'n': 3, 'error': None}, Count(n=3, error=0.0))
    """

    def to_json(self) -> dict[str, Any]:
        """{field: value} of Python's own types."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(cast(Any, self))}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The record that `to_json` gave; what `content` has beyond its fields is not read."""
        hints, values = get_type_hints(cls), {}
        for field in fields(cast(Any, cls)):
            if field.name in content:
                values[field.name] = _read(content[field.name], hints[field.name])
            elif field.default is MISSING and field.default_factory is MISSING:
                raise KeyError(f"{cls.__name__}: {field.name} is missing")
        return cls(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(value: Any, hint: Any) -> Any:
    """A JSON value as what a type hint asks for: a record, a tuple or dict of such, NaN for a number not defined."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None:
        return None if NoneType in options else math.nan
    for option in options:
        if isinstance(option, type) and issubclass(option, Record):
            return option.from_json(value)
        if isinstance(option, type) and issubclass(option, Enum):
            return option(value)
    for option in options:
        if get_origin(option) is dict:
            return {name: _read(item, get_args(option)[1]) for name, item in value.items()}
        if get_origin(option) is tuple:
            return tuple(_read(item, get_args(option)[0]) for item in value)
    return value
