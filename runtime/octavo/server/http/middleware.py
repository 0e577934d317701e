"""Middleware. The outermost layer of the HTTP port, in plain ASGI because every streamed token passes through
it.

Refuses before anything is parsed (state, origin, API key, declared size), counts what runs, names the
request, and turns whatever is raised into an error object: no stack trace reaches a client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import structlog

from octavo.errors import OctavoError
from octavo.server.anthropic.errors import error_body
from octavo.server.http.asgi import (
    BODY_SEND,
    IS_FIRST,
    AsgiApp,
    Message,
    Receive,
    Scope,
    Send,
    header,
    respond,
)
from octavo.server.http.body import ClientDisconnectedError
from octavo.server.http.cross_origin import AllowedOrigins
from octavo.server.http.deadline import read_deadline
from octavo.server.http.hosts import ANY, AllowedHosts
from octavo.server.http.key_use import KeyAccounts, KeyUse, OwnAccounts, entered
from octavo.server.http.page import Page
from octavo.server.http.request_id import request_id
from octavo.server.openai.api_errors import ApiError, from_octavo_error, internal_error, not_serving
from octavo.server.process.api_keys import ApiKeys, Key
from octavo.server.process.lifecycle import Lifecycle, State
from octavo.server.process.request_metrics import RequestMetrics

log = structlog.get_logger("octavo.server")

_OPEN_PATHS = frozenset({"/health", "/version"})
_TOLD_STATES = (State.STARTING, State.FALLING_ASLEEP, State.SLEEPING, State.FAILED)
PAGE_TYPE = "text/html; charset=utf-8"


def authorise(keys: ApiKeys, authorization: str | None, x_api_key: str | None = None) -> Key | None:
    """The key that a header carries, None where none is needed; Anthropic's clients send theirs as
    `X-Api-Key`. Raises `ApiError` (401)."""
    if not keys.are_needed:
        return None
    if authorization is None and x_api_key is not None:
        authorization = f"Bearer {x_api_key}"
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise _unauthorized(
            "This server needs an API key: Authorization: Bearer KEY, or X-Api-Key: KEY."
        )
    found = keys.find(key.strip())
    if found is None:
        raise _unauthorized("The API key is not one of this server's keys.")
    return found


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


class Middleware:
    """Wraps the API's app.

    Args:
        allowed_origins: Whose pages may use the API from a browser; `*` is everybody's. Cookies are never
            taken, so a page can do no more than its visitor who knows a key.
        allowed_hosts: The names that requests may be sent to; `*` is any.
        page: Ours, whose form whoever asks for it without a key gets; None: there is none.
        request_timeout_seconds: None lets a request take as long as its client waits.
        open_paths: What is answered without a key and in every state, beside `/health` and `/version`.
        accounts: Of the keys; by default this process alone counts.
    """

    def __init__(
        self,
        app: AsgiApp,
        lifecycle: Lifecycle,
        keys: ApiKeys,
        metrics: RequestMetrics,
        allowed_origins: Sequence[str] = (),
        allowed_hosts: Sequence[str] = (ANY,),
        page: Page | None = None,
        request_timeout_seconds: float | None = None,
        open_paths: Collection[str] = (),
        accounts: KeyAccounts | None = None,
    ) -> None:
        # Outside of all else: a browser asks without a key, and shows no error without these headers.
        self._origins = AllowedOrigins(allowed_origins)
        self._with_origins = self._origins.around(self._answer)
        self._hosts = AllowedHosts(allowed_hosts)
        self._app = app
        self._lifecycle = lifecycle
        self._keys = keys
        self._accounts = OwnAccounts() if accounts is None else accounts
        self._metrics = metrics
        self._page = page
        self._request_timeout_seconds = request_timeout_seconds
        self._open_paths = _OPEN_PATHS.union(open_paths)
        self.num_in_flight = 0
        self.num_arrivals = 0
        """First requests of connections so far: who was led here. Probes of an open path are not."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._with_origins({**scope, BODY_SEND: send}, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrival = asyncio.get_running_loop().time()
        name = request_id(scope["headers"])
        scope = _as_routed(scope, name)
        response = _Response(send, name, self._lifecycle)
        self.num_in_flight += 1
        try:
            use = None
            if scope["path"] not in self._open_paths:
                self.num_arrivals += bool(scope.get("state", {}).get(IS_FIRST))
                use = self._admit(scope)
                scope["deadline"] = read_deadline(scope, self._request_timeout_seconds, arrival)
            async with entered(use, is_counted=scope["method"] == "POST"):
                response.key_use = use
                await self._app(scope, receive, response.send)
        except ApiError as error:
            if self._page is not None and error.status == 401 and scope["path"] == "/":
                await response.ask_for_key(self._page, error)
            else:
                await self._fail(response, error, scope)
        except OctavoError as error:
            await self._fail(response, from_octavo_error(error), scope)
        except ClientDisconnectedError:
            pass  # the request's own log line says so
        except Exception:
            log.exception("request failed", request_id=name, path=scope["path"])
            await self._fail(response, internal_error(name), scope)
        finally:
            self.num_in_flight -= 1

    def _admit(self, scope: Scope) -> KeyUse | None:
        if not self._lifecycle.accepts_requests:
            state = self._lifecycle.state
            raise not_serving(state.value if state in _TOLD_STATES else "draining")
        self._hosts.check(scope)
        self._origins.check(scope)
        key = authorise(self._keys, header(scope, b"authorization"), header(scope, b"x-api-key"))
        return None if key is None else KeyUse(key, self._accounts)

    async def _fail(self, response: _Response, error: ApiError, scope: Scope) -> None:
        self._metrics.count_rejected(error.detail.code or "other")
        await response.fail(error, error_body(error, scope["path"], scope.get("request_id")))


class _Response:
    """Adds our headers, and remembers whether an error can still be told."""

    def __init__(self, send: Send, request_id: str, lifecycle: Lifecycle) -> None:
        self._send = send
        self._request_id = request_id
        self._lifecycle = lifecycle
        self._has_started = False
        self.key_use: KeyUse | None = None

    async def send(self, message: Message) -> None:
        if not self._has_started:
            self._has_started = True
            headers = message["headers"] = list(message.get("headers", ()))
            headers.append((b"x-request-id", self._request_id.encode()))
            if self.key_use is not None:
                limits = await self.key_use.headers()
                headers += [(name.encode(), value.encode()) for name, value in limits.items()]
            if self._lifecycle.state is not State.READY:
                # Whoever keeps this connection must look for another replica next time.
                headers.append((b"connection", b"close"))
        await self._send(message)

    async def fail(self, error: ApiError, body: bytes) -> None:
        if self._has_started:
            return  # half an answer went out; the broken connection says the rest
        await respond(self.send, error.status, body, headers=error.headers)

    async def ask_for_key(self, page: Page, error: ApiError) -> None:
        headers = {**error.headers, **page.headers}
        await respond(self.send, 401, page.sign_in, content_type=PAGE_TYPE, headers=headers)


def _as_routed(scope: Scope, request_id: str) -> Scope:
    """HEAD is GET, of which the listener sends no body; a path may end with slashes."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    path = scope["path"].rstrip("/") or "/"
    return {**scope, "method": method, "path": path, "request_id": request_id}
