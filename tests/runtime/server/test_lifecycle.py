from __future__ import annotations

from octavo.server.lifecycle import Lifecycle, StallDetector, State


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_phases_are_timed_one_after_the_other() -> None:
    clock = Clock()
    lifecycle = Lifecycle(clock)
    assert lifecycle.begin_phase("resolve") is None
    clock.now += 2
    ended = lifecycle.begin_phase("load")
    assert ended is not None
    assert (ended.name, ended.seconds, ended.is_done) == ("resolve", 2.0, True)
    clock.now += 3
    assert lifecycle.startup_report() == {
        "status": "starting",
        "started": False,
        "seconds": 5.0,
        "phases": [
            {"name": "resolve", "seconds": 2.0, "done": True},
            {"name": "load", "seconds": 3.0, "done": False},
        ],
    }
    lifecycle.mark_ready()
    clock.now += 50
    assert lifecycle.startup_report()["seconds"] == 5.0
    assert lifecycle.state is State.READY


def test_a_draining_server_still_accepts_and_a_refusing_one_does_not() -> None:
    lifecycle = Lifecycle(Clock())
    assert not lifecycle.accepts_requests
    lifecycle.mark_ready()
    assert lifecycle.accepts_requests
    lifecycle.state = State.DRAINING
    assert lifecycle.accepts_requests
    for state in (State.REFUSING, State.STOPPED, State.FAILED):
        lifecycle.state = state
        assert not lifecycle.accepts_requests


def test_a_server_that_was_told_to_end_does_not_become_ready() -> None:
    lifecycle = Lifecycle(Clock())
    lifecycle.state = State.STOPPED
    lifecycle.mark_ready()
    assert lifecycle.state is State.STOPPED


def test_steps_are_progress() -> None:
    detector = StallDetector(limit_seconds=10)
    for second in range(100):
        detector.observe(step=second, is_busy=True, now=float(second))
    assert not detector.is_stalled


def test_an_idle_engine_is_not_stalled() -> None:
    detector = StallDetector(limit_seconds=10)
    detector.observe(step=5, is_busy=False, now=0.0)
    detector.observe(step=5, is_busy=False, now=1000.0)
    assert not detector.is_stalled
    detector.observe(step=5, is_busy=True, now=1001.0)
    assert not detector.is_stalled


def test_work_without_steps_is_a_stall_until_a_step_comes() -> None:
    detector = StallDetector(limit_seconds=10)
    detector.observe(step=5, is_busy=True, now=0.0)
    detector.observe(step=5, is_busy=True, now=10.0)
    assert not detector.is_stalled
    detector.observe(step=5, is_busy=True, now=10.5)
    assert detector.is_stalled
    detector.observe(step=6, is_busy=True, now=11.0)
    assert not detector.is_stalled
