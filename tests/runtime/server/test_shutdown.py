"""How a server ends: drained on SIGTERM, at once when idle, with a word when its engine dies."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.in_flight import STREAMS, InFlight
from tests.support.runtime.server_process import ServerProcess, eventually

STREAM = {"model": "demo", "prompt": "hello", "max_tokens": 900, "ignore_eos": True, "stream": True}
DAY = "86400"


@contextmanager
def begun_stream(server: FaultyServer, timeout: float = 280) -> Iterator[Iterator[str]]:
    """The lines behind the first of an answer that outlasts the test."""
    url = f"{server.url}/v1/completions"
    with (
        server.faults.slow_steps(),
        httpx.stream("POST", url, json=STREAM, timeout=timeout) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        yield lines


def last_error(lines: Iterator[str]) -> dict[str, Any]:
    """Of the last event of a stream that ends."""
    *_, last = (line for line in lines if line)
    error: dict[str, Any] = json.loads(last.removeprefix("data: "))["error"]
    return error


def test_sigterm_lets_what_runs_finish(tmp_path: Path) -> None:
    # Over before anybody asked, on a machine so busy: with more time.
    assert any(finishes_what_runs(tmp_path, grace_seconds) for grace_seconds in (5, 20, 50))


def finishes_what_runs(folder: Path, grace_seconds: int) -> bool:
    """False where the grace was over too early for a look at it."""
    with FaultyServer(folder, "--shutdown-grace", str(grace_seconds)) as server:
        server.wait_ready()
        with ExitStack() as held:
            held.enter_context(server.faults.slow_steps())
            running = held.enter_context(InFlight(server))
            server.send(signal.SIGTERM)
            server.wait_for("draining")
            assert server.probe("readyz").json() == {"status": "draining"}
            assert server.probe("livez").status_code == 200
            # Endpoints have not propagated yet: new requests are answered, and told to move on. While they
            # come something leads here, and the grace is not over.
            asked_at = told_at = time.monotonic()
            while asked_at <= told_at + grace_seconds:
                asked_at = time.monotonic()
                late = httpx.post(
                    f"{server.url}/v1/completions",
                    json={"model": "demo", "prompt": "a", "max_tokens": 1},
                    timeout=60,
                )
                if late.status_code == 503:
                    return False
                assert late.status_code == 200
                assert late.headers["connection"] == "close"
            refusing = server.wait_for("refusing")
            assert refusing["is_quiet"]
            refused = httpx.get(f"{server.url}/v1/models", timeout=60)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "server_draining"
            assert refused.headers["connection"] == "close"
            assert "retry-after" in refused.headers
            server.faults.set("")
            running.check_whole()
        assert server.wait() == 0
    return True


def test_whoever_still_comes_is_answered_until_half_of_the_drain_is_over() -> None:
    """A proxy that is slow to hear of the end goes on leading here, whichever process answers."""
    # Apart by less than the grace, on a machine so busy: with more time.
    assert any(answers_latecomers(grace_seconds) for grace_seconds in (1, 8, 40))


def answers_latecomers(grace_seconds: int) -> bool:
    """False where two came further apart than the grace."""
    flags = ("--drain-grace", str(grace_seconds), "--drain-timeout", str(2 * grace_seconds))
    with ServerProcess(*flags, "--api-server-count", "2") as server:
        server.wait_ready()
        server.send(signal.SIGTERM)
        server.wait_for("draining")
        with suppress(httpx.TransportError):  # the last one comes when all is over
            while (answer := httpx.get(f"{server.url}/v1/models", timeout=60)).status_code == 200:
                assert answer.headers["connection"] == "close"
                time.sleep(0.02)
        refusing = server.wait_for("refusing")
        assert server.wait() == 0
    if refusing["is_quiet"]:
        return False
    assert refusing["seconds"] >= 2 * grace_seconds  # the grace, and half of the drain
    return True


def test_shutdown_timeout_ends_what_does_not_finish(tmp_path: Path) -> None:
    with FaultyServer(tmp_path, "--shutdown-grace", "0", "--shutdown-timeout", "0.5") as server:
        server.wait_ready()
        with begun_stream(server, timeout=60) as lines:
            server.send(signal.SIGTERM)
            error = last_error(lines)
        assert (error["type"], error["code"]) == ("server_error", "server_draining")
        assert server.wait() == 0


@pytest.mark.parametrize("grace", ["0", DAY])
def test_a_second_signal_is_no_failure_to_whoever_is_cut_off(grace: str, tmp_path: Path) -> None:
    with FaultyServer(tmp_path, "--drain-grace", grace, "--drain-timeout", DAY) as server:
        server.wait_ready()
        with server.faults.slow_steps(), InFlight(server) as running:
            server.send(signal.SIGTERM)
            server.wait_for("draining" if grace == DAY else "refusing")
            server.send(signal.SIGTERM)
            assert running.failures() == {"server_draining"}
        assert server.wait() == 0


def test_a_second_signal_is_no_failure_with_several_processes_either(tmp_path: Path) -> None:
    flags = ("--drain-grace", "0", "--drain-timeout", DAY, "--api-server-count", "2")
    with FaultyServer(tmp_path, *flags) as server:
        server.wait_ready()
        with begun_stream(server) as lines:
            server.send(signal.SIGTERM)
            server.wait_for("refusing")
            server.send(signal.SIGTERM)
            assert last_error(lines)["code"] == "server_draining"
        assert server.wait() == 0


def test_ctrl_c_ends_an_idle_server_at_once_and_its_engine_too() -> None:
    with ServerProcess("--shutdown-grace", "250") as server:
        server.wait_ready()
        engine = server.engine_pid
        server.send(signal.SIGINT)
        assert server.wait(100) == 0
        assert not Path(f"/proc/{engine}").exists()


def test_a_dead_engine_fails_liveness_and_ends_the_server(tmp_path: Path) -> None:
    last_words = tmp_path / "termination-log"
    with FaultyServer(tmp_path, OCTAVO_TERMINATION_LOG=str(last_words)) as server:
        server.wait_ready()
        with server.faults.slow_steps(), InFlight(server) as running:
            os.kill(server.engine_pid, signal.SIGKILL)
            assert running.failures() == {"server_failed"}
        assert server.wait() == 1
        eventually(lambda: len(ends_of(server)) == len(STREAMS))
        assert set(ends_of(server)) == {"error"}
    document = json.loads(last_words.read_text())
    assert document["reason"] == "InternalError"
    assert document["message"].startswith("The engine process was ended by SIGKILL.")


def ends_of(server: ServerProcess) -> list[str]:
    """Of the streams of which the log tells."""
    return [line["finish_reason"] for line in server.log if line["event"] == "request"]


@pytest.mark.parametrize(
    ("grace", "is_told_first"), [("0", True), (DAY, True), (DAY, False)], ids=str
)
def test_a_drain_does_not_wait_for_an_engine_that_hangs(
    tmp_path: Path, grace: str, is_told_first: bool
) -> None:
    last_words = tmp_path / "termination-log"
    flags = ("--stall-timeout", "3", "--drain-grace", grace, "--drain-timeout", DAY)
    with (
        FaultyServer(tmp_path, *flags, OCTAVO_TERMINATION_LOG=str(last_words)) as server,
        ExitStack() as held,
    ):
        server.wait_ready()
        engine = server.engine_pid
        held.enter_context(server.faults.slow_steps())
        running = held.enter_context(InFlight(server))
        if is_told_first:
            server.send(signal.SIGTERM)
            server.wait_for("draining")
        held.callback(go_on, engine)
        os.kill(engine, signal.SIGSTOP)
        if not is_told_first:
            eventually(lambda: server.probe("livez").status_code == 503)
            server.send(signal.SIGTERM)
        assert running.failures() == {"server_failed"}
        assert server.wait() == 1
        assert not Path(f"/proc/{engine}").exists()
    document = json.loads(last_words.read_text())
    assert document["reason"] == "InternalError"
    assert document["message"].startswith("The engine hangs: ")
    assert " for 3 s (--stall-timeout" in document["message"]


def go_on(pid: int) -> None:
    """A stopped engine would outlive its server, and hold the test by its pipe."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_an_engine_that_dies_in_a_drain_is_told(tmp_path: Path) -> None:
    last_words = tmp_path / "termination-log"
    flags = ("--drain-grace", "0", "--drain-timeout", DAY)
    with FaultyServer(tmp_path, *flags, OCTAVO_TERMINATION_LOG=str(last_words)) as server:
        server.wait_ready()
        with begun_stream(server) as lines:
            server.send(signal.SIGTERM)
            server.wait_for("draining")
            os.kill(server.engine_pid, signal.SIGKILL)
            assert last_error(lines)["code"] == "server_failed"
        assert server.wait() == 1
    message = json.loads(last_words.read_text())["message"]
    assert message.startswith("The engine process was ended by SIGKILL.")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_starting_ends_the_start(number: signal.Signals, tmp_path: Path) -> None:
    with FaultyServer(tmp_path, fault="no start") as server:
        server.wait_for("start-up phase")
        server.send(number)
        assert server.wait() == (0 if number is signal.SIGTERM else 130)
        assert not any("Traceback" in line for line in server.stderr)
