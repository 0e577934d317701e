"""Waiting that tells the truth: a time-out says what was awaited, what was seen last, and why.

tenacity repeats a call as well, but its error says neither what was awaited nor what was seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from host.errors import CommandError

Seen = TypeVar("Seen")
# A whole object says less than its conditions, which `explain` shows.
_LONGEST_SIGHT = 400


class WaitTimeoutError(AssertionError):
    """What was awaited did not come."""


def wait_for(
    what: str,
    look: Callable[[], Seen],
    until: Callable[[Seen], bool] = bool,
    *,
    timeout_seconds: float = 60,
    interval_seconds: float = 0.5,
    explain: Callable[[], str] = str,
) -> Seen:
    """Looks again and again until what it sees is right; returns that.

    A command that fails while we wait counts as "not yet": the object may not exist.

    Raises:
        WaitTimeoutError: with the last sight and what `explain` finds out then.
    """
    start = time.monotonic()
    seen: object = "nothing yet"
    while True:
        try:
            now = look()
            if until(now):
                return now
            seen = now
        except CommandError as failed:
            seen = failed
        if time.monotonic() - start > timeout_seconds:
            raise WaitTimeoutError(
                f"waited {timeout_seconds:g} s for {what}; last seen: {_short(seen)}\n{explain()}"
            )
        time.sleep(interval_seconds)


def _short(seen: object) -> str:
    text = str(seen)
    return text if len(text) <= _LONGEST_SIGHT else f"{text[:_LONGEST_SIGHT]}…"
