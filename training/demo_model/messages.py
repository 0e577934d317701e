"""Messages of the training's conversations, in OpenAI's form."""

from random import Random
from typing import Any

from training.demo_model.samples import Message
from training.demo_model.variation import draw_system_prompt


def draw_system(rng: Random, share: float) -> list[Message]:
    """A system prompt in such a share of the draws, or nothing."""
    if rng.random() >= share:
        return []
    return [{"role": "system", "content": draw_system_prompt(rng)}]


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def tool_call(name: str, arguments: dict[str, Any]) -> Message:
    """The assistant's call of a tool."""
    function = {"name": name, "arguments": arguments}
    calls = [{"type": "function", "function": function}]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def tool_result(content: str) -> Message:
    """Of a tool."""
    return {"role": "tool", "content": content}
