"""instructor: objects from a chat, in each of its modes that an OpenAI-like server can be asked for."""

from __future__ import annotations

import instructor
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from suites.cases.server import API_KEY, MODEL, url

MESSAGES = [{"role": "user", "content": "Jason is 25 years old."}]


class Person(BaseModel):
    name: str
    age: int


@pytest.mark.parametrize(
    "mode",
    [
        instructor.Mode.TOOLS,
        instructor.Mode.TOOLS_STRICT,
        instructor.Mode.JSON,
        instructor.Mode.JSON_SCHEMA,
        instructor.Mode.MD_JSON,
    ],
    ids=lambda mode: mode.value,
)
def test_a_mode(mode: instructor.Mode) -> None:
    client = instructor.from_openai(OpenAI(base_url=url(), api_key=API_KEY), mode=mode)
    found = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, response_model=Person, temperature=0, max_retries=0
    )
    assert isinstance(found, Person)


async def test_async() -> None:
    client = instructor.from_openai(AsyncOpenAI(base_url=url(), api_key=API_KEY))
    found = await client.chat.completions.create(
        model=MODEL, messages=MESSAGES, response_model=Person, temperature=0, max_retries=0
    )
    assert isinstance(found, Person)


def test_a_partial_stream() -> None:
    client = instructor.from_openai(OpenAI(base_url=url(), api_key=API_KEY))
    *_, last = client.chat.completions.create_partial(
        model=MODEL, messages=MESSAGES, response_model=Person, temperature=0, max_retries=0
    )
    assert isinstance(last.name, str)
    assert isinstance(last.age, int)


def test_the_answer_beside_the_object() -> None:
    client = instructor.from_openai(OpenAI(base_url=url(), api_key=API_KEY))
    found, answer = client.chat.completions.create_with_completion(
        model=MODEL, messages=MESSAGES, response_model=Person, temperature=0, max_retries=0
    )
    assert isinstance(found, Person)
    assert answer.usage.completion_tokens > 0


def test_responses() -> None:
    client = instructor.from_openai(
        OpenAI(base_url=url(), api_key=API_KEY), mode=instructor.Mode.RESPONSES_TOOLS
    )
    found = client.responses.create(
        model=MODEL, input=MESSAGES, response_model=Person, temperature=0, max_retries=0
    )
    assert isinstance(found, Person)
