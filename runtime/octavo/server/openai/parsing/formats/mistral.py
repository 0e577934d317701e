"""Mistral: `[TOOL_CALLS]`, and behind it a list of calls, or one call.

The former is `[{"name": …, "arguments": {…}}]`, the latter one of these objects, `name{…}`,
`name[ARGS]{…}` or `name[CALL_ID]…[ARGS]{…}`.
"""

from __future__ import annotations

import re
import secrets
import string

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.formats.json_call import KEYS, json_call, json_calls
from octavo.server.openai.parsing.pieces import CallEnd

TAG = "[TOOL_CALLS]"
ARGUMENTS = "[ARGS]"
_ID = "[CALL_ID]"
_NAME = re.compile(r"[A-Za-z0-9_.:-]*")
_ID_CHARACTERS = string.ascii_letters + string.digits


class Mistral(CallFormat):
    openings = (TAG,)
    ends_reasoning = True

    def __init__(self, shape: CallShape) -> None:
        self.shape = shape

    def as_written(self, sample: str) -> CallFormat:
        return MISTRAL_NAMED if ARGUMENTS in sample else self

    def new_id(self) -> str:
        """Its templates refuse others in the next turn."""
        return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(9))

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        del opening, tools
        yield from cursor.spaces()
        if (yield from cursor.literal("[")) is not None:
            return (yield from json_calls(self, cursor))
        if (yield from cursor.is_ahead("{")):
            return (yield from json_call(self, cursor))
        return (yield from self._named(cursor))

    def _named(self, cursor: Cursor) -> Steps[bool]:
        name = yield from cursor.word(_NAME)
        if (yield from cursor.literal(_ID)) is not None:
            yield from cursor.word(_NAME)
        yield from cursor.literal(ARGUMENTS)
        yield from cursor.spaces()
        if not name or not (yield from cursor.is_ahead("{")):
            return False
        yield self.begin(name)
        if not (yield from cursor.arguments()):
            return False
        yield CallEnd()
        return True


MISTRAL = Mistral(
    CallShape(
        tag=TAG,
        begin="[",
        call=KEYS.head,
        call_end="}",
        separator=", ",
        end="]",
    )
)
MISTRAL_NAMED = Mistral(CallShape(tag=TAG, call=lambda name: name + ARGUMENTS))
