from __future__ import annotations

from octavo.server.process.lifecycle import Lifecycle, Stall, StallDetector, State


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
    lifecycle.note_bytes(600, 900)
    assert lifecycle.startup_report() == {
        "status": "starting",
        "started": False,
        "seconds": 5.0,
        "phases": [
            {"name": "resolve", "seconds": 2.0, "done": True},
            {
                "name": "load",
                "seconds": 3.0,
                "done": False,
                "bytes": 600,
                "bytes_total": 900,
                "bytes_per_second": 200,
            },
        ],
    }
    lifecycle.mark_ready()
    clock.now += 50
    assert lifecycle.startup_report()["seconds"] == 5.0
    assert lifecycle.state is State.READY


def test_a_draining_server_still_accepts_and_a_refusing_one_does_not() -> None:
    lifecycle = Lifecycle(Clock())
    assert lifecycle.accepts_requests is False
    lifecycle.mark_ready()
    for state in (State.READY, State.DRAINING):
        lifecycle.state = state
        assert lifecycle.accepts_requests
    for state in (State.REFUSING, State.STOPPED, State.FAILED):
        lifecycle.state = state
        assert not lifecycle.accepts_requests


def test_a_server_that_was_told_to_end_does_not_become_ready() -> None:
    lifecycle = Lifecycle(Clock())
    lifecycle.state = State.STOPPED
    lifecycle.mark_ready()
    assert lifecycle.state is State.STOPPED


class Watched:
    """A detector with a limit of ten seconds; an engine that answers sends something in every look."""

    def __init__(self) -> None:
        self._detector = StallDetector(limit_seconds=10)
        self._num_messages = 0

    def look(
        self, now: float, *, step: int = 5, is_busy: bool = False, answers: bool = True
    ) -> Stall | None:
        self._num_messages += answers
        self._detector.observe(step=step, num_messages=self._num_messages, is_busy=is_busy, now=now)
        return self._detector.stall


def test_steps_are_progress() -> None:
    engine = Watched()
    assert all(engine.look(now, step=now, is_busy=True) is None for now in range(100))


def test_an_idle_engine_that_answers_is_not_stalled() -> None:
    engine = Watched()
    assert engine.look(0) is None
    assert engine.look(1000) is None
    assert engine.look(1001, is_busy=True) is None


def test_work_without_steps_is_a_stall_until_a_step_comes() -> None:
    engine = Watched()
    engine.look(0, is_busy=True)
    assert engine.look(10, is_busy=True) is None
    assert engine.look(10.5, is_busy=True) is Stall.NO_STEPS
    assert engine.look(11, is_busy=True, step=6) is None


def test_silence_is_a_stall_although_the_clients_have_left() -> None:
    engine = Watched()
    engine.look(0, is_busy=True)
    assert engine.look(9, is_busy=False, answers=False) is None
    assert engine.look(10, is_busy=False, answers=False) is None
    assert engine.look(10.5, is_busy=False, answers=False) is Stall.SILENT
    assert engine.look(11, is_busy=False) is None


def test_clients_that_come_and_go_do_not_hide_a_silent_engine() -> None:
    engine = Watched()
    engine.look(0)
    stalls = [engine.look(now, is_busy=bool(now % 2), answers=False) for now in range(1, 12)]
    assert stalls == [None] * 10 + [Stall.SILENT]
