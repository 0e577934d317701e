"""Health. What the probes know of the engine: does it live, does it answer, does it make steps?"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Protocol

from octavo.engine.step_failures import SUSPECT_AFTER
from octavo.errors import EngineDeadError
from octavo.server.process.cpu_time import WorkMeter, read_cpu_seconds
from octavo.server.process.lifecycle import Stall, StallDetector

if TYPE_CHECKING:
    from octavo.engine.client import EngineClient

_WATCH_SECONDS = 1.0
# Looks and pings within the stall timeout, so that one late answer is no stall.
_LOOKS_PER_TIMEOUT = 4
# Below a probe's usual timeout of one second.
_PING_SECONDS = 0.6
# A step this long is slow, not stuck, if the engine computes: a long prompt on a CPU.
_SLOW_STEP_SECONDS = 30.0
_IDLE_SECONDS = 4.0
# Requests stop coming before the process is given up.
_UNREADY_SHARE_OF_STALL = 0.5
_NO_ANSWER = "the engine does not answer"


class ActiveRequests(Protocol):
    @property
    def num_active(self) -> int:
        """Requests that wait for tokens, as far as is known."""
        ...

    @property
    def is_answering(self) -> bool:
        """Somebody takes connections."""
        ...


class EngineHealth:
    """Knows nothing until `attach`: a server that starts is neither dead nor stalled."""

    def __init__(self, stall_timeout_seconds: float) -> None:
        self._detector = StallDetector(stall_timeout_seconds)
        self._meter = WorkMeter()
        self._slow_seconds = min(
            _SLOW_STEP_SECONDS, _UNREADY_SHARE_OF_STALL * stall_timeout_seconds
        )
        self._period = min(_WATCH_SECONDS, stall_timeout_seconds / _LOOKS_PER_TIMEOUT)
        self._client: EngineClient | None = None
        self._requests: ActiveRequests | None = None

    def attach(self, client: EngineClient, requests: ActiveRequests) -> None:
        self._client = client
        self._requests = requests

    async def watch(self) -> None:
        """Looks at the engine about once a second, for ever; pings it when it said nothing since."""
        while True:
            self._observe()
            await asyncio.sleep(self._period)
            self._observe()
            if self._client is not None and self._detector.seconds_silent > 0:
                with contextlib.suppress(TimeoutError, EngineDeadError):
                    await self._client.ping(_PING_SECONDS)

    @property
    def is_engine_dead(self) -> bool:
        return self._client is not None and not self._client.is_alive

    @property
    def stall(self) -> Stall | None:
        self._observe()
        return self._detector.stall

    async def wait_for_stall(self) -> Stall:
        """Returns as soon as the engine is found of no use though it lives."""
        while (stall := self.stall) is None:
            await asyncio.sleep(self._period)
        return stall

    async def why_unready(self) -> str | None:
        """None when requests may come."""
        if self._client is None:
            return _NO_ANSWER
        if self._requests is not None and not self._requests.is_answering:
            return "no API process answers"
        try:
            stats = await self._client.ping(_PING_SECONDS)
        except EngineDeadError:
            return _NO_ANSWER
        except TimeoutError:
            self._observe()
            is_slow = (
                self._is_busy
                and self._detector.seconds_without_step < self._slow_seconds
                and self._meter.seconds_idle < _IDLE_SECONDS
            )
            return None if is_slow else _NO_ANSWER
        if stats.num_failed_steps >= SUSPECT_AFTER:
            return f"{stats.num_failed_steps} steps failed and none succeeded since"
        return None

    @property
    def _is_busy(self) -> bool:
        return self._requests is not None and self._requests.num_active > 0

    def _observe(self) -> None:
        if self._client is None:
            return
        now = time.monotonic()
        if self._client.is_turning:
            self._detector.excuse(now)
            return
        self._detector.observe(
            step=self._client.stats.step,
            num_messages=self._client.num_messages,
            is_busy=self._is_busy,
            now=now,
        )
        self._meter.observe(
            cpu_seconds=read_cpu_seconds(self._client.pid), is_busy=self._is_busy, now=now
        )
