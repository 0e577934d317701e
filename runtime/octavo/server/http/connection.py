"""Connection of a client, on uvicorn's protocol for HTTP/1.1, with the limits that strangers need.

Answers bytes that are no HTTP with the error object. Bounds how many connections there are, how old one gets,
the size and number of headers, and the time that a client may take to send its request or to read its answer.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from octavo.server.anthropic.errors import error_body
from octavo.server.http.asgi import IS_FIRST
from octavo.server.http.no_http import SHOWN_BYTES, no_http
from octavo.server.http.parser import RequestParser
from octavo.server.http.request_head import head_fault
from octavo.server.http.request_id import request_id
from octavo.server.http.sockets import most_connections
from octavo.server.openai.api_errors import ApiError

# A Service balances connections, not requests: a client that kept one for ever would never find the
# replicas that came after it. From about this age on an answer says that it is the connection's last.
_CONNECTION_SECONDS = 60.0
# Headers are there, and each so many bytes of a body, within this time: who vanished in the middle of a
# request, or sends a byte now and then, keeps a connection no longer.
_REQUEST_SECONDS = 75.0
_PROGRESS_BYTES = 64 * 1024
# Who reads nothing of its answer for so long is gone; what still runs for it is ended.
_READ_SECONDS = 75.0
_MAX_HEADER_BYTES = 64 * 1024
_HEADER_MARKS = len(b": \r\n")
_MAX_HEADERS = 256
_TOO_LONG = (
    f"The request's path and headers are longer than {_MAX_HEADER_BYTES} bytes, which is the limit. "
    "Send fewer or shorter ones."
)


class Connection(HttpToolsProtocol):
    """One connection from its begin to its end."""

    parser: RequestParser  # type: ignore[assignment]
    has_asked = False
    """A request has begun, on this connection."""
    # As they came, and of those that are parsed.
    _header_bytes = 0
    _parsed_bytes = 0
    _fault: str | None = None
    _begin = b""
    """Of the last read that was no body."""
    _body_bytes = 0
    _in_body = False
    _is_incomplete = True
    _last_answer_at = 0.0
    _give_up: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _answered: RequestResponseCycle | None = None
    _refusal: bytes | None = None
    """Answer to what came behind requests that are still being answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.parser = RequestParser(self)
        # Spread, so that clients which connected together do not come back together.
        age = _CONNECTION_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311 -- no secret
        self.opened_at = self.loop.time()
        self._last_answer_at = self.opened_at + age
        if len(self.connections) > most_connections():
            message = "The server has too many connections. Try again later."
            error = ApiError(503, message, code="too_many_connections")
            self._refuse(self._answer_to(error))
        self._watch_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_incomplete = False
        self._watch_request()
        self._watch_reader(is_stuck=False)
        super().connection_lost(exc)
        # Of pipelined requests the base class tells the last one alone, which nobody answers yet.
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return  # behind bytes that are no HTTP nobody knows what is
        if self._in_body:
            self._body_bytes += len(data)
            if self._body_bytes >= _PROGRESS_BYTES:
                self._watch_request()
        else:
            # Of one that does not end nothing is parsed. What else is in this read may be a body.
            if self._header_bytes > _MAX_HEADER_BYTES:
                self._unset_keepalive_if_required()
                self._fault = _TOO_LONG
                self.send_400_response(_TOO_LONG)
                return
            self._header_bytes += len(data)
            self._begin = data[:SHOWN_BYTES]
        super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader(is_stuck=True)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch_reader(is_stuck=False)

    def on_message_begin(self) -> None:
        is_first = not self.has_asked
        self.has_asked = self._is_incomplete = True
        self._parsed_bytes = 0
        self._watch_request()
        super().on_message_begin()
        self.scope["state"][IS_FIRST] = is_first

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value) + _HEADER_MARKS)
        if len(self.headers) > _MAX_HEADERS:
            self._fault = (
                f"The request has more than {_MAX_HEADERS} headers, which is the limit. Send fewer."
            )
            raise ValueError  # the parser makes an invalid request of it

    def _count(self, num_bytes: int) -> None:
        self._parsed_bytes += num_bytes
        if self._parsed_bytes > _MAX_HEADER_BYTES:
            self._fault = _TOO_LONG
            raise ValueError

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        self._fault = head_fault(self.parser.get_method(), version, self.headers)
        if self._fault is not None:
            raise ValueError
        self._in_body = True
        self._watch_request()
        super().on_headers_complete()
        if self.loop.time() >= self._last_answer_at:
            self.cycle.keep_alive = False
        if version == "1.0":
            _answer_without_chunks(self.cycle)

    def on_message_complete(self) -> None:
        if self.parser.is_cut_short:
            return
        self._in_body = self._is_incomplete = False
        self._header_bytes = 0
        self._watch_request()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _watch_request(self) -> None:
        """Anew for each part of a request."""
        self._body_bytes = 0
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None
        if self._is_incomplete:
            self._give_up = self.loop.call_later(_REQUEST_SECONDS, self._end_request)

    def _end_request(self) -> None:
        if (
            self.flow.read_paused
        ):  # what is late was not asked for: an earlier request is being answered
            self._watch_request()
        else:
            self.transport.close()

    def _watch_reader(self, *, is_stuck: bool) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        if is_stuck:
            self._unread = self.loop.call_later(_READ_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Answers come in the order of requests: this one behind those that are under way."""
        del msg  # the same whatever is wrong
        if self._fault is None:
            why = str(sys.exception() or "")
            self._fault = no_http(self._begin, why, is_plain=self.config.ssl is None)
        refusal = self._answer_to(ApiError(400, self._fault, code="invalid_http"))
        answered = self._answered
        is_busy = answered is not None and not answered.response_complete
        if self._in_body and self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()  # it has no body, and is what is refused
        elif self._in_body and answered is self.cycle and is_busy:
            if self.cycle.response_started:
                self.transport.close()
                return
            is_busy = False
        if is_busy:
            self._refusal = refusal
            self._in_body = self._is_incomplete = False
            self._watch_request()
        else:
            self._refuse(refusal)

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last and self._refusal is not None and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._refuse(self._refusal)

    def _answer_to(self, error: ApiError) -> bytes:
        """In the shape of the route, as far as its request has come."""
        is_asking = self.has_asked and self._is_incomplete
        path = self.url.decode("latin-1") if is_asking else ""
        name = request_id(self.headers if is_asking else ())
        body = error_body(error, path, name)
        has_body = not (path and self.parser.get_method() == b"HEAD")
        return b"".join(
            [
                STATUS_LINE[error.status],
                b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
                b"x-request-id: %s\r\nconnection: close\r\n\r\n" % name.encode(),
                body if has_body else b"",
            ]
        )

    def _refuse(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.close()


def _answer_without_chunks(cycle: RequestResponseCycle) -> None:
    """HTTP/1.0 knows none: an answer whose length nobody told ends with the connection, which uvicorn keeps
    for no such client."""
    send, has_length = cycle.send, True

    async def told(message: Any) -> None:
        nonlocal has_length
        if message["type"] == "http.response.start":
            has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
            if not has_length:
                cycle.chunked_encoding = False
        elif not has_length:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = told  # type: ignore[method-assign]
