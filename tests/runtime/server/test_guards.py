"""API keys, the bounded queue and the watch over the engine, on a server that runs one sequence at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.runtime.described_answers import check_described
from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.server_process import ServerProcess, eventually

KEY = {"authorization": "Bearer right-key"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    flags = (
        "--max-num-seqs",
        "1",
        "--max-queued-requests",
        "2",
        "--max-body-size",
        "64Ki",
        "--stall-timeout",
        "1.5",
        "--allowed-origins",
        "https://chat.example",
        "--enable-tokenizer-info-endpoint",
        *("--served-model-name", "demo"),  # as all of these tests' servers are named, once more
    )
    folder = tmp_path_factory.mktemp("faults")
    with FaultyServer(folder, *flags, OCTAVO_API_KEY="other-key right-key") as process:
        process.wait_ready()
        yield process


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer"},
        {"authorization": "right-key"},
        {"authorization": "Basic right-key"},
        {"authorization": "Bearer right-key2"},
        {"x-api-key": "wrong"},
        {"x-api-key": ""},
        {"x-api-key": "right-key", "authorization": "Bearer wrong"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/v1/models", "/nothing", "/openapi.json", "/tokenizer_info"])
def test_without_a_key_nothing_is_told(
    guarded: FaultyServer, headers: dict[str, str], path: str
) -> None:
    response = httpx.get(f"{guarded.url}{path}", headers=headers, timeout=60)
    assert response.status_code == 401
    check_described(response)
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert response.headers["www-authenticate"] == "Bearer"


def test_with_a_key_the_tokenizer_and_the_name_are_told(guarded: FaultyServer) -> None:
    with httpx.Client(base_url=guarded.url, headers=KEY, timeout=60) as http:
        told = http.get("/tokenizer_info").json()
        assert told["tokenizer_class"]
        assert "{%" in told["chat_template"]
        # The name that was given twice is served once.
        assert [card["id"] for card in http.get("/v1/models").json()["data"]] == ["demo"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_both_headers_that_take_a_key_are_told(guarded: FaultyServer, path: str) -> None:
    message = httpx.post(f"{guarded.url}{path}", json={}, timeout=60).json()["error"]["message"]
    assert "Authorization: Bearer KEY" in message
    assert "X-Api-Key: KEY" in message


def test_either_key_opens_and_probes_need_none(guarded: FaultyServer) -> None:
    for key in ("right-key", "other-key"):
        headers = {"authorization": f"Bearer {key}"}
        answer = httpx.get(f"{guarded.url}/v1/models", headers=headers, timeout=60)
        assert answer.status_code == 200
    assert httpx.get(f"{guarded.url}/health", timeout=60).status_code == 200
    # It gives up soon on an engine that answers nothing: a busy machine may make it wait.
    eventually(lambda: probe(guarded, "readyz") == 200)
    assert "right-key" not in "".join(guarded.stderr)


def test_a_foreign_pages_plain_post_is_not_run(guarded: FaultyServer) -> None:
    def posted(origin: str) -> httpx.Response:
        return httpx.post(
            f"{guarded.url}/v1/completions",
            content=b'{"model": "demo", "prompt": "hello", "max_tokens": 2}',
            headers={**KEY, "content-type": "text/plain", "origin": origin},
            timeout=60,
        )

    before = guarded.metrics()
    refused = posted("https://evil.example")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed")
    after = guarded.metrics()
    reason = 'octavo_requests_rejected_total{reason="origin_not_allowed"}'
    assert after[reason] == before.get(reason, 0) + 1
    assert after["octavo_generation_tokens_total"] == before["octavo_generation_tokens_total"]
    for origin in ("https://chat.example", guarded.url):
        assert posted(origin).status_code == 200


def test_the_body_limit_is_the_flags(guarded: FaultyServer) -> None:
    url, body = f"{guarded.url}/v1/completions", b"a" * 65537
    response = httpx.post(url, content=body, headers=KEY, timeout=60)
    assert response.status_code == 413
    check_described(response)


def test_a_full_queue_answers_429_and_the_others_finish(guarded: FaultyServer) -> None:
    body = {"model": "demo", "prompt": "hello", "max_tokens": 600, "ignore_eos": True}

    def send(_: int) -> httpx.Response:
        return httpx.post(f"{guarded.url}/v1/completions", json=body, headers=KEY, timeout=250)

    with ThreadPoolExecutor(8) as threads:
        with guarded.faults.slow_steps():
            # One after the other: until the first runs it waits, too.
            running = [threads.submit(send, 0)]
            eventually(lambda: guarded.metrics()["octavo_requests_running"] == 1)
            running += [threads.submit(send, 0) for _ in range(2)]
            eventually(lambda: guarded.metrics()["octavo_requests_waiting"] == 2)
            refused = send(0)
        answers = [future.result() for future in running]
    assert refused.status_code == 429
    check_described(refused)
    error = refused.json()["error"]
    assert error["code"] == "queue_full"
    assert "at most 2" in error["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert [answer.status_code for answer in answers] == [200] * 3
    assert guarded.metrics()['octavo_requests_rejected_total{reason="queue_full"}'] == 1


def probe(server: ServerProcess, name: str) -> int:
    return server.probe(name).status_code


def why_not_alive(server: ServerProcess) -> str:
    return str(server.probe("livez").json().get("reason"))


def test_an_engine_that_hangs_fails_its_probes_after_its_clients_left_and_recovers(
    guarded: FaultyServer,
) -> None:
    url = f"{guarded.url}/v1/completions"
    body = {"model": "demo", "prompt": "hello", "max_tokens": 2000, "ignore_eos": True}
    engine = guarded.engine_pid
    try:
        with (
            guarded.faults.slow_steps(),
            httpx.stream(
                "POST", url, json={**body, "stream": True}, headers=KEY, timeout=60
            ) as response,
        ):
            lines = response.iter_lines()  # its end would close the connection
            next(lines)
            os.kill(engine, signal.SIGSTOP)
        eventually(lambda: probe(guarded, "readyz") == 503)
        eventually(lambda: why_not_alive(guarded) == "the engine answers nothing")
        assert probe(guarded, "livez") == 503
        with ThreadPoolExecutor(1) as threads:
            short = {**body, "max_tokens": 5}
            answer = threads.submit(httpx.post, url, json=short, headers=KEY, timeout=120)
            eventually(lambda: "no steps" in why_not_alive(guarded))
            os.kill(engine, signal.SIGCONT)
            assert answer.result().status_code == 200
    finally:
        os.kill(engine, signal.SIGCONT)
    eventually(lambda: probe(guarded, "livez") == probe(guarded, "readyz") == 200)


def test_an_engine_that_freezes_gets_no_requests_before_it_is_given_up(tmp_path: Path) -> None:
    """Under streams, and long before `/livez` stops to wait for the step to end."""
    body = {"model": "demo", "prompt": "hello", "max_tokens": 2000, "ignore_eos": True}
    with FaultyServer(tmp_path, "--stall-timeout", "600") as server:
        server.wait_ready()
        engine = server.engine_pid
        url = f"{server.url}/v1/completions"
        with (
            server.faults.slow_steps(),
            httpx.stream("POST", url, json={**body, "stream": True}, timeout=60) as response,
        ):
            lines = response.iter_lines()  # its end would close the connection
            next(lines)
            os.kill(engine, signal.SIGSTOP)
            try:
                eventually(lambda: probe(server, "readyz") == 503)
                assert probe(server, "livez") == 200
            finally:
                os.kill(engine, signal.SIGCONT)
            eventually(lambda: probe(server, "readyz") == 200)
