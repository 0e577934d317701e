"""Functions: OpenAI's first form of tools, `functions` and `function_call`, with one call in an answer.

Such a request runs as the same one with tools, what is wrong with it is told in its own names, and its answer
has its own form.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from octavo.json_path import json_path
from octavo.server.openai.answers import AssistantMessage
from octavo.server.openai.api_errors import ApiError, invalid_value
from octavo.server.openai.field_names import FieldNames

CALLED = "function_call"
"""`finish_reason` of an answer that calls one."""


class Function(BaseModel):
    """What a model may call; `strict` came with tools."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ChosenFunction(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    name: str


FunctionChoice = Literal["none", "auto"] | ChosenFunction

# A chat's fields, longer names first, and where a request of this form has them.
_NAMES = (
    (re.compile(r"tools(\[\d+\])\.function\b"), r"functions\1"),
    (re.compile(r"tools\b"), "functions"),
    (re.compile(r"tool_choice\b"), "function_call"),
)


_WORDS = {"tools": "functions", "tool_choice": CALLED}


def as_tools(
    functions: Sequence[dict[str, Any]],
    choice: FunctionChoice | None,
    tools: Sequence[object] | None,
    tool_choice: object,
    parallel: bool | None,
) -> dict[str, Any]:
    """The fields of the same request with tools.

    Args:
        functions: As they were sent, and were found to be such.
        choice: `function_call`.
        tools, tool_choice, parallel: What the request says of tools.

    Raises `ApiError` where it is of both forms.
    """
    if not functions:
        if choice in (None, "none"):
            return {}
        raise invalid_value(CALLED, "function_call is only allowed together with functions.")
    if tools:
        raise _both("functions", "tools")
    if tool_choice is not None:
        raise _both("tool_choice", "functions")
    if parallel:
        raise invalid_value(
            "parallel_tool_calls",
            "parallel_tool_calls is true; with functions an answer has one call.",
        )
    return {
        "tools": [{"type": "function", "function": function} for function in functions],
        "tool_choice": {"type": "function", "function": {"name": choice.name}}
        if isinstance(choice, ChosenFunction)
        else choice,
        "parallel_tool_calls": False,
    }


def _both(name: str, other: str) -> ApiError:
    return invalid_value(name, f"{name} is given beside {other}; they are two forms of the same.")


def told_as_functions(
    functions: Sequence[object] | None, num_messages: int
) -> contextlib.AbstractContextManager[None]:
    """Errors within have the names of a request's own form."""
    if not functions:
        return contextlib.nullcontext()
    return FieldNames(
        [json_path("messages", place) for place in range(num_messages)], _NAMES, _WORDS
    ).told()


def with_function_call(message: AssistantMessage) -> AssistantMessage:
    """The answer in this form."""
    if message.tool_calls is msgspec.UNSET:
        return message
    called = message.tool_calls[0].function
    return msgspec.structs.replace(message, tool_calls=msgspec.UNSET, function_call=called)
