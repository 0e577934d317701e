"""Output text together with the special tokens that a reader does not get to see.

Markup is often made of special tokens: the tags of a tool call, the end of a turn. Whoever looks for it
needs the text with them, while what is shown has none of them: so their places are kept, and they are
left out last.
"""

from __future__ import annotations

import bisect
import operator
from collections.abc import Sequence

import msgspec

Span = tuple[int, int]
"""Begin and end in characters."""


class MarkedText(msgspec.Struct, frozen=True, gc=False):
    """`hidden` are the places of special tokens in `text`, in order, when those are to be skipped."""

    text: str = ""
    hidden: tuple[Span, ...] = ()

    @property
    def shown(self) -> str:
        if not self.hidden:
            return self.text
        parts, position = [], 0
        for begin, end in self.hidden:
            parts.append(self.text[position:begin])
            position = end
        return "".join([*parts, self.text[position:]])

    def __getitem__(self, places: slice) -> MarkedText:
        """A contiguous part; special tokens that lie in it in part are hidden in part."""
        begin, end, _ = places.indices(len(self.text))
        if end - begin == len(self.text):
            return self
        if not self.hidden:
            return MarkedText(self.text[begin:end])
        first_in = bisect.bisect_right(self.hidden, begin, key=_END)
        first_behind = bisect.bisect_left(self.hidden, end, key=_BEGIN)
        hidden = tuple(
            (max(first, begin) - begin, min(last, end) - begin)
            for first, last in self.hidden[first_in:first_behind]
        )
        return MarkedText(self.text[begin:end], hidden)

    def __add__(self, other: MarkedText) -> MarkedText:
        if not other.text:
            return self
        length = len(self.text)
        moved = tuple((begin + length, end + length) for begin, end in other.hidden)
        return MarkedText(self.text + other.text, self.hidden + moved)

    def __len__(self) -> int:
        return len(self.text)


def joined(texts: Sequence[MarkedText]) -> MarkedText:
    """One after another, in time that grows with their length: answers are made of a piece a token."""
    if len(texts) == 1:
        return texts[0]
    hidden: list[Span] = []
    length = 0
    for part in texts:
        hidden += [(begin + length, end + length) for begin, end in part.hidden]
        length += len(part.text)
    return MarkedText("".join(part.text for part in texts), tuple(hidden))


_BEGIN = operator.itemgetter(0)
_END = operator.itemgetter(1)
