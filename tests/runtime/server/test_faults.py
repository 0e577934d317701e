"""Engines whose steps fail, in real processes: what goes on, what is found out, what is told at the end."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import torch

from octavo.engine.step_failures import END_AFTER, SUSPECT_AFTER
from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.server_process import eventually

POISON = 77


class BreakableServer(FaultyServer):
    """Its steps fail when told."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._last_words = folder / "termination-log"
        super().__init__(folder, *arguments, OCTAVO_TERMINATION_LOG=str(self._last_words))

    def break_by(self, fault: str) -> None:
        self.faults.set(fault)

    def complete(self, *prompt: int) -> httpx.Response:
        body = {"model": "demo", "prompt": list(prompt), "max_tokens": 3, "ignore_eos": True}
        return httpx.post(f"{self.url}/v1/completions", json=body, timeout=60)

    def readiness(self) -> httpx.Response:
        return self.probe("readyz")

    def last_words(self) -> dict[str, str]:
        words: dict[str, str] = json.loads(self._last_words.read_text())
        return words


def test_a_bad_request_does_not_end_an_engine_and_steps_that_all_fail_do(tmp_path: Path) -> None:
    with BreakableServer(tmp_path) as server:
        server.wait_ready()

        server.break_by(str(POISON))
        answers = [server.complete(5, POISON).status_code for _ in range(END_AFTER + 2)]
        assert answers == [500] * (END_AFTER + 2)
        assert "x-should-retry" not in server.complete(5, POISON).headers
        eventually(lambda: server.readiness().status_code == 200)
        assert server.complete(5, 6).status_code == 200

        server.break_by(f"nan {POISON}")
        for _ in range(END_AFTER + 2):
            answer = server.complete(5, POISON)
            assert answer.status_code == 500
            error = answer.json()["error"]
            assert error["code"] == "engine_error"
            assert "numbers that are not finite (NaN or infinity)" in error["message"]
            assert answer.headers["x-should-retry"] == "false"
            logged = server.wait_for("engine failed on a request")
            while logged["request_id"] != answer.headers["x-request-id"]:
                logged = server.wait_for("engine failed on a request")
            assert "not finite" in logged["error"]
        assert server.complete(5, 6).status_code == 200
        assert server.readiness().status_code == 200

        server.break_by("every step")
        answers = [server.complete(5, 6).status_code for _ in range(SUSPECT_AFTER)]
        assert answers == [500] * SUSPECT_AFTER
        eventually(lambda: server.readiness().status_code == 503)
        assert "steps failed" in server.readiness().json()["reason"]
        server.break_by("")
        assert server.complete(5, 6).status_code == 200  # it waited for the engine to mend
        eventually(lambda: server.readiness().status_code == 200)

        server.break_by("every step")
        for _ in range(SUSPECT_AFTER):
            server.complete(5, 6)
        assert server.complete(5, 6).status_code == 503  # it waited in vain
        assert server.wait() == 1
    words = server.last_words()
    assert words["reason"] == "InternalError"
    assert f"{END_AFTER} steps failed and none succeeded" in words["message"]
    assert "RuntimeError: no step works" in words["message"]


def test_a_lost_device_is_named_in_the_last_words(tmp_path: Path) -> None:
    with BreakableServer(tmp_path) as server:
        server.wait_ready()
        server.break_by("device")
        assert server.complete(5, 6).status_code == 503
        assert server.wait() == 1
    assert server.last_words()["message"] == (
        "The engine ended: cpu failed: CUDA error: an illegal memory access was encountered"
    )
    assert not (tmp_path / "freed").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_that_is_lost_while_a_step_runs_is_named_in_the_last_words(tmp_path: Path) -> None:
    with BreakableServer(tmp_path, "--device", "cuda", "--enforce-eager") as server:
        server.wait_ready()
        assert server.complete(5, 6).status_code == 200
        server.break_by("gpu")
        assert server.complete(5, 6).status_code == 503
        assert server.wait() == 1
    message = server.last_words()["message"]
    assert message.startswith("The engine ended: ")
    assert "device-side assert" in message
    assert not any("terminate called" in line for line in server.stderr)
