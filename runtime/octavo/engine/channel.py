"""Engine channel. What an API process tells the engine and hears of it: requests, their tokens, its pulse.

Knows the socket and the streams, and nothing of how the engine process is started or ended. Imports neither
torch nor transformers.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import zmq

from octavo.engine.messages import (
    AbortRequests,
    AddRequest,
    EngineInfo,
    EngineStats,
    FromEngine,
    Ping,
    Pong,
    StepOutputs,
    ToEngine,
)
from octavo.engine.requests.request_stream import RequestStream
from octavo.errors import EngineDeadError, ModelAsleepError, OctavoError

_NO_STATS = EngineStats(0, 0, 0, 0, 0, 0, 0, 0, 0)


class EngineChannel:
    """One DEALER socket to an engine process, used from one event loop.

    Args:
        context, socket: Made by the subclass, bound or connected; `_close_socket` ends both.
    """

    info: EngineInfo
    """What the engine settled on at its start."""
    stats: EngineStats
    """The latest snapshot that the engine sent here."""
    num_messages: int
    """Of any kind that came from the engine so far: while it grows, the engine is not stuck."""

    def __init__(self, context: zmq.Context[Any], socket: zmq.Socket[bytes]) -> None:
        self.stats = _NO_STATS
        self.num_messages = 0
        self._is_asleep = False
        self._num_sent = 0
        self._loop = asyncio.get_running_loop()
        self._streams: dict[str, RequestStream] = {}
        self._pings: dict[int, asyncio.Future[EngineStats]] = {}
        self._nonces = itertools.count()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(FromEngine)
        self._death: EngineDeadError | None = None
        self._context = context
        self._socket = socket
        self._loop.add_reader(self._socket.fileno(), self._on_readable)

    @property
    def is_alive(self) -> bool:
        return self._death is None

    async def add(self, request: AddRequest) -> RequestStream:
        """Sends a request and returns the stream of its outputs.

        Raises:
            EngineDeadError: The engine process ended.
            ModelAsleepError: Nothing runs until `wake_up`.
        """
        if self._is_asleep:
            raise ModelAsleepError
        if request.request_id in self._streams:
            raise OctavoError(f"request_id {request.request_id!r} is already running.")
        self._send(request)
        self._num_sent += request.sampling.n
        stream = RequestStream(request.request_id, request.sampling.n, self._abort_stream)
        self._streams[request.request_id] = stream
        return stream

    def abort(self, request_ids: list[str], indexes: list[int] | None = None) -> None:
        """Ends these requests, or only the completions `indexes` of one request, before the next step."""
        if self._death is not None:
            return
        self._send(AbortRequests(request_ids, indexes))
        for request_id in request_ids:
            if indexes is None:
                self._streams.pop(request_id, None)
            elif (stream := self._streams.get(request_id)) is not None:
                for index in indexes:
                    stream.forget(index)
                if stream.is_finished:
                    del self._streams[request_id]

    async def ping(self, timeout: float) -> EngineStats:
        """Asks the engine for its stats; it answers between two steps.

        Raises:
            TimeoutError: No answer within `timeout` seconds: the current step takes longer than that.
            EngineDeadError: The engine process ended.
        """
        async with asyncio.timeout(timeout):
            return await self._ask(Ping)

    def end_streams(self, error: OctavoError) -> None:
        """Ends all requests; whoever reads one gets the error."""
        streams = list(self._streams.values())
        self._streams.clear()
        for stream in streams:
            stream.fail(error)
        if streams and self._death is None:
            self._send(AbortRequests([stream.request_id for stream in streams]))

    async def _ask(self, message: Callable[[int], ToEngine]) -> EngineStats:
        nonce = next(self._nonces)
        future: asyncio.Future[EngineStats] = self._loop.create_future()
        self._pings[nonce] = future
        try:
            self._send(message(nonce))
            return await future
        finally:
            del self._pings[nonce]

    def _die(self, error: EngineDeadError) -> None:
        """Nothing will come any more; whoever waits hears why."""
        if self._death is not None:
            return
        self._death = error
        for future in self._pings.values():
            if not future.done():
                future.set_exception(error)
        self.end_streams(error)

    def _send(self, message: ToEngine) -> None:
        if self._death is not None:
            raise self._death
        try:
            self._socket.send(self._encoder.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return  # the other end is gone: whoever watches it is about to say so to everyone
        # A send may swallow the edge that announces incoming messages: look again.
        if int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._loop.call_soon(self._on_readable)

    def _abort_stream(self, request_id: str) -> None:
        if self._streams.pop(request_id, None) is not None and self._death is None:
            self._send(AbortRequests([request_id]))

    def _on_readable(self) -> None:
        while not self._socket.closed:
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.num_messages += 1
            self._dispatch(self._decoder.decode(frame))

    def _dispatch(self, message: FromEngine) -> None:
        match message:
            case StepOutputs():
                self._hand_out(message)
            case Pong():
                self.stats = message.stats
                future = self._pings.get(message.nonce)
                if future is not None and not future.done():
                    future.set_result(message.stats)
            case _:
                self._take_other(message)

    def _take_other(self, message: FromEngine) -> None:
        """What only whoever started the engine is told."""

    def _hand_out(self, step: StepOutputs) -> None:
        self.stats = step.stats
        streams = self._streams
        for output in step.outputs:
            stream = streams.get(output.request_id)
            if stream is None:
                continue  # aborted on this side while the step ran
            stream.put(output)
            if stream.is_finished:
                del streams[output.request_id]

    def _close_socket(self) -> None:
        if self._socket.closed:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._context.term()


def dealer(context: zmq.Context[Any]) -> zmq.Socket[bytes]:
    """Its queue is not bounded: the waiting queue bounds what is under way, the socket must not block."""
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.set_hwm(0)
    socket.setsockopt(zmq.LINGER, 0)
    return socket
