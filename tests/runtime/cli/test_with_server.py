"""`octavo chat`, `octavo top` and `octavo bench` against a real server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from octavo.cli.main import run
from tests.support.runtime.called_command import Called
from tests.support.runtime.server_process import ServerProcess


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--api-key", "k", "--no-ui") as process:
        yield process.wait_ready()


def in_a_process(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "octavo", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def test_bench_reports_what_the_server_counted(server: ServerProcess) -> None:
    before = server.metrics()["octavo_generation_tokens_total"]
    load = ("--num-prompts", "6", "--concurrency", "3", "--max-tokens", "20")
    result = in_a_process(
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
    # Per token, not per event: what the tokens after the first took, over their number. On a busy machine
    # much of it may be the time from the last token to the stream's end.
    per_token = (summary["e2e_ms"]["mean"] - summary["ttft_ms"]["mean"]) / 19
    assert 0 < summary["itl_ms"]["mean"] <= per_token + 0.01
    assert summary["tpot_ms"]["mean"] == pytest.approx(summary["itl_ms"]["mean"], abs=0.01)


def test_bench_as_a_table_and_with_failures(server: ServerProcess, octavo: Called) -> None:
    url = ("--base-url", f"{server.url}/v1", "--num-prompts", "2", "--max-tokens", "2")
    table = octavo("bench", "serve", *url, "--api-key", "k")
    assert "output tokens per second" in table.stdout
    wrong = octavo("bench", "serve", *url, "--api-key", "no", "--model", "demo", "--json")
    assert wrong.returncode == 1
    assert json.loads(wrong.stdout)["errors"] == {"401 invalid_api_key": 2}
    assert "--api-key" in wrong.stderr


def test_bench_finds_the_api_without_its_version(server: ServerProcess, octavo: Called) -> None:
    load = ("--num-prompts", "1", "--max-tokens", "2", "--json")
    result = octavo("bench", "serve", "--base-url", server.url, "--api-key", "k", *load)
    assert json.loads(result.stdout)["succeeded"] == 1, result.stderr


def test_bench_tells_a_refusal_from_a_silence(server: ServerProcess, octavo: Called) -> None:
    def told(url: str, *arguments: str) -> str:
        result = octavo("bench", "serve", "--base-url", url, *arguments)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1, result.stderr
        return result.stderr

    refused = told(server.url)
    assert "401" in refused
    assert "--api-key" in refused
    absent = told(server.ops_url)
    assert "404" in absent
    assert "/v1" in absent
    unknown = told(server.url, "--api-key", "k", "--model", "nope", "--num-prompts", "1", "--json")
    assert "404 model_not_found" in unknown
    assert "does not exist" in unknown
    assert "nothing answers" in told("http://127.0.0.1:1")
    assert not any("nothing answers" in text for text in (refused, absent, unknown))


def test_bench_prints_what_it_has_when_interrupted(server: ServerProcess) -> None:
    before = server.metrics()['octavo_requests_total{finish_reason="length"}']
    # One at a time, more than can end meanwhile.
    load = ("--num-prompts", "100000", "--concurrency", "1", "--max-tokens", "4", "--json")
    command = [sys.executable, "-m", "octavo", "bench", "serve", "--base-url", server.url]
    bench = subprocess.Popen(
        [*command, "--api-key", "k", *load],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        ended = 0.0
        while ended < 3:
            assert bench.poll() is None
            ended = server.metrics()['octavo_requests_total{finish_reason="length"}'] - before
        bench.send_signal(signal.SIGINT)
        out, err = bench.communicate(timeout=60)
    finally:
        bench.kill()  # or it would go on beside the tests that follow
    assert bench.returncode == 130
    summary = json.loads(out)
    assert summary["succeeded"] >= 2
    assert summary["output_tokens"] == 4 * summary["succeeded"]
    assert "interrupted" in err
    assert "Traceback" not in err


def test_bench_tells_its_progress(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("octavo.cli.bench._PROGRESS_SECONDS", 0.001)
    load = ["--num-prompts", "20", "--concurrency", "1", "--max-tokens", "8", "--json"]
    assert run(["bench", "serve", "--base-url", server.url, "--api-key", "k", *load]) == 0
    told = capsys.readouterr()
    assert "of 20 requests" in told.err
    assert json.loads(told.out)["succeeded"] == 20


def test_chat_answers_a_message_and_standard_input(server: ServerProcess) -> None:
    flags = ("--api-key", "k", "--temperature", "0", "--max-tokens", "12")
    asked = in_a_process("chat", server.url, *flags, "-m", "What is Octavo?")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip()
    piped = in_a_process("chat", server.url, *flags, text="What is Octavo?")
    assert piped.stdout == asked.stdout


@pytest.mark.parametrize("message", ["", " \n"])
def test_chat_sends_no_empty_message(server: ServerProcess, octavo: Called, message: str) -> None:
    """Neither as a flag nor through a pipe."""
    before = server.metrics()["octavo_prompt_tokens_total"]
    for asked in (
        octavo("chat", server.url, "--api-key", "k", "-m", message),
        octavo("chat", server.url, "--api-key", "k", text=message),
    ):
        assert asked.returncode == 2
        assert asked.stdout == ""
        assert asked.stderr == "octavo: the message is empty: nothing was sent.\n"
    assert server.metrics()["octavo_prompt_tokens_total"] == before


def test_chat_shows_the_servers_own_words(server: ServerProcess, octavo: Called) -> None:
    result = octavo("chat", server.url, "--api-key", "k", "--model", "nope", "-m", "hi")
    assert result.returncode == 1
    assert "does not exist" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("model", [(), ("--model", "demo")], ids=["asked", "given"])
def test_chat_without_the_key_is_told_of_it(
    server: ServerProcess, octavo: Called, model: tuple[str, ...]
) -> None:
    result = octavo("chat", server.url, "-m", "hi", "--api-key", "no", *model)
    assert result.returncode == 1
    assert "401" in result.stderr
    assert "Give the server's key with --api-key or OCTAVO_API_KEY." in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_top_shows_what_the_server_made(server: ServerProcess, octavo: Called) -> None:
    load = ("--num-prompts", "1", "--max-tokens", "7", "--api-key", "k")
    assert octavo("bench", "serve", "--base-url", server.url, *load).returncode == 0
    look = ("top", server.url, "--api-key", "k", "--interval", "0.1")
    lines = octavo(*look, "-n", "2").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["RUNNING", "0", "0"]
    assert lines[2].split()[4] == "0"
    (said,) = octavo(*look, "-n", "1", "--json").stdout.splitlines()
    made = server.metrics()["octavo_generation_tokens_total"]
    assert json.loads(said)["generation_tokens_total"] == made >= 7


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--api-key", "no"), "--api-key"),
        ((), "OCTAVO_API_KEY"),
        (("127.0.0.1:1",), "octavo serve"),
    ],
)
def test_top_tells_why_there_is_nothing_to_see(
    server: ServerProcess, octavo: Called, arguments: tuple[str, ...], told: str
) -> None:
    where = () if arguments[:1] == ("127.0.0.1:1",) else (server.url,)
    found = octavo("top", *where, *arguments)
    assert found.returncode == 1
    assert told in found.stderr
    assert found.stderr.count("\n") == 1
    assert found.stdout == ""


def test_no_page_where_it_is_left_out(server: ServerProcess) -> None:
    answer = httpx.get(f"{server.url}/", headers={"Authorization": "Bearer k"})
    assert answer.status_code == 404
    assert httpx.get(f"{server.url}/").json()["error"]["code"] == "invalid_api_key"
