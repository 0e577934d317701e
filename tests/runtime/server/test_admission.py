from __future__ import annotations

import pytest

from octavo.engine.messages import EngineStats
from octavo.errors import QueueFullError
from octavo.server.http.admission import Admission


def stats(running: int = 0, waiting: int = 0) -> EngineStats:
    return EngineStats(1, running, waiting, 100, 0, 0, 0, 0, 0)


def test_free_places_count_as_room() -> None:
    admission = Admission(max_queued=2, max_running=4)
    idle = stats()
    for _ in range(6):
        admission.admit(1, idle, now=0.0)
    with pytest.raises(QueueFullError):
        admission.admit(1, idle, now=0.0)


def test_what_the_engine_left_waiting_leaves_no_room_beyond_the_queue() -> None:
    admission = Admission(max_queued=2, max_running=4)
    short_of_blocks = stats(running=1, waiting=1)
    admission.admit(1, short_of_blocks, now=0.0)
    with pytest.raises(QueueFullError, match="2 sequences wait and at most 2"):
        admission.admit(1, short_of_blocks, now=0.0)


def test_new_statistics_know_of_what_was_sent_before_them() -> None:
    admission = Admission(max_queued=1, max_running=1)
    first = stats()
    admission.admit(1, first, now=0.0)
    assert admission.num_unsent(first) == 1
    second = stats(running=1)
    assert admission.num_unsent(second) == 0
    admission.admit(1, second, now=0.0)
    with pytest.raises(QueueFullError):
        admission.admit(1, second, now=0.0)


def test_a_refused_request_is_not_counted() -> None:
    admission = Admission(max_queued=2, max_running=1)
    busy = stats(running=1)
    with pytest.raises(QueueFullError):
        admission.admit(3, busy, now=0.0)
    admission.admit(2, busy, now=0.0)


def test_an_idle_server_takes_one_request_however_wide() -> None:
    Admission(max_queued=1, max_running=1).admit(128, stats(), now=0.0)
    with pytest.raises(QueueFullError):
        Admission(max_queued=1, max_running=1).admit(129, stats(), now=0.0)


@pytest.mark.parametrize(
    ("finish_times", "excess", "expected"),
    [([], 1, 1), ([0.0, 2.0, 4.0], 3, 6), ([0.0, 0.01], 1, 1), ([0.0, 1000.0], 50, 60)],
)
def test_retry_after_follows_the_pace_of_completions(
    finish_times: list[float], excess: int, expected: int
) -> None:
    admission = Admission(max_queued=1, max_running=1)
    for time in finish_times:
        admission.count_finished(time)
    now = finish_times[-1] + (finish_times[-1] - finish_times[-2]) if finish_times else 0.0
    with pytest.raises(QueueFullError) as caught:
        admission.admit(1 + excess, stats(running=1), now=now)
    assert caught.value.retry_after_seconds == expected
