"""Kimi K2: calls between `<|tool_calls_section_begin|>` and `<|tool_calls_section_end|>`.

The id of a call is what tells its function: `functions.name:0`. Its templates write it again in the next
turn, so that a client gets the model's own.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import (
    NUMBER,
    CallFormat,
    CallShape,
    Tools,
    tagged_calls,
)
from octavo.server.openai.parsing.pieces import CallBegin, CallEnd

CALLS, CALLS_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
CALL, CALL_END = "<|tool_call_begin|>", "<|tool_call_end|>"
ARGUMENTS = "<|tool_call_argument_begin|>"
_ID = re.compile(r"(?:functions\.)?(.+?)(?::\d+)?", re.DOTALL)


class KimiK2(CallFormat):
    openings = (CALLS, CALL)
    ends_reasoning = True
    shape = CallShape(
        tag=CALLS,
        call=lambda name: f"{CALL}functions.{name}:{NUMBER}{ARGUMENTS}",
        call_end=CALL_END,
        separator="",
        end=CALLS_END,
    )

    def another_id(self, name: str, known: Collection[str]) -> str:
        """With the next number that is free: its templates tell the function by the id."""
        ids = (f"functions.{name}:{number}" for number in itertools.count(len(known)))
        return next(one for one in ids if one not in known)

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        del tools
        return (yield from tagged_calls(opening, cursor, (CALL, CALLS_END), _call))


def _call(cursor: Cursor) -> Steps[bool]:
    head = ((yield from cursor.head_until(ARGUMENTS)) or "").strip()
    found = _ID.fullmatch(head)
    yield from cursor.spaces()
    if found is None or not (yield from cursor.is_ahead("{")):
        return False
    yield CallBegin(head, found[1])
    if not (yield from cursor.arguments()):
        return False
    yield CallEnd()
    yield from cursor.spaces()
    return (yield from cursor.closing(CALL_END))


KIMI_K2 = KimiK2()
