from __future__ import annotations

import copy
from typing import Any

import pytest

from octavo.server.openai.call_schema import closed, may_be_object, of_arguments

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


OBJECT = {"type": "object", "properties": {"a": TEXT}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        OBJECT,
        {"type": ["null", "object"]},
        {"anyOf": [TEXT, OBJECT]},
        {
            "oneOf": [{"$ref": "#/$defs/t"}, {"$ref": "#/$defs/o"}],
            "$defs": {"t": TEXT, "o": OBJECT},
        },
        {"enum": ["a", {"a": "b"}]},
        {"$ref": "#"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/$defs/none"},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": OBJECT}},
        {"properties": {"type": TEXT}},
    ],
)
def test_what_may_be_an_object(schema: dict[str, Any]) -> None:
    assert may_be_object(schema)
    assert of_arguments(schema)["type"] == "object"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "maxLength": 3},
        {"type": ["string", "null"]},
        {"type": "array", "items": OBJECT},
        {"enum": ["a", 1]},
        {"const": None},
        {"anyOf": [TEXT, {"type": "array"}]},
        {"allOf": [OBJECT, TEXT]},
        {"$ref": "#/$defs/t", "$defs": {"t": {"$ref": "#/$defs/u"}, "u": TEXT}},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": TEXT}},
        {"allOf": [{"$ref": "#/$defs/n"}], "$defs": {"n": False}},
    ],
)
def test_what_cannot_be_an_object(schema: dict[str, Any]) -> None:
    assert not may_be_object(schema)


def test_references_that_go_on_for_ever_come_to_an_end() -> None:
    both = [{"$ref": f"#/$defs/{n}"} for n in range(500)]
    schema = {"anyOf": both, "$defs": {str(n): {"allOf": both[n + 1 :]} for n in range(500)}}
    assert may_be_object(schema)
