"""Qwen3-Coder: `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`, and
Seed-OSS with outer tags of its own."""

from __future__ import annotations

import re

from octavo.server.openai.parsing.bare_arguments import BareTags, bare_arguments
from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.pieces import CallEnd

FUNCTION, FUNCTION_END = "<function=", "</function>"
_NAME = re.compile(r"[^<>\n]*")


class Qwen3Coder(CallFormat):
    ends_reasoning = True

    def __init__(self, tag: str, tag_end: str) -> None:
        # Its models leave the outer tags out at times.
        self.openings = (tag, FUNCTION)
        self._tag, self._tag_end = tag, tag_end
        self._arguments = BareTags(
            "<parameter=",
            ">",
            "",
            "</parameter>",
            FUNCTION_END,
            "\n",
            is_in_lines=True,
            behind=(tag_end,),
        )
        self.shape = CallShape(
            tag=tag,
            begin="\n",
            call=lambda name: f"{FUNCTION}{name}>\n",
            notation=self._arguments,
            end=f"\n{tag_end}",
            between="\n",
        )

    def as_written(self, sample: str) -> CallFormat:
        return SEED_OSS if SEED_OSS.openings[0] in sample else self

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        is_tagged = opening == self._tag
        if is_tagged:
            yield from cursor.spaces()
            if (yield from cursor.literal(FUNCTION)) is None:
                return False
        name, tags = (yield from cursor.word(_NAME)).strip(), self._arguments
        if not name or (yield from cursor.literal(">")) is None:
            return False
        yield from cursor.spaces()
        if not (yield from cursor.is_ahead(tags.key, tags.end)):
            return False
        yield self.begin(name)
        if not (yield from bare_arguments(cursor, tags, tools.get(name))):
            return False
        yield CallEnd()
        yield from cursor.spaces()
        if is_tagged and (yield from cursor.is_ahead(self._tag)):
            return True
        return (yield from cursor.closing(self._tag_end)) or not is_tagged


QWEN3_CODER = Qwen3Coder("<tool_call>", "</tool_call>")
SEED_OSS = Qwen3Coder("<seed:tool_call>", "</seed:tool_call>")
