"""Work queue, keyed: every key is worked on by one worker at a time, and at most once per change.

A key that is added while it waits is not added again; one that is added while it is worked on runs
once more afterwards. News that nobody waits for stand behind all others. A worker that fails puts its key
back after a delay that doubles with each failure in a row, jittered so that many failing keys do not return
together.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AsyncExitStack
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 60.0


def backoff_seconds(failures: int, fraction: float) -> float:
    """How long to wait after this many failures in a row: the doubled delay, of which the upper half
    is jittered by `fraction` in [0, 1)."""
    delay: float = min(
        LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 30)
    )
    return delay * (0.5 + fraction / 2)


class WorkQueue(Generic[Key]):
    """Runs `work(key)` for the keys that are added, on `workers` tasks.

    `work` returns the seconds after which the key wants to be looked at again, or None. What it
    raises goes to `on_error(key, error, retry_in_seconds)`.
    """

    def __init__(
        self,
        work: Callable[[Key], Awaitable[float | None]],
        on_error: Callable[[Key, Exception, float], None],
        workers: int,
    ) -> None:
        self._work = work
        self._on_error = on_error
        self._worker_count = workers
        self._waiting: deque[Key] = deque()
        self._behind: dict[Key, None] = {}
        self._queued: set[Key] = set()
        self._running: dict[Key, float] = {}
        self._dirty: set[Key] = set()
        self._dirty_behind: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()
        self._random = random.Random()  # noqa: S311 (spreads retries, guards nothing)

    @property
    def depth(self) -> int:
        """Keys that wait for a worker now."""
        return len(self._waiting) + len(self._behind)

    @property
    def longest_seconds(self) -> float:
        """How long the work that began first among what is in hand has taken; 0 when none is."""
        now = asyncio.get_running_loop().time()
        return max((now - since for since in self._running.values()), default=0.0)

    def add(self, key: Key) -> None:
        """Soon. Replaces a later time that was set for the key."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._running:
            self._dirty.add(key)
        elif key not in self._queued:
            self._behind.pop(key, None)
            self._queued.add(key)
            self._waiting.append(key)
            self._wake.set()

    def add_behind(self, key: Key) -> None:
        """When nothing else waits; a later `add` of the key takes it forward."""
        if key in self._running:
            self._dirty_behind.add(key)
        elif key not in self._queued:
            self._behind.setdefault(key)
            self._wake.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """After this time, unless an earlier one is set already."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self.add, key)

    async def run(self) -> None:
        """Works until it is cancelled. The work in hand is cancelled with it."""
        async with AsyncExitStack() as stack:
            stack.callback(self._cancel_timers)
            async with asyncio.TaskGroup() as group:
                for index in range(self._worker_count):
                    group.create_task(self._worker(), name=f"worker-{index}")

    async def _worker(self) -> None:
        while True:
            while not self.depth:
                self._wake.clear()
                await self._wake.wait()
            key = self._next()
            self._running[key] = asyncio.get_running_loop().time()
            try:
                await self._process(key)
            finally:
                del self._running[key]
                # The first counts for both.
                for dirty, again in (
                    (self._dirty, self.add),
                    (self._dirty_behind, self.add_behind),
                ):
                    if key in dirty:
                        dirty.discard(key)
                        again(key)

    def _next(self) -> Key:
        if self._waiting:
            key = self._waiting.popleft()
            self._queued.discard(key)
        else:
            key = next(iter(self._behind))
            del self._behind[key]
        return key

    async def _process(self, key: Key) -> None:
        try:
            again_seconds = await self._work(key)
        except Exception as error:
            failures = self._failures.get(key, 0) + 1
            self._failures[key] = failures
            delay = backoff_seconds(failures, self._random.random())
            self._on_error(key, error, delay)
            self.add_after(key, delay)
            return
        self._failures.pop(key, None)
        if again_seconds is not None:
            self.add_after(key, again_seconds)

    def _cancel_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
