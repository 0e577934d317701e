"""Several API processes behind one port: what is one for the server stays one, and who dies is replaced."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from octavo.config import EngineConfig
from octavo.errors import InvalidConfigurationError
from octavo.server.process.api_servers.member import MODULE
from octavo.server.process.options import ServeOptions
from octavo.server.process.options_json import decode_options, encode_options
from tests.support.runtime.adapters import save_adapter
from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.server_process import eventually
from tests.support.runtime.tiny_llama import save_tiny_llama

KEYS = [
    {"key": "sk-free", "name": "free"},
    {"key": "sk-few", "name": "few", "requests_per_minute": 6},
    {"key": "sk-two", "name": "two", "max_concurrent_requests": 2},
    {"key": "sk-two-free", "name": "two"},
]
PROMPT = [5, 6, 7, 8]
NUM_SEQS, NUM_QUEUED = 3, 2


class Served(FaultyServer):
    """Two API processes."""

    temporary: Path

    @property
    def api_pids(self) -> list[int]:
        """In the order in which they were started."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        lines = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in children}
        return sorted(child for child, line in lines.items() if MODULE in line)

    @contextmanager
    def answered_by(self, place: int) -> Iterator[None]:
        """New connections are taken by that process alone: the other one is stopped."""
        others = [pid for number, pid in enumerate(self.api_pids) if number != place]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)

    def ask(self, key: str = "sk-free", **fields: Any) -> httpx.Response:
        """Over a connection of its own."""
        body = {"model": "demo", "prompt": PROMPT, "max_tokens": 4, "ignore_eos": True, **fields}
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{self.url}/v1/completions"
        return httpx.post(url, json=body, headers=headers, timeout=60)

    def streams(
        self, held: ExitStack, count: int, key: str = "sk-free", **fields: Any
    ) -> list[Iterator[str]]:
        """That many answers, each of which has begun."""
        found: list[Iterator[str]] = []
        held.callback(found.clear)  # an iterator that nobody holds ends its answer
        for _ in range(count):
            body = {"model": "demo", "prompt": PROMPT, "max_tokens": 900}
            body |= fields or {"ignore_eos": True}
            response = held.enter_context(
                httpx.stream(
                    "POST",
                    f"{self.url}/v1/completions",
                    json=body | {"stream": True},
                    headers={"Authorization": f"Bearer {key}"},
                    timeout=60,
                )
            )
            assert response.status_code == 200, response.read()
            lines = response.iter_lines()
            assert next(lines).startswith("data: {")
            found.append(lines)
        return found

    def command(self, path: str, **body: Any) -> httpx.Response:
        return httpx.post(f"{self.ops_url}{path}", json=body or None, timeout=60)


@dataclass(frozen=True)
class Folders:
    root: Path
    base: Path
    adapter: Path
    keys: Path

    def serve(self, *flags: str) -> Served:
        temporary = Path(tempfile.mkdtemp(dir=self.root))
        given = (
            "--api-server-count",
            "2",
            "--api-key-file",
            str(self.keys),
            "--shutdown-grace",
            "0",
        )
        base = str(self.base)
        (temporary / "tmp").mkdir()
        served = Served(temporary, *given, *flags, model=base, TMPDIR=str(temporary / "tmp"))
        served.temporary = temporary / "tmp"
        return served


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("several")
    folders = Folders(root, root / "base", root / "adapter", root / "keys.json")
    save_adapter(folders.adapter, save_tiny_llama(folders.base, max_position_embeddings=2048))
    folders.keys.write_text(json.dumps(KEYS))
    return folders


@pytest.fixture(scope="module")
def served(folders: Folders) -> Iterator[Served]:
    bounds = ("--max-num-seqs", str(NUM_SEQS), "--max-queued-requests", str(NUM_QUEUED))
    with folders.serve(*bounds, "--enable-lora", "--public-metrics") as server:
        server.wait_ready()
        yield server


def finished(served: Served) -> float:
    return sum(
        number
        for name, number in served.metrics().items()
        if name.startswith("octavo_requests_total{")
    )


def test_both_answer_and_each_request_counts_once(served: Served) -> None:
    before = finished(served)
    answers = []
    for place in (0, 1, 0):
        with served.answered_by(place):
            answers.append(served.ask(return_token_ids=True, temperature=0).json()["choices"][0])
    assert answers[0]["token_ids"] == answers[1]["token_ids"] == answers[2]["token_ids"]
    assert finished(served) - before == 3
    metrics = served.metrics()
    assert metrics["octavo_time_to_first_token_seconds_count"] == 3
    assert metrics["octavo_inter_token_latency_seconds_count"] == 9
    assert metrics['octavo_key_requests_total{key="free"}'] == 3
    public = httpx.get(f"{served.url}/metrics", timeout=60).text
    assert "octavo_inter_token_latency_seconds_count" in public
    assert "octavo_key_requests" not in public
    headers = {"Authorization": "Bearer sk-free"}

    def num_tokens() -> int:
        load = httpx.get(f"{served.url}/load", headers=headers, timeout=60).json()
        return int(load["generation_tokens_total"])

    eventually(lambda: num_tokens() == 12)  # the engine tells who waits first


