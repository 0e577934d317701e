"""Accounts of API keys over several API processes: one process counts, the others ask it.

Only a key with limits is asked for. One without them waits for no answer, and is told of where what it has
under way counts: another key of its name has a limit of requests under way.
"""

from __future__ import annotations

import time
from collections import Counter

from octavo.server.http.rate_limits import RateLimits, rate_limit_exceeded
from octavo.server.openai.api_errors import ApiError
from octavo.server.process.api_keys import ApiKeys, Key
from octavo.server.process.api_servers.channel import Channel, ChannelLostError
from octavo.server.process.api_servers.messages import (
    AskLimits,
    Came,
    Charge,
    Enter,
    Entered,
    Leave,
    Limits,
    OverLimit,
)


class AskedAccounts:
    """In an API process.

    Args:
        keys: Those that are accepted. Its changes are heard of.
    """

    def __init__(self, channel: Channel, keys: ApiKeys) -> None:
        self._channel = channel
        self._counted = _counted(keys.in_file)
        # Under way, of keys without limits, that nobody was told of; one is as good as another of its name.
        self._untold = Counter[str]()
        keys.on_change = self._take

    async def enter(self, key: Key) -> None:
        """Raises `ApiError` (429)."""
        if not _is_limited(key):
            if key.name in self._counted:
                self._channel.send(Came(_without_secret(key)))
            else:
                self._untold[key.name] += 1
            return
        answer = await self._channel.ask(Enter(_without_secret(key)), Entered)
        if (refusal := answer.refusal) is not None:
            raise rate_limit_exceeded(refusal.message, refusal.headers)

    def leave(self, key: Key) -> None:
        if not _is_limited(key) and self._untold[key.name]:
            self._untold[key.name] -= 1
        else:
            self._channel.send(Leave(_without_secret(key)))

    def charge(self, key: Key, num_tokens: int) -> None:
        if _is_limited(key):
            self._channel.send(Charge(_without_secret(key), num_tokens))

    async def headers(self, key: Key) -> dict[str, str]:
        if not _is_limited(key):
            return {}
        try:
            return (await self._channel.ask(AskLimits(_without_secret(key)), Limits)).headers
        except ChannelLostError:  # the server ends
            return {}

    def _take(self, in_file: list[Key]) -> None:
        self._counted = _counted(in_file)
        for name in self._counted & self._untold.keys():
            for _ in range(self._untold.pop(name)):
                self._channel.send(Came(Key(name, b"")))


class SharedAccounts:
    """In the process that counts. What one that is gone had under way is given back."""

    def __init__(self) -> None:
        self._rates = RateLimits()
        self._under_way: dict[bytes, Counter[str]] = {}

    def enter(self, process: bytes, key: Key) -> Entered:
        try:
            self._rates.enter(key, time.monotonic())
        except ApiError as error:
            return Entered(OverLimit(error.detail.message, error.headers))
        self._under_way.setdefault(process, Counter())[key.name] += 1
        return Entered()

    def leave(self, process: bytes, key: Key) -> None:
        self._under_way[process][key.name] -= 1
        self._rates.leave(key)

    def charge(self, key: Key, num_tokens: int) -> None:
        self._rates.charge(key, num_tokens, time.monotonic())

    def headers(self, key: Key) -> dict[str, str]:
        return self._rates.headers(key, time.monotonic())

    def leave_all(self, process: bytes) -> None:
        for name in self._under_way.pop(process, Counter()).elements():
            self._rates.leave(Key(name, b""))


def _counted(keys: list[Key]) -> set[str]:
    """Names whose requests under way a limit is about, be it of one key of several."""
    return {key.name for key in keys if key.limits.max_concurrent_requests is not None}


def _is_limited(key: Key) -> bool:
    limits = key.limits
    return (
        limits.requests_per_minute is not None
        or limits.tokens_per_minute is not None
        or limits.max_concurrent_requests is not None
    )


def _without_secret(key: Key) -> Key:
    return Key(key.name, b"", key.limits)
