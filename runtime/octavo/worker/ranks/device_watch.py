"""Device watch: notices beside whoever waits for a GPU that what it waits for never comes.

A sum over GPUs waits on the GPU for all ranks, and its host for the GPU: nobody is there to see that another
rank's process is gone, or hangs, or that a GPU has failed. So threads look.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

# Of the time that a wait may take: how often a thread looks at it.
_LOOKS = 4
_LEAST_LOOK_SECONDS = 0.01
_QUERY_SECONDS = 0.1


class DeviceWatch:
    """Ends waits for other ranks.

    Args:
        lifelines: Descriptors that become readable when a process ends without which nothing comes.
        seconds: That a wait may take.
        end_waits: Called once, when a lifeline has ended or a wait takes longer, by the watch's thread or in
            `check`.
    """

    def __init__(
        self, lifelines: Sequence[int], seconds: float, end_waits: Callable[[], None]
    ) -> None:
        self._seconds = seconds
        self.has_lost = False
        self._lifelines = lifelines
        self._end_waits = end_waits
        self._deadline: float | None = None
        self._is_closed = False
        self._lock = threading.Lock()
        self._wakes, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._look, name="device watch", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def over(self, seconds: float | None = None) -> Iterator[None]:
        """A wait, which may end by the watch; of so many seconds where it may take longer than others."""
        self._deadline = time.monotonic() + (seconds or self._seconds)
        with self._lock:
            if not self._is_closed:
                os.write(self._wake, b"!")
        try:
            yield
        finally:
            self._deadline = None

    def check(self) -> bool:
        """Whether all is well: who does not ask takes for a result what an ended wait left behind."""
        if self._is_closed:
            return False
        if not self.has_lost and select.select(self._lifelines, (), (), 0)[0]:
            self._lose()
        return not self.has_lost

    def close(self) -> None:
        """Looks no more, at descriptors that may be others' from now on. Safe to repeat."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        os.write(self._wake, b"!")
        if threading.current_thread() is not self._thread:
            self._thread.join()
        os.close(self._wake)
        os.close(self._wakes)

    def _look(self) -> None:
        while not self.has_lost and not self._is_closed:
            ready, _, _ = select.select((*self._lifelines, self._wakes), (), (), self._patience())
            if self._wakes in ready:
                os.read(self._wakes, 64)
            deadline = self._deadline
            is_late = deadline is not None and time.monotonic() > deadline
            if is_late or any(one in ready for one in self._lifelines):
                self._lose()

    def _patience(self) -> float | None:
        """While nothing is waited for a lifeline alone is looked at."""
        if self._deadline is None:
            return None
        return max(self._seconds / _LOOKS, _LEAST_LOOK_SECONDS)

    def _lose(self) -> None:
        with self._lock:
            if self.has_lost or self._is_closed:
                return
            self.has_lost = True
        self._end_waits()


class Event(Protocol):
    """As torch's, of a device."""

    def query(self) -> bool: ...


class FaultWatch:
    """Asks for each step whether it is done: a GPU tells nobody by itself that it failed, and a rank that
    samples nothing never asks.

    Args:
        tell: Gets what a GPU answered that has failed. It is asked no more.
    """

    def __init__(self, tell: Callable[[Exception], None]) -> None:
        self._tell = tell
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        threading.Thread(target=self._ask, name="fault watch", daemon=True).start()

    def follow(self, event: Event) -> None:
        """Which is recorded behind a step."""
        self._events.put(event)

    def _ask(self) -> None:
        while True:
            event = self._events.get()
            try:
                while not event.query():
                    time.sleep(_QUERY_SECONDS)
            except Exception as error:
                self._tell(error)
                return
