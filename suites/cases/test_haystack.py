"""Haystack: its generators, tools, an agent, and embedders."""

from __future__ import annotations

import asyncio

from haystack import Document, Pipeline
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage, StreamingChunk
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from pydantic import BaseModel

from suites.cases.server import API_KEY, ENCODER, MODEL, encoder_url, url

SUM = "What is 17 plus 25?"
ANSWER = "17 plus 25 is 42."


class Person(BaseModel):
    name: str
    age: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


ADD = create_tool_from_function(add)


def generator(**more: object) -> OpenAIChatGenerator:
    settings: dict[str, object] = {"temperature": 0, **more}
    return OpenAIChatGenerator(
        api_key=Secret.from_token(API_KEY),
        model=MODEL,
        api_base_url=url(),
        generation_kwargs=settings,
    )


def test_a_chat() -> None:
    (reply,) = generator().run([ChatMessage.from_user(SUM)])["replies"]
    assert reply.text == ANSWER
    assert reply.meta["finish_reason"] == "stop"


def test_async() -> None:
    (reply,) = asyncio.run(generator().run_async([ChatMessage.from_user(SUM)]))["replies"]
    assert reply.text == ANSWER


def test_a_stream() -> None:
    chunks: list[StreamingChunk] = []
    (reply,) = generator().run([ChatMessage.from_user(SUM)], streaming_callback=chunks.append)[
        "replies"
    ]
    assert reply.text == ANSWER
    assert "".join(chunk.content for chunk in chunks) == ANSWER


def test_a_pipeline() -> None:
    pipeline = Pipeline()
    pipeline.add_component("prompt", ChatPromptBuilder([ChatMessage.from_user("{{question}}")]))
    pipeline.add_component("llm", generator())
    pipeline.connect("prompt.prompt", "llm.messages")
    done = pipeline.run({"prompt": {"question": SUM}})
    assert done["llm"]["replies"][0].text == ANSWER


def test_a_tool_in_turn() -> None:
    asked = ChatMessage.from_user(SUM)
    (reply,) = generator().run([asked], tools=[ADD])["replies"]
    (call,) = reply.tool_calls
    assert call.arguments == {"a": 17, "b": 25}
    result = ChatMessage.from_tool("42", origin=call)
    (told,) = generator().run([asked, reply, result], tools=[ADD])["replies"]
    assert told.text == ANSWER


def test_a_streamed_tool() -> None:
    (reply,) = generator().run(
        [ChatMessage.from_user(SUM)], tools=[ADD], streaming_callback=lambda _: None
    )["replies"]
    assert reply.tool_calls[0].arguments == {"a": 17, "b": 25}


def test_an_agent() -> None:
    done = Agent(chat_generator=generator(), tools=[ADD]).run([ChatMessage.from_user(SUM)])
    assert done["messages"][-1].text == ANSWER


def test_a_response_format() -> None:
    (reply,) = generator(response_format=Person).run(
        [ChatMessage.from_user("Jason is 25 years old.")]
    )["replies"]
    assert Person.model_validate_json(reply.text)


def test_responses() -> None:
    generator = OpenAIResponsesChatGenerator(
        api_key=Secret.from_token(API_KEY),
        model=MODEL,
        api_base_url=url(),
        generation_kwargs={"temperature": 0},
    )
    (reply,) = generator.run([ChatMessage.from_user(SUM)])["replies"]
    assert reply.text == ANSWER


def test_embedders() -> None:
    where = {"api_key": Secret.from_token(API_KEY), "model": ENCODER, "api_base_url": encoder_url()}
    text = OpenAITextEmbedder(**where).run("A man is eating food.")["embedding"]
    (document,) = OpenAIDocumentEmbedder(**where).run([Document(content="A man is eating food.")])[
        "documents"
    ]
    assert document.embedding is not None
    assert sum(a * b for a, b in zip(text, document.embedding, strict=True)) > 0.99
