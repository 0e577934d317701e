"""Rate limits of API keys: requests and tokens per minute, and requests under way.

Pure but for its own counts: the time is passed in. A minute's worth fills up again evenly (a token bucket).
What a request costs in tokens is known when it has ended, so a key may go below nothing once, and waits
until it is above again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from octavo.server.openai.api_errors import ApiError
from octavo.server.process.api_keys import Key

_MINUTE = 60.0


@dataclass(slots=True)
class _Bucket:
    """`level` at time `since`, of `size` that fill up within a minute."""

    size: int
    level: float
    since: float

    def at(self, now: float) -> float:
        return min(self.size, self.level + (now - self.since) * self.size / _MINUTE)

    def take(self, amount: float, now: float) -> None:
        self.level, self.since = self.at(now) - amount, now

    def seconds_until(self, level: float, now: float) -> float:
        return max(0.0, (level - self.at(now)) * _MINUTE / self.size)


@dataclass(slots=True)
class _Account:
    num_under_way: int = 0
    buckets: dict[str, _Bucket] = field(default_factory=dict)

    def bucket(self, kind: str, size: int, now: float) -> _Bucket:
        """Full at first, and anew where the limit was changed."""
        known = self.buckets.get(kind)
        if known is None or known.size != size:
            known = self.buckets[kind] = _Bucket(size, size, now)
        return known


class RateLimits:
    """The accounts of all keys, by their names."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def enter(self, key: Key, now: float) -> None:
        """Counts a request in. Raises `ApiError` (429); nothing is counted then."""
        account = self._accounts.setdefault(key.name, _Account())
        most = key.limits.max_concurrent_requests
        if most is not None and account.num_under_way >= most:
            raise self._refusal(
                key,
                now,
                f"{account.num_under_way} requests are under way and at most {most} may be",
                1.0,
            )
        for kind, bucket in self._buckets(key, now):
            if (seconds := bucket.seconds_until(1.0, now)) > 0:
                raise self._refusal(
                    key, now, f"its {bucket.size} {kind} per minute are used up", seconds
                )
        for kind, bucket in self._buckets(key, now):
            if kind == "requests":
                bucket.take(1, now)
        account.num_under_way += 1

    def leave(self, key: Key) -> None:
        self._accounts[key.name].num_under_way -= 1

    def charge(self, key: Key, num_tokens: int, now: float) -> None:
        """What a request of the key took."""
        for kind, bucket in self._buckets(key, now):
            if kind == "tokens":
                bucket.take(num_tokens, now)

    def headers(self, key: Key, now: float) -> dict[str, str]:
        """OpenAI's `x-ratelimit-…`, of what is limited."""
        found = {}
        for kind, bucket in self._buckets(key, now):
            reset = math.ceil(bucket.seconds_until(bucket.size, now))
            found[f"x-ratelimit-limit-{kind}"] = str(bucket.size)
            found[f"x-ratelimit-remaining-{kind}"] = str(max(0, math.floor(bucket.at(now))))
            found[f"x-ratelimit-reset-{kind}"] = f"{reset}s"
        return found

    def _buckets(self, key: Key, now: float) -> list[tuple[str, _Bucket]]:
        account = self._accounts.setdefault(key.name, _Account())
        sizes = (
            ("requests", key.limits.requests_per_minute),
            ("tokens", key.limits.tokens_per_minute),
        )
        return [(kind, account.bucket(kind, size, now)) for kind, size in sizes if size is not None]

    def _refusal(self, key: Key, now: float, why: str, seconds: float) -> ApiError:
        return rate_limit_exceeded(
            f"The API key {key.name} has reached a limit of its own: {why}. Try again later.",
            {"Retry-After": str(max(1, math.ceil(seconds))), **self.headers(key, now)},
        )


def rate_limit_exceeded(message: str, headers: Mapping[str, str]) -> ApiError:
    """429."""
    return ApiError(
        429,
        message,
        error_type="rate_limit_error",
        code="rate_limit_exceeded",
        headers=headers,
    )
