"""Types that a schema allows, and what a bare text means among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octavo.server.http import strict_json
from octavo.server.openai.parsing.python_literals import literal


def decoded(text: str) -> object:
    """Of JSON; None where it is none, or null."""
    try:
        return strict_json.decode(text.encode())
    except (strict_json.JsonError, UnicodeEncodeError):
        return None


def properties_of(schema: Mapping[str, object] | None) -> Mapping[str, Any]:
    found = (schema or {}).get("properties")
    return found if isinstance(found, dict) else {}


def cast(text: str, schema: object) -> Any:
    """What the schema says of a bare text; a text where it says nothing else that fits."""
    kinds = types_of(schema)
    if kinds == {"string"}:
        return text
    value = decoded(text.strip())
    if value is None:
        if text.strip() in ("null", "None") and "null" in kinds:
            return None
        if text.strip() in ("True", "False") and "boolean" in kinds:
            return text.strip() == "True"
        value = literal(text.strip()) if kinds & {"array", "object"} else None
        if value is None:
            return text
    kind = _kind_of(value)
    if not kinds:  # nothing is known: texts alone are no JSON
        return value if kind in ("array", "object") else text
    if kind in kinds or (kind == "integer" and "number" in kinds):
        return value
    if kind == "number" and "integer" in kinds and value == int(value):  # type: ignore[call-overload]
        return int(value)  # type: ignore[call-overload]
    return text


def types_of(schema: object) -> set[str]:
    """The types that a value may be of."""
    if not isinstance(schema, dict):
        return set()
    if isinstance(kind := schema.get("type"), str):
        return {kind}
    if isinstance(kind, list):
        return {one for one in kind if isinstance(one, str)}
    if isinstance(values := schema.get("enum"), list):
        return {_kind_of(value) for value in values}
    if "const" in schema:
        return {_kind_of(schema["const"])}
    branches = schema.get("anyOf") or schema.get("oneOf")
    found = [types_of(branch) for branch in branches] if isinstance(branches, list) else []
    return set[str]().union(*found) if found and all(found) else set()


def _kind_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"
