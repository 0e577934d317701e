"""Responses as the `openai` client sees them, from a real server and a real engine."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any, Literal

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from tests.support.runtime.faulty_server import FaultyServer
from tests.support.runtime.server_process import ServerProcess, eventually

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
QUESTION = "What is Octavo?"
SUM = "What is 97 plus 8?"
ADD: dict[str, Any] = {
    "type": "function",
    "name": "add_numbers",
    "description": "Add two numbers.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
        "required": ["x", "y"],
        "additionalProperties": False,
    },
}
NAMED = {"type": "function", "name": "add_numbers"}
LOGPROBS = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "name": "colour", "schema": COLOUR, "strict": True}
# What may be asked for, and the kinds of items that come back.
ASKED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "text": ({"input": QUESTION}, ["message"]),
    "cut": ({"input": QUESTION, "max_output_tokens": 5}, ["message"]),
    "logprobs": ({"input": QUESTION, **LOGPROBS}, ["message"]),
    "hot": ({"input": QUESTION, "temperature": 1.5, "seed": 3}, ["message"]),
    "format": ({"input": QUESTION, "text": {"format": FORMAT}}, ["message"]),
    "call": ({"input": SUM, "tools": [ADD], **LOGPROBS}, ["function_call"]),
    "text beside tools": ({"input": QUESTION, "tools": [ADD], **LOGPROBS}, ["message"]),
    "forced": (
        {
            "input": QUESTION,
            "tools": [ADD],
            "tool_choice": {"type": "function", "name": "add_numbers"},
            "instructions": "Use tools.",
            "parallel_tool_calls": False,
        },
        ["function_call"],
    ),
    "stopped": ({"input": QUESTION, "stop": ["large"]}, ["message"]),
}


def post(http: httpx.Client, **fields: Any) -> httpx.Response:
    body = {"model": "demo", "temperature": 0, "max_output_tokens": 100, **fields}
    return http.post("/v1/responses", json=body)


def events(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        kind, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {found[-1]['type']}"
    return found


def without_ids(document: dict[str, Any]) -> dict[str, Any]:
    """What two answers to the same request have in common."""
    drawn = ("id", "created_at", "completed_at", "call_id", "cached_tokens")
    text = json.dumps(document)
    found: dict[str, Any] = json.loads(
        text, object_hook=lambda o: {k: v for k, v in o.items() if k not in drawn}
    )
    return found


@pytest.mark.parametrize("name", ASKED)
def test_whole_and_streamed_answers_are_openais_and_equal(http: httpx.Client, name: str) -> None:
    fields, kinds = ASKED[name]
    whole = post(http, **fields).json()
    Response.model_validate(whole, strict=True)
    assert [item["type"] for item in whole["output"]] == kinds
    is_cut = name == "cut"
    assert whole["status"] == ("incomplete" if is_cut else "completed")
    assert whole["incomplete_details"] == ({"reason": "max_output_tokens"} if is_cut else None)
    assert whole["output"][-1]["status"] == whole["status"]
    streamed = events(post(http, **fields, stream=True))
    for event in streamed:
        EVENT.validate_python(event, strict=True)
    assert [event["sequence_number"] for event in streamed] == list(range(len(streamed)))
    assert streamed[-1]["type"] == f"response.{whole['status']}"
    assert without_ids(streamed[-1]["response"]) == without_ids(whole)
    assert rebuilt(streamed) == streamed[-1]["response"]["output"]


def rebuilt(streamed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items that the events tell of, each checked against the deltas before it."""
    created, in_progress, *rest, last = streamed
    assert [created["type"], in_progress["type"]] == ["response.created", "response.in_progress"]
    assert created["response"] == in_progress["response"]
    assert created["response"]["output"] == []
    assert created["response"]["id"] == last["response"]["id"]
    items: list[dict[str, Any]] = []
    for index, group in itertools.groupby(rest, lambda event: event["output_index"]):
        added, *inner, done = group
        assert index == len(items)
        assert (added["type"], done["type"]) == (
            "response.output_item.added",
            "response.output_item.done",
        )
        item = done["item"]
        assert {event["item_id"] for event in inner} == {added["item"]["id"]} == {item["id"]}
        assert added["item"]["status"] == "in_progress"
        if item["type"] == "message":
            begun, *deltas, text, part = inner
            assert begun["type"] == "response.content_part.added"
            assert {event["type"] for event in deltas} == {"response.output_text.delta"}
            assert [text["type"], part["type"]] == [
                "response.output_text.done",
                "response.content_part.done",
            ]
            assert item["content"] == [part["part"]]
            assert "".join(event["delta"] for event in deltas) == text["text"]
            assert text["text"] == part["part"]["text"]
            told = [one for event in deltas for one in event["logprobs"]]
            assert told == text["logprobs"] == part["part"]["logprobs"]
        else:
            *deltas, arguments = inner
            assert {event["type"] for event in deltas} == {"response.function_call_arguments.delta"}
            assert arguments["type"] == "response.function_call_arguments.done"
            assert added["item"] == {**item, "arguments": "", "status": "in_progress"}
            written = "".join(event["delta"] for event in deltas)
            assert written == arguments["arguments"] == item["arguments"]
        items.append(item)
    return items


