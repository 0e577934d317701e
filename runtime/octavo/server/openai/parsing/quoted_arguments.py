"""Quoted arguments: an object with bare keys and texts between tags (`{city:<|"|>Oslo<|"|>,days:3}`), as
Gemma models write it, made JSON as it comes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from octavo.server.openai.parsing.bare_arguments import text_piece
from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.pieces import Arguments
from octavo.server.openai.parsing.schema_types import decoded

KEY = re.compile(r"[^:{}\[\],\n]*")
_SCALAR = re.compile(r"[^{}\[\],]*")
_ANY_LENGTH = 1 << 40  # a number's, which a call that is begun may have
_MAX_DEPTH = 64
_NULLS = ("null", "None")


@dataclass(frozen=True, slots=True)
class QuoteTag:
    """What stands before a text and behind it."""

    quote: str


def quoted_arguments(cursor: Cursor, quote: str) -> Steps[bool]:
    """Yields an object of which the bracket was read; whether it ends.

    Args:
        quote: Stands before a text and behind it.
    """
    return _Reader(cursor, quote).object(0)


class _Reader:
    def __init__(self, cursor: Cursor, quote: str) -> None:
        self._cursor = cursor
        self._quote = quote

    def object(self, depth: int) -> Steps[bool]:
        cursor, before = self._cursor, "{"
        while True:
            yield from cursor.spaces()
            if (yield from cursor.literal("}")) is not None:
                yield Arguments("{}" if before == "{" else "}")
                return True
            if (yield from cursor.literal(self._quote)) is not None:
                key = yield from cursor.until(self._quote)
            else:
                key = (yield from cursor.word(KEY)).strip().strip('"') or None
            if key is None or (yield from cursor.literal(":")) is None:
                return False
            yield Arguments(f"{before}{json.dumps(key, ensure_ascii=False)}: ")
            before = ", "
            if not (yield from self._value(depth)):
                return False
            yield from cursor.spaces()
            if (yield from cursor.literal(",")) is None and not (yield from cursor.is_ahead("}")):
                return False

    def _list(self, depth: int) -> Steps[bool]:
        cursor, before = self._cursor, "["
        while True:
            yield from cursor.spaces()
            if (yield from cursor.literal("]")) is not None:
                yield Arguments("[]" if before == "[" else "]")
                return True
            yield Arguments(before)
            before = ", "
            if not (yield from self._value(depth)):
                return False
            yield from cursor.spaces()
            if (yield from cursor.literal(",")) is None and not (yield from cursor.is_ahead("]")):
                return False

    def _value(self, depth: int) -> Steps[bool]:
        cursor = self._cursor
        yield from cursor.spaces()
        if (yield from cursor.literal(self._quote)) is not None:
            return (yield from self._text())
        bracket = yield from cursor.literal("{", "[")
        if bracket is not None:
            if depth == _MAX_DEPTH:
                return False
            read = self.object if bracket == "{" else self._list
            return (yield from read(depth + 1))
        if (yield from cursor.is_ahead('"')):
            text = yield from cursor.json_value()
        else:
            text = (yield from cursor.word(_SCALAR, _ANY_LENGTH)).strip()
        if not text or not (yield from cursor.is_ahead(",", "}", "]")):
            return False
        yield Arguments(_scalar(text))
        return True

    def _text(self) -> Steps[bool]:
        yield Arguments('"')
        if (yield from self._cursor.parts_until((self._quote,), text_piece)) is None:
            return False
        yield Arguments('"')
        return True


def _scalar(text: str) -> str:
    """What is no value of JSON is a text whose quotes were forgotten."""
    if text in _NULLS:
        return "null"
    return json.dumps(text, ensure_ascii=False) if decoded(text) is None else text
