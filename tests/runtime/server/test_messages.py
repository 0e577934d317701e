"""Messages as Anthropic's clients see them, from a real server and a real engine."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx
import pytest

from octavo.server.anthropic.as_chat import as_chat
from octavo.server.anthropic.request import CountTokensRequest, MessagesRequest
from octavo.server.openai.api_errors import ApiError
from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.responses import COLOUR, SUMMANDS

QUESTION = "What is Octavo?"
SUM = "What is 97 plus 8?"
ADD: dict[str, Any] = {
    "name": "add_numbers",
    "description": "Add two numbers.",
    "strict": True,
    "input_schema": SUMMANDS,
}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


# What may be asked for, the kinds of blocks that come back, and why it stops.
ASKED: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "text": ({"messages": [user(QUESTION)]}, ["text"], "end_turn"),
    "cut": ({"messages": [user(QUESTION)], "max_tokens": 5}, ["text"], "max_tokens"),
    "stopped": (
        {"messages": [user(QUESTION)], "stop_sequences": ["large"]},
        ["text"],
        "stop_sequence",
    ),
    "hot": ({"messages": [user(QUESTION)], "temperature": 1, "seed": 3}, ["text"], "end_turn"),
    "call": ({"messages": [user(SUM)], "tools": [ADD]}, ["tool_use"], "tool_use"),
    "forced": (
        {
            "messages": [user(QUESTION)],
            "tools": [ADD],
            "tool_choice": {
                "type": "tool",
                "name": "add_numbers",
                "disable_parallel_tool_use": True,
            },
            "system": [{"type": "text", "text": "Use tools.", "cache_control": {}}],
        },
        ["tool_use"],
        "tool_use",
    ),
    "format": (
        {
            "messages": [user(QUESTION)],
            "output_config": {"format": {"type": "json_schema", "schema": COLOUR}},
        },
        ["text"],
        "end_turn",
    ),
}


def post(http: httpx.Client, **fields: Any) -> httpx.Response:
    body = {"model": "demo", "temperature": 0, "max_tokens": 100, **fields}
    return http.post("/v1/messages", json=body)


def events(text: str) -> list[dict[str, Any]]:
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        kind, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {found[-1]['type']}"
    return found


def rebuilt(streamed: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that the events tell of, as a client puts it together."""
    start, *inner, delta, stop = streamed
    assert (start["type"], delta["type"], stop["type"]) == (
        "message_start",
        "message_delta",
        "message_stop",
    )
    message: dict[str, Any] = start["message"]
    assert (message["content"], message["stop_reason"]) == ([], None)
    assert message["usage"]["input_tokens"] == delta["usage"]["input_tokens"]
    for index, group in itertools.groupby(inner, lambda event: event["index"]):
        begun, *deltas, ended = group
        assert index == len(message["content"])
        assert (begun["type"], ended["type"]) == ("content_block_start", "content_block_stop")
        block = begun["content_block"]
        parts = [event["delta"] for event in deltas]
        if block["type"] == "tool_use":
            assert block["input"] == {}
            block["input"] = json.loads("".join(part["partial_json"] for part in parts))
        else:
            block["text"] += "".join(part["text"] for part in parts)
        message["content"].append(block)
    return {**message, **delta["delta"], "usage": delta["usage"]}


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """Without what is drawn, and without who had what cached."""
    usage = message["usage"]
    num_input = usage["input_tokens"] + usage["cache_read_input_tokens"]
    content = [
        {name: value for name, value in block.items() if name != "id"}
        for block in message["content"]
    ]
    used = (num_input, usage["output_tokens"])
    return {**message, "id": "", "content": content, "usage": used}


@pytest.mark.parametrize("name", ASKED)
def test_whole_and_streamed_messages_are_equal(http: httpx.Client, name: str) -> None:
    fields, kinds, stop_reason = ASKED[name]
    whole = post(http, **fields).json()
    assert whole["type"] == "message"
    assert [block["type"] for block in whole["content"]] == kinds
    assert whole["stop_reason"] == stop_reason
    assert whole["stop_sequence"] == ("large" if name == "stopped" else None)
    streamed = post(http, **fields, stream=True)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert comparable(rebuilt(events(streamed.text))) == comparable(whole)


def test_a_conversation_is_the_one_that_a_chat_has(http: httpx.Client) -> None:
    chat = {"model": "demo", "temperature": 0, "max_tokens": 20}
    system = {"role": "system", "content": "Be brief."}
    said = http.post(
        "/v1/chat/completions",
        json={**chat, "messages": [system, {"role": "user", "content": QUESTION}]},
    ).json()
    asked = {"system": "Be brief.", "messages": [user([{"type": "text", "text": QUESTION}])]}
    answer = post(http, **asked, max_tokens=20).json()
    assert answer["content"][0]["text"] == said["choices"][0]["message"]["content"]
    counted = http.post("/v1/messages/count_tokens", json={"model": "demo", **asked}).json()
    assert counted == {"input_tokens": said["usage"]["prompt_tokens"]}


def test_a_call_goes_back_with_its_result(http: httpx.Client) -> None:
    messages = [user(SUM)]
    first = post(http, messages=messages, tools=[ADD]).json()
    (call,) = first["content"]
    assert call["input"] == {"x": 97, "y": 8}
    messages.append({"role": "assistant", "content": first["content"]})
    messages.append(
        user([{"type": "tool_result", "tool_use_id": call["id"], "content": "105"}]),
    )
    second = post(http, messages=messages, tools=[ADD]).json()
    assert "105" in second["content"][0]["text"]


