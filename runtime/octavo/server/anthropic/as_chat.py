"""Chat that messages are: one conversation, one prompt, one way to read tools and formats.

Anthropic's user sends results of tools and their next words in one message; a chat has a message for each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from octavo.json_path import json_path
from octavo.server.anthropic.blocks import (
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from octavo.server.anthropic.request import (
    CountTokensRequest,
    MessagesRequest,
    MessageTool,
    ToolChoice,
)
from octavo.server.openai.api_errors import invalid_value, quoted
from octavo.server.openai.field_names import FieldNames
from octavo.server.openai.protocol import ChatCompletionRequest

_SAME_NAMES = (
    "model",
    "temperature",
    "top_p",
    "top_k",
    "stream",
    "seed",
    "ignore_eos",
    "priority",
    "cache_salt",
    "chat_template_kwargs",
)
# A chat's fields, longer names first, and where messages have them.
_NAMES = (
    (re.compile(r"response_format(\.json_schema)?\b"), "output_config.format"),
    (re.compile(r"max_completion_tokens\b"), "max_tokens"),
    (re.compile(r"stop\b"), "stop_sequences"),
    (re.compile(r"tools(\[\d+\])\.function\.parameters\b"), r"tools\1.input_schema"),
    (re.compile(r"tools(\[\d+\])\.function\b"), r"tools\1"),
    (re.compile(r"reasoning_effort\b"), "output_config.effort"),
)


def as_chat(request: CountTokensRequest) -> tuple[ChatCompletionRequest, FieldNames]:
    """The same request as a chat. Raises `ApiError`, in Anthropic's names."""
    messages, places = _conversation(request)
    names = FieldNames(places, _NAMES)
    sent = request.as_sent
    chat: dict[str, Any] = {name: sent[name] for name in _SAME_NAMES if name in sent}
    chat["messages"] = messages
    if request.tools:
        chat["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None and (request.tools or request.tool_choice.type != "auto"):
        chat["tool_choice"] = _tool_choice(request.tool_choice)
        chat["parallel_tool_calls"] = not request.tool_choice.disable_parallel_tool_use
    if (output := request.output_config) is not None:
        if output.format is not None:
            schema = {"name": "output", "schema": output.format.schema_}
            chat["response_format"] = {"type": "json_schema", "json_schema": schema}
        if output.effort is not None:
            chat["reasoning_effort"] = output.effort
    if isinstance(request, MessagesRequest):
        chat["max_completion_tokens"] = request.max_tokens
        chat["stop"] = request.stop_sequences or None
    with names.told():
        return ChatCompletionRequest.parse(chat), names


def _conversation(request: CountTokensRequest) -> tuple[list[dict[str, Any]], list[str]]:
    """The chat's messages, and what each was made of."""
    found: list[tuple[str, dict[str, Any]]] = []
    if request.system:
        content = request.system if isinstance(request.system, str) else _texts(request.system)
        found.append(("system", {"role": "system", "content": content}))
    known_calls: set[str] = set()
    for number, message in enumerate(request.messages):
        place = json_path("messages", number)
        if isinstance(message.content, str):
            found.append((place, {"role": message.role, "content": message.content}))
        elif message.role == "assistant":
            found.append((place, _assistant(place, message, known_calls)))
        else:
            found += [(place, one) for one in _user(place, message, known_calls)]
    return [message for _, message in found], [place for place, _ in found]


def _assistant(place: str, message: Message, known_calls: set[str]) -> dict[str, Any]:
    texts, thoughts, calls = list[str](), list[str](), list[dict[str, Any]]()
    for number, block in enumerate(message.content):
        match block:
            case TextBlock():
                texts.append(block.text)
            case ThinkingBlock():
                thoughts.append(block.thinking)
            case ToolUseBlock():
                if block.id in known_calls:
                    where = json_path(place, "content", number, "id")
                    raise invalid_value(
                        where,
                        f"{where} is {quoted(block.id)}, as that of a tool_use before it. Send "
                        "each call once.",
                    )
                known_calls.add(block.id)
                function = {
                    "name": block.name,
                    "arguments": json.dumps(block.input, ensure_ascii=False),
                }
                calls.append({"id": block.id, "type": "function", "function": function})
            case _:
                raise _misplaced(json_path(place, "content", number), block, "user")
    found: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if any(thoughts):
        # The names that templates read: of vLLM, and of DeepSeek and Qwen.
        found["reasoning"] = found["reasoning_content"] = "\n".join(thoughts)
    if calls:
        found["tool_calls"] = calls
    return found


def _user(place: str, message: Message, known_calls: set[str]) -> list[dict[str, Any]]:
    results, texts = list[dict[str, Any]](), list[TextBlock]()
    for number, block in enumerate(message.content):
        match block:
            case TextBlock():
                texts.append(block)
            case ToolResultBlock() if message.role == "user":
                if block.tool_use_id not in known_calls:
                    where = json_path(place, "content", number, "tool_use_id")
                    raise invalid_value(
                        where,
                        f"{where} is {quoted(block.tool_use_id)}, and no tool_use before it has that id. "
                        "Send the call as well.",
                    )
                results.append(_result(block))
            case _:
                raise _misplaced(json_path(place, "content", number), block, "assistant")
    if texts or not results:
        results.append({"role": message.role, "content": _texts(texts)})
    return results


def _result(block: ToolResultBlock) -> dict[str, Any]:
    content = block.content if isinstance(block.content, str) else _texts(block.content or [])
    found = {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}
    return {**found, "is_error": True} if block.is_error else found


def _misplaced(place: str, block: Any, role: str) -> Exception:
    return invalid_value(
        f"{place}.type",
        f"{place}.type is {quoted(block.type)}, which a message of the {role} may hold.",
    )


def _texts(blocks: Sequence[TextBlock]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": block.text} for block in blocks]


def _tool(tool: MessageTool) -> dict[str, Any]:
    """With the members that the client sent, in its order: templates write them so."""
    known = {
        "name": "name",
        "description": "description",
        "input_schema": "parameters",
        "strict": "strict",
    }
    function = {known[name]: value for name, value in tool.as_sent.items() if name in known}
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> str | dict[str, Any]:
    if choice.type == "tool":
        if choice.name is None:
            raise invalid_value(
                "tool_choice.name",
                "Missing required parameter: tool_choice.name.",
                code="missing_required_parameter",
            )
        return {"type": "function", "function": {"name": choice.name}}
    return "required" if choice.type == "any" else choice.type
