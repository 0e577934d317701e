"""Hermes: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as Hermes and Qwen models write calls.

A call ends where its JSON ends: a tag may stand within the arguments.
"""

from __future__ import annotations

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, CallShape, Tools, quoted_name


class TaggedJson(CallFormat):
    """An object between two tags; the second may be left out before the next call, and at the end."""

    def __init__(self, opening: str, closing: str) -> None:
        self.openings = (opening,)
        self.closing = closing
        self.shape = CallShape(
            tag=opening,
            begin="\n",
            call=lambda name: f'{{"name": {quoted_name(name)}, "arguments": ',
            call_end="}",
            end=f"\n{closing}",
            between="\n",
        )

    def section(self, opening: str, cursor: Cursor, tools: Tools) -> Steps[bool]:
        text = yield from cursor.json_object()
        call = self.call_in(text) if text is not None else None
        if call is None:
            return False
        yield from cursor.spaces()
        if not (yield from cursor.is_ahead(opening)) and not (
            yield from cursor.closing(self.closing)
        ):
            return False
        yield call
        return True


HERMES = TaggedJson("<tool_call>", "</tool_call>")
