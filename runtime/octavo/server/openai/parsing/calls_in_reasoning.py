"""Calls in reasoning: a model that calls a function before it has closed its thoughts has ended them there.

Thoughts may also be of the markup itself, which the prompt speaks of: a mark ends them only where a call
begins behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

from octavo.server.openai.parsing.cursor import Cursor
from octavo.server.openai.parsing.formats.base import CallFormat, Tools
from octavo.server.openai.parsing.pieces import CallBegin


@dataclass(frozen=True, slots=True)
class CallsInReasoning:
    """Of a format that `ends_reasoning`, and the tools that may be called."""

    form: CallFormat
    tools: Tools

    @property
    def mark(self) -> str:
        """What such calls begin with."""
        return self.form.openings[0]

    def begin(self) -> CallBeginning:
        """Behind the mark."""
        return CallBeginning(self)


class CallBeginning:
    """What stands behind a mark, as it comes: the beginning of a call, or none."""

    __slots__ = ("_cursor", "_steps")

    def __init__(self, calls: CallsInReasoning) -> None:
        self._cursor = Cursor()
        self._steps = calls.form.section(calls.mark, self._cursor, calls.tools)

    def read(self, text: str, start: int = 0) -> bool | None:
        """The next piece is `text` from `start` on. Whether a call begins; None where that is open yet."""
        self._cursor.feed(text, start)
        for piece in self._steps:
            if piece is None:
                return None
            if isinstance(piece, CallBegin):
                return True
        return False

    def end(self) -> bool:
        """As `read`, where no more text comes."""
        self._cursor.is_ended = True
        return bool(self.read(""))
