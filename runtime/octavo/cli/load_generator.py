"""Load generator: completions sent to a server at a fixed concurrency, and every token timed."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np

from octavo.client import Client, UnexpectedAnswerError, why_no_answer

_TEXT = (
    "a the of and to in is with pod node model token cache block batch queue server answer question "
    "cluster replica memory prompt stream step engine request latency light river stone garden"
)
_WORDS = _TEXT.split()
_PERCENTS = (50, 90, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent. `request_rate` is requests per second (None: as fast as `concurrency` allows)."""

    base_url: str
    model: str
    num_prompts: int
    concurrency: int
    max_tokens: int
    prompt_words: int
    prompt: str | None = None
    api_key: str | None = None
    request_rate: float | None = None
    respects_eos: bool = False
    seed: int = 0


@dataclass(slots=True)
class RequestTiming:
    """One request, in seconds from its start. `error` is set when it failed, and `detail` says more."""

    first_token_seconds: float | None = None
    inter_token_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None
    detail: str = ""

    @property
    def seconds_per_token(self) -> float | None:
        """Of those after the first, as vLLM's TPOT; None where there is none."""
        gaps = self.inter_token_seconds
        return sum(gaps) / len(gaps) if gaps else None


@dataclass(frozen=True, slots=True)
class LoadResult:
    """`seconds` from the first request's start to the last one's end.

    `unfinished` requests had begun, and not ended, when the load was interrupted.
    """

    seconds: float
    timings: Sequence[RequestTiming]
    unfinished: int = 0

    def summary(self) -> dict[str, Any]:
        """Throughput and percentiles of the requests that ended; latencies in milliseconds."""
        good = [timing for timing in self.timings if timing.error is None]
        errors = Counter(timing.error for timing in self.timings if timing.error is not None)
        output_tokens = sum(timing.completion_tokens for timing in good)
        return {
            "requests": len(self.timings),
            "succeeded": len(good),
            "failed": len(self.timings) - len(good),
            **({"unfinished": self.unfinished} if self.unfinished else {}),
            "errors": dict(errors.most_common(5)),
            "seconds": round(self.seconds, 3),
            "requests_per_second": round(len(good) / self.seconds, 3),
            "prompt_tokens": sum(timing.prompt_tokens for timing in good),
            "output_tokens": output_tokens,
            "output_tokens_per_second": round(output_tokens / self.seconds, 2),
            "ttft_ms": percentiles(_told(one.first_token_seconds for one in good)),
            "tpot_ms": percentiles(_told(one.seconds_per_token for one in good)),
            "itl_ms": percentiles([gap for one in good for gap in one.inter_token_seconds]),
            "e2e_ms": percentiles([one.seconds for one in good]),
        }


def _told(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Mean and nearest-rank percentiles in milliseconds; empty without values."""
    if not seconds:
        return {}
    values = {"mean": np.mean(seconds)}
    found = np.percentile(seconds, _PERCENTS, method="inverted_cdf")
    values |= {f"p{percent}": value for percent, value in zip(_PERCENTS, found, strict=True)}
    return {name: round(1000 * float(value), 3) for name, value in values.items()}


class LoadRun:
    """One run of a load. What has ended can be asked for at any time: a run may be interrupted."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._timings: list[RequestTiming] = []
        self._begun = 0
        self._started = time.perf_counter()

    async def send_all(self) -> None:
        """Sends all of it. A request that fails is an entry in the result, never an exception."""
        load = self._load
        randomness = random.Random(load.seed)  # noqa: S311 - prompts, not secrets
        bodies = [_body(load, randomness) for _ in range(load.num_prompts)]
        due = iter(enumerate(bodies))
        self._started = time.perf_counter()
        async with Client(load.base_url, load.api_key) as client:

            async def worker() -> None:
                for position, body in due:
                    if load.request_rate is not None:
                        wait = self._started + position / load.request_rate - time.perf_counter()
                        await asyncio.sleep(max(0.0, wait))
                    self._begun += 1
                    self._timings.append(await _send(client, body))

            async with asyncio.TaskGroup() as workers:
                for _ in range(min(load.concurrency, load.num_prompts)):
                    workers.create_task(worker())

    def result(self) -> LoadResult:
        """All that ended until now."""
        seconds = time.perf_counter() - self._started
        return LoadResult(seconds, list(self._timings), self._begun - len(self._timings))


def _body(load: Load, randomness: random.Random) -> dict[str, Any]:
    prompt = load.prompt
    if prompt is None:
        prompt = " ".join(randomness.choices(_WORDS, k=load.prompt_words))
    body: dict[str, Any] = {
        "model": load.model,
        "prompt": prompt,
        "max_tokens": load.max_tokens,
        "temperature": 0,
        # Per-token latencies need the number of tokens of each event.
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    if not load.respects_eos:
        body["ignore_eos"] = True
    return body


async def _send(client: Client, body: dict[str, Any]) -> RequestTiming:
    try:
        answer = await client.stream("completions", body)
    except UnexpectedAnswerError as error:
        where = "in stream:" if error.status == 200 else error.status
        return RequestTiming(error=f"{where} {error.code}", detail=error.message)
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        return RequestTiming(error=why_no_answer(error))
    return RequestTiming(
        first_token_seconds=answer.first_token_seconds,
        inter_token_seconds=answer.inter_token_seconds(),
        seconds=answer.seconds,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        error=None if answer.completion_tokens else "the stream ended without usage",
    )
