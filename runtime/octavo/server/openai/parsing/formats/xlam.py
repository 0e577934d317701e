"""xLAM: a list of calls, `[{"name": …, "arguments": {…}}]`, that begins a line or stands in a block of
Markdown.

Without a tag of its own, a list is calls only if the first of them names one of the request's tools.
"""

from __future__ import annotations

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.formats.json_call import KEYS, json_call
from octavo.server.openai.parsing.formats.llama3_json import MEMBERS

_BLOCK, _BLOCK_END = "```json", "```"


class Xlam(CallFormat):
    openings = (_BLOCK,)
    line_openings = ("[",)
    has_tags = False
    shape = CallShape(begin="[", call=KEYS.head, call_end="}", separator=", ", end="]")

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        if opening == _BLOCK:
            yield from cursor.spaces()
            if (yield from cursor.literal("[")) is None:
                return False
        while True:
            yield from cursor.spaces()
            if (yield from cursor.literal("{")) is None:
                return False
            yield from cursor.spaces()
            # An object of another kind is text at once.
            if not (yield from cursor.is_ahead(*MEMBERS)):
                return False
            if not (yield from json_call(self, cursor, tools, is_open=True)):
                return False
            yield from cursor.spaces()
            if (yield from cursor.literal(",")) is None:
                break
        if not (yield from cursor.closing("]")):
            return False
        if opening == _BLOCK:
            yield from cursor.spaces()
            yield from cursor.closing(_BLOCK_END)
        return True


XLAM = Xlam()
