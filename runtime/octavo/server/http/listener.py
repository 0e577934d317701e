"""Listener. One port with an ASGI app behind it, on uvicorn, started and stopped by us instead of by
signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from octavo.server.http.acceptor import Acceptor
from octavo.server.http.asgi import AsgiApp
from octavo.server.http.connection import Connection
from octavo.server.http.handshakes import Handshakes
from octavo.server.http.tls import Encryption
from octavo.server.http.unencrypted import Unencrypted

# Longer than the keep-alive of clients and load balancers, so that they close first and no request
# meets a connection that is just being closed.
_KEEP_ALIVE_SECONDS = 75
# From a connection's begin to its first request, for one that is opened just as the server ends.
_FIRST_REQUEST_SECONDS = 0.25
# As long a client that has no processor may take between the two; who opens connections ahead takes longer.
_AWAITED_SECONDS = 15
_BACKLOG = 2048
_ACCEPTS_AT_ONCE = 256
ACCEPTS_OF_SEVERAL = 8
"""At once, of each process where several share a socket."""


class Listener:
    """Serves `app` on a bound socket from `start` to `stop`, encrypted where there is `encryption`; takes so
    many connections in one turn of the loop."""

    def __init__(
        self,
        app: AsgiApp,
        bound: socket.socket,
        encryption: Encryption | None = None,
        *,
        accepts_at_once: int = _ACCEPTS_AT_ONCE,
    ) -> None:
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
            ssl_context_factory=None if encryption is None else lambda *_: encryption.context,
        )
        self._server = _Server(config, encryption, accepts_at_once)
        self._socket = bound
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The real one, where 0 was asked for."""
        return int(self._socket.getsockname()[1])

    @property
    def num_awaited(self) -> int:
        """Connections of the last seconds that have not asked yet."""
        since = asyncio.get_running_loop().time() - _AWAITED_SECONDS
        return sum(_is_new(each, since) for each in self._server.server_state.connections)

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
        self._server.stop_accepting()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _FIRST_REQUEST_SECONDS
        while self._server.has_new and loop.time() < deadline:
            await asyncio.sleep(0.01)
        self._server.should_exit = True
        await self._task


def _is_new(connection: object, since: float = 0.0) -> bool:
    return (
        isinstance(connection, Connection)
        and not connection.has_asked
        and connection.opened_at >= since
    )


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, encryption: Encryption | None, accepts_at_once: int
    ) -> None:
        super().__init__(config)
        self._encryption = encryption
        self._accepts_at_once = accepts_at_once
        self._acceptors: list[Acceptor] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = []  # ours are no `asyncio.Server`
        self._acceptors = [self._accept(bound) for bound in sockets or ()]
        self.started = True

    def stop_accepting(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()

    @property
    def has_new(self) -> bool:
        """A connection whose first request is on its way."""
        connections = self.server_state.connections
        return any(each.is_opening for each in self._acceptors) or any(map(_is_new, connections))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.stop_accepting()
        await super().shutdown(sockets)

    def _accept(self, bound: socket.socket) -> Acceptor:
        config, connections = self.config, self.server_state.connections

        def new_connection(kind: type[Connection] = Connection) -> asyncio.Protocol:
            return kind(config, self.server_state, self.lifespan.state)

        handshakes = None
        if self._encryption is not None:
            handshakes = Handshakes(
                self._encryption, new_connection, lambda: new_connection(Unencrypted)
            )
        return Acceptor(
            bound,
            new_connection,
            lambda: len(connections),
            handshakes,
            backlog=config.backlog,
            at_once=self._accepts_at_once,
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
