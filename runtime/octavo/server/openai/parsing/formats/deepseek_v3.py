"""DeepSeek V3: calls between `<｜tool▁calls▁begin｜>` and `<｜tool▁calls▁end｜>`.

Each is written as V3 and R1 do, with `function`, the name and the arguments in a block of Markdown, or as
V3.1 does, the name and the arguments.
"""

from __future__ import annotations

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools, tagged_calls
from octavo.server.openai.parsing.pieces import CallEnd

CALLS, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
SEPARATOR = "<｜tool▁sep｜>"
BLOCK, BLOCK_END = "```json", "```"


class DeepSeek(CallFormat):
    # R1's distilled models leave the first tag out at times.
    openings = (CALLS, CALL)

    def __init__(self, shape: CallShape) -> None:
        self.shape = shape

    def as_written(self, sample: str) -> CallFormat:
        return self if BLOCK in sample else DEEPSEEK_V31

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        del tools
        return (yield from tagged_calls(opening, cursor, (CALL, CALLS_END), self._call))

    def _call(self, cursor: Cursor) -> Steps[bool]:
        head = yield from cursor.head_until(SEPARATOR)
        if head is None:
            return False
        name = head.strip()
        yield from cursor.spaces()
        is_block = not (yield from cursor.is_ahead("{"))
        if is_block:
            found = yield from cursor.head_until(BLOCK)
            if found is None:
                return False
            name = found.strip()
            yield from cursor.spaces()
        if not name or not (yield from cursor.is_ahead("{")):
            return False
        yield self.begin(name)
        if not (yield from cursor.arguments()):
            return False
        yield CallEnd()
        yield from cursor.spaces()
        if is_block and not (yield from cursor.closing(BLOCK_END)):
            return False
        yield from cursor.spaces()
        return (yield from cursor.closing(CALL_END))


DEEPSEEK = DeepSeek(
    CallShape(
        tag=CALLS,
        call=lambda name: f"{CALL}function{SEPARATOR}{name}\n{BLOCK}\n",
        call_end=f"\n{BLOCK_END}{CALL_END}",
        separator="\n",
        end=CALLS_END,
    )
)
DEEPSEEK_V31 = DeepSeek(
    CallShape(
        tag=CALLS,
        call=lambda name: f"{CALL}{name}{SEPARATOR}",
        call_end=CALL_END,
        separator="",
        end=CALLS_END,
    )
)
