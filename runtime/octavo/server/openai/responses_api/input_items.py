"""Input items of a response: messages, calls of functions, their results, and reasoning.

Clients send the items of an answer back as they came, so members that say nothing to the model (ids,
statuses, annotations, what a client parsed) are let through.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Tag

from octavo.json_path import json_path
from octavo.server.openai.api_errors import ApiError, quoted, unsupported

_TEXT_PARTS = ("input_text", "output_text", "refusal")


class TextPart(BaseModel):
    """Of a message, or of a function's result."""

    model_config = ConfigDict(strict=True, extra="allow")

    type: Literal["input_text", "output_text", "refusal"]
    text: str | None = None
    refusal: str | None = None


class MessageItem(BaseModel):
    """`type` may be left out, as OpenAI has it."""

    model_config = ConfigDict(strict=True, extra="allow")

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[TextPart]


class FunctionCallItem(BaseModel):
    """`arguments` is JSON in a string."""

    model_config = ConfigDict(strict=True, extra="allow")

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class FunctionCallOutputItem(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[TextPart]


class ReasoningPart(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    type: Literal["reasoning_text", "summary_text"]
    text: str


class ReasoningItem(BaseModel):
    """What the model thought; its summary stands in where the text is not there."""

    model_config = ConfigDict(strict=True, extra="allow")

    type: Literal["reasoning"]
    summary: list[ReasoningPart] | None = None
    content: list[ReasoningPart] | None = None
    encrypted_content: str | None = None

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content or self.summary or [])


def _kind(item: Any) -> Any:
    """The tag; no identifier, so that no error takes it for a member."""
    if isinstance(item, BaseModel):
        return f"item {getattr(item, 'type', None)}"
    return f"item {item.get('type', 'message')}" if isinstance(item, dict) else None


InputItem = Annotated[
    Annotated[MessageItem, Tag("item message")]
    | Annotated[FunctionCallItem, Tag("item function_call")]
    | Annotated[FunctionCallOutputItem, Tag("item function_call_output")]
    | Annotated[ReasoningItem, Tag("item reasoning")],
    Discriminator(_kind),
]
KINDS = ("message", "function_call", "function_call_output", "reasoning")


def check_kinds(items: object) -> None:
    """Refuses by name the items and parts of OpenAI's that are not taken, before their members are looked at.

    Raises: `ApiError`.
    """
    for place, item in _objects(items):
        kind = item.get("type", "message")
        if kind == "item_reference":
            raise unsupported(
                json_path("input", place),
                "answers are not kept, so none can be referred to. Send the item.",
            )
        if kind not in KINDS:
            raise unsupported(
                json_path("input", place, "type"), f"it is {quoted(kind)}. Use {', '.join(KINDS)}."
            )
        for name in ("content", "output"):
            if kind != "reasoning":
                _check_parts(json_path("input", place, name), item.get(name))


def _check_parts(place: str, parts: object) -> None:
    for number, part in _objects(parts):
        if (kind := part.get("type")) not in _TEXT_PARTS:
            raise _no_text(json_path(place, number), kind)


def _no_text(place: str, kind: object) -> ApiError:
    return unsupported(
        f"{place}.type",
        f"it is {quoted(kind)}, and the model reads text alone. Use {', '.join(_TEXT_PARTS)}.",
    )


def _objects(value: object) -> Iterable[tuple[int, dict[str, Any]]]:
    if isinstance(value, list):
        yield from ((place, one) for place, one in enumerate(value) if isinstance(one, dict))
