"""Rules of a grammar for bare arguments: a tag for each of a tool's arguments, and texts without quotes.

Of a schema only what can be held to is taken: named parameters in their order, each a text, one of several
texts, or a JSON value that is no text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from octavo.grammar_text import text_up_to
from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.schema_types import types_of

ROOT = {
    "$schema",
    "additionalProperties",
    "description",
    "properties",
    "required",
    "title",
    "type",
}
SAYING_NOTHING = {"default", "description", "examples", "title", "type"}
_KEY = re.compile(r"[^<>\n]+")


class NotHeldError(ValueError):
    """The message says what of the schema cannot be held to."""


def members_of(
    schema: Mapping[str, Any], known: AbstractSet[str]
) -> tuple[dict[str, Any], list[str]]:
    """Properties and the required ones of them. Raises `NotHeldError` for keywords that are not `known`."""
    if others := schema.keys() - known:
        raise NotHeldError(f"{min(others)!r} beside properties")
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    if unknown := [key for key in required if key not in properties]:
        raise NotHeldError(f"{unknown[0]!r} is required and not among properties")
    return properties, required


def texts_of(schema: Mapping[str, Any]) -> list[str] | None:
    """The texts that a value is one of; None where its schema is another."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    is_texts = isinstance(values, list) and all(isinstance(one, str) for one in values)
    return values if is_texts and values else None


@dataclass(slots=True)
class BareArgumentRules:
    """`rule` is that of all arguments, `rules` are those that it needs, and `schemas` what these refer to.

    Args:
        name: Of the rule; the others begin with it.
        literal: Writes a text into the grammar.

    Raises: `NotHeldError`.
    """

    name: str
    schema: Mapping[str, Any]
    tags: BareTags
    literal: Callable[[str], str]
    rules: list[str] = field(default_factory=list)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        properties, required = members_of(self.schema, ROOT)
        names = []
        for number, (key, schema) in enumerate(properties.items()):
            name = f"{self.name}_{number}"
            self._add(name, key, schema)
            names.append(name if key in required else f"{name}?")
        end = self.literal(self.tags.end)
        self.rules.append(f"{self.name}: {' '.join([*names, end])}")

    def _add(self, name: str, key: str, schema: object) -> None:
        if not _KEY.fullmatch(key) or not isinstance(schema, dict):
            raise NotHeldError(f"the property {key!r:.40}")
        tags, line = self.tags, "\n" if self.tags.is_in_lines else ""
        value = f"{tags.between}{tags.value}" if tags.value else ""
        head = f"{tags.key}{tags.written_key(key)}{self._key_end(key, schema)}"
        value_end = tags.value_end_of(key)
        begin = self.literal(f"{head}{value}{line}")
        end = self.literal(f"{line}{value_end}{tags.between}")
        kinds = types_of(schema)
        if (values := texts_of(schema)) is not None:
            if any(value_end in one or "\n" in one for one in values):
                raise NotHeldError(f"values of {key!r:.40} with line breaks or tags")
            self.rules.append(f"{name}: {begin} ({' | '.join(map(self.literal, values))}) {end}")
        elif schema.get("type") == "string" and not schema.keys() - SAYING_NOTHING:
            # The first closing tag ends it, as it does for whoever reads the answer.
            self.rules += [
                f"{name}: {begin} {name}_value {self.literal(tags.between)}",
                text_up_to(f"{name}_value", self.literal(value_end)),
            ]
        elif not kinds or "string" in kinds or "$ref" in str(schema):
            raise NotHeldError(f"the schema of {key!r:.40}")
        elif tags.is_nested and kinds & {"array", "object"}:
            raise NotHeldError(f"the lists and objects of {key!r:.40}")
        else:
            self.schemas[name] = schema
            self.rules.append(f"{name}: {begin} @{name} {end}")

    def _key_end(self, key: str, schema: object) -> str:
        tags = self.tags
        ends = {tags.typed_ends.get(kind, tags.key_end) for kind in types_of(schema)}
        if len(ends) > 1:
            raise NotHeldError(f"the types of {key!r:.40}")
        return ends.pop() if ends else tags.key_end
