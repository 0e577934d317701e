"""Rules of a grammar for quoted arguments: an object with bare keys in the order of the alphabet, as
templates write it, and texts between tags.

Of a schema only what can be held to is taken: objects of named members, lists of one kind, texts, one of
several texts, and JSON values that are none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from octavo.grammar_text import text_up_to
from octavo.server.openai.bare_argument_rules import (
    ROOT,
    SAYING_NOTHING,
    NotHeldError,
    members_of,
    texts_of,
)
from octavo.server.openai.parsing.quoted_arguments import KEY, QuoteTag
from octavo.server.openai.parsing.schema_types import types_of

_NOTHING = '""'
_NESTED = {"string", "object", "array"}


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
        self._add_object(self.name, self.schema)

    def _add_object(self, name: str, schema: Mapping[str, Any]) -> None:
        properties, required = members_of(schema, ROOT | SAYING_NOTHING)
        keys = sorted(properties, key=lambda key: (key.lower(), key))
        # `first` begins with the first of the members, `more` comes behind one of those before.
        for number, key in enumerate(keys):
            value = f"{name}_{number}"
            if not KEY.fullmatch(key) or not key or not isinstance(properties[key], dict):
                raise NotHeldError(f"the property {key!r:.40}")
            self._add(value, key, properties[key])
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

    def _add(self, name: str, key: str, schema: Mapping[str, Any]) -> None:
        quote, kinds = self.literal(self.tags.quote), types_of(schema)
        says_more = schema.keys() - SAYING_NOTHING
        if (values := texts_of(schema)) is not None:
            if any(self.tags.quote in one for one in values):
                raise NotHeldError(f"values of {key!r:.40} with quotes")
            self.rules.append(f"{name}: {quote} ({' | '.join(map(self.literal, values))}) {quote}")
        elif schema.get("type") == "string" and not says_more:
            # The first quote ends it, as it does for whoever reads the answer.
            self.rules += [f"{name}: {quote} {name}_text", text_up_to(f"{name}_text", quote)]
        elif schema.get("type") == "object" and "properties" in schema:
            self._add_object(name, schema)
        elif schema.get("type") == "array" and says_more == {"items"}:
            if not isinstance(schema["items"], dict):
                raise NotHeldError(f"the schema of {key!r:.40}")
            item = f"{name}_item"
            self._add(item, key, schema["items"])
            self.rules.append(f'{name}: "[" ({item} ("," {item})*)? "]"')
        elif kinds and not kinds & _NESTED and "$ref" not in str(schema):
            self.schemas[name] = dict(schema)
            self.rules.append(f"{name}: @{name}")
        else:
            raise NotHeldError(f"the schema of {key!r:.40}")
