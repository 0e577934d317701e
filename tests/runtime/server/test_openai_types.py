"""Answers as OpenAI's own document has them, which its Python package is generated from."""

from __future__ import annotations

import json
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

import httpx
import pytest
from openai.types import Completion, Model, completion_create_params
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat import completion_create_params as chat_create_params
from pydantic import TypeAdapter, ValidationError

from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.ignored_fields import IgnoredFields
from octavo.server.openai.protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
)

HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "How do I break in?"},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot help with that."}]},
    {"role": "assistant", "content": None, "refusal": "Nor with that."},
    {"role": "user", "content": "What is Octavo?"},
]
ASKED = {"model": "demo", "max_tokens": 4, "temperature": 0}


def events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize("more", [{}, {"logprobs": True, "top_logprobs": 2}])
def test_chat_answers_and_chunks_are_openais(http: httpx.Client, more: dict[str, Any]) -> None:
    body = {**ASKED, **more, "messages": HISTORY}
    answer = http.post("/v1/chat/completions", json=body).json()
    ChatCompletion.model_validate(answer, strict=True)
    chunks = events(http.post("/v1/chat/completions", json={**body, "stream": True}))
    for document in chunks:
        ChatCompletionChunk.model_validate(document, strict=True)
    fingerprints = {document["system_fingerprint"] for document in [answer, *chunks]}
    assert len(fingerprints) == 1
    assert re.fullmatch("fp_[0-9a-f]{12}", fingerprints.pop())


@pytest.mark.parametrize("logprobs", [None, 0, 2])
def test_completions_are_openais(http: httpx.Client, logprobs: int | None) -> None:
    body = {**ASKED, "prompt": "hello", "logprobs": logprobs}
    answer = http.post("/v1/completions", json=body).json()
    Completion.model_validate(answer, strict=True)
    assert re.fullmatch("fp_[0-9a-f]{12}", answer["system_fingerprint"])
    if logprobs is not None:
        told = answer["choices"][0]["logprobs"]
        assert [len(top) for top in told["top_logprobs"]] == [max(1, logprobs)] * 4


def test_models_are_openais(http: httpx.Client) -> None:
    listed = http.get("/v1/models").json()
    for card in listed["data"]:
        Model.model_validate(card, strict=True)


# The limits of both operations in OpenAI's document.
TAKEN: list[tuple[str, object]] = [
    *[("temperature", value) for value in (0, 2, None)],
    *[("top_p", value) for value in (0, 1, None)],
    *[("presence_penalty", value) for value in (-2, 2, None)],
    *[("frequency_penalty", value) for value in (-2, 2, None)],
    *[("seed", value) for value in (-(2**63), 2**63 - 1, None)],
    *[("stop", value) for value in ("x", ["x"] * 4, None)],
    *[("logit_bias", value) for value in ({"5": -100}, {"5": 100}, None)],
    *[("n", value) for value in (1, 128, None)],
    ("max_tokens", None),
    ("stream", None),
    ("stream_options", None),
    ("user", "me"),
]
TAKEN_BY_CHAT: list[tuple[str, object]] = [
    *[("max_completion_tokens", value) for value in (1, None)],
    ("logprobs", None),
    ("top_logprobs", None),
    ("metadata", {"a": "b"}),
    ("service_tier", "auto"),
    ("safety_identifier", "x" * 64),
    ("store", False),
    ("prompt_cache_key", "k"),
    ("prompt_cache_options", {}),
    ("prompt_cache_retention", "24h"),
    ("moderation", None),
    ("prediction", None),
    ("modalities", ["text"]),
    ("parallel_tool_calls", True),
    ("response_format", {"type": "text"}),
    ("verbosity", "medium"),
    ("tools", [{"type": "function", "function": {"name": "f"}}]),
]
TAKEN_BY_COMPLETIONS: list[tuple[str, object]] = [
    *[("logprobs", value) for value in (0, 5, None)],
    *[("best_of", value) for value in (1, 20, None)],
    *[("echo", value) for value in (False, True, None)],
    *[("suffix", value) for value in ("", None)],
    *[("prompt", value) for value in ("a", ["a", "b"], [1, 2], [[1], [2]])],
    ("max_tokens", 0),
]
REFUSED: list[tuple[str, object]] = [
    *[("temperature", value) for value in (-0.1, 2.1)],
    *[("presence_penalty", value) for value in (-2.1, 2.1)],
    *[("frequency_penalty", value) for value in (-2.1, 2.1)],
    *[("top_p", value) for value in (-0.1, 1.1)],
    *[("n", value) for value in (0, 129)],
    *[("seed", value) for value in (-(2**63) - 1, 2**63)],
    ("user", 5),
]
REFUSED_BY_CHAT: list[tuple[str, object]] = [
    *[("top_logprobs", value) for value in (-1, 21)],
    ("messages", []),
    ("service_tier", "bogus"),
    ("store", "no"),
]
REFUSED_BY_COMPLETIONS: list[tuple[str, object]] = [
    ("logprobs", -1),
    ("prompt", []),
    ("prompt", [[]]),
    ("best_of", 0),
    ("suffix", "end"),  # the demo model knows no filling in
]


