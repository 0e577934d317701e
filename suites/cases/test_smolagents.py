"""smolagents: its OpenAI model alone, and the agent that calls tools."""

from __future__ import annotations

import json

from smolagents import ChatMessage, OpenAIModel, ToolCallingAgent, tool

from suites.cases.server import API_KEY, MODEL, url

SUM = "What is 17 plus 25?"
ANSWER = "17 plus 25 is 42."
# Its own instructions are longer than the demo model's context.
PROMPTS = {
    "system_prompt": "You are a helpful assistant.",
    "planning": {
        "initial_plan": "",
        "update_plan_pre_messages": "",
        "update_plan_post_messages": "",
    },
    "managed_agent": {"task": "{{task}}", "report": "{{final_answer}}"},
    "final_answer": {"pre_messages": "", "post_messages": "{{task}}"},
}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: one number
        b: another number
    """
    return a + b


def model() -> OpenAIModel:
    return OpenAIModel(model_id=MODEL, api_base=url(), api_key=API_KEY, temperature=0)


def asked(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=[{"type": "text", "text": text}])]


def test_an_answer() -> None:
    assert model().generate(asked(SUM)).content == ANSWER


def test_a_stream() -> None:
    pieces = [delta.content or "" for delta in model().generate_stream(asked(SUM))]
    assert "".join(pieces) == ANSWER


def test_stop_sequences() -> None:
    assert model().generate(asked(SUM), stop_sequences=[" is"]).content == "17 plus 25"


def test_a_call() -> None:
    message = model().generate(asked(SUM), tools_to_call_from=[add])
    (call,) = message.tool_calls
    assert call.function.name == "add"


def test_a_response_format() -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    message = model().generate(
        asked("Jason is 25 years old."),
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "person", "schema": schema, "strict": True},
        },
    )
    assert set(json.loads(message.content)) == {"name", "age"}


def test_an_agent() -> None:
    agent = ToolCallingAgent(
        tools=[add], model=model(), prompt_templates=PROMPTS, max_steps=4, verbosity_level=0
    )
    assert "42" in str(agent.run(SUM))
