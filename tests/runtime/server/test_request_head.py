"""Heads of requests that HTTP (RFC 9112) does not allow and the parser takes: refused, and the last of their
connection. Every refusal has an id, as any other answer."""

from __future__ import annotations

import json
import re
import socket
from functools import partial

import pytest

from octavo.server.http.request_head import head_fault
from tests.support.runtime.server_process import ServerProcess

_NEXT = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
_FAULTS = {
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
    "a space": b"GET /v1/models HTTP/1.1\r\nhost: a b\r\n\r\n",
    "empty": b"GET /v1/models HTTP/1.1\r\nhost:\r\n\r\n",
    "HTTP/0.9": b"POST /tokenize HTTP/0.9\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}",
    "HTTP/2.0": b"POST /tokenize HTTP/2.0\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}",
    "HTTP/1.2": b"GET /health HTTP/1.2\r\nhost: a\r\n\r\n",
    "chunks of 1.0": b"POST /tokenize HTTP/1.0\r\nhost: a\r\n" + _CHUNKED,
    "both of 1.0": b"POST /tokenize HTTP/1.0\r\ncontent-length: 2\r\n" + _CHUNKED,
    "no HTTP": b"nothing of it\r\n\r\n",
}


def _answer(url: str, sent: bytes) -> tuple[bytes, bytes]:
    """Head and body of all that comes until the server closes."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        raw.sendall(sent)
        answer = b"".join(iter(partial(raw.recv, 4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize("fault", _FAULTS.values(), ids=_FAULTS.keys())
def test_a_faulty_head_is_refused_and_ends_the_connection(
    server: ServerProcess, fault: bytes
) -> None:
    """On both ports. What follows is not read."""
    for url in (server.url, server.ops_url):
        head, body = _answer(url, fault + _NEXT)
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in head
        assert re.search(rb"x-request-id: [0-9a-f]{32}\b", head)
        error = json.loads(body)["error"]  # and nothing behind it
        assert error["code"] == "invalid_http"


def test_a_refusal_has_the_id_of_its_request_alone(server: ServerProcess) -> None:
    named = b"GET /health HTTP/1.1\r\nx-request-id: mine\r\nhost: localhost\r\n"
    for fault in (b"host: b\r\n\r\n", b"no header\r\n\r\n", b"a: b\r\n" * 300 + b"\r\n"):
        head, _ = _answer(server.url, named + fault)
        assert head.startswith(b"HTTP/1.1 400 ")
        assert head.count(b"x-request-id: mine") == 1
    head, body = _answer(server.url, named + b"\r\n" + b"\x01 no HTTP\r\n\r\n")
    assert head.count(b"x-request-id: mine") == 1
    assert body.count(b"x-request-id: ") == 1
    assert b"x-request-id: mine" not in body


def test_a_refusal_is_of_the_shape_of_its_route(server: ServerProcess) -> None:
    text = b"POST /v1/messages HTTP/1.1\r\nx-request-id: mine\r\ncontent-length: 2\r\n\r\n{}"
    head, body = _answer(server.url, text)
    error = json.loads(body)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert (error["type"], error["request_id"]) == ("error", "mine")
    assert error["error"]["type"] == "invalid_request_error"


def test_a_refusal_to_head_has_no_body(server: ServerProcess) -> None:
    head, body = _answer(server.url, b"HEAD /health HTTP/1.1\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert body == b""


@pytest.mark.parametrize(
    ("host", "is_right"),
    [
        (b"llm.example", True),
        (b"LLM.example.:8000", True),
        (b"my_service.team-a.svc.cluster.local:80", True),
        (b"10.0.0.7:8000", True),
        (b"[::1]:8000", True),
        (b"localhost:", True),
        (b"", False),
        (b"llm.example, evil.example", False),
        (b"llm.example/x", False),
        (b"user@llm.example", False),
        (b"[::1", False),
        (b"llm.example:80:80", False),
        (b"llm.example:port", False),
    ],
)
def test_what_a_host_must_be(host: bytes, *, is_right: bool) -> None:
    fault = head_fault(b"GET", "1.1", [(b"host", host)])
    assert (fault is None) is is_right
    if fault is not None:
        assert fault.startswith(f"Host is {host.decode()!r}; it must be a name or an address")
    older = head_fault(b"GET", "1.0", [(b"host", host)])
    assert older == fault
    assert head_fault(b"GET", "1.0", []) is None
