"""Functionary 3.1: `<function=f>{…}</function>`, a tag that names the function around the JSON of its
arguments.

Version 3.2's calls, `>>>f` and the arguments in the next line, are another format, which is not read.
"""

from __future__ import annotations

import re

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.pieces import CallEnd

FUNCTION, FUNCTION_END = "<function=", "</function>"
_NAME = re.compile(r"[^<>\n]*")


class Functionary(CallFormat):
    openings = (FUNCTION,)
    shape = CallShape(tag=FUNCTION, call=lambda name: f"{name}>", end=FUNCTION_END, between="")

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        del opening, tools
        name = (yield from cursor.word(_NAME)).strip()
        if not name or (yield from cursor.literal(">")) is None:
            return False
        yield from cursor.spaces()
        if not (yield from cursor.is_ahead("{")):
            return False
        yield self.begin(name)
        if not (yield from cursor.arguments()):
            return False
        yield CallEnd()
        yield from cursor.spaces()
        return (yield from cursor.closing(FUNCTION_END))


FUNCTIONARY = Functionary()
