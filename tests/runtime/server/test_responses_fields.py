"""Fields of Responses: each is taken, or refused by its name."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.runtime.responses import ADD, FORMAT, post

NAMED = {"type": "function", "name": "add_numbers"}
TAKEN: list[tuple[str, Any]] = [
    ("background", False),
    ("conversation", None),
    ("include", ["reasoning.encrypted_content", "file_search_call.results"]),
    ("max_tool_calls", 5),
    ("parallel_tool_calls", True),
    ("previous_response_id", None),
    ("prompt_cache_key", "k"),
    ("reasoning", {"effort": None}),
    ("safety_identifier", "x"),
    ("service_tier", "auto"),
    ("store", False),
    ("text", {"verbosity": "medium", "format": {"type": "text"}}),
    ("tool_choice", "auto"),
    ("tools", []),
    ("tools", [{"type": "function", "name": "f", "parameters": None, "strict": None}]),
    ("top_p", 0.5),
    ("truncation", "disabled"),
    ("top_k", 3),
]
REFUSED: list[tuple[str, Any, str]] = [
    ("background", True, "background"),
    ("conversation", "conv_1", "conversation"),
    ("include", ["bogus"], "include[0]"),
    ("input", [], "input"),
    ("input", 5, "input"),
    ("input", [{"type": "item_reference", "id": "msg_1"}], "input[0]"),
    ("input", [{"type": "computer_call"}], "input[0].type"),
    ("input", [{"role": "king", "content": "a"}], "input[0].role"),
    ("input", [{"role": "user"}], "input[0].content"),
    ("input", [{"role": "user", "content": [{"type": "input_image"}]}], "input[0].content[0].type"),
    ("input", [{"role": "user", "content": [{"type": "input_file"}]}], "input[0].content[0].type"),
    ("input", [{"role": "user", "content": [{"type": "input_text"}]}], "input[0].content[0].text"),
    ("input", [{"type": "function_call_output", "call_id": "x", "output": ""}], "input[0].call_id"),
    (
        "input",
        [{"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}] * 2,
        "input[1].call_id",
    ),
    ("input", [{"type": "reasoning", "encrypted_content": "x"}], "input[0].encrypted_content"),
    ("max_output_tokens", 0, "max_output_tokens"),
    ("max_output_tokens", 100_000, "input"),
    ("max_tokens", 5, "max_tokens"),
    ("n", 2, "n"),
    ("previous_response_id", "resp_1", "previous_response_id"),
    ("prompt", {"id": "x"}, "prompt"),
    ("reasoning", {"summary": "auto"}, "reasoning.summary"),
    ("stream_options", {"include_obfuscation": False}, "stream_options"),
    ("temperature", 3, "temperature"),
    ("text", {"format": {"type": "json_schema", "name": "x"}}, "text.format.schema"),
    ("text", {"format": {**FORMAT, "schema": {"not": {}}}}, "text.format"),
    ("tool_choice", "required", "tool_choice"),
    ("tools", [{"type": "web_search"}], "tools[0].type"),
    ("tools", [{"type": "mcp", "server_label": "x"}], "tools[0].type"),
    ("tools", [ADD, ADD], "tools[1].name"),
    ("tools", [{"type": "function"}], "tools[0].name"),
    ("top_logprobs", 2, "top_logprobs"),
    ("top_logprobs", 21, "top_logprobs"),
    ("truncation", "auto", "truncation"),
    ("user", 5, "user"),
]


NAMES_OF_CHATS = ("messages", "response_format", "max_completion_tokens", "max_tokens.")


def test_a_field_is_taken_or_refused_by_its_name(http: httpx.Client) -> None:
    for field, value in TAKEN:
        answer = post(http, **{"input": "hi", "max_output_tokens": 1, field: value})
        assert answer.status_code == 200, (field, answer.text)
        # In OpenAI's document they are texts, or they are not there.
        told = {"prompt_cache_key", "safety_identifier", "user"} & answer.json().keys()
        assert told == {field} & {"prompt_cache_key", "safety_identifier"}
    for field, value, param in REFUSED:
        body = {"input": "hi", "max_output_tokens": 1, field: value}
        for stream in (False, True):
            more = {"stream": True} if stream and field != "stream_options" else {}
            answer = post(http, **body, **more)
            assert answer.status_code == 400, (field, answer.text)
            error = answer.json()["error"]
            assert error["param"] == param, (field, error)
            assert not any(name in error["message"] for name in NAMES_OF_CHATS)


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ({"type": "function", "function": {"name": "add_numbers"}}, "tool_choice.function"),
        ({"type": "function"}, "tool_choice.name"),
        ({"type": "allowed_tools", "allowed_tools": {}}, "tool_choice.allowed_tools"),
        (
            {"type": "allowed_tools", "mode": "none", "tools": [ADD]},
            "tool_choice.tools[0].description",
        ),
        ({"type": "allowed_tools", "mode": "none", "tools": [NAMED]}, "tool_choice.mode"),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, "tool_choice.tools"),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function"}]},
            "tool_choice.tools[0].name",
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]},
            "tool_choice.tools[0].type",
        ),
        ({"type": "mcp", "server_label": "a"}, "tool_choice"),
    ],
)
def test_a_choice_has_the_form_of_responses(
    http: httpx.Client, choice: dict[str, Any], param: str
) -> None:
    asked = {"model": "demo", "input": "a", "tools": [ADD], "tool_choice": choice}
    response = http.post("/v1/responses", json=asked)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert param in error["message"]


def test_allowed_tools_are_those_of_a_chat(http: httpx.Client) -> None:
    tools = [{"type": "function", "name": name} for name in ("list_pods", "restart")]
    choice = {"type": "allowed_tools", "mode": "required", "tools": tools[:1]}
    asked = {"model": "demo", "input": "Restart.", "tools": tools, "tool_choice": choice}
    answer = http.post("/v1/responses", json=asked).json()
    assert {each["name"] for each in answer["output"]} == {"list_pods"}
    assert answer["tool_choice"] == choice
