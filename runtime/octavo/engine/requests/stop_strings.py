"""Stop strings. Finds stop strings in a stream of text pieces, wherever the pieces are cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from octavo.engine.requests.marked_text import MarkedText


@dataclass(frozen=True, slots=True)
class StopMatch:
    """`text` may be shown; with `stop_string` set the output ends there."""

    text: MarkedText
    stop_string: str | None = None


class StopStringFinder:
    """Holds back the shortest tail that may still grow into a stop string.

    The result is that of reading character by character: the stop string that is complete first wins (of
    two that end at the same place the longer one), so it does not depend on how tokens cut the text. It is
    looked for with the special tokens in the text, for it may be one, and without them, as it would show.
    """

    __slots__ = ("_held", "_stops")

    def __init__(self, stop_strings: Sequence[str]) -> None:
        self._stops = tuple(stop_strings)
        self._held = MarkedText()

    def push(self, piece: MarkedText) -> StopMatch:
        """Takes the next piece; returns what is certain not to belong to a stop string."""
        if not self._stops:
            return StopMatch(piece)
        text = self._held + piece
        found = self._find(text)
        if found is not None:
            self._held = MarkedText()
            start, stop = found
            return StopMatch(text[:start], stop)
        start = self._possible_start(text.text)
        if text.hidden:
            start = min(start, text.place_of(self._possible_start(text.shown)))
            start = next((begin for begin, end in text.hidden if begin < start < end), start)
        self._held = text[start:]
        return StopMatch(text[:start])

    def flush(self) -> MarkedText:
        """What was held back, once no more text follows."""
        text, self._held = self._held, MarkedText()
        return text

    def _find(self, text: MarkedText) -> tuple[int, str] | None:
        """Where the stop string that is complete first begins, and which it is."""
        found = [(end, start, stop) for stop in self._stops for start, end in _places(text, stop)]
        if not found:
            return None
        _, start, stop = min(found)
        return start, stop

    def _possible_start(self, text: str) -> int:
        """The first position from which the text's end is a proper prefix of a stop string."""
        earliest = len(text)
        for stop in self._stops:
            first = stop[0]
            start = text.find(first, max(0, len(text) - len(stop) + 1), earliest)
            while start >= 0:
                if stop.startswith(text[start:]):
                    earliest = start
                    break
                start = text.find(first, start + 1, earliest)
        return earliest


def _places(text: MarkedText, stop: str) -> Iterator[tuple[int, int]]:
    """The first place of `stop` with the special tokens, of which it may hold none in part, and the first
    without them."""
    start = text.text.find(stop)
    while start >= 0 and any(
        begin < start < end or begin < start + len(stop) < end for begin, end in text.hidden
    ):
        start = text.text.find(stop, start + 1)
    if start >= 0:
        yield start, start + len(stop)
    if text.hidden and (start := text.shown.find(stop)) >= 0:
        yield text.place_of(start), text.place_of(start + len(stop) - 1) + 1
