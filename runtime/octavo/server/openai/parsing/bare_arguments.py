"""Bare arguments: values that stand as bare text between tags, made JSON as they come.

The tool's schema makes numbers, objects or strings of them. A tag may stand within a value: it ends where
another argument or the end of them all follows. JSON ends where its own brackets do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from json.encoder import encode_basestring

from octavo.json_depth import MAX_DEPTH
from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.json_object import ObjectScanner
from octavo.server.openai.parsing.nested_values import nested_elements, nested_value
from octavo.server.openai.parsing.pieces import Arguments, Piece
from octavo.server.openai.parsing.schema_types import cast, properties_of, types_of

KEY = "\ufdd2"
"""No character of any text."""
_KEY = re.compile(r"[^<>\n]*")
_QUOTED_KEY = re.compile(r'[^<>"\n]*')
_BRACKETS = {"object": "{", "array": "["}
_ANY = {"type": ["null", "boolean", "integer", "number", "array", "object", "string"]}


@dataclass(frozen=True, slots=True)
class BareTags:
    """Of each argument, in the order in which a model writes them.

    Args:
        key, key_end: Around its name.
        value, value_end: Around its value. `KEY` in the second stands for the argument's name.
        end: Of all arguments.
        between: What a model writes between these tags, which none of it need be there for.
        is_in_lines: A value has a line break before it and behind it.
        typed_ends: In place of `key_end` by the JSON type of the value, where a model says it there.
        escapes: What stands in a key for what it cannot hold.
        quotes: Around a text that could be read as something else, within the other tags.
        is_nested: Objects and lists are elements within the value.
        is_any_json: A value whose type no schema tells is JSON, and a text where it is none.
        behind: What may stand behind `end`. Where there is some, models leave a value's end out at times:
            it ends before the next argument that the schema knows, and before `end` and one of these.
        is_quoted_key: Quotes stand around a key, which a model may leave out, or write single ones.
    """

    key: str
    key_end: str
    value: str
    value_end: str
    end: str
    between: str
    is_in_lines: bool = False
    typed_ends: Mapping[str, str] = field(default_factory=dict)
    escapes: Mapping[str, str] = field(default_factory=dict)
    quotes: tuple[str, str] | None = None
    is_nested: bool = False
    is_any_json: bool = False
    behind: tuple[str, ...] = ()
    is_quoted_key: bool = False

    @property
    def key_ends(self) -> tuple[str, ...]:
        return (*dict.fromkeys(self.typed_ends.values()), self.key_end)

    @property
    def key_characters(self) -> re.Pattern[str]:
        return _QUOTED_KEY if self.key_end.startswith('"') else _KEY

    def value_end_of(self, key: str) -> str:
        return self.value_end.replace(KEY, key)

    def written_key(self, key: str) -> str:
        for text, escape in self.escapes.items():
            key = key.replace(text, escape)
        return f'"{key}"' if self.is_quoted_key else key

    def read_key(self, key: str) -> str:
        key = key.strip()
        if self.is_quoted_key:
            key = without_quotes(key)
        for text, escape in reversed([*self.escapes.items()]):
            key = key.replace(escape, text)
        return key


def bare_arguments(
    cursor: Cursor, tags: BareTags, schema: Mapping[str, object] | None
) -> Steps[bool]:
    """Reads arguments and the end of them all, and yields them as a JSON object: text as it comes, any other
    value once it is whole. Returns whether the end came."""
    schemas = properties_of(schema)
    missing = {*schemas}
    before = "{"
    while True:
        yield from cursor.spaces()
        tag = yield from cursor.literal(tags.end, tags.key)
        if tag is None:
            return False
        if tag == tags.end:
            yield Arguments("{}" if before == "{" else "}")
            return True
        key = tags.read_key((yield from cursor.word(tags.key_characters)))
        key_end = yield from cursor.literal(*tags.key_ends)
        if not key or key_end is None:
            return False
        if tags.value:
            yield from cursor.spaces()
            if (yield from cursor.literal(tags.value)) is None:
                return False
        begin = f"{before}{json.dumps(key, ensure_ascii=False)}: "
        said = [kind for kind, end in tags.typed_ends.items() if end == key_end]
        told = {"type": said} if said else schemas.get(key)
        if tags.is_any_json and not types_of(told):
            told = _ANY
        missing.discard(key)
        if not (yield from _Argument(cursor, tags, key, missing).read(begin, told)):
            return False
        before = ", "


class _Argument:
    """One, of which the head was read.

    Args:
        missing: Keys of others that may follow.
    """

    def __init__(self, cursor: Cursor, tags: BareTags, key: str, missing: AbstractSet[str]) -> None:
        self._cursor = cursor
        self._tags = tags
        self._missing = missing
        self._end = tags.value_end_of(key)

    def read(self, begin: str, schema: object) -> Steps[bool]:
        """Yields `begin` and the value; whether it ends."""
        tags, cursor, is_text = self._tags, self._cursor, types_of(schema) == {"string"}
        if tags.is_nested and not is_text and (yield from self._is_nested()):
            return (yield from self._nested(begin, schema))
        is_quoted = tags.quotes and (yield from cursor.literal(tags.quotes[0])) is not None
        if is_quoted or is_text:
            yield Arguments(f'{begin}"')
            if not (yield from self._text(text_piece, is_quoted=bool(is_quoted))):
                return False
            yield Arguments('"')
            return True
        text = yield from self._json(types_of(schema))
        if text is None:
            parts = list[str]()
            if not (yield from self._text(parts.append)):
                return False
            text = "".join(parts)
        yield Arguments(begin + (nested_value if tags.is_nested else cast)(text, schema))
        return True

    def _is_nested(self) -> Steps[bool]:
        is_empty = yield from self._cursor.is_ahead(self._end)
        return not is_empty and (yield from self._cursor.is_ahead(self._tags.key))

    def _json(self, kinds: AbstractSet[str]) -> Steps[str | None]:
        """An object or list, where one may be of these kinds, and the end of the value behind it; None where
        there is none, and all is left."""
        cursor = self._cursor
        brackets = [bracket for kind, bracket in _BRACKETS.items() if kind in kinds or not kinds]
        if not brackets:
            return None
        before = yield from cursor.spaces()
        found = None
        if (yield from cursor.is_ahead(*brackets)):
            found = yield from cursor.balanced(ObjectScanner("{[", MAX_DEPTH), is_tried=True)
        if found is None:
            cursor.unread(before)
            return None
        behind = yield from cursor.spaces()
        if (end := (yield from cursor.literal(self._end))) and (yield from self._is_closed()):
            return found
        cursor.unread(f"{before}{found}{behind}{end or ''}")
        return None

    def _nested(self, begin: str, schema: object) -> Steps[bool]:
        elements = yield from nested_elements(self._cursor, self._tags.key)
        if elements is None or (yield from self._cursor.literal(self._end)) is None:
            return False
        yield Arguments(begin + nested_value(elements, schema))
        return True

    def _text(self, take: Callable[[str], Piece | None], *, is_quoted: bool = False) -> Steps[bool]:
        """Yields what `take` makes of each part of a value; whether its end was read."""
        tags, cursor, ends, line = self._tags, self._cursor, [self._end], ""
        if is_quoted and tags.quotes:
            ends = [tags.quotes[1] + self._end]
        elif tags.is_in_lines and (yield from cursor.literal("\n")) is not None:
            line = "\n"
            ends = [f"\n{self._end}", self._end]
        others = (tags.key, tags.end) if self._missing else (tags.end,)
        unclosed = [line + tag for tag in others] if tags.behind and not is_quoted else []
        while (end := (yield from cursor.parts_until((*ends, *unclosed), take))) is not None:
            if end in unclosed:
                is_end = yield from self._is_unclosed(end[len(line) :])
            else:
                is_end = yield from self._is_closed()
            if is_end:
                return True
            if (piece := take(end)) is not None:
                yield piece
        return False

    def _is_closed(self) -> Steps[bool]:
        """Behind what may be the value's end."""
        spaces = yield from self._cursor.spaces()
        if (yield from self._cursor.is_near(self._tags.key, self._tags.end)):
            return True
        self._cursor.unread(spaces)
        return False

    def _is_unclosed(self, tag: str) -> Steps[bool]:
        """Behind a tag that does not belong to the value, where it has no end; it is left then."""
        tags, cursor = self._tags, self._cursor
        if tag == tags.key:
            key = yield from cursor.word(tags.key_characters)
            key_end = yield from cursor.literal(*tags.key_ends)
            is_end = key_end is not None and tags.read_key(key) in self._missing
            read = key + (key_end or "")
        else:
            read = yield from cursor.spaces()
            is_end = yield from cursor.is_near(*tags.behind)
        cursor.unread(tag + read if is_end else read)
        return is_end


def without_quotes(text: str) -> str:
    """Of a name that may stand in some."""
    is_quoted = len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]
    return text[1:-1] if is_quoted else text


def text_piece(text: str) -> Arguments:
    """Of what a JSON string holds."""
    return Arguments(encode_basestring(text)[1:-1])
