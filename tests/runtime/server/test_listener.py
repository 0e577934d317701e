"""Connections are kept, but not for ever: replicas that came later must be found."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from octavo.server import listener
from octavo.server.asgi import Receive, Scope, Send, respond
from octavo.server.listener import Listener


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    # The port of the client's end tells connections apart.
    await respond(send, 200, str(scope["client"][1]).encode())


async def ask(requests: list[float]) -> list[httpx.Response]:
    """One client; `requests[i]` are the seconds to wait before request i."""
    bound = socket.create_server(("127.0.0.1", 0))
    server = Listener(app, bound)
    await server.start()
    answers = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        for pause in requests:
            await asyncio.sleep(pause)
            answers.append(await client.get("/"))
    await server.stop()
    return answers


def test_a_young_connection_is_kept() -> None:
    answers = asyncio.run(ask([0, 0.3, 0]))
    assert len({answer.text for answer in answers}) == 1
    assert not any("connection" in answer.headers for answer in answers)


def test_an_old_connection_ends_with_its_next_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_CONNECTION_SECONDS", 0.2)
    first, old, new = asyncio.run(ask([0, 0.3, 0]))
    assert old.text == first.text
    assert old.status_code == 200
    assert old.headers["connection"] == "close"
    assert new.text != old.text
