"""Bare SSE server: `python -m benchmarks.server.bare_server PORT`, what Starlette and uvicorn cost alone.

The same loop and parser as Octavo's, the same bytes in each event, one event for each token. It reads the
request's JSON and nothing of it but `max_tokens`: no template, no tokenizer, no other process. Each stream
waits for each of its tokens, as any does whose tokens are made elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from benchmarks.server.step_clock import SYMBOLS, VARIABLE, StepClock

_HEAD = (
    b'data: {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk",'
    b'"created":1764000000,"model":"bench","choices":[{"index":0,"delta":{"content":"'
)
_TAIL = b'"},"logprobs":null,"finish_reason":null}]}\n\n'
_LAST = b"data: [DONE]\n\n"
_SYMBOLS = [symbol.encode() for symbol in SYMBOLS]


class Steps:
    """Wakes everybody who waits when a step is due."""

    def __init__(self, clock: StepClock) -> None:
        self._clock = clock
        self._next: asyncio.Future[None] | None = None

    @property
    def first(self) -> int:
        """The step that a stream begins with."""
        return self._clock.num_steps

    async def token(self, step: int) -> bytes:
        """The text that a step makes; who is behind gets it in the loop's next turn."""
        if not self._clock.period or step < self._clock.num_steps:
            await asyncio.sleep(0)
        else:
            if self._next is None:
                loop = asyncio.get_running_loop()
                self._next = loop.create_future()
                loop.call_later(self._clock.seconds_to_next(), self._make, self._next)
            await self._next
        return _SYMBOLS[step % len(_SYMBOLS)]

    def _make(self, waited_for: asyncio.Future[None]) -> None:
        self._next = None
        self._clock.stamp()
        waited_for.set_result(None)


def build_app(clock: StepClock) -> Starlette:
    steps = Steps(clock)

    async def chat(request: Request) -> Response:
        count = (await request.json())["max_tokens"]

        async def events() -> AsyncIterator[bytes]:
            first = steps.first
            for number in range(count):
                yield _HEAD + await steps.token(first + number) + _TAIL
            yield _LAST

        return StreamingResponse(events(), media_type="text/event-stream")

    async def health(_: Request) -> Response:
        return Response()

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/health", health),
        ]
    )


def main() -> None:
    app = build_app(StepClock(Path(os.environ[VARIABLE])))
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        backlog=2048,
    )


if __name__ == "__main__":
    main()
