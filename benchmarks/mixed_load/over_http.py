"""Octavo under a mixed load, over HTTP as its users have it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any

from benchmarks.mixed_load.load import STEADY_TOKENS, MixedLoad, Observed
from octavo.client import Arrival, Client

_TIMEOUT_SECONDS = 900


class _Streams:
    """When their tokens came, on `time.perf_counter`."""

    def __init__(self, count: int) -> None:
        self.arrivals: list[list[tuple[float, int]]] = [[] for _ in range(count)]
        self.are_steady = asyncio.Event()
        self._num_steady = 0

    def take(self, number: int, arrival: Arrival) -> None:
        had = self.arrivals[number][-1][1] if self.arrivals[number] else 0
        self.arrivals[number].append((time.perf_counter(), arrival.tokens))
        if had < STEADY_TOKENS <= arrival.tokens:
            self._num_steady += 1
            if self._num_steady == len(self.arrivals):
                self.are_steady.set()


async def observe(url: str, load: MixedLoad) -> Observed:
    """Raises as `Client`."""
    stream_texts, prompt_texts = load.texts()
    streams = _Streams(len(stream_texts))
    async with Client(url, timeout_seconds=_TIMEOUT_SECONDS) as client:

        async def decode(number: int, text: Sequence[int]) -> None:
            body = _body(text, load.longest)
            await client.stream("completions", body, on_arrival=partial(streams.take, number))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(decode(*each)) for each in enumerate(stream_texts)]
            await streams.are_steady.wait()
            begin = time.perf_counter()
            firsts = await asyncio.gather(
                *(
                    _first_token(client, text, begin + number * load.period)
                    for number, text in enumerate(prompt_texts)
                )
            )
            await _sleep_until(begin + load.prompts * load.period)
            seconds = time.perf_counter() - begin
            num_ended = sum(not task.cancel() for task in tasks)
    return Observed(
        [[(at - begin, tokens) for at, tokens in each] for each in streams.arrivals],
        firsts,
        seconds,
        num_ended,
    )


async def _first_token(client: Client, text: Sequence[int], arrival: float) -> float:
    """Seconds from `arrival` on, which is awaited."""
    await _sleep_until(arrival)
    came: list[float] = []
    await client.stream(
        "completions", _body(text, 1), on_arrival=lambda _: came.append(time.perf_counter())
    )
    return came[0] - arrival


def _sleep_until(moment: float) -> Awaitable[None]:
    return asyncio.sleep(max(0.0, moment - time.perf_counter()))


def _body(prompt: Sequence[int], output_tokens: int) -> dict[str, Any]:
    return {
        "model": "bench",
        "prompt": list(prompt),
        "max_tokens": output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        # Most ids of a random model have no text: with its id each token comes in an event.
        "return_token_ids": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
