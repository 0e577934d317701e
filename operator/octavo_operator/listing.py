"""Lists in messages: a few by name, the others by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MOST_NAMED = 5


def listed(names: Sequence[str]) -> str:
    """`a, b, c, d, e and 3 more`."""
    shown = ", ".join(names[:MOST_NAMED])
    more = len(names) - MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def parted(names: Mapping[str, Sequence[str]]) -> str:
    """`x (a, b); y (c)`: who has which, for the first few of what they have."""
    return "; ".join(f"{one} ({listed(who)})" for one, who in list(names.items())[:MOST_NAMED])
