"""Inkling: blocks of one kind each, `<|message_model|><|content_text|>…<|end_message|>`; the first one's
`<|message_model|>` is the prompt's.

What is `<|content_thinking|>` are thoughts, and a call is the function's name and
`<|content_invoke_tool_json|>{"name": …, "args": {…}}`.
"""

from __future__ import annotations

import re

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools, quoted_name
from octavo.server.openai.parsing.formats.harmony import Thoughts
from octavo.server.openai.parsing.formats.json_call import CallKeys, json_call
from octavo.server.openai.parsing.pieces import Tag

BLOCK, TEXT, THOUGHTS = "<|message_model|>", "<|content_text|>", "<|content_thinking|>"
CALL = "<|content_invoke_tool_json|>"
_KINDS = (TEXT, THOUGHTS, CALL, "<|content_invoke_tool_text|>", "<|content_tool_error|>")
END = "<|end_message|>"
_ENDS = (END, "<|content_model_end_sampling|>")
_KEYS = CallKeys(arguments=('"args"', '"arguments"', '"parameters"'))
_NAME = re.compile(r"[\w.:-]*")


class Inkling(CallFormat):
    openings = (BLOCK, *_KINDS, *_ENDS)
    reads_reasoning = True
    reasoning = "inkling"
    # The prompt ends within the first head.
    first_openings = ("",)
    shape = CallShape(
        call=lambda name: f'{name}{CALL}{{"name":{quoted_name(name)},"args":',
        call_end="}",
        end=END,
        between=BLOCK,
        content=TEXT,
    )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        kind: str | None = opening
        if opening in ("", BLOCK):
            if opening:
                yield Tag()
            yield from cursor.word(_NAME)
            kind = yield from cursor.literal(*_KINDS)
            if kind is None:
                return False
        if kind == THOUGHTS:
            yield Tag()
            kind = yield from cursor.parts_until((*_ENDS, CALL), Thoughts("").piece)
            if kind is None:
                cursor.drop_rest()
        if kind == CALL and tools:
            if not (yield from json_call(self, cursor, keys=_KEYS)):
                return False
            yield from cursor.spaces()
            return (yield from cursor.closing(*_ENDS))
        yield Tag()
        return True


INKLING = Inkling()
