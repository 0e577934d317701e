"""Sends completions to a server at a fixed concurrency and times every token.

On asyncio and httptools directly: a general HTTP client costs more per streamed token than a small
model's server does, and would measure itself.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec

_TEXT = (
    "a the of and to in is with pod node model token cache block batch queue server answer question "
    "cluster replica memory prompt stream step engine request latency light river stone garden"
)
_WORDS = _TEXT.split()


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
    """One request, in seconds from its start. `error` is set when it failed."""

    started_at: float
    first_token_seconds: float | None = None
    inter_token_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LoadResult:
    """`seconds` from the first request's start to the last one's end."""

    seconds: float
    timings: Sequence[RequestTiming]

    def summary(self) -> dict[str, Any]:
        """Throughput and percentiles; latencies in milliseconds."""
        good = [timing for timing in self.timings if timing.error is None]
        errors = Counter(timing.error for timing in self.timings if timing.error is not None)
        output_tokens = sum(timing.completion_tokens for timing in good)
        return {
            "requests": len(self.timings),
            "succeeded": len(good),
            "failed": len(self.timings) - len(good),
            "errors": dict(errors.most_common(5)),
            "seconds": round(self.seconds, 3),
            "requests_per_second": round(len(good) / self.seconds, 3),
            "prompt_tokens": sum(timing.prompt_tokens for timing in good),
            "output_tokens": output_tokens,
            "output_tokens_per_second": round(output_tokens / self.seconds, 2),
            "ttft_ms": percentiles(
                [one.first_token_seconds for one in good if one.first_token_seconds is not None]
            ),
            "itl_ms": percentiles([gap for one in good for gap in one.inter_token_seconds]),
            "e2e_ms": percentiles([one.seconds for one in good]),
        }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Mean and nearest-rank percentiles in milliseconds; empty without values."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    result = {"mean": sum(ordered) / len(ordered)}
    for percent in (50, 90, 99):
        rank = max(0, -(-percent * len(ordered) // 100) - 1)
        result[f"p{percent}"] = ordered[rank]
    return {name: round(1000 * value, 3) for name, value in result.items()}


async def run_load(load: Load) -> LoadResult:
    """Sends all of it. A request that fails is an entry in the result, never an exception."""
    randomness = random.Random(load.seed)  # noqa: S311 - prompts, not secrets
    bodies = [_body(load, randomness) for _ in range(load.num_prompts)]
    timings: list[RequestTiming] = []
    started = time.perf_counter()
    due = iter(enumerate(bodies))

    async def worker() -> None:
        for position, body in due:
            if load.request_rate is not None:
                wait = started + position / load.request_rate - time.perf_counter()
                await asyncio.sleep(max(0.0, wait))
            timings.append(await _send(load, body))

    await asyncio.gather(*(worker() for _ in range(min(load.concurrency, load.num_prompts))))
    return LoadResult(time.perf_counter() - started, timings)


def _body(load: Load, randomness: random.Random) -> bytes:
    prompt = load.prompt
    if prompt is None:
        prompt = " ".join(randomness.choices(_WORDS, k=load.prompt_words))
    document: dict[str, Any] = {
        "model": load.model,
        "prompt": prompt,
        "max_tokens": load.max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if not load.respects_eos:
        document["ignore_eos"] = True
    return msgspec.json.encode(document)


async def _send(load: Load, body: bytes) -> RequestTiming:
    timing = RequestTiming(time.perf_counter())
    try:
        status, data = await request(load, "POST", "/completions", body, timing)
        if status != 200:
            timing.error = f"{status} {_error_code(data)}"
        elif timing.error is None and timing.completion_tokens == 0:
            timing.error = "the stream ended without usage"
    except (OSError, EOFError, httptools.HttpParserError) as error:
        timing.error = f"{type(error).__name__}: {error}"
    timing.seconds = time.perf_counter() - timing.started_at
    return timing


async def request(
    load: Load, method: str, path: str, body: bytes, timing: RequestTiming | None = None
) -> tuple[int, bytes]:
    """Status and body of one exchange; events that stream in are timed on the way.

    Raises:
        OSError, EOFError: No connection, or it broke.
    """
    url = urlsplit(load.base_url)
    context = ssl.create_default_context() if url.scheme == "https" else None
    port = url.port or (443 if context else 80)
    reader, writer = await asyncio.open_connection(url.hostname, port, ssl=context)
    try:
        head = (
            f"{method} {url.path.rstrip('/')}{path} HTTP/1.1\r\nhost: {url.netloc}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n"
        )
        if load.api_key:
            head += f"authorization: Bearer {load.api_key}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        answer = _Answer(timing)
        parser = httptools.HttpResponseParser(answer)
        while not answer.is_complete:
            data = await reader.read(65536)
            if not data:
                raise EOFError("the server closed the connection")
            parser.feed_data(data)
        return parser.get_status_code(), b"".join(answer.parts)
    finally:
        writer.close()


class _Answer:
    """httptools' callbacks: collects the body and times the events in it."""

    def __init__(self, timing: RequestTiming | None) -> None:
        self.parts: list[bytes] = []
        self.is_complete = False
        self._timing = timing
        self._rest = b""
        self._last_at = 0.0

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)
        if self._timing is None:
            return
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            self._on_event(event, self._timing)

    def on_message_complete(self) -> None:
        self.is_complete = True

    def _on_event(self, event: bytes, timing: RequestTiming) -> None:
        if not event.startswith(b"data: {"):
            return
        if b'"choices":[]' in event or b'"error":' in event[:20]:
            document = msgspec.json.decode(event[6:])
            usage = document.get("usage") or {}
            timing.completion_tokens = usage.get("completion_tokens", 0)
            timing.prompt_tokens = usage.get("prompt_tokens", 0)
            if "error" in document:
                timing.error = f"in stream: {document['error'].get('code')}"
            return
        now = time.perf_counter()
        if timing.first_token_seconds is None:
            timing.first_token_seconds = now - timing.started_at
        else:
            timing.inter_token_seconds.append(now - self._last_at)
        self._last_at = now


def _error_code(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["error"]["code"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return "no error object"
