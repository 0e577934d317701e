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
from tests.support.runtime.responses import ADD, FORMAT, post
from tests.support.runtime.server_process import ServerProcess, eventually

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
QUESTION = "What is Octavo?"
SUM = "What is 97 plus 8?"
LOGPROBS = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
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
