"""Qwen3-Coder: `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`.

Values are bare text, which the tool's schema makes numbers, objects or strings of. A tag may stand within a
value: it ends where another parameter or the function's end follows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools, decoded
from octavo.server.openai.parsing.pieces import Call

TAG, TAG_END = "<tool_call>", "</tool_call>"
FUNCTION, FUNCTION_END = "<function=", "</function>"
PARAMETER, PARAMETER_END = "<parameter=", "</parameter>"
_NAME = re.compile(r"[^<>\n]*")


class Qwen3Coder(CallFormat):
    # Its models leave the outer tags out at times.
    openings = (TAG, FUNCTION)
    shape = CallShape(
        tag=TAG,
        begin="\n",
        call=lambda name: f"{FUNCTION}{name}>\n",
        has_xml_arguments=True,
        call_end=FUNCTION_END,
        end=f"\n{TAG_END}",
        between="\n",
    )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        if opening == TAG:
            yield from cursor.spaces()
            if (yield from cursor.literal(FUNCTION)) is None:
                return False
        call = yield from self._function(cursor, tools)
        if call is None:
            return False
        yield from cursor.spaces()
        if opening == TAG:
            if not (yield from cursor.is_ahead(TAG)) and not (yield from cursor.closing(TAG_END)):
                return False
            yield call
            return True
        yield call
        yield from cursor.closing(TAG_END)
        return True

    def _function(self, cursor: Cursor, tools: Tools) -> Steps[Call | None]:
        name = yield from cursor.word(_NAME)
        if not name or (yield from cursor.literal(">")) is None:
            return None
        arguments: dict[str, Any] = {}
        schemas = _properties(tools.get(name))
        while True:
            yield from cursor.spaces()
            tag = yield from cursor.literal(PARAMETER, FUNCTION_END)
            if tag is None:
                return None
            if tag == FUNCTION_END:
                return self.call(name.strip(), arguments)
            key = yield from cursor.word(_NAME)
            if not key or (yield from cursor.literal(">")) is None:
                return None
            value = yield from self._value(cursor)
            if value is None:
                return None
            arguments[key.strip()] = _cast(value, schemas.get(key.strip()))

    def _value(self, cursor: Cursor) -> Steps[str | None]:
        parts = list[str]()
        while True:
            part = yield from cursor.until(PARAMETER_END)
            if part is None:
                return None
            parts.append(part)
            spaces = yield from cursor.spaces()
            if (yield from cursor.is_ahead(PARAMETER, FUNCTION_END)):
                value = "".join(parts)
                # The template puts a line break before and behind.
                return value[1:].removesuffix("\n") if value.startswith("\n") else value
            parts += PARAMETER_END, spaces


def _properties(schema: Mapping[str, object] | None) -> Mapping[str, Any]:
    found = (schema or {}).get("properties")
    return found if isinstance(found, dict) else {}


def _cast(text: str, schema: object) -> Any:
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


QWEN3_CODER = Qwen3Coder()
