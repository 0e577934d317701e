"""Apertus: `<|tools_prefix|>[{"f": {…}}, …]<|tools_suffix|>`, an object with one member for each call."""

from __future__ import annotations

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools, quoted_name
from octavo.server.openai.parsing.pieces import CallEnd
from octavo.server.openai.parsing.schema_types import decoded

TAG, TAG_END = "<|tools_prefix|>", "<|tools_suffix|>"


class Apertus(CallFormat):
    openings = (TAG,)
    ends_reasoning = True
    shape = CallShape(
        tag=TAG,
        begin="[",
        call=lambda name: f"{{{quoted_name(name)}: ",
        call_end="}",
        separator=", ",
        end=f"]{TAG_END}",
    )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        del opening, tools
        mark: str | None = "["
        while mark is not None:
            yield from cursor.spaces()
            if (yield from cursor.literal(mark)) is None:
                return False
            if not (yield from self._call(cursor)):
                return False
            yield from cursor.spaces()
            mark = "," if (yield from cursor.is_ahead(",")) else None
        if not (yield from cursor.closing("]")):
            return False
        yield from cursor.spaces()
        yield from cursor.closing(TAG_END)
        return True

    def _call(self, cursor: Cursor) -> Steps[bool]:
        yield from cursor.spaces()
        if (yield from cursor.literal("{")) is None:
            return False
        yield from cursor.spaces()
        if not (yield from cursor.is_ahead('"')):
            return False
        name = decoded((yield from cursor.json_value()) or "")
        yield from cursor.spaces()
        if not isinstance(name, str) or (yield from cursor.literal(":")) is None:
            return False
        yield from cursor.spaces()
        if not (yield from cursor.is_ahead("{")):
            return False
        yield self.begin(name)
        if not (yield from cursor.arguments()):
            return False
        yield CallEnd()
        yield from cursor.spaces()
        yield from cursor.literal("}")
        return True


APERTUS = Apertus()
