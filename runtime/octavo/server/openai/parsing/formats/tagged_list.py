"""Tagged list: a tag, and behind it calls as a JSON list or one below the other, as Granite 3
(`<|tool_call|>[…]`), Phi-4-mini (`functools[…]`), Jamba, Hunyuan and MiniMax M1 (`<tool_calls>`) and Nemotron
Nano 2 (`<TOOLCALL>`) write them."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.formats.json_call import (
    KEYS,
    CallKeys,
    json_call,
    json_calls,
)


@dataclass(frozen=True, slots=True)
class ListStyle:
    """What stands before the first call, between two, and behind the last one."""

    begin: str = "["
    separator: str = ", "
    end: str = "]"


LINES = ListStyle("\n", "\n", "\n")


class TaggedList(CallFormat):
    """Args:
    openings: Any of them; the first one is what a model is held to.
    closing: May be left out.
    before: Members that a model writes before the name.
    content: What an answer begins with that is none.
    """

    def __init__(
        self,
        *openings: str,
        closing: str = "",
        keys: CallKeys = KEYS,
        style: ListStyle = ListStyle(),
        before: str = "",
        content: str = "",
    ) -> None:
        self.openings = openings
        self._closing = closing
        self._keys = keys
        self.shape = CallShape(
            tag=openings[0],
            begin=style.begin,
            call=lambda name: keys.head(name, before),
            call_end="}",
            separator=style.separator,
            end=f"{style.end}{closing}",
            content=content,
        )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        del opening, tools
        yield from cursor.spaces()
        if (yield from cursor.literal("[")) is not None:
            is_markup = yield from json_calls(self, cursor, keys=self._keys)
        else:
            is_markup = yield from self._in_lines(cursor)
        if is_markup and self._closing:
            yield from cursor.spaces()
            yield from cursor.closing(self._closing)
        return is_markup

    def _in_lines(self, cursor: Cursor) -> Steps[bool]:
        while True:
            if not (yield from json_call(self, cursor, keys=self._keys)):
                return False
            yield from cursor.spaces()
            if not self._closing or not (yield from cursor.is_ahead("{")):
                return True


class ToolCalls(TaggedList):
    """In a list, or without one as MiniMax M1 writes them."""

    def as_written(self, sample: str) -> CallFormat:
        return self if "[" in sample.partition(self.openings[0])[2][:2] else MINIMAX_M1


GRANITE = TaggedList("<|tool_call|>", "<tool_call>")
PHI4_MINI = TaggedList("functools", "<|tool_call|>", closing="<|/tool_call|>")
NEMOTRON = TaggedList("<TOOLCALL>", closing="</TOOLCALL>")
TOOL_CALLS = ToolCalls("<tool_calls>", closing="</tool_calls>")
MINIMAX_M1 = TaggedList("<tool_calls>", closing="</tool_calls>", style=LINES)
