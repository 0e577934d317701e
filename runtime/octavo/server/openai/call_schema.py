"""Schema of a call's arguments: the parameters of a function, without members that it does not name.

JSON Schema allows any member that is not forbidden, and a function takes none but its parameters: a call
with an invented one fails where it is made. So objects that say nothing of further members have none. Where
schemas are put together of parts that each know some of the members, nothing is closed.

Arguments are an object whatever else the schema says, as they are written and read as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octavo.schema_references import referred

# With these beside `properties` other members are named elsewhere, or said to be free.
_OTHERS = frozenset(
    {
        "$dynamicRef",
        "$ref",
        "additionalProperties",
        "anyOf",
        "dependentSchemas",
        "if",
        "oneOf",
        "patternProperties",
        "unevaluatedProperties",
    }
)
# What makes an object keep to more than one schema.
_PARTS = frozenset({"$ref", "$dynamicRef", "anyOf", "oneOf", "dependentSchemas", "if", "not"})
_IN_MEMBERS = frozenset({"$defs", "definitions", "properties"})
_IN_LISTS = frozenset({"anyOf", "oneOf", "prefixItems"})
_IN_ONE = frozenset({"additionalProperties", "items"})
_MOST_REFERENCES = 64


def of_arguments(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What a call is held to: an object of the members that `parameters` names."""
    return {**closed(parameters), "type": "object"}


def may_be_object(schema: object) -> bool:
    """False where no object keeps to it, as far as types, values and references of this document tell."""
    return _may_be_object(schema, schema, set())


def _may_be_object(schema: object, root: object, seen: set[str]) -> bool:
    if not isinstance(schema, Mapping):
        return schema is not False
    kinds = schema.get("type", "object")
    if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
        return False
    if "const" in schema and not isinstance(schema["const"], Mapping):
        return False
    values = schema.get("enum")
    if isinstance(values, list) and not any(isinstance(one, Mapping) for one in values):
        return False
    for name, enough in (("anyOf", any), ("oneOf", any), ("allOf", all)):
        parts = schema.get(name)
        if isinstance(parts, list) and not enough(_may_be_object(one, root, seen) for one in parts):
            return False
    reference = schema.get("$ref")
    # Each is followed once: what is left undecided is decided where the grammar is made.
    if not isinstance(reference, str) or reference in seen or len(seen) == _MOST_REFERENCES:
        return True
    seen.add(reference)
    return _may_be_object(referred(reference, root), root, seen)


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """`schema`, with `additionalProperties: false` where it says nothing of them; it is not changed."""
    return dict(schema) if _is_combined(schema) else _closed(schema)


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: _closed_value(name, value) for name, value in schema.items()}
    if "properties" in found and not _OTHERS & found.keys():
        found["additionalProperties"] = False
    return found


def _closed_value(name: str, value: Any) -> Any:
    if name in _IN_MEMBERS and isinstance(value, Mapping):
        return {key: _closed_any(one) for key, one in value.items()}
    if name in _IN_LISTS and isinstance(value, list):
        return [_closed_any(one) for one in value]
    return _closed_any(value) if name in _IN_ONE else value


def _closed_any(value: Any) -> Any:
    return _closed(value) if isinstance(value, Mapping) else value


def _is_combined(value: Any) -> bool:
    """Whether an object may have to keep to several schemas at once."""
    if isinstance(value, list):
        return any(map(_is_combined, value))
    if not isinstance(value, Mapping):
        return False
    if "allOf" in value or ("properties" in value and _PARTS & value.keys()):
        return True
    return any(map(_is_combined, value.values()))