def test_a_key_s_limits_hold_over_both(served: Served) -> None:
    started, answers = time.monotonic(), []
    for number in range(30):
        with served.answered_by(number % 2):
            answers.append(served.ask("sk-few", max_tokens=1))
        if answers[-1].status_code == 429:
            break
    filled_up = (time.monotonic() - started) / 10  # one in ten seconds
    assert 6 <= len(answers) - 1 <= 6 + filled_up + 1
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "5"
    assert answers[-1].json()["error"]["code"] == "rate_limit_exceeded"
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_each_line_says_who_wrote_it_and_what_all_know_is_logged_once(
    served: Served, folders: Folders
) -> None:
    folders.keys.write_text(json.dumps([*KEYS, {"key": "sk-new", "name": "new"}]))
    served.wait_for("API keys changed")
    for place in (0, 1):
        with served.answered_by(place):
            eventually(lambda: served.ask("sk-new").status_code == 200)
    writers: set[str] = set()

    def have_both_written() -> bool:
        lines = [line for line in served.log if line["event"] == "request"]
        writers.update(line["process"] for line in lines if line["key"] == "new")
        return len(writers) == 2

    eventually(have_both_written)
    assert writers == {"api-1", "api-2"}
    events = [line["event"] for line in served.log]
    assert events.count("API keys changed") == events.count("tokens that end an answer") == 1
    assert {line.get("process") for line in served.log} == {"server", "engine", "api-1", "api-2"}


