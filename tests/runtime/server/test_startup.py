"""Starts: what is told on the way, and the last words of one that fails."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.server_process import ServerProcess, eventually, start_command


def failed_start(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, str], list[str]]:
    """Exit status, termination log and the lines of stderr that are not JSON."""
    last_words = tmp_path / "termination-log"
    process = start_command("serve", *arguments, OCTAVO_TERMINATION_LOG=str(last_words))
    _, stderr = process.communicate(timeout=120)
    assert "Traceback" not in stderr
    plain = [line for line in stderr.splitlines() if not line.startswith("{")]
    return process.returncode, json.loads(last_words.read_text()), plain


@pytest.mark.parametrize(
    ("arguments", "reason", "message"),
    [
        (["/no/such/model"], "ModelNotFound", "/no/such/model"),
        (["ftp://x"], "ModelNotFound", "ftp://x"),
        (["builtin://demo", "--dtype", "int3"], "InvalidConfiguration", "int3"),
        (
            ["builtin://demo", "--kv-cache-memory", "100K"],
            "OutOfMemory",
            "Raise --kv-cache-memory to 1Mi; or set --max-model-len 16",
        ),
        (["builtin://demo", "--api-key-file", "/no"], "InvalidConfiguration", "/no cannot be read"),
        (["builtin://demo", "--chat-template", "/no.jinja"], "ModelInvalid", "/no.jinja"),
        (["builtin://demo", "--generation-config", "/no"], "InvalidConfiguration", "'/no'"),
        (["builtin://demo", "--host", "203.0.113.1"], "InvalidConfiguration", "203.0.113.1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_users_error_is_one_line_and_status_3(
    tmp_path: Path, arguments: list[str], reason: str, message: str
) -> None:
    """Each at another place of a start; wrong flags: see the tests of the command."""
    status, document, stderr = failed_start(tmp_path, *arguments, "--port", "0", "--ops-port", "0")
    assert status == 3
    assert document["reason"] == reason
    assert message in document["message"]
    assert len(stderr) == 1
    assert stderr[0].startswith(f"octavo: {reason}: ")


def test_a_taken_port_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, document, _ = failed_start(
            tmp_path, "builtin://demo", "--port", port, "--ops-port", "0"
        )
    assert status == 3
    assert f"--port is {port}" in document["message"]


def test_what_the_engine_refuses_comes_through(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(
        '{"architectures": ["NoSuchForCausalLM"], "model_type": "x"}'
    )
    (model / "tokenizer.json").write_text(
        Path("runtime/octavo/builtin/demo/tokenizer.json").read_text()
    )
    status, document, stderr = failed_start(tmp_path, str(model), "--port", "0", "--ops-port", "0")
    assert status == 3
    assert document["reason"] == "ModelUnsupported"
    assert "NoSuchForCausalLM" in document["message"]
    assert len(stderr) == 1


def test_probes_answer_while_the_model_loads(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        ops_port = probe.getsockname()[1]
    with FaultyServer(tmp_path, "--ops-port", str(ops_port), fault="no start") as server:
        server.wait_for("start-up phase")  # `resolve` ended, the engine is being started
        server.ops_url = f"http://127.0.0.1:{ops_port}"
        startup = server.probe("startupz")
        assert startup.status_code == 503
        assert startup.json()["status"] == "starting"
        assert startup.json()["phases"][0]["name"] == "resolve"
        assert server.probe("readyz").status_code == 503
        assert server.probe("livez").status_code == 200
        assert 'octavo_requests_waiting{model="demo"} 0' in server.probe("metrics").text
        server.faults.set("")
        server.wait_ready()
        assert server.probe("startupz").status_code == 200
        eventually(lambda: server.probe("readyz").status_code == 200)


def test_the_ready_line_has_what_an_operator_asks(server: ServerProcess) -> None:
    (ready,) = [line for line in server.log if line["event"] == "ready"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", ready["url"])
    assert ready["max_model_len"] == 2048
    assert ready["kv_cache_tokens"] >= 2048
    assert ready["has_api_key"] is False
    assert ready["startup_seconds"] > 0
    assert "load" in ready["phases"]
