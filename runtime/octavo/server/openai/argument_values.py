"""Argument values: a schema as the kinds of values that it allows, each of which a format writes in its own
way where its arguments are no JSON.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, ClassVar

from octavo.schema_numbers import as_whole
from octavo.schema_references import references_of
from octavo.schema_texts import KEYWORDS, expressions_of
from octavo.server.openai.parsing.resolved_schemas import resolved
from octavo.server.openai.parsing.schema_types import kind_of, types_of

ROOT = frozenset(
    {
        "$defs",
        "$schema",
        "additionalProperties",
        "definitions",
        "description",
        "properties",
        "required",
        "title",
        "type",
    }
)
"""Keywords of an object that is held to: members that it does not name are never written."""
SAYING_NOTHING = frozenset(
    {"default", "deprecated", "description", "examples", "readOnly", "title", "writeOnly"}
)
CONTAINERS = frozenset({"array", "object"})
MOST_ITEMS = 1000
MOST_VALUES = 1000
"""Of one function: a reference may lead to many, and each of them to others."""
_OF_LISTS = frozenset({"items", "maxItems", "minItems"})
_OF_OBJECTS = frozenset({"additionalProperties", "properties", "required"})
_DEFINITIONS = ("$defs", "definitions")
_MOST_BRANCHES = 64


class NotHeldError(ValueError):
    """The message says what of the schema cannot be held to."""


@dataclass(frozen=True, slots=True)
class Literals:
    """One of these values."""

    values: list[Any]

    @property
    def kinds(self) -> set[str]:
        return {kind_of(value) for value in self.values}


@dataclass(frozen=True, slots=True)
class Text:
    """A string that matches all of these expressions."""

    expressions: tuple[str, ...] = ()
    kinds: ClassVar = frozenset({"string"})


@dataclass(frozen=True, slots=True)
class Json:
    """What keeps to a schema of any types but strings."""

    schema: dict[str, Any]

    @property
    def kinds(self) -> set[str]:
        return types_of(self.schema)

    @property
    def is_plain(self) -> bool:
        """All values of its types keep to it."""
        return not self.schema.keys() - SAYING_NOTHING - {"type"}

    def parts(self) -> Iterator[Json]:
        """Lists and objects alone, each without the other's keywords; all other types in one."""
        for kind, others in (("array", _OF_OBJECTS), ("object", _OF_LISTS)):
            if kind in self.kinds:
                known = {name: one for name, one in self.schema.items() if name not in others}
                yield Json({**known, "type": kind})
        if rest := sorted(self.kinds - CONTAINERS):
            names = self.schema.keys() - _OF_LISTS - _OF_OBJECTS
            schema = {name: self.schema[name] for name in sorted(names)}
            yield Json({**schema, "type": rest[0] if len(rest) == 1 else rest})


@dataclass(frozen=True, slots=True)
class Anything:
    """Any value at all; a text is one."""

    kinds: ClassVar = frozenset(
        {"array", "boolean", "integer", "null", "number", "object", "string"}
    )


Value = Literals | Text | Json | Anything


def values_of(key: str, schema: Any, root: Mapping[str, Any]) -> list[Value]:
    """
    Args:
        key: What errors call it.
        root: The document that references are of.

    Raises: `NotHeldError`.
    """
    try:
        return [*_Reading(key, root).values(schema)]
    except NotHeldError:
        raise
    except ValueError as error:
        raise NotHeldError(f"{error} of {key!r:.40}") from None


