"""Types that a schema allows, and what a bare text means among them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from octavo.server.http import strict_json
from octavo.server.openai.parsing.python_literals import literal

_STRING_OR_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*+"?|-?[0-9][0-9.eE+-]*', re.DOTALL)
_INSIDE = {"array": "items", "object": "properties"}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def decoded(text: str) -> object:
    """Of JSON; None where it is none, or null. Beside a number beyond what can be held all are 0: whoever
    hands JSON on takes its text."""
    value = _decoded(text)
    # JSON has numbers of any size: what is wrong may be one of them alone.
    return _decoded(_STRING_OR_NUMBER.sub(_held, text)) if value is None else value


def _decoded(text: str) -> object:
    try:
        return strict_json.decode(text.encode())
    except (strict_json.JsonError, UnicodeEncodeError):
        return None


def _held(found: re.Match[str]) -> str:
    return "0" if _NUMBER.fullmatch(found[0]) else found[0]


def properties_of(schema: Mapping[str, object] | None) -> Mapping[str, Any]:
    found = (schema or {}).get("properties")
    return found if isinstance(found, dict) else {}


def cast(text: str, schema: object) -> str:
    """The JSON that the schema says a bare text is: as it is written, where it is JSON itself; a text where
    nothing else fits."""
    kinds, written = types_of(schema), text.strip()
    if kinds == {"string"}:
        return written_text(text)
    value = decoded(written)
    if value is None:
        if written in ("null", "None") and "null" in kinds:
            return "null"
        if written in ("True", "False") and "boolean" in kinds:
            return written.lower()
        value = literal(written) if kinds & {"array", "object"} else None
        if value is None:
            return written_text(text)
        written = json.dumps(value, ensure_ascii=False)
    kind = kind_of(value)
    if not kinds:  # nothing is known: texts alone are no JSON
        return written if kind in ("array", "object") else written_text(text)
    if kind in kinds or (kind == "integer" and "number" in kinds):
        return written
    if kind == "number" and "integer" in kinds and value == int(value):  # type: ignore[call-overload]
        return str(int(value))  # type: ignore[call-overload]
    return written_text(text)


def written_text(text: str) -> str:
    """As JSON has it."""
    return json.dumps(text, ensure_ascii=False)


def types_of(schema: object) -> set[str]:
    """The types that a value may be of."""
    if not isinstance(schema, dict):
        return set()
    if isinstance(kind := schema.get("type"), str):
        return {kind}
    if isinstance(kind, list):
        return {one for one in kind if isinstance(one, str)}
    if isinstance(values := schema.get("enum"), list):
        return {kind_of(value) for value in values}
    if "const" in schema:
        return {kind_of(schema["const"])}
    branches = schema.get("anyOf") or schema.get("oneOf")
    found = [types_of(branch) for branch in branches] if isinstance(branches, list) else []
    return set[str]().union(*found) if found and all(found) else set()


def branch_of(schema: object, kind: str) -> Mapping[str, Any]:
    """What `schema` says of values of this type, where that is one thing: of a union its only branch of them;
    else nothing."""
    while isinstance(schema, dict):
        branches = schema.get("anyOf") or schema.get("oneOf")
        if not isinstance(branches, list) or _INSIDE[kind] in schema:
            return schema
        found = [one for one in branches if kind in types_of(one)]
        if len(found) != 1:
            break
        (schema,) = found
    return {}


def kind_of(value: object) -> str:
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
