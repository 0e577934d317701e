"""Routes of sleep on the ops port: `POST /sleep`, `POST /wake_up`, `GET /is_sleeping`, as vLLM has them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from urllib.parse import parse_qsl

from octavo.errors import InvalidParameterError, OctavoError
from octavo.server.http.asgi import Scope, header
from octavo.server.process.sleeping import NotNowError, SleepMode, SleepSwitch
from octavo.sleep_level import read_sleep_level

Answer = tuple[int, dict[str, object]]

_BY_DEFAULT = {"level": "1", "mode": SleepMode.ABORT.value}


class SleepRoutes:
    """
    Args:
        switch: None where `--enable-sleep-mode` was not given.
    """

    def __init__(self, switch: SleepSwitch | None) -> None:
        self._switch = switch
        self._turns: set[asyncio.Task[None]] = set()

    async def sleep(self, scope: Scope) -> Answer:
        switch = self._switch
        if switch is None:
            return _off()
        try:
            _check_origin(scope)
            query = _BY_DEFAULT | _read_query(scope, _BY_DEFAULT)
            level = read_sleep_level(query["level"])
            if query["mode"] not in (mode.value for mode in SleepMode):
                raise InvalidParameterError(
                    "mode", f"mode is {query['mode'][:32]!r}; use abort or wait."
                )
            await self._run(switch.sleep(level, SleepMode(query["mode"])))
        except OctavoError as error:
            return _refusal(error)
        return 200, _state(switch)

    async def wake_up(self, scope: Scope) -> Answer:
        switch = self._switch
        if switch is None:
            return _off()
        try:
            _check_origin(scope)
            _read_query(scope, ())
            await self._run(switch.wake_up())
        except OctavoError as error:
            return _refusal(error)
        return 200, _state(switch)

    async def is_sleeping(self, _scope: Scope) -> Answer:
        return _off() if self._switch is None else (200, _state(self._switch))

    async def _run(self, turn: Coroutine[None, None, None]) -> None:
        """To its end, also when the client hangs up: half a turn would be no state at all."""
        task = asyncio.create_task(turn)
        self._turns.add(task)
        task.add_done_callback(self._turns.discard)
        await asyncio.shield(task)


def _state(switch: SleepSwitch) -> dict[str, object]:
    level = switch.level
    return {"is_sleeping": level is not None, "level": 0 if level is None else int(level)}


def _off() -> Answer:
    return 404, {"error": "Sleep is off: start the server with --enable-sleep-mode."}


def _refusal(error: OctavoError) -> Answer:
    if isinstance(error, InvalidParameterError):
        return 400, {"error": str(error)}
    return 503 if isinstance(error, NotNowError) else 500, {"error": str(error)}


def _check_origin(scope: Scope) -> None:
    """A page in somebody's browser may send such a request anywhere, without being asked for a key."""
    if header(scope, b"origin") is not None:
        raise InvalidParameterError("Origin", "Requests of web pages are not taken here.")


def _read_query(scope: Scope, known: Collection[str]) -> dict[str, str]:
    pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    for name, _ in pairs:
        if name not in known:
            allowed = f"use {' and '.join(known)}" if known else "there is none"
            raise InvalidParameterError(name, f"{name[:32]!r} is no parameter; {allowed}.")
    return dict(pairs)
