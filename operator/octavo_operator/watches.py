"""Watches: which of the streams that kopf should follow it really follows, and whether its loop still turns.

kopf tells neither. Its requests do: it opens the stream of a kind after it has listed all of it, and opens it
again whenever one ends. An open stream therefore says that nothing is missed; one that cannot be opened, or
whose list is refused, says the opposite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import SimpleNamespace

import aiohttp

from octavo_operator.manifest import Kind


class Watches:
    """Fed by kopf's thread, asked by ours."""

    def __init__(self, kinds: Iterable[Kind], namespaces: Sequence[str]) -> None:
        """In these namespaces; in all when there are none."""
        self._paths = {
            kind.path(namespace): f"{kind.plural} of {namespace or 'all namespaces'}"
            for kind in kinds
            for namespace in namespaces or (None,)
        }
        self._open: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def missing(self) -> list[str]:
        """Those that are not followed."""
        followed = set(self._open)
        return [what for path, what in self._paths.items() if path not in followed]

    async def answers(self, seconds: float) -> bool:
        """Whether kopf's event loop turns, or does not run at all."""
        theirs, ours = self._loop, asyncio.get_running_loop()
        if theirs is None or theirs.is_closed():
            return True
        answered = asyncio.Event()
        try:
            theirs.call_soon_threadsafe(ours.call_soon_threadsafe, answered.set)
            async with asyncio.timeout(seconds):
                await answered.wait()
        except TimeoutError:
            return False
        except RuntimeError:
            return True  # closed just now
        return True

    def begin(self) -> None:
        """Called in the event loop that kopf runs in."""
        self._loop = asyncio.get_running_loop()
        self._open.clear()

    def trace(self) -> aiohttp.TraceConfig:
        """Follows the requests of a session."""
        config = aiohttp.TraceConfig()
        config.on_request_end.append(self._ended)
        config.on_request_exception.append(self._failed)
        return config

    async def _ended(
        self, _: aiohttp.ClientSession, __: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        """An answer has begun; a stream's has no end."""
        path = self._path(params.url.path)
        if path is None:
            return
        if params.response.status != 200:
            self._open.discard(path)
        elif params.url.query.get("watch") == "true":
            self._open.add(path)

    async def _failed(
        self,
        _: aiohttp.ClientSession,
        __: SimpleNamespace,
        params: aiohttp.TraceRequestExceptionParams,
    ) -> None:
        path = self._path(params.url.path)
        if path is not None:
            self._open.discard(path)

    def _path(self, path: str) -> str | None:
        """Without what a proxy has before it."""
        return next((known for known in self._paths if path.endswith(known)), None)
