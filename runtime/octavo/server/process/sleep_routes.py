"""Routes of sleep on the ops port: `POST /sleep`, `POST /wake_up`, `GET /is_sleeping`, as vLLM has them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from urllib.parse import parse_qsl

from octavo.errors import InvalidParameterError, OctavoError
from octavo.server.http.asgi import Scope
from octavo.server.openai.api_errors import SERVER_ERROR, ApiError, from_octavo_error
from octavo.server.process.sleeping import (
    NotNowError,
    SleepCalledOffError,
    SleepMode,
    SleepSwitch,
)
from octavo.sleep_level import read_sleep_level_of_query

Answer = dict[str, object]

_BY_DEFAULT = {"level": "1", "mode": SleepMode.ABORT.value}


class SleepRoutes:
    """Each raises `ApiError`.

    Args:
        switch: None where `--enable-sleep-mode` was not given.
    """

    def __init__(self, switch: SleepSwitch | None) -> None:
        self._switch = switch
        self._turns: set[asyncio.Task[None]] = set()

    async def sleep(self, scope: Scope) -> Answer:
        switch = self._switch
        if switch is None:
            raise _off()
        try:
            query = _BY_DEFAULT | _read_query(scope, _BY_DEFAULT)
            level = read_sleep_level_of_query(query["level"])
            if query["mode"] not in (mode.value for mode in SleepMode):
                raise InvalidParameterError(
                    "mode", f"mode is {query['mode'][:32]!r}; use abort or wait."
                )
            await self._run(switch.sleep(level, SleepMode(query["mode"])))
        except OctavoError as error:
            raise _refusal(error) from error
        return _state(switch)

    async def wake_up(self, scope: Scope) -> Answer:
        switch = self._switch
        if switch is None:
            raise _off()
        try:
            _read_query(scope, ())
            await self._run(switch.wake_up())
        except OctavoError as error:
            raise _refusal(error) from error
        return _state(switch)

    async def is_sleeping(self, _scope: Scope) -> Answer:
        if self._switch is None:
            raise _off()
        return _state(self._switch)

    async def _run(self, turn: Coroutine[None, None, None]) -> None:
        """To its end, also when the client hangs up: half a turn would be no state at all."""
        task = asyncio.create_task(turn)
        self._turns.add(task)
        task.add_done_callback(self._turns.discard)
        await asyncio.shield(task)


def _state(switch: SleepSwitch) -> dict[str, object]:
    level = switch.level
    return {"is_sleeping": level is not None, "level": 0 if level is None else int(level)}


def _off() -> ApiError:
    message = (
        "Sleep is off: start the server with --enable-sleep-mode, which does not go together with "
        "--enable-lora."
    )
    return ApiError(404, message, code="sleep_not_enabled")


def _refusal(error: OctavoError) -> ApiError:
    if isinstance(error, NotNowError):
        return ApiError(503, str(error), error_type=SERVER_ERROR, code="cannot_sleep_now")
    if isinstance(error, SleepCalledOffError):
        return ApiError(409, str(error), code="sleep_called_off")
    return from_octavo_error(error)


def _read_query(scope: Scope, known: Collection[str]) -> dict[str, str]:
    pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            allowed = f"use {' and '.join(known)}" if known else "there is none"
            raise InvalidParameterError(name, f"{name[:32]!r} is no parameter; {allowed}.")
        if name in found:
            both = f"{found[name][:32]!r} and {value[:32]!r}"
            raise InvalidParameterError(name, f"{name} is given twice, as {both}. Send it once.")
        found[name] = value
    return found
