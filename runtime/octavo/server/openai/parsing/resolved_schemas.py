"""Resolved schemas: what references lead to, for whoever must know the type of a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octavo.schema_references import referred
from octavo.server.openai.parsing.schema_types import types_of

_MOST_REFERENCES = 64
"""One behind the other, or of the branches of one union."""
_MOST_SCHEMAS = 1000
_MOST_DEPTH = 16
_UNIONS = ("anyOf", "oneOf")


def resolved(schema: Any, root: object) -> Any:
    """`schema` with what it refers to in its place, and what an `allOf` of one holds; within it references
    stay. One that leads nowhere, or to itself, stays too."""
    for _ in range(_MOST_REFERENCES):
        if not isinstance(schema, dict):
            break
        rest = dict(schema)
        if isinstance(schema.get("$ref"), str):
            inner = referred(rest.pop("$ref"), root)
        elif isinstance(parts := schema.get("allOf"), list) and len(parts) == 1:
            (inner,) = rest.pop("allOf")
        else:
            break
        if not isinstance(inner, dict):
            break
        if inner.keys() & rest.keys() - {"description", "title", "default"}:
            break  # both hold
        schema = {**inner, **rest}
    return schema


def for_reading(parameters: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Parameters whose members, and the branches of their unions, tell their types themselves, as far as some
    references lead."""
    if parameters is None or not _points_elsewhere(parameters):
        return parameters
    return _Resolver(parameters).members(parameters, 0)


def _points_elsewhere(schema: object) -> bool:
    """Whether a type may be told in another place than where it holds; without recursion."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            if "$ref" in value or "allOf" in value:
                return True
            waiting += value.values()
    return False


class _Resolver:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._num_left = _MOST_SCHEMAS

    def members(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        found = dict(schema)
        if isinstance(properties := schema.get("properties"), dict):
            found["properties"] = {key: self._schema(one, depth) for key, one in properties.items()}
        for name in ("items", "additionalProperties"):
            if isinstance(inner := schema.get(name), dict):
                found[name] = self._schema(inner, depth)
        for name in _UNIONS:
            if isinstance(branches := schema.get(name), list):
                found[name] = [self._schema(one, depth) for one in branches]
        return found

    def _schema(self, schema: Any, depth: int) -> Any:
        self._num_left -= 1
        if depth == _MOST_DEPTH or self._num_left < 0:
            return schema
        found = resolved(schema, self._root)
        if not isinstance(found, dict):
            return found
        if not types_of(found) and (kinds := _kinds(found, self._root, set())):
            found = {**found, "type": sorted(kinds)}
        return self.members(found, depth + 1)


def _kinds(schema: Any, root: object, seen: set[str]) -> set[str]:
    """Types of a union whose branches may be references; none where one of them may be of any."""
    if isinstance(schema, dict) and isinstance(reference := schema.get("$ref"), str):
        if reference in seen or len(seen) == _MOST_REFERENCES:
            return set()
        seen.add(reference)
    schema = resolved(schema, root)
    if (kinds := types_of(schema)) or not isinstance(schema, dict):
        return kinds
    unions = [schema[name] for name in _UNIONS if isinstance(schema.get(name), list)]
    found = [_kinds(branch, root, seen) for branch in (unions[0] if unions else ())]
    return set[str]().union(*found) if found and all(found) else set()
