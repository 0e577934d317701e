"""PLaMo 3: calls between `<|plamo:begin_tool_requests:plamo|>` and its end, each with its name and its
arguments in tags of their own."""

from __future__ import annotations

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools, tagged_calls
from octavo.server.openai.parsing.pieces import CallEnd


def _tags(name: str) -> tuple[str, str]:
    return f"<|plamo:begin_{name}:plamo|>", f"<|plamo:end_{name}:plamo|>"


CALLS, CALLS_END = _tags("tool_requests")
CALL, CALL_END = _tags("tool_request")
NAME, NAME_END = _tags("tool_name")
ARGUMENTS, ARGUMENTS_END = _tags("tool_arguments")
_JSON, _MESSAGE = "<|plamo:constrain|>json", "<|plamo:msg|>"


class Plamo3(CallFormat):
    openings = (CALLS,)
    ends_reasoning = True
    shape = CallShape(
        tag=CALLS,
        call=lambda name: f"{CALL}{NAME}{name}{NAME_END}{ARGUMENTS}{_JSON}{_MESSAGE}",
        call_end=ARGUMENTS_END + CALL_END,
        separator="",
        end=CALLS_END,
    )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        del tools
        return (yield from tagged_calls(opening, cursor, (CALL, CALLS_END), self._call))

    def _call(self, cursor: Cursor) -> Steps[bool]:
        yield from cursor.spaces()
        if (yield from cursor.literal(NAME)) is None:
            return False
        name = ((yield from cursor.head_until(NAME_END)) or "").strip()
        yield from cursor.spaces()
        if not name or (yield from cursor.literal(ARGUMENTS)) is None:
            return False
        yield from cursor.literal(_JSON)
        yield from cursor.literal(_MESSAGE)
        yield from cursor.spaces()
        if not (yield from cursor.is_ahead("{")):
            return False
        yield self.begin(name)
        if not (yield from cursor.arguments()):
            return False
        yield CallEnd()
        for end in (ARGUMENTS_END, CALL_END):
            yield from cursor.spaces()
            if not (yield from cursor.closing(end)):
                return False
        return True


PLAMO3 = Plamo3()