# Of what is ignored OpenAI's own types say what is taken.
KINDS: list[tuple[type[GenerationRequest], Any, dict[str, Any]]] = [
    (ChatCompletionRequest, chat_create_params, {"messages": HISTORY}),
    (CompletionRequest, completion_create_params, {"prompt": "a"}),
]
VALUES: list[Any] = ["x", "", 5, 1.5, True, [], ["x"], {}, {"a": "b"}, {"a": 5}, {"ttl": 5}]
VALUES += [{"mode": "implicit", "ttl": "30m"}, {"mode": "bogus"}]


def named_values(hint: object) -> set[str]:
    """Those of all enumerations in a type."""
    if get_origin(hint) is Literal:
        return {str(value) for value in get_args(hint)}
    return {value for part in get_args(hint) for value in named_values(part)}


@pytest.mark.parametrize(
    "name", [*IgnoredFields.model_fields, "prompt_cache_options", "service_tier"]
)
@pytest.mark.parametrize(("kind", "theirs", "body"), KINDS, ids=["chat", "completions"])
def test_what_is_ignored_is_of_openais_type(
    kind: type[GenerationRequest], theirs: Any, body: dict[str, Any], name: str
) -> None:
    hints = get_type_hints(theirs.CompletionCreateParamsBase)
    # What is vLLM's, or a chat's alone, is a text or what it is in a chat.
    known = hints.get(name) or get_type_hints(chat_create_params.CompletionCreateParamsBase).get(
        name, str
    )
    adapter: TypeAdapter[Any] = TypeAdapter(known)

    def is_blamed(value: object) -> bool:
        try:
            kind.parse({"model": "m", **body, name: value})
        except ApiError as error:
            return re.split(r"[.[]", error.detail.param or "")[0] == name
        return False

    def they_refuse(value: Any) -> bool:
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError:
            return True
        # Names that they do not know are left to their server.
        return name == "prompt_cache_options" and "a" in value

    values = [*VALUES, *named_values(known)]
    assert [is_blamed(value) for value in values] == [they_refuse(value) for value in values]
    assert not is_blamed(None)


def chat(http: httpx.Client, field: str, value: object) -> httpx.Response:
    more = {"logprobs": True} if field == "top_logprobs" else {}
    body = {**ASKED, "messages": HISTORY, **more, field: value}
    if value is None and field == "max_tokens":
        body["max_completion_tokens"] = 4
    return http.post("/v1/chat/completions", json=body)


def complete(http: httpx.Client, field: str, value: object) -> httpx.Response:
    return http.post("/v1/completions", json={**ASKED, "prompt": "hello", field: value})


@pytest.mark.parametrize(("field", "value"), TAKEN + TAKEN_BY_CHAT)
def test_a_chat_takes_what_openai_takes(http: httpx.Client, field: str, value: object) -> None:
    response = chat(http, field, value)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(("field", "value"), TAKEN + TAKEN_BY_COMPLETIONS)
def test_completions_take_what_openai_takes(http: httpx.Client, field: str, value: object) -> None:
    response = complete(http, field, value)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(("field", "value"), REFUSED + REFUSED_BY_CHAT)
def test_a_chat_refuses_what_openai_refuses(http: httpx.Client, field: str, value: object) -> None:
    response = chat(http, field, value)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field


@pytest.mark.parametrize(("field", "value"), REFUSED + REFUSED_BY_COMPLETIONS)
def test_completions_refuse_what_openai_refuses(
    http: httpx.Client, field: str, value: object
) -> None:
    response = complete(http, field, value)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field


def test_a_top_p_of_nothing_is_greedy(http: httpx.Client) -> None:
    def answer(**fields: float) -> str:
        body = {"model": "demo", "prompt": "Octavo", "max_tokens": 16, **fields}
        text: str = http.post("/v1/completions", json=body).json()["choices"][0]["text"]
        return text

    greedy = answer(temperature=0)
    assert [answer(temperature=2, top_p=0, seed=seed) for seed in range(3)] == [greedy] * 3
    assert answer(temperature=2, seed=0) != greedy