def test_the_answer_says_what_was_asked_for_and_what_was_done(http: httpx.Client) -> None:
    fields: dict[str, Any] = {
        "input": QUESTION,
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "user": "me",
        "store": True,
        "tools": [ADD],
        "tool_choice": "none",
        "text": {"format": FORMAT},
    }
    answer = post(http, **fields).json()
    same = ("instructions", "metadata", "user", "tools", "tool_choice")
    assert {name: answer[name] for name in same} == {name: fields[name] for name in same}
    assert answer["text"]["format"] == FORMAT
    assert answer["store"] is False
    assert answer["temperature"] == 0
    assert answer["max_output_tokens"] == 100
    assert json.loads(answer["output"][0]["content"][0]["text"])["colour"] in ("red", "green")


def test_input_is_the_conversation_that_a_chat_is(http: httpx.Client) -> None:
    parts = [{"type": "input_text", "text": QUESTION}]
    as_items = [{"type": "message", "role": "user", "content": parts}]
    system = {"role": "system", "content": "Be brief."}
    chat = {"model": "demo", "temperature": 0, "max_tokens": 20}
    said = http.post(
        "/v1/chat/completions",
        json={**chat, "messages": [system, {"role": "user", "content": QUESTION}]},
    ).json()
    for fields in (
        {"input": QUESTION, "instructions": "Be brief."},
        {"input": as_items, "instructions": "Be brief."},
        {"input": [{**system, "role": "developer"}, *as_items]},
    ):
        answer = post(http, **fields, max_output_tokens=20).json()
        assert answer["usage"]["input_tokens"] == said["usage"]["prompt_tokens"]
        text = answer["output"][0]["content"][0]["text"]
        assert text == said["choices"][0]["message"]["content"]


def test_a_call_goes_back_with_its_result(client: openai.OpenAI) -> None:
    tools: Any = [ADD]
    items: list[Any] = [{"role": "user", "content": SUM}]
    first = client.responses.create(model="demo", input=items, tools=tools, temperature=0)
    (call,) = first.output
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"x": 97, "y": 8}
    items += [item.to_dict() for item in first.output]
    items.append({"type": "function_call_output", "call_id": call.call_id, "output": "105"})
    second = client.responses.create(model="demo", input=items, tools=tools, temperature=0)
    assert "105" in second.output_text
    parts = [{"type": "input_text", "text": "105"}]
    items[-1] = {**items[-1], "output": parts}
    third = client.responses.create(model="demo", input=items, tools=tools, temperature=0)
    assert third.output_text == second.output_text


class Colour(BaseModel):
    colour: Literal["red", "green"]


