"""Hermes: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as Hermes and Qwen models write calls, and
others with tags of their own.

A call ends where its JSON ends: a tag may stand within the arguments.
"""

from __future__ import annotations

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools, quoted_name
from octavo.server.openai.parsing.formats.json_call import json_call


class TaggedJson(CallFormat):
    """An object between two tags; the second may be left out before the next call, and at the end."""

    def __init__(self, opening: str, closing: str, arguments: str = "arguments") -> None:
        self.openings = (opening,)
        self.closing = closing
        self.shape = CallShape(
            tag=opening,
            begin="\n",
            call=lambda name: f'{{"name": {quoted_name(name)}, "{arguments}": ',
            call_end="}",
            end=f"\n{closing}",
            between="\n",
        )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        if not (yield from json_call(self, cursor)):
            return False
        yield from cursor.spaces()
        if (yield from cursor.is_ahead(opening)):
            return True
        return (yield from cursor.closing(self.closing))


HERMES = TaggedJson("<tool_call>", "</tool_call>")
INTERNLM = TaggedJson("<|action_start|><|plugin|>", "<|action_end|>", "parameters")
