"""pydantic-ai, over chat completions and over responses: tools, outputs of every mode, streams."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from suites.cases.server import API_KEY, MODEL, url

SUM = "What is 17 plus 25?"
ANSWER = "17 plus 25 is 42."
GREEDY = ModelSettings(temperature=0)


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(params=["chat", "responses"])
def model(request: pytest.FixtureRequest) -> Model:
    provider = OpenAIProvider(base_url=url(), api_key=API_KEY)
    kind = OpenAIChatModel if request.param == "chat" else OpenAIResponsesModel
    return kind(MODEL, provider=provider, settings=GREEDY)


async def test_a_run(model: Model) -> None:
    done = await Agent(model).run(SUM)
    assert done.output == ANSWER
    assert done.usage.output_tokens


async def test_history(model: Model) -> None:
    agent = Agent(model, instructions="You are a helpful assistant.")
    first = await agent.run(SUM)
    second = await agent.run("What is 3 plus 4?", message_history=first.all_messages())
    assert second.output == "3 plus 4 is 7."


async def test_a_stream(model: Model) -> None:
    async with Agent(model).run_stream(SUM) as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True)]
    assert "".join(pieces) == ANSWER


async def test_a_tool(model: Model) -> None:
    agent = Agent(model)
    called = []

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        called.append((a, b))
        return a + b

    done = await agent.run(SUM)
    assert called == [(17, 25)]
    assert done.output == ANSWER


@pytest.mark.parametrize(
    "output",
    [Person, ToolOutput(Person), NativeOutput(Person), PromptedOutput(Person)],
    ids=["class", "tool", "native", "prompted"],
)
async def test_an_output_type(model: Model, output: object) -> None:
    agent: Agent[None, Person] = Agent(model, output_type=output)
    done = await agent.run("Jason is 25 years old.")
    assert isinstance(done.output, Person)


async def test_a_tool_and_an_output_type(model: Model) -> None:
    agent = Agent(model, output_type=int)

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    done = await agent.run(SUM, usage_limits=UsageLimits(request_limit=4))
    assert done.output == 42


async def test_a_streamed_output_type(model: Model) -> None:
    agent = Agent(model, output_type=NativeOutput(Person))
    async with agent.run_stream("Jason is 25 years old.") as stream:
        seen = [output async for output in stream.stream_output()]
    assert isinstance(seen[-1], Person)
