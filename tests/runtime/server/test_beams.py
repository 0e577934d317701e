"""Beam search over HTTP: the beams of `LLM`, which are those of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from octavo import LLM
from octavo.beam_search import BeamSearchParams

PROMPTS = ["What is Octavo?", "17 plus 25"]
MESSAGES = [{"role": "user", "content": "What is Octavo?"}]


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM("builtin://demo", kv_cache_memory="64Mi") as llm:
        yield llm


def post(http: httpx.Client, path: str, **fields: Any) -> httpx.Response:
    return http.post(path, json={"model": "demo", "use_beam_search": True, **fields})


@pytest.mark.parametrize(
    ("width", "penalty", "ignore_eos"), [(1, 1.0, False), (3, 1.0, True), (4, 0.0, False)]
)
def test_beams_are_those_of_the_library(
    http: httpx.Client, llm: LLM, width: int, penalty: float, ignore_eos: bool
) -> None:
    params = BeamSearchParams(
        beam_width=width, max_tokens=10, length_penalty=penalty, ignore_eos=ignore_eos
    )
    expected = [output.outputs for output in llm.beam_search(PROMPTS, params)]
    fields = {"n": width, "max_tokens": 10, "length_penalty": penalty, "ignore_eos": ignore_eos}
    response = post(http, "/v1/completions", prompt=PROMPTS, temperature=0, **fields)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert [choice["index"] for choice in answer["choices"]] == list(range(2 * width))
    wanted = [(one.text, one.finish_reason) for beams in expected for one in beams]
    got = [(choice["text"], choice["finish_reason"]) for choice in answer["choices"]]
    assert got == wanted
    made = sum(len(one.token_ids) for beams in expected for one in beams)
    assert answer["usage"]["completion_tokens"] == made


def test_a_chat_and_an_echo(http: httpx.Client, llm: LLM) -> None:
    tokens = http.post("/tokenize", json={"model": "demo", "messages": MESSAGES}).json()["tokens"]
    (expected,) = llm.beam_search([tokens], BeamSearchParams(beam_width=2, max_tokens=40))
    answer = post(http, "/v1/chat/completions", messages=MESSAGES, n=2, max_tokens=40).json()
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    assert texts == [one.text for one in expected.outputs]
    assert expected.outputs[0].finish_reason == "stop"
    assert "<|" not in texts[0]
    plain = post(http, "/v1/completions", prompt="What", max_tokens=3).json()
    echoed = post(http, "/v1/completions", prompt="What", max_tokens=3, echo=True).json()
    assert echoed["choices"][0]["text"] == "What" + plain["choices"][0]["text"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 11}, "n"),
        ({"n": 0}, "n"),
        ({"stream": True}, "stream"),
        ({"logprobs": 1}, "logprobs"),
        ({"stop": "a"}, "stop"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"length_penalty": 11}, "length_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"use_beam_search": False, "length_penalty": 2.0}, "length_penalty"),
    ],
    ids=str,
)
def test_what_cannot_be_had_with_beams_is_refused(
    http: httpx.Client, fields: dict[str, Any], param: str
) -> None:
    response = post(http, "/v1/completions", prompt="a", **fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
