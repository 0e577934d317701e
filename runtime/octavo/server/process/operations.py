"""Operations port. The ops port: probes, metrics, sleep and adapters, up from the first moment of the process
until its last.

Never behind the API key and never on the Service that users call. `/livez` means "the engine answers, and
makes steps while requests run", not "the socket answers".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from octavo.server.http.asgi import AsgiApp, Receive, Scope, Send, respond
from octavo.server.openai.api_errors import ApiError
from octavo.server.process.exposition import METRICS_TYPE
from octavo.server.process.lifecycle import Lifecycle, Stall, State
from octavo.server.process.ops_guard import OpsGuard
from octavo.server.process.sleep_routes import Answer, SleepRoutes


class Health(Protocol):
    """What the probes ask of the engine."""

    async def why_unready(self) -> str | None:
        """None when it answers in time and its steps succeed."""

    @property
    def is_engine_dead(self) -> bool: ...

    @property
    def stall(self) -> Stall | None: ...


class OperationsApp:
    """`/livez`, `/readyz`, `/startupz`, `/metrics`, the routes of sleep and those of adapters as an ASGI app.

    Args:
        commands: Routes of POST that read a body.
        guard: Of the routes of POST.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        health: Health,
        exposition: Callable[[], bytes],
        sleep: SleepRoutes,
        commands: Mapping[str, AsgiApp] | None = None,
        guard: OpsGuard | None = None,
    ) -> None:
        self._guard = guard or OpsGuard()
        self._commands = commands or {}
        self._lifecycle = lifecycle
        self._health = health
        self._exposition = exposition
        self._routes: dict[str, Callable[[Send], Awaitable[None]]] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/startupz": self._startupz,
            "/metrics": self._metrics,
        }
        self._asked: dict[str, tuple[str, Callable[[Scope], Awaitable[Answer]]]] = {
            "/sleep": ("POST", sleep.sleep),
            "/wake_up": ("POST", sleep.wake_up),
            "/is_sleeping": ("GET", sleep.is_sleeping),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            await self._dispatch(scope, receive, send)
        except ApiError as error:
            await respond(send, error.status, error.body(), headers=error.headers)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises `ApiError`."""
        path = scope["path"]
        if (command := self._commands.get(path)) is not None:
            self._check(scope, "POST")
            await command(scope, receive, send)
        elif path in self._asked:
            method, ask = self._asked[path]
            self._check(scope, method)
            await _answer(send, 200, await ask(scope))
        elif (route := self._routes.get(path)) is not None:
            self._check(scope, "GET")
            await route(send)
        else:
            paths = ", ".join((*self._routes, *self._asked, *self._commands))
            message = f"Nothing here. This port answers {paths}."
            raise ApiError(404, message, code="unknown_url")

    def _check(self, scope: Scope, method: str) -> None:
        """Raises `ApiError` for another method; what changes something is guarded."""
        taken = ("GET", "HEAD") if method == "GET" else (method,)
        if scope["method"] not in taken:
            message = f"{scope['path']} takes {method} alone."
            headers = {"Allow": ", ".join(taken)}
            raise ApiError(405, message, code="method_not_supported", headers=headers)
        if method == "POST":
            self._guard.check(scope)

    async def _livez(self, send: Send) -> None:
        if self._lifecycle.state is State.FAILED or self._health.is_engine_dead:
            await _answer(send, 503, {"status": "dead", "reason": "the engine process ended"})
        elif (stall := self._health.stall) is not None:
            await _answer(send, 503, {"status": "stalled", "reason": stall.value})
        else:
            await _answer(send, 200, {"status": "alive"})

    async def _readyz(self, send: Send) -> None:
        state = self._lifecycle.state
        if state is not State.READY:
            await _answer(send, 503, {"status": state.value})
        elif (reason := await self._health.why_unready()) is not None:
            await _answer(send, 503, {"status": "unready", "reason": reason})
        else:
            await _answer(send, 200, {"status": "ready"})

    async def _startupz(self, send: Send) -> None:
        status = 200 if self._lifecycle.has_started else 503
        await _answer(send, status, self._lifecycle.startup_report())

    async def _metrics(self, send: Send) -> None:
        await respond(send, 200, self._exposition(), content_type=METRICS_TYPE)


async def _answer(send: Send, status: int, document: object) -> None:
    await respond(send, status, msgspec.json.encode(document))
