"""Listener. One port with an ASGI app behind it, on uvicorn, started and stopped by us instead of by
signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from octavo.server.http.asgi import AsgiApp
from octavo.server.http.connection import Connection
from octavo.server.http.tls import TlsFiles

# Longer than the keep-alive of clients and load balancers, so that they close first and no request
# meets a connection that is just being closed.
_KEEP_ALIVE_SECONDS = 75
# From a connection's begin to its first request, for one that is opened just as the server ends.
_FIRST_REQUEST_SECONDS = 0.25
_BACKLOG = 2048


class Listener:
    """Serves `app` on a bound socket from `start` to `stop`, encrypted where there is `tls`."""

    def __init__(self, app: AsgiApp, bound: socket.socket, tls: TlsFiles | None = None) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
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
    return isinstance(connection, Connection) and not connection.has_asked


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
