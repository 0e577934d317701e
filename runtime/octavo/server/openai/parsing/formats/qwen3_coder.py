"""Qwen3-Coder: `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`."""

from __future__ import annotations

import re

from octavo.server.openai.parsing.bare_arguments import BareTags, bare_arguments
from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.pieces import CallEnd

TAG, TAG_END = "<tool_call>", "</tool_call>"
FUNCTION, FUNCTION_END = "<function=", "</function>"
_NAME = re.compile(r"[^<>\n]*")
_ARGUMENTS = BareTags("<parameter=", ">", "", "</parameter>", FUNCTION_END, "\n", is_in_lines=True)


class Qwen3Coder(CallFormat):
    # Its models leave the outer tags out at times.
    openings = (TAG, FUNCTION)
    shape = CallShape(
        tag=TAG,
        begin="\n",
        call=lambda name: f"{FUNCTION}{name}>\n",
        notation=_ARGUMENTS,
        end=f"\n{TAG_END}",
        between="\n",
    )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        if opening == TAG:
            yield from cursor.spaces()
            if (yield from cursor.literal(FUNCTION)) is None:
                return False
        name = (yield from cursor.word(_NAME)).strip()
        if not name or (yield from cursor.literal(">")) is None:
            return False
        yield from cursor.spaces()
        if not (yield from cursor.is_ahead(_ARGUMENTS.key, _ARGUMENTS.end)):
            return False
        yield self.begin(name)
        if not (yield from bare_arguments(cursor, _ARGUMENTS, tools.get(name))):
            return False
        yield CallEnd()
        yield from cursor.spaces()
        if opening == TAG and (yield from cursor.is_ahead(TAG)):
            return True
        is_closed = yield from cursor.closing(TAG_END)
        return is_closed or opening == FUNCTION


QWEN3_CODER = Qwen3Coder()
