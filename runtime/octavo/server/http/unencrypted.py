"""Unencrypted: a connection to a port with TLS whose client speaks none."""

from __future__ import annotations

import asyncio

from octavo.server.http.connection import Connection

_FAULT = (
    "The request is plain HTTP, and this port speaks TLS. Ask it by https:// instead of http://."
)
# As long what comes behind the refusal is read: a socket that is closed before is reset, and the client may
# lose the answer.
_LINGER_SECONDS = 2.0


class Unencrypted(Connection):
    """Refuses the first request, whatever it is, and serves none."""

    _fault = _FAULT
    _is_refused = False
    _lingering: asyncio.TimerHandle | None = None

    def on_headers_complete(self) -> None:
        raise ValueError  # the parser makes an invalid request of it

    def data_received(self, data: bytes) -> None:
        if not self._is_refused:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
        super().connection_lost(exc)

    def _refuse(self, answer: bytes) -> None:
        self._is_refused = True
        self.transport.write(answer)
        self.transport.write_eof()
        self._lingering = self.loop.call_later(_LINGER_SECONDS, self.transport.close)
