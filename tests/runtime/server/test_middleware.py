"""The outermost layer with an app inside that misbehaves."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from octavo.errors import EngineDeadError, QueueFullError, ServerEndsError
from octavo.server.http.asgi import IS_FIRST, Receive, Scope, Send
from octavo.server.http.hosts import default_hosts
from octavo.server.http.middleware import Middleware
from octavo.server.process.api_keys import ApiKeys
from octavo.server.process.lifecycle import Lifecycle, State
from octavo.server.process.metrics import ServerMetrics


def call(
    error: Exception | None, state: State = State.READY, path: str = "/v1/x", begun: bool = False
) -> tuple[list[Any], ServerMetrics]:
    """What goes out when the app raises `error`, perhaps after it began its answer."""
    lifecycle = Lifecycle(lambda: 0.0)
    lifecycle.state = state
    metrics = ServerMetrics("m", lifecycle, lambda: None)
    sent: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert middleware.num_in_flight == 1
        if begun or error is None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if error is not None:
            raise error
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    middleware = Middleware(app, lifecycle, ApiKeys([]), metrics)
    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    asyncio.run(middleware(scope, receive, send))
    assert middleware.num_in_flight == 0
    return sent, metrics


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("secret detail"), 500, "internal_error"),
        (QueueFullError("full", 7), 429, "queue_full"),
        (EngineDeadError("gone"), 503, "server_failed"),
        (ServerEndsError(), 503, "server_draining"),
    ],
)
def test_errors_become_answers_and_are_counted(error: Exception, status: int, code: str) -> None:
    (start, body), metrics = call(error)
    assert start["status"] == status
    assert json.loads(body["body"])["error"]["code"] == code
    assert b"secret" not in body["body"]
    sample = f'octavo_requests_rejected_total{{model="m",reason="{code}"}} 1.0'
    assert sample in metrics.exposition().decode()


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_anthropics_clients_send_the_key_and_read_errors_in_their_own_way(path: str) -> None:
    seen, _ = routed("POST", path, {"x-api-key": "k"})
    assert len(seen) == 1
    seen, (start, body) = routed("POST", path, {"x-api-key": "other"})
    assert (seen, start["status"]) == ([], 401)
    told = json.loads(body["body"])
    assert (told["type"], told["error"]["type"]) == ("error", "authentication_error")


def test_retry_after_is_the_queues_guess() -> None:
    (start, _), _ = call(QueueFullError("full", 7))
    assert (b"retry-after", b"7") in start["headers"]


def test_an_answer_that_began_is_not_answered_twice() -> None:
    sent, _ = call(RuntimeError("late"), begun=True)
    assert [message["type"] for message in sent] == ["http.response.start"]


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        (State.STARTING, 503, "server_starting"),
        (State.REFUSING, 503, "server_draining"),
        (State.STOPPED, 503, "server_draining"),
        (State.FAILED, 503, "server_failed"),
    ],
)
def test_who_does_not_serve_says_why(state: State, status: int, code: str) -> None:
    (start, body), _ = call(None, state)
    assert start["status"] == status
    assert (b"connection", b"close") in start["headers"]
    assert json.loads(body["body"])["error"]["code"] == code
    assert call(None, state, path="/health")[0][0]["status"] == 200


def test_while_draining_answers_ask_the_client_to_reconnect() -> None:
    assert (b"connection", b"close") in call(None, State.DRAINING)[0][0]["headers"]
    assert (b"connection", b"close") not in call(None, State.READY)[0][0]["headers"]


def routed(
    method: str,
    path: str,
    headers: dict[str, str],
    *,
    origins: tuple[str, ...] = ("*",),
    hosts: tuple[str, ...] = ("*",),
) -> tuple[list[Any], list[Any]]:
    """The scopes that the app gets, and what goes out, on a server that wants a key."""
    seen: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    lifecycle = Lifecycle(lambda: 0.0)
    lifecycle.state = State.READY
    metrics = ServerMetrics("m", lifecycle, lambda: None)
    middleware = Middleware(app, lifecycle, ApiKeys(["k"]), metrics, origins, hosts)
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": encoded}
    asyncio.run(middleware(scope, receive, send))
    return seen, sent


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/", "/v1/models//"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_head_and_trailing_slashes_reach_the_route(method: str, path: str) -> None:
    (scope,), _ = routed(method, path, {"authorization": "Bearer k"})
    assert (scope["method"], scope["path"]) == ("GET", "/v1/models")


def test_a_browser_may_ask_without_a_key_and_is_told() -> None:
    """The question before the request carries no key, and names the headers that will come."""
    asked = {
        "origin": "https://a.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    seen, (start, _) = routed("OPTIONS", "/v1/chat/completions", asked)
    told = {name.decode(): value.decode() for name, value in start["headers"]}
    assert (start["status"], seen) == (200, [])
    assert told["access-control-allow-origin"] == "*"
    assert "authorization" in told["access-control-allow-headers"]
    assert "POST" in told["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in told
    # What it may not read it shows as a broken network: errors carry the header, too.
    _, (refused, _) = routed("POST", "/v1/chat/completions", {"origin": "https://a.example"})
    assert refused["status"] == 401
    assert (b"access-control-allow-origin", b"*") in refused["headers"]


NAMED = ("https://Chat.example:443/", "http://localhost:3000")


@pytest.mark.parametrize(
    ("origin", "host", "is_run"),
    [
        (None, "llm.example", True),  # a program
        ("https://chat.example", "llm.example", True),
        ("http://localhost:3000", "localhost:8000", True),
        ("https://llm.example", "llm.example", True),  # TLS ended at a proxy
        ("https://llm.example", "llm.example:443", True),
        ("http://LLM.example:8000", "llm.example:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://other.example", "llm.example", False),
        ("http://chat.example", "llm.example", False),
        ("https://chat.example:8443", "llm.example", False),
        ("https://chat.example.evil", "llm.example", False),
        ("http://localhost:3001", "localhost:8000", False),
        ("http://localhost", "localhost:8000", False),
        ("https://llm.example", None, False),
        ("null", "null", False),
        ("null", "llm.example", False),
        ("*", "llm.example", False),
        ("", "", False),
        ("https://", "", False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_beside_named_origins_other_pages_requests_are_not_run(
    origin: str | None, host: str | None, is_run: bool, method: str
) -> None:
    """Such as a POST of plain text, which a browser sends without asking first; with a key or without."""
    given = {"origin": origin, "host": host, "content-type": "text/plain"}
    headers = {name: value for name, value in given.items() if value is not None}
    for key in ({"authorization": "Bearer k"}, {}):
        seen, (start, body) = routed(method, "/v1/completions", headers | key, origins=NAMED)
        assert len(seen) == (is_run and bool(key))
        assert start["status"] == ((200 if key else 401) if is_run else 403)
        if not is_run:
            error = json.loads(body["body"])["error"]
            assert error["code"] == "origin_not_allowed"
            assert "--allowed-origins" in error["message"]
    # By default those of the server's own host alone, with `*` everybody's.
    asked = headers | {"authorization": "Bearer k"}
    seen, (start, _) = routed(method, "/v1/completions", asked, origins=())
    assert len(seen) == (is_run and origin not in (NAMED[1], "https://chat.example"))
    assert b"access-control-allow-origin" not in dict(start["headers"])
    assert len(routed(method, "/v1/completions", asked)[0]) == 1


def test_only_pages_of_named_origins_may_read_answers() -> None:
    for origin, is_allowed in (("https://chat.example", True), ("https://b.example", False)):
        _, (start, _) = routed("GET", "/health", {"origin": origin}, origins=NAMED)
        headers = dict(start["headers"])
        assert start["status"] == 200
        assert headers.get(b"access-control-allow-origin") == (
            origin.encode() if is_allowed else None
        )
        assert b"access-control-allow-credentials" not in headers
        assert b"Origin" in headers[b"vary"]


@pytest.mark.parametrize(
    ("origin", "method", "status", "code"),
    [
        ("https://chat.example", "POST", 200, None),
        ("https://chat.example", "DELETE", 400, "invalid_cors_request"),
        ("https://b.example", "POST", 403, "origin_not_allowed"),
        ("null", "POST", 403, "origin_not_allowed"),
    ],
)
def test_browsers_questions_are_refused_with_an_error_object(
    origin: str, method: str, status: int, code: str | None
) -> None:
    asked = {"origin": origin, "access-control-request-method": method}
    seen, (start, body) = routed("OPTIONS", "/v1/completions", asked, origins=NAMED)
    headers = dict(start["headers"])
    assert (seen, start["status"]) == ([], status)
    assert int(headers[b"content-length"]) == len(body["body"])
    if code is not None:
        assert headers[b"content-type"] == b"application/json"
        error = json.loads(body["body"])["error"]
        assert error["code"] == code
        told = f"'{method}'; GET, POST, HEAD" if status == 400 else f"{origin!r} may not"
        assert told in error["message"]


@pytest.mark.parametrize(
    ("host", "is_answered"),
    [
        ("llm.example", True),
        ("LLM.example:8000", True),
        ("llm.example.", True),
        ("a.chat.example:443", True),
        ("localhost:8000", True),
        ("x.localhost", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("10.2.3.4", True),  # an address is nobody's to rebind
        ("evil.example", False),
        ("llm.example.evil", False),
        ("evilllm.example", False),
        ("chat.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("2130706433", False),
    ],
)
def test_requests_to_other_names_are_not_run(host: str, is_answered: bool) -> None:
    hosts = ("llm.example", "*.chat.example")
    headers = {"authorization": "Bearer k", "host": host}
    seen, (start, body) = routed("GET", "/v1/models", headers, hosts=hosts)
    assert (len(seen), start["status"]) == ((1, 200) if is_answered else (0, 403))
    if not is_answered:
        error = json.loads(body["body"])["error"]
        assert error["code"] == "host_not_allowed"
        assert "--allowed-hosts" in error["message"]
    assert len(routed("GET", "/v1/models", headers)[0]) == 1
    # A page that rebound its name to this server shows it as its own origin, too.
    rebound = {**headers, "host": "evil.example", "origin": "http://evil.example"}
    assert routed("POST", "/v1/completions", rebound, hosts=())[0] == []


@pytest.mark.parametrize(
    ("address", "has_api_key", "hosts"),
    [
        ("127.0.0.1", False, ()),
        ("::1", False, ()),
        ("localhost", False, ()),
        ("127.0.0.1", True, ("*",)),
        ("0.0.0.0", False, ("*",)),  # noqa: S104 -- a pod's
        ("llm.example", False, ("*",)),
    ],
)
def test_without_the_flag_a_private_server_knows_no_names(
    address: str, has_api_key: bool, hosts: tuple[str, ...]
) -> None:
    assert default_hosts(address, has_api_key=has_api_key) == hosts


@pytest.mark.parametrize("state", [State.DRAINING, State.REFUSING])
def test_who_is_led_here_is_counted_once_a_connection_and_probes_never(state: State) -> None:
    lifecycle = Lifecycle(lambda: 0.0)
    lifecycle.state = state
    metrics = ServerMetrics("m", lifecycle, lambda: None)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ignore(message: Any) -> None:
        pass

    async def receive() -> Any:
        raise AssertionError

    middleware = Middleware(app, lifecycle, ApiKeys([]), metrics, open_paths=("/metrics",))
    for path, is_first in [
        ("/v1/models", True),
        ("/v1/models", False),
        ("/health", True),
        ("/metrics", True),
        ("/v1/chat/completions", True),
    ]:
        scope = {"type": "http", "method": "GET", "path": path, "headers": []}
        asyncio.run(middleware({**scope, "state": {IS_FIRST: is_first}}, receive, ignore))
    assert middleware.num_arrivals == 2
