"""Stop strings. Finds stop strings in a stream of text pieces, wherever the pieces are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopMatch:
    """`text` may be shown; with `stop_string` set the output ends there."""

    text: str
    stop_string: str | None = None


class StopStringFinder:
    """Holds back the shortest tail that may still grow into a stop string.

    The result is that of reading character by character: the stop string that is complete first wins (of
    two that end at the same place the longer one), so it does not depend on how tokens cut the text.
    """

    __slots__ = ("_held", "_stops")

    def __init__(self, stop_strings: Sequence[str]) -> None:
        self._stops = tuple(stop_strings)
        self._held = ""

    def push(self, piece: str) -> StopMatch:
        """Takes the next piece; returns what is certain not to belong to a stop string."""
        if not self._stops:
            return StopMatch(piece)
        text = self._held + piece
        found = self._find(text)
        if found is not None:
            self._held = ""
            start, stop = found
            return StopMatch(text[:start], stop)
        keep = len(text) - self._possible_start(text)
        self._held = text[len(text) - keep :] if keep else ""
        return StopMatch(text[: len(text) - keep])

    def flush(self) -> str:
        """What was held back, once no more text follows."""
        text, self._held = self._held, ""
        return text

    def _find(self, text: str) -> tuple[int, str] | None:
        best: tuple[int, int, str] | None = None
        for stop in self._stops:
            start = text.find(stop)
            if start >= 0 and (best is None or (start + len(stop), start) < best[:2]):
                best = (start + len(stop), start, stop)
        return None if best is None else (best[1], best[2])

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
