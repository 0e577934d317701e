"""Rules of a grammar for quoted arguments: an object with bare keys in the order of the alphabet, as
templates write it, and texts between tags.

Of a schema only what can be held to is taken: objects of named members, lists of one kind, texts, one of
several values, and JSON values that are none of these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from octavo.grammar_text import text_up_to, without, written, written_pattern
from octavo.server.openai.argument_values import (
    MOST_VALUES,
    Anything,
    Json,
    Literals,
    NotHeldError,
    Text,
    list_bounds,
    members_of,
    values_of,
)
from octavo.server.openai.parsing.quoted_arguments import KEY, QuoteTag

_NOTHING = '""'
_MOST_DEPTH = 16


@dataclass
class QuotedArgumentRules:
    """`rules` define `name` and what it needs, and `schemas` are what these refer to.

    Args:
        name: Of the rule of all arguments; the others begin with it.
        literal: Writes a text into the grammar.

    Raises: `NotHeldError`.
    """

    separator: ClassVar = ","
    name: str
    schema: Mapping[str, Any]
    tags: QuoteTag
    literal: Callable[[str], str]
    rules: list[str] = field(default_factory=list)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    _num_values: int = 0

    def __post_init__(self) -> None:
        self._add_object(self.name, self.schema, 0)

    def _add_object(self, name: str, schema: Mapping[str, Any], depth: int) -> None:
        self._add_members(name, schema, depth)
        self.rules.append(f'{name}: "{{" {name}_first_0 "}}"')

    def _add_members(self, name: str, schema: Mapping[str, Any], depth: int) -> None:
        """`first` begins with the first of the members, `more` comes behind one of those before."""
        properties, required = members_of(schema)
        keys = self._in_order(properties)
        for number, key in enumerate(keys):
            value = f"{name}_{number}"
            head = self.literal(self._head(key, depth))
            self._add(value, key, properties[key], depth)
            member = f"{head} {value} {name}_more_{number + 1}"
            first, more = [member], [f"{self.literal(self.separator)} {member}"]
            if key not in required:
                first.append(f"{name}_first_{number + 1}")
                more.append(f"{name}_more_{number + 1}")
            self.rules += [
                f"{name}_first_{number}: {' | '.join(first)}",
                f"{name}_more_{number}: {' | '.join(more)}",
            ]
        self.rules += [f"{name}_{place}_{len(keys)}: {_NOTHING}" for place in ("first", "more")]

    def _in_order(self, keys: Iterable[str]) -> list[str]:
        return sorted(keys, key=lambda key: (key.lower(), key))

    def _head(self, key: str, depth: int) -> str:
        """What stands before the value of a key."""
        del depth
        if not KEY.fullmatch(key) or not key or key != key.strip().strip('"'):
            raise NotHeldError(f"the property {key!r:.40}")
        return f"{key}:"

    def _add(self, name: str, key: str, schema: Any, depth: int) -> None:
        if depth == _MOST_DEPTH:
            raise NotHeldError(f"the depth of {key!r:.40}")
        self._num_values += 1
        if self._num_values > MOST_VALUES:
            raise NotHeldError(f"more than {MOST_VALUES} values")
        found = list[str]()
        for number, value in enumerate(values_of(key, schema, self.schema)):
            rule = f"{name}_v{number}"
            match value:
                case Literals():
                    found += [self._literal_value(key, one) for one in value.values]
                    continue
                case Text() | Anything():
                    self._add_text(rule, value if isinstance(value, Text) else Text())
                case Json():
                    found += self._add_json(rule, key, value, depth)
                    continue
            found.append(rule)
        self.rules.append(f"{name}: {' | '.join(found)}")

    def _add_json(self, name: str, key: str, value: Json, depth: int) -> list[str]:
        """The rules of its parts."""
        found = list[str]()
        for number, part in enumerate(value.parts()):
            schema, rule = part.schema, f"{name}_p{number}"
            if "object" in part.kinds:
                if "properties" not in schema:
                    raise NotHeldError(f"the objects of {key!r:.40}")
                self._add_object(rule, schema, depth + 1)
            elif "array" in part.kinds:
                items = self._items(key, f"{rule}_item", schema)
                self._add(f"{rule}_item", key, schema["items"], depth + 1)
                self.rules.append(f'{rule}: "[" {items} "]"')
            else:
                self._add_scalar(rule, part)
            found.append(rule)
        return found

    def _add_scalar(self, rule: str, value: Json) -> None:
        self.schemas[rule] = value.schema
        self.rules.append(f"{rule}: @{rule}")

    def _add_text(self, rule: str, text: Text) -> None:
        """The first quote ends it, as it does for whoever reads the answer."""
        quote = self.literal(self.tags.quote)
        self.rules.append(text_up_to(f"{rule}_text", quote, self._terminal(rule, text)))
        self.rules.append(f"{rule}: {quote} {rule}_text")

    def _items(self, key: str, item: str, schema: Mapping[str, Any]) -> str:
        least, most = list_bounds(key, schema)
        if most == 0:
            return _NOTHING
        times = f"{max(least - 1, 0)},{'' if most is None else most - 1}"
        more = "" if most == 1 else f"({self.literal(self.separator)} {item}){{{times}}}"
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
