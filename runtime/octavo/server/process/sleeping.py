"""Sleep of a served model: requests are refused first, then those that run end, then memory is given back.

One state says it all: `FALLING_ASLEEP` while requests finish, `SLEEPING` from when the memory is given back.

vLLM's routes and words, on the ops port. A request that comes meanwhile is answered with 503 at once: nobody
knows whether the model will be woken, and a router that wants it wakes it first.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Protocol

import structlog

from octavo.errors import ModelAsleepError, OctavoError
from octavo.server.process.lifecycle import Lifecycle, State
from octavo.sleep_level import SleepLevel

log = structlog.get_logger("octavo.server")

_POLL_SECONDS = 0.02


class SleepMode(enum.Enum):
    """What becomes of requests that run: they end with an error, or have time to finish."""

    ABORT = "abort"
    WAIT = "wait"


class NotNowError(OctavoError):
    """The server starts or ends."""


class SleepCalledOffError(OctavoError):
    """Somebody wants the model awake before it slept."""


class SleepingEngine(Protocol):
    """See `EngineClient`."""

    async def sleep(self, level: SleepLevel) -> None: ...

    async def wake_up(self) -> None: ...

    def end_streams(self, error: OctavoError) -> None: ...


class Requests(Protocol):
    """See `HttpFront`."""

    async def count_active(self) -> int:
        """Those that wait for tokens."""
        ...

    async def settled(self) -> None:
        """Returns when the state of now holds for whoever asks."""


class SleepSwitch:
    """Puts one server's model to sleep and wakes it, one after the other, whoever asks. A sleep that still
    waits for requests holds nobody up: who wants it at once hastens it, who wants none calls it off.

    Args:
        drain_timeout_seconds: That requests have to finish in `SleepMode.WAIT`; the rest ends with an error.
    """

    def __init__(self, lifecycle: Lifecycle, drain_timeout_seconds: float) -> None:
        self._lifecycle = lifecycle
        self._drain_timeout_seconds = drain_timeout_seconds
        self._lock = asyncio.Lock()
        self._num_hastened = 0
        self._num_woken = 0
        self._engine: SleepingEngine | None = None
        self._requests: Requests | None = None
        self.level: SleepLevel | None = None

    def attach(self, engine: SleepingEngine, requests: Requests) -> None:
        """When the server is ready."""
        self._engine = engine
        self._requests = requests

    async def sleep(self, level: SleepLevel, mode: SleepMode) -> None:
        """Returns when the memory is given back; of two levels the deeper one holds.

        Raises `NotNowError`, `SleepCalledOffError` when `wake_up` comes while it waits, and
        `EngineDeadError` when the engine ends meanwhile.
        """
        if mode is SleepMode.ABORT:
            self._num_hastened += 1
        asked = self._num_hastened, self._num_woken
        async with self._lock:
            engine, requests = self._ready()
            if self.level is not None and self.level >= level:
                return
            if self.level is None:
                self._lifecycle.state = State.FALLING_ASLEEP
                if mode is SleepMode.WAIT:
                    await self._drain(requests, *asked)
            engine.end_streams(ModelAsleepError())
            await engine.sleep(level)
            self.level = level
            self._turn(State.FALLING_ASLEEP, State.SLEEPING)
            log.info("asleep", level=int(level))

    async def wake_up(self) -> None:
        """Returns when requests may come. Raises `NotNowError` and `EngineDeadError` as `sleep`."""
        self._num_woken += 1
        async with self._lock:
            engine, requests = self._ready()
            if self.level is not None:
                await engine.wake_up()
                self.level = None
                self._turn(State.SLEEPING, State.READY)
                log.info("awake")
            await requests.settled()

    def _ready(self) -> tuple[SleepingEngine, Requests]:
        state = self._lifecycle.state
        if (
            self._engine is None
            or self._requests is None
            or state not in (State.READY, State.SLEEPING)
        ):
            raise NotNowError(f"The server is {state.value}; it neither sleeps nor wakes now.")
        return self._engine, self._requests

    async def _drain(self, requests: Requests, num_hastened: int, num_woken: int) -> None:
        """Until requests have finished, or somebody has hastened it meanwhile. Raises as `sleep`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_timeout_seconds
        while True:
            if self._lifecycle.state is not State.FALLING_ASLEEP:
                self._ready()
            if self._num_woken != num_woken:
                self._turn(State.FALLING_ASLEEP, State.READY)
                raise SleepCalledOffError(
                    "The sleep was called off by wake_up; the model is awake."
                )
            if (
                not await requests.count_active()
                or self._num_hastened != num_hastened
                or loop.time() >= deadline
            ):
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _turn(self, before: State, after: State) -> None:
        """Unless the server ends meanwhile."""
        if self._lifecycle.state is before:
            self._lifecycle.state = after
