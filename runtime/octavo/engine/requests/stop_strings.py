"""Stop strings. Finds stop strings in a stream of text pieces, wherever the pieces are cut.

Stop strings are a stranger's, and texts may repeat what they begin with: so each character is read once
(Knuth, Morris and Pratt), and what is held back meanwhile is neither searched nor copied again.
"""

from __future__ import annotations

import bisect
import operator
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from octavo.engine.requests.marked_text import MarkedText, joined


class StopMatch(msgspec.Struct, frozen=True, gc=False):
    """`text` may be shown; with `stop_string` set the output ends there."""

    text: MarkedText
    stop_string: str | None = None


class StopStringFinder:
    """Holds back the shortest tail that may still grow into a stop string.

    The result is that of reading character by character: the stop string that is complete first wins (of
    two that end at the same place the longer one), so it does not depend on how tokens cut the text. It is
    looked for with the special tokens in the text, for it may be one, and without them, as it would show.
    """

    __slots__ = ("_held", "_in_shown", "_in_text")

    def __init__(self, stop_strings: Sequence[str]) -> None:
        self._in_text = [_Matcher(stop) for stop in stop_strings]
        # Up to the first special token the text is what shows.
        self._in_shown: list[_Matcher] = []
        self._held = _HeldText()

    def push(self, piece: MarkedText) -> StopMatch:
        """Takes the next piece; returns what is certain not to belong to a stop string."""
        if not self._in_text:
            return StopMatch(piece)
        if piece.hidden and not self._in_shown:
            self._in_shown = [matcher.copy() for matcher in self._in_text]
        held = self._held
        length, shown_length = held.length, held.shown_length
        held.append(piece)
        found = list(self._read_text(piece.text, length))
        if self._in_shown:
            found += self._read_shown(piece.shown, shown_length)
        if found:
            _, start, stop = min(found)
            return StopMatch(held.release(start), stop)
        return StopMatch(held.release(self._possible_start()))

    def flush(self) -> MarkedText:
        """What was held back, once no more text follows."""
        return self._held.release(self._held.length)

    def _read_text(self, text: str, offset: int) -> Iterator[tuple[int, int, str]]:
        """End and begin of each stop string's first place; it may hold no special token in part."""
        for matcher in self._in_text:
            for end in matcher.ends(text):
                start = offset + end - len(matcher.stop)
                if not self._held.cuts_special(start) and not self._held.cuts_special(offset + end):
                    yield offset + end, start, matcher.stop
                    break

    def _read_shown(self, shown: str, offset: int) -> Iterator[tuple[int, int, str]]:
        place_of = self._held.place_of
        for matcher in self._in_shown:
            for end in matcher.ends(shown):
                start = offset + end - len(matcher.stop)
                yield place_of(offset + end - 1) + 1, place_of(start), matcher.stop
                break

    def _possible_start(self) -> int:
        """The first place from which the text's end, or that of what shows, begins a stop string."""
        held = self._held
        start = held.special_around(held.length - _longest(self._in_text))
        if self._in_shown:
            start = min(start, held.place_of(held.shown_length - _longest(self._in_shown)))
        return start


class _Matcher:
    """How much of one stop string the text that was read ends with: `length` characters."""

    __slots__ = ("_borders", "length", "stop")

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.length = 0
        # Of the stop string's first i characters, how many at their end are also their begin. Made as far
        # as a text came, for a stop string may be longer than all texts.
        self._borders = [0, 0]

    def copy(self) -> _Matcher:
        other = _Matcher(self.stop)
        other.length = self.length
        return other

    def ends(self, text: str) -> Iterator[int]:
        """Reads `text`; each place in it behind the stop string, wherever that began."""
        stop, length, place = self.stop, self.length, 0
        while place < len(text):
            if not length:
                place = text.find(stop[0], place)
                if place < 0:
                    break
            character = text[place]
            while length and stop[length] != character:
                length = self._border(length)
            length += stop[length] == character
            place += 1
            if length == len(stop):
                length = self._border(length)
                yield place
        self.length = length

    def _border(self, length: int) -> int:
        stop, borders = self.stop, self._borders
        while len(borders) <= length:
            border, character = borders[-1], stop[len(borders) - 1]
            while border and stop[border] != character:
                border = borders[border]
            borders.append(border + (stop[border] == character))
        return borders[length]


def _longest(matchers: Sequence[_Matcher]) -> int:
    return max(matcher.length for matcher in matchers)


class _Special(NamedTuple):
    """A special token; `shown_begin` are the characters that show before it, `num_hidden` those that do not
    show up to its end."""

    begin: int
    end: int
    shown_begin: int
    num_hidden: int


class _HeldText:
    """The end of a text that came in pieces. All places count from the text's begin."""

    __slots__ = (
        "_begin",
        "_num_hidden",
        "_num_hidden_before",
        "_offset",
        "_pieces",
        "_specials",
        "length",
    )

    def __init__(self) -> None:
        self.length = 0
        self._num_hidden = 0
        self._pieces: deque[MarkedText] = deque()
        self._begin = 0  # of what is held
        self._offset = 0  # of the same in the first piece
        self._specials: list[_Special] = []
        self._num_hidden_before = 0  # the first of them

    @property
    def shown_length(self) -> int:
        return self.length - self._num_hidden

    def append(self, piece: MarkedText) -> None:
        for first, last in piece.hidden:
            begin = self.length + first
            shown_begin = begin - self._num_hidden
            self._num_hidden += last - first
            self._specials.append(
                _Special(begin, self.length + last, shown_begin, self._num_hidden)
            )
        self._pieces.append(piece)
        self.length += len(piece)

    def release(self, end: int) -> MarkedText:
        """Takes what is held up to `end`, which cuts no special token."""
        parts = []
        while self._begin < end:
            first = self._pieces[0]
            last = min(len(first), self._offset + end - self._begin)
            parts.append(first[self._offset : last])
            self._begin += last - self._offset
            self._offset = last
            if last == len(first):
                self._pieces.popleft()
                self._offset = 0
        if num_gone := bisect.bisect_right(self._specials, end, key=_END):
            self._num_hidden_before = self._specials[num_gone - 1].num_hidden
            del self._specials[:num_gone]
        return joined(parts)

    def place_of(self, shown_place: int) -> int:
        """Where the character stands that has this place in what shows."""
        number = bisect.bisect_right(self._specials, shown_place, key=_SHOWN_BEGIN)
        if not number:
            return shown_place + self._num_hidden_before
        return shown_place + self._specials[number - 1].num_hidden

    def special_around(self, place: int) -> int:
        """The begin of the special token that `place` cuts, or `place`."""
        number = bisect.bisect_left(self._specials, place, key=_BEGIN)
        if number and place < self._specials[number - 1].end:
            return self._specials[number - 1].begin
        return place

    def cuts_special(self, place: int) -> bool:
        return self.special_around(place) != place


_BEGIN = operator.attrgetter("begin")
_END = operator.attrgetter("end")
_SHOWN_BEGIN = operator.attrgetter("shown_begin")
