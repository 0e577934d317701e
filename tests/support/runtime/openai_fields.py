"""Fields of OpenAI's requests at every depth, from the types of the `openai` package: for each a value that
its type takes, values of other types, null and numbers out of any range.

A member that is nested is put into the smallest object that its type allows.
"""

from __future__ import annotations

import collections.abc
import enum
import re
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from octavo.json_path import json_path

_DEPTH = 3
_MOST_VALUES = 8
_Path = tuple[str | int, ...]


class Kind(enum.Enum):
    """What a value is to its field's type."""

    VALID = enum.auto()
    WRONG = enum.auto()
    NULL = enum.auto()
    FAR = enum.auto()


@dataclass(frozen=True, slots=True)
class Case:
    """A value at a place of a request.

    Args:
        path: Its place, as errors write it.
        field: What the request's field is then.
    """

    path: str
    kind: Kind
    field: Any

    @property
    def name(self) -> str:
        """The request's field."""
        return re.split(r"[.[]", self.path)[0]


def cases(params: Any) -> Iterator[Case]:
    """Of one TypedDict of parameters, each value once."""
    seen = set()
    for path, build, hint in _places(params, ()):
        found = {
            Kind.VALID: _valid(hint)[:_MOST_VALUES],
            Kind.WRONG: _wrong(hint),
            Kind.NULL: [None],
            Kind.FAR: [-(10**9), 10**30, 1e308] if _has(hint, int, float) else [],
        }
        for kind, values in found.items():
            for value in values:
                case = Case(json_path(*path), kind, build(value))
                if (told := repr((case.path, case.field))) not in seen:
                    seen.add(told)
                    yield case


_Build = Callable[[Any], Any]


def _places(params: Any, above: _Path) -> Iterator[tuple[_Path, _Build, Any]]:
    for name, hint in _hints(params).items():
        path = (*above, name)
        yield path, lambda value: value, hint
        yield from _within(hint, path, 0)


def _within(hint: Any, above: _Path, depth: int) -> Iterator[tuple[_Path, _Build, Any]]:
    for member in _members(hint):
        if _is_object(member) and depth < _DEPTH:
            for name, inner in _hints(member).items():
                path = (*above, name)
                build = _put_into(_smallest(member, depth + 1), name)
                yield path, build, inner
                for place, within, found in _within(inner, path, depth + 1):
                    yield place, _chained(build, within), found
        elif _is_list(member):
            for place, within, found in _within(get_args(member)[0], (*above, 0), depth + 1):
                yield place, _chained(lambda value: [value], within), found


def _put_into(found: dict[str, Any], name: str) -> _Build:
    return lambda value: {**found, name: value}


def _chained(outer: _Build, inner: _Build) -> _Build:
    return lambda value: outer(inner(value))


def _valid(hint: Any, depth: int = 0) -> list[Any]:
    found: list[Any] = []
    for member in _members(hint):
        if get_origin(member) is Literal:
            found += get_args(member)
        elif member in _PLAIN:
            found += _PLAIN[member]
        elif _is_object(member):
            found += [_smallest(member, depth + 1)] if depth < _DEPTH + 2 else []
        elif _is_list(member):
            found += [[value] for value in _valid(get_args(member)[0], depth + 1)]
        elif get_origin(member) in (dict, collections.abc.Mapping):
            found += [{"a": value} for value in _valid(get_args(member)[1], depth + 1)[:1]]
    return found


_PLAIN: dict[Any, list[Any]] = {
    str: ["x"],
    bool: [True, False],
    int: [1],
    float: [0.5],
    object: [{"type": "object"}],
    Any: [{"type": "object"}],
}


def _wrong(hint: Any) -> list[Any]:
    """Values of types that the hint does not have."""
    members = _members(hint)
    if _has(hint, object, Any):
        return []
    has_list = any(map(_is_list, members))
    has_object = any(
        _is_object(one) or get_origin(one) in (dict, collections.abc.Mapping) for one in members
    )
    named = [value for one in members if get_origin(one) is Literal for value in get_args(one)]
    has_text = str in members or any(isinstance(value, str) for value in named)
    found: list[Any] = []
    if str not in members:
        found.append("octavo_unknown")
    if not (has_text or _has(hint, int, float)):
        found.append("")
    if not _has(hint, int, float):
        found.append(5)
    if not (_has(hint, bool) or any(isinstance(value, bool) for value in named)):
        found.append(True)
    found.append([None] if has_list else ["x"])
    if not has_object:
        found.append({"octavo_unknown": 1})
    return found


def _smallest(params: Any, depth: int) -> dict[str, Any]:
    """With the members alone that it must have."""
    found = {}
    # The package's annotations are texts, of which `__required_keys__` knows nothing.
    for name, hint in get_type_hints(params, include_extras=True).items():
        if get_origin(hint) is Required and (values := _valid(get_args(hint)[0], depth)):
            found[name] = values[0]
    return found


def _members(hint: Any) -> list[Any]:
    if get_origin(hint) in (Required, NotRequired):
        return _members(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return [member for one in get_args(hint) for member in _members(one)]
    return [] if hint is types.NoneType else [hint]


def _hints(params: Any) -> dict[str, Any]:
    return get_type_hints(params)


def _has(hint: Any, *kinds: Any) -> bool:
    return any(member in kinds for member in _members(hint))


def _is_object(member: Any) -> bool:
    return hasattr(member, "__required_keys__")


def _is_list(member: Any) -> bool:
    origin = get_origin(member)
    return origin in (list, collections.abc.Iterable, collections.abc.Sequence) or (
        getattr(origin, "__name__", "") == "SequenceNotStr"
    )
