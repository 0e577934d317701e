"""Structural tag: an answer that is text in some places and held to a format in others, as xgrammar and vLLM
name it.

A tree of formats. What vLLM takes is read in both of its forms: `format`, the tree, and the older
`structures` and `triggers`, which are one kind of node. A node that is not known here is refused by its name
and place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

_NOT_HELD_TO = {
    "grammar": "its EBNF is another syntax than ours; use structured_outputs.grammar",
    "token": "write the token's text as a string",
    "exclude_token": "use any_text",
    "any_tokens": "use any_text",
    "token_triggered_tags": "use triggered_tags with the tokens' texts",
    "token_dispatch": "use dispatch with the tokens' texts",
    "qwen_xml_parameter": "use tools",
}


class _Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Tagged by its `type`."""


class ConstString(_Node, frozen=True, tag="const_string"):
    """This text."""

    value: str


class JsonSchemaFormat(_Node, frozen=True, tag="json_schema"):
    """A document of the schema."""

    json_schema: dict[str, Any]
    style: Literal["json"] = "json"
    any_order: Literal[False] = False


class RegexFormat(_Node, frozen=True, tag="regex"):
    """A text that the whole expression matches."""

    pattern: str


class AnyText(_Node, frozen=True, tag="any_text"):
    """Text up to the end of the tag around it, or of the answer. It holds none of `excludes`."""

    excludes: list[str] = []
    max_tokens: None = None
    max_chars: None = None


class SequenceFormat(_Node, frozen=True, tag="sequence"):
    """One after the other."""

    elements: list[Format]


class OrFormat(_Node, frozen=True, tag="or"):
    """One of them."""

    elements: list[Format]


class OptionalFormat(_Node, frozen=True, tag="optional"):
    content: Format


class PlusFormat(_Node, frozen=True, tag="plus"):
    content: Format


class StarFormat(_Node, frozen=True, tag="star"):
    content: Format


class RepeatFormat(_Node, frozen=True, tag="repeat"):
    """So often; `max` of -1 is without bound."""

    min: int
    max: int
    content: Format


class TagFormat(_Node, frozen=True, tag="tag"):
    """`content` between two texts; `end` may be one of several."""

    begin: str
    content: Format
    end: str | list[str]

    @property
    def ends(self) -> tuple[str, ...]:
        return (self.end,) if isinstance(self.end, str) else tuple(self.end)


class TriggeredTags(_Node, frozen=True, tag="triggered_tags"):
    """Text; where a trigger is written, one of the tags that begin with it goes on.

    `at_least_one` begins with a tag, and with `stop_after_first` nothing comes behind it.
    """

    triggers: list[str]
    tags: list[TagFormat]
    at_least_one: bool = False
    stop_after_first: bool = False
    excludes: list[str] = []


class TagsWithSeparator(_Node, frozen=True, tag="tags_with_separator"):
    """Tags alone."""

    tags: list[TagFormat]
    separator: str
    at_least_one: bool = False
    stop_after_first: bool = False


class DispatchFormat(_Node, frozen=True, tag="dispatch"):
    """Text; where a pattern of `rules` is written, its format goes on."""

    rules: list[tuple[str, Format]]
    loop: bool = True
    excludes: list[str] = []


Format = (
    ConstString
    | JsonSchemaFormat
    | RegexFormat
    | AnyText
    | SequenceFormat
    | OrFormat
    | OptionalFormat
    | PlusFormat
    | StarFormat
    | RepeatFormat
    | TagFormat
    | TriggeredTags
    | TagsWithSeparator
    | DispatchFormat
)


class _Structure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tag of the older form."""

    begin: str
    schema: dict[str, Any]
    end: str


class _Older(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    structures: list[_Structure]
    triggers: list[str]
    type: Literal["structural_tag"] = "structural_tag"


class _Tree(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Format
    type: Literal["structural_tag"] = "structural_tag"


def read_structural_tag(document: dict[str, Any]) -> Format:
    """The tree of a structural tag, which is not too deep. Raises `ValueError` with what is wrong where."""
    if (found := _not_held_to(document)) is not None:
        raise ValueError(found)
    try:
        if "structures" not in document:
            return msgspec.convert(document, _Tree).format
        older = msgspec.convert(document, _Older)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace("`$.", "`")) from None
    tags = [TagFormat(one.begin, JsonSchemaFormat(one.schema), one.end) for one in older.structures]
    return TriggeredTags(older.triggers, tags)


def _not_held_to(document: dict[str, Any]) -> str | None:
    """The first node of a kind that others know, and what to do instead."""
    for node in _dicts(document):
        instead = _NOT_HELD_TO.get(str(node.get("type")))
        if instead is not None:
            return f"the format {node['type']} cannot be held to: {instead}"
    return None


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Of a value, but for what stands in a JSON schema."""
    if isinstance(value, list):
        for item in value:
            yield from _dicts(item)
    elif isinstance(value, dict):
        yield value
        for key, item in value.items():
            if key not in ("json_schema", "schema"):
                yield from _dicts(item)


def nodes_of(tree: Format) -> Iterator[Format]:
    """All of it, the whole first."""
    yield tree
    match tree:
        case SequenceFormat() | OrFormat():
            inner = list(tree.elements)
        case OptionalFormat() | PlusFormat() | StarFormat() | RepeatFormat() | TagFormat():
            inner = [tree.content]
        case TriggeredTags() | TagsWithSeparator():
            inner = list(tree.tags)
        case DispatchFormat():
            inner = [one for _, one in tree.rules]
        case _:
            inner = []
    for one in inner:
        yield from nodes_of(one)