def test_the_clients_own_ways_to_ask(server: ServerProcess, client: openai.OpenAI) -> None:
    """Its parser, its helper for streams, and both with the async client."""
    parsed = client.responses.parse(model="demo", input=QUESTION, text_format=Colour)
    assert parsed.output_parsed is not None
    with client.responses.stream(model="demo", input=QUESTION, temperature=0) as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text != ""

    async def ask() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as many:
            whole = await many.responses.create(model="demo", input=QUESTION, temperature=0)
            async with many.responses.stream(
                model="demo", input=QUESTION, text_format=Colour
            ) as stream:
                found = (await stream.get_final_response()).output_parsed
        assert isinstance(found, Colour)
        return whole.output_text, found.colour

    assert asyncio.run(ask())[0] == text


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
    ("include", ["bogus"], "include.0"),
    ("input", [], "input"),
    ("input", 5, "input"),
    ("input", [{"type": "item_reference", "id": "msg_1"}], "input.0"),
    ("input", [{"type": "computer_call"}], "input.0.type"),
    ("input", [{"role": "king", "content": "a"}], "input.0.role"),
    ("input", [{"role": "user"}], "input.0.content"),
    ("input", [{"role": "user", "content": [{"type": "input_image"}]}], "input.0.content.0.type"),
    ("input", [{"role": "user", "content": [{"type": "input_file"}]}], "input.0.content.0.type"),
    ("input", [{"role": "user", "content": [{"type": "input_text"}]}], "input.0.content.0.text"),
    ("input", [{"type": "function_call_output", "call_id": "x", "output": ""}], "input.0.call_id"),
    (
        "input",
        [{"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}] * 2,
        "input.1.call_id",
    ),
    ("input", [{"type": "reasoning", "encrypted_content": "x"}], "input.0.encrypted_content"),
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
    ("tools", [{"type": "web_search"}], "tools.0.type"),
    ("tools", [{"type": "mcp", "server_label": "x"}], "tools.0.type"),
    ("tools", [ADD, ADD], "tools.1.name"),
    ("tools", [{"type": "function"}], "tools.0.name"),
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


@pytest.mark.parametrize("path", ["/v1/responses/resp_1", "/responses"])
def test_what_is_not_there_says_where_to_look(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 404
    assert "/v1/responses" in answer.json()["error"]["message"]


LONG: dict[str, Any] = {
    "model": "demo",
    "input": "hello",
    "max_output_tokens": 1500,
    "ignore_eos": True,
    "stream": True,
}


def until_text(lines: Any) -> None:
    next(line for line in lines if line == "event: response.output_text.delta")


def test_a_stream_that_fails_on_the_way_ends_with_its_failure(slow_server: FaultyServer) -> None:
    url = f"{slow_server.url}/v1/responses"
    with slow_server.faults.slow_steps(), httpx.stream("POST", url, json=LONG, timeout=60) as sent:
        lines = sent.iter_lines()
        until_text(lines)
        slow_server.faults.set("every step")
        rest = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    for event in rest:
        EVENT.validate_python(event, strict=True)
    error, failed = rest[-2:]
    assert (error["type"], error["code"]) == ("error", "engine_error")
    assert failed["type"] == "response.failed"
    assert failed["sequence_number"] == error["sequence_number"] + 1
    response = failed["response"]
    assert (response["status"], response["error"]["code"]) == ("failed", "server_error")
    assert response["output"][0]["status"] == "incomplete"
    assert response["usage"]["output_tokens"] > 0


def test_who_leaves_a_stream_frees_its_blocks(slow_server: FaultyServer) -> None:
    url = f"{slow_server.url}/v1/responses"
    with slow_server.faults.slow_steps():
        with httpx.stream("POST", url, json=LONG, timeout=60) as sent:
            lines = sent.iter_lines()  # held: dropping it hangs up
            until_text(lines)
            eventually(lambda: slow_server.metrics()["octavo_kv_cache_blocks_used"] > 0)
        eventually(lambda: slow_server.metrics()["octavo_kv_cache_blocks_used"] == 0)


def test_the_prompts_length_is_told_before_it_is_sent(http: httpx.Client) -> None:
    asked = {"model": "demo", "input": "What is Octavo?", "instructions": "Be brief."}
    counted = http.post("/v1/responses/input_tokens", json=asked).json()
    sent = http.post("/v1/responses", json={**asked, "max_output_tokens": 1}).json()
    assert counted == {
        "object": "response.input_tokens",
        "input_tokens": sent["usage"]["input_tokens"],
    }


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ({"type": "function", "function": {"name": "add_numbers"}}, "tool_choice.function"),
        ({"type": "function"}, "tool_choice.name"),
        ({"type": "allowed_tools", "allowed_tools": {}}, "tool_choice.allowed_tools"),
        (
            {"type": "allowed_tools", "mode": "none", "tools": [ADD]},
            "tool_choice.tools.0.description",
        ),
        ({"type": "allowed_tools", "mode": "none", "tools": [NAMED]}, "tool_choice.mode"),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, "tool_choice.tools"),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function"}]},
            "tool_choice.tools.0.name",
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]},
            "tool_choice.tools.0.type",
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
