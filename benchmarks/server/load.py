"""Load: streams of chat completions, read as cheaply as Python can.

A load generator on the next core must not be what is measured: so a request is bytes that were made before, a
read counts the events in it, and only some streams, the probes, look at each token's text. They also check
that no token is lost or doubled, for each names the step that made it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop

from benchmarks.server.step_clock import SYMBOLS, StepClock

_CONTENT = re.compile(rb'"content":"([^"]+)"')
_ANSWERED = b"HTTP/1.1 200"
_END = b"0\r\n\r\n"
_EVENT_END = b"\n\n"
_CONNECTIONS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Load:
    """`streams` at once, each of which asks `requests` times, one after another, for `tokens` tokens.

    Args:
        period: Seconds between two steps of the null model; 0: as fast as it can.
        probes: Streams that read each token's text.
        prompt_words: Of each request; words of the demo model's language.
    """

    streams: int
    requests: int
    tokens: int
    period: float = 0.0
    probes: int = 16
    prompt_words: int = 64

    @property
    def num_tokens(self) -> int:
        """Of all answers."""
        return self.streams * self.requests * self.tokens


@dataclass(slots=True)
class Measured:
    """What came. Times in seconds.

    Args:
        seconds: From the first request to the end of the last answer.
        events: Of all streams; one may bring several tokens.
        first_token: Of each request, from its sending to its first text.
        ages: How old a probe's tokens were when they arrived; only while all streams had their first.
    """

    seconds: float = 0.0
    events: int = 0
    first_token: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)


class LoadError(Exception):
    """A server did not answer what was asked for."""


def request_bytes(load: Load, number: int) -> bytes:
    """Prompts differ from their first word on, as those of many people do."""
    words = " ".join(f"word{(number * 31 + place) % 97}" for place in range(load.prompt_words))
    body = json.dumps(
        {
            "model": "bench",
            "messages": [{"role": "user", "content": f"{number} {words}"}],
            "max_tokens": load.tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def run_load(port: int, load: Load, clock: StepClock) -> Measured:
    """Raises `LoadError` when an answer is not whole."""
    clock.period = load.period
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(port, load, clock))
    finally:
        gc.enable()
        clock.period = 0.0


async def _run(port: int, load: Load, clock: StepClock) -> Measured:
    loop = asyncio.get_running_loop()
    shared = _Shared(load, clock)
    streams = [_Stream(shared, number) for number in range(load.streams)]
    for begin in range(0, len(streams), _CONNECTIONS_AT_ONCE):
        await asyncio.gather(
            *(
                loop.create_connection(lambda stream=stream: stream, "127.0.0.1", port)  # type: ignore[misc]
                for stream in streams[begin : begin + _CONNECTIONS_AT_ONCE]
            )
        )
    started = time.monotonic()
    for stream in streams:
        stream.ask()
    try:
        await asyncio.gather(*(stream.done for stream in streams))
    finally:
        for stream in streams:
            stream.close()
    return shared.measured(time.monotonic() - started)


class _Shared:
    """What all streams of a load know."""

    def __init__(self, load: Load, clock: StepClock) -> None:
        self.load = load
        self.clock = clock
        self.events = 0
        self.first_token: list[float] = []
        self.all_began_at = 0.0
        self._num_to_begin = load.streams
        self.arrivals: list[tuple[float, float]] = []

    def begin(self, now: float, seconds: float) -> None:
        """A request has its first token."""
        self.first_token.append(seconds)
        self._num_to_begin -= 1
        if self._num_to_begin == 0:
            self.all_began_at = now

    def measured(self, seconds: float) -> Measured:
        ages = [at - made for at, made in self.arrivals if at > self.all_began_at]
        return Measured(seconds, self.events, self.first_token, ages)


class _Stream(asyncio.Protocol):
    """One connection: requests one after another."""

    def __init__(self, shared: _Shared, number: int) -> None:
        self._shared = shared
        self._number = number
        # Spread, for those that ask first are served first.
        self._is_probe = number % max(1, shared.load.streams // shared.load.probes) == 0
        self._num_asked = 0
        self._tail = b""
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def ask(self) -> None:
        load = self._shared.load
        number = self._number + self._num_asked * load.streams
        self._num_asked += 1
        self._has_begun = False
        self._is_unanswered = True
        self._tail = self._rest = b""
        self._text = ""
        self._step = -1
        self._asked_at = time.monotonic()
        assert self._transport is not None
        self._transport.write(request_bytes(load, number))

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        shared = self._shared
        if self._is_unanswered:
            self._is_unanswered = False
            if not data.startswith(_ANSWERED):
                # No stream, whose end would be looked for: the server would close it after a minute.
                self._fail(LoadError(f"it was answered with {data[:600].decode(errors='replace')}"))
                return
        shared.events += data.count(b"data: ")
        if self._is_probe:
            self._read(data, now)
        elif not self._has_begun and _CONTENT.search(data) is not None:
            self._begin(now)
        self._tail = (self._tail + data[-len(_END) :])[-len(_END) :]
        if self._tail == _END:
            self._end(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(
            LoadError(
                f"the connection ended in request {self._num_asked} of {self._shared.load.requests}, "
                f"behind {self._tail!r}: {exc}"
            )
        )

    def _fail(self, error: LoadError) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _begin(self, now: float) -> None:
        self._has_begun = True
        self._shared.begin(now, now - self._asked_at)

    def _read(self, data: bytes, now: float) -> None:
        whole, separator, self._rest = (self._rest + data).rpartition(_EVENT_END)
        if not separator:
            return
        clock = self._shared.clock
        for found in _CONTENT.findall(whole):
            if not self._has_begun:
                self._begin(now)
            for symbol in found.decode():
                self._text += symbol
                self._step = clock.latest_with(symbol) if self._step < 0 else self._step + 1
                self._shared.arrivals.append((now, clock.time_of(self._step)))

    def _end(self, data: bytes) -> None:
        load = self._shared.load
        problem = None
        if not self._has_begun:
            problem = data[:300].decode(errors="replace")
        elif self._is_probe and load.period and not is_in_order(self._text, load.tokens):
            problem = f"the tokens are {self._text!r}"
        if problem is not None:
            self._fail(LoadError(problem))
        elif self._num_asked < load.requests:
            self.ask()
        else:
            self.done.set_result(None)


def is_in_order(text: str, num_tokens: int) -> bool:
    """Whether they are so many tokens of steps that follow one another."""
    if len(text) != num_tokens:
        return False
    places = [SYMBOLS.index(symbol) for symbol in text]
    return all((now - before) % len(SYMBOLS) == 1 for before, now in itertools.pairwise(places))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1e6) * len(ordered) // 1_000_000) - 1)]
