"""Listener. One port with an ASGI app behind it, on uvicorn, started and stopped by us instead of by
signals."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from octavo.server.http.asgi import AsgiApp
from octavo.server.http.tls import TlsFiles
from octavo.server.openai.api_errors import ApiError

# Longer than the keep-alive of clients and load balancers, so that they close first and no request
# meets a connection that is just being closed.
_KEEP_ALIVE_SECONDS = 75
# A Service balances connections, not requests: a client that kept one for ever would never find the
# replicas that came after it. From about this age on an answer says that it is the connection's last.
_CONNECTION_SECONDS = 60.0
# A client that vanished in the middle of its request, or never sends one, keeps its connection no longer.
_REQUEST_SECONDS = 75.0
# From a connection's begin to its first request, for one that is opened just as the server ends.
_FIRST_REQUEST_SECONDS = 0.25
_MAX_HEADER_BYTES = 256 * 1024
_BACKLOG = 2048


class Listener:
    """Serves `app` on a bound socket from `start` to `stop`, encrypted where there is `tls`."""

    def __init__(self, app: AsgiApp, bound: socket.socket, tls: TlsFiles | None = None) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=2,
            backlog=_BACKLOG,
            **({} if tls is None else tls.uvicorn_options),
        )
        self._server = _Server(config)
        self._socket = bound
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The real one, where 0 was asked for."""
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Returns when connections are taken."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            await asyncio.sleep(0.005)
            if self._task.done():
                await self._task

    def close_idle_connections(self) -> None:
        """Ends kept-alive connections that carry no request; busy ones end with their answer.

        New ones stay: their first request is on its way, and a close would reset it.
        """
        for connection in list(self._server.server_state.connections):
            if not _is_new(connection):
                connection.shutdown()

    async def stop(self) -> None:
        """Closes the port; first requests of new connections are still answered, and answers under way get
        two seconds to leave. Safe to repeat."""
        if self._task is None:
            self._socket.close()
            return
        for server in self._server.servers:
            server.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _FIRST_REQUEST_SECONDS
        while any(map(_is_new, self._server.server_state.connections)) and loop.time() < deadline:
            await asyncio.sleep(0.01)
        self._server.should_exit = True
        await self._task


def _is_new(connection: object) -> bool:
    return isinstance(connection, _Protocol) and not connection.has_asked


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(HttpToolsProtocol):
    """Answers bytes that are no HTTP with the error object; bounds the size of headers, the age of
    connections and the time for which a request may stay incomplete without another byte."""

    has_asked = False
    """A request has begun, on this connection."""
    _header_bytes = 0
    _in_body = False
    _is_incomplete = True
    _last_answer_at = 0.0
    _give_up: asyncio.TimerHandle | None = None
    _answered: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Spread, so that clients which connected together do not come back together.
        age = _CONNECTION_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311 -- no secret
        self._last_answer_at = self.loop.time() + age
        self._watch_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_incomplete = False
        self._watch_request()
        super().connection_lost(exc)
        # Of pipelined requests the base class tells the last one alone, which nobody answers yet.
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            self._header_bytes += len(data)
            # A small request's body may lie in the same segment: only long headers exceed this.
            if self._header_bytes > _MAX_HEADER_BYTES + len(data):
                self._unset_keepalive_if_required()
                self.send_400_response("The request's headers are too long.")
                return
        super().data_received(data)
        self._watch_request()

    def on_message_begin(self) -> None:
        self.has_asked = self._is_incomplete = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_body = True
        super().on_headers_complete()
        if self.loop.time() >= self._last_answer_at:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._in_body = self._is_incomplete = False
        self._header_bytes = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _watch_request(self) -> None:
        """Anew after every byte."""
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None
        if self._is_incomplete:
            self._give_up = self.loop.call_later(_REQUEST_SECONDS, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        body = ApiError(400, msg, code="invalid_http").body()
        head: list[Any] = [
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n",
            b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body),
        ]
        self.transport.write(b"".join([*head, body]))
        self.transport.close()
