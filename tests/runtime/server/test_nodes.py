"""A model that two nodes share, in network namespaces of their own: answers, ports, logs, and two ends, one
under a stream."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.runtime.node_network import NodeNetwork
from tests.support.runtime.rank_processes import listening_addresses
from tests.support.runtime.server_process import ServerProcess

PORT = 29571
TIMEOUT = 600
PROMPT: dict[str, Any] = {"model": "demo", "temperature": 0, "max_tokens": 24}
LONG = PROMPT | {"prompt": "1", "max_tokens": 1900, "ignore_eos": True, "stream": True}
QUESTIONS = ("What is Octavo?", "12 + 30 =")


@pytest.fixture(scope="module")
def network() -> Iterator[NodeNetwork]:
    with NodeNetwork() as made:
        yield made


def flags(network: NodeNetwork, timeout: int) -> list[str]:
    return [
        *("--tensor-parallel-size", "2", "--nnodes", "2", "--master-port", str(PORT)),
        *("--master-addr", network.here, "--distributed-timeout-seconds", str(timeout)),
        *("--kv-cache-memory", "64Mi", "--enable-sleep-mode"),
    ]


class Nodes:
    """Node 0, and the process of node 1."""

    def __init__(self, server: ServerProcess, other: subprocess.Popen[bytes], words: Path) -> None:
        self.server = server
        self.other = other
        self._words = words

    def last_words(self) -> list[str]:
        """When both have ended, with failures."""
        assert self.server.wait(120) in (1, 3)
        assert self.other.wait(120) in (1, 3)
        return [json.loads((self._words / name).read_text())["message"] for name in "01"]

    def answers(self) -> list[str]:
        return answers_of(self.server)


def answers_of(server: ServerProcess) -> list[str]:
    url = f"{server.url}/v1/completions"
    found = [httpx.post(url, json=PROMPT | {"prompt": one}, timeout=60) for one in QUESTIONS]
    return [one.raise_for_status().json()["choices"][0]["text"] for one in found]


@contextmanager
def two_nodes(network: NodeNetwork, words: Path, timeout: int = TIMEOUT) -> Iterator[Nodes]:
    options = flags(network, timeout)
    command = (sys.executable, "-m", "octavo", "serve", "builtin://demo", *options)
    environment = {"OMP_NUM_THREADS": "1", "OCTAVO_TERMINATION_LOG": str(words / "1")}
    environment |= {"OCTAVO_NODE_RANK": "1"}
    with ServerProcess(*options, OCTAVO_TERMINATION_LOG=str(words / "0")) as server:
        other = subprocess.Popen(network.there_command(*command), env=os.environ | environment)
        try:
            yield Nodes(server, other, words)
        finally:
            other.kill()
            other.wait()


def test_two_nodes_answer_as_one_and_end_together(
    network: NodeNetwork, server: ServerProcess, tmp_path: Path
) -> None:
    expected = answers_of(server)
    with two_nodes(network, tmp_path) as nodes:
        nodes.server.wait_ready()
        assert nodes.answers() == expected
        there = listening_addresses(nodes.other.pid, *network.there_command())
        assert there == {network.there}
        here = listening_addresses(nodes.server.process.pid)
        assert here <= {"127.0.0.1", network.here}
        assert network.here in here
        for level in (1, 2):
            ops = nodes.server.ops_url
            assert httpx.post(f"{ops}/sleep?level={level}", timeout=60).status_code == 200
            assert httpx.post(f"{ops}/wake_up", timeout=60).status_code == 200
        # Whoever speaks something else there is not heard.
        with socket.create_connection((network.here, PORT), timeout=10) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 16)
        nodes.other.terminate()  # which has time until the first node is through
        assert nodes.answers() == expected
        nodes.server.send(signal.SIGINT)
        assert nodes.server.wait(120) == 0
        assert nodes.other.wait(120) == 0
        assert not list(tmp_path.iterdir()), "nobody failed"
        assert [line for line in nodes.server.stderr if not line.startswith("{")] == []


def test_a_cut_cable_ends_a_stream_and_both_nodes_which_name_the_other(
    network: NodeNetwork, tmp_path: Path
) -> None:
    """The last test: it stays cut. Ranks that are killed or hang, and what an idle engine notices: see the
    worker's and the loop's tests."""
    # To find each other takes longer than a short time-out on a machine that is so busy: with more time.
    assert any(ends_at_a_cut_cable(network, tmp_path, seconds) for seconds in (15, 60, 240))


def ends_at_a_cut_cable(network: NodeNetwork, words: Path, seconds: int) -> bool:
    """False where the nodes did not find each other in time."""
    with two_nodes(network, words, seconds) as nodes:
        if not nodes.server.comes_in_time():
            return False
        nodes.answers()  # so that no step is the first, which may take as long as ranks wait
        url = f"{nodes.server.url}/v1/completions"
        with httpx.stream("POST", url, json=LONG, timeout=120) as response:
            events = filter(None, response.iter_lines())
            for _ in range(4):
                assert "error" not in json.loads(next(events).removeprefix("data: "))
            network.cut()
            *_, last = events
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_failed"
        here, there = nodes.last_words()
    assert here.startswith(f"The engine ended: rank 1 of 2 on node 1 ({network.there}) "), here
    assert there.startswith(f"rank 0 of 2 on node 0 ({network.here}) is gone, or "), there
    return True
