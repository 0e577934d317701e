"""Accounts of API keys over several processes: what each request costs in messages, and what is counted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from itertools import count

import pytest

from octavo.server.openai.api_errors import ApiError
from octavo.server.process.api_keys import ApiKeys, Key
from octavo.server.process.api_servers.accounts import AskedAccounts, SharedAccounts
from octavo.server.process.api_servers.channel import open_channel
from octavo.server.process.api_servers.messages import (
    AskLimits,
    Came,
    Charge,
    Enter,
    Leave,
    Limits,
    Message,
)
from octavo.server.process.key_limits import KeyLimits

FREE = Key("team", b"free")
TWO = Key("team", b"two", KeyLimits(max_concurrent_requests=2))
RATED = Key("team", b"rated", KeyLimits(requests_per_minute=1000, tokens_per_minute=1000))
OTHER = Key("other", b"other", KeyLimits(max_concurrent_requests=1))


class Leader:
    """The process that counts, which writes down what it is sent."""

    def __init__(self) -> None:
        self.accounts = SharedAccounts()
        self.sent: list[str] = []

    def handle(self, process: bytes, message: Message) -> Message | None:
        self.sent.append(type(message).__name__)
        match message:
            case Enter():
                return self.accounts.enter(process, message.key)
            case Came():
                self.accounts.enter(process, message.key)
            case Leave():
                self.accounts.leave(process, message.key)
            case Charge():
                self.accounts.charge(message.key, message.num_tokens)
            case AskLimits():
                return Limits(self.accounts.headers(message.key))
            case _:
                raise AssertionError(message)
        return None


class Process:
    """An API process's end."""

    def __init__(self, keys: ApiKeys, accounts: AskedAccounts) -> None:
        self.keys = keys
        self.accounts = accounts

    async def serve(self, key: Key) -> None:
        """A request from its begin to its end."""
        await self.accounts.enter(key)
        await self.accounts.headers(key)
        self.accounts.charge(key, 5)
        self.accounts.leave(key)

    async def is_let_in(self, key: Key, *, stays: bool = False) -> bool:
        """All that was sent before is known when it returns."""
        try:
            await self.accounts.enter(key)
        except ApiError:
            return False
        if not stays:
            self.accounts.leave(key)
        return True


Join = Callable[[], Awaitable[Process]]


def run(in_file: list[Key], use: Callable[[Leader, Join], Awaitable[None]]) -> None:
    async def main() -> None:
        leader, numbers, channels = Leader(), count(), []

        async def join() -> Process:
            name, (one, other) = str(next(numbers)).encode(), socket.socketpair()
            channels.append(
                await open_channel(one, lambda sent: leader.handle(name, sent), lambda: None)
            )
            channel = await open_channel(other, lambda _: None, lambda: None)
            channels.append(channel)
            keys = ApiKeys.told((), has_file=True, in_file=in_file)
            return Process(keys, AskedAccounts(channel, keys))

        await use(leader, join)
        for each in channels:
            await each.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("in_file", "sent"),
    [
        ([FREE], []),
        ([FREE, RATED, OTHER], []),  # it counts against no limit of theirs
        ([FREE, TWO], ["Came", "Leave"]),
    ],
)
def test_a_key_without_limits_costs_messages_only_where_what_it_has_under_way_counts(
    in_file: list[Key], sent: list[str]
) -> None:
    async def use(leader: Leader, join: Join) -> None:
        process = await join()
        for _ in range(10):
            await process.serve(FREE)
        assert await process.is_let_in(RATED)  # behind all that was sent
        told = leader.sent[: leader.sent.index("Enter")]
        assert told == 10 * sent

    run(in_file, use)


def test_what_came_before_the_limit_counts_against_it() -> None:
    async def use(leader: Leader, join: Join) -> None:
        one, other = await join(), await join()
        for _ in range(3):
            await one.accounts.enter(FREE)
        assert leader.sent == []
        for process in (one, other):
            process.keys.take([FREE, TWO])
        assert not await one.is_let_in(TWO)
        assert leader.sent == ["Came"] * 3 + ["Enter"]
        assert not await other.is_let_in(TWO)
        for left in (2, 1, 0):
            one.accounts.leave(FREE)
            assert await one.is_let_in(TWO) == (left < 2)
            assert await other.is_let_in(TWO) == (left < 2)
        # And back: what was told of is taken back, what was not is nobody's.
        await one.accounts.enter(FREE)
        one.keys.take([FREE])
        await one.accounts.enter(FREE)
        for _ in range(2):
            one.accounts.leave(FREE)
        assert await one.is_let_in(TWO)
        for is_let_in in (True, True, False):
            assert await one.is_let_in(TWO, stays=True) == is_let_in

    run([FREE], use)
