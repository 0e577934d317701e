"""Chat that a response is: one conversation, one prompt, one way to read tools and formats.

What is wrong with it is told in the names that the client wrote.
"""

from __future__ import annotations

import re
from typing import Any

from octavo.json_path import json_path
from octavo.server.openai.chosen_tools import check_members
from octavo.server.openai.field_names import FieldNames
from octavo.server.openai.ignored_fields import IgnoredFields
from octavo.server.openai.protocol import ChatCompletionRequest, SampledRequest
from octavo.server.openai.responses_api.conversation import read_conversation
from octavo.server.openai.responses_api.request import (
    FunctionTool,
    ResponsesRequest,
    TextConfig,
)

_SAME_NAMES = (
    *(name for name in SampledRequest.model_fields if name not in IgnoredFields.model_fields),
    "parallel_tool_calls",
    "chat_template_kwargs",
)
# A chat's fields, longer names first, and where a response has them.
_NAMES = (
    (re.compile(r"messages\b"), "input"),
    (re.compile(r"response_format\.json_schema\b"), "text.format"),
    (re.compile(r"response_format\b"), "text.format"),
    (re.compile(r"max_completion_tokens\b|max_tokens\b"), "max_output_tokens"),
    (re.compile(r"tools(\[\d+\])\.function\b"), r"tools\1"),
    (
        re.compile(r"tool_choice\.allowed_tools\.tools(\[\d+\])(\.function)?"),
        r"tool_choice.tools\1",
    ),
    (re.compile(r"tool_choice\.(allowed_tools|function)\b"), "tool_choice"),
    (re.compile(r"reasoning_effort\b"), "reasoning.effort"),
    (re.compile(r"verbosity\b"), "text.verbosity"),
)


def as_chat(request: ResponsesRequest) -> tuple[ChatCompletionRequest, FieldNames]:
    """The same request as a chat. Raises `ApiError`, in the response's names."""
    conversation = read_conversation(request.instructions, request.input)
    names = FieldNames(conversation.places, _NAMES)
    sent = request.as_sent
    chat: dict[str, Any] = {name: sent[name] for name in _SAME_NAMES if name in sent}
    chat["messages"] = conversation.messages
    chat["max_completion_tokens"] = request.max_output_tokens
    if request.tools:
        chat["tools"] = [_tool(tool) for tool in request.tools]
    # OpenAI takes a choice that asks for nothing also without tools.
    if request.tools or request.tool_choice != "auto":
        chat["tool_choice"] = _tool_choice(request.tool_choice)
    if request.has_logprobs:
        chat |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.text is not None:
        chat |= _text(request.text)
    if request.reasoning is not None and request.reasoning.effort is not None:
        chat["reasoning_effort"] = request.reasoning.effort
    with names.told():
        return ChatCompletionRequest.parse(chat), names


def _tool(tool: FunctionTool) -> dict[str, Any]:
    """With the members that the client sent, in its order: templates write them so."""
    known = ("name", "description", "parameters", "strict")
    function = {name: value for name, value in tool.as_sent.items() if name in known}
    return {"type": "function", "function": function}


def _tool_choice(choice: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """Of a response's own form alone: its members stand where a chat has an object for them."""
    if not isinstance(choice, dict):
        return choice
    match choice.get("type"):
        case "function":
            chosen = _without_type(choice, "tool_choice", ("type", "name"))
            return {"type": "function", "function": chosen}
        case "allowed_tools":
            allowed = _without_type(choice, "tool_choice", ("type", "mode", "tools"))
            if isinstance(tools := allowed.get("tools"), list):
                allowed["tools"] = [
                    _function_choice(tool, json_path("tool_choice", "tools", position))
                    for position, tool in enumerate(tools)
                ]
            return {"type": "allowed_tools", "allowed_tools": allowed}
    return choice


def _function_choice(choice: Any, place: str) -> Any:
    if not isinstance(choice, dict) or choice.get("type") != "function":
        return choice  # refused as a chat's would be
    return {"type": "function", "function": _without_type(choice, place, ("type", "name"))}


def _without_type(choice: dict[str, Any], place: str, known: tuple[str, ...]) -> dict[str, Any]:
    check_members(choice, place, known)
    return {name: value for name, value in choice.items() if name != "type"}


def _text(text: TextConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if text.verbosity is not None:
        found["verbosity"] = text.verbosity
    if text.format is not None:
        wanted = text.format.model_dump(by_alias=True, exclude_none=True)
        found["response_format"] = {"type": wanted.pop("type")}
        if wanted or text.format.type == "json_schema":
            found["response_format"]["json_schema"] = wanted
    return found
