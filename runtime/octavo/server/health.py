"""What the probes know of the engine: does it live, does it answer, does it make steps?"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from octavo.errors import EngineDeadError
from octavo.server.lifecycle import StallDetector

if TYPE_CHECKING:
    from octavo.engine.client import EngineClient
    from octavo.server.generation import Generator

_WATCH_SECONDS = 1.0
# Below a probe's usual timeout of one second.
_PING_SECONDS = 0.6
# A step this long is slow, not stuck: a long prompt on a CPU.
_SLOW_STEP_SECONDS = 30.0


class EngineHealth:
    """Knows nothing until `attach`: a server that starts is neither dead nor stalled."""

    def __init__(self, stall_timeout_seconds: float) -> None:
        self._detector = StallDetector(stall_timeout_seconds)
        self._client: EngineClient | None = None
        self._generator: Generator | None = None

    def attach(self, client: EngineClient, generator: Generator) -> None:
        self._client = client
        self._generator = generator

    async def watch(self) -> None:
        """Looks at the step counter once a second, for ever."""
        while True:
            self._observe()
            await asyncio.sleep(_WATCH_SECONDS)

    @property
    def is_engine_dead(self) -> bool:
        return self._client is not None and not self._client.is_alive

    @property
    def is_stalled(self) -> bool:
        self._observe()
        return self._detector.is_stalled

    async def engine_answers(self) -> bool:
        if self._client is None:
            return False
        try:
            await self._client.ping(_PING_SECONDS)
        except EngineDeadError:
            return False
        except TimeoutError:
            self._observe()
            return self._is_busy and self._detector.seconds < _SLOW_STEP_SECONDS
        return True

    @property
    def _is_busy(self) -> bool:
        return self._generator is not None and self._generator.num_active > 0

    def _observe(self) -> None:
        if self._client is not None:
            self._detector.observe(
                step=self._client.stats.step, is_busy=self._is_busy, now=time.monotonic()
            )
