"""OpenAI's Python client: sync, async, raw, streamed, parsed, responses and embeddings."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from suites.cases.server import API_KEY, MODEL, url

SUM = [{"role": "user", "content": "What is 17 plus 25?"}]
ANSWER = "17 plus 25 is 42."
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
ADD_STRICT = {
    **ADD,
    "function": {
        **ADD["function"],  # type: ignore[dict-item]
        "strict": True,
        "parameters": {**ADD["function"]["parameters"], "additionalProperties": False},  # type: ignore[index]
    },
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
def client() -> OpenAI:
    return OpenAI(base_url=url(), api_key=API_KEY, max_retries=0)


@pytest.fixture
def aclient() -> AsyncOpenAI:
    return AsyncOpenAI(base_url=url(), api_key=API_KEY, max_retries=0)


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).object == "model"


def test_a_chat(client: OpenAI) -> None:
    done = client.chat.completions.create(model=MODEL, messages=SUM, temperature=0)
    assert done.choices[0].message.content == ANSWER
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens


def test_a_streamed_chat_with_usage(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=SUM,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ANSWER
    assert chunks[-1].usage is not None
    assert not chunks[-1].choices


def test_async(aclient: AsyncOpenAI) -> None:
    asyncio.run(_ask(aclient))


async def _ask(aclient: AsyncOpenAI) -> None:
    done = await aclient.chat.completions.create(model=MODEL, messages=SUM, temperature=0)
    assert done.choices[0].message.content == ANSWER
    stream = await aclient.chat.completions.create(
        model=MODEL, messages=SUM, temperature=0, stream=True
    )
    text = "".join([c.choices[0].delta.content or "" async for c in stream])
    assert text == ANSWER
    response = await aclient.responses.create(
        model=MODEL, input="What is 17 plus 25?", temperature=0
    )
    assert response.output_text == ANSWER


def test_raw_and_streamed_raw(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=SUM, temperature=0)
    assert raw.headers["x-request-id"]
    assert raw.parse().choices[0].message.content == ANSWER
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=SUM, temperature=0, stream=True
    ) as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"


def test_the_stream_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=SUM, temperature=0) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == ANSWER


def test_parse(client: OpenAI) -> None:
    done = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Jason is 25 years old."}],
        response_format=Person,
        temperature=0,
    )
    assert isinstance(done.choices[0].message.parsed, Person)


def test_a_streamed_parse(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": "Jason is 25 years old."}],
        response_format=Person,
        temperature=0,
    ) as stream:
        for _ in stream:
            pass
        parsed = stream.get_final_completion().choices[0].message.parsed
    assert isinstance(parsed, Person)


@pytest.mark.parametrize(
    "choice", ["auto", "required", {"type": "function", "function": {"name": "add"}}]
)
def test_a_tool(client: OpenAI, choice: object) -> None:
    done = client.chat.completions.create(
        model=MODEL, messages=SUM, tools=[ADD], tool_choice=choice, temperature=0
    )
    (call,) = done.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"a": 17, "b": 25}
    answered = client.chat.completions.create(
        model=MODEL,
        messages=[
            *SUM,
            done.choices[0].message,
            {"role": "tool", "tool_call_id": call.id, "content": "42"},
        ],
        tools=[ADD],
        temperature=0,
    )
    assert answered.choices[0].message.content == ANSWER


def test_a_tool_that_is_streamed(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=SUM, tools=[ADD_STRICT], tool_choice="required", temperature=0
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    assert any(e.type == "tool_calls.function.arguments.delta" for e in events)
    (call,) = final.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == {"a": 17, "b": 25}


def test_no_tool(client: OpenAI) -> None:
    done = client.chat.completions.create(
        model=MODEL, messages=SUM, tools=[ADD], tool_choice="none", temperature=0, max_tokens=40
    )
    assert not done.choices[0].message.tool_calls


def test_many_answers_with_logprobs(client: OpenAI) -> None:
    done = client.chat.completions.create(
        model=MODEL, messages=SUM, n=3, logprobs=True, top_logprobs=2, temperature=1, seed=1
    )
    assert [choice.index for choice in done.choices] == [0, 1, 2]
    for choice in done.choices:
        assert choice.logprobs is not None
        for token in choice.logprobs.content or []:
            assert len(token.top_logprobs) == 2


def test_stop_and_length(client: OpenAI) -> None:
    stopped = client.chat.completions.create(model=MODEL, messages=SUM, stop=[" is"], temperature=0)
    assert stopped.choices[0].message.content == "17 plus 25"
    cut = client.chat.completions.create(
        model=MODEL, messages=SUM, max_completion_tokens=2, temperature=0
    )
    assert cut.choices[0].finish_reason == "length"


def test_completions(client: OpenAI) -> None:
    done = client.completions.create(
        model=MODEL, prompt=["17 plus 25 is", "3 plus 40 is"], max_tokens=8, temperature=0
    )
    assert [choice.text for choice in done.choices] == [" 42.", " 43."]
    stream = client.completions.create(
        model=MODEL, prompt="17 plus 25 is", max_tokens=8, temperature=0, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in stream) == " 42."


def test_echo_with_logprobs(client: OpenAI) -> None:
    done = client.completions.create(
        model=MODEL, prompt="17 plus 25 is", max_tokens=0, echo=True, logprobs=1
    )
    choice = done.choices[0]
    assert choice.text == "17 plus 25 is"
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs is not None
    assert choice.logprobs.token_logprobs[0] is None


def test_errors_have_their_classes(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nobody", messages=SUM)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=SUM, temperature=9)
    assert bad.value.param == "temperature"


def test_responses(client: OpenAI) -> None:
    done = client.responses.create(model=MODEL, input="What is 17 plus 25?", temperature=0)
    assert done.output_text == ANSWER
    assert done.status == "completed"
    assert done.usage is not None


def test_streamed_responses(client: OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="What is 17 plus 25?", temperature=0) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text == ANSWER


def test_parsed_responses(client: OpenAI) -> None:
    done = client.responses.parse(
        model=MODEL, input="Jason is 25 years old.", text_format=Person, temperature=0
    )
    assert isinstance(done.output_parsed, Person)


def test_a_tool_through_responses(client: OpenAI) -> None:
    tool = {"type": "function", "strict": True, **ADD_STRICT["function"]}  # type: ignore[dict-item]
    done = client.responses.create(
        model=MODEL,
        input="What is 17 plus 25?",
        tools=[tool],
        tool_choice="required",
        temperature=0,
    )
    (call,) = [item for item in done.output if item.type == "function_call"]
    assert json.loads(call.arguments) == {"a": 17, "b": 25}
    answered = client.responses.create(
        model=MODEL,
        input=[
            {"role": "user", "content": "What is 17 plus 25?"},
            *done.output,
            {"type": "function_call_output", "call_id": call.call_id, "output": "42"},
        ],
        tools=[tool],
        temperature=0,
    )
    assert answered.output_text == ANSWER


def test_embeddings(client: OpenAI) -> None:
    texts = ["A man is eating food.", "Kubernetes schedules pods."]
    # The client asks for base64 where nothing is said, and decodes it.
    found = client.embeddings.create(model=MODEL, input=texts).data
    floats = client.embeddings.create(model=MODEL, input=texts, encoding_format="float").data
    for one, same in zip(found, floats, strict=True):
        assert one.embedding == pytest.approx(same.embedding, abs=1e-6)
    short = client.embeddings.create(model=MODEL, input=texts[0], dimensions=8).data[0]
    assert len(short.embedding) == 8
