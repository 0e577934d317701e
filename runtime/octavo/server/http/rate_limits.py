"""Rate limits of API keys: requests and tokens per minute, and requests under way.

Pure but for its own counts: the time is passed in. A minute's worth fills up again evenly (a token bucket).
What a request costs in tokens is known when it has ended, so a key may go below nothing once, and waits
until it is above again.

Keys of one name may have different limits, as while one is rotated for another with a higher limit. Against
each limit counts what the keys with that limit and those with lower ones take. So no key has more than its
own limit, all keys of a name have no more than the largest, and the new key's use keeps nobody from the old
one's. A limit that is changed gives nobody anew what was used.
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
class _Meter:
    """What the keys of one name took of one kind: a bucket for each limit that is not full."""

    buckets: dict[int, _Bucket] = field(default_factory=dict)

    def judged(self, size: int, now: float) -> list[_Bucket]:
        """Those that a key with this limit takes from: its own first, then those of larger limits."""
        # One that is full tells nothing that a new one would not: limits that are gone leave nothing behind.
        self.buckets = {most: one for most, one in self.buckets.items() if one.at(now) < most}
        if size not in self.buckets:
            lower = max((most for most in self.buckets if most < size), default=None)
            used = 0.0 if lower is None else lower - self.buckets[lower].at(now)
            self.buckets[size] = _Bucket(size, size - used, now)
        return [self.buckets[most] for most in sorted(self.buckets) if most >= size]


@dataclass(slots=True)
class _Account:
    num_under_way: int = 0
    meters: dict[str, _Meter] = field(default_factory=dict)


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
        judged = self._buckets(key, now)
        waits = [
            (bucket.seconds_until(1.0, now), bucket.size, kind, bucket is buckets[0])
            for kind, buckets in judged.items()
            for bucket in buckets
        ]
        seconds, size, kind, is_own = max(waits, default=(0.0, 0, "", True))
        if seconds > 0:
            whose = "its" if is_own else "those that it shares with keys of its name, the"
            why = f"{whose} {size} {kind} per minute are used up"
            raise self._refusal(key, now, why, seconds)
        for bucket in judged.get("requests", ()):
            bucket.take(1, now)
        account.num_under_way += 1

    def leave(self, key: Key) -> None:
        self._accounts[key.name].num_under_way -= 1

    def charge(self, key: Key, num_tokens: int, now: float) -> None:
        """What a request of the key took."""
        for bucket in self._buckets(key, now).get("tokens", ()):
            bucket.take(num_tokens, now)

    def headers(self, key: Key, now: float) -> dict[str, str]:
        """OpenAI's `x-ratelimit-…`, of what is limited."""
        found = {}
        for kind, buckets in self._buckets(key, now).items():
            most = buckets[0].size
            left = min(each.at(now) for each in buckets)
            reset = max(each.seconds_until(most, now) for each in buckets)
            found[f"x-ratelimit-limit-{kind}"] = str(most)
            found[f"x-ratelimit-remaining-{kind}"] = str(max(0, math.floor(left)))
            found[f"x-ratelimit-reset-{kind}"] = f"{math.ceil(reset)}s"
        return found

    def _buckets(self, key: Key, now: float) -> dict[str, list[_Bucket]]:
        """By kind, what the key is judged by: its own limit's first."""
        meters = self._accounts.setdefault(key.name, _Account()).meters
        sizes = (
            ("requests", key.limits.requests_per_minute),
            ("tokens", key.limits.tokens_per_minute),
        )
        return {
            kind: meters.setdefault(kind, _Meter()).judged(size, now)
            for kind, size in sizes
            if size is not None
        }

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
