"""Acceptor. Takes the connections of a listening socket, all that wait at once.

libuv, from 1.45 on, takes one in each turn of the event loop. While requests fill the turns, whoever connects
in a burst then waits as many turns as others came before, and those who got in ask again meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

import structlog

from octavo.server.http.handshakes import Handshakes
from octavo.server.http.sockets import most_connections

log = structlog.get_logger("octavo.server")

_PAUSE_SECONDS = 1.0
# Beside those that are open: so many are told that there are too many.
_TOLD = 64
_SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Takes them from its building until `close`.

    Args:
        bound: Closed with the acceptor.
        new_protocol: Of each connection.
        num_open: How many connections are open, those that are being opened left out.
        handshakes: None serves plain text.
        at_once: As many in one turn at most. Where several processes share the socket, few: who is not busy
            should take the others.
    """

    def __init__(
        self,
        bound: socket.socket,
        new_protocol: Callable[[], asyncio.Protocol],
        num_open: Callable[[], int],
        handshakes: Handshakes | None,
        *,
        backlog: int,
        at_once: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._bound = bound
        self._new_protocol = new_protocol
        self._num_open = num_open
        self._handshakes = handshakes
        self._at_once = at_once
        self._opening: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        bound.setblocking(False)
        bound.listen(backlog)
        self._loop.add_reader(bound.fileno(), self._accept)

    def close(self) -> None:
        """Takes what has connected already, and nothing more. Safe to repeat."""
        if self._bound.fileno() < 0:
            return
        if self._resume is not None:
            self._resume.cancel()
        self._accept()
        self._loop.remove_reader(self._bound.fileno())
        self._bound.close()

    @property
    def is_opening(self) -> bool:
        """A connection was taken and is not there yet."""
        return bool(self._opening)

    def _accept(self) -> None:
        for _ in range(self._at_once):
            try:
                accepted, address = self._bound.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:  # it hung up again
                continue
            except OSError as error:
                if error.errno not in _SHORT_OF:
                    raise
                self._pause(error)
                return
            if self._is_full:
                accepted.close()
                continue
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._open(accepted, address))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    @property
    def _is_full(self) -> bool:
        """Handshakes wait for their clients, who may open more than the process has files for."""
        if self._handshakes is None:
            return False
        return len(self._opening) + self._num_open() >= most_connections() + _TOLD

    async def _open(self, accepted: socket.socket, address: object) -> None:
        try:
            if self._handshakes is not None:
                await self._handshakes.open(accepted, address)
            else:
                await self._loop.connect_accepted_socket(self._new_protocol, accepted)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            log.debug("a connection was not opened", error=str(error))
            accepted.close()
        except asyncio.CancelledError:
            accepted.close()
            raise

    def _pause(self, error: OSError) -> None:
        """Else the loop would turn without end: the connection still waits."""
        log.error("connections are not taken", error=str(error))
        self._loop.remove_reader(self._bound.fileno())
        self._resume = self._loop.call_later(
            _PAUSE_SECONDS, self._loop.add_reader, self._bound.fileno(), self._accept
        )
