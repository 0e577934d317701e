"""The probes in states that a healthy server does not reach: dead, stalled, unreachable."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from octavo.server.process.adapter_routes import AdapterRoutes
from octavo.server.process.lifecycle import Lifecycle, Stall, State
from octavo.server.process.operations import OperationsApp
from octavo.server.process.ops_guard import OpsGuard
from octavo.server.process.sleep_routes import SleepRoutes


@dataclass
class Engine:
    unready: str | None = None
    is_engine_dead: bool = False
    stall: Stall | None = None

    async def why_unready(self) -> str | None:
        return self.unready


def get(
    app: OperationsApp, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, Any]]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    sent_headers = [
        (name.encode().replace(b"_", b"-"), value.encode()) for name, value in headers.items()
    ]
    scope = {"type": "http", "method": method, "path": path, "headers": sent_headers}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


def app_in(state: State, engine: Engine) -> OperationsApp:
    lifecycle = Lifecycle(lambda: 0.0)
    lifecycle.state = state
    return OperationsApp(lifecycle, engine, lambda: b"", SleepRoutes(None))


@pytest.mark.parametrize(
    ("state", "engine", "live", "ready"),
    [
        (State.STARTING, Engine(unready="why"), 200, 503),
        (State.READY, Engine(), 200, 200),
        (State.READY, Engine(unready="why"), 200, 503),
        (State.READY, Engine(stall=Stall.NO_STEPS), 503, 200),
        (State.READY, Engine(stall=Stall.SILENT), 503, 200),
        (State.READY, Engine(is_engine_dead=True, unready="why"), 503, 503),
        (State.DRAINING, Engine(), 200, 503),
        (State.REFUSING, Engine(), 200, 503),
        (State.FAILED, Engine(), 503, 503),
    ],
    ids=str,
)
def test_liveness_and_readiness(state: State, engine: Engine, live: int, ready: int) -> None:
    app = app_in(state, engine)
    assert get(app, "/livez")[0] == live
    assert get(app, "/readyz")[0] == ready


@pytest.mark.parametrize("stall", Stall)
def test_a_stall_says_so(stall: Stall) -> None:
    status, document = get(app_in(State.READY, Engine(stall=stall)), "/livez")
    assert status == 503
    assert document == {"status": "stalled", "reason": stall.value}


def test_an_unready_engine_says_why() -> None:
    status, document = get(app_in(State.READY, Engine(unready="3 steps failed")), "/readyz")
    assert status == 503
    assert document == {"status": "unready", "reason": "3 steps failed"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "localhost:8001", "origin": "http://evil.example"}, "origin_not_allowed"),
        ({"host": "localhost:8001", "sec_fetch_site": "cross-site"}, "origin_not_allowed"),
        ({"host": "evil.example"}, "host_not_allowed"),
    ],
)
@pytest.mark.parametrize("path", ["/sleep", "/wake_up", *AdapterRoutes(is_enabled=True).commands])
def test_no_page_changes_anything(path: str, headers: dict[str, str], code: str) -> None:
    commands = AdapterRoutes(is_enabled=True).commands
    lifecycle = Lifecycle(lambda: 0.0)
    app = OperationsApp(lifecycle, Engine(), lambda: b"", SleepRoutes(None), commands, OpsGuard(()))
    status, document = get(app, path, "POST", **headers)
    assert (status, document["error"]["code"]) == (403, code)
    status, document = get(app, path, "POST", host="127.0.0.1:8001")
    assert document["error"]["code"] in ("sleep_not_enabled", "unsupported_content_type")


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/nothing", "GET", 404, "unknown_url"),
        ("/livez", "POST", 405, "method_not_supported"),
        ("/sleep", "GET", 405, "method_not_supported"),
        ("/is_sleeping", "POST", 405, "method_not_supported"),
    ],
)
def test_errors_are_the_apis(path: str, method: str, status: int, code: str) -> None:
    found, document = get(app_in(State.READY, Engine()), path, method)
    assert found == status
    assert document["error"]["code"] == code
    assert document["error"]["message"]
