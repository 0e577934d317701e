"""Server-sent events, and what happens when the client hangs up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Protocol, Self, TypeVar

import structlog
from starlette.requests import Request
from starlette.responses import Response

from octavo.engine.requests.output_processor import Delta
from octavo.errors import OctavoError
from octavo.server.http.asgi import BODY_SEND, Receive, Scope, Send
from octavo.server.http.body import ClientDisconnectedError
from octavo.server.http.deadline import Deadline
from octavo.server.openai.answers import DONE, ChunkEncoder, Usage, error_event
from octavo.server.openai.api_errors import ApiError, from_octavo_error, internal_error
from octavo.server.openai.generation import Generation

log = structlog.get_logger("octavo.server")

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold tokens back
]


class Run(Protocol):
    """What a client waits for. `cancel` ends it early: then `is_cancelled`, or whoever waits for it gets the
    `cause` raised."""

    is_cancelled: bool

    def cancel(self, cause: ApiError | None = None) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


R = TypeVar("R", bound=Run)


@contextlib.asynccontextmanager
async def running(run: R, receive: Receive, deadline: Deadline | None = None) -> AsyncIterator[R]:
    """Enters `run` and cancels it as soon as the client hangs up, or when its time is over.

    Raises:
        ClientDisconnectedError: On leaving, when it did.
    """
    async with run:
        watcher = asyncio.create_task(_cancel_on_disconnect(run, receive))
        timer = None
        if deadline is not None:
            loop = asyncio.get_running_loop()
            timer = loop.call_at(deadline.at, lambda: run.cancel(deadline.passed()))
        try:
            yield run
        finally:
            watcher.cancel()
            if timer is not None:
                timer.cancel()
    if run.is_cancelled:
        raise ClientDisconnectedError


async def _cancel_on_disconnect(run: Run, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    run.cancel()


class Answer(Protocol):
    """One generation in the shape that a route promises."""

    def whole(self, generation: Generation) -> bytes:
        """The body of an answer in one piece, once the generation has ended."""
        ...

    def events(self, generation: Generation) -> AsyncIterator[bytes]:
        """The events of a stream, without the last word."""
        ...

    def last_word(self) -> bytes:
        """Of a stream that went well; empty where its events say that it is over."""
        ...

    def failure(self, error: ApiError) -> bytes:
        """The last word of a stream that failed on the way."""
        ...


class Chunks:
    """How a stream of chunks ends."""

    def last_word(self) -> bytes:
        return DONE

    def failure(self, error: ApiError) -> bytes:
        return error_event(error.body())


async def answered(
    answer: Answer, generation: Generation, request: Request, *, is_stream: bool
) -> Response:
    """Runs `generation` and answers: whole when it has ended, or as a stream from its first token."""
    if is_stream:
        return EventStream(generation, answer)
    async with running(generation, request.receive, request.scope.get("deadline")):
        async for _ in generation.deltas():
            pass
    return Response(answer.whole(generation), media_type="application/json")


async def chunk_events(
    generation: Generation, encoder: ChunkEncoder, chunks: Callable[[int, Delta], list[bytes]]
) -> AsyncIterator[bytes]:
    """One item for each wake-up: all chunks that are due, in one piece; at the end the usage.

    `chunks(index, delta)` encodes what one delta of choice `index` adds; it may be nothing.
    """

    def read_usage() -> Usage:
        return generation.usage

    async for deltas in generation.deltas():
        encoder.advance(read_usage)
        due: list[bytes] = []
        for index, delta in deltas:
            due += chunks(index, delta)
        if due:
            yield due[0] if len(due) == 1 else b"".join(due)
    if end := encoder.end(generation.usage):
        yield end


class EventStream(Response):
    """Sends encoded events as they come.

    The status line waits for the first of them: an error until then is an ordinary answer with its own
    status. Later ones are told in an event, after which the stream ends.
    """

    def __init__(self, generation: Generation, answer: Answer) -> None:
        self.background = None
        self.status_code = 200
        self._generation = generation
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(ClientDisconnectedError):
            await self._stream(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with running(self._generation, receive, scope.get("deadline")):
            events = self._answer.events(self._generation)
            first = await anext(events, b"")
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            send = scope.get(BODY_SEND, send)
            try:
                await send({"type": "http.response.body", "body": first, "more_body": True})
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
                last = self._answer.last_word()
            except Exception as error:
                self._generation.fail(error)
                last = self._answer.failure(_told(error, scope.get("request_id")))
            await send({"type": "http.response.body", "body": last, "more_body": False})


def _told(error: Exception, request_id: str | None) -> ApiError:
    """What the client gets to know of it."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, OctavoError):
        return from_octavo_error(error)
    log.error("stream failed", request_id=request_id, exc_info=error)
    return internal_error(request_id)
