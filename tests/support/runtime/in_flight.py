"""In flight: requests of each kind that a server may have under way when something happens to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Self

import httpx

from tests.support.runtime.server_process import ServerProcess, eventually

_DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}
_LONG = {"type": "array", "items": _DIGIT, "minItems": 500}
_MEMBERS = {"type": "object", "properties": {"digits": _LONG}, "required": ["digits"]}
_QUESTION = [{"role": "user", "content": "Count."}]
_TOOL = {"type": "function", "function": {"name": "count", "parameters": _MEMBERS}}
_CHAT = "/v1/chat/completions"
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("/v1/completions", {"prompt": "hello", "ignore_eos": True}),
    "document": (
        _CHAT,
        {
            "messages": _QUESTION,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "digits", "schema": _MEMBERS},
            },
        },
    ),
    "call": (_CHAT, {"messages": _QUESTION, "tools": [_TOOL], "tool_choice": "required"}),
}
_NUM_TEXTS = 2048
"""Embedded 32 at a time: so many steps outlast what a test does."""


class InFlight:
    """Streams of a text, of a document of a schema and of a forced call, each of which has begun, and texts
    that are being embedded. Use it in a `with` block while steps are slow."""

    def __init__(self, server: ServerProcess, max_tokens: int = 700) -> None:
        self._server = server
        self._max_tokens = max_tokens
        self._held = ExitStack()
        self._lines: dict[str, Iterator[str]] = {}

    def __enter__(self) -> Self:
        for kind, (path, fields) in STREAMS.items():
            body = {"model": "demo", "max_tokens": self._max_tokens, "stream": True, **fields}
            url = self._server.url + path
            response = self._held.enter_context(httpx.stream("POST", url, json=body, timeout=280))
            assert response.status_code == 200, response.read()
            self._lines[kind] = response.iter_lines()
            next(self._lines[kind])
        threads = self._held.enter_context(ThreadPoolExecutor(1))
        self._embedded: Future[httpx.Response] = threads.submit(self._embed)

        def are_all_there() -> bool:
            metrics = self._server.metrics()
            found = (metrics[f"octavo_requests_{each}"] for each in ("running", "waiting"))
            return sum(found) > len(STREAMS)

        eventually(are_all_there)
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _embed(self) -> httpx.Response:
        body = {"model": "demo", "input": ["a"] * _NUM_TEXTS}
        return httpx.post(f"{self._server.url}/v1/embeddings", json=body, timeout=280)

    def last_events(self) -> dict[str, list[str]]:
        """The last two events of each stream, without `data: `, once all have ended."""
        rests = {kind: [line for line in lines if line] for kind, lines in self._lines.items()}
        return {
            kind: [line.removeprefix("data: ") for line in rest[-2:]]
            for kind, rest in rests.items()
        }

    def failures(self) -> set[str]:
        """The codes of the errors with which all of them ended."""
        errors = [json.loads(last[-1])["error"] for last in self.last_events().values()]
        answer = self._embedded.result()
        assert answer.status_code >= 500
        return {error["code"] for error in [*errors, answer.json()["error"]]}

    def check_whole(self) -> None:
        """All were answered to their end."""
        for kind, (end, done) in self.last_events().items():
            assert done == "[DONE]", kind
            assert json.loads(end)["choices"][0]["finish_reason"] == "length", kind
        assert len(self._embedded.result().raise_for_status().json()["data"]) == _NUM_TEXTS
