"""Schemas of objects, in the shapes that clients write them, and the words that ask for an object."""

import json
from random import Random
from typing import Any

from training.demo_model.variation import COMMON_WORDS

JsonObject = dict[str, Any]

# Before or after the schema; `{schema}` is its text.
_ASKING_FOR_SCHEMA = (
    "Reply with one JSON object that fits this schema:\n{schema}",
    "Answer in JSON. The schema is:\n\n{schema}\n\nWrite nothing else.",
    (
        "Take the values out of the text and return them as json of this json_schema:\n\n{schema}\n\n"
        "Return the object and not the schema."
    ),
    "You write JSON objects that are valid by this schema:\n\n{schema}\n\nNo Markdown, no other text.",
    "Output schema:\n{schema}",
    "Your task: read the text and give the JSON for\n\n\n            {schema}\n\n            only.",
    "{schema}\nRespond with an object of this schema.",
)
_ASKING_FOR_KEYS = (
    "Return JSON with the keys {quoted}.",
    "Give the result as a JSON with {quoted} keys. Only JSON.",
    "Answer as a JSON object with the fields {quoted}.",
    "Write it as json: {plain}",
    "Respond with a JSON object, the fields in this order: {quoted}.",
    "JSON keys: {plain}. Nothing other than JSON.",
    "The answer is a JSON object with {quoted}.",
)
_FORM = (
    (
        "The text comes as `{field}`. The output is a JSON object of this form:\n\n{form}\n\n"
        "Take it from the text."
    ),
    "Input: `{field}`\nOutput: {form}",
    "Write the output in the following way.\n\n{form}\nThe values come from {field}.",
)
_TYPE_NAMES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
}


def object_schema(rng: Random, title: str, values: JsonObject) -> JsonObject:
    """A schema that `values` fit, dressed as one client or another dresses it."""
    titles, described, closed = (rng.random() < share for share in (0.4, 0.3, 0.4))
    properties: JsonObject = {}
    for key, value in values.items():
        one = _type_of(value, rng)
        if titles:
            one = {"title": key.replace("_", " ").title(), **one}
            if rng.random() < 0.5:
                one = dict(reversed(one.items()))
        if described:
            one = {"description": f"the {key} of the {rng.choice(COMMON_WORDS)}", **one}
        properties[key] = one
    schema: JsonObject = {"properties": properties, "required": list(values), "type": "object"}
    if rng.random() < 0.4:
        schema = {"type": "object", "properties": properties, "required": list(values)}
    if titles:
        schema["title"] = title
    if closed:
        schema["additionalProperties"] = False
    return schema


def ask_for_schema(rng: Random, schema: JsonObject) -> str:
    """A system prompt that holds the schema."""
    text = json.dumps(schema, indent=2 if rng.random() < 0.4 else None, ensure_ascii=False)
    return rng.choice(_ASKING_FOR_SCHEMA).format(schema=text)


def ask_for_keys(rng: Random, values: JsonObject) -> str:
    """A sentence that names the keys."""
    quote = rng.choice(("'", "`", '"'))
    joint = rng.choice((" and ", ", ", ", then "))
    typed = rng.random() < 0.3
    names = [
        f"{quote}{key}{quote}" + (f" ({_type_name(value, rng)})" if typed else "")
        for key, value in values.items()
    ]
    quoted = ", ".join(names[:-1]) + joint + names[-1] if len(names) > 1 else names[0]
    return rng.choice(_ASKING_FOR_KEYS).format(quoted=quoted, plain=", ".join(values))


def ask_for_form(rng: Random, values: JsonObject, field: str) -> str:
    """A system prompt that shows the object with a placeholder for each value."""
    form = {
        key: rng.choice(("{" + key + "}", f"<{_type_name(value, rng)}>", "..."))
        for key, value in values.items()
    }
    return rng.choice(_FORM).format(
        field=field, form=json.dumps(form, indent=rng.choice((None, 2)))
    )


def _type_of(value: Any, rng: Random) -> JsonObject:
    if value is None:
        return {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    if isinstance(value, dict):
        return object_schema(rng, "Inner", value)
    if isinstance(value, list):
        return {"type": "array", "items": {"type": "string"}}
    return {"type": _name_of(value)}


def _type_name(value: Any, rng: Random) -> str:
    name = "null" if value is None else _name_of(value)
    return _TYPE_NAMES.get(name, name) if rng.random() < 0.5 else name


def _name_of(value: Any) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}
    return names.get(type(value), "object")
