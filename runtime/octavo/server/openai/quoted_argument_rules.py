"""Rules of a grammar for quoted arguments: an object with bare keys in the order of the alphabet, as
templates write it, and texts between tags.

Of a schema only what can be held to is taken: objects of named members, lists of one kind, texts, one of
several values, and JSON values that are none of these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from octavo.grammar_text import text_up_to, without, written, written_pattern
from octavo.server.openai.argument_values import (
    Anything,
    Json,
    Literals,
    NotHeldError,
    Text,
    members_of,
    values_of,
)
from octavo.server.openai.parsing.quoted_arguments import KEY, QuoteTag

_NOTHING = '""'
_LIST = frozenset({"items", "maxItems", "minItems", "type"})
_MOST_ITEMS = 1000
_MOST_DEPTH = 16


@dataclass(slots=True)
class QuotedArgumentRules:
    """`rules` define `name` and what it needs, and `schemas` are what these refer to.

    Args:
        name: Of the rule of all arguments; the others begin with it.
        literal: Writes a text into the grammar.

    Raises: `NotHeldError`.
    """

    name: str
    schema: Mapping[str, Any]
    tags: QuoteTag
    literal: Callable[[str], str]
    rules: list[str] = field(default_factory=list)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._add_object(self.name, self.schema, 0)

    def _add_object(self, name: str, schema: Mapping[str, Any], depth: int) -> None:
        properties, required = members_of(schema)
        keys = sorted(properties, key=lambda key: (key.lower(), key))
        # `first` begins with the first of the members, `more` comes behind one of those before.
        for number, key in enumerate(keys):
            value = f"{name}_{number}"
            if not KEY.fullmatch(key) or not key or key != key.strip().strip('"'):
                raise NotHeldError(f"the property {key!r:.40}")
            self._add(value, key, properties[key], depth)
            member = f"{self.literal(f'{key}:')} {value} {name}_more_{number + 1}"
            first, more = [member], [f'"," {member}']
            if key not in required:
                first.append(f"{name}_first_{number + 1}")
                more.append(f"{name}_more_{number + 1}")
            self.rules += [
                f"{name}_first_{number}: {' | '.join(first)}",
                f"{name}_more_{number}: {' | '.join(more)}",
            ]
        self.rules += [
            f'{name}: "{{" {name}_first_0 "}}"',
            *(f"{name}_{place}_{len(keys)}: {_NOTHING}" for place in ("first", "more")),
        ]

    def _add(self, name: str, key: str, schema: Any, depth: int) -> None:
        if depth == _MOST_DEPTH:
            raise NotHeldError(f"the depth of {key!r:.40}")
        quote, found = self.literal(self.tags.quote), list[str]()
        for number, value in enumerate(values_of(key, schema, self.schema)):
            rule = f"{name}_v{number}"
            match value:
                case Literals():
                    found += [self._literal_value(key, one) for one in value.values]
                    continue
                case Text() | Anything():
                    # The first quote ends it, as it does for whoever reads the answer.
                    text = value if isinstance(value, Text) else Text()
                    self.rules.append(text_up_to(f"{rule}_text", quote, self._terminal(rule, text)))
                    self.rules.append(f"{rule}: {quote} {rule}_text")
                case Json():
                    self._add_json(rule, key, value, depth)
            found.append(rule)
        self.rules.append(f"{name}: {' | '.join(found)}")

    def _add_json(self, name: str, key: str, value: Json, depth: int) -> None:
        schema = value.schema
        if schema["type"] == "object" and "properties" in schema:
            self._add_object(name, schema, depth + 1)
        elif schema["type"] == "array" and "items" in schema and not schema.keys() - _LIST:
            item = f"{name}_item"
            self._add(item, key, schema["items"], depth + 1)
            self.rules.append(f'{name}: "[" {self._items(key, item, schema)} "]"')
        elif value.kinds & {"array", "object"}:
            raise NotHeldError(f"the lists and objects of {key!r:.40}")
        else:
            self.schemas[name] = schema
            self.rules.append(f"{name}: @{name}")

    def _items(self, key: str, item: str, schema: Mapping[str, Any]) -> str:
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if not all(isinstance(one, int) and 0 <= one <= _MOST_ITEMS for one in (least, most or 0)):
            raise NotHeldError(f"minItems or maxItems of {key!r:.40}")
        if most is not None and most < max(least, 1):
            if most < least:
                raise NotHeldError(f"minItems beyond maxItems of {key!r:.40}")
            return _NOTHING
        more = f'("," {item}){{{max(least - 1, 0)},{"" if most is None else most - 1}}}'
        return f"{item} {more}" if least else f"({item} {more})?"

    def _terminal(self, rule: str, text: Text) -> str:
        if not text.expressions:
            return "TEXT"
        parts = [*map(written_pattern, text.expressions), without([written(self.tags.quote, {})])]
        self.rules.append(f"{rule.upper()}_TEXT: {' & '.join(parts)}")
        return f"{rule.upper()}_TEXT"

    def _literal_value(self, key: str, value: object) -> str:
        quote = self.tags.quote
        if isinstance(value, str):
            if quote in value:
                raise NotHeldError(f"values of {key!r:.40} with quotes")
            return self.literal(f"{quote}{value}{quote}")
        if isinstance(value, list | dict):
            raise NotHeldError(f"the lists and objects of {key!r:.40}")
        return self.literal(json.dumps(value))