class _Reading:
    def __init__(self, key: str, root: Mapping[str, Any]) -> None:
        self._key = key
        self._root = root
        self._num_left = _MOST_BRANCHES

    def values(self, schema: Any) -> Iterator[Value]:
        self._num_left -= 1
        schema = resolved({} if schema is True else schema, self._root)
        if self._num_left < 0 or not isinstance(schema, dict) or "$ref" in schema:
            raise self._not_held("the schema")
        given = {name: one for name, one in schema.items() if name not in SAYING_NOTHING}
        kinds = types_of({"type": given.get("type")})
        if (name := _first_of(given, ("const", "enum"))) is not None:
            self._check(given, {name, "type"})
            values = given[name] if name == "enum" else [given[name]]
            if "integer" in kinds and "number" not in kinds:
                values = [_integer(one) for one in values]
            yield Literals([one for one in values if not kinds or is_of(one, kinds)])
        elif (name := _first_of(given, ("anyOf", "oneOf"))) is not None:
            self._check(given, {name})
            branches = [[*self.values(one)] for one in given[name]]
            if name == "oneOf":
                self._check_apart(branches)
            yield from itertools.chain(*branches)
        elif not given:
            yield Anything()
        elif not kinds:
            raise self._not_held("the schema")
        else:
            yield from self._typed(given, kinds)

    def _typed(self, given: Mapping[str, Any], kinds: AbstractSet[str]) -> Iterator[Value]:
        if "string" in kinds:
            if kinds == {"string"}:
                self._check(given, KEYWORDS | {"type"})
            yield Text(tuple(expressions_of(given)))
        if others := sorted(kinds - {"string"}):
            rest = {name: one for name, one in given.items() if name not in KEYWORDS}
            definitions = self._definitions() if _has_reference(rest) else {}
            yield Json({**rest, **definitions, "type": others[0] if len(others) == 1 else others})

    def _definitions(self) -> dict[str, Any]:
        """Of the document, which what is taken out of it may refer to."""
        return {name: self._root[name] for name in _DEFINITIONS if name in self._root}

    def _check(self, given: Mapping[str, Any], known: AbstractSet[str]) -> None:
        if more := given.keys() - known:
            raise self._not_held(min(more))

    def _check_apart(self, branches: list[list[Value]]) -> None:
        """No value may be of two of them."""
        seen = set[str]()
        for branch in branches:
            kinds = set[str]().union(*(one.kinds for one in branch))
            if "number" in kinds:
                kinds.add("integer")
            if kinds & seen or (seen and any(isinstance(one, Anything) for one in branch)):
                raise self._not_held("a oneOf whose schemas allow values of one type")
            seen |= kinds

    def _not_held(self, what: str) -> NotHeldError:
        return NotHeldError(f"{what} of {self._key!r:.40}")


def _first_of(given: Mapping[str, Any], names: Iterable[str]) -> str | None:
    return next((name for name in names if name in given), None)


def _integer(value: Any) -> Any:
    whole = as_whole(value)
    return value if whole is None else whole


def _has_reference(schema: Mapping[str, Any]) -> bool:
    """Raises `ValueError` for one that leads elsewhere than to a definition."""
    found = references_of(schema)
    for reference in found:
        if not reference.startswith(tuple(f"#/{name}/" for name in _DEFINITIONS)):
            raise ValueError(f"the reference {reference!r:.40}")
    return bool(found)


def members_of(
    schema: Mapping[str, Any], known: AbstractSet[str] = ROOT
) -> tuple[dict[str, Any], list[str]]:
    """Properties and the required ones of them. Raises `NotHeldError` for keywords that are not `known`."""
    if others := schema.keys() - known - SAYING_NOTHING:
        raise NotHeldError(f"{min(others)!r} beside properties")
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    if unknown := [key for key in required if key not in properties]:
        raise NotHeldError(f"{unknown[0]!r} is required and not among properties")
    return properties, required


def list_bounds(key: str, schema: Mapping[str, Any]) -> tuple[int, int | None]:
    """The fewest and the most items of a list; None: any number. Raises `NotHeldError` also where there is
    more to a list than its items and their number."""
    if "items" not in schema or schema.keys() - _OF_LISTS - set(_DEFINITIONS) - {"type"}:
        raise NotHeldError(f"the lists of {key!r:.40}")
    least = as_whole(schema.get("minItems", 0))
    most = as_whole(schema.get("maxItems", MOST_ITEMS))
    if least is None or most is None or not 0 <= least <= most <= MOST_ITEMS:
        raise NotHeldError(f"minItems or maxItems of {key!r:.40}")
    return least, most if "maxItems" in schema else None


def is_of(value: object, kinds: AbstractSet[str]) -> bool:
    """Whether its type is one of these."""
    kind = kind_of(value)
    return kind in kinds or (kind == "integer" and "number" in kinds)


def written_values(key: str, literals: Literals, reads: Callable[[str], str]) -> list[str]:
    """Texts of those, each of which is read as one of them.

    Args:
        key: What errors call it.
        reads: The JSON that a text is read as.

    Raises: `NotHeldError` for one that cannot be written.
    """
    found, known = list[str](), {json.dumps(one) for one in literals.values}
    for value in literals.values:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if json.dumps(json.loads(reads(text))) not in known:
            raise NotHeldError(f"the value {value!r:.40} of {key!r:.40}, which is read as another")
        found.append(text)
    return found
