"""Faults of API processes: a full disk, a start that fails, and deaths again and again, beside one that
answers."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import structlog
from prometheus_client.mmap_dict import MmapedDict

from octavo.server.process.api_servers import metric_files
from octavo.server.process.api_servers.metric_files import AllocatedFile, mapped
from tests.support.runtime.server_process import ServerProcess, eventually
from tests.support.runtime.tiny_llama import save_tiny_llama


@contextmanager
def no_file_beyond(num_bytes: int) -> Iterator[None]:
    """As on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_files_have_their_space_before_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "counter_1.db"
    counters: Any = AllocatedFile(str(file))
    for number in range(2000):
        counters.write_value(f"a counter with a long name and a number {number:9}", 1.0, 0.0)
    stat = file.stat()
    assert stat.st_size > 2**16
    assert stat.st_blocks * 512 >= stat.st_size
    again: Any = AllocatedFile(str(file))
    assert again.read_value(f"a counter with a long name and a number {1999:9}") == (1.0, 0.0)
    counters.close()
    again.close()


@pytest.mark.parametrize("limit", [0, 2**16])
def test_counters_without_space_go_on_in_memory_and_are_told_once(
    tmp_path: Path, limit: int
) -> None:
    metric_files._tell.cache_clear()
    file = tmp_path / "counter_1.db"
    with structlog.testing.capture_logs() as lines, no_file_beyond(limit):
        counters: Any = AllocatedFile(str(file))
        for number in range(5000):
            counters.write_value(f"a counter with a long name and a number {number:9}", 1.0, 0.0)
        cells = mapped(tmp_path / "cells", 2**17)
        cells[-1] = 1
    assert len(list(counters.read_all_values())) == 5000
    (line,) = lines
    assert (line["event"], line["error"]) == ("metrics of this process are lost", "File too large")
    # What others read is whole, or not there.
    assert [path.name for path in tmp_path.iterdir()] == (["counter_1.db"] if limit else [])
    if limit:
        reader: Any = MmapedDict
        seen = list(reader.read_all_values_from_file(str(file)))
        assert 0 < len(seen) < 5000
    counters.close()


class Served(ServerProcess):
    """Two API processes."""

    def wait_ready(self) -> Self:
        super().wait_ready()
        self._engine_pid = self.engine_pid
        return self

    def api_pids(self, beside: int | None = None) -> list[int]:
        return [pid for pid in self.child_pids if pid not in (self._engine_pid, beside)]

    def ask(self) -> int:
        body = {"model": "demo", "prompt": [5, 6], "max_tokens": 2}
        return httpx.post(f"{self.url}/v1/completions", json=body, timeout=60).status_code


def test_a_server_goes_on_with_the_process_that_answers(tmp_path: Path) -> None:
    save_tiny_llama(tmp_path / "model")
    with Served("--api-server-count", "2", model=str(tmp_path / "model")) as served:
        served.wait_ready()
        first, healthy = served.api_pids()
        # Where it has no space for its counters, one starts, and answers.
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        os.kill(first, signal.SIGKILL)
        served.wait_for("metrics of this process are lost")
        served.wait_for("API process replaced")
        (replacement,) = served.api_pids(beside=healthy)
        os.kill(healthy, signal.SIGSTOP)
        assert served.ask() == 200
        os.kill(healthy, signal.SIGCONT)
        assert "octavo_requests_total" in httpx.get(f"{served.ops_url}/metrics", timeout=60).text

        # One that cannot start says why.
        shutil.move(tmp_path / "model", tmp_path / "gone")
        os.kill(replacement, signal.SIGKILL)
        assert "tokenizer.json" in served.wait_for("API process cannot start")["error"]

        def are_held_back() -> bool:
            for pid in served.api_pids(beside=healthy):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return any(line["event"] == "API processes end again and again" for line in served.log)

        eventually(are_held_back)
        assert served.process.poll() is None
        eventually(lambda: served.probe("readyz").status_code == 200)
        assert served.ask() == 200

        os.kill(healthy, signal.SIGKILL)
        assert served.wait() != 0
