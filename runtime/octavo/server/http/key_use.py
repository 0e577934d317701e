"""Key use. Whose key a request came with, for what is done on its behalf further inside.

Held in a context variable, as a request's tasks inherit it: routes know the requests of many APIs, and keys
are no part of any of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from octavo.server.http.rate_limits import RateLimits
from octavo.server.process.api_keys import Key
from octavo.server.process.key_limits import KeyLimits
from octavo.server.process.metrics import ServerMetrics

_current: ContextVar[KeyUse | None] = ContextVar("octavo_key_use", default=None)
_UNLIMITED = KeyLimits()


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key that is used at this moment."""

    key: Key
    rates: RateLimits

    def headers(self) -> dict[str, str]:
        return self.rates.headers(self.key, time.monotonic())


@contextmanager
def entered(use: KeyUse | None, *, is_counted: bool) -> Iterator[None]:
    """What happens within is on behalf of the key.

    Args:
        is_counted: It is a request that the key's limits are about. Raises `ApiError` (429) when the key may
            do no more at present.
    """
    if use is None:
        yield
        return
    if is_counted:
        use.rates.enter(use.key, time.monotonic())
    token = _current.set(use)
    try:
        yield
    finally:
        _current.reset(token)
        if is_counted:
            use.rates.leave(use.key)


def current_use() -> KeyUse | None:
    """None where no key is asked for."""
    return _current.get()


def current_tenant() -> str:
    """Whose share of the engine a request takes: its key's, or that of all where no key is asked for."""
    use = _current.get()
    return "" if use is None else use.key.name


def charge(use: KeyUse | None, num_tokens: int, metrics: ServerMetrics) -> dict[str, str]:
    """Counts what a request took; what its line in the log says of the key: its name."""
    if use is None:
        return {}
    use.rates.charge(use.key, num_tokens, time.monotonic())
    metrics.count_key(use.key.name, num_tokens)
    return {"key": use.key.name}


def current_limits() -> KeyLimits:
    use = _current.get()
    return _UNLIMITED if use is None else use.key.limits
