"""Cursor. Reads markup in a text that comes in pieces, each character once.

What reads is a generator: it yields None where it needs the next piece, so that a format is written down in
the order in which a model writes it, and the places where the text was cut make no difference.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Generator
from typing import Protocol, TypeVar

from octavo.json_depth import MAX_DEPTH
from octavo.server.openai.parsing.json_object import ObjectScanner, Scan
from octavo.server.openai.parsing.pieces import Arguments, Piece, held_back

T = TypeVar("T")
Steps = Generator[Piece | None, None, T]
"""Yields None for want of text, and pieces of an answer."""

_SPACES = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(r"[-+.\w]*")
_MANY = 1 << 40
_LONGEST_HEAD = 512


@functools.cache
def any_of(marks: tuple[str, ...]) -> re.Pattern[str]:
    """The first of them in a text, all at once: one by one each search for a rare mark would read on to the
    text's end, and once more behind every frequent one."""
    return re.compile("|".join(map(re.escape, marks)))


class Scanner(Protocol):
    """Reads the next piece from `start` on, and sets `position`: where in it what is looked for ends."""

    position: int

    def scan(self, text: str, start: int) -> Scan: ...


class Cursor:
    """Attributes:
    position: How many characters were read.
    is_ended: No more text comes.
    is_cut: Because it was cut off.
    lacks_text: More might have been what was looked for at the end.
    """

    __slots__ = ("_at", "_text", "is_cut", "is_ended", "lacks_text", "position")

    def __init__(self) -> None:
        self._text = ""
        self._at = 0
        self.position = 0
        self.is_ended = False
        self.is_cut = False
        self.lacks_text = False

    def feed(self, text: str, start: int = 0) -> None:
        """The next piece is `text` from `start` on."""
        if self._at < len(self._text):
            text, start = self._text[self._at :] + text[start:], 0
        self._text, self._at = text, start

    def literal(self, *options: str) -> Steps[str | None]:
        """Reads the one of them that stands here; None where none does. The first that fits is taken."""
        while True:
            num_left = len(self._text) - self._at
            may_come = False
            for option in options:
                if num_left >= len(option):
                    if self._text.startswith(option, self._at):
                        if may_come and not self.is_ended:
                            break
                        self._move(self._at + len(option))
                        return option
                elif option.startswith(self._text[self._at :]):
                    may_come = True
            if self.is_ended or not may_come:
                self.lacks_text |= may_come
                return None
            yield None

    def closing(self, *options: str) -> Steps[bool]:
        """As `literal`; one that the end of the text cut off counts."""
        if (yield from self.literal(*options)) is not None:
            return True
        if not (yield from self.is_near(*options)):
            return False
        self._move(len(self._text))
        return True

    def is_ahead(self, *options: str) -> Steps[bool]:
        """Whether one of them stands here."""
        found = yield from self.literal(*options)
        if found is None:
            return False
        self._move(self._at - len(found))  # it lies in the text at hand as a whole
        return True

    def is_near(self, *options: str) -> Steps[bool]:
        """As `is_ahead`; one that the end of the text cut off counts."""
        if (yield from self.is_ahead(*options)):
            return True
        rest = self._text[self._at :]
        return self.is_ended and any(option.startswith(rest) for option in options)

    def spaces(self) -> Steps[str]:
        return self.word(_SPACES, _MANY)

    def word(self, characters: re.Pattern[str], most: int = 256) -> Steps[str]:
        """The characters here, up to `most`, as far as the pattern takes them."""
        parts, num_left = list[str](), most
        while True:
            found = characters.match(self._text, self._at, self._at + num_left)
            part = found.group() if found else ""
            parts.append(part)
            num_left -= len(part)
            self._move(self._at + len(part))
            if self.is_ended or self._at < len(self._text) or not num_left:
                self.lacks_text |= self._at == len(self._text) and self.is_ended
                return "".join(parts)
            yield None

    def peeked(self, characters: re.Pattern[str]) -> Steps[str]:
        """As `word`, which is left to be read."""
        found = yield from self.word(characters)
        self.unread(found)
        return found

    def until(self, end: str) -> Steps[str | None]:
        """The text before `end`, which is read too; None where the text ends before."""
        parts = list[str]()
        found = yield from self.parts_until((end,), parts.append)
        return None if found is None else "".join(parts)

    def head_until(self, end: str) -> Steps[str | None]:
        """As `until`, of a name and what belongs to it: no longer than those are, so that text which begins
        many heads and ends none is not read to its end from each of them."""
        while True:
            behind = self._at + _LONGEST_HEAD + len(end)
            place = self._text.find(end, self._at, behind)
            if place >= 0:
                head = self._text[self._at : place]
                self._move(place + len(end))
                return head
            if self.is_ended or behind <= len(self._text):
                self.lacks_text |= behind > len(self._text)
                return None
            yield None

    def parts_until(
        self, ends: tuple[str, ...], take: Callable[[str], Piece | None]
    ) -> Steps[str | None]:
        """The text before one of `ends`, as it comes: yields what `take` makes of each part of it. Returns
        which of them came behind it and was read; None where the text ends before, and then what may have
        become one is left."""
        found: str | None = None
        firsts = frozenset(end[0] for end in ends)
        while found is None:
            text, begin = self._text, self._at
            place = len(text)
            if begin or not firsts.isdisjoint(text):
                first = any_of(ends).search(text, begin)
                if first is None:
                    place = held_back(text, begin, ends)
                else:
                    found, place = first.group(), first.start()
            if place > begin:
                self._move(place)
                if (piece := take(text[begin:place])) is not None:
                    yield piece
            if found is not None:
                self._move(self._at + len(found))
            elif self._at == place and (place < len(text) or place == begin):  # no more came since
                if self.is_ended:
                    self.lacks_text = True
                    return None
                yield None
        return found

    def unread(self, text: str) -> None:
        """What was read last stands ahead again."""
        begin = self._at - len(text)
        if begin >= 0 and self._text.startswith(text, begin):
            self._at = begin
        else:  # it came with earlier pieces
            self._text, self._at = text + self._text[self._at :], 0
        self.position -= len(text)

    def drop_rest(self) -> None:
        """Reads all that is at hand."""
        self._move(len(self._text))

    def json_value(self) -> Steps[str | None]:
        """Balanced where it has brackets, with whitespace before it; None where there is none, or where it is
        deeper than `MAX_DEPTH`. What is no call is read again from each bracket in it: so each character is
        read so often at most."""
        yield from self.spaces()
        if (yield from self.is_ahead("{", "[", '"')):
            return (yield from self.balanced(ObjectScanner('{["', MAX_DEPTH)))
        return (yield from self.word(_SCALAR)) or None

    def arguments(self) -> Steps[bool]:
        """An object that begins here, as it comes; whether it ends."""
        scan, scanner = Scan.UNFINISHED, ObjectScanner()
        while scan is Scan.UNFINISHED:
            text, begin = self._text, self._at
            scan = scanner.scan(text, begin)
            end = scanner.position
            if end > begin:
                self.position += end - begin
                self._at = end
                yield Arguments(text[begin:end])
            elif scan is Scan.UNFINISHED:
                if self.is_ended:
                    return False
                yield None
        return scan is Scan.COMPLETE

    def balanced(self, scanner: Scanner, *, is_tried: bool = False) -> Steps[str | None]:
        """What the scanner finds here; where it finds nothing, all is left to be read.

        Args:
            is_tried: All is left, too, where the text ends before.
        """
        parts = list[str]()
        while True:
            found = scanner.scan(self._text, self._at)
            if found is Scan.NO_OBJECT:
                self.unread("".join(parts))
                return None
            begin, end = self._at, scanner.position
            parts.append(self._text[begin:end])
            self.position += end - begin
            self._at = end
            if found is Scan.COMPLETE:
                return "".join(parts)
            if self.is_ended:
                self.lacks_text = True
                if is_tried:
                    self.unread("".join(parts))
                return None
            yield None

    def _move(self, at: int) -> None:
        self.position += at - self._at
        self._at = at
