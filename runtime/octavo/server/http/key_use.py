"""Key use. Whose key a request came with, for what is done on its behalf further inside.

Held in a context variable, as a request's tasks inherit it: routes know the requests of many APIs, and keys
are no part of any of them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from octavo.server.http.rate_limits import RateLimits
from octavo.server.process.api_keys import Key
from octavo.server.process.key_limits import KeyLimits
from octavo.server.process.request_metrics import RequestMetrics

_current: ContextVar[KeyUse | None] = ContextVar("octavo_key_use", default=None)
_UNLIMITED = KeyLimits()


class KeyAccounts(Protocol):
    """What the keys have used, in one place for all requests of a server."""

    async def enter(self, key: Key) -> None:
        """Counts a request in. Raises `ApiError` (429)."""

    def leave(self, key: Key) -> None: ...

    def charge(self, key: Key, num_tokens: int) -> None:
        """What a request of the key took."""

    async def headers(self, key: Key) -> dict[str, str]:
        """OpenAI's `x-ratelimit-…`, of what is limited."""
        ...


class OwnAccounts:
    """Of the only API process."""

    def __init__(self) -> None:
        self._rates = RateLimits()

    async def enter(self, key: Key) -> None:
        self._rates.enter(key, time.monotonic())

    def leave(self, key: Key) -> None:
        self._rates.leave(key)

    def charge(self, key: Key, num_tokens: int) -> None:
        self._rates.charge(key, num_tokens, time.monotonic())

    async def headers(self, key: Key) -> dict[str, str]:
        return self._rates.headers(key, time.monotonic())


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key that is used at this moment."""

    key: Key
    accounts: KeyAccounts

    async def headers(self) -> dict[str, str]:
        return await self.accounts.headers(self.key)


@asynccontextmanager
async def entered(use: KeyUse | None, *, is_counted: bool) -> AsyncIterator[None]:
    """What happens within is on behalf of the key.

    Args:
        is_counted: It is a request that the key's limits are about. Raises `ApiError` (429) when the key may
            do no more at present.
    """
    if use is None:
        yield
        return
    if is_counted:
        await use.accounts.enter(use.key)
    token = _current.set(use)
    try:
        yield
    finally:
        _current.reset(token)
        if is_counted:
            use.accounts.leave(use.key)


def current_use() -> KeyUse | None:
    """None where no key is asked for."""
    return _current.get()


def current_tenant() -> str:
    """Whose share of the engine a request takes: its key's, or that of all where no key is asked for."""
    use = _current.get()
    return "" if use is None else use.key.name


def charge(use: KeyUse | None, num_tokens: int, metrics: RequestMetrics) -> dict[str, str]:
    """Counts what a request took; what its line in the log says of the key: its name."""
    if use is None:
        return {}
    use.accounts.charge(use.key, num_tokens)
    metrics.count_key(use.key.name, num_tokens)
    return {"key": use.key.name}


def current_limits() -> KeyLimits:
    use = _current.get()
    return _UNLIMITED if use is None else use.key.limits
