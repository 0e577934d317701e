"""What a client that is wrong gets to read: always OpenAI's error object, never a stack trace."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.server.openai.protocol import ChatCompletionRequest, CompletionRequest
from tests.support.runtime.refusals import HELLO, chat, complete, error_of


def test_unknown_model_is_404_and_names_the_served_ones(http: httpx.Client) -> None:
    response = chat(http, model="gpt-x")
    assert response.status_code == 404
    error = error_of(response)
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"
    assert "'gpt-x'" in error["message"]
    assert "demo" in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nul",
        b'{"model": NaN}',
        b'{"model": Infinity}',
        b'{"model": "\xff"}',
        b'{"model": "demo\x00"}',
        rb'{"model": "\ud800"}',
        b"[" * 200_000,
        b'{"n": ' + b"9" * 6000 + b"}",
        b'{"temperature": 1e999}',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_malformed_json_is_400(http: httpx.Client, body: bytes) -> None:
    response = http.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    error = error_of(response)
    assert error["code"] == "invalid_json"
    assert error["type"] == "invalid_request_error"
    assert "not valid JSON" in error["message"]


_DEEP = "[" * 600 + "]" * 600


@pytest.mark.parametrize(
    "fields",
    [
        '"chat_template_kwargs": {"x": %s}',
        '"tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": %s}}}]',
        '"metadata": {"x": %s}',
    ],
)
def test_what_would_be_read_by_recursion_is_refused_when_it_is_deep(
    http: httpx.Client, fields: str
) -> None:
    body = '{"model": "demo", "max_tokens": 1, "messages": [{"role": "user", "content": "a"}], %s}'
    response = http.post("/v1/chat/completions", content=body % (fields % _DEEP))
    assert response.status_code == 400
    assert "nested too deeply; at most 100 levels" in error_of(response)["message"]


def test_deep_arguments_of_an_earlier_call_are_text_like_any_other(http: httpx.Client) -> None:
    call = {"function": {"name": "f", "arguments": _DEEP}}
    history = [{"role": "assistant", "tool_calls": [call]}, *HELLO]
    assert chat(http, messages=history).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/tokenize"])
def test_a_key_that_is_there_twice_is_400(http: httpx.Client, path: str) -> None:
    message = '{"role": "user", "content": "a", "role": "user"}'
    body = f'{{"model": "demo", "max_tokens": 1, "messages": [{message}]}}'
    response = http.post(path, content=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "messages[0].role"
    assert "messages[0].role twice" in error["message"]


def test_a_byte_order_mark_is_passed_over_and_other_encodings_are_not(http: httpx.Client) -> None:
    body = json.dumps({"model": "demo", "prompt": "é", "max_tokens": 1}, ensure_ascii=False)
    told = http.post("/v1/completions", content=body.encode("utf-8-sig"))
    assert told.status_code == 200
    assert (
        told.json()["usage"] == http.post("/v1/completions", content=body.encode()).json()["usage"]
    )
    wrong = http.post("/v1/completions", content=b"\xef\xbb\xbf{nul")
    assert "byte 4" in error_of(wrong)["message"]
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        refused = http.post("/v1/completions", content=body.encode(encoding))
        assert error_of(refused)["code"] == "invalid_json"


def test_json_that_is_no_object_is_400(http: httpx.Client) -> None:
    response = http.post("/v1/completions", content=b"[1]")
    assert response.status_code == 400
    assert "must be a JSON object" in error_of(response)["message"]


def test_prompt_longer_than_the_context_is_400_with_the_numbers(http: httpx.Client) -> None:
    response = chat(http, messages=[{"role": "user", "content": "word " * 5000}])
    assert response.status_code == 400
    error = error_of(response)
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "messages"
    assert "maximum context length is 2048 tokens" in error["message"]
    assert "resulted in" in error["message"]


@pytest.mark.parametrize(
    ("fields", "instead"),
    [
        ({"max_tokens": 0}, "Shorten it so that it fits."),
        ({}, "Shorten it so that at least one token of room is left."),
    ],
)
def test_a_prompt_that_is_too_long_is_to_be_shortened_as_far_as_it_must_be(
    http: httpx.Client, fields: dict[str, Any], instead: str
) -> None:
    response = complete(http, prompt=[1] * 3000, **fields)
    assert response.status_code == 400
    assert error_of(response)["message"].endswith(instead)


def test_prompt_and_max_tokens_beyond_the_context_is_400(http: httpx.Client) -> None:
    response = complete(http, prompt=[1] * 100, max_tokens=2000)
    assert response.status_code == 400
    error = error_of(response)
    assert error["code"] == "context_length_exceeded"
    assert "2100 tokens (100 in the prompt, 2000 in the completion)" in error["message"]
    assert "at most 1948 tokens" in error["message"]


def test_a_million_completions_is_400(http: httpx.Client) -> None:
    response = chat(http, n=1_000_000)
    assert response.status_code == 400
    error = error_of(response)
    assert error["param"] == "n"
    assert error["message"] == "n is 1000000; it must be an integer in [1, 128]."


@pytest.mark.parametrize("name", ["n", "max_tokens", "seed", "top_k", "max_completion_tokens"])
def test_a_number_of_thousands_of_digits_is_400(http: httpx.Client, name: str) -> None:
    body = '{"model": "demo", "messages": [{"role": "user", "content": "a"}], "%s": %s}'
    for sign in ("", "-"):
        response = http.post("/v1/chat/completions", content=body % (name, sign + "9" * 4300))
        assert response.status_code == 400
        error = error_of(response)
        assert error["param"] in (name, None)  # or it is no JSON that is read
        assert len(error["message"]) < 300


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"temperature": -1}, "temperature", "temperature is -1"),
        ({"temperature": "hot"}, "temperature", "temperature is 'hot'"),
        ({"top_p": -0.1}, "top_p", "[0, 1]"),
        ({"top_k": -5}, "top_k", "top_k is -5"),
        ({"min_p": 2}, "min_p", "min_p is 2"),
        ({"presence_penalty": 3}, "presence_penalty", "[-2, 2]"),
        ({"seed": 2**70}, "seed", "seed is 1180591620717411303424"),
        ({"n": True}, "n", "n is true"),
        ({"n": 0}, "n", "n is 0"),
        ({"max_tokens": 0}, "max_tokens", "max_tokens is 0"),
        ({"max_tokens": 1.5}, "max_tokens", "max_tokens is 1.5"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "max_completion_tokens is 0"),
        ({"stop": ["a"] * 17}, "stop", "17 strings"),
        ({"stop": ["a"] * 17 + [""]}, "stop", "at most 16."),
        ({"stop": ""}, "stop", "stop holds an empty string, which"),
        ({"stop": [""]}, "stop", "an empty string, at place 0 of 1, which"),
        ({"stop": ["a", ""]}, "stop", "at place 1 of 2, which would end every answer"),
        ({"best_of": True}, "best_of", "it is true"),
        ({"min_tokens": False}, "min_tokens", "min_tokens is false"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens", "[0, 8]"),
        ({"use_beam_search": 0}, "use_beam_search", "valid boolean"),
        ({"user": 5}, "user", "user is 5; it must be a valid string"),
        ({"service_tier": "bogus"}, "service_tier", "it must be 'auto', 'default', 'flex'"),
        ({"metadata": {"a": 5}}, "metadata.a", "metadata.a is 5"),
        ({"prompt_cache_options": {"ttl": "1d"}}, "prompt_cache_options.ttl", "'30m'"),
        ({"stop_token_ids": [2**70]}, "stop_token_ids[0]", "less than"),
        ({"top_logprobs": 3}, "top_logprobs", "logprobs: true"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "[0, 20]"),
        ({"stream": "yes"}, "stream", "stream is 'yes'"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream: true"),
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
            "include_usage: true",
        ),
        ({"prompt_logprobs": True}, "prompt_logprobs", "is true; it must be"),
        ({"priority": 2**40}, "priority", "less than"),
        ({"priority": "high"}, "priority", "priority is 'high'"),
        ({"cache_salt": ""}, "cache_salt", "at least 1"),
        ({"cache_salt": "x" * 257}, "cache_salt", "at most 256"),
        ({"messages": []}, "messages", "at least one"),
        ({"messages": "hello"}, "messages", "messages is 'hello'"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role", "'robot'"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "is 5"),
        (
            {"messages": [*HELLO, {"role": "tool", "tool_call_id": "zz", "content": "1"}]},
            "messages[1]",
            "no message before it has tool_calls",
        ),
        ({"tool_choice": "required", "tools": []}, "tool_choice", "together with tools"),
        ({"response_format": {"type": "yaml"}}, "response_format.type", "'json_object'"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
            "Give it, with name and schema",
        ),
        (
            {"response_format": {"type": "json_object", "json_schema": {"name": "a"}}},
            "response_format.json_schema",
            "belongs to the type json_schema, and the type is json_object",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format.json_schema.name",
            "pattern",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"not": {}}},
                }
            },
            "response_format",
            '"not"',
        ),
        ({"structured_outputs": {"regex": "a("}}, "structured_outputs", "unclosed"),
        ({"structured_outputs": {}}, "structured_outputs", "holds none"),
        ({"structured_outputs": {"xml": "a"}}, "structured_outputs.xml", "Unrecognized"),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "structured_outputs",
            "Leave one out",
        ),
        (
            {"structured_outputs": {"regex": "a"}, "ignore_eos": True},
            "ignore_eos",
            "structured_outputs",
        ),
        ({"bad_words": [""]}, "bad_words", "words that are not empty"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", "[-100, 100]"),
        ({"logit_bias": {"five": 1}}, "logit_bias.five", "integer"),
        ({"logit_bias": {"99999": 1}}, "logit_bias", "holds the token id 99999"),
        ({"allowed_token_ids": []}, "allowed_token_ids", "not empty"),
        ({"allowed_token_ids": [99999]}, "allowed_token_ids", "holds the token id 99999"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "not supported"),
        ({"temprature": 0}, "temprature", "Unrecognized request argument"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_wrong_field_is_400_and_named(
    http: httpx.Client, fields: dict[str, Any], param: str, message: str
) -> None:
    response = chat(http, **fields)
    assert response.status_code == 400
    error = error_of(response)
    assert error["param"] == param
    assert message in error["message"]


def test_an_image_is_refused_and_named(http: httpx.Client) -> None:
    part = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}
    response = chat(http, messages=[{"role": "user", "content": [part]}])
    assert response.status_code == 400
    assert "image_url" in error_of(response)["message"]


@pytest.mark.parametrize(
    "prompt", [[], "", [""], [1, "a"], [[1.5]], [-1], [10**30], [[]], None, 5, {"a": 1}, [True]]
)
def test_a_wrong_prompt_is_400(http: httpx.Client, prompt: object) -> None:
    response = complete(http, prompt=prompt)
    assert response.status_code == 400
    assert error_of(response)["param"] == "prompt"


def test_fields_without_effect_and_neutral_values_are_taken(http: httpx.Client) -> None:
    response = chat(
        http,
        user="u",
        metadata={"a": "b"},
        store=False,
        response_format={"type": "text"},
        logit_bias={},
        allowed_token_ids=None,
        tools=None,
    )
    assert response.status_code == 200


def test_nul_characters_are_text_like_any_other(http: httpx.Client) -> None:
    assert chat(http, messages=[{"role": "user", "content": "a\0b"}]).status_code == 200


def test_the_openai_client_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": "a"}])
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="demo", prompt="a", n=1_000_000)
    assert caught.value.param == "n"
    assert caught.value.code == "invalid_value"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    [*ChatCompletionRequest.model_fields, *CompletionRequest.model_fields, "user", "foo"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(_FIELDS, _JSON, max_size=4),
    st.sampled_from(["chat/completions", "completions"]),
)
def test_whatever_is_sent_the_server_answers_properly(
    http: httpx.Client, fields: dict[str, Any], path: str
) -> None:
    base = {"model": "demo", "messages": HELLO, "max_tokens": 1}
    if path == "completions":
        base = {"model": "demo", "prompt": "a", "max_tokens": 1}
    body = json.dumps({**base, **fields}).encode()
    response = http.post(f"/v1/{path}", content=body)
    if response.status_code != 200:
        assert 400 <= response.status_code < 500, response.text
        error_of(response)
    assert http.get("/health").status_code == 200
