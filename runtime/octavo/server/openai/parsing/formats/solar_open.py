"""Solar Open: messages with heads, `<|begin|>assistant<|content|>…<|end|>`, whose calls stand between
`<|tool_calls|>` and `<|calls|>`.

A call is `<|tool_call:begin|>id<|tool_call:name|>name<|tool_call:args|>{…}<|tool_call:end|>`. Its id is the
model's own, ten letters and digits, and its templates write it again in the next turn.
"""

from __future__ import annotations

import secrets
import string

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import ID, CallFormat, CallShape, Tools
from octavo.server.openai.parsing.pieces import CallBegin, CallEnd

CALL, NAME, ARGUMENTS = "<|tool_call:begin|>", "<|tool_call:name|>", "<|tool_call:args|>"
CALL_END = "<|tool_call:end|>"
_ID_CHARACTERS = string.ascii_lowercase + string.digits


class SolarOpen(CallFormat):
    openings = (CALL,)
    heads = ("<|begin|>assistant", "<|content|>", "<|end|>", "<|tool_calls|>", "<|calls|>")
    reasoning = "solar_open"
    shape = CallShape(
        tag="<|tool_calls|>",
        call=lambda name: f"{CALL}{ID}{NAME}{name}{ARGUMENTS}",
        call_end=CALL_END,
        separator="",
        end="<|calls|>",
        content="<|content|>",
    )

    def new_id(self) -> str:
        return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(10))

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        del opening, tools
        call_id = yield from cursor.head_until(NAME)
        name = None if call_id is None else (yield from cursor.head_until(ARGUMENTS))
        yield from cursor.spaces()
        if not call_id or not name or not (yield from cursor.is_ahead("{")):
            return False
        yield CallBegin(call_id.strip(), name.strip())
        if not (yield from cursor.arguments()):
            return False
        yield CallEnd()
        yield from cursor.spaces()
        return (yield from cursor.closing(CALL_END))


SOLAR_OPEN = SolarOpen()
