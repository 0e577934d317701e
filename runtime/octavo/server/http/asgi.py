"""ASGI. Small pieces of ASGI that both ports share. No framework: the ops port must be up within moments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = "application/json"
BODY_SEND = "octavo.body_send"
"""Of a scope: the listener's own `send`. All that wraps it looks at the start of a response alone, and a
streamed token need not pass through it."""
IS_FIRST = "octavo.is_first"
"""Of a scope's `state`: the request is its connection's first."""


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of that (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return None


def list_header(scope: Scope, name: bytes) -> list[str]:
    """All that the headers of that (lower-case) name list, in lower case."""
    values = (bytes(value).decode("latin-1") for key, value in scope["headers"] if key == name)
    parts = (part.strip().lower() for value in values for part in value.split(","))
    return [part for part in parts if part]


async def respond(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: str = JSON,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Sends a whole response."""
    fields = {"content-type": content_type, "content-length": str(len(body)), **(headers or {})}
    encoded = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()
    ]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
