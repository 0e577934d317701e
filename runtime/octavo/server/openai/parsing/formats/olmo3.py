"""Olmo 3: calls in Python's notation, `f(a=1)`, one in each line between `<function_calls>` and
`</function_calls>`."""

from __future__ import annotations

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools
from octavo.server.openai.parsing.formats.pythonic import NAME, ListScanner, calls_in
from octavo.server.openai.parsing.python_literals import PythonValues

TAG, TAG_END = "<function_calls>", "</function_calls>"


class Olmo3(CallFormat):
    openings = (TAG,)
    shape = CallShape(
        tag=TAG,
        call=lambda name: f"{name}(",
        notation=PythonValues(),
        call_end=")",
        separator="\n",
        end=TAG_END,
    )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        del opening
        while True:
            yield from cursor.spaces()
            name = yield from cursor.word(NAME)
            if not name:
                return (yield from cursor.closing(TAG_END))
            if name not in tools or (yield from cursor.literal("(")) is None:
                return False
            inside = yield from cursor.balanced(ListScanner())
            calls = calls_in(f"[{name}({inside}]") if inside is not None else None
            if not calls:
                return False
            yield from self.whole(*calls[0])


OLMO3 = Olmo3()
