"""Progress of bytes: how much of a download, or of the weights, has come, told a few times a second.

Weights are read deep inside of a start, and a load needs no one who listens: whoever wants to hear says so
around it (`telling`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Tell = Callable[[int, int], None]
"""Hears of bytes that have come, and of how many there are in all, as far as is known."""

_PERIOD_SECONDS = 0.5
_TELL: ContextVar[Tell | None] = ContextVar("octavo_bytes_told_to", default=None)


@contextmanager
def telling(tell: Tell) -> Iterator[None]:
    """What is loaded in this context, and in no other thread, is told of until it ends."""
    token = _TELL.set(tell)
    try:
        yield
    finally:
        _TELL.reset(token)


def told_now() -> Tell | None:
    """Who hears of what is loaded here."""
    return _TELL.get()


class ByteCount:
    """Bytes of one download or load; several threads may add.

    Args:
        tell: None: nobody hears of it.
        clock: Monotonic seconds.
    """

    def __init__(
        self, tell: Tell | None, total: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._told_at = clock()
        self._done, self._total = 0, total

    def expect(self, total: int) -> None:
        """So many are there in all."""
        with self._lock:
            self._total = total

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            now = self._clock()
            is_due = now - self._told_at >= _PERIOD_SECONDS
            if is_due:
                self._told_at = now
            done, total = self._done, max(self._total, self._done)
        if is_due and self._tell is not None:
            self._tell(done, total)

    def finish(self) -> None:
        """All are there: those that nobody asked for, too."""
        if self._tell is not None and self._total:
            self._tell(self._total, self._total)