def test_the_queue_s_bound_holds_over_both(served: Served) -> None:
    with served.faults.slow_steps(), ExitStack() as held, ThreadPoolExecutor(12) as threads:
        running = served.streams(held, NUM_SEQS)
        asked = [threads.submit(served.ask, max_tokens=2) for _ in range(12)]
        refused: list[httpx.Response] = []

        def are_decided() -> bool:
            refused[:] = [one.result() for one in asked if one.done()]
            return len(refused) == len(asked) - NUM_QUEUED

        eventually(are_decided)
        assert {answer.status_code for answer in refused} == {429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert {answer.json()["error"]["code"] for answer in refused} == {"queue_full"}
        assert all(next(line for line in lines if line) for lines in running)
        served.faults.set("")
        held.close()
        answers = [one.result() for one in asked]
    assert [one.status_code for one in answers].count(200) == NUM_QUEUED
    assert not [line for line in served.log if line["event"] == "request rejected"]
    eventually(lambda: served.metrics()["octavo_requests_running"] == 0)


def test_adapters_reach_both(served: Served, folders: Folders) -> None:
    adapter = {"lora_name": "mine", "lora_path": str(folders.adapter)}
    assert served.command("/v1/load_lora_adapter", **adapter).status_code == 200
    for place in (0, 1):
        with served.answered_by(place):
            assert served.ask(model="mine").status_code == 200
    assert served.command("/v1/unload_lora_adapter", lora_name="mine").status_code == 200
    again = served.command("/v1/unload_lora_adapter", lora_name="mine").json()["error"]
    assert again["message"] == "The adapter 'mine' is not loaded. No adapter is loaded."
    assert (again["code"], again["param"]) == ("model_not_found", "lora_name")
    for place in (0, 1):
        with served.answered_by(place):
            assert served.ask(model="mine").status_code == 404


def test_a_sleep_reaches_both(folders: Folders) -> None:
    with folders.serve("--enable-sleep-mode") as served:
        served.wait_ready()
        with served.faults.slow_steps(), ExitStack() as held:
            lines = []
            for place in (0, 1):
                with served.answered_by(place):
                    lines += served.streams(held, 1)
            assert served.command("/sleep").json() == {"is_sleeping": True, "level": 1}
            for one in lines:
                assert any("server_sleeping" in line for line in one)
        assert served.probe("readyz").status_code == 503
        for place in (0, 1):
            with served.answered_by(place):
                assert served.ask().json()["error"]["code"] == "server_sleeping"
        served.command("/wake_up").raise_for_status()
        for place in (0, 1):
            with served.answered_by(place):
                assert served.ask().status_code == 200


def test_what_another_key_of_the_name_has_under_way_counts_in_all_processes(
    served: Served,
) -> None:
    """Also of one without limits, which is refused nothing."""
    with served.faults.slow_steps(), ExitStack() as held:
        with served.answered_by(0):
            served.streams(held, 2, "sk-two-free")
            # Told without waiting for an answer: known before the process is stopped.
            eventually(lambda: served.ask("sk-two").status_code == 429)
        with served.answered_by(1):
            assert served.ask("sk-two").status_code == 429
            served.streams(held, 1, "sk-two-free")
    eventually(lambda: served.ask("sk-two").status_code == 200)


def test_one_that_is_killed_gives_back_what_it_had_and_is_replaced(served: Served) -> None:
    before, pids = finished(served), served.api_pids
    errors = 'octavo_requests_total{finish_reason="error"}'
    errors_before = served.metrics()[errors]
    document = {"structured_outputs": {"regex": "[a-z]{900}"}}
    with served.faults.slow_steps(), ExitStack() as held:
        with served.answered_by(0):
            lost = served.streams(held, 1, "sk-two") + served.streams(held, 1, "sk-two", **document)
        with served.answered_by(1):
            (kept,) = served.streams(held, 1)
            assert served.ask("sk-two").status_code == 429
        os.kill(pids[0], signal.SIGKILL)
        for lines in lost:
            with pytest.raises(httpx.TransportError):
                list(lines)
        eventually(lambda: served.metrics()["octavo_requests_running"] == 1)
        served.faults.set("")
        assert served.ask("sk-two").status_code == 200
        assert next(line for line in kept if line)
    served.wait_for("API process replaced")
    (replacement,) = set(served.api_pids) - set(pids)
    assert served.metrics()[errors] == errors_before + len(lost)
    # Those, the stream that went on, and the request that was answered since: no counter fell.
    eventually(lambda: finished(served) == before + len(lost) + 2)
    with served.answered_by(served.api_pids.index(replacement)):
        assert served.ask().status_code == 200
    assert served.probe("livez").status_code == 200


def test_all_streams_end_whole_when_the_server_does(served: Served) -> None:
    pids = served.api_pids
    with ExitStack() as held:
        with served.faults.slow_steps():
            lines = []
            for place in (0, 1):
                with served.answered_by(place):
                    lines += served.streams(held, 1)
            served.send(signal.SIGTERM)
            served.wait_for("draining")
        for one in lines:
            rest = [line for line in one if line]
            assert rest[-1] == "data: [DONE]"
    assert served.wait() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list(served.temporary.iterdir()) == []


LEADER = """
import asyncio, socket, sys
from pathlib import Path
from octavo.server.process.api_servers.member import Member

async def lead():
    bound = socket.create_server(("127.0.0.1", 0))
    member = await Member.spawn(b"a", bound, Path(sys.argv[1]), lambda *_: None, lambda *_: None)
    print(bound.getsockname()[1], member.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(lead())
"""


def test_one_that_hangs_ends_with_the_process_that_leads_and_frees_the_port(tmp_path: Path) -> None:
    def ignores_sigterm() -> bool:
        """Which it does last before it serves."""
        (line,) = (one for one in status.read_text().splitlines() if one.startswith("SigIgn"))
        return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    def is_free() -> bool:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            return False
        return True

    command = [sys.executable, "-c", LEADER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as leader:
        assert leader.stdout is not None
        try:
            port, pid = map(int, leader.stdout.readline().split())
            status = Path(f"/proc/{pid}/status")
            eventually(ignores_sigterm)
            os.kill(pid, signal.SIGSTOP)
            assert not is_free()
        finally:
            leader.kill()
    eventually(is_free)


def test_options_cross_to_another_process_as_they_are(tmp_path: Path) -> None:
    engine = EngineConfig(model="m", max_num_seqs=3, kv_cache_memory_bytes=2**26)
    options = ServeOptions(
        model="m",
        engine=engine,
        served_names=("a", "b"),
        api_keys=("sk-1",),
        api_key_file=tmp_path / "keys",
        allowed_origins=("*",),
        request_timeout_seconds=2.5,
        api_server_count=2,
    )
    assert decode_options(encode_options(options)) == options


def test_a_node_that_answers_nobody_refuses_several() -> None:
    with pytest.raises(InvalidConfigurationError, match="api_server_count is 2 and node_rank is 1"):
        ServeOptions(
            model="m",
            engine=EngineConfig(model="m", tensor_parallel_size=2),
            served_names=("m",),
            num_nodes=2,
            node_rank=1,
            api_server_count=2,
        )
