"""A server whose model is an encoder: it starts, says that it cannot generate, and goes on."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.runtime.encoders import BASE, SCORE, make_encoder, write_modules
from tests.support.runtime.server_process import ServerProcess, eventually


@pytest.mark.parametrize("head", [BASE, SCORE])
def test_routes_that_generate_answer_400_and_the_server_lives(head: int, tmp_path: Path) -> None:
    make_encoder(tmp_path, "bert", head)
    write_modules(tmp_path, {"pooling_mode_cls_token": True})
    with ServerProcess("--device", "cpu", model=str(tmp_path)) as server:
        server.wait_ready()
        for _ in range(2):
            for stream in (False, True):
                answer = httpx.post(
                    f"{server.url}/v1/completions",
                    json={"model": "demo", "prompt": "a man", "stream": stream},
                    timeout=60,
                )
                assert answer.status_code == 400, answer.text
                assert answer.json()["error"]["param"] == "model"
                assert "no head to generate with" in answer.json()["error"]["message"]
        eventually(lambda: server.probe("readyz").status_code == 200)
