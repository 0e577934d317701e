"""Bare arguments: values that stand as bare text between tags, made JSON as they come.

The tool's schema makes numbers, objects or strings of them. A tag may stand within a value: it ends where
another argument or the end of them all follows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.pieces import Arguments, Piece
from octavo.server.openai.parsing.schema_types import cast, properties_of, types_of

_KEY = re.compile(r"[^<>\n]*")


@dataclass(frozen=True, slots=True)
class BareTags:
    """Of each argument, in the order in which a model writes them.

    Args:
        key, key_end: Around its name.
        value, value_end: Around its value.
        end: Of all arguments.
        between: What a model writes between these tags, which none of it need be there for.
        is_in_lines: A value has a line break before it and behind it.
    """

    key: str
    key_end: str
    value: str
    value_end: str
    end: str
    between: str
    is_in_lines: bool


def bare_arguments(
    cursor: Cursor, tags: BareTags, schema: Mapping[str, object] | None
) -> Steps[bool]:
    """Reads arguments and the end of them all, and yields them as a JSON object: text as it comes, any other
    value once it is whole. Returns whether the end came."""
    schemas = properties_of(schema)
    before = "{"
    while True:
        yield from cursor.spaces()
        tag = yield from cursor.literal(tags.key, tags.end)
        if tag is None:
            return False
        if tag == tags.end:
            yield Arguments("{}" if before == "{" else "}")
            return True
        key = (yield from cursor.word(_KEY)).strip()
        if not key or (yield from cursor.literal(tags.key_end)) is None:
            return False
        if tags.value:
            yield from cursor.spaces()
            if (yield from cursor.literal(tags.value)) is None:
                return False
        begin = f"{before}{json.dumps(key, ensure_ascii=False)}: "
        if not (yield from _argument(cursor, tags, begin, schemas.get(key))):
            return False
        before = ", "


def _argument(cursor: Cursor, tags: BareTags, begin: str, schema: object) -> Steps[bool]:
    if types_of(schema) == {"string"}:
        yield Arguments(f'{begin}"')
        if not (yield from _value(cursor, tags, text_piece)):
            return False
        yield Arguments('"')
        return True
    parts = list[str]()
    if not (yield from _value(cursor, tags, parts.append)):
        return False
    value = cast("".join(parts), schema)
    yield Arguments(begin + json.dumps(value, ensure_ascii=False))
    return True


def _value(cursor: Cursor, tags: BareTags, take: Callable[[str], Piece | None]) -> Steps[bool]:
    """Yields what `take` makes of each part of a value; whether its end was read."""
    ends: tuple[str, ...] = (tags.value_end,)
    if tags.is_in_lines and (yield from cursor.literal("\n")) is not None:
        ends = (f"\n{tags.value_end}", tags.value_end)
    while (end := (yield from cursor.parts_until(ends, take))) is not None:
        spaces = yield from cursor.spaces()
        if (yield from cursor.is_near(tags.key, tags.end)):
            return True
        cursor.unread(spaces)
        if (piece := take(end)) is not None:
            yield piece
    return False


def text_piece(text: str) -> Arguments:
    """Of what a JSON string holds."""
    return Arguments(encode_basestring(text)[1:-1])
