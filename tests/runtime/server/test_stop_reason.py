"""What ended a choice: vLLM's `stop_reason` beside OpenAI's `finish_reason`, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

End = tuple[str, int | str | None]
QUESTION = "What is Octavo?"
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": QUESTION}]},
    "/v1/completions": {"prompt": QUESTION},
}


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def asked(http: httpx.Client, route: str, **fields: Any) -> httpx.Response:
    body = {"model": "demo", "temperature": 0, "max_tokens": 60, "n": 2, **ROUTES[route], **fields}
    return http.post(route, json=body).raise_for_status()


def text_of(http: httpx.Client, route: str) -> str:
    choice = asked(http, route).json()["choices"][0]
    text: str = choice["message"]["content"] if "message" in choice else choice["text"]
    assert len(text.split()) > 1
    return text


def ends(http: httpx.Client, route: str, **fields: Any) -> list[End]:
    """Of both choices; asserts that a stream tells the same, in the last chunk of each and in no other."""
    whole = asked(http, route, **fields).json()["choices"]
    told = [(choice["finish_reason"], choice["stop_reason"]) for choice in whole]
    streamed: dict[int, End] = {}
    for line in asked(http, route, stream=True, **fields).text.split("\n\n"):
        if not line.startswith("data: {"):
            continue
        for choice in json.loads(line.removeprefix("data: "))["choices"]:
            assert choice["index"] not in streamed
            assert ("stop_reason" in choice) is (choice["finish_reason"] is not None)
            if "stop_reason" in choice:
                streamed[choice["index"]] = (choice["finish_reason"], choice["stop_reason"])
    assert [streamed[index] for index in (0, 1)] == told
    return told


def test_the_models_own_end_and_the_length_have_none(http: httpx.Client, route: str) -> None:
    assert ends(http, route) == [("stop", None)] * 2
    assert ends(http, route, max_tokens=1) == [("length", None)] * 2


def test_of_several_stop_strings_the_one_that_was_met_is_named(
    http: httpx.Client, route: str
) -> None:
    met = text_of(http, route).split()[1]
    for keeps in (False, True):
        fields = {"stop": ["never met", met], "include_stop_str_in_output": keeps}
        assert ends(http, route, **fields) == [("stop", met)] * 2


def test_a_stop_token_is_named_by_its_id(http: httpx.Client, route: str) -> None:
    body = {"model": "demo", "prompt": text_of(http, route), "add_special_tokens": False}
    tokens = http.post("/tokenize", json=body).json()["tokens"]
    (first, second) = ends(http, route, stop_token_ids=tokens)
    assert first == second
    assert first[0] == "stop"
    assert first[1] in tokens
