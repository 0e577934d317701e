"""Handshakes: a connection that a port with TLS has taken, until it is encrypted.

Its first byte tells whether the client speaks TLS. One that does not is answered in plain text, which it
understands; none of its request is served.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable

import structlog

from octavo.server.http.handshake_faults import NO_TLS, FaultLog, fault_of
from octavo.server.http.tls import Encryption

log = structlog.get_logger("octavo.server")

# Clients that connect ahead say nothing until they ask; balancers look whether anybody listens and hang up.
_FIRST_BYTE_SECONDS = 60.0
_HANDSHAKE_SECONDS = 60.0
_TLS_HANDSHAKE = b"\x16"


class Handshakes:
    """Of the connections of one port.

    Args:
        new_protocol: Of a connection that is encrypted.
        new_unencrypted: Of one whose client speaks no TLS.
    """

    def __init__(
        self,
        encryption: Encryption,
        new_protocol: Callable[[], asyncio.Protocol],
        new_unencrypted: Callable[[], asyncio.Protocol],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._encryption = encryption
        self._new_protocol = new_protocol
        self._new_unencrypted = new_unencrypted
        self._faults = FaultLog(self._loop.time)

    async def open(self, accepted: socket.socket, address: object) -> None:
        """Raises `OSError` or `TimeoutError` where the client is gone or silent."""
        async with asyncio.timeout(_FIRST_BYTE_SECONDS):
            first = await self._first_byte(accepted)
        if not first:
            raise ConnectionResetError("it said nothing")
        if first != _TLS_HANDSHAKE:
            self._faults.tell(NO_TLS, _shown(address))
            await self._loop.connect_accepted_socket(self._new_unencrypted, accepted)
            return
        try:
            await self._loop.connect_accepted_socket(
                self._new_protocol,
                accepted,
                ssl=self._encryption.context,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS,
            )
        except OSError as error:
            self._faults.tell(fault_of(error), _shown(address))
            raise

    async def _first_byte(self, accepted: socket.socket) -> bytes:
        """Which stays to be read; empty where the client has nothing more to say."""
        while True:
            try:
                return accepted.recv(1, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                await self._readable(accepted.fileno())

    async def _readable(self, file: int) -> None:
        readable: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(file, _wake, readable)
        try:
            await readable
        finally:
            self._loop.remove_reader(file)


def _wake(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)


def _shown(address: object) -> str:
    """`host:port`, of version 4 where it is that of a socket for both."""
    if not isinstance(address, tuple):
        return str(address)
    host, port = address[:2]
    found = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return f"{found}:{port}"
    return f"[{found}]:{port}" if found.ipv4_mapped is None else f"{found.ipv4_mapped}:{port}"
