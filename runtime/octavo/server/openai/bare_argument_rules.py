"""Rules of a grammar for bare arguments: a tag for each of a tool's arguments, and texts without quotes.

A text means what the parser reads in it: one that it would read as another value is not let through where
the schema does not allow that value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from octavo.grammar_text import ANY, text_up_to, written, written_pattern
from octavo.server.openai.argument_values import (
    Anything,
    Json,
    Literals,
    NotHeldError,
    Text,
    Value,
    members_of,
    values_of,
    written_values,
)
from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.nested_values import nested_value
from octavo.server.openai.parsing.resolved_schemas import for_reading
from octavo.server.openai.parsing.schema_types import (
    cast,
    properties_of,
    types_of,
    written_text,
)

_NESTED = {"array", "object"}
_READ_AS = {
    "array": r"/\s*\[(.|\n)*/",
    "boolean": r"/\s*([Tt]rue|[Ff]alse)\s*/",
    "integer": r"/\s*-?[0-9](.|\n)*/",
    "null": r"/\s*(null|None)\s*/",
    "number": r"/\s*-?[0-9](.|\n)*/",
    "object": r"/\s*\{(.|\n)*/",
    "string": r'/\s*"(.|\n)*/',
}
"""Texts that the parser may read as values of these types, where others than strings are allowed; a string's
is as JSON has it."""


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
    _terminals: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        properties, required = members_of(self.schema)
        told = properties_of(for_reading(self.schema))
        names, unclosed = [], self._unclosed(properties)
        for number, (key, schema) in enumerate(properties.items()):
            name = f"{self.name}_{number}"
            self._add(name, key, schema, told[key], unclosed)
            names.append(name if key in required else f"{name}?")
        end = self.literal(self.tags.end)
        self.rules.append(f"{self.name}: {' '.join([*names, end])}")

    def _add(self, name: str, key: str, schema: Any, told: Any, unclosed: list[str]) -> None:
        tags = self.tags
        shown = tags.written_key(key)
        if not key or not tags.key_characters.fullmatch(shown) or tags.read_key(shown) != key:
            raise NotHeldError(f"the property {key!r:.40}")
        value = f"{tags.between}{tags.value}" if tags.value else ""
        by_end: dict[str, list[Value]] = {}
        for one in values_of(key, schema, self.schema):
            for end, part in self._by_key_end(one):
                by_end.setdefault(end, []).append(part)
        bodies = []
        for number, (key_end, values) in enumerate(by_end.items()):
            line = "\n" if tags.is_in_lines else ""
            head = f"{tags.key}{tags.written_key(key)}{key_end}{value}{line}"
            said = [kind for kind, end in tags.typed_ends.items() if end == key_end]
            read_as = {"type": said} if said else told
            rules = _ValueRules(self, f"{name}_{number}", key, values, read_as, unclosed)
            bodies.append(f"{self.literal(head)} {rules.body()}")
        self.rules.append(f"{name}: {' | '.join(bodies)}")

    def _by_key_end(self, value: Value) -> Iterable[tuple[str, Value]]:
        """Its parts, of which each has the types that are told behind the key."""
        tags = self.tags
        if not tags.typed_ends:
            return [(tags.key_end, value)]
        if isinstance(value, Literals):
            found: dict[str, list[Any]] = {}
            for one in value.values:
                (kind,) = Literals([one]).kinds
                found.setdefault(tags.typed_ends[kind], []).append(one)
            return [(end, Literals(values)) for end, values in found.items()]
        if isinstance(value, Json):
            kinds: dict[str, list[str]] = {}
            for kind in sorted(value.kinds):
                kinds.setdefault(tags.typed_ends[kind], []).append(kind)
            return [(end, Json({**value.schema, "type": one})) for end, one in kinds.items()]
        return [(tags.typed_ends["string"], Text() if isinstance(value, Anything) else value)]

    def terminal(self, expression: str) -> str:
        """The name of one that is it."""
        if expression not in self._terminals:
            name = self._terminals[expression] = f"{self.name.upper()}_T{len(self._terminals)}"
            self.rules.append(f"{name}: {expression}")
        return self._terminals[expression]

    def _unclosed(self, keys: Iterable[str]) -> list[str]:
        """What would end a value without its own end, written."""
        tags = self.tags
        if not tags.behind:
            return []
        begin, end = written(tags.key, {}), written(tags.end, {})
        ends = " | ".join(written(one, {}) for one in tags.key_ends)
        behind = " | ".join(written(one, {}) for one in tags.behind)
        quote = r"/[\"']?/" if tags.is_quoted_key else '""'
        names = " | ".join(written(tags.written_key(key).strip('"'), {}) for key in keys)
        heads = [rf"{begin} /\s*/ {quote} ({names}) {quote} /\s*/ ({ends})"] if names else []
        return [*heads, rf"{end} /\s*/ ({behind})"]


class _ValueRules:
    """Of one value and what ends it.

    Args:
        of: What they are added to.
        told: The schema by which the parser reads it.
        unclosed: What would end it without its end.
    """

    def __init__(
        self,
        of: BareArgumentRules,
        name: str,
        key: str,
        values: list[Value],
        told: Any,
        unclosed: list[str],
    ) -> None:
        self._of, self._name, self._key = of, name, key
        self._tags, self._literal = of.tags, of.literal
        self._values = values
        self._told = told
        self._unclosed = unclosed
        self._kinds = types_of(told)
        self._end = self._tags.value_end_of(key)
        self._line = "\n" if self._tags.is_in_lines else ""

    def body(self) -> str:
        end = self._literal(f"{self._line}{self._end}{self._tags.between}")
        found = []
        for number, value in enumerate(self._values):
            name = f"{self._name}_{number}"
            match value:
                case Anything():
                    found.append(self._text(name, Text()))
                case Text():
                    found.append(self._text(name, value))
                case Literals():
                    found.append(f"({' | '.join(map(self._literal, self._texts(value)))}) {end}")
                case Json():
                    if self._tags.is_nested and value.kinds & _NESTED:
                        raise NotHeldError(f"the lists and objects of {self._key!r:.40}")
                    self._of.schemas[name] = value.schema
                    found.append(f"@{name} {end}")
        return f"({' | '.join(found)})"

    def _texts(self, literals: Literals) -> list[str]:
        texts = written_values(self._key, literals, self._read)
        ends = (self._end, "\n", *(self._tags.quotes or ())[:1])
        if not texts or any(end in text for text in texts for end in ends):
            raise NotHeldError(f"values of {self._key!r:.40} with line breaks or tags")
        return texts

    def _read(self, text: str) -> str:
        """As the parser reads it."""
        if self._kinds == {"string"}:
            return written_text(text)
        return (nested_value if self._tags.is_nested else cast)(text, self._told)

    def _text(self, name: str, text: Text) -> str:
        """The first end ends it, as it does for whoever reads the answer."""
        held, line = list(self._unclosed), ""
        if text.expressions:
            held.append(written(self._end, {}))
            line = self._line
        parts = [*map(written_pattern, text.expressions)]
        parts += [f"~({ANY} ({' | '.join(held)}) {ANY})"] if held else []
        parts += [f"~({' | '.join(begun)})"] if (begun := [*self._begun(text)]) else []
        # Without the first, what is excluded would leave special tokens in.
        terminal = self._of.terminal(" & ".join([ANY, *parts])) if parts else "TEXT"
        end = self._literal(f"{line}{self._end}")
        self._of.rules.append(text_up_to(f"{name}_text", end, terminal))
        return f"{name}_text {self._literal(self._tags.between)}"

    def _begun(self, text: Text) -> Iterator[str]:
        """Texts that would be read as something else than they are, and must not."""
        if self._tags.quotes:
            yield f"{written(self._tags.quotes[0], {})} {ANY}"
        if self._kinds == {"string"} or any(isinstance(one, Anything) for one in self._values):
            return
        if self._tags.is_nested:
            yield f"{written(self._tags.key, {})} {ANY}"
        free = set[str]()
        for value in self._values:
            if isinstance(value, Json) and value.is_plain:
                free |= value.kinds
        if not text.expressions:
            free.add("string")
        yield from dict.fromkeys(_READ_AS[kind] for kind in sorted(self._kinds - free))
