"""`octavo chat` and `octavo bench` against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.runtime.server_process import ServerProcess


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--api-key", "k") as process:
        yield process.wait_ready()


def octavo(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "octavo", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_bench_reports_what_the_server_counted(server: ServerProcess) -> None:
    before = server.metrics()["octavo_generation_tokens_total"]
    load = ("--num-prompts", "6", "--concurrency", "3", "--max-tokens", "20")
    result = octavo(
        "bench", "serve", "--base-url", f"{server.url}/v1", "--api-key", "k", *load, "--json"
    )
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["model"] == "demo"
    assert summary["succeeded"] == 6
    assert summary["output_tokens"] == 120
    assert server.metrics()["octavo_generation_tokens_total"] - before == 120
    assert summary["prompt_tokens"] > 6 * 32
    assert 0 < summary["ttft_ms"]["p50"] <= summary["ttft_ms"]["p99"] <= summary["e2e_ms"]["p99"]
    assert summary["itl_ms"]["p50"] > 0


def test_bench_as_a_table_and_with_failures(server: ServerProcess) -> None:
    url = ("--base-url", f"{server.url}/v1", "--num-prompts", "2", "--max-tokens", "2")
    table = octavo("bench", "serve", *url, "--api-key", "k")
    assert "output tokens per second" in table.stdout
    wrong = octavo("bench", "serve", *url, "--api-key", "no", "--model", "demo", "--json")
    assert wrong.returncode == 1
    assert json.loads(wrong.stdout)["errors"] == {"401 invalid_api_key": 2}


def test_chat_answers_a_message_and_standard_input(server: ServerProcess) -> None:
    flags = ("--api-key", "k", "--temperature", "0", "--max-tokens", "12")
    asked = octavo("chat", server.url, *flags, "-m", "What is Octavo?")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip()
    piped = octavo("chat", server.url, *flags, text="What is Octavo?")
    assert piped.stdout == asked.stdout


def test_chat_shows_the_servers_own_words(server: ServerProcess) -> None:
    result = octavo("chat", server.url, "--api-key", "k", "--model", "nope", "-m", "hi")
    assert result.returncode == 1
    assert "does not exist" in result.stderr
    assert "Traceback" not in result.stderr
