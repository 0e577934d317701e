"""Tagged list: a tag, and behind it a JSON list of calls, as Granite 3 (`<|tool_call|>[…]`) and Phi-4-mini
(`functools[…]`) write them."""

from __future__ import annotations

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools, quoted_name
from octavo.server.openai.parsing.formats.json_call import json_call, json_calls


class TaggedList(CallFormat):
    """Args:
    openings: Any of them; the first one is what a model is held to.
    closing: May be left out.
    """

    def __init__(self, *openings: str, closing: str = "") -> None:
        self.openings = openings
        self._closing = closing
        self.shape = CallShape(
            tag=openings[0],
            begin="[",
            call=lambda name: f'{{"name": {quoted_name(name)}, "arguments": ',
            call_end="}",
            separator=", ",
            end="]",
        )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        del opening, tools
        yield from cursor.spaces()
        if (yield from cursor.literal("[")) is None:
            return (yield from json_call(self, cursor))
        if not (yield from json_calls(self, cursor)):
            return False
        if self._closing:
            yield from cursor.literal(self._closing)
        return True


GRANITE = TaggedList("<|tool_call|>", "<tool_call>")
PHI4_MINI = TaggedList("functools", "<|tool_call|>", closing="<|/tool_call|>")
