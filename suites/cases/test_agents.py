"""OpenAI's agents, over chat completions and over responses: tools, structured output, handoffs, streams."""

from __future__ import annotations

import pytest
from agents import (
    Agent,
    AsyncOpenAI,
    Model,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from pydantic import BaseModel

from suites.cases.server import API_KEY, MODEL, url

set_tracing_disabled(True)
SUM = "What is 17 plus 25?"


class Person(BaseModel):
    name: str
    age: int


@function_tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture(params=["chat", "responses"])
def model(request: pytest.FixtureRequest) -> Model:
    client = AsyncOpenAI(base_url=url(), api_key=API_KEY, max_retries=0)
    if request.param == "chat":
        return OpenAIChatCompletionsModel(model=MODEL, openai_client=client)
    return OpenAIResponsesModel(model=MODEL, openai_client=client)


GREEDY = ModelSettings(temperature=0)


async def test_a_run(model: Model) -> None:
    agent = Agent(name="demo", model=model, model_settings=GREEDY)
    assert (await Runner.run(agent, SUM)).final_output == "17 plus 25 is 42."


async def test_a_run_with_instructions_and_a_second_turn(model: Model) -> None:
    agent = Agent(
        name="demo",
        instructions="You are a helpful assistant.",
        model=model,
        model_settings=GREEDY,
    )
    first = await Runner.run(agent, SUM)
    second = await Runner.run(
        agent, [*first.to_input_list(), {"role": "user", "content": "What is 3 plus 4?"}]
    )
    assert second.final_output == "3 plus 4 is 7."


async def test_a_tool(model: Model) -> None:
    agent = Agent(name="demo", tools=[add], model=model, model_settings=GREEDY)
    done = await Runner.run(agent, SUM, max_turns=3)
    assert done.final_output == "17 plus 25 is 42."
    assert [item.type for item in done.new_items] == [
        "tool_call_item",
        "tool_call_output_item",
        "message_output_item",
    ]


async def test_a_tool_in_a_stream(model: Model) -> None:
    agent = Agent(name="demo", tools=[add], model=model, model_settings=GREEDY)
    run = Runner.run_streamed(agent, SUM, max_turns=3)
    kinds = {event.type async for event in run.stream_events()}
    assert {"raw_response_event", "run_item_stream_event"} <= kinds
    assert run.final_output == "17 plus 25 is 42."


async def test_a_forced_tool(model: Model) -> None:
    agent = Agent(
        name="demo",
        tools=[add],
        model=model,
        model_settings=ModelSettings(temperature=0, tool_choice="required"),
        tool_use_behavior="stop_on_first_tool",
    )
    assert (await Runner.run(agent, SUM)).final_output == "42"


async def test_an_output_type(model: Model) -> None:
    agent = Agent(name="demo", output_type=Person, model=model, model_settings=GREEDY)
    done = await Runner.run(agent, "Jason is 25 years old.")
    assert isinstance(done.final_output, Person)


async def test_a_handoff(model: Model) -> None:
    adder = Agent(name="adder", handoff_description="adds", model=model, model_settings=GREEDY)
    first = Agent(
        name="first",
        handoffs=[adder],
        model=model,
        model_settings=ModelSettings(temperature=0, tool_choice="required"),
    )
    done = await Runner.run(first, SUM, max_turns=3)
    assert done.last_agent is adder
    assert done.final_output
