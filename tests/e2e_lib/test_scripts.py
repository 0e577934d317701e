"""The programs that run in a client's pod, against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks.first_token import POLL
from e2e.lib.clients import ASK, LOAD
from tests.support.runtime.server_process import ServerProcess


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--max-num-seqs", "2", "--max-queued-requests", "1") as process:
        yield process.wait_ready()


def load(url: str, until: Callable[[], bool]) -> dict[str, Any]:
    """What the load counts: eight requests at once, 16 tokens each, until it is so."""
    command = [sys.executable, "-c", LOAD.read_text(), url, "demo", "8", "60", "16"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        while not until():
            assert process.poll() is None
        process.stdin.close()
        total: dict[str, Any] = json.loads(process.stdout.readline())
        return total


def test_a_load_counts_answers_and_refusals(server: ServerProcess) -> None:
    def both() -> bool:
        seen = server.metrics()
        answered = seen.get('octavo_requests_total{finish_reason="length"}', 0)
        refused = seen.get('octavo_requests_rejected_total{reason="queue_full"}', 0)
        return answered > 3 and refused > 3

    total = load(f"{server.url}/v1", both)
    assert total["failed"] == 0, total
    assert total["ok"] > 3
    assert total["refused"] > 3
    assert total["tokens"] == 16 * total["ok"]


def test_a_load_tells_what_failed() -> None:
    # Told to stop at once, each of the eight still sends its first request.
    total = load("http://127.0.0.1:1/v1", lambda: True)
    assert (total["ok"], total["refused"]) == (0, 0)
    assert total["failed"] == 8
    assert "Connect" in total["errors"][0]


def test_the_first_token_and_the_answer_arrive(server: ServerProcess) -> None:
    def script(text: str, *arguments: str) -> str:
        command = [sys.executable, "-c", text, f"{server.url}/v1", "demo", *arguments]
        return subprocess.check_output(command, text=True, timeout=120)

    before = time.time()
    polled = script(POLL.read_text()).splitlines()
    assert polled[0] == "polling"
    assert before < json.loads(polled[1])["first_token_time"] < time.time()
    assert "42" in script(ASK.read_text(), "What is 17 plus 25?")
