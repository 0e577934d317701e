"""The command as a person or a pod runs it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import typer

from octavo.cli.main import app, run
from tests.support.runtime.called_command import Called


def test_the_version_is_told_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == "octavo 0.1.0\n"


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["bench", "serve", "-h"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from octavo.cli.main import run; status = run(sys.argv[1:]);"
        "heavy = {'torch', 'fastapi', 'uvicorn', 'openai', 'zmq', 'tokenizers'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "Usage: octavo" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["bench", "serve", "--num-prompts", "0"], "octavo bench serve"),
        (["bench", "serve", "--nothing"], "octavo bench serve"),
        (["bench", "serve", "--num-prompts"], "octavo bench serve"),
        (["bench", "serve", "more"], "octavo bench serve"),
        (["bench", "--num-prompts", "4"], "octavo bench"),
        (["bench", "nothing"], "octavo bench"),
        (["top", "--nothing"], "octavo top"),
        (["nothing"], "octavo"),
        (["--nothing"], "octavo"),
    ],
)
def test_a_wrong_flag_leads_to_the_help_that_tells_the_right_ones(
    arguments: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert capsys.readouterr().err.endswith(f" (see {command} --help)\n")


def test_serve_names_only_flags_that_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--help"]) == 0
    shown = capsys.readouterr().out
    for flag in ("--served-model-name", "--max-model-len", "--drain-timeout", "--ops-port"):
        assert flag in shown
    assert "--tensor-parallel-size" in shown
    assert "--pipeline-parallel-size" not in shown


@pytest.mark.parametrize("command", ["serve", "fetch", "inspect", "chat", "bench serve"])
def test_help_shows_every_flag_whole_at_80_columns(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    found: Any = typer.main.get_command(app)
    for word in command.split():
        found = found.commands[word]
    for option in found.params:
        for flag in (*option.opts, *option.secondary_opts) if not option.hidden else ():
            assert flag in re.split(r"[\s,]+", shown), flag


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nothing"], 2, "No such command 'nothing'"),
        (["--nothing"], 2, "No such option: --nothing"),
        (["fetch", "org/name"], 3, "--to"),
        (["fetch", "org/name", "--too", "x"], 3, "--too"),
        (["bench", "serve", "--concurrency", "0"], 2, "--concurrency"),
        (["serve", "x", "--speculative-config", "{}"], 3, "--speculative-config lacks method"),
        (
            ["serve", "x", "--tensor-parallel-size", "65"],
            3,
            "--tensor-parallel-size is 65; it must lie in [1, 64]",
        ),
        (["serve", "x", "--served-model-name", "a", "b"], 3, "repeat it for each"),
        (["serve", "x", "--log-level", "loud"], 3, "'loud'"),
        (["serve", "x", "--max-num-seqs", "0"], 3, "--max-num-seqs is 0"),
        (
            ["serve", "x", "--shutdown-timeout", "-1"],
            3,
            "--drain-timeout is -1.0; it must lie in [0, 86400]",
        ),
        (
            ["serve", "x", "--kv-cache-memory", "0"],
            3,
            "--kv-cache-memory is 0; it must be at least 1",
        ),
        (["serve", "x", "--kv-cache-memory", "1 GB"], 3, "--kv-cache-memory is '1 GB'"),
        (["serve", "x", "--max-body-size", "1"], 3, "--max-body-size is 1"),
        (["serve", "x", "--port", "65536"], 3, "--port is 65536; it must lie in [0, 65535]"),
        (["serve", "x", "--block-size", "17"], 3, "--block-size is 17; use 8, 16, 32, 64 or 128"),
        (["serve", "x", "--dtype", "int3"], 3, "--dtype is 'int3'; use auto, float32"),
        (["serve", "x", "--no-such-flag"], 3, "--no-such-flag"),
        (["serve", "x", "--port", "many"], 3, "'--port'"),
        (["serve", "x", "--port", "8001"], 3, "--port and --ops-port are both 8001"),
        (["serve", "x", "--api-key", ""], 3, "--api-key is empty"),
        (
            ["serve", "x", "--seed", str(2**63)],
            3,
            "--seed is 9223372036854775808; it must be at most",
        ),
        (["serve", "x", "--stall-timeout", "0"], 3, "--stall-timeout is 0.0"),
        (
            ["serve", "x", "--pipeline-parallel-size", "2"],
            3,
            "--pipeline-parallel-size is 2, and layers are not spread over devices",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line(
    arguments: list[str],
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("OCTAVO_TERMINATION_LOG", str(tmp_path / "log"))
    assert run(arguments) == status
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    if arguments[0] in ("serve", "fetch"):
        document = json.loads((tmp_path / "log").read_text())
        assert document["reason"] == "InvalidConfiguration"
        assert message in document["message"]


def test_fetch_says_that_what_is_on_the_machine_stays_where_it_is(
    tmp_path: Path, octavo: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_TERMINATION_LOG", str(tmp_path / "termination"))
    result = octavo("fetch", "builtin://demo", "--to", str(tmp_path / "to"))
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.strip())
    assert (folder / "model.safetensors").is_file()
    assert not list((tmp_path / "to").iterdir())
    said = f"is on this machine: nothing was downloaded into {tmp_path / 'to'}."
    assert said in result.stderr
    result = octavo("fetch", str(folder), "--to", str(tmp_path / "to"))
    assert (result.stdout, said in result.stderr) == (f"{folder}\n", True)


def test_fetch_of_nothing_is_told(
    tmp_path: Path, octavo: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_TERMINATION_LOG", str(tmp_path / "termination"))
    result = octavo("fetch", "s3://UPPER/x", "--to", str(tmp_path))
    assert result.returncode == 3
    assert result.stderr.startswith("octavo: ModelNotFound: ")
    assert "Traceback" not in result.stderr


def test_fetch_into_what_is_no_folder_is_told(
    tmp_path: Path, octavo: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_TERMINATION_LOG", str(tmp_path / "termination"))
    (tmp_path / "file").touch()
    result = octavo("fetch", "builtin://demo", "--to", str(tmp_path / "file" / "x"))
    assert result.returncode == 3
    assert result.stderr.startswith("octavo: InvalidConfiguration: --to is ")


def test_chat_and_bench_say_when_nothing_answers(octavo: Called) -> None:
    for arguments in (
        ("chat", "http://127.0.0.1:9/v1", "-m", "hi"),
        ("bench", "serve", "--base-url", "http://127.0.0.1:9/v1"),
    ):
        result = octavo(*arguments)
        assert result.returncode == 1
        told = "nothing answers at http://127.0.0.1:9/v1 (Connection refused). Is `octavo serve` running?"
        assert result.stderr == f"octavo: {told}\n"


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:99999", "http://[::1"])
def test_what_is_no_url_of_a_server_is_told_as_that(octavo: Called, url: str) -> None:
    result = octavo("chat", url, "-m", "hi")
    assert result.returncode == 1
    assert "is no URL of a server; write http://HOST:PORT" in result.stderr


def test_tls_where_there_is_none_is_told_with_what_to_do(octavo: Called) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        threading.Thread(target=_answer_plainly, args=[plain], daemon=True).start()
        result = octavo("chat", f"https://127.0.0.1:{plain.getsockname()[1]}", "-m", "hi")
    assert result.returncode == 1
    assert "Does it speak TLS?" in result.stderr


def _answer_plainly(server: socket.socket) -> None:
    client, _ = server.accept()
    with client:
        client.recv(4096)
        client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_chat_at_a_dead_port_says_so_before_it_loads_what_a_conversation_needs() -> None:
    """OpenAI's client takes seconds to import, and would try again for seconds more."""
    code = (
        "import sys; from octavo.cli.main import run;"
        "status = run(['chat', 'http://127.0.0.1:9', '-m', 'hi']);"
        "heavy = {'openai', 'torch', 'transformers'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "nothing answers at http://127.0.0.1:9/v1" in result.stderr
    assert "imported" not in result.stderr
