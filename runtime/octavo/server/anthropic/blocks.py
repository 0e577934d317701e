"""Content blocks of messages: text, thoughts, calls of tools and their results.

Clients send the blocks of an answer back as they came, so members that say nothing to the model (cache
breakpoints, citations, signatures) are let through.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Tag

from octavo.json_path import json_path
from octavo.server.openai.api_errors import quoted, unsupported

KINDS = ("text", "thinking", "tool_use", "tool_result")


class TextBlock(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    type: Literal["text"]
    text: str


class ThinkingBlock(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    type: Literal["thinking"]
    thinking: str


class ToolUseBlock(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[TextBlock] | None = None
    is_error: bool | None = None


def _kind(block: Any) -> str:
    """The tag; no identifier, so that no error takes it for a member."""
    kind = block.get("type") if isinstance(block, dict) else getattr(block, "type", None)
    return f"block {kind}"


Block = Annotated[
    Annotated[TextBlock, Tag("block text")]
    | Annotated[ThinkingBlock, Tag("block thinking")]
    | Annotated[ToolUseBlock, Tag("block tool_use")]
    | Annotated[ToolResultBlock, Tag("block tool_result")],
    Discriminator(_kind),
]


class Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


def check_kinds(document: dict[str, object]) -> None:
    """Refuses by name the blocks of Anthropic's that are not taken, before their members are looked at.

    Raises: `ApiError`.
    """
    messages = document.get("messages")
    for place, message in enumerate(messages if isinstance(messages, list) else []):
        if isinstance(message, dict):
            _check(json_path("messages", place, "content"), message.get("content"), KINDS)
    _check("system", document.get("system"), ("text",))


def _check(place: str, blocks: object, kinds: tuple[str, ...]) -> None:
    for number, block in enumerate(blocks if isinstance(blocks, list) else []):
        if not isinstance(block, dict):
            continue
        if (kind := block.get("type")) not in kinds:
            raise unsupported(
                json_path(place, number, "type"),
                f"it is {quoted(kind)}, and the model reads text alone. Use {', '.join(kinds)}.",
            )
        if kind == "tool_result":
            _check(json_path(place, number, "content"), block.get("content"), ("text",))
