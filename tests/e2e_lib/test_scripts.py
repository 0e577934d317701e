"""The programs that run in a client's pod, against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.first_token import POLL
from e2e.lib.clients import ASK, KNOCK, LOAD
from tests.support.runtime.server_process import ServerProcess


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--max-num-seqs", "2", "--max-queued-requests", "1") as process:
        yield process.wait_ready()


def load(url: str, until: Callable[[], bool], *key: str) -> dict[str, Any]:
    """What the load counts: eight requests at once, 16 tokens each, until it is so."""
    command = [sys.executable, "-c", LOAD.read_text(), url, "demo", "8", "60", "16", *key]
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


def statuses(key: str, *urls: str) -> list[int]:
    command = [sys.executable, "-c", KNOCK.read_text(), key, *urls]
    return [int(line) for line in subprocess.check_output(command, text=True).split()]


def test_a_knock_tells_who_is_let_in_and_keys_rotate_under_a_load(tmp_path: Path) -> None:
    """What the test of rotation on a cluster does, with a folder as the kubelet changes it."""
    folder = tmp_path / "keys"
    folder.mkdir()

    def give(*keys: str) -> None:
        unfinished = tmp_path / "unfinished"
        unfinished.write_text(" ".join(keys))
        unfinished.rename(folder / "api-key")

    give("old")
    with ServerProcess("--api-key-file", str(folder)) as guarded:
        url = f"{guarded.wait_ready().url}/v1"
        assert [*statuses("-", url), *statuses("wrong", url), *statuses("old", url, url)] == [
            *(401, 401),
            *(200, 200),
        ]
        command = [sys.executable, "-c", ASK.read_text(), url, "demo", "What is 17 plus 25?", "old"]
        assert "42" in subprocess.check_output(command, text=True, timeout=120)
        give("old", "new")
        total = load(url, lambda: statuses("new", url) == [200], "old")
        assert (total["failed"], total["errors"]) == (0, [])
        give("new")
        total = load(url, lambda: statuses("old", url) == [401], "new")
        assert (total["failed"], total["errors"]) == (0, [])
        assert total["ok"] > 0
        refused = load(url, lambda: True, "old")
        assert (refused["ok"], refused["failed"]) == (0, 8)
        assert "401" in refused["errors"][0]
