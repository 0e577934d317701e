"""Interrupts. Ctrl-C that waits for a place where nothing is half-done.

Python raises `KeyboardInterrupt` between any two of its instructions. In the middle of a step it would leave
blocks that nobody owns and sequences that nobody runs, in an engine that the caller goes on to use.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], None]]:
    """Holds SIGINT back; yields a function that lets through what came, which mostly raises.

    What came after the last call of it is let through on leaving. Where SIGINT has no handler of Python's, or
    in a thread that never gets signals, nothing is changed.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[FrameType | None] = []

    def let_through() -> None:
        if came:
            frame = came.pop()
            came.clear()
            handler(signal.SIGINT, frame)

    signal.signal(signal.SIGINT, lambda _, frame: came.append(frame))
    try:
        yield let_through
    finally:
        signal.signal(signal.SIGINT, handler)
    let_through()
