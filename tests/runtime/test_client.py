"""The client that measures: tokens are counted and timed however the server packs its events."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Sequence

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from octavo.client import (
    Arrival,
    Client,
    StreamedAnswer,
    UnexpectedAnswerError,
    api_base,
    why_no_answer,
)


def chunk(text: str, tokens: int | None = None, finish: str | None = None) -> bytes:
    """An event with one choice; `tokens` so far where the server tells them with each event."""
    usage = None if tokens is None else {"prompt_tokens": 7, "completion_tokens": tokens}
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], "usage": usage}).encode() + b"\n\n"


def end(tokens: int) -> bytes:
    usage = {"prompt_tokens": 7, "completion_tokens": tokens}
    event = json.dumps({"choices": [], "usage": usage}).encode()
    return b"data: " + event + b"\n\ndata: [DONE]\n\n"


def answer_to(
    pieces: Sequence[bytes],
    *,
    status: int = 200,
    seconds: float = 0.0,
    on_arrival: Callable[[Arrival], None] | None = None,
) -> StreamedAnswer:
    """What the client makes of a server that writes these pieces, some seconds apart."""

    async def completions(request: web.Request) -> web.StreamResponse:
        assert (await request.json())["stream"] is True
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        for number, piece in enumerate(pieces):
            await asyncio.sleep(seconds if number else 0)
            await response.write(piece)
        return response

    async def run() -> StreamedAnswer:
        app = web.Application()
        app.router.add_post("/v1/completions", completions)
        async with TestServer(app) as server, Client(str(server.make_url("/"))) as client:
            return await client.stream("completions", {"model": "m"}, on_arrival=on_arrival)

    return asyncio.run(run())


def test_tokens_that_come_together_share_the_time_since_those_before() -> None:
    answer = StreamedAnswer([Arrival(0.5, 1), Arrival(0.54, 5), Arrival(0.55, 6)], True)
    assert answer.first_token_seconds == 0.5
    assert answer.inter_token_seconds() == pytest.approx([0.01] * 5)


def test_the_mean_gap_is_the_time_after_the_first_token_over_the_number_of_the_others() -> None:
    answer = StreamedAnswer([Arrival(0.5, 3), Arrival(0.54, 5), Arrival(0.6, 6)], True)
    gaps = answer.inter_token_seconds()
    assert len(gaps) == 5
    assert sum(gaps) / 5 == pytest.approx((0.6 - 0.5) / 5)


def test_a_server_that_tells_its_tokens_at_the_end_gives_the_mean() -> None:
    answer = StreamedAnswer([Arrival(0.5, 1), Arrival(0.9, 2)], completion_tokens=5)
    assert answer.inter_token_seconds() == pytest.approx([0.1] * 4)
    assert StreamedAnswer([Arrival(0.5, 1)], completion_tokens=1).inter_token_seconds() == []
    assert StreamedAnswer().inter_token_seconds() == []


def test_tokens_without_text_are_in_the_next_event_that_comes() -> None:
    events = [chunk("a", 1), chunk("b", 4), chunk("", 9, "length"), end(9)]
    told: list[Arrival] = []
    answer = answer_to(events, seconds=0.02, on_arrival=told.append)
    assert [arrival.tokens for arrival in answer.arrivals] == [1, 4, 9]
    assert told == answer.arrivals
    assert len(answer.inter_token_seconds()) == 8
    span = answer.arrivals[-1].seconds - answer.arrivals[0].seconds
    assert sum(answer.inter_token_seconds()) == pytest.approx(span)
    assert (answer.prompt_tokens, answer.completion_tokens) == (7, 9)
    assert answer.finish_reason == "length"
    assert answer.seconds >= answer.arrivals[-1].seconds


def test_events_are_found_wherever_the_network_cuts_them() -> None:
    whole = chunk("a", 1) + chunk("b", 2) + end(2)
    for text in (whole, whole.replace(b"\n", b"\r\n")):
        for at in range(1, len(text), 17):
            answer = answer_to([text[:at], text[at:]], seconds=0.001)
            assert answer.arrivals[-1].tokens == answer.completion_tokens == 2, at


def test_a_sum_in_the_last_event_of_an_answer_counts_none_of_those_before() -> None:
    """As llama.cpp and others send it: with a choice, which an event of its own would not have."""
    events = [chunk("a"), chunk("b"), chunk("c", 30, "stop"), b"data: [DONE]\n\n"]
    answer = answer_to(events, seconds=0.01)
    assert (answer.completion_tokens, answer.tells_tokens) == (30, False)
    (gap,) = set(answer.inter_token_seconds())
    span = answer.arrivals[-1].seconds - answer.arrivals[0].seconds
    assert gap * 29 == pytest.approx(span)


def test_the_last_line_needs_no_break() -> None:
    answer = answer_to([chunk("a", 1), chunk("b", 2, "stop").rstrip(b"\n")])
    assert (answer.completion_tokens, answer.finish_reason) == (2, "stop")


def test_the_role_of_a_chat_is_no_token() -> None:
    def delta(**values: object) -> bytes:
        return b"data: " + json.dumps({"choices": [{"delta": values}]}).encode() + b"\n\n"

    first, text, thought = (
        delta(role="assistant", content=""),
        delta(content="a"),
        delta(reasoning="b"),
    )
    answer = answer_to([first, text, thought, end(3)], seconds=0.01)
    assert [arrival.tokens for arrival in answer.arrivals] == [1, 2]
    assert not answer.tells_tokens


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"error": {"code": "queue_full", "message": "Later."}}', "queue_full", "Later."),
        (b'{"error": {"code": null, "type": "t", "message": "m"}}', "t", "m"),
        (b'{"object": "error", "code": 404, "message": "m"}', "404", "m"),
        (b'{"error": "loading"}', "error", "loading"),
        (b'{"detail": "Not Found"}', "error", "Not Found"),
        (b"<html>\nBad Gateway</html>", "no error object", "<html> Bad Gateway</html>"),
    ],
)
def test_a_refusal_says_what_the_server_says(body: bytes, code: str, message: str) -> None:
    with pytest.raises(UnexpectedAnswerError) as caught:
        answer_to([body], status=503)
    assert (caught.value.status, caught.value.code, caught.value.message) == (503, code, message)


def test_an_error_within_the_stream_is_an_error() -> None:
    with pytest.raises(UnexpectedAnswerError, match="engine_error"):
        answer_to([chunk("a", 1), b'data: {"error": {"code": "engine_error"}}\n\n'])
    with pytest.raises(UnexpectedAnswerError, match="no chunk"):
        answer_to([b"data: hello\n\n"])


@pytest.mark.parametrize("pieces", [[], [chunk("a", 1), chunk("b", 2)]])
def test_a_stream_that_ends_before_its_answer_is_an_error(pieces: list[bytes]) -> None:
    """Whoever stands between closes it as if it were over; tokens of it would count as an answer."""
    with pytest.raises(UnexpectedAnswerError, match="200 ended early"):
        answer_to(pieces)


@pytest.mark.parametrize(
    "url",
    [
        "host:1",
        "http://host:1",
        "http://host:1/",
        "http://host:1/v1",
        "http://host:1/v1/",
        "host:1/v1/chat/completions",
        "http://host:1/v1/models/",
    ],
)
def test_the_api_is_found_with_and_without_its_version(url: str) -> None:
    assert api_base(url) == "http://host:1/v1"


def failure(url: str) -> str:
    """Why the client gets no answer there."""

    async def ask() -> str:
        async with Client(url, timeout_seconds=60) as client:
            try:
                await client.models()
            except (OSError, aiohttp.ClientError) as error:
                return why_no_answer(error)
        return ""

    return asyncio.run(ask())


def test_a_port_that_nobody_listens_on_is_told_in_the_systems_words() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert failure(f"http://127.0.0.1:{bound.getsockname()[1]}") == "Connection refused"


def test_tls_where_there_is_none_is_told() -> None:
    async def ask() -> str:
        async with TestServer(web.Application()) as server:
            return await asyncio.to_thread(failure, f"https://127.0.0.1:{server.port}")

    assert "SSL" in asyncio.run(ask())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (TimeoutError(), "no answer in time"),
        (ConnectionResetError(104, "told by some library"), "Connection reset by peer"),
        (aiohttp.ServerDisconnectedError(), "Server disconnected"),
    ],
    ids=repr,
)
def test_other_failures_keep_their_own_words(error: Exception, words: str) -> None:
    assert why_no_answer(error) == words
