"""XML arguments: a tool's arguments as Qwen3-Coder writes them, a tag each and texts without quotes, as rules
of a grammar.

Of a schema only what can be held to is taken: named parameters in their order, each a text, one of several
texts, or a JSON value that is no text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from octavo.server.openai.parsing.formats.qwen3_coder import (
    PARAMETER,
    PARAMETER_END,
    types_of,
)

_ROOT = {
    "$schema",
    "additionalProperties",
    "description",
    "properties",
    "required",
    "title",
    "type",
}
_SAYING_NOTHING = {"default", "description", "examples", "title", "type"}
_NOTHING = '""'
_KEY = re.compile(r"[^<>\n]+")


class NotHeldError(ValueError):
    """The message says what of the schema cannot be held to."""


@dataclass(slots=True)
class XmlArguments:
    """`rule` is that of all arguments, `rules` are those that it needs, and `schemas` what these refer to.

    Args:
        name: Of the rule; the others begin with it.
        literal: Writes a text into the grammar.

    Raises: `NotHeldError`.
    """

    name: str
    schema: Mapping[str, Any]
    literal: Callable[[str], str]
    rules: list[str] = field(default_factory=list)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if others := self.schema.keys() - _ROOT:
            raise NotHeldError(f"{min(others)!r} beside properties")
        properties = self.schema.get("properties") or {}
        required = self.schema.get("required") or []
        if unknown := [key for key in required if key not in properties]:
            raise NotHeldError(f"{unknown[0]!r} is required and not among properties")
        names = []
        for number, (key, schema) in enumerate(properties.items()):
            name = f"{self.name}_{number}"
            self._add(name, key, schema)
            names.append(name if key in required else f"{name}?")
        self.rules.append(f"{self.name}: {' '.join(names) or _NOTHING}")

    def _add(self, name: str, key: str, schema: object) -> None:
        if not _KEY.fullmatch(key) or not isinstance(schema, dict):
            raise NotHeldError(f"the property {key!r:.40}")
        begin = self.literal(f"{PARAMETER}{key}>\n")
        end = self.literal(f"\n{PARAMETER_END}\n")
        values = schema.get("enum")
        if isinstance(values, list) and all(isinstance(one, str) for one in values) and values:
            if any(PARAMETER_END in one or "\n" in one for one in values):
                raise NotHeldError(f"values of {key!r:.40} with line breaks or tags")
            self.rules.append(f"{name}: {begin} ({' | '.join(map(self.literal, values))}) {end}")
        elif schema.get("type") == "string" and not schema.keys() - _SAYING_NOTHING:
            # The first closing tag ends it, as it does for whoever reads the answer.
            self.rules += [
                f"{name}: {begin} {name}_value {self.literal(chr(10))}",
                f"{name}_value[lazy]: TEXT {self.literal(PARAMETER_END)}",
            ]
        elif (kinds := types_of(schema)) and "string" not in kinds and "$ref" not in str(schema):
            self.schemas[name] = schema
            self.rules.append(f"{name}: {begin} @{name} {end}")
        else:
            raise NotHeldError(f"the schema of {key!r:.40}")
