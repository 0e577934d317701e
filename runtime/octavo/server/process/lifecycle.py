"""Lifecycle. Where one server stands between its start and its end: what probes, drain and start-up log read.

Pure: the clock is passed in, so that tests count in numbers.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class State(enum.Enum):
    """`STARTING` → `READY` → `DRAINING` (still answers) → `REFUSING` (running ones finish) → `STOPPED`.

    `READY` → `FALLING_ASLEEP` → `SLEEPING`, and back from both: see `SleepSwitch`. `FAILED`: the engine ended
    on its own.
    """

    STARTING = "starting"
    READY = "ready"
    FALLING_ASLEEP = "falling_asleep"
    SLEEPING = "sleeping"
    DRAINING = "draining"
    REFUSING = "refusing"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(slots=True)
class Phase:
    """One part of the start-up. `seconds` counts on until `is_done`.

    Args:
        bytes_done, bytes_total: Of a download or of weights; 0 in phases that have none.
    """

    name: str
    started_at: float
    seconds: float = 0.0
    is_done: bool = False
    bytes_done: int = 0
    bytes_total: int = 0


class Adapters(Protocol):
    """The LoRA adapters of a server as far as its start's report tells of them."""

    @property
    def names(self) -> list[str]: ...

    @property
    def content(self) -> str: ...


class Lifecycle:
    """The state and the start-up's phases.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started_at = clock()
        self._state = State.STARTING
        self.on_state: Callable[[State], None] | None = None
        """Told of each new state."""
        self.phases: list[Phase] = []
        self.startup_seconds: float | None = None
        self.commit: str | None = None
        """Of a hub's model, once it is resolved."""
        self.content: str | None = None
        """Of any other model's folder: see `octavo.loading.content`."""
        self.adapters: Adapters | None = None
        """Those that requests may have, of a server that takes some."""

    @property
    def state(self) -> State:
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        if self.on_state is not None:
            self.on_state(state)

    def begin_phase(self, name: str) -> Phase | None:
        """Ends the current phase, begins `name` and returns the one that ended."""
        ended = self._end_phase()
        self.phases.append(Phase(name, self._clock()))
        return ended

    def note_bytes(self, done: int, total: int) -> None:
        """Of the current phase."""
        if self.phases and not self.phases[-1].is_done:
            self.phases[-1].bytes_done, self.phases[-1].bytes_total = done, total

    def mark_ready(self) -> Phase | None:
        """The model answers. Returns the last phase."""
        ended = self._end_phase()
        self.startup_seconds = self._clock() - self._started_at
        if self.state is State.STARTING:
            self.state = State.READY
        return ended

    @property
    def has_started(self) -> bool:
        return self.startup_seconds is not None

    @property
    def accepts_requests(self) -> bool:
        """A draining server still answers: endpoints take seconds to leave every load balancer."""
        return self.state in (State.READY, State.DRAINING)

    def startup_report(self) -> dict[str, object]:
        """The body of `/startupz`."""
        now = self._clock()
        model: dict[str, object | None] = {"commit": self.commit, "content": self.content}
        if self.adapters is not None:
            names, content = self.adapters.names, self.adapters.content
            model |= {"adapters": len(names), "adapters_content": content or None}
        return {name: value for name, value in model.items() if value is not None} | {
            "status": self.state.value,
            "started": self.has_started,
            "seconds": round(
                now - self._started_at if self.startup_seconds is None else self.startup_seconds, 3
            ),
            "phases": [
                _report(phase, phase.seconds if phase.is_done else now - phase.started_at)
                for phase in self.phases
            ],
        }

    def _end_phase(self) -> Phase | None:
        if not self.phases or self.phases[-1].is_done:
            return None
        phase = self.phases[-1]
        phase.seconds = self._clock() - phase.started_at
        phase.is_done = True
        return phase


def _report(phase: Phase, seconds: float) -> dict[str, object]:
    said: dict[str, object] = {
        "name": phase.name,
        "seconds": round(seconds, 3),
        "done": phase.is_done,
    }
    if phase.bytes_total:
        said |= {
            "bytes": phase.bytes_done,
            "bytes_total": phase.bytes_total,
            "bytes_per_second": round(phase.bytes_done / max(seconds, 1e-3)),
        }
    return said


class Stall(enum.Enum):
    """How an engine that lives can be of no use. The value is what a person reads."""

    NO_STEPS = "requests run, but the engine makes no steps"
    SILENT = "the engine answers nothing"


class StallDetector:
    """Notices an engine that has work and makes no steps, or that does not even answer.

    Silence counts too because a client that waited long enough hangs up: then nothing is left to be done,
    and an engine that hangs would look idle.

    Args:
        limit_seconds: Time without a step, while requests wait for tokens, or without any message that
            counts as a stall. It must be longer than the longest step: no message comes during one.
    """

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._last_step = -1
        self._last_messages = -1
        self._progress_at = 0.0
        self._heard_at = 0.0
        self.seconds_without_step = 0.0
        self.seconds_silent = 0.0

    def observe(self, *, step: int, num_messages: int, is_busy: bool, now: float) -> None:
        """To be called regularly, with an idle engine asked for an answer in between.

        Args:
            step: The engine's step counter. That it moved, or that nothing is to be done, is progress.
            num_messages: That came from the engine so far.
            is_busy: Requests wait for tokens.
            now: Monotonic seconds.
        """
        if not is_busy or step != self._last_step:
            self._last_step = step
            self._progress_at = now
        if num_messages != self._last_messages:
            self._last_messages = num_messages
            self._heard_at = now
        self.seconds_without_step = now - self._progress_at
        self.seconds_silent = now - self._heard_at

    def excuse(self, now: float) -> None:
        """The engine does what has no steps: as if it had just made one and answered."""
        self._progress_at = self._heard_at = now
        self.seconds_without_step = self.seconds_silent = 0.0

    @property
    def stall(self) -> Stall | None:
        if self.seconds_without_step > self._limit_seconds:
            return Stall.NO_STEPS
        return Stall.SILENT if self.seconds_silent > self._limit_seconds else None
