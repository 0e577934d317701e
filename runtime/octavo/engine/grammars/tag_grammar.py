"""Tag grammar: a structural tag in Lark's syntax with llguidance's additions.

Free text holds no trigger and no end of the tag that it stands in, by its own expression: llguidance alone
would take a trigger of one byte for text where that byte also ends what stands before. So a text is never
both free and held to a format, and what is let through is a text of the tag; of texts that could be read in
two ways some are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from octavo.grammar_text import ANY, text_up_to, without, written, written_pattern
from octavo.json_path import json_path
from octavo.structural_tag import (
    AnyText,
    ConstString,
    DispatchFormat,
    Format,
    JsonSchemaFormat,
    OptionalFormat,
    OrFormat,
    PlusFormat,
    RegexFormat,
    RepeatFormat,
    SequenceFormat,
    StarFormat,
    TagFormat,
    TagsWithSeparator,
    TriggeredTags,
)

_MAX_REPEATS = 1000
Ends = tuple[str, ...] | None
"""What stands right behind: one of these texts; nothing, where the answer ends; None for anything else."""


class TagGrammar:
    """
    Args:
        special_ids: Of the tokenizer's special tokens by their text: a tag may be one.

    Attributes:
        text: The grammar.
        schemas: What it refers to, by name.
        places: Where in the tag each of them stands.
        patterns: Its regular expressions, as they were sent, by the place of each.

    Raises: `ValueError` for what cannot be held to, with its place.
    """

    def __init__(self, tree: Format, special_ids: Mapping[str, int]) -> None:
        self._special_ids = special_ids
        self._rules = [f"TEXT: {ANY}"]
        self.schemas: dict[str, dict[str, Any]] = {}
        self.places: dict[str, str] = {}
        self.patterns: dict[str, str] = {}
        start = self._of(tree, (), "format") or '""'
        self.text = "\n".join(["%llguidance {}", f"start: {start}", *self._rules])

    def _of(self, node: Format, ends: Ends, place: str) -> str:
        """What the node is, with its end."""
        match node:
            case AnyText():
                return self._text(node.excludes, ends, place)
            case RegexFormat():
                return self._regex(node.pattern, ends, place)
            case SequenceFormat():
                return self._sequence(node.elements, ends, place)
            case OrFormat():
                return _one_of(
                    self._of(one, ends, json_path(place, "elements", number))
                    for number, one in enumerate(_some(node.elements, place))
                )
            case TagFormat():
                return self._tag(node, ends, place)
            case TriggeredTags():
                return self._triggered(node, ends, place)
            case DispatchFormat():
                tags = [TagFormat(pattern, one, "") for pattern, one in node.rules]
                triggers = [pattern for pattern, _ in node.rules]
                return self._triggered(
                    TriggeredTags(
                        triggers, tags, stop_after_first=not node.loop, excludes=node.excludes
                    ),
                    ends,
                    place,
                )
        return _joined(self._bounded(node, place), self._end(ends))

    def _bounded(self, node: Format, place: str) -> str:
        """A node that knows itself where it ends."""
        match node:
            case ConstString():
                return self._literal(node.value)
            case JsonSchemaFormat():
                name = f"schema_{len(self.schemas)}"
                self.schemas[name], self.places[name] = node.json_schema, f"{place}.json_schema"
                return f"@{name}"
            case TagsWithSeparator():
                return self._separated(node, place)
            case OptionalFormat() | PlusFormat() | StarFormat():
                times = {OptionalFormat: "?", PlusFormat: "+", StarFormat: "*"}[type(node)]
                return f"({self._of(node.content, None, f'{place}.content')}){times}"
            case RepeatFormat():
                return self._repeated(node, place)
        raise AssertionError(f"no such node: {node}")

    def _text(self, excludes: Sequence[str], ends: Ends, place: str) -> str:
        if ends is None:
            raise ValueError(
                f"{place} is text that ends where something begins that is no fixed text; put it last, or "
                "into a tag"
            )
        if "" in excludes:
            raise ValueError(f"{place}.excludes holds an empty text, which every text holds")
        if "" in ends:
            raise ValueError(f"{place} ends with an empty text; give its tag an end")
        text = self._without([*excludes, *ends])
        return _one_of(self._up_to(end, text) for end in ends) if ends else text

    def _without(self, held: Sequence[str]) -> str:
        """The terminal of any text that holds none of these. No text holds a special token."""
        literals = [
            written(one, {})
            for one in dict.fromkeys(held)
            if not any(token in one for token in self._special_ids if token)
        ]
        if not literals:
            return "TEXT"
        return self._rule("FREE", without(literals))

    def _up_to(self, end: str, text: str) -> str:
        """Of any text and the first `end` behind it."""
        name = f"up_to_{len(self._rules)}"
        self._rules.append(text_up_to(name, self._literal(end), text))
        return name

    def _regex(self, pattern: str, ends: Ends, place: str) -> str:
        """With its end in one terminal where both are text: the expression may match the end's beginning."""
        self.patterns[f"{place}.pattern"] = pattern
        expression = written_pattern(pattern)
        if ends and not any(token in end for end in ends for token in self._special_ids if token):
            literals = " | ".join(self._literal(end) for end in ends)
            return self._rule("MATCH", f"{expression} ({literals})")
        return _joined(self._rule("MATCH", expression), self._end(ends))

    def _sequence(self, elements: Sequence[Format], ends: Ends, place: str) -> str:
        last = len(elements) - 1
        return _joined(
            *(
                self._of(
                    one, ends if number == last else None, json_path(place, "elements", number)
                )
                for number, one in enumerate(_some(elements, place))
            )
        )

    def _tag(self, node: TagFormat, ends: Ends, place: str) -> str:
        return _joined(self._literal(node.begin), self._rest(node, ends, place))

    def _rest(self, node: TagFormat, ends: Ends, place: str) -> str:
        """Behind its beginning."""
        place = f"{place}.content"
        if not any(node.ends):
            return self._of(node.content, ends, place)
        return _joined(self._of(node.content, node.ends, place), self._end(ends))

    def _triggered(self, node: TriggeredTags, ends: Ends, place: str) -> str:
        by_trigger = self._by_trigger(node, place)
        follow = ends if node.stop_after_first else None
        if node.at_least_one:
            first = _one_of(
                self._tag(tag, follow, json_path(place, "tags", number))
                for number, tag in enumerate(node.tags)
            )
            if node.stop_after_first:
                return first
        if ends is None and not node.stop_after_first:
            return self._text((), ends, place)  # which says why not
        text = self._without([*node.excludes, *node.triggers, *(ends or ())])
        led = _one_of(
            _joined(
                self._up_to(trigger, text),
                _one_of(
                    _joined(
                        self._literal(node.tags[number].begin[len(trigger) :]),
                        self._rest(node.tags[number], follow, json_path(place, "tags", number)),
                    )
                    for number in numbers
                ),
            )
            for trigger, numbers in by_trigger.items()
        )
        tail = self._text([*node.excludes, *node.triggers], ends, place)
        if node.stop_after_first:
            return _one_of([led, tail])
        return _joined(*([first] if node.at_least_one else []), f"{led}*", tail)

    def _by_trigger(self, node: TriggeredTags, place: str) -> dict[str, list[int]]:
        """The tags that each trigger leads to. One that is the beginning of a special token is that token,
        by which the model begins the tag."""
        found: dict[str, list[int]] = {}
        for number, tag in enumerate(_some(node.tags, place)):
            trigger = next(
                (one for one in node.triggers if one and tag.begin.startswith(one)), None
            )
            if trigger is None:
                raise ValueError(
                    f"{json_path(place, 'tags', number)} begins with {tag.begin!r:.80}, and none of the "
                    "triggers is the beginning of that"
                )
            for token in self._special_ids:
                if token.startswith(trigger) and tag.begin.startswith(token):
                    trigger = token
            found.setdefault(trigger, []).append(number)
        for number, trigger in enumerate(node.triggers):
            if not any(one.startswith(trigger) for one in found if trigger):
                raise ValueError(
                    f"{json_path(place, 'triggers', number)} is {trigger!r:.80}, which begins no tag"
                )
        return found

    def _separated(self, node: TagsWithSeparator, place: str) -> str:
        one = _one_of(
            self._tag(tag, None, json_path(place, "tags", number))
            for number, tag in enumerate(_some(node.tags, place))
        )
        tags = f"({_joined(self._literal(node.separator), one)})*"
        several = one if node.stop_after_first else _joined(one, tags)
        return several if node.at_least_one else f"({several})?"

    def _repeated(self, node: RepeatFormat, place: str) -> str:
        if not (0 <= node.min <= _MAX_REPEATS and -1 <= node.max <= _MAX_REPEATS) or (
            0 <= node.max < node.min
        ):
            raise ValueError(
                f"{place} repeats from {node.min} to {node.max} times; give 0 to {_MAX_REPEATS}, the larger "
                "one last, or -1 for no bound"
            )
        most = "" if node.max < 0 else str(node.max)
        return f"({self._of(node.content, None, f'{place}.content')}){{{node.min},{most}}}"

    def _end(self, ends: Ends) -> str:
        return _one_of(self._literal(end) for end in ends) if ends else ""

    def _rule(self, name: str, body: str) -> str:
        name = f"{name}_{len(self._rules)}"
        self._rules.append(f"{name}: {body}")
        return name

    def _literal(self, text: str) -> str:
        return written(text, self._special_ids)


def _some(found: Sequence[Any], place: str) -> Sequence[Any]:
    if not found:
        raise ValueError(f"{place} holds none of what it is made of; give at least one")
    return found


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _one_of(parts: Iterable[str]) -> str:
    return f"({' | '.join(part or chr(34) * 2 for part in parts)})"
