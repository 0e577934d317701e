from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_operator.workqueue import (
    FIRST_BACKOFF_SECONDS,
    LONGEST_BACKOFF_SECONDS,
    WorkQueue,
    backoff_seconds,
)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


_LAST = "last"


class Recorder:
    """Work that takes a moment, and notes what ran and how much at once."""

    def __init__(self, workers: int = 4, fail: int = 0, again: float | None = None) -> None:
        self.done: list[str] = []
        self.errors: list[tuple[str, float]] = []
        self.running: dict[str, int] = {}
        self.most_at_once = 0
        self.most_per_key = 0
        self.started, self.may_end = asyncio.Event(), asyncio.Event()
        self.may_end.set()
        self._fail, self._again = fail, again
        self.queue: WorkQueue[str] = WorkQueue(
            self.work, lambda key, _error, delay: self.errors.append((key, delay)), workers
        )

    async def work(self, key: str) -> float | None:
        self.running[key] = self.running.get(key, 0) + 1
        self.most_per_key = max(self.most_per_key, self.running[key])
        self.most_at_once = max(self.most_at_once, sum(self.running.values()))
        self.started.set()
        await asyncio.sleep(0.01)
        await self.may_end.wait()
        self.running[key] -= 1
        self.done.append(key)
        if len(self.done) <= self._fail:
            raise ValueError(key)
        return None if key == _LAST else self._again

    async def until(self, count: int) -> None:
        """Runs the queue until so much is done, and all that is due by then."""
        task = asyncio.create_task(self.queue.run())
        while len(self.done) < count:
            await asyncio.sleep(0.005)
        self.queue.add(_LAST)
        while _LAST not in self.done:
            await asyncio.sleep(0.005)
        self.done.remove(_LAST)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_key_that_waits_is_not_added_again() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        for _ in range(100):
            recorder.queue.add("a")
        await recorder.until(1)
        assert recorder.done == ["a"]

    run(scenario)


def test_a_key_added_while_it_is_worked_on_runs_once_more() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        recorder.may_end.clear()
        recorder.queue.add("a")
        task = asyncio.create_task(recorder.until(2))
        await recorder.started.wait()
        for _ in range(10):
            recorder.queue.add("a")
        recorder.may_end.set()
        await task
        assert recorder.done == ["a", "a"]
        assert recorder.most_per_key == 1

    run(scenario)


def test_different_keys_run_at_once_up_to_the_bound() -> None:
    async def scenario() -> None:
        recorder = Recorder(workers=3)
        for index in range(12):
            recorder.queue.add(f"key-{index}")
        await recorder.until(12)
        assert recorder.most_at_once == 3
        assert sorted(recorder.done) == sorted(f"key-{index}" for index in range(12))

    run(scenario)


def test_news_stand_behind_all_others_and_are_not_lost() -> None:
    async def scenario() -> None:
        recorder = Recorder(workers=1)
        recorder.may_end.clear()
        for key in ("running", "behind-1", "behind-2", "both"):
            recorder.queue.add_behind(key)
        task = asyncio.create_task(recorder.until(6))
        await recorder.started.wait()
        recorder.queue.add("user")
        recorder.queue.add("both")
        for key in ("user", "both", "behind-1", "running"):
            recorder.queue.add_behind(key)
        assert recorder.queue.depth == 4
        recorder.may_end.set()
        await task
        assert recorder.done == ["running", "user", "both", "behind-1", "behind-2", "running"]

    run(scenario)


def test_a_failed_key_comes_back_and_the_others_are_not_held_up() -> None:
    async def scenario() -> None:
        recorder = Recorder(workers=1, fail=1)
        recorder.queue.add("bad")
        recorder.queue.add("good")
        await recorder.until(3)
        assert recorder.done == ["bad", "good", "bad"]
        ((key, delay),) = recorder.errors
        assert key == "bad"
        assert FIRST_BACKOFF_SECONDS / 2 <= delay <= FIRST_BACKOFF_SECONDS

    run(scenario)


def test_a_key_may_ask_to_come_back() -> None:
    async def scenario() -> None:
        recorder = Recorder(again=0.01)
        recorder.queue.add("a")
        await recorder.until(3)
        assert len(recorder.done) >= 3

    run(scenario)


def test_the_earlier_of_two_times_holds_and_adding_overtakes_both() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        recorder.queue.add_after("a", 60)
        recorder.queue.add_after("a", 0.01)
        recorder.queue.add_after("a", 60)
        recorder.queue.add_after("b", 60)
        recorder.queue.add("b")
        await recorder.until(2)
        assert sorted(recorder.done) == ["a", "b"]

    run(scenario)


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_the_delay_grows_to_its_bound_and_is_never_nothing(failures: int, fraction: float) -> None:
    delay = backoff_seconds(failures, fraction)
    assert FIRST_BACKOFF_SECONDS / 2 <= delay <= LONGEST_BACKOFF_SECONDS
    assert backoff_seconds(failures + 1, fraction) >= delay


def test_the_delay_doubles() -> None:
    assert backoff_seconds(3, 0.5) == pytest.approx(4 * backoff_seconds(1, 0.5))
