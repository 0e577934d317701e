"""Refusals: requests to a server that may be wrong, and the error object that it answers."""

from __future__ import annotations

from typing import Any

import httpx

HELLO = [{"role": "user", "content": "hello"}]


def chat(http: httpx.Client, **fields: Any) -> httpx.Response:
    body = {"model": "demo", "messages": HELLO, "max_tokens": 2, **fields}
    return http.post("/v1/chat/completions", json=body)


def complete(http: httpx.Client, **fields: Any) -> httpx.Response:
    body = {"model": "demo", "prompt": "hello", "max_tokens": 2, **fields}
    return http.post("/v1/completions", json=body)


def error_of(response: httpx.Response) -> dict[str, Any]:
    document = response.json()
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    error: dict[str, Any] = document["error"]
    return error
