"""LlamaIndex's OpenAI-like: completion, chat, streams, tools, structured prediction, embeddings."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike, OpenAILikeResponses
from pydantic import BaseModel

from suites.cases.server import API_KEY, ENCODER, MODEL, encoder_url, url

SUM = "What is 17 plus 25?"
ANSWER = "17 plus 25 is 42."
ASKED = [ChatMessage(role="user", content=SUM)]


class Person(BaseModel):
    name: str
    age: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


ADD = FunctionTool.from_defaults(add)


def llm(**more: object) -> OpenAILike:
    settings: dict[str, object] = {
        "model": MODEL,
        "api_base": url(),
        "api_key": API_KEY,
        "temperature": 0,
        "max_tokens": 200,
        "context_window": 2048,
        "is_chat_model": True,
        "is_function_calling_model": True,
        "max_retries": 0,
    }
    return OpenAILike(**{**settings, **more})


def test_a_chat() -> None:
    assert llm().chat(ASKED).message.content == ANSWER


def test_complete_through_the_chat() -> None:
    assert llm().complete(SUM).text == ANSWER


def test_complete() -> None:
    done = llm(is_chat_model=False).complete("17 plus 25 is", max_tokens=8)
    assert done.text == " 42."


def test_a_streamed_completion() -> None:
    *_, last = llm(is_chat_model=False).stream_complete("17 plus 25 is", max_tokens=8)
    assert last.text == " 42."


def test_a_streamed_chat() -> None:
    *_, last = llm().stream_chat(ASKED)
    assert last.message.content == ANSWER


def test_async() -> None:
    async def all_of_it() -> tuple[str | None, str | None]:
        whole = await llm().achat(ASKED)
        last = None
        async for part in await llm().astream_chat(ASKED):
            last = part.message.content
        return whole.message.content, last

    assert asyncio.run(all_of_it()) == (ANSWER, ANSWER)


@pytest.mark.parametrize("required", [False, True])
def test_a_tool(required: bool) -> None:
    model = llm()
    done = model.chat_with_tools([ADD], user_msg=SUM, tool_required=required)
    (call,) = model.get_tool_calls_from_response(done)
    assert call.tool_kwargs == {"a": 17, "b": 25}


def test_predict_and_call() -> None:
    assert str(llm().predict_and_call([ADD], user_msg=SUM)) == "42"


def test_a_structured_prediction() -> None:
    found = llm().structured_predict(Person, PromptTemplate("Jason is 25 years old."))
    assert isinstance(found, Person)


def test_a_structured_model() -> None:
    structured = llm(should_use_structured_outputs=True).as_structured_llm(Person)
    done = structured.complete("Jason is 25 years old.")
    assert isinstance(done.raw, Person)


def test_an_agent() -> None:
    async def run() -> str:
        return str(await FunctionAgent(tools=[ADD], llm=llm()).run(SUM))

    assert asyncio.run(run()) == ANSWER


def test_responses() -> None:
    model = OpenAILikeResponses(
        model=MODEL,
        api_base=url(),
        api_key=API_KEY,
        temperature=0,
        context_window=2048,
        is_chat_model=True,
        is_function_calling_model=True,
    )
    assert model.chat(ASKED).message.content == ANSWER


def test_embeddings() -> None:
    model = OpenAILikeEmbedding(model_name=ENCODER, api_base=encoder_url(), api_key=API_KEY)
    texts = ["A man is eating food.", "Someone has a meal.", "Kubernetes schedules pods."]
    one, two, three = model.get_text_embedding_batch(texts)
    assert model.similarity(one, two) > 0.6 > 0.3 > model.similarity(one, three)
