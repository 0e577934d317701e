"""Progress port: `/startupz` of a download, as the ops port of a server has it, so that whoever watches a pod
sees how far it has come before anything serves."""

from __future__ import annotations

import asyncio
import threading
import time
from types import TracebackType
from typing import Self

import msgspec

from octavo.errors import InvalidConfigurationError
from octavo.server.http.asgi import Receive, Scope, Send, respond
from octavo.server.http.listener import Listener
from octavo.server.http.sockets import bind
from octavo.server.openai.api_errors import ApiError
from octavo.server.process.lifecycle import Lifecycle

FLAG = "--progress-address"
_PATH = "/startupz"


class ProgressPort:
    """Answers from a thread of its own while it is entered; hears of bytes (`Tell`), from any thread.

    Raises `InvalidConfigurationError` when built with an address that cannot be used.

    Args:
        address: `HOST:PORT`; port 0 lets the kernel choose.
    """

    def __init__(self, address: str) -> None:
        self._socket = bind(*_parts(address), FLAG)
        self._lifecycle = Lifecycle(time.monotonic)
        self._lifecycle.begin_phase("resolve")
        self._loop = asyncio.new_event_loop()
        self._must_end = asyncio.Event()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress-port", daemon=True)

    @property
    def port(self) -> int:
        """The real one, where 0 was asked for."""
        return int(self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        self._listens.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._must_end.set)
        self._thread.join()

    def __call__(self, done: int, total: int) -> None:
        self._loop.call_soon_threadsafe(self._lifecycle.note_bytes, done, total)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._listens.set()
            self._loop.close()

    async def _serve(self) -> None:
        listener = Listener(self._answer, self._socket)
        await listener.start()
        self._listens.set()
        await self._must_end.wait()
        await listener.stop()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if (refusal := _refusal(scope)) is not None:
            await respond(send, refusal.status, refusal.body(), headers=refusal.headers)
            return
        await respond(send, 503, msgspec.json.encode(self._lifecycle.startup_report()))


def _refusal(scope: Scope) -> ApiError | None:
    if scope["path"] != _PATH:
        message = f"Nothing here while a model is downloaded. This port answers {_PATH}."
        return ApiError(404, message, code="unknown_url")
    if scope["method"] not in ("GET", "HEAD"):
        headers = {"Allow": "GET, HEAD"}
        message = f"{_PATH} takes GET alone."
        return ApiError(405, message, code="method_not_supported", headers=headers)
    return None


def _parts(address: str) -> tuple[str, int]:
    """Host and port. Raises `InvalidConfigurationError`."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise InvalidConfigurationError(
            f"{FLAG} is {address!r}. Give HOST:PORT, such as [::]:8001."
        )
    return host, int(port)
