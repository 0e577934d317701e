"""Public schemas: JSON Schema's official test suite in all its drafts, the types of the `openai` client as
its users send them, and odd ones of the kind that bug reports of constrained decoding are about."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai.types.chat
import pydantic

Schema = dict[str, Any]
SUITE = Path(__file__).parents[3] / "out/schemas"
_DRAFTS = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft6": "http://json-schema.org/draft-06/schema#",
    "draft4": "http://json-schema.org/draft-04/schema#",
    "draft3": "http://json-schema.org/draft-03/schema#",
}


def public_schemas() -> dict[str, Schema]:
    """By name, each once: what differs in nothing but `$schema` is one."""
    found: dict[str, tuple[str, Schema]] = {}
    for name, schema in [*_of_suite(), *_of_clients(), *_odd()]:
        rest = {key: value for key, value in schema.items() if key != "$schema"}
        found.setdefault(json.dumps(rest, sort_keys=True), (name, schema))
    return dict(found.values())


def suite_folders() -> list[Path]:
    """Of the official suite; none where it was not fetched."""
    return sorted(SUITE.glob("jsonschema-*/json/tests"))


def _of_suite() -> Iterator[tuple[str, Schema]]:
    for folder in suite_folders():
        for draft, uri in _DRAFTS.items():
            for path in sorted((folder / draft).rglob("*.json")):
                for number, case in enumerate(json.loads(path.read_text("utf-8"))):
                    schema = case["schema"]
                    if isinstance(schema, dict):
                        name = f"{path.relative_to(folder)}:{number} {case['description']}"
                        yield name, {"$schema": uri} | schema


def _of_clients() -> Iterator[tuple[str, Schema]]:
    for module in pkgutil.iter_modules(openai.types.chat.__path__, "openai.types.chat."):
        for name, kind in vars(importlib.import_module(module.name)).items():
            if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
                try:
                    yield f"{module.name}.{name}", kind.model_json_schema()
                except pydantic.errors.PydanticUserError:
                    continue  # a type that has no schema


def _odd() -> Iterator[tuple[str, Schema]]:
    for number, schema in enumerate(ODD):
        yield f"odd {number}", schema


def _object(members: Schema, **more: Any) -> Schema:
    return {"type": "object", "properties": members, "required": list(members)} | more


ODD: list[Schema] = [
    _object({"price": {"type": "number", "multipleOf": 0.01}}, additionalProperties=False),
    _object({"price": {"type": "number", "minimum": -1e-7, "maximum": 1e-7}}),
    _object({"n": {"type": "integer", "minimum": 1.5, "maximum": 3.5}}, additionalProperties=False),
    _object({"n": {"type": "integer", "exclusiveMinimum": -1, "exclusiveMaximum": 1}}),
    _object({"a b": {"type": "null"}, 'q"\\': {"type": "boolean"}, "ü😀\n": {"const": ""}}),
    _object({"": {"type": "string", "maxLength": 2}}, additionalProperties=False),
    {"type": "object", "required": ["ghost"], "additionalProperties": {"type": "integer"}},
    {"type": "object", "additionalProperties": False},
    {"type": "object", "propertyNames": {"pattern": "^[a-z]{1,3}$"}, "maxProperties": 2},
    {"type": "object", "patternProperties": {"^x_": {"type": "integer"}}, "minProperties": 1},
    {"type": "array", "minItems": 2, "maxItems": 2},
    {"type": "array", "prefixItems": [{"const": 1}, {"enum": ["a", None]}], "items": False},
    {"type": "array", "contains": {"const": 1}, "maxItems": 3},
    {"type": "array", "items": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}},
    {"type": ["string", "null", "integer"], "maxLength": 3, "maximum": 9},
    {"enum": [1, 1.0, "1", [1], {"a": 1}, None, True, "\u2028", '"', "\\u0000"]},
    {"const": {"b": [1, {"a": None}], "a": "x"}},
    {"anyOf": [{"type": "string", "maxLength": 1}, {"type": "string", "minLength": 3}]},
    {
        "anyOf": [
            _object({"t": {"const": "a"}}),
            _object({"t": {"const": "b"}, "n": {"type": "null"}}),
        ]
    },
    {"oneOf": [_object({"t": {"const": "a"}}), _object({"t": {"const": "b"}})]},
    {"allOf": [{"type": "string"}, {"minLength": 2}, {"maxLength": 4}, {"pattern": "^[ab]*$"}]},
    {"allOf": [_object({"a": {"type": "integer"}}), _object({"a": {"maximum": 5}, "b": {}})]},
    {"type": "string", "pattern": "a|b"},
    {"type": "string", "pattern": "^(a|b)$|^c{2}"},
    {"type": "string", "pattern": "^\\d{3}-\\w+$", "maxLength": 8},
    {"type": "string", "pattern": '^[^"\\\\\\n]{1,4}$'},
    {"type": "string", "pattern": "\\.json$", "maxLength": 12},
    {"type": "string", "minLength": 3, "maxLength": 3, "description": "counted in characters"},
    *(
        {"type": "string", "format": name}
        for name in ("date", "time", "date-time", "uuid", "email")
    ),
    *(
        {"type": "string", "format": name}
        for name in ("ipv4", "ipv6", "hostname", "uri", "duration")
    ),
    {"$defs": {"t": {"anyOf": [{"type": "null"}, _object({"next": {"$ref": "#/$defs/t"}})]}}}
    | {"$ref": "#/$defs/t"},
    {"definitions": {"a/b~c": {"type": "boolean"}}, "$ref": "#/definitions/a~1b~0c"},
    {"type": "array", "items": {"$ref": "#"}, "maxItems": 2},
    {"type": "object", "properties": {"me": {"$ref": "#"}}, "additionalProperties": False},
    {"title": "no type", "properties": {"a": {"type": "integer"}}},
    {"type": "integer", "multipleOf": 7, "minimum": 100, "maximum": 120},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"not": {"type": "string"}},
    {"type": "array", "uniqueItems": True},
    {"if": {"type": "string"}, "then": {"maxLength": 1}},
    {"type": "object", "dependentRequired": {"a": ["b"]}},
    {"type": "object", "unevaluatedProperties": False},
    {"type": "string", "format": "made-up"},
    {"type": "string", "contentEncoding": "base64"},
    {"type": "string", "pattern": "(?=a)a"},
    {"type": "string", "pattern": "^(a+)+\\1$"},
]
