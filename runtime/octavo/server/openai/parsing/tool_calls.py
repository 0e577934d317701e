"""Tool calls in a model's text, in whatever format it writes them.

The parser takes text as it comes, lets through what is none of them at once, and gives the arguments of a
call as the model writes them, from where it is known to be one. What is no call stays text. It is our own
because transformers' `ResponseParser` ends a call at the first closing tag, also at one within the arguments,
and costs the API process seconds to import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from octavo.engine.requests.marked_text import MarkedText, joined
from octavo.server.openai.parsing.cursor import Cursor, Steps, any_of
from octavo.server.openai.parsing.formats.base import CallFormat, Tools
from octavo.server.openai.parsing.pieces import (
    WHITESPACE,
    Arguments,
    CallBegin,
    CallEnd,
    Piece,
    Reasoning,
    Tag,
    held_back,
)

_SPACES = re.compile(r"[ \t\n\r]*")
_OF_OPEN = (CallBegin, Arguments, Reasoning)
"""Behind these a call or thought goes on."""


class ToolCallParser:
    """Of one completion. What comes out does not depend on where the text is cut into pieces, and the time
    it takes grows with the text's length, however many calls are in it.

    Behind a call, whitespace at the ends of the content is none: models write a line break there.
    """

    __slots__ = (
        "_content",
        "_first",
        "_format",
        "_heads",
        "_held",
        "_ids",
        "_is_first",
        "_is_kept",
        "_is_line_blank",
        "_is_plain",
        "_marks",
        "_max_calls",
        "_openings",
        "_section",
        "_tools",
        "num_calls",
    )

    def __init__(
        self,
        form: CallFormat,
        tools: Tools,
        max_calls: int | None = None,
        known_ids: Iterable[str] = (),
    ) -> None:
        """Of more than `max_calls` calls the first ones are kept, and the others are left out. `known_ids`
        are those of the conversation's calls. Without tools, where nothing is read but heads, the format must
        have some."""
        self._format = form
        self._tools = tools
        self._max_calls = max_calls
        self._ids = set(known_ids)
        self._held: list[MarkedText] = []
        self._section: _Section | None = None
        self._content = _Content()
        self._is_kept = True
        self._is_line_blank = True
        is_read = bool(tools) or form.reads_reasoning
        self._heads = form.heads
        self._mark((*form.heads, *form.openings) if is_read else form.heads)
        # All text without these shows as it comes.
        self._is_plain = not form.line_openings and not form.first_openings
        self._is_first = bool(form.first_openings)
        self.num_calls = 0

    def leave_out(self, tag: str) -> None:
        """From here on it is markup, and none of a call."""
        self._heads = (*self._heads, tag)
        self._mark((tag, *self._marks))

    def push(self, text: MarkedText) -> Iterable[Piece]:
        """Content and calls, in the model's order. Holds back what may become a call."""
        section = self._section
        if section is not None:
            if (arguments := section.more_arguments(text.text)) is not None:
                if self._held:
                    self._held.clear()
                return (arguments,) if self._is_kept else ()
            if section.is_open and not section.pieces:
                self._held.append(text)
                return ()
        elif not self._held and self._is_plain and self._first.isdisjoint(text.text):
            return (shown,) if (shown := text.shown) else ()
        self._held.append(text)
        return self._read(is_last=False)

    def flush(self, *, is_cut: bool = False) -> Iterator[Piece]:
        """The end of the completion. What is left of a call that was begun is none of its text.

        Args:
            is_cut: It did not end by itself.
        """
        return self._read(is_last=True, is_cut=is_cut)

    def _mark(self, marks: tuple[str, ...]) -> None:
        """Content ends there."""
        self._marks = marks
        self._openings = any_of(marks)
        self._first = frozenset(mark[0] for mark in marks)

    def _read(self, *, is_last: bool, is_cut: bool = False) -> Iterator[Piece]:
        held, position = joined(self._held) if self._held else MarkedText(), 0
        raw = held.text
        while True:
            if self._section is None:
                opening, start = self._find(raw, position, is_last=is_last)
                if is_cut and opening is None and self._content.is_behind_call:
                    start = held_back(raw, position, self._marks)
                    if not raw[position:start].strip(WHITESPACE):
                        break  # of a next call
                    start = len(raw)
                yield from self._text(held[position:start])
                position = start
                if opening is None:
                    break
                is_head = opening in self._heads
                self._section = _Section(self._format, opening, self._tools, is_head=is_head)
                self._section.read(raw, position + len(opening))
            section = self._section
            if is_last:
                section.end_text(is_cut=is_cut)
            yield from self._kept(section)
            position += section.release()
            if section.is_open:
                break
            self._section = None
            if not section.is_markup and section.is_half and self._content.is_behind_call:
                break  # of a next call
            if not section.is_markup:
                behind = position + len(section.opening)
                yield from self._text(held[position:behind])
                position = behind
        rest = held[position:]
        self._held = [rest] if rest.text else []

    def _kept(self, section: _Section) -> Sequence[Piece]:
        """What the section has read; of calls those that are not too many."""
        pieces, section.pieces = section.pieces, []
        kept: list[Piece] = []
        for piece in pieces:
            if isinstance(piece, CallBegin):
                self._is_kept = self.num_calls != self._max_calls
                if self._is_kept:
                    self.num_calls += 1
                    piece = self._distinct(piece)
                    self._content = _Content(is_behind_markup=True, is_behind_call=True)
                    self._is_plain = False
            elif isinstance(piece, Tag) and self._format.has_lines:
                is_behind_call = self._content.is_behind_call
                self._content = _Content(is_behind_markup=True, is_behind_call=is_behind_call)
                self._is_plain = False
            if self._is_kept or not isinstance(piece, CallBegin | Arguments | CallEnd):
                kept.append(piece)
        return kept

    def _distinct(self, call: CallBegin) -> CallBegin:
        """No two calls of an answer have the same id, nor one that the conversation knows."""
        if call.id in self._ids:
            call = call._replace(id=self._format.another_id(call.name, self._ids))
        self._ids.add(call.id)
        return call

    def _text(self, text: MarkedText) -> Iterator[str]:
        if self._format.line_openings and text.text:
            _, line_break, tail = text.text.rpartition("\n")
            is_blank = bool(line_break) or self._is_line_blank
            self._is_line_blank = is_blank and not tail.strip(WHITESPACE)
        return self._content.added(text.shown)

    def _find(self, raw: str, begin: int, *, is_last: bool) -> tuple[str | None, int]:
        """The next opening and its place; none, and where the content ends that is certain."""
        if self._is_first:
            rest = raw[begin:]
            for opening in self._format.first_openings:
                if rest.startswith(opening):
                    self._is_first = False
                    return opening, begin
            openings = self._format.first_openings
            if not is_last and any(opening.startswith(rest) for opening in openings):
                return None, begin
            self._is_first = False
            self._is_plain = not self._format.line_openings
        leftmost = self._openings.search(raw, begin)
        found, first = (leftmost.group(), leftmost.start()) if leftmost else (None, len(raw))
        for opening in self._format.line_openings:
            place = self._find_in_line(raw, begin, first, opening)
            if 0 <= place < first:
                found, first = opening, place
        if found is not None or is_last:
            return found, first
        return None, held_back(raw, begin, self._marks)

    def _find_in_line(self, raw: str, begin: int, end: int, opening: str) -> int:
        """Where it stands with nothing but whitespace before it in its line; in those that end before
        `end`."""
        if self._is_line_blank:
            place = _end_of(_SPACES, raw, begin)
            if raw.startswith(opening, place):
                return place
        while (place := raw.find("\n", begin, end)) >= 0:
            begin = _end_of(_SPACES, raw, place)
            if raw.startswith(opening, begin):
                return begin
        return -1


