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
    CONTAINERS,
    MOST_VALUES,
    Anything,
    Json,
    Literals,
    NotHeldError,
    Text,
    Value,
    list_bounds,
    members_of,
    values_of,
    written_values,
)
from octavo.server.openai.parsing.bare_arguments import BareTags
from octavo.server.openai.parsing.nested_values import nested_value
from octavo.server.openai.parsing.resolved_schemas import for_reading
from octavo.server.openai.parsing.schema_types import (
    branch_of,
    cast,
    properties_of,
    types_of,
    written_text,
)

_ITEM = "item"
_MOST_DEPTH = 16
_NOTHING = '""'
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
    _num_values: int = 0

    def __post_init__(self) -> None:
        told = properties_of(for_reading(self.schema))
        members = self._members(self.name, self.schema, told, depth=0)
        names = [name if is_required else f"{name}?" for name, is_required in members]
        self.rules.append(f"{self.name}: {' '.join([*names, self.literal(self.tags.end)])}")

    def _members(
        self, name: str, schema: Mapping[str, Any], told: Mapping[str, Any], *, depth: int
    ) -> list[tuple[str, bool]]:
        """The rule of each of an object's members, and whether it must be there."""
        properties, required = members_of(schema)
        unclosed = [] if depth else self._unclosed(properties)
        found = []
        for number, (key, one) in enumerate(properties.items()):
            rule = f"{name}_{number}"
            self._add(rule, key, one, told.get(key), unclosed, depth)
            found.append((rule, key in required))
        return found

    def _add(
        self, name: str, key: str, schema: Any, told: Any, unclosed: list[str], depth: int
    ) -> None:
        tags, self._num_values = self.tags, self._num_values + 1
        if self._num_values > MOST_VALUES:
            raise NotHeldError(f"more than {MOST_VALUES} values")
        shown = tags.written_key(key)
        is_closing = tags.is_nested and key.startswith("/")
        is_shown = tags.key_characters.fullmatch(shown) and tags.read_key(shown) == key
        if not key or is_closing or not is_shown:
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
            rules = _ValueRules(self, f"{name}_{number}", key, values, read_as, unclosed, depth)
            bodies.append(f"{self.literal(head)} {rules.body()}")
        self.rules.append(f"{name}: {' | '.join(bodies)}")

    def add_nested(
        self, name: str, key: str, value: Json, told: Any, depth: int, *, needs_one: bool
    ) -> None:
        """The rule of a list's items or an object's members, as elements.

        Args:
            told: The schema by which the parser reads the value; of its types there may be others.
            needs_one: An empty one would be read as something else.
        """
        if depth == _MOST_DEPTH:
            raise NotHeldError(f"the depth of {key!r:.40}")
        (kind,) = value.kinds
        said, schema = branch_of(told, kind), value.schema
        if kind == "array":
            least, most = list_bounds(key, schema)
            least = max(least, int(needs_one))
            if "items" not in said or (most is not None and most < least):
                raise NotHeldError(f"the lists of {key!r:.40}")
            self._add(f"{name}_item", _ITEM, schema["items"], said["items"], [], depth + 1)
            times = f"{{{least},{'' if most is None else most}}}"
            self.rules.append(f"{name}: {_NOTHING if most == 0 else f'{name}_item{times}'}")
            return
        members = self._members(name, schema, properties_of(said), depth=depth + 1)
        if not members or properties_of(said).keys() != schema["properties"].keys():
            raise NotHeldError(f"the objects of {key!r:.40}")
        self.rules.append(f"{name}: {_row(members, needs_one=needs_one)}")

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


def _row(members: list[tuple[str, bool]], *, needs_one: bool) -> str:
    """Rules in their order, of which some may be left out."""
    names = [name if is_required else f"{name}?" for name, is_required in members]
    if not needs_one or any(is_required for _, is_required in members):
        return " ".join(names)
    rows = ([name, *names[number + 1 :]] for number, (name, _) in enumerate(members))
    return " | ".join(map(" ".join, rows))


class _ValueRules:
    """Of one value and what ends it.

    Args:
        of: What they are added to.
        told: The schema by which the parser reads it.
        unclosed: What would end it without its end.
        depth: Of lists and objects around it.
    """

    def __init__(
        self,
        of: BareArgumentRules,
        name: str,
        key: str,
        values: list[Value],
        told: Any,
        unclosed: list[str],
        depth: int,
    ) -> None:
        self._of, self._name, self._key = of, name, key
        self._tags, self._literal = of.tags, of.literal
        self._values = values
        self._told = told
        self._unclosed = unclosed
        self._depth = depth
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
                    parts = value.parts() if self._tags.is_nested else [value]
                    for place, part in enumerate(parts):
                        found.append(f"{self._json(f'{name}_{place}', part)} {end}")
        return f"({' | '.join(found)})"

    def _json(self, name: str, value: Json) -> str:
        if not (self._tags.is_nested and value.kinds & CONTAINERS):
            self._of.schemas[name] = value.schema
            return f"@{name}"
        # Elements are read as a list or as an object by the types that may be there.
        if not value.kinds <= self._kinds or self._kinds >= CONTAINERS:
            raise NotHeldError(f"the lists and objects of {self._key!r:.40}")
        needs_one = "string" in self._kinds
        self._of.add_nested(name, self._key, value, self._told, self._depth, needs_one=needs_one)
        return name

    def _texts(self, literals: Literals) -> list[str]:
        texts = written_values(self._key, literals, self._read)
        tags = self._tags
        ends = [self._end, "\n", *(tags.quotes or ())[:1], *([tags.key] if tags.is_nested else ())]
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
        is_string = self._kinds == {"string"}
        if self._tags.is_nested and (self._depth or not is_string):
            yield f"{written(self._tags.key, {})} {ANY}"
        if is_string or any(isinstance(one, Anything) for one in self._values):
            return
        free = set[str]()
        for value in self._values:
            if isinstance(value, Json) and value.is_plain:
                free |= value.kinds
        if not text.expressions:
            free.add("string")
        yield from dict.fromkeys(_READ_AS[kind] for kind in sorted(self._kinds - free))
