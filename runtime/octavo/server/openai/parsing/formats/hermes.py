"""Hermes: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as Hermes and Qwen models write calls, and
others with tags of their own.

A call ends where its JSON ends: a tag may stand within the arguments.
"""

from __future__ import annotations

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.formats.json_call import KEYS, PARAMETERS, CallKeys, json_call


class TaggedJson(CallFormat):
    """An object between two tags; the second may be left out before the next call, and at the end.

    Args:
        closing: Empty where nothing ends a call but its JSON.
        between: What stands between the tags and the object.
        ends_reasoning: As `CallFormat` has it.
    """

    def __init__(
        self,
        opening: str,
        closing: str = "",
        *,
        keys: CallKeys = KEYS,
        between: str = "\n",
        ends_reasoning: bool = False,
    ) -> None:
        self.openings = (opening,)
        self.ends_reasoning = ends_reasoning
        self._closing = closing
        self._keys = keys
        self.shape = CallShape(
            tag=opening,
            begin=between,
            call=keys.head,
            call_end="}",
            end=f"{between}{closing}" if closing else "",
            between="\n",
        )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        if not (yield from json_call(self, cursor, keys=self._keys)):
            return False
        if not self._closing:
            return True
        yield from cursor.spaces()
        if (yield from cursor.is_ahead(opening)):
            return True
        return (yield from cursor.closing(self._closing))


HERMES = TaggedJson("<tool_call>", "</tool_call>", ends_reasoning=True)
INTERNLM = TaggedJson("<|action_start|><|plugin|>", "<|action_end|>", keys=PARAMETERS)
LONGCAT = TaggedJson("<longcat_tool_call>", "</longcat_tool_call>")
GRANITE_20B = TaggedJson("<function_call>", between=" ")