class _Section:
    """Of calls, as its text comes. Places count from its opening.

    Attributes:
        pieces: Those that were read and not yet taken.
        is_open: There may be more.
    """

    __slots__ = (
        "_cursor",
        "_last",
        "_length",
        "_num_fed",
        "_released",
        "_steps",
        "_taken",
        "is_open",
        "opening",
        "pieces",
    )

    def __init__(self, form: CallFormat, opening: str, tools: Tools, *, is_head: bool) -> None:
        self.opening = opening
        self._cursor = Cursor()
        self._steps = _head() if is_head else form.section(opening, self._cursor, tools)
        self._num_fed = len(opening)
        self._taken = 0
        self._released = 0
        self._length = len(opening)
        self._last: Piece | None = None
        self.pieces: list[Piece] = []
        self.is_open = True

    def read(self, text: str, start: int) -> None:
        """The next piece is `text` from `start` on."""
        self._num_fed += len(text) - start
        self._cursor.feed(text, start)
        self._run()

    def more_arguments(self, text: str) -> Arguments | None:
        """As `read`; where arguments go on, and nothing else, they are taken here."""
        self._num_fed += len(text)
        cursor = self._cursor
        cursor.feed(text)
        if isinstance(self._last, Arguments):
            try:
                piece = next(self._steps)
            except StopIteration as end:
                self._end(is_markup=end.value)
                return None
            if isinstance(piece, Arguments) and self._length + cursor.position == self._num_fed:
                self._last = piece
                self._taken = self._released = self._num_fed
                return piece
            if piece is None:
                return None
            self._add(piece)
        self._run()
        return None

    def end_text(self, *, is_cut: bool) -> None:
        """No more pieces come."""
        self._cursor.is_ended, self._cursor.is_cut = True, is_cut
        while self.is_open:
            self._run()

    @property
    def is_half(self) -> bool:
        """It might have gone on where it was cut off."""
        return self._cursor.is_cut and self._cursor.lacks_text

    @property
    def is_markup(self) -> bool:
        """There were pieces: the opening is no text."""
        return self._last is not None

    def release(self) -> int:
        """How many characters more are no text."""
        count = self._taken - self._released
        self._released = self._taken
        return count

    def _run(self) -> None:
        try:
            while (piece := next(self._steps)) is not None:
                self._add(piece)
                if self._taken == self._num_fed and isinstance(piece, Arguments):
                    break  # what comes of no more text can wait for more
        except StopIteration as end:
            self._end(is_markup=end.value)

    def _add(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self._last = piece
        self._taken = self._length + self._cursor.position

    def _end(self, *, is_markup: bool) -> None:
        """All was read that is of the section; `is_markup` are what stands behind the last piece."""
        self.is_open = False
        is_next = self.is_half and not is_markup and isinstance(self._last, CallEnd)
        if is_next or (self._cursor.is_ended and isinstance(self._last, _OF_OPEN)):
            self._taken = self._num_fed
        elif is_markup and self._last is not None:
            self._taken = self._length + self._cursor.position


def _head() -> Steps[bool]:
    yield Tag()
    return True


class _Content:
    """Text between calls.

    Attributes:
        is_behind_call: None of it was shown since.
    """

    __slots__ = ("_has_begun", "_is_behind_markup", "_whitespace", "is_behind_call")

    def __init__(self, *, is_behind_markup: bool = False, is_behind_call: bool = False) -> None:
        self._is_behind_markup = is_behind_markup
        self.is_behind_call = is_behind_call
        self._has_begun = False
        self._whitespace: list[str] = []

    def added(self, text: str) -> Iterator[str]:
        """What is certain to show of it."""
        if self._is_behind_markup:
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
            self.is_behind_call = False
            yield text


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start
