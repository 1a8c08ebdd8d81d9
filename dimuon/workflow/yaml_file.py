"""Checked settings from a YAML file: whatever is wrong is named by file, line, key, value and nearest known key."""

import dataclasses
import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dimuon.errors import UserError
from dimuon.settings import OneOf

Place = tuple[str | int, ...]  # the keys that lead to a value
Model = TypeVar("Model", bound=BaseModel)

UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")  # pydantic's words, sections and dataclasses


def load(path: Path | str, model: type[Model], expanded: Iterable[str] = ()) -> Model:
    """The settings in the YAML file at `path`; `UserError` names file, line, key, value and remedy.

    expanded: top keys in whose values environment variables are expanded.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such configuration file; see configs/") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    values, lines = parse(text, path)
    for key in expanded:
        if key in values:
            values[key] = _expand(values[key], path, lines, (key,))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = max(error.errors(), key=lambda item: item["type"] in UNKNOWN_KEY)  # a misspelling explains the rest
        raise UserError(_Explanation(model, path, values, lines).of(first)) from None


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in YAML 1.2."""

    yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


# an unquoted value with a formula between two $; YAML itself would take its braces for a mapping
_FORMULA = re.compile(
    r"""(?<=:[ ])([^'"\[\]{},#\n$]*\$[^$'\n]*\$[^'"\[\]{},#\n$]*?)(?=\s*(?:[,}\]]|$|\s\#))""", re.MULTILINE
)


def parse(text: str, path: Path | str) -> tuple[dict[str, Any], dict[Place, int]]:
    """(values, {place: line}) of a YAML text; refuses repeated keys, which YAML itself would let pass.

    path: of the file, for the messages. A formula need not be quoted: {label: $m_{jj}$, unit: TeV}.
    """
    lines = dict[Place, int]()

    def build(node: yaml.Node, place: Place) -> Any:
        lines[place] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key, line = loader.construct_object(key_node), key_node.start_mark.line + 1
                if not isinstance(key, str):
                    raise UserError(f"{path}:{line}: key {key!r} is not text")
                if key in mapping:
                    first = lines[(*place, key)]
                    raise UserError(f"{path}:{line}: key {key!r} is given twice (first in line {first}); keep one")
                mapping[key] = build(value_node, (*place, key))
                lines[(*place, key)] = line
            return mapping
        if isinstance(node, yaml.SequenceNode):
            return [build(item, (*place, index)) for index, item in enumerate(node.value)]
        return loader.construct_object(node)

    try:
        loader = _Loader(_FORMULA.sub(r"'\1'", text))
        node = loader.get_single_node()
        values = build(node, ()) if node is not None else None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # a date 2020-13-40, itself in itself
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', None) or error})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: no keys found; a configuration starts with name, seed and input")
    return values, lines


def nearest(word: object, known: Iterable[str]) -> str:
    """What to say after an unknown word: "; did you mean ...?" where one is close, else all that are known."""
    known = list(known)
    close = difflib.get_close_matches(str(word), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def _expand(value: Any, path: Path, lines: Mapping[Place, int], place: Place) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item, path, lines, (*place, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, path, lines, (*place, index)) for index, item in enumerate(value)]
    if isinstance(value, str):
        value = os.path.expanduser(os.path.expandvars(value))
        if missing := re.search(r"\$\{?(\w+)\}?", value):
            line, key = lines[place], ".".join(map(str, place))
            raise UserError(f"{path}:{line}: {key}: the environment variable {missing[1]} is not set; export it first")
    return value


