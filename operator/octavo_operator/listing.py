"""Lists in messages: a few by name, the others by number."""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAMED = 5


def listed(names: Sequence[str]) -> str:
    """`a, b, c, d, e and 3 more`."""
    shown = ", ".join(names[:MOST_NAMED])
    more = len(names) - MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown
