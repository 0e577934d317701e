"""HTTP client of OpenAI's API that times a streamed answer's tokens.

`octavo bench serve`, the benchmarks and the load of the end-to-end tests all measure with it, so that
their figures mean the same. It speaks HTTP through aiohttp, whose compiled parser costs per event what
httptools alone does (0.16 ms with the wake-up, on a busy core), where httpx, and with it OpenAI's own
client, costs 2.3 times as much and would measure itself. What an application sees is shown with OpenAI's
client instead: `octavo chat`, and the question of `make demo`.
"""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec

_CONNECT_SECONDS = 30.0
_ROUTES = ("/chat/completions", "/completions", "/responses", "/models")
_LONGEST_MESSAGE = 300


class UnexpectedAnswerError(Exception):
    """The server answered, but not with what was asked for.

    `status` is HTTP's, 200 for an error within a stream; `code` is the error object's, or says what is
    wrong with the answer; `message` is the server's own.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}" if message else f"{status} {code}")
        self.status = status
        self.code = code
        self.message = message


class Arrival(NamedTuple):
    """`tokens` of the answer are here, `seconds` after the request was sent."""

    seconds: float
    tokens: int


@dataclass(slots=True)
class StreamedAnswer:
    """One answer, whole; times in seconds from the moment when the request was sent.

    `arrivals` has one entry for each read that brought tokens. `tells_tokens`: the server said with each
    event how many tokens there were (`continuous_usage_stats`); else an event counts as one token, and
    only the sum at the end is the server's. `is_whole`: it came to its end, by a reason or `[DONE]`.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    tells_tokens: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str | None = None
    is_whole: bool = False
    seconds: float = 0.0

    @property
    def first_token_seconds(self) -> float | None:
        """None for an answer without a token."""
        return self.arrivals[0].seconds if self.arrivals else None

    def inter_token_seconds(self) -> list[float]:
        """One gap for each token after the first; their mean is the time since the first over their number.

        An event may bring several tokens, and tokens without text bring none: tokens that arrive together
        share evenly the time since those before them, and those beside the first come in no time. Where
        the server tells their number at the end alone, every gap is the answer's mean.
        """
        if not self.arrivals:
            return []
        if not self.tells_tokens:
            count = self.completion_tokens - 1
            span = self.arrivals[-1].seconds - self.arrivals[0].seconds
            return [span / count] * count if count > 0 else []
        gaps = [0.0] * (self.arrivals[0].tokens - 1)
        for before, now in itertools.pairwise(self.arrivals):
            count = now.tokens - before.tokens
            gaps += [(now.seconds - before.seconds) / count] * count
        return gaps


def api_base(url: str) -> str:
    """The API's root: `host:8000` and `http://host:8000/` mean `http://host:8000/v1`, and so does the URL of
    one of its routes, as it stands in other programs' settings."""
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    for route in _ROUTES:
        if url.endswith(f"/v1{route}"):
            return url.removesuffix(route)
    return url if url.endswith("/v1") else f"{url}/v1"


class Client:
    """Connections to one server, in an `async with` block; requests may run at once.

    Args:
        base_url: As `api_base` takes it.
        timeout_seconds: Of a whole request; None waits as long as the server takes.

    Every method raises `UnexpectedAnswerError`, and `aiohttp.ClientError`, `TimeoutError` or `OSError` when
    there is no connection or it breaks.
    """

    def __init__(
        self, base_url: str, api_key: str | None = None, *, timeout_seconds: float | None = None
    ) -> None:
        self.base_url = api_base(base_url)
        self.root = self.base_url.removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=_CONNECT_SECONDS)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=self._timeout,
            # By default aiohttp opens no more than 100 connections, and later requests would wait here.
            connector=aiohttp.TCPConnector(limit=0),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def models(self) -> list[str]:
        """The names of the models that the server has."""
        body = await self.get("v1/models")
        try:
            return [model.id for model in msgspec.json.decode(body, type=_Models).data]
        except msgspec.MsgspecError as error:
            raise UnexpectedAnswerError(200, "no list of models", _excerpt(body)) from error

    async def get(self, path: str) -> bytes:
        """What the server answers at `path` below its root."""
        async with self._session.get(f"{self.root}/{path}") as response:
            body = await response.read()
            if response.status != 200:
                raise _refusal(response.status, body)
            return body

    async def stream(
        self,
        route: str,
        body: Mapping[str, Any],
        *,
        on_arrival: Callable[[Arrival], None] | None = None,
    ) -> StreamedAnswer:
        """Sends `body` with `stream` to `completions` or `chat/completions` and reads it to its end.

        Args:
            on_arrival: Is told of each arrival at once: who ends a request early has no answer to read.
        """
        answer = StreamedAnswer()
        started = time.perf_counter()
        url = f"{self.base_url}/{route}"
        async with self._session.post(url, json={**body, "stream": True}) as response:
            if response.status != 200:
                raise _refusal(response.status, await response.read())
            rest = b""
            async for data in response.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                has_come = _take(answer, lines, time.perf_counter() - started)
                if has_come and on_arrival is not None:
                    on_arrival(answer.arrivals[-1])
            _take(answer, [rest], time.perf_counter() - started)  # without a line break behind it
        if not answer.is_whole:
            # Whoever stands between may close it as if it were over.
            raise UnexpectedAnswerError(200, "ended early", "without finish_reason and [DONE]")
        answer.seconds = time.perf_counter() - started
        return answer


def why_no_answer(error: Exception) -> str:
    """A failed connection in the system's words: aiohttp's own tell of TLS where there is none."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    if isinstance(cause, socket.gaierror | ssl.SSLError):  # their numbers are not the system's
        return str(cause.strerror or cause)
    if isinstance(cause, TimeoutError) and not cause.errno:
        return "no answer in time"
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno)
    return str(error) or type(error).__name__


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: dict[str, Any] | None = None
    finish_reason: str | None = None

    @property
    def has_token(self) -> bool:
        """Whether it brings a token's text: the first delta of a chat may name the role alone."""
        delta = self.delta or {}
        return bool(self.text) or any(value for key, value in delta.items() if key != "role")


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Chunk)


def _take(answer: StreamedAnswer, lines: list[bytes], seconds: float) -> bool:
    """Adds the events of one read; whether they brought tokens. An event of OpenAI's is one line: `data: `
    and JSON."""
    before = answer.arrivals[-1].tokens if answer.arrivals else 0
    tokens = before
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            answer.is_whole = True
            continue
        try:
            chunk = _decoder.decode(data)
        except msgspec.MsgspecError as error:
            raise UnexpectedAnswerError(200, "no chunk of a stream", _excerpt(data)) from error
        if chunk.error is not None:
            raise _refusal(200, data)
        if chunk.usage is not None:
            # A sum in the last event of an answer tells nothing of those before it.
            answer.tells_tokens = answer.tells_tokens or (bool(chunk.choices) and tokens == 0)
            answer.prompt_tokens = chunk.usage.prompt_tokens
            answer.completion_tokens = chunk.usage.completion_tokens
        if answer.tells_tokens:
            tokens = max(tokens, answer.completion_tokens)
        else:
            tokens += any(choice.has_token for choice in chunk.choices)
        for choice in chunk.choices:
            answer.finish_reason = choice.finish_reason or answer.finish_reason
        answer.is_whole = answer.is_whole or answer.finish_reason is not None
    if tokens == before:
        return False
    answer.arrivals.append(Arrival(seconds, tokens))
    return True


def _refusal(status: int, body: bytes) -> UnexpectedAnswerError:
    """What the error object says, in OpenAI's form or one of those that other servers have."""
    try:
        document = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return UnexpectedAnswerError(status, "no error object", _excerpt(body))
    error = document.get("error", document)
    if not isinstance(error, dict):
        return UnexpectedAnswerError(status, "error", str(error)[:_LONGEST_MESSAGE])
    code = error.get("code") or error.get("type") or "error"
    message = error.get("message") or error.get("detail") or ""
    return UnexpectedAnswerError(status, str(code), str(message)[:_LONGEST_MESSAGE])


def _excerpt(body: bytes) -> str:
    return " ".join(body.decode(errors="replace").split())[:_LONGEST_MESSAGE]