@dataclasses.dataclass(frozen=True)
class _Explanation:
    """Turns what pydantic says of a file into one line in the user's words."""

    model: type[BaseModel]
    path: Path
    values: dict[str, Any]
    lines: Mapping[Place, int]

    def of(self, error: ErrorDetails) -> str:
        """The line."""
        elsewhere = error["ctx"]["place"] if error["type"] == "elsewhere" else error["loc"]
        place = self._place(elsewhere)
        key, where = ".".join(map(str, place)) or "the file", f"{self.path}:{self.lines.get(place, 1)}"
        if error["type"] == "missing":
            missing = ".".join(map(str, (*place, error["loc"][-1])))
            return f"{where}: the key {missing} is missing; add it"
        if error["type"] in UNKNOWN_KEY:
            return f"{where}: unknown key {key}{nearest(place[-1], self._known_keys(place[:-1]))}"
        if error["type"] == "union_tag_invalid":
            return self._unknown_kind(place, error)
        value = self._value(place)
        message = error["msg"].removeprefix("Value error, ")
        shown = "" if isinstance(value, dict) else f" = {value!r}"
        return f"{where}: {key}{shown}: {message[0].lower()}{message[1:]}"

    def _place(self, location: Place) -> Place:
        """The key of the file that pydantic's location means.

        Its location has the alternatives of a union in it, too, and the present place of a key that the file gives in
        the form of an earlier version: of all keys in the file that it may mean, the one that reaches furthest, and of
        these the longest.
        """
        reached: dict[Place, int] = {(): -1}
        for index, part in enumerate(location):
            reached |= {(*place, part): index for place in reached if (*place, part) in self.lines}
        return max(reached, key=lambda place: (reached[place], len(place)))

    def _unknown_kind(self, place: Place, error: ErrorDetails) -> str:
        context = error["ctx"]
        kind = (*place, context["discriminator"].strip("'"))
        kinds = re.findall(r"'(\w+)'", context["expected_tags"])
        key, line = ".".join(map(str, kind)), self.lines.get(kind, self.lines.get(place, 1))
        return f"{self.path}:{line}: {key} = {context['tag']!r}: unknown{nearest(context['tag'], kinds)}"

    def _value(self, place: Place) -> Any:
        value: Any = self.values
        for part in place:
            value = value[part]
        return value

    def _known_keys(self, place: Place) -> list[str]:
        """The keys that may stand at a place; of several kinds of section those of the kind that is given."""
        types: list[Any] = [self.model]
        for part in place:
            types = [inner for outer in types for inner in _inside(outer, part)]
        sections = [type_ for type_ in types if _fields(type_)]
        given = self._value(place)
        of_this_kind = [section for section in sections if _may_be(section, given)]
        return list(dict.fromkeys(name for section in of_this_kind or sections for name in _fields(section)))


def _fields(type_: Any) -> dict[str, Any]:
    """{key: annotation} of a section or dataclass, {} of any other type."""
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        former: Mapping[str, Any] = getattr(type_, "former_keys", {})  # of earlier versions, still read
        return {**{name: _whole(info) for name, info in type_.model_fields.items()}, **former}
    return get_type_hints(type_) if dataclasses.is_dataclass(type_) else {}


def _whole(info: FieldInfo) -> Any:
    """The annotation of a field, with the kinds of section that it may be."""
    kinds = [extra for extra in info.metadata if isinstance(extra, OneOf)]
    return Annotated[info.annotation, kinds[0]] if kinds else info.annotation


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The types that an annotation allows, without `Annotated` and unions."""
    if get_origin(annotation) is Annotated:
        first, *extras = get_args(annotation)
        kinds = [type_ for extra in extras if isinstance(extra, OneOf) for type_ in extra.alternatives]
        for option in kinds or [first]:
            yield from _alternatives(option)
    elif get_origin(annotation) in (Union, UnionType):
        for option in get_args(annotation):
            yield from _alternatives(option)
    else:
        yield annotation


def _inside(type_: Any, part: str | int) -> Iterator[Any]:
    """The types that the value of a key, or of an index, may have."""
    if get_origin(type_) in (list, dict):
        yield from _alternatives(get_args(type_)[-1])
    elif part in _fields(type_):
        yield from _alternatives(_fields(type_)[str(part)])


def _may_be(section: Any, given: Any) -> bool:
    """Whether what is given has the kind of a section: no key with another value than the ones that it allows."""
    fixed = {name: get_args(kind) for name, kind in _fields(section).items() if get_origin(kind) is Literal}
    return all(given[name] in allowed for name, allowed in fixed.items() if name in given)
