"""Gemma: `<|tool_call>call:name{key:<|"|>text<|"|>}<tool_call|>`, as Gemma 4 writes calls, and FunctionGemma
with tags of its own. Gemma 3's writes none; told to by its prompt, the model writes pythonic ones."""

from __future__ import annotations

import re

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.pieces import CallEnd
from octavo.server.openai.parsing.quoted_arguments import QuoteTag, quoted_arguments

_CALL = "call:"
_NAME = re.compile(r"[\w.:-]*")


class Gemma(CallFormat):
    ends_reasoning = True

    def __init__(self, opening: str, closing: str, quote: str) -> None:
        self.openings = (opening,)
        self._closing = closing
        self._quote = quote
        self.shape = CallShape(
            tag=opening,
            call=lambda name: f"{_CALL}{name}",
            notation=QuoteTag(quote),
            end=closing,
        )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        del opening, tools
        yield from cursor.spaces()
        if (yield from cursor.literal(_CALL)) is None:
            return False
        name = yield from cursor.word(_NAME)
        yield from cursor.spaces()
        if not name or (yield from cursor.literal("{")) is None:
            return False
        yield self.begin(name)
        if not (yield from quoted_arguments(cursor, self._quote)):
            return False
        yield CallEnd()
        yield from cursor.spaces()
        return (yield from cursor.closing(self._closing))


GEMMA4 = Gemma("<|tool_call>", "<tool_call|>", '<|"|>')
FUNCTION_GEMMA = Gemma("<start_function_call>", "<end_function_call>", "<escape>")
