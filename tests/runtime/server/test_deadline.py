"""A request's deadline: what is not answered by then is given up, and nobody computes it any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import httpx
import openai
import pytest

from octavo.server.http.deadline import HEADER, Deadline, read_deadline
from octavo.server.http.streaming import Chunks, EventStream
from octavo.server.openai.api_errors import ApiError
from tests.support.runtime.described_answers import check_described
from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.server_process import eventually

LONG: dict[str, Any] = {"model": "demo", "prompt": "hello", "max_tokens": 2000, "ignore_eos": True}
CHAT = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def slow(slow_server: FaultyServer) -> Iterator[FaultyServer]:
    """A step takes a quarter of a second: 2,000 tokens outlast every deadline here."""
    with slow_server.faults.slow_steps():
        yield slow_server


def assert_given_up(server: FaultyServer) -> None:
    eventually(lambda: server.metrics()["octavo_kv_cache_blocks_used"] == 0)
    assert server.metrics()["octavo_requests_running"] == 0


@pytest.mark.parametrize(
    "more", [{}, {"prompt": ["a", "b"], "n": 2}, {"use_beam_search": True, "n": 2}], ids=str
)
def test_a_whole_answer_that_is_late_is_408(slow: FaultyServer, more: dict[str, Any]) -> None:
    before = slow.metrics()
    with httpx.Client(base_url=slow.url, headers={HEADER: "1.5"}, timeout=60) as http:
        response = http.post("/v1/completions", json={**LONG, **more})
    assert response.status_code == 408
    check_described(response)
    error = response.json()["error"]
    assert error["code"] == "request_timeout"
    assert "within 1.5 seconds" in error["message"]
    assert_given_up(slow)
    made = "octavo_generation_tokens_total"
    assert slow.metrics()[made] - before[made] < 1900


class OneEvent:
    """A generation that makes one event and no other, until it is ended."""

    is_cancelled = False

    def __init__(self) -> None:
        self._end: asyncio.Future[ApiError | None] = asyncio.get_running_loop().create_future()

    def cancel(self, cause: ApiError | None = None) -> None:
        self._end.set_result(cause)

    def fail(self, error: Exception) -> None:
        assert isinstance(error, ApiError)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def events(self) -> AsyncIterator[bytes]:
        yield b"data: {}\n\n"
        if (cause := await self._end) is not None:
            raise cause


class Answering(Chunks):
    def events(self, generation: Any) -> AsyncIterator[bytes]:
        found: AsyncIterator[bytes] = generation.events()
        return found

    def whole(self, _: Any) -> bytes:
        raise AssertionError


def test_a_stream_that_is_late_says_so_at_its_end() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def stream() -> None:
        generation: Any = OneEvent()
        deadline = Deadline(asyncio.get_running_loop().time() + 0.01, 0.01)
        await EventStream(generation, Answering())({"deadline": deadline}, receive, send)

    asyncio.run(stream())
    assert [message["type"] for message in sent] == ["http.response.start"] + (
        ["http.response.body"] * 2
    )
    assert sent[0]["status"] == 200  # it had begun
    assert sent[1]["body"] == b"data: {}\n\n"
    assert json.loads(sent[2]["body"][6:])["error"]["code"] == "request_timeout"


def test_openais_client_does_not_send_it_again(slow: FaultyServer) -> None:
    rejected = 'octavo_requests_rejected_total{reason="request_timeout"}'
    before = slow.metrics().get(rejected, 0)
    with (
        openai.OpenAI(base_url=f"{slow.url}/v1", api_key="none", max_retries=2) as client,
        pytest.raises(openai.APIStatusError) as late,
    ):
        client.completions.create(
            model="demo",
            prompt="a",
            max_tokens=2000,
            extra_body={"ignore_eos": True},
            extra_headers={HEADER: "0.5"},
        )
    assert late.value.status_code == 408
    assert slow.metrics()[rejected] == before + 1


def test_what_is_answered_in_time_is_answered(http: httpx.Client) -> None:
    body = {"model": "demo", **CHAT, "max_tokens": 2}
    answer = http.post("/v1/chat/completions", json=body, headers={HEADER: "60"})
    assert answer.status_code == 200


@pytest.mark.parametrize("given", ["", "soon", "0", "-1", "inf", "nan", "1e999"])
def test_a_header_that_is_no_number_of_seconds_is_refused(http: httpx.Client, given: str) -> None:
    answer = http.get("/v1/models", headers={HEADER: given})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == HEADER


@pytest.mark.parametrize(
    ("limit", "given", "expected"),
    [(None, None, None), (5.0, None, 5.0), (None, "7", 7.0), (5.0, "7", 5.0), (5.0, "0.5", 0.5)],
)
def test_the_sooner_of_both_holds(
    limit: float | None, given: str | None, expected: float | None
) -> None:
    headers = [] if given is None else [(HEADER.encode(), given.encode())]
    deadline = read_deadline({"headers": headers}, limit, now=100.0)
    if expected is None:
        assert deadline is None
    else:
        assert deadline is not None
        assert (deadline.at, deadline.seconds) == (100.0 + expected, expected)
        error = deadline.passed()
        assert isinstance(error, ApiError)
        assert error.status == 408