def test_results_come_before_the_users_words() -> None:
    messages = [
        user(SUM),
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": "ä"}},
            ],
        },
        user(
            [
                {"type": "text", "text": "And?"},
                {"type": "tool_result", "tool_use_id": "a", "content": "no", "is_error": True},
            ]
        ),
    ]
    request = CountTokensRequest.parse({"model": "m", "messages": messages})
    chat, _ = as_chat(request)
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": "ä"}'}}
    assert [message.as_sent for message in chat.messages] == [
        user(SUM),
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning": "Hm.",
            "reasoning_content": "Hm.",
            "tool_calls": [call],
        },
        {"role": "tool", "tool_call_id": "a", "content": "no", "is_error": True},
        user([{"type": "text", "text": "And?"}]),
    ]


def test_members_of_a_block_that_are_not_read_reach_no_template() -> None:
    def chat(**more: Any) -> list[dict[str, Any]]:
        said = [{"type": "thinking", "thinking": "Hm.", **more}, {**CALL, **more}]
        heard = [{**RESULT, "content": "1", **more}, {"type": "text", "text": "hi", **more}]
        sent = [{"role": "assistant", "content": said}, user(heard)]
        request = MessagesRequest.parse({"model": "m", "max_tokens": 1, "messages": sent})
        return [message.as_sent for message in as_chat(request)[0].messages]

    assert chat(cache_control={}, signature="x", foo=1) == chat()


RESULT = {"type": "tool_result", "tool_use_id": "a"}
CALL = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
REFUSED: list[tuple[str, Any, str]] = [
    ("container", "x", "container"),
    ("max_tokens", 0, "max_tokens"),
    ("max_tokens", None, "max_tokens"),
    ("max_tokens", 100_000, "messages"),
    ("mcp_servers", [{"url": "x"}], "mcp_servers"),
    ("messages", [], "messages"),
    ("messages", [user([{"type": "image", "source": {}}])], "messages[0].content[0].type"),
    ("messages", [user([{"type": "document", "source": {}}])], "messages[0].content[0].type"),
    ("messages", [user([{"type": "text"}])], "messages[0].content[0].text"),
    ("messages", [user([RESULT])], "messages[0].content[0].tool_use_id"),
    (
        "messages",
        [{"role": "assistant", "content": [CALL, CALL]}, user([RESULT])],
        "messages[0].content[1].id",
    ),
    ("messages", [user([{"type": "thinking", "thinking": "a"}])], "messages[0].content[0].type"),
    ("messages", [user("a"), {"role": "assistant", "content": "b"}], "messages[1]"),
    ("messages", [{"role": "user", "content": "a", "foo": 1}], "messages[0].foo"),
    ("messages", [{"role": "king", "content": "a"}], "messages[0].role"),
    ("n", 2, "n"),
    (
        "output_config",
        {"format": {"type": "json_schema", "schema": {"not": {}}}},
        "output_config.format",
    ),
    ("stop_sequences", [""], "stop_sequences"),
    ("temperature", 3, "temperature"),
    ("thinking", {"type": "enabled", "budget_tokens": 1024}, "thinking.type"),
    ("tool_choice", {"type": "any"}, "tool_choice"),
    ("tools", [{"type": "web_search_20250305", "name": "web_search"}], "tools[0].type"),
    ("tools", [ADD, ADD], "tools[1].name"),
    ("tools", [{"name": "f"}], "tools[0].input_schema"),
]


@pytest.mark.parametrize(("field", "value", "param"), REFUSED)
def test_what_cannot_be_had_is_refused_in_anthropics_form(
    http: httpx.Client, field: str, value: Any, param: str
) -> None:
    answer = post(http, **{"messages": [user("hi")], "max_tokens": 1, field: value})
    assert answer.status_code == 400
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    document = answer.json()
    assert document["type"] == "error"
    assert document["error"]["type"] == "invalid_request_error"
    assert document["error"]["param"] == param


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metadata", {"user_id": "me"}),
        ("service_tier", "auto"),
        ("thinking", {"type": "disabled"}),
        ("thinking", {"type": "adaptive"}),
        ("tool_choice", {"type": "auto"}),
        ("tools", []),
        ("top_k", 3),
        ("cache_control", {"type": "ephemeral"}),
    ],
)
def test_what_has_no_effect_is_taken(http: httpx.Client, field: str, value: Any) -> None:
    answer = post(http, **{"messages": [user("hi")], "max_tokens": 1, field: value})
    assert answer.status_code == 200, answer.text


def test_other_errors_have_that_form_too(http: httpx.Client) -> None:
    missing = post(http, model="other", messages=[user("hi")])
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    assert http.post("/v1/messages", content=b"{").json()["type"] == "error"
    with pytest.raises(ApiError):
        MessagesRequest.parse({"model": "m", "messages": [user("a")]})


def test_a_stream_that_fails_on_the_way_ends_with_its_error(slow_server: FaultyServer) -> None:
    body = {"model": "demo", "messages": [user("hello")], "max_tokens": 1500, "ignore_eos": True}
    url = f"{slow_server.url}/v1/messages"
    with (
        slow_server.faults.slow_steps(),
        httpx.stream("POST", url, json={**body, "stream": True}, timeout=60) as sent,
    ):
        lines = sent.iter_lines()
        next(line for line in lines if line == "event: content_block_delta")
        slow_server.faults.set("every step")
        rest = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert (rest[-1]["type"], rest[-1]["error"]["type"]) == ("error", "api_error")
