"""N-gram index. Where the last tokens of a sequence stood before, and what followed them there.

Hash chains, as LZ77 compressors search by them (Deutsch, 1996, RFC 1951): a table holds where each run of
`least` tokens stood last, and every place names the one before it with the same run. A look-up follows a
bounded number of these and keeps the longest match, so that neither it nor a new token costs more in a
longer sequence.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

_TOKEN_BITS = 32
_MAX_PLACES = 8


class NgramIndex:
    """Of one sequence, which only grows.

    Args:
        least: Tokens that must match.
        most: Tokens that are compared at most; of longer matches the latest counts.
    """

    __slots__ = ("_before", "_key", "_last", "_least", "_mask", "_most", "_tokens")

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most
        self._tokens: list[int] = []
        self._last: dict[int, int] = {}
        self._before = array("i")
        self._key = 0
        self._mask = (1 << (least * _TOKEN_BITS)) - 1

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, token_ids: Sequence[int]) -> None:
        """The sequence goes on with these."""
        tokens, last, before = self._tokens, self._last, self._before
        key, mask, least = self._key, self._mask, self._least
        for place, token in enumerate(token_ids, len(tokens)):
            if place >= least:
                before.append(last.get(key, -1))
                last[key] = place
            else:
                before.append(-1)
            key = (key << _TOKEN_BITS | token) & mask
        tokens.extend(token_ids)
        self._key = key

    def look_up(self, count: int) -> tuple[list[int], int]:
        """The `count` tokens that followed the longest match of the sequence's end, and that match's length,
        at most `most`; of equally long ones the latest. Nothing and 0 where there is none."""
        if len(self._tokens) < self._least:
            return [], 0
        place = self._last.get(self._key, -1)
        best, length = -1, 0
        for _ in range(_MAX_PLACES):
            if place < 0 or length == self._most:
                break
            found = self._match(place)
            if found > length:
                best, length = place, found
            place = self._before[place]
        if best < 0:
            return [], 0
        return self._following(best, count), length

    def _match(self, place: int) -> int:
        """How many tokens before `place` are those at the end."""
        tokens, end = self._tokens, len(self._tokens)
        length, most = self._least, min(self._most, place)
        while length < most and tokens[place - 1 - length] == tokens[end - 1 - length]:
            length += 1
        return length

    def _following(self, place: int, count: int) -> list[int]:
        """What is copied may reach beyond the end: then it repeats itself."""
        found = self._tokens[place : place + count]
        period = len(self._tokens) - place
        while len(found) < count:
            found.append(found[len(found) - period])
        return found
