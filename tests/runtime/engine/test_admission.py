from __future__ import annotations

import pytest

from octavo.engine.admission import Admission
from octavo.engine.messages import EngineStats
from octavo.errors import QueueFullError


def stats(running: int = 0, waiting: int = 0) -> EngineStats:
    return EngineStats(1, running, waiting, 100, 0, 0, 0, 0, 0)


def test_free_places_are_room_until_what_is_under_way_takes_them() -> None:
    admission = Admission(max_queued=2, max_running=4)
    idle = stats()
    for num_under_way in range(6):
        admission.admit(1, idle, num_under_way, now=0.0)
    with pytest.raises(QueueFullError, match="6 sequences wait"):
        admission.admit(1, idle, 6, now=0.0)


def test_what_the_engine_left_waiting_leaves_no_room_beyond_the_queue() -> None:
    admission = Admission(max_queued=2, max_running=4)
    short_of_blocks = stats(running=1, waiting=1)
    admission.admit(1, short_of_blocks, 0, now=0.0)
    with pytest.raises(QueueFullError, match="2 sequences wait and at most 2"):
        admission.admit(1, short_of_blocks, 1, now=0.0)


def test_a_refused_request_is_not_counted() -> None:
    admission = Admission(max_queued=2, max_running=1)
    busy = stats(running=1)
    with pytest.raises(QueueFullError):
        admission.admit(3, busy, 0, now=0.0)
    admission.admit(2, busy, 0, now=0.0)


def test_an_idle_server_takes_one_request_however_wide() -> None:
    Admission(max_queued=1, max_running=1).admit(128, stats(), 0, now=0.0)
    with pytest.raises(QueueFullError):
        Admission(max_queued=1, max_running=1).admit(129, stats(), 0, now=0.0)


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
        admission.admit(1 + excess, stats(running=1), 0, now=now)
    assert caught.value.retry_after_seconds == expected


PACES = [
    # Bursts with ten idle minutes between them: what counts is the pace of the latest one.
    ([*(0.1 * i for i in range(8)), 600.0, 600.1, 600.2], 1, 600.3, 1),
    ([0.0, 2.0, 4.0], 3, 6.0, 6),
    # Eight at a time every ten seconds.
    ([10.0 * (i // 8) for i in range(32)], 8, 40.0, 10),
]


@pytest.mark.parametrize(("finish_times", "excess", "now", "expected"), PACES)
@pytest.mark.parametrize("is_accounted", [False, True])
def test_idle_time_is_no_part_of_the_pace(
    finish_times: list[float], excess: int, now: float, expected: int, is_accounted: bool
) -> None:
    admission = Admission(max_queued=1, max_running=64)
    for time in finish_times:
        if is_accounted:
            admission.admit(1, stats(), 0, now=time - 0.05)
        admission.count_finished(time)
        if is_accounted and time - 0.05 > 1:
            admission.release(1)
    full = stats(running=64)
    with pytest.raises(QueueFullError) as caught:
        admission.admit(1 + excess, full, 0, now=now)
    assert caught.value.retry_after_seconds == expected


def test_a_place_that_is_taken_all_along_is_not_a_full_engine() -> None:
    """Beside one answer that takes minutes a few come and go; then a burst fills the queue."""
    admission = Admission(max_queued=1, max_running=2)
    admission.admit(1, stats(), 0, now=0.0)
    for now in (*range(10, 600, 20), 600):
        admission.admit(1, stats(running=1), 0, now=now)
        admission.count_finished(now + 0.2)
        admission.release(1)
    admission.admit(1, stats(running=1), 0, now=600.3)
    with pytest.raises(QueueFullError) as caught:
        admission.admit(4, stats(running=2), 0, now=600.4)
    assert caught.value.retry_after_seconds == 1


def test_who_comes_first_after_an_idle_hour_is_told_of_no_wait() -> None:
    """The idle minute before the burst is within the window, and none of its requests has finished."""
    admission = Admission(max_queued=1, max_running=1)
    admission.admit(1, stats(), 0, now=0.0)
    admission.count_finished(1.0)
    admission.release(1)
    admission.admit(1, stats(), 0, now=50.0)
    with pytest.raises(QueueFullError) as caught:
        admission.admit(3, stats(running=1), 0, now=50.5)
    assert caught.value.retry_after_seconds == 1


def test_a_full_queue_still_takes_a_quiet_tenants_part() -> None:
    admission = Admission(max_queued=8, max_running=1)
    full = stats(waiting=8, running=1)
    admission.admit(8, stats(), 0, now=0.0, tenant="loud")
    admission.admit(3, full, 0, now=0.0, tenant="quiet")
    admission.admit(1, full, 3, now=0.0, tenant="quiet")
    for tenant in ("loud", "quiet"):  # each has its half
        with pytest.raises(QueueFullError):
            admission.admit(1, full, 4, now=0.0, tenant=tenant)
    admission.release(4, "quiet")
    with pytest.raises(QueueFullError):  # alone it has the whole queue, and has filled it
        admission.admit(1, full, 0, now=0.0, tenant="loud")
