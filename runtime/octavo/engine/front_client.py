"""Front client. The hold of one API process of several on an engine process that another process started."""

from __future__ import annotations

from typing import Any

import zmq

from octavo.engine.channel import EngineChannel, dealer
from octavo.engine.messages import EngineInfo, Ping, ReleaseTicket
from octavo.errors import EngineDeadError, ModelAsleepError


class FrontClient(EngineChannel):
    """Use it from one event loop. `stats` are those of the last step that had something for this process.

    Args:
        address: Where the engine listens for API processes.
        name: By which it knows this one; never another's before.
        info: What the engine settled on at its start.
    """

    def __init__(self, address: str, name: bytes, info: EngineInfo, *, is_asleep: bool) -> None:
        context: zmq.Context[Any] = zmq.Context()
        socket = dealer(context)
        socket.setsockopt(zmq.ROUTING_ID, name)
        socket.connect(address)
        super().__init__(context, socket)
        self.info = info
        self._is_asleep = is_asleep

    def release(self, ticket: int) -> None:
        """What was admitted by it is over."""
        if self._death is None:
            self._send(ReleaseTicket(ticket))

    async def fall_asleep(self) -> None:
        """Ends all requests and takes none any more. Returns when the engine has heard of it, so that nothing
        of this process is on its way. Raises `EngineDeadError`."""
        self._is_asleep = True
        self.end_streams(ModelAsleepError())
        await self._ask(Ping)

    def wake_up(self) -> None:
        self._is_asleep = False

    def die(self, error: EngineDeadError) -> None:
        """The engine ended, as whoever started it has noticed."""
        self._die(error)

    def close(self) -> None:
        self._close_socket()
