"""A server one of whose ranks hangs: streams end, and the last words say which rank and why."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx

from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.rank_processes import has_ended, rank_pids

STREAM: dict[str, Any] = {
    "model": "demo",
    "prompt": [1, 2, 3],
    "max_tokens": 1900,
    "ignore_eos": True,
    "stream": True,
}


def test_a_rank_that_hangs_under_streams_ends_the_server_and_is_named(tmp_path: Path) -> None:
    # Ranks that start on a machine so busy are too slow for each other: with more time.
    assert any(ends_by_a_rank_that_hangs(tmp_path, seconds) for seconds in (10, 60, 240))


def ends_by_a_rank_that_hangs(folder: Path, seconds: int) -> bool:
    """False where the ranks did not find each other in time."""
    folder /= str(seconds)
    folder.mkdir()
    words = folder / "termination-log"
    flags = ("--tensor-parallel-size", "2", "--distributed-timeout-seconds", str(seconds))
    with FaultyServer(folder, *flags, OCTAVO_TERMINATION_LOG=str(words)) as server:
        if not server.comes_in_time():
            return False
        (pid,) = rank_pids(server.engine_pid)
        url = f"{server.url}/v1/completions"
        with (
            server.faults.slow_steps(),  # else the stream may be over before the rank hangs
            httpx.stream("POST", url, json=STREAM, timeout=600) as response,
        ):
            lines = response.iter_lines()
            next(lines)
            os.kill(pid, signal.SIGSTOP)
            rest = [line for line in lines if line]
        assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "server_failed"
        assert server.wait() == 1
    assert json.loads(words.read_text())["message"] == (
        f"The engine ended: rank 1 of 2 (process {pid}) did not answer within {seconds} s "
        "(--distributed-timeout-seconds)."
    )
    assert has_ended(pid)
    return True
