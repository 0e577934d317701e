"""Tool calls in a model's text, in whatever format it writes them.

The parser takes text as it comes, lets through what is none of them at once, and gives a call when it is
whole. What is no valid call stays text. It is our own because transformers' `ResponseParser` ends a call at
the first closing tag, also at one within the arguments, and costs the API process seconds to import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.server.openai.parsing.cursor import Cursor
from octavo.server.openai.parsing.formats.base import CallFormat, Tools
from octavo.server.openai.parsing.pieces import WHITESPACE, Call, held_back

_SPACES = re.compile(r"[ \t\n\r]*")


class ToolCallParser:
    """Of one completion. What comes out does not depend on where the text is cut into pieces, and the time
    it takes grows with the text's length, however many calls are in it.

    Behind a call, whitespace at the ends of the content is none: models write a line break there.
    """

    __slots__ = (
        "_content",
        "_first",
        "_format",
        "_held",
        "_is_line_blank",
        "_is_plain",
        "_max_calls",
        "_section",
        "_tools",
        "num_calls",
    )

    def __init__(self, form: CallFormat, tools: Tools, max_calls: int | None = None) -> None:
        """Of more than `max_calls` calls the first ones are kept, and the others are left out."""
        self._format = form
        self._tools = tools
        self._max_calls = max_calls
        self._held: list[MarkedText] = []
        self._section: _Section | None = None
        self._content = _Content()
        self._is_line_blank = True
        self._first = frozenset(opening[0] for opening in form.openings)
        # All text without these shows as it comes.
        self._is_plain = not form.line_openings
        self.num_calls = 0

    def push(self, text: MarkedText) -> Iterable[str | Call]:
        """Content and calls, in the model's order. Holds back what may become a call."""
        if self._section is not None:
            self._held.append(text)
            self._section.read(text.text, 0)
            if self._section.is_open and not self._section.calls:
                return ()  # what is held need not be looked at again
        elif not self._held and self._is_plain and self._first.isdisjoint(text.text):
            return (shown,) if (shown := text.shown) else ()
        else:
            self._held.append(text)
        return self._read(is_last=False)

    def flush(self) -> Iterator[str | Call]:
        """The end of the completion: a call that was not closed counts when it is whole."""
        return self._read(is_last=True)

    def _read(self, *, is_last: bool) -> Iterator[str | Call]:
        held, position = joined(self._held) if self._held else MarkedText(), 0
        raw = held.text
        while True:
            if self._section is None:
                opening, start = self._find(raw, position, is_last=is_last)
                yield from self._text(held[position:start])
                position = start
                if not opening:
                    break
                self._section = _Section(self._format, opening, self._tools)
                self._section.read(raw, position + len(opening))
            section = self._section
            if is_last:
                section.end_text()
            if section.calls:
                yield from self._kept(section.calls)
                section.calls.clear()
            position += section.release()
            if section.is_open:
                break
            self._section = None
            if not section.has_calls:
                behind = position + len(section.opening)
                yield from self._text(held[position:behind])
                position = behind
        rest = held[position:]
        self._held = [rest] if rest.text else []

    def _kept(self, calls: list[Call]) -> Iterator[Call]:
        self._content = _Content(is_behind_call=True)
        self._is_plain = False
        for call in calls:
            if self.num_calls != self._max_calls:
                self.num_calls += 1
                yield call

    def _text(self, text: MarkedText) -> Iterator[str]:
        if self._format.line_openings and text.text:
            _, line_break, tail = text.text.rpartition("\n")
            is_blank = bool(line_break) or self._is_line_blank
            self._is_line_blank = is_blank and not tail.strip(WHITESPACE)
        return self._content.added(text.shown)

    def _find(self, raw: str, begin: int, *, is_last: bool) -> tuple[str, int]:
        """The next opening and its place; an empty one where the content ends that is certain."""
        found, first = "", len(raw)
        for opening in self._format.openings:
            place = raw.find(opening, begin, first + len(opening) - 1)
            if 0 <= place < first:
                found, first = opening, place
        for opening in self._format.line_openings:
            place = self._find_in_line(raw, begin, opening)
            if 0 <= place < first:
                found, first = opening, place
        if found or is_last:
            return found, first
        return "", held_back(raw, begin, self._format.openings)

    def _find_in_line(self, raw: str, begin: int, opening: str) -> int:
        """Where it stands with nothing but whitespace before it in its line."""
        if self._is_line_blank:
            place = _end_of(_SPACES, raw, begin)
            if raw.startswith(opening, place):
                return place
        while (place := raw.find("\n", begin)) >= 0:
            begin = _end_of(_SPACES, raw, place)
            if raw.startswith(opening, begin):
                return begin
        return -1


class _Section:
    """Of calls, as its text comes. Places count from its opening.

    Attributes:
        calls: Those that were read and not yet taken.
        has_calls: There were some.
        is_open: There may be more.
    """

    __slots__ = (
        "_cursor",
        "_released",
        "_steps",
        "_taken",
        "calls",
        "has_calls",
        "is_open",
        "opening",
    )

    def __init__(self, form: CallFormat, opening: str, tools: Tools) -> None:
        self.opening = opening
        self._cursor = Cursor()
        self._steps = form.section(opening, self._cursor, tools)
        self._taken = 0
        self._released = 0
        self.calls: list[Call] = []
        self.has_calls = False
        self.is_open = True

    def read(self, text: str, start: int) -> None:
        """The next piece is `text` from `start` on."""
        self._cursor.feed(text, start)
        self._run()

    def end_text(self) -> None:
        """No more pieces come."""
        self._cursor.is_ended = True
        if self.is_open:
            self._run()

    def release(self) -> int:
        """How many characters more are no text."""
        count = self._taken - self._released
        self._released = self._taken
        return count

    def _run(self) -> None:
        try:
            while (call := next(self._steps)) is not None:
                self.calls.append(call)
                self.has_calls = True
                self._taken = len(self.opening) + self._cursor.position
        except StopIteration as end:
            self.is_open = False
            if end.value and self.has_calls:
                self._taken = len(self.opening) + self._cursor.position


class _Content:
    """Text between calls."""

    __slots__ = ("_has_begun", "_is_behind_call", "_whitespace")

    def __init__(self, *, is_behind_call: bool = False) -> None:
        self._is_behind_call = is_behind_call
        self._has_begun = False
        self._whitespace: list[str] = []

    def added(self, text: str) -> Iterator[str]:
        """What is certain to show of it."""
        if self._is_behind_call:
            if not self._has_begun:
                text = text.lstrip(WHITESPACE)
            shown = text.rstrip(WHITESPACE)
            behind = text[len(shown) :]
            if shown:
                shown = "".join([*self._whitespace, shown])
                self._whitespace.clear()
            self._whitespace.append(behind)
            text = shown
        if text:
            self._has_begun = True
            yield text


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start
