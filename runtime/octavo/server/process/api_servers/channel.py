"""Channel between the process that leads a server and one of its API processes: messages in order, some of
which are answered. Its end is the other process's end, and is known at once."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from octavo.server.process.api_servers.messages import Frame, Message

_LENGTH_BYTES = 4
M = TypeVar("M")
Handler = Callable[[Message], Message | Awaitable[Message] | None]
"""Takes a message in at once, before the next one; gives the answer of one that wants one."""


class ChannelLostError(ConnectionError):
    """The other process is gone."""


class Channel(asyncio.Protocol):
    """One end. Build it with `open_channel`.

    Args:
        handle: See `Handler`.
        on_lost: Called once, when the other end is gone.
    """

    def __init__(self, handle: Handler, on_lost: Callable[[], None]) -> None:
        self._handle = handle
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Frame)
        self._lost = asyncio.Event()

    @property
    def is_lost(self) -> bool:
        """The other end is gone."""
        return self._lost.is_set()

    def send(self, message: Message) -> None:
        """To nobody when the other end is gone."""
        self._write(0, message)

    async def ask(self, message: Message, kind: type[M]) -> M:
        """Raises `ChannelLostError`."""
        if self._lost.is_set():
            raise ChannelLostError
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._write(number, message)
            found = await answer
        finally:
            del self._asked[number]
        if not isinstance(found, kind):
            raise TypeError(f"{type(message).__name__} was answered by {type(found).__name__}")
        return found

    async def close(self) -> None:
        """Returns when what was sent has left, or nobody reads it."""
        if self._transport is not None:
            self._transport.close()
            await self._lost.wait()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._buffer[:_LENGTH_BYTES], "little")
            if len(self._buffer) < end:
                return
            frame = self._decoder.decode(bytes(self._buffer[_LENGTH_BYTES:end]))
            del self._buffer[:end]
            self._take(frame)

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost.set()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ChannelLostError())
        self._on_lost()

    def _take(self, frame: Frame) -> None:
        if frame.number < 0:
            answer = self._asked.get(-frame.number)
            if answer is not None and not answer.done():
                answer.set_result(frame.message)
            return
        answer_or_later = self._handle(frame.message)
        if answer_or_later is None:
            return
        if inspect.isawaitable(answer_or_later):
            task = asyncio.ensure_future(self._answer_later(frame.number, answer_or_later))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        else:
            self._write(-frame.number, answer_or_later)

    async def _answer_later(self, number: int, answer: Awaitable[Message]) -> None:
        self._write(-number, await answer)

    def _write(self, number: int, message: Message) -> None:
        if self._lost.is_set() or self._transport is None:
            return
        body = self._encoder.encode(Frame(number, message))
        self._transport.write(len(body).to_bytes(_LENGTH_BYTES, "little") + body)


async def open_channel(end: socket.socket, handle: Handler, on_lost: Callable[[], None]) -> Channel:
    """On one end of a pair of sockets, which it closes."""
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_unix_connection(lambda: Channel(handle, on_lost), sock=end)
    return channel
