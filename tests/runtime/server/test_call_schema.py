from __future__ import annotations

import copy
from typing import Any

import pytest

from octavo.server.openai.call_schema import closed

CLOSED = {"additionalProperties": False}
TEXT = {"type": "string"}


def test_objects_have_the_members_that_are_named_and_no_others() -> None:
    point = {"type": "object", "properties": {"x": TEXT}}
    schema: dict[str, Any] = {
        "$defs": {"point": point},
        "properties": {
            "one": {"$ref": "#/$defs/point"},
            "many": {"type": "array", "items": point},
            "either": {"anyOf": [point, {"type": "null"}]},
            "by_name": {"type": "object", "additionalProperties": point},
            # A parameter's name is no keyword, and a constant no schema.
            "properties": TEXT,
            "fixed": {"const": {"properties": {}}},
        },
    }
    before = copy.deepcopy(schema)
    shut = {**point, **CLOSED}
    assert closed(schema) == {
        "$defs": {"point": shut},
        "properties": {
            **schema["properties"],
            "many": {"type": "array", "items": shut},
            "either": {"anyOf": [shut, {"type": "null"}]},
            "by_name": {"type": "object", "additionalProperties": shut},
        },
        **CLOSED,
    }
    assert schema == before


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": TEXT}, "additionalProperties": True},
        {"properties": {"a": TEXT}, "patternProperties": {"^x": TEXT}},
        {"properties": {"a": TEXT}, "unevaluatedProperties": False},
        {"allOf": [{"properties": {"a": TEXT}}, {"properties": {"b": TEXT}}]},
        {"properties": {"a": TEXT}, "anyOf": [{"properties": {"b": TEXT}}]},
        {"$defs": {"a": {"properties": {"a": TEXT}}}, "properties": {}, "$ref": "#/$defs/a"},
        {"type": "object"},
    ],
)
def test_what_says_more_of_its_members_stays_as_it_is(schema: dict[str, Any]) -> None:
    assert closed(schema) == schema
