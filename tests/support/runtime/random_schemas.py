"""Random schemas of a function's parameters, as rich as clients send them: nested objects and lists, unions,
bounds, patterns, formats, references, and members that may be left out."""

from __future__ import annotations

import random
from typing import Any

Schema = dict[str, Any]
_KEYS = ("city", "days", "item", "name", "arguments", "user_id", "to", "x-y", "Z", "größe", "a b")
_ODD_KEYS = ("", 'q"', "<b>", "a\nb", "it's", "$ref", "a:b", "{", "k=v", "type")
_TEXTS = ("a", "red", "new york", "1", "null", "true", "", "ü😀", 'q"{', "</a>", "a\nb", " x ")
_PATTERNS = ("^[a-z]{1,4}$", "a+", r"^\d{3}-\d{2}$", "^(ab|c)*$", "^[^<>]{2,5}$", r"^\s?x$")
_FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email")
_MOST_DEPTH = 3


def random_parameters(chance: random.Random) -> Schema:
    """Of a function: an object, with definitions where some are referred to."""
    maker = _Maker(chance)
    schema = maker.object(0)
    if maker.definitions:
        schema["$defs"] = maker.definitions
    return schema


class _Maker:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.definitions: dict[str, Schema] = {}

    def object(self, depth: int) -> Schema:
        chance = self._chance
        keys = chance.sample(_KEYS, chance.randint(0 if depth else 1, 4))
        if chance.random() < 0.15:
            keys.append(chance.choice(_ODD_KEYS))
        schema: Schema = {
            "type": "object",
            "properties": {key: self.any(depth + 1) for key in keys},
        }
        if (required := [key for key in keys if chance.random() < 0.6]) or chance.random() < 0.5:
            schema["required"] = required
        more = chance.random()
        if more < 0.35:
            schema["additionalProperties"] = False
        elif more < 0.45:
            schema["additionalProperties"] = self.any(depth + 1)
        return schema

    def any(self, depth: int) -> Schema:
        kinds = [self._text, self._text, self._number, self._values, self._plain]
        if depth < _MOST_DEPTH:
            kinds += [self.object, self._list, self._union, self._reference]
        schema = self._chance.choice(kinds)(depth)
        if self._chance.random() < 0.2:
            schema = {"description": 'What it <is>: "x"', **schema}
        return schema

    def _text(self, depth: int) -> Schema:
        del depth
        chance, schema = self._chance, Schema(type="string")
        match chance.randrange(6):
            case 0:
                schema["pattern"] = chance.choice(_PATTERNS)
            case 1:
                schema["format"] = chance.choice(_FORMATS)
            case 2:
                schema["maxLength"] = chance.randint(1, 6)
                if chance.random() < 0.5:
                    schema["minLength"] = chance.randint(0, schema["maxLength"])
        return schema

    def _number(self, depth: int) -> Schema:
        del depth
        chance = self._chance
        schema = Schema(type=chance.choice(("integer", "number")))
        if chance.random() < 0.5:
            least = chance.choice((-5, 0, 1, 0.5, -1e-3, 100))
            schema[chance.choice(("minimum", "exclusiveMinimum"))] = least
            if chance.random() < 0.5:
                schema["maximum"] = least + chance.choice((1, 2, 1000))
        elif chance.random() < 0.3:
            schema["multipleOf"] = chance.choice((2, 5, 0.5))
        return schema

    def _values(self, depth: int) -> Schema:
        del depth
        chance = self._chance
        match chance.randrange(4):
            case 0:
                return {"const": chance.choice((*_TEXTS, 1, None, False, ["a", 1], {"a": None}))}
            case 1:
                return {"enum": chance.sample((*_TEXTS, 1, None, True, 2.5, ["a"]), 3)}
        values: Schema = {"enum": chance.sample(_TEXTS, chance.randint(1, 4))}
        return values if chance.random() < 0.5 else {"type": "string", **values}

    def _plain(self, depth: int) -> Schema:
        del depth
        chance = self._chance
        if chance.random() < 0.3:
            return {"type": chance.sample(("string", "null", "integer", "boolean", "array"), 2)}
        return {} if chance.random() < 0.1 else {"type": chance.choice(("boolean", "null"))}

    def _list(self, depth: int) -> Schema:
        chance, schema = self._chance, Schema(type="array", items=self.any(depth + 1))
        if chance.random() < 0.4:
            schema["minItems"] = chance.randint(0, 2)
        if chance.random() < 0.5:
            schema["maxItems"] = schema.get("minItems", 0) + chance.randint(0, 2)
        if chance.random() < 0.15:
            schema["prefixItems"] = [self.any(depth + 1) for _ in range(chance.randint(1, 2))]
        return schema

    def _union(self, depth: int) -> Schema:
        branches = [self.any(depth + 1) for _ in range(self._chance.randint(1, 2))]
        if self._chance.random() < 0.6:
            branches.append({"type": "null"})
        return {"anyOf": branches}

    def _reference(self, depth: int) -> Schema:
        name = f"d{len(self.definitions)}"
        if self.definitions and self._chance.random() < 0.4:
            name = self._chance.choice([*self.definitions])
        else:
            self.definitions[name] = {}  # a schema within may refer to it
            self.definitions[name] = self.any(depth + 1)
        return {"$ref": f"#/$defs/{name}"}
