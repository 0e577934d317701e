"""Who hangs up frees what they held."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.server_process import ServerProcess, eventually

LONG: dict[str, Any] = {"model": "demo", "prompt": "hello", "max_tokens": 2000, "ignore_eos": True}


def used_blocks(server: ServerProcess) -> float:
    return server.metrics()["octavo_kv_cache_blocks_used"]


@pytest.fixture
def server(slow_server: FaultyServer) -> Iterator[FaultyServer]:
    """Its steps are slow: no request of these tests ends by itself."""
    with slow_server.faults.slow_steps():
        yield slow_server


def assert_freed_early(server: ServerProcess, tokens_before: float) -> None:
    """Well before the 2000 tokens were made, all blocks are free again."""
    eventually(lambda: used_blocks(server) == 0)
    metrics = server.metrics()
    assert metrics["octavo_requests_running"] == 0
    assert metrics["octavo_generation_tokens_total"] - tokens_before < 1900


@contextmanager
def sent(
    server: ServerProcess, document: dict[str, Any], *, times: int = 1
) -> Iterator[socket.socket]:
    """A connection on which a request went out; its client leaves when the block ends."""
    body = json.dumps(document).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(
        body
    )
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        raw.sendall((head + body) * times)
        yield raw


def test_a_closed_stream_frees_its_blocks(server: ServerProcess, http: httpx.Client) -> None:
    before = server.metrics()
    with http.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as response:
        lines = response.iter_lines()
        for _ in range(10):
            next(lines)
        assert used_blocks(server) > 0
    assert_freed_early(server, before["octavo_generation_tokens_total"])
    aborted = 'octavo_requests_total{finish_reason="abort"}'
    assert server.metrics()[aborted] == before[aborted] + 1


@pytest.mark.parametrize("more", [{}, {"use_beam_search": True, "n": 3}], ids=["drawn", "beams"])
def test_an_abandoned_plain_request_frees_its_blocks(
    server: ServerProcess, more: dict[str, Any]
) -> None:
    before = server.metrics()
    made = "octavo_generation_tokens_total"
    with sent(server, {**LONG, **more}):
        # Beams hold their blocks for a step each: that some were there shows in what they made.
        eventually(lambda: server.metrics()[made] > before[made] + 4)
    assert_freed_early(server, before[made])
    internal_error = 'octavo_requests_rejected_total{reason="internal_error"}'
    assert internal_error not in server.metrics()


def test_all_completions_of_an_abandoned_request_end(
    server: ServerProcess, http: httpx.Client
) -> None:
    body = {**LONG, "prompt": ["a", "b", "c"], "n": 2, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()  # its end would close the connection
        next(lines)
        eventually(lambda: server.metrics()["octavo_requests_running"] == 6)
    eventually(lambda: used_blocks(server) == 0)


def test_a_client_that_sent_two_requests_at_once_and_left_is_noticed(server: ServerProcess) -> None:
    before = server.metrics()["octavo_generation_tokens_total"]
    with sent(server, {**LONG, "stream": True}, times=2) as raw:
        raw.recv(1000)
        eventually(lambda: used_blocks(server) > 0)
    assert_freed_early(server, before)
    # It was told, and did not find out by an answer that could not be sent.
    internal_error = 'octavo_requests_rejected_total{reason="internal_error"}'
    assert internal_error not in server.metrics()
