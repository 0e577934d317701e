"""Chat completions as the `openai` client sees them, from a real server and a real engine."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from tests.support.runtime.server_process import ServerProcess
from tests.support.runtime.tools import ADD

QUESTION: Any = [{"role": "user", "content": "What is Octavo?"}]


def ask(client: openai.OpenAI, **options: Any) -> Any:
    options = {"temperature": 0, "max_tokens": 24, **options}
    return client.chat.completions.create(model="demo", messages=QUESTION, **options)


def test_a_whole_answer(client: openai.OpenAI) -> None:
    answer = ask(client, max_tokens=8, extra_body={"ignore_eos": True})
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.model == "demo"
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.message.tool_calls is None
    assert choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 8
    assert answer.usage.prompt_tokens > 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_a_question_that_comes_again_is_cached_for_its_own_salt(client: openai.OpenAI) -> None:
    def cached(salt: str | None) -> int:
        messages: Any = [{"role": "user", "content": "What is Octavo? " * 4}]
        answer = client.chat.completions.create(
            model="demo",
            messages=messages,
            max_tokens=2,
            temperature=0,
            extra_body={"priority": -1, **({"cache_salt": salt} if salt else {})},
        )
        details = answer.usage.prompt_tokens_details
        found: int = details.cached_tokens
        return found

    assert cached("tenant-a") == 0
    assert cached("tenant-a") >= 16
    assert cached("tenant-b") == 0
    assert cached(None) == 0


def test_a_stream_says_the_same_as_the_whole_answer(client: openai.OpenAI) -> None:
    whole = ask(client)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:-1])
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_every_chunk_tells_the_usage_so_far_to_those_who_ask(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    chunks = list(ask(client, stream=True, stream_options=options))
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] == ask(client).usage.completion_tokens
    assert chunks[-1].choices == []


def test_without_include_usage_the_stream_has_none(client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True))
    assert chunks[-1].choices[0].finish_reason is not None
    assert all(chunk.usage is None for chunk in chunks)


def test_n_gives_that_many_answers(client: openai.OpenAI) -> None:
    # Hot, because the model is sure of what it says.
    answer = ask(client, n=3, temperature=2, seed=1, max_tokens=12)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    again = ask(client, n=3, temperature=2, seed=1, max_tokens=12)
    assert [c.message.content for c in again.choices] == [c.message.content for c in answer.choices]


def test_n_streams_each_with_its_role_and_end(client: openai.OpenAI) -> None:
    chunks = list(ask(client, n=2, temperature=1, seed=3, stream=True))
    for index in (0, 1):
        own = [c.choices[0] for c in chunks if c.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert own[-1].finish_reason in ("stop", "length")
        assert all(choice.finish_reason is None for choice in own[:-1])


def test_a_stop_string_ends_the_answer_and_is_no_part_of_it(
    client: openai.OpenAI, server: ServerProcess
) -> None:
    full = ask(client).choices[0].message.content
    stop = full.split()[1]
    answer = ask(client, stop=[stop])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == full[: full.index(stop)]
    streamed = "".join(
        chunk.choices[0].delta.content or "" for chunk in ask(client, stop=[stop], stream=True)
    )
    assert streamed == full[: full.index(stop)]
    shown = ask(client, stop=[stop], extra_body={"include_stop_str_in_output": True})
    assert shown.choices[0].message.content == full[: full.index(stop)] + stop


def test_max_completion_tokens_is_max_tokens_newer_name(client: openai.OpenAI) -> None:
    answer = ask(client, max_tokens=openai.omit, max_completion_tokens=3)
    assert answer.usage.completion_tokens <= 3


def test_the_greedy_token_is_the_first_of_the_most_probable(client: openai.OpenAI) -> None:
    answer = ask(client, logprobs=True, top_logprobs=3, max_tokens=4)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    for position in content:
        assert len(position.top_logprobs) == 3
        # Greedy: the token that was taken is the most probable one.
        assert position.top_logprobs[0].token == position.token
        assert position.top_logprobs[0].logprob == position.logprob <= 0
        assert bytes(position.bytes).decode() == position.token
    chunks = list(ask(client, logprobs=True, top_logprobs=3, max_tokens=4, stream=True))
    streamed = [
        token
        for chunk in chunks
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert [token.token for token in streamed] == [token.token for token in content]


def test_content_in_parts_is_the_same_question(client: openai.OpenAI) -> None:
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "What is Octavo?"}]}]
    answer = client.chat.completions.create(
        model="demo", messages=parts, temperature=0, max_tokens=24
    )
    assert answer.choices[0].message.content == ask(client).choices[0].message.content


def test_many_at_once_by_the_async_client_give_what_they_give_alone(
    server: ServerProcess, client: openai.OpenAI
) -> None:
    def question(number: int) -> Any:
        return [{"role": "user", "content": f"What is {number} + {number}?"}]

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as many:
            answers = await asyncio.gather(
                *(
                    many.chat.completions.create(
                        model="demo", messages=question(n), temperature=0, max_tokens=16
                    )
                    for n in range(16)
                )
            )
        return [answer.choices[0].message.content or "" for answer in answers]

    together = asyncio.run(ask_all())
    for number in (0, 7, 15):
        alone = client.chat.completions.create(
            model="demo", messages=question(number), temperature=0, max_tokens=16
        )
        assert alone.choices[0].message.content == together[number]


def test_models_lists_the_served_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").model_extra["max_model_len"] == 2048


def test_tools_are_shown_to_the_model(client: openai.OpenAI) -> None:
    tool: Any = {
        "type": "function",
        "function": {"name": "get_pods", "parameters": {"type": "object", "properties": {}}},
    }
    assert ask(client, tools=[tool]).usage.prompt_tokens > ask(client).usage.prompt_tokens
    without = ask(client, tools=[tool], tool_choice="none")
    assert without.usage.prompt_tokens == ask(client).usage.prompt_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_call_comes_back_as_one(client: openai.OpenAI, stream: bool) -> None:
    options: Any = {
        "model": "demo",
        "messages": [{"role": "user", "content": "What is 97 plus 8?"}],
        "tools": [ADD],
        "temperature": 0,
        "max_tokens": 64,
    }
    if stream:
        chunks = list(client.chat.completions.create(**options, stream=True))
        assert "<tool_call>" not in "".join(c.choices[0].delta.content or "" for c in chunks)
        pieces = [call for c in chunks for call in c.choices[0].delta.tool_calls or []]
        assert len(pieces) > 2
        calls, reason = pieces[:1], chunks[-1].choices[0].finish_reason
        assert {piece.index for piece in pieces} == {0}
        assert {piece.function.name for piece in pieces[1:]} == {None}
        told = "".join(piece.function.arguments for piece in pieces)
        calls[0].function.arguments = told
    else:
        choice = client.chat.completions.create(**options).choices[0]
        assert choice.message.content is None
        calls, reason = choice.message.tool_calls, choice.finish_reason
    (call,) = calls
    assert reason == "tool_calls"
    assert call.id.startswith("call_")
    assert call.function.name == "add_numbers"
    assert isinstance(json.loads(call.function.arguments), dict)


def test_events_are_what_the_standard_says(http: httpx.Client) -> None:
    body = {"model": "demo", "messages": QUESTION, "max_tokens": 3, "stream": True}
    response = http.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: {") for event in events[:-2])


@pytest.mark.parametrize("given", ["trace-1:a", "bad id"])
def test_the_request_id_comes_back(http: httpx.Client, given: str) -> None:
    response = http.get("/v1/models", headers={"x-request-id": given})
    returned = response.headers["x-request-id"]
    assert (returned == given) is (" " not in given)
    assert len(returned) >= 9
