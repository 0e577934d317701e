"""Chats with `functions`, OpenAI's form before there were tools: the same prompt and call in its own form."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from octavo.server.openai.api_errors import ApiError
from octavo.server.openai.protocol import ChatCompletionRequest
from tests.support.runtime.tools import ADD

FUNCTION = ADD["function"]
ASKED: dict[str, Any] = {
    "model": "demo",
    "messages": [{"role": "user", "content": "What is 97 plus 8?"}],
    "temperature": 0,
    "max_tokens": 64,
}


def answer(http: httpx.Client, **fields: Any) -> ChatCompletion:
    response = http.post("/v1/chat/completions", json={**ASKED, **fields})
    assert response.status_code == 200, response.text
    return ChatCompletion.model_validate(response.json(), strict=True)


def num_tokens(told: ChatCompletion) -> tuple[int, int]:
    """But for those that the prefix cache had."""
    assert told.usage is not None
    return told.usage.prompt_tokens, told.usage.completion_tokens


def tokens(http: httpx.Client, **fields: Any) -> list[int]:
    found: list[int] = http.post("/tokenize", json={**ASKED, **fields}).json()["tokens"]
    return found


@pytest.mark.parametrize("choice", [None, "auto", {"name": "add_numbers"}], ids=str)
def test_a_function_is_called_as_a_tool_is(http: httpx.Client, choice: Any) -> None:
    fields = {"functions": [FUNCTION], "function_call": choice}
    named = {"type": "function", "function": choice} if isinstance(choice, dict) else choice
    as_tool = answer(http, tools=[ADD], tool_choice=named, parallel_tool_calls=False)
    told = answer(http, **fields)
    assert num_tokens(told) == num_tokens(as_tool)
    (call,) = as_tool.choices[0].message.tool_calls or []
    message = told.choices[0].message
    assert (message.content, message.tool_calls) == (None, None)
    assert message.function_call is not None
    assert message.function_call.model_dump() == call.function.model_dump()
    assert told.choices[0].finish_reason == "function_call"
    events = http.post("/v1/chat/completions", json={**ASKED, **fields, "stream": True}).text
    chunks = [
        ChatCompletionChunk.model_validate(json.loads(line[6:]), strict=True)
        for line in events.splitlines()
        if line.startswith("data: {")
    ]
    deltas = [chunk.choices[0].delta for chunk in chunks]
    called = [delta.function_call for delta in deltas if delta.function_call]
    assert called[0].name == "add_numbers"
    assert "".join(one.arguments or "" for one in called) == message.function_call.arguments
    assert not any(delta.tool_calls or delta.content for delta in deltas)
    assert chunks[-1].choices[0].finish_reason == "function_call"


def test_none_calls_none(http: httpx.Client) -> None:
    told = answer(http, functions=[FUNCTION], function_call="none", max_tokens=4)
    assert told.choices[0].message.function_call is None
    assert num_tokens(told) == num_tokens(answer(http, max_tokens=4))


def test_a_history_of_functions_is_the_prompt_that_one_of_tools_is(http: httpx.Client) -> None:
    call = {"name": "add_numbers", "arguments": '{"x": 97, "y": 8}'}
    first, more = ASKED["messages"], {"role": "user", "content": "And 1 plus 1?"}
    by_functions = [
        *first,
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "add_numbers", "content": "105"},
        more,
    ]
    calls = [{"id": "call00001", "type": "function", "function": call}]
    by_tools = [
        *first,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call00001", "content": "105"},
        more,
    ]
    expected = tokens(http, messages=by_tools, tools=[ADD])
    assert tokens(http, messages=by_functions, functions=[FUNCTION]) == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"function_call": "auto"}, "function_call"),
        ({"function_call": {"name": "f"}, "functions": []}, "function_call"),
        ({"functions": [FUNCTION], "tools": [ADD]}, "functions"),
        ({"functions": [FUNCTION], "tool_choice": "auto"}, "tool_choice"),
        ({"functions": [FUNCTION], "parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"functions": [FUNCTION], "function_call": "required"}, "function_call"),
        ({"functions": [{**FUNCTION, "strict": True}]}, "functions[0].strict"),
        ({"functions": [{"name": ""}]}, "functions[0].name"),
    ],
    ids=str,
)
def test_what_is_of_two_forms_or_of_none_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as refusal:
        ChatCompletionRequest.parse({**ASKED, **fields})
    assert refusal.value.detail.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"function_call": {"name": "other"}}, "function_call"),
        ({"functions": [FUNCTION, FUNCTION]}, "functions[1].name"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        (
            {"functions": [{"name": "f", "parameters": {"type": "string"}}]},
            "functions[0].parameters",
        ),
        (
            {
                "function_call": {"name": "add_numbers"},
                "functions": [
                    {**FUNCTION, "parameters": {"properties": {"x": {"not": {"type": "null"}}}}}
                ],
            },
            "functions",
        ),
        ({"messages": [{"role": "function", "name": "f", "content": "1"}]}, "messages[0].name"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_in_the_names_of_the_form(
    http: httpx.Client, fields: dict[str, Any], param: str
) -> None:
    body = {**ASKED, "functions": [FUNCTION], **fields}
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert "tool" not in error["message"]
