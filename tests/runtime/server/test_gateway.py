"""The outermost layer with an app inside that misbehaves."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from octavo.errors import EngineDeadError, QueueFullError
from octavo.server.http.asgi import Receive, Scope, Send
from octavo.server.http.middleware import ApiKeys, Gateway
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
        assert gateway.num_in_flight == 1
        if begun or error is None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if error is not None:
            raise error
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    gateway = Gateway(app, lifecycle, ApiKeys([]), metrics)
    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    asyncio.run(gateway(scope, receive, send))
    assert gateway.num_in_flight == 0
    return sent, metrics


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("secret detail"), 500, "internal_error"),
        (QueueFullError("full", 7), 429, "queue_full"),
        (EngineDeadError("gone"), 503, "server_failed"),
    ],
)
def test_errors_become_answers_and_are_counted(error: Exception, status: int, code: str) -> None:
    (start, body), metrics = call(error)
    assert start["status"] == status
    assert json.loads(body["body"])["error"]["code"] == code
    assert b"secret" not in body["body"]
    sample = f'octavo_requests_rejected_total{{model="m",reason="{code}"}} 1.0'
    assert sample in metrics.exposition().decode()


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
