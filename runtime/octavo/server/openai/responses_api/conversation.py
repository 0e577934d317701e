"""Conversation of a response's input: from items to the messages of a chat.

Where a chat has one message of an assistant, with text, reasoning and calls in it, responses have an item for
each. Items of one turn become one message again, so that a template sees what it saw when they were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from octavo.json_path import json_path
from octavo.server.openai.api_errors import invalid_value, quoted, unsupported
from octavo.server.openai.responses_api.input_items import (
    FunctionCallItem,
    FunctionCallOutputItem,
    InputItem,
    MessageItem,
    ReasoningItem,
    TextPart,
)


@dataclass(slots=True)
class Conversation:
    """`places[i]` is what message i was made of, as an error names it."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def add(self, place: str, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self.places.append(place)


def read_conversation(instructions: str | None, items: str | Sequence[InputItem]) -> Conversation:
    """Raises `ApiError` that names the item."""
    found = Conversation()
    if instructions is not None:
        found.add("instructions", {"role": "system", "content": instructions})
    if isinstance(items, str):
        found.add("input", {"role": "user", "content": items})
        return found
    turn = _Turn()
    known_calls: set[str] = set()
    for number, item in enumerate(items):
        place = json_path("input", number)
        if not turn.takes(item):
            turn.end(found)
            turn = _Turn()
        match item:
            case ReasoningItem():
                turn.think(place, item)
            case FunctionCallItem():
                if item.call_id in known_calls:
                    raise invalid_value(
                        f"{place}.call_id",
                        f"{place}.call_id is {quoted(item.call_id)}, as that of a function_call before it. "
                        "Send each call once.",
                    )
                known_calls.add(item.call_id)
                turn.call(place, item)
            case FunctionCallOutputItem():
                if item.call_id not in known_calls:
                    raise invalid_value(
                        f"{place}.call_id",
                        f"{place}.call_id is {quoted(item.call_id)}, and no function_call before it has "
                        "that call_id. Send the call as well.",
                    )
                found.add(place, _result(place, item))
            case MessageItem(role="assistant"):
                turn.say(place, item)
            case MessageItem():
                found.add(place, {"role": item.role, "content": _content(place, item.content)})
    turn.end(found)
    return found


class _Turn:
    """The items of an assistant's turn that has not ended."""

    def __init__(self) -> None:
        self._place = ""
        self._texts: list[Any] = []
        self._reasoning: list[str] = []
        self._calls: list[dict[str, Any]] = []

    def takes(self, item: InputItem) -> bool:
        """Two texts in a row are two messages; with a call between them they are of one turn."""
        if isinstance(item, FunctionCallItem):
            return True
        if isinstance(item, ReasoningItem):
            return not self._texts and not self._calls
        is_said = isinstance(item, MessageItem) and item.role == "assistant"
        return is_said and (bool(self._calls) or not self._texts)

    def think(self, place: str, item: ReasoningItem) -> None:
        if item.text:
            self._begin(place)
            self._reasoning.append(item.text)
        elif item.encrypted_content is not None:
            raise unsupported(
                f"{place}.encrypted_content",
                "it can be read by whom it was encrypted for alone. Leave this item out.",
            )

    def say(self, place: str, item: MessageItem) -> None:
        self._begin(place)
        content = _content(place, item.content)
        self._texts += [{"type": "text", "text": content}] if isinstance(content, str) else content

    def call(self, place: str, item: FunctionCallItem) -> None:
        self._begin(place)
        function = {"name": item.name, "arguments": item.arguments}
        self._calls.append({"id": item.call_id, "type": "function", "function": function})

    def end(self, conversation: Conversation) -> None:
        if not self._place:
            return
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if self._texts:
            message["content"] = "".join(part["text"] for part in self._texts)
        if self._reasoning:
            # The names that templates read: of vLLM, and of DeepSeek and Qwen.
            message["reasoning"] = message["reasoning_content"] = "\n".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = self._calls
        conversation.add(self._place, message)

    def _begin(self, place: str) -> None:
        self._place = self._place or place


def _result(place: str, item: FunctionCallOutputItem) -> dict[str, Any]:
    output = item.output if isinstance(item.output, str) else _parts(f"{place}.output", item.output)
    return {"role": "tool", "tool_call_id": item.call_id, "content": output}


def _content(place: str, content: str | list[TextPart]) -> str | list[dict[str, Any]]:
    return content if isinstance(content, str) else _parts(f"{place}.content", content)


def _parts(place: str, parts: list[TextPart]) -> list[dict[str, Any]]:
    found = []
    for number, part in enumerate(parts):
        name = "refusal" if part.type == "refusal" else "text"
        text = part.refusal if part.type == "refusal" else part.text
        if text is None:
            where = json_path(place, number, name)
            raise invalid_value(
                where,
                f"{where} is missing; a part of type {part.type} needs it.",
                code="missing_required_parameter",
            )
        found.append({"type": "text", "text": text})
    return found
