"""Member: one API process as the process that leads the server holds it, from its spawning to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from octavo.errors import OctavoError, UserError, start_error
from octavo.server.process.api_servers.channel import Channel, ChannelLostError, open_channel
from octavo.server.process.api_servers.messages import (
    Beat,
    Begin,
    Failed,
    Listening,
    Loaded,
    Message,
    Report,
)
from octavo.server.process.api_servers.metrics import FOLDER_VARIABLE

MODULE = "octavo.server.process.api_servers.process"
_EXIT_SECONDS = 2.0
A = TypeVar("A")


class Member:
    """Built by `spawn`.

    Attributes:
        name: By which the engine knows it; never another's before.
        loaded, listening: Done when it is; failed with why not.
        has_chat: The model has a chat template, as is known when it is loaded.
        beat: The latest.
    """

    def __init__(
        self,
        name: bytes,
        process: asyncio.subprocess.Process,
        handle: Callable[[Member, Message], Message | Awaitable[Message] | None],
        on_lost: Callable[[Member], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.name = name
        self.loaded: asyncio.Future[None] = loop.create_future()
        self.listening: asyncio.Future[None] = loop.create_future()
        self.beat = Beat(0, 0, 0, 0)
        self.has_begun = self.has_chat = False
        self._process = process
        self._handle = handle
        self._on_lost = on_lost
        self._heard_at = time.monotonic()
        self._channel: Channel | None = None

    @classmethod
    async def spawn(
        cls,
        name: bytes,
        bound: socket.socket,
        metrics_folder: Path,
        handle: Callable[[Member, Message], Message | Awaitable[Message] | None],
        on_lost: Callable[[Member], None],
    ) -> Member:
        """
        Args:
            handle: Answers what it asks.
            on_lost: Called once, when it is gone.
        """
        ours, its = socket.socketpair()
        with its:
            inherited = (its.fileno(), bound.fileno())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", MODULE, *map(str, inherited)),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=inherited,
                env=os.environ | {FOLDER_VARIABLE: str(metrics_folder)},
            )
        member = cls(name, process, handle, on_lost)
        member._channel = await open_channel(ours, member._take, member._lose)
        return member

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def seconds_silent(self) -> float:
        """Since it last gave a sign of life; 0 before it listens, which may take long."""
        return time.monotonic() - self._heard_at if self.listening.done() else 0.0

    def begin(self, message: Begin) -> None:
        self.has_begun = True
        self.send(message)

    def send(self, message: Message) -> None:
        if self._channel is not None:
            self._channel.send(message)

    async def ask(self, message: Message, kind: type[A]) -> A | None:
        """None when it is gone."""
        if self._channel is None:
            return None
        try:
            return await self._channel.ask(message, kind)
        except ChannelLostError:
            return None

    async def report(self) -> None:
        """Returns when `beat` is of now, or it is gone."""
        self.beat = await self.ask(Report(), Beat) or self.beat

    @property
    def is_answering(self) -> bool:
        return not self.is_lost and self.listening.done() and self.listening.exception() is None

    @property
    def is_lost(self) -> bool:
        return self._channel is None or self._channel.is_lost

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def status(self) -> str:
        """How it ended. One that is gone and does not end is killed."""
        try:
            async with asyncio.timeout(_EXIT_SECONDS):
                status = await self._process.wait()
        except TimeoutError:
            self.kill()
            status = await self._process.wait()
        if status < 0:
            return signal.Signals(-status).name
        return f"exit status {status}"

    async def end(self, timeout_seconds: float) -> None:
        """Returns when its process has ended, which has so long to do so by itself."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        if self._channel is not None:
            await self._channel.close()

    def _take(self, message: Message) -> Message | Awaitable[Message] | None:
        self._heard_at = time.monotonic()
        match message:
            case Beat():
                self.beat = message
            case Loaded():
                self.has_chat = message.has_chat
                _settle(self.loaded)
            case Listening():
                _settle(self.listening)
            case Failed():
                otherwise = UserError if message.is_user_error else OctavoError
                self._fail(start_error(message.reason, message.message, otherwise))
            case _:
                return self._handle(self, message)
        return None

    def _lose(self) -> None:
        self._fail(ChannelLostError())
        self._on_lost(self)

    def _fail(self, error: Exception) -> None:
        for step in (self.loaded, self.listening):
            if not step.done():
                step.set_exception(error)
                step.exception()  # not everybody waits for both


def _settle(step: asyncio.Future[None]) -> None:
    """Unless whoever waited for it has given up."""
    if not step.done():
        step.set_result(None)
