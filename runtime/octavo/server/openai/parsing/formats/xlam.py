"""xLAM: a list of calls, `[{"name": …, "arguments": {…}}]`, that begins a line, perhaps behind a mark,
`[TOOL_CALLS]`, or stands in a block of Markdown or between `<tool_call>` tags.

Without a tag of its own, a list is calls only if the first of them names one of the request's tools.
"""

from __future__ import annotations

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.formats.json_call import KEYS
from octavo.server.openai.parsing.formats.llama3_json import listed_calls

_BLOCK, _TAG, _TAG_END = "```", "<tool_call>", "</tool_call>"
_MARK = "TOOL_CALLS]"  # behind a bracket


class Xlam(CallFormat):
    openings = (_BLOCK, _TAG)
    line_openings = ("[",)
    has_tags = False
    shape = CallShape(begin="[", call=KEYS.head, call_end="}", separator=", ", end="]")

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        if opening == _BLOCK:
            yield from cursor.literal("json")
        is_marked = opening == "[" and (yield from cursor.literal(_MARK)) is not None
        if is_marked or opening != "[":
            yield from cursor.spaces()
            if (yield from cursor.literal("[")) is None:
                return False
        if not (yield from listed_calls(self, cursor, tools)):
            return False
        if opening != "[":
            yield from cursor.spaces()
            yield from cursor.closing(_BLOCK if opening == _BLOCK else _TAG_END)
        return True


XLAM = Xlam()
